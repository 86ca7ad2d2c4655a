//! Reading MessagePack by hand, for each length is checked before memory is reserved, relay.md 3.4 and 12.2.
use crate::{Error, MALFORMED};

pub type Parsed<T> = Result<T, Error>;

pub fn malformed<T>(text: &'static str) -> Parsed<T> {
    Err(Error::Protocol(MALFORMED, text))
}

/// What is left of a frame.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, n: u64) -> Parsed<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(n as usize) else { return malformed("3.4: length") };
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, log: u8) -> Parsed<u64> {
        Ok(self.take(1 << log)?.iter().fold(0, |n, b| n << 8 | *b as u64))
    }

    /// One head. (n)umber: its value; (s)tring, (b)in, (a)rray, (m)ap: its length, which the rest of the frame can
    /// hold; (x): how many bytes of no interest follow.
    fn head(&mut self) -> Parsed<(char, u64)> {
        let b = self.number(0)? as u8;
        let (kind, n) = match b {
            0x00..=0x7f => ('n', b.into()),
            0x80..=0x8f => ('m', (b & 15).into()),
            0x90..=0x9f => ('a', (b & 15).into()),
            0xa0..=0xbf => ('s', (b & 31).into()),
            0xc1 => return malformed("3.5: no MessagePack"),
            0xc4..=0xc6 => ('b', self.number(b - 0xc4)?),
            0xc7..=0xc9 => ('x', self.number(b - 0xc7)? + 1),
            0xca | 0xcb => ('x', 4 << (b - 0xca)),
            0xcc..=0xcf => ('n', self.number(b - 0xcc)?),
            0xd0..=0xd3 => match self.number(b - 0xd0)? {
                n if n >> ((8 << (b - 0xd0)) - 1) == 0 => ('n', n),
                _ => ('x', 0), // a negative one
            },
            0xd4..=0xd8 => ('x', (1 << (b - 0xd4)) + 1),
            0xd9..=0xdb => ('s', self.number(b - 0xd9)?),
            0xdc | 0xdd => ('a', self.number(b - 0xdb)?),
            0xde | 0xdf => ('m', self.number(b - 0xdd)?),
            _ => ('x', 0), // nil, booleans, negative numbers
        };
        let least = if kind == 'n' { 0 } else { n << (kind == 'm') as u8 };
        if least > self.0.len() as u64 { malformed("3.4: length") } else { Ok((kind, n)) }
    }

    pub fn want(&mut self, kind: char, max: u64) -> Parsed<u64> {
        match self.head()? {
            (k, n) if k == kind && n <= max => Ok(n),
            _ => malformed("3.3: a field of another type, or beyond its bounds"),
        }
    }

    pub fn string(&mut self) -> Parsed<String> {
        let length = self.want('s', u64::MAX)?;
        String::from_utf8(self.take(length)?.to_vec()).or(malformed("3.3: not UTF-8"))
    }

    /// Skips one value that nests at most `depth` deep, 3.5.
    pub fn skip(&mut self, depth: u8, key: bool) -> Parsed<()> {
        if depth == 0 {
            return malformed("3.5: nested too deep");
        }
        match self.head()? {
            ('n', _) => Ok(()),
            ('a', n) => (0..n).try_for_each(|_| self.skip(depth - 1, false)),
            ('m', n) => (0..n).try_for_each(|_| self.skip(depth - 1, true).and_then(|_| self.skip(depth - 1, false))),
            ('s', n) if !key => std::str::from_utf8(self.take(n)?).map(drop).or(malformed("3.5: not UTF-8")),
            (_, n) => self.take(n).map(drop),
        }
    }
}

//! Frames, relay.md 3: their heads, and what each op carries.
use crate::msgpack::{Bytes, Parsed, malformed};
use crate::{Error, Headers, TOO_LARGE};
use rmp::encode;
use std::{collections::HashMap, io, io::Read};

/// What any frame may carry, flat. Of several strings or numbers of 32 bits the last is kept: a client needs no other.
#[derive(Default)]
pub struct Frame {
    pub op: u64,
    pub id: u64, // or the token
    pub code: u8,
    pub number: u64,
    pub text: String, // or a name
    pub headers: Headers,
    pub limits: HashMap<String, u64>,
    pub features: u64, // how many
    pub payload: Vec<u8>,
}

/// The fields behind each op, 3.2: i id or token, c code, n number of 32 bits, l last, t text or name, h map of strings
/// to strings, m limits, f features, p payload.
fn fields(op: u64) -> Parsed<&'static str> {
    Ok(match op {
        0x00 => "tnnthf",
        0x01 => "nmhf",
        0x02 | 0x09 => "ct",
        0x03 | 0x04 | 0x12 | 0x34 => "i",
        0x05 => "nn",
        0x06..=0x08 => "",
        0x0a | 0x35 => "ict",
        0x10 => "itnhp",
        0x11 => "icthp",
        0x20 | 0x21 => "ithp",
        0x22 | 0x23 => "it",
        0x24 => "thp",
        0x30 => "itnnh",
        0x31 => "inh",
        0x32 => "ilp",
        0x33 => "in",
        _ => return malformed("3.2: unknown op"),
    })
}

/// Reads one frame and gives its content, of at most `max` bytes.
pub fn read(from: &mut impl Read, max: u64) -> Parsed<Vec<u8>> {
    let mut head = [0; 5];
    from.read_exact(&mut head[..1])?;
    let width = match head[0] {
        b @ 0xc4..=0xc6 => 1 << (b - 0xc4),
        _ => return malformed("3.1: a frame is a bin"),
    };
    from.read_exact(&mut head[1..=width])?;
    let length = head[1..=width].iter().fold(0, |n, b| n << 8 | *b as u64);
    if length > max {
        return Err(Error::Protocol(TOO_LARGE, "4.2: frame too large"));
    }
    let mut content = Vec::new(); // 4.5: it grows with what arrives
    from.take(length).read_to_end(&mut content)?;
    if content.len() as u64 == length { Ok(content) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
}

impl Frame {
    pub fn parse(content: &[u8]) -> Parsed<Frame> {
        let (mut b, mut f) = (Bytes(content), Frame::default());
        let n = b.want('a', u64::MAX)?;
        f.op = b.want('n', u64::MAX)?;
        let fields = fields(f.op)?;
        let Some(further) = n.checked_sub(1 + fields.len() as u64) else { return malformed("3.4: a field is missing") };
        for kind in fields.chars() {
            match kind {
                'i' => f.id = b.want('n', u64::MAX)?,
                'c' => f.code = b.want('n', 255)? as u8,
                'n' => f.number = b.want('n', u32::MAX.into())?,
                'l' => drop(b.want('n', 1)?),
                't' => f.text = b.string()?,
                'h' => {
                    for _ in 0..b.want('m', 64)? {
                        f.headers.insert(b.string()?, b.string()?);
                    }
                }
                'm' => {
                    for _ in 0..b.want('m', 64)? {
                        f.limits.insert(b.string()?, b.want('n', u32::MAX.into())?);
                    }
                }
                'f' => {
                    f.features = b.want('a', 64)?;
                    (0..f.features).try_for_each(|_| b.string().map(drop))?;
                }
                _ => {
                    let length = b.want('b', u64::MAX)?;
                    f.payload = b.take(length)?.to_vec();
                }
            }
        }
        (0..further).try_for_each(|_| b.skip(8, false))?;
        if b.0.is_empty() { Ok(f) } else { malformed("3.6: bytes behind the array") }
    }
}

/// A field to send.
pub enum Field<'a> {
    Number(u64),
    Str(&'a str),
    Map(&'a Headers), // at most 64; a map has them in the order of their names' bytes
    Features,         // none
    Payload(&'a [u8]),
}

/// A frame of that op and these fields, in the shortest form.
pub fn write(op: u64, fields: &[Field]) -> Vec<u8> {
    let (mut content, mut frame) = (Vec::new(), Vec::new());
    encode::write_array_len(&mut content, 1 + fields.len() as u32).unwrap();
    encode::write_uint(&mut content, op).unwrap();
    fields.iter().for_each(|field| field.append(&mut content));
    Field::Payload(&content).append(&mut frame);
    frame
}

impl Field<'_> {
    pub fn append(&self, to: &mut Vec<u8>) {
        match self {
            Field::Number(n) => drop(encode::write_uint(to, *n).unwrap()),
            Field::Str(text) => encode::write_str(to, text).unwrap(),
            Field::Map(headers) => {
                encode::write_map_len(to, headers.len() as u32).unwrap();
                headers.iter().flat_map(|(name, value)| [name, value]).for_each(|s| Field::Str(s).append(to));
            }
            Field::Features => drop(encode::write_array_len(to, 0).unwrap()),
            Field::Payload(payload) => encode::write_bin(to, payload).unwrap(),
        }
    }
}

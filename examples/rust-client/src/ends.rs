//! How a connection begins and ends, relay.md 2 and 6.4.
use crate::frame::{self, Field::*, Frame, write};
use crate::{Error, MALFORMED, UNEXPECTED};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Reads the answer to the hello, 2.6, and gives the limits.
pub fn welcome(reader: &mut impl Read) -> Result<HashMap<String, u64>, Error> {
    let f = Frame::parse(&frame::read(reader, 16_384)?)?;
    match f.op {
        0x01 => {}
        0x02 => return Err(Error::reason(f.code, f.text)),
        _ => return Err(Error::Protocol(UNEXPECTED, "6.1: neither welcome nor refuse")),
    }
    let defaults = [("frame", 1_114_112), ("payload", 1_048_576), ("headers", 16_384), ("name", 255)];
    let mut limits = HashMap::from(defaults.map(|(name, n)| (name.to_string(), n)));
    limits.extend([("requests".to_string(), 4_096), ("chunk".to_string(), 65_536)]);
    limits.extend(f.limits.into_iter().filter(|(_, n)| *n > 0));
    let least = limits["payload"] + limits["headers"] + limits["name"].max(16_384) + 64;
    if f.number != 1 || f.features > 0 || limits["frame"] < least.max(limits["chunk"] + 64) {
        return Err(Error::Protocol(MALFORMED, "2.6: version, features or limits"));
    }
    Ok(limits)
}

/// Says the last frame, 6.4.
pub fn bye(mut stream: &TcpStream, code: u8, text: &str) {
    let _ = stream.write_all(&write(0x09, &[Number(code.into()), Str(text)]));
    let _ = stream.shutdown(Shutdown::Write);
}

/// Says what the node did wrong, and reads on for a short while.
pub fn blame(stream: &Mutex<TcpStream>, reader: &mut impl Read, why: &Error) {
    let Error::Protocol(code, text) = why else { return };
    let stream = stream.lock().unwrap();
    bye(&stream, *code, text);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    drop(stream);
    let (until, mut rest) = (Instant::now() + Duration::from_secs(1), [0; 4096]);
    while Instant::now() < until && matches!(reader.read(&mut rest), Ok(1..)) {}
}

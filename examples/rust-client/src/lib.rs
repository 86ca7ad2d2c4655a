//! A minimal client of the Iris relay protocol, version 1 (`spec/relay.md`, whose clauses the comments name): it asks,
//! over TCP. It has no threads, and no clock but for the opening and the end. README.md says what it leaves out.
use rmp::decode::{ValueReadError::TypeMismatch, read_bin_len};
use rmp_serde::{from_slice, to_vec};
use rmpv::{Value, decode::read_value_with_max_depth, ext::from_value};
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

pub type Headers = BTreeMap<String, String>;
pub type Outcome = Result<(Headers, Vec<u8>), Error>;

/// A code of 7.1 or of this side, and a text for people; that of code 5, `failed`, is the service's.
#[derive(Debug, Clone)]
pub struct Error(pub u64, pub String);
pub const CLOSED: Error = Error(0, String::new()); // by this side
pub const TOO_LARGE: u64 = 256; // more than a limit of the node; nothing was sent
pub const NO_NODE: u64 = 257; // nobody listens, or not any more; nothing was sent
const LOST: Error = Error(4, String::new()); // 6.4: a connection that ends without a bye
const MALFORMED: Error = Error(32, String::new());
const UNEXPECTED: Error = Error(34, String::new());

/// The fields of each op, 3.2: s a string, b a payload, S a map of strings, N one of integers, a an array, empty in
/// version 1; a digit is an integer of 2 to the power of so many bits, so 0 is the flag and 6 an id.
const FIELDS: &str = "00:s55sSa 01:5NSa 02:3s 03:6 04:6 05:55 06: 07: 08: 09:3s 0a:63s 10:6s5Sb 11:63sSb 12:6 20:6sSb \
    21:6sSb 22:6s 23:6s 24:sSb 30:6s55S 31:65S 32:60b 33:65 34:6 35:63s";
const LIMITS: [&str; 6] = ["frame", "payload", "headers", "name", "requests", "chunk"];
const DEFAULTS: [u64; 6] = [1_114_112, 1_048_576, 16_384, 255, 4_096, 65_536];

/// Whether a field is of its kind; a further one, `?`, is anything that nests at most `depth` deep, 3.5.
fn fits(kind: u8, field: &Value, depth: u8) -> bool {
    let all = |m: &[(_, _)], k, v| m.iter().all(|(key, val)| fits(k, key, depth - 1) && fits(v, val, depth - 1));
    match (kind, field) {
        _ if depth == 0 => false,
        (b'0'..=b'6', _) => field.as_u64().is_some_and(|n| n as u128 >> (1 << (kind - b'0')) == 0),
        (b's' | b'?', Value::String(text)) => text.is_str(),
        (b'S', Value::Map(m)) => m.len() <= 64 && all(m, b's', b's'),
        (b'N', Value::Map(m)) => m.len() <= 64 && all(m, b's', b'5'),
        (b'a', Value::Array(items)) => items.is_empty(),
        (b'?', Value::Map(m)) => all(m, b'?', b'?'),
        (b'?', Value::Array(items)) => items.iter().all(|item| fits(b'?', item, depth - 1)),
        _ => kind == b'?' || kind == b'b' && matches!(field, Value::Binary(_)),
    }
}

/// Reads a frame of at most `max` bytes.
fn read(mut from: impl Read, max: u64) -> Result<Value, Error> {
    let length = read_bin_len(&mut from).map_err(|e| if let TypeMismatch(_) = e { MALFORMED } else { LOST })?.into();
    let mut content = Vec::new(); // 4.5: it grows with what arrives
    (length <= max).then_some(()).ok_or(Error(33, String::new()))?;
    from.take(length).read_to_end(&mut content).ok().filter(|n| *n as u64 == length).ok_or(LOST)?;
    let rest = &mut &content[..]; // rmpv reserves nothing for a declared length; `fits` counts the levels
    let frame = read_value_with_max_depth(rest, 32).or(Err(MALFORMED))?;
    let (op, fields) = frame[0].as_u64().zip(frame.as_array()).ok_or(MALFORMED)?;
    let kinds = FIELDS.split(' ').find_map(|row| row.strip_prefix(&format!("{op:02x}:"))).ok_or(MALFORMED)?;
    let mut typed = fields.iter().skip(1).zip(kinds.bytes().chain(std::iter::repeat(b'?')));
    let whole = rest.is_empty() && fields.len() > kinds.len() && typed.all(|(field, kind)| fits(kind, field, 8));
    let clean = whole && from_slice::<serde::de::IgnoredAny>(&content).is_ok(); // rmpv takes the byte c1 for nil
    clean.then_some(frame).ok_or(MALFORMED)
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    limits: [u64; 6],
    last: u64,             // id of a request
    waiting: HashSet<u64>, // requests without a reply
    over: Option<Error>,   // why the connection has ended
}

impl Client {
    /// Attaches to the node at a port of this host. Gives what reads a frame for `take` too: for a thread, if need be.
    pub fn attach(port: u16) -> Result<(Client, impl Fn() -> Result<Value, Error>), Error> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| Error(NO_NODE, e.to_string()))?;
        let reader = stream.set_nodelay(true).and(stream.try_clone()).or(Err(LOST))?;
        reader.set_read_timeout(Some(Duration::from_secs(10))).or(Err(LOST))?; // 2.8
        let mut client = Client { stream, limits: [0; 6], last: 0, waiting: HashSet::new(), over: None };
        client.send((0, "iris", 1, 1, "", Headers::new(), [(); 0]));
        let welcome = read(&reader, 16_384).map_err(|why| client.close(why))?;
        let told: BTreeMap<String, u64> = from_value(welcome[2].clone()).unwrap_or_default();
        client.limits = std::array::from_fn(|i| *told.get(LIMITS[i]).filter(|n| **n > 0).unwrap_or(&DEFAULTS[i]));
        let [frame, payload, headers, name, _, chunk] = client.limits;
        match (welcome[0].as_u64(), welcome[1].as_u64()) {
            (Some(1), Some(1)) if frame >= (payload + headers + name.max(16_384)).max(chunk) + 64 => {}
            (Some(2), Some(code @ 16..)) => return Err(Error(code, welcome[2].as_str().unwrap_or_default().into())),
            (op, _) => return Err(client.close(if op == Some(1) { MALFORMED } else { UNEXPECTED })),
        }
        reader.set_read_timeout(None).or(Err(LOST))?;
        Ok((client, move || read(&reader, frame)))
    }

    /// Asks a cluster, and gives the id of the request. The node keeps the budget, in ms; `u32::MAX` is none.
    pub fn request(&mut self, cluster: &str, headers: &Headers, payload: &[u8], budget: u32) -> Result<u64, Error> {
        let [_, most, map, name, requests, _] = self.limits;
        let sizes = [(cluster.len(), name), (to_vec(headers).map_or(0, |m| m.len()), map), (payload.len(), most)];
        let wrong = [
            (sizes.iter().any(|(size, limit)| *size as u64 > *limit), TOO_LARGE, "more than a limit of the node"),
            (cluster.is_empty() || headers.len() > 64, 8, "no name, or more than 64 headers"),
            (self.waiting.len() as u64 >= requests, 3, "more than the limit requests"),
        ];
        self.over.clone().map_or(Ok(()), |Error(code, text)| Err(Error(if code == 0 { 0 } else { NO_NODE }, text)))?;
        wrong.iter().find(|w| w.0).map_or(Ok(()), |w| Err(Error(w.1, w.2.into())))?;
        self.last += 1;
        self.waiting.insert(self.last);
        self.send((0x10, self.last, cluster, budget, headers, Value::from(payload)));
        Ok(self.last)
    }

    /// Gives up a request. Its reply comes all the same, at once, 5.8.
    pub fn cancel(&self, id: u64) {
        self.waiting.get(&id).into_iter().for_each(|id| self.send((0x12, id)));
    }

    /// Takes what was read. Of a reply it gives the id of the request, and the outcome. An error ends the connection.
    pub fn take(&mut self, frame: Result<Value, Error>) -> Result<Option<(u64, Outcome)>, Error> {
        let f = frame.map_err(|why| self.close(why))?;
        let (id, text) = (f[1].as_u64().unwrap_or(0), |i: usize| f[i].as_str().unwrap_or_default().into());
        match f[0].as_u64().unwrap_or(0) {
            0x03 => self.send((4, id)),
            0x09 => return Err(self.close(Error(4, text(2)))),
            0x11 if self.waiting.remove(&id) => {
                let code = f[2].as_u64().filter(|code| *code <= 8).unwrap_or(4); // 7.2
                let ok = (from_value(f[4].clone()).unwrap_or_default(), f[5].as_slice().unwrap_or_default().into());
                return Ok(Some((id, if code == 0 { Ok(ok) } else { Err(Error(code, text(3))) })));
            }
            0x04 | 0x08 | 0x0a | 0x11 | 0x12 | 0x31..=0x35 => {} // nothing that awaits it: 5.4, 5.8, 8.3, 10.8
            _ => return Err(self.close(UNEXPECTED)),
        }
        Ok(None)
    }

    /// Ends the connection, in good order with `CLOSED`. Behind a bye it reads on, for a second at most, 6.4.
    pub fn close(&mut self, why: Error) -> Error {
        if let (None, 0 | 32..=34) = (&self.over, why.0) {
            self.send((9, why.0, &why.1));
            let until = Instant::now() + Duration::from_secs(1);
            let _ = (self.stream.shutdown(Shutdown::Write), self.stream.set_read_timeout(Some(Duration::from_secs(1))));
            while Instant::now() < until && matches!((&self.stream).read(&mut [0; 4096]), Ok(1..)) {}
        }
        let _ = self.stream.shutdown(Shutdown::Both);
        self.over.get_or_insert(why).clone()
    }

    /// Writes a frame. If that fails so does the reading.
    fn send(&self, fields: impl serde::Serialize) {
        let frame = to_vec(&fields).and_then(|content| to_vec(&Value::from(content))).expect("a vector takes all");
        let _ = (&self.stream).write_all(&frame);
    }
}

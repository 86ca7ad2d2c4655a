//! A minimal client of the Iris relay protocol, version 1 (`spec/relay.md`, whose clauses the comments name): requests,
//! asked and served, over TCP. README.md says what it leaves out.
use rmpv::{Value, decode::read_value_with_max_depth, encode::write_value};
use std::collections::{BTreeMap, HashMap};
use std::io::{Error as IoError, ErrorKind::UnexpectedEof, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{mem::replace, thread};

pub type Headers = BTreeMap<String, String>;
pub type Outcome = Result<(Headers, Vec<u8>), Error>;
type Asked = Result<(u64, mpsc::Receiver<Outcome>), Error>;
type Fields = std::vec::IntoIter<Value>;

/// A code of 7.1 or of this side, and a text for people; that of code 5, `failed`, is the service's.
#[derive(Debug, Clone)]
pub struct Error(pub u64, pub String);
pub const TOO_LARGE: u64 = 256; // more than a limit of the node; nothing was sent
pub const CLOSED: u64 = 257; // by this side
pub const NO_NODE: u64 = 258; // nobody listens, or not any more; nothing was sent
const MALFORMED: Error = Error(32, String::new());

impl From<IoError> for Error {
    fn from(e: IoError) -> Error {
        Error(4, e.to_string()) // 6.4: a connection that ends without a bye is lost
    }
}

/// What a service is told: a request of that id, with its budget in ms; that nobody wants its outcome; the end.
pub enum Event {
    Request(u64, u64, Headers, Vec<u8>),
    Cancelled(u64),
    Ended(Error),
}

/// One connection. Any thread may use it.
pub struct Client {
    stream: TcpStream,
    limits: BTreeMap<String, u64>,
    writing: Mutex<()>, // held for a frame
    state: Mutex<State>,
    ended: Condvar, // state.ended has become true
}

#[derive(Default)]
struct State {
    last: u64,                                            // id of a request
    waiting: HashMap<u64, Option<mpsc::Sender<Outcome>>>, // unanswered requests; None: given up
    running: HashMap<u64, bool>,                          // credits in use; false: cancelled
    over: Option<Error>,                                  // why nothing may be asked any more
    ended: bool,                                          // the reading loop has
}

/// Reads a frame of at most `max` bytes, and gives its fields.
fn read(mut from: impl Read, max: u64) -> Result<Fields, Error> {
    let (mut head, mut content) = ([0; 5], Vec::new());
    from.read_exact(&mut head[..1])?;
    let width = if let b @ 0xc4..=0xc6 = head[0] { 1 << (b - 0xc4) } else { return Err(MALFORMED) };
    from.read_exact(&mut head[1..=width])?;
    let length = head[1..=width].iter().fold(0, |n, b| n << 8 | *b as u64);
    if length > max {
        return Err(Error(33, String::new()));
    } else if from.take(length).read_to_end(&mut content)? as u64 != length {
        return Err(IoError::from(UnexpectedEof).into()); // 4.5: it has grown with what arrived
    }
    let mut rest = &content[..]; // rmpv reserves nothing for a declared length; for it 8 levels (3.5) are up to 19
    match read_value_with_max_depth(&mut rest, 19) {
        Ok(Value::Array(fields)) if rest.is_empty() => Ok(fields.into_iter()),
        _ => Err(MALFORMED),
    }
}

fn take<T: TryFrom<Value>>(fields: &mut Fields) -> Result<T, Error> {
    fields.next().and_then(|field| field.try_into().ok()).ok_or(MALFORMED)
}

fn map<T: TryFrom<Value>>(fields: &mut Fields) -> Result<BTreeMap<String, T>, Error> {
    let (pairs, entry) = (take::<Vec<(Value, Value)>>(fields)?, |mut f| Ok((take(&mut f)?, take(&mut f)?)));
    if pairs.len() > 64 {
        Err(MALFORMED)
    } else {
        pairs.into_iter().map(|(k, v)| entry(vec![k, v].into_iter())).collect()
    }
}

fn encode(value: Value) -> Vec<u8> {
    let mut encoded = Vec::new();
    write_value(&mut encoded, &value).expect("a vector takes all");
    encoded
}

fn welcome(stream: &TcpStream) -> Result<BTreeMap<String, u64>, Error> {
    let f = &mut read(stream, 16_384)?;
    match take::<u64>(f)? {
        1 => {}
        2 => return Err(Error(take(f)?, take(f)?)),
        _ => return Err(Error(34, String::new())),
    }
    let (version, told) = (take::<u64>(f)?, map::<u64>(f)?);
    let (_, features) = (map::<String>(f)?, take::<Vec<Value>>(f)?);
    let defaults =
        [("frame", 1_114_112), ("payload", 1_048_576), ("headers", 16_384), ("name", 255), ("requests", 4_096)];
    let mut limits = BTreeMap::from(defaults.map(|(name, n)| (name.to_string(), n)));
    limits.extend(told.into_iter().filter(|(_, n)| *n > 0));
    let least = limits["payload"].saturating_add(limits["headers"]).saturating_add(limits["name"].max(16_384) + 64);
    if version != 1 || !features.is_empty() || limits["frame"] < least { Err(MALFORMED) } else { Ok(limits) }
}

impl Client {
    /// Attaches to the node at a port of this host: as a member of the cluster, with room for `credit` requests, or,
    /// with an empty name, to ask only.
    pub fn attach(port: u16, cluster: &str, credit: u32) -> Result<(Arc<Client>, mpsc::Receiver<Event>), Error> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| Error(NO_NODE, e.to_string()))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?; // 2.8
        let (nothing, list) = (Value::Map(vec![]), Value::Array(vec![]));
        let (writing, state, ended, limits) = Default::default();
        let mut client = Client { stream, limits, writing, state, ended };
        client.send(vec![0.into(), "iris".into(), 1.into(), 1.into(), cluster.into(), nothing, list]);
        client.limits = welcome(&client.stream).inspect_err(|why| client.blame(why))?;
        client.stream.set_read_timeout(None)?;
        if !cluster.is_empty() {
            client.send(vec![5.into(), 0.into(), credit.into()]);
        }
        let (client, (to, events)) = (Arc::new(client), mpsc::channel());
        let (reader, credit) = (client.clone(), if cluster.is_empty() { 0 } else { credit });
        thread::spawn(move || reader.run(credit as usize, &to));
        Ok((client, events))
    }

    /// Asks a cluster. Gives the id of the request, which has been written, and what gets its outcome.
    pub fn request(&self, cluster: &str, headers: &Headers, payload: &[u8], timeout: Option<Duration>) -> Asked {
        let headers = self.fits(cluster, headers, payload)?;
        let budget = timeout.map_or(u32::MAX, |t| t.as_nanos().div_ceil(1_000_000).min(u32::MAX as u128 - 1) as u32);
        let (to, outcome) = mpsc::channel();
        let mut state = self.state.lock().unwrap();
        if let Some(why) = &state.over {
            return Err(why.clone());
        } else if state.waiting.len() as u64 >= self.limits["requests"] {
            return Err(Error(3, "limit requests".into()));
        }
        state.last += 1;
        let id = state.last;
        state.waiting.insert(id, Some(to));
        drop(state);
        self.send(vec![0x10.into(), id.into(), cluster.into(), budget.into(), headers, payload.into()]);
        Ok((id, outcome))
    }

    /// Waits for the outcome. The node keeps the time; if it says nothing for a second after it, 5.2, so does this.
    pub fn wait(&self, id: u64, outcome: mpsc::Receiver<Outcome>, timeout: Option<Duration>) -> Outcome {
        let patience = timeout.map_or(Duration::MAX, |t| t.saturating_add(Duration::from_secs(1)));
        let outcome = outcome.recv_timeout(patience);
        self.cancel(id); // nothing, if it is answered
        outcome.unwrap_or(Err(Error(1, "the node does not answer".into())))
    }

    /// Gives up a request: its outcome comes at once. The node goes on counting it until it answers, 5.8.
    pub fn cancel(&self, id: u64) {
        let waits = self.state.lock().unwrap().waiting.get_mut(&id).and_then(Option::take);
        if let Some(to) = waits {
            let _ = to.send(Err(Error(6, "given up".into())));
            self.send(vec![0x12.into(), id.into()]);
        }
    }

    /// Answers a request. Each wants one answer, the cancelled too, for it gives the credit back.
    pub fn reply(&self, id: u64, outcome: Result<(Headers, Vec<u8>), String>) {
        let fits = |(headers, payload): (Headers, Vec<u8>)| match self.fits("", &headers, &payload) {
            Ok(headers) => Ok(vec![0x11.into(), id.into(), 0.into(), "".into(), headers, payload.into()]),
            Err(why) => Err(why.1), // 4.4
        };
        let frame = outcome.and_then(fits).unwrap_or_else(|text| {
            let text = &text[..text.floor_char_boundary(16_384)]; // 5.6
            vec![0x11.into(), id.into(), 5.into(), text.into(), Value::Map(vec![]), Value::Binary(vec![])]
        });
        let wanted = self.state.lock().unwrap().running.remove(&id);
        match wanted {
            Some(true) => self.send(frame),
            Some(false) => {}
            None => return,
        }
        self.send(vec![5.into(), 0.into(), 1.into()]);
    }

    /// Closes in good order, 6.4. What waits fails with `CLOSED`.
    pub fn close(&self) {
        if self.end(Error(CLOSED, String::new()), Error(CLOSED, String::new())) {
            self.bye(0);
        }
        let state = self.state.lock().unwrap();
        drop(self.ended.wait_timeout_while(state, Duration::from_secs(1), |state| !state.ended));
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends what waits, and what may be asked. False, if this side has closed before.
    fn end(&self, told: Error, over: Error) -> bool {
        let mut state = self.state.lock().unwrap();
        state.waiting.drain().filter_map(|(_, to)| to).for_each(|to| to.send(Err(told.clone())).unwrap_or(()));
        let open = !matches!(state.over, Some(Error(CLOSED, _)));
        state.over = if open { Some(over) } else { state.over.take() };
        open
    }

    fn bye(&self, code: u64) {
        self.send(vec![9.into(), code.into(), "".into()]);
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Tells the node what it did wrong, and reads on for a second at most, 6.4.
    fn blame(&self, why: &Error) {
        if let Error(code @ 32..=34, _) = why {
            self.bye(*code);
            let _ = self.stream.set_read_timeout(Some(Duration::from_secs(1)));
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until && matches!((&self.stream).read(&mut [0; 4096]), Ok(1..)) {}
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Writes a frame. If that fails the reading loop ends.
    fn send(&self, fields: Vec<Value>) {
        let frame = encode(Value::Binary(encode(Value::Array(fields))));
        let _writing = self.writing.lock().unwrap();
        if (&self.stream).write_all(&frame).is_err() {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }

    fn run(&self, credit: usize, events: &mpsc::Sender<Event>) {
        let why = std::iter::repeat(()).try_for_each(|_| self.step(credit, events)).unwrap_err();
        if self.end(Error(4, why.1.clone()), Error(NO_NODE, why.1.clone())) {
            let _ = events.send(Event::Ended(why.clone()));
        }
        self.blame(&why);
        self.state.lock().unwrap().ended = true;
        self.ended.notify_all();
    }

    /// Takes a frame.
    fn step(&self, credit: usize, events: &mpsc::Sender<Event>) -> Result<(), Error> {
        let mut f = read(&self.stream, self.limits["frame"])?;
        let (op, f) = (take::<u64>(&mut f)?, &mut f);
        let mut state = self.state.lock().unwrap();
        match op {
            _ if matches!(state.over, Some(Error(CLOSED, _))) => {} // 6.4: read on, behind the bye
            0x03 => {
                drop(state);
                self.send(vec![4.into(), take::<u64>(f)?.into()]);
            }
            0x04 | 0x0a | 0x31..=0x35 => {} // nothing that awaits it: 8.3, 10.8
            0x08 => state.over = Some(Error(7, "the node is leaving".into())), // it ends the connection, 6.5
            0x09 => return Err(Error(4, format!("bye {}: {}", take::<u64>(f)?, take::<String>(f)?))),
            0x10 => {
                let (id, _, budget) = (take(f)?, take::<String>(f)?, take(f)?);
                let event = Event::Request(id, budget, map(f)?, take(f)?);
                if state.running.len() >= credit || state.running.insert(id, true).is_some() {
                    return Err(Error(34, String::new()));
                }
                let _ = events.send(event);
            }
            0x11 => {
                let (id, code, text) = (take::<u64>(f)?, take(f)?, take(f)?);
                let outcome = (map(f)?, take(f)?);
                if let Some(Some(to)) = state.waiting.remove(&id) {
                    let _ = to.send(if code == 0 {
                        Ok(outcome)
                    } else {
                        Err(Error(if code > 8 { 4 } else { code }, text))
                    });
                }
            }
            0x12 => {
                let id = take(f)?;
                if state.running.get_mut(&id).is_some_and(|wanted| replace(wanted, false)) {
                    let _ = events.send(Event::Cancelled(id));
                }
            }
            0x30 => {
                let (id, _, _, _) = (take::<u64>(f)?, take::<String>(f)?, take::<u64>(f)?, take::<u64>(f)?);
                map::<String>(f)?;
                if credit == 0 {
                    return Err(Error(34, String::new()));
                }
                drop(state); // 10.2: another member is asked
                self.send(vec![0x35.into(), id.into(), 3.into(), "".into()]);
            }
            0x00..=0x09 | 0x20..=0x24 => return Err(Error(34, String::new())),
            _ => return Err(MALFORMED),
        }
        Ok(())
    }

    /// The headers as they are sent, if the message keeps the limits, 4.1.
    fn fits(&self, name: &str, headers: &Headers, payload: &[u8]) -> Result<Value, Error> {
        let map = Value::Map(headers.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect());
        let sizes = [("name", name.len()), ("headers", encode(map.clone()).len()), ("payload", payload.len())];
        match sizes.iter().find(|(limit, size)| *size as u64 > self.limits[*limit]) {
            Some((limit, _)) => Err(Error(TOO_LARGE, format!("more than the limit {limit}"))),
            None if headers.len() > 64 => Err(Error(8, "more than 64 headers".into())),
            None => Ok(map),
        }
    }
}

//! One connection: the loop that reads, what it takes in which state (relay.md 6.1), and what is written.
use crate::ends::blame;
use crate::frame::{self, Field::*, Frame, write};
use crate::{state::State, *};
use std::collections::HashMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub struct Shared {
    pub stream: Mutex<TcpStream>, // for writing, frame by frame
    pub limits: HashMap<String, u64>,
    pub service: bool,
    pub handler: Box<dyn Handler>,
    pub state: Mutex<State>,
    pub over: Condvar, // state.over has become true
}

impl Shared {
    /// Writes a frame. If that fails the reading loop ends.
    pub fn send(&self, frame: &[u8]) {
        let mut stream = self.stream.lock().unwrap();
        if stream.write_all(frame).is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Checks a message against the limits, 4.1 and 5.3.
    pub fn fits(&self, name: &str, headers: &Headers, payload: &[u8]) -> Result<(), Error> {
        let mut encoded = Vec::new();
        Map(headers).append(&mut encoded);
        for (limit, size) in [("name", name.len()), ("headers", encoded.len()), ("payload", payload.len())] {
            if size as u64 > self.limits[limit] {
                return Err(Error::TooLarge(limit));
            }
        }
        if headers.len() > 64 { Err(Error::Code(INVALID, "more than 64 headers".into())) } else { Ok(()) }
    }

    /// 5.8: the request stays unanswered for the node.
    pub fn cancel(&self, id: u64) {
        let given_up = self.state.lock().unwrap().waiting.get_mut(&id).and_then(Option::take);
        if let Some(to) = given_up {
            let _ = to.send(Err(Error::Code(CANCELLED, "given up".into())));
            self.send(&write(0x12, &[Number(id)]));
        }
    }

    /// The reading loop.
    pub fn run(self: Arc<Self>, mut reader: impl Read) {
        let why = loop {
            if let Err(why) = self.step(&mut reader) {
                break why;
            }
        };
        let closed = {
            let mut state = self.state.lock().unwrap();
            state.over = true;
            state.finish(Error::Code(LOST, why.to_string()));
            state.closed
        };
        self.over.notify_all();
        if !closed {
            self.handler.lost(&why);
        }
        blame(&self.stream, &mut reader, &why);
        let _ = self.stream.lock().unwrap().shutdown(Shutdown::Both);
    }

    /// Takes one frame.
    fn step(self: &Arc<Self>, reader: &mut impl Read) -> Result<(), Error> {
        let f = Frame::parse(&frame::read(reader, self.limits["frame"])?)?;
        let mut state = self.state.lock().unwrap();
        match f.op {
            _ if state.closed => {} // 6.4: read on, behind the bye
            0x03 => {
                drop(state);
                self.send(&write(0x04, &[Number(f.id)]));
            }
            0x04 | 0x0a | 0x31..=0x35 => {} // nothing that awaits it: 8.3, 10.8
            0x08 => state.leaving = true,   // the node ends the connection when all is answered, 6.5
            0x09 => return Err(Error::reason(f.code, f.text)),
            0x10 if state.credit > 0 && !state.running.contains_key(&f.id) => {
                let (cancel, cancelled) = mpsc::channel();
                state.credit -= 1;
                state.running.insert(f.id, cancel);
                let shared = self.clone();
                thread::spawn(move || shared.serve(f, cancelled));
            }
            0x11 => {
                if let Some(Some(to)) = state.waiting.remove(&f.id) {
                    let _ = to.send(if f.code == 0 {
                        Ok((f.headers, f.payload))
                    } else {
                        Err(Error::outcome(f.code, f.text))
                    });
                }
            }
            0x12 => drop(state.running.remove(&f.id).map(|to| to.send(()))),
            0x30 if self.service && f.id >> 63 == 1 && f.number < 1 << 31 => {
                drop(state); // 10.2: another member is asked
                self.send(&write(0x35, &[Number(f.id), Number(OVERLOADED.into()), Str("no tunnels here")]));
            }
            _ => return Err(Error::Protocol(UNEXPECTED, "6.1: not allowed, or without credit (5.5)")),
        }
        Ok(())
    }

    fn serve(&self, f: Frame, cancelled: mpsc::Receiver<()>) {
        let budget = (f.number < u32::MAX.into()).then(|| Duration::from_millis(f.number));
        let request = Request { budget, headers: f.headers, payload: f.payload, cancelled };
        let outcome = catch_unwind(AssertUnwindSafe(|| self.handler.request(request)));
        let reply = outcome.unwrap_or(Err("the handler panicked".into())).and_then(|(headers, payload)| {
            self.fits("", &headers, &payload).map_err(|e| format!("the reply is refused: {e}"))?; // 4.4
            Ok(write(0x11, &[Number(f.id), Number(0), Str(""), Map(&headers), Payload(&payload)]))
        });
        let mut frames = reply.unwrap_or_else(|text| {
            let text = &text[..text.floor_char_boundary(16_384)]; // 5.6
            write(0x11, &[Number(f.id), Number(FAILED.into()), Str(text), Map(&BTreeMap::new()), Payload(&[])])
        });
        let mut state = self.state.lock().unwrap();
        state.credit += 1;
        if state.running.remove(&f.id).is_none() {
            frames.clear(); // cancelled
        }
        drop(state);
        frames.extend(write(0x05, &[Number(0), Number(1)]));
        self.send(&frames);
    }
}

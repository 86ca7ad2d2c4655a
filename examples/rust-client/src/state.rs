//! The state of a connection: which requests run, and whether there may be more (relay.md 5.9, 6).
use crate::{CLOSING, Error, OVERLOADED, Reply};
use std::{collections::HashMap, sync::mpsc};

#[derive(Default)]
pub struct State {
    pub last: u64,                                                         // id of a request
    pub waiting: HashMap<u64, Option<mpsc::Sender<Result<Reply, Error>>>>, // unanswered requests; None: given up
    pub running: HashMap<u64, mpsc::Sender<()>>,                           // requests that the handler serves
    pub credit: u64,
    pub leaving: bool,
    pub closed: bool, // by this side
    pub over: bool,   // the reading loop has ended
}

impl State {
    /// Gives a new request its id.
    pub fn admit(&mut self, to: mpsc::Sender<Result<Reply, Error>>, limit: u64) -> Result<u64, Error> {
        match self {
            State { closed: true, .. } => return Err(Error::Closed),
            State { over: true, .. } => return Err(Error::NoNode),
            State { leaving: true, .. } => return Err(Error::Code(CLOSING, "the node is leaving".into())),
            _ if self.waiting.len() as u64 >= limit => return Err(Error::Code(OVERLOADED, "limit requests".into())),
            _ => self.last += 1,
        }
        self.waiting.insert(self.last, Some(to));
        Ok(self.last)
    }

    /// Tells whether it was not closed before.
    pub fn close(&mut self) -> bool {
        self.finish(Error::Closed);
        !std::mem::replace(&mut self.closed, true)
    }

    /// Ends all requests, 5.9.
    pub fn finish(&mut self, why: Error) {
        self.waiting.drain().filter_map(|(_, to)| to).for_each(|to| to.send(Err(why.clone())).unwrap_or(()));
        self.running.drain().for_each(|(_, to)| to.send(()).unwrap_or(()));
    }
}

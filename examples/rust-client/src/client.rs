//! A client of the Iris relay protocol, version 1 (`spec/relay.md`, whose clauses the comments name): requests, asked
//! and served. It has no broadcasts, topics and tunnels, no Unix socket, does not drain and does not attach again.
mod connection;
mod ends;
mod error;
mod frame;
mod msgpack;
mod state;
use connection::Shared;
use ends::{blame, bye, welcome};
pub use error::*;
use frame::{Field::*, write};
use state::State;
use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, mpsc, mpsc::RecvTimeoutError};
use std::{thread, time::Duration};

pub type Headers = BTreeMap<String, String>;
pub type Reply = (Headers, Vec<u8>);

/// What a connection calls: `request`, on a thread for each; `lost` once, if it ends and this side did not close it.
pub trait Handler: Send + Sync + 'static {
    /// Serves one request. An error is a text for the requester.
    fn request(&self, request: Request) -> Result<Reply, String>;
    fn lost(&self, _why: &Error) {}
}

/// Of a client that serves nothing.
impl Handler for () {
    fn request(&self, _: Request) -> Result<Reply, String> {
        Err("no handler".into())
    }
}

/// A request to serve. `cancelled` gets a message when nobody wants the outcome any more. A budget of `None` has no end.
pub struct Request {
    pub budget: Option<Duration>,
    pub headers: Headers,
    pub payload: Vec<u8>,
    pub cancelled: mpsc::Receiver<()>,
}

/// One connection. Any thread may use it; dropped, it closes.
pub struct Client(Arc<Shared>);

/// A request that is on its way, and its id. Dropped, it is cancelled.
pub struct Pending(Arc<Shared>, pub u64, mpsc::Receiver<Result<Reply, Error>>, Option<Duration>);

impl Client {
    /// Attaches to the node at a port of this host, as a member of the cluster that serves so many requests at once.
    /// With an empty name and 0 it serves nothing.
    pub fn attach(port: u16, cluster: &str, credit: u32, handler: impl Handler) -> Result<Client, Error> {
        let hosts = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
        let stream = TcpStream::connect(&hosts[..]).or(Err(Error::NoNode))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(15)))?; // 6.2
        stream.set_read_timeout(Some(Duration::from_secs(15)))?; // longer than 2.8
        let mut reader = BufReader::new(stream.try_clone()?);
        let hello = [Str("iris"), Number(1), Number(1), Str(cluster), Map(&BTreeMap::new()), Features];
        (&stream).write_all(&write(0x00, &hello))?;
        let stream = Mutex::new(stream);
        let limits = welcome(&mut reader).inspect_err(|why| blame(&stream, &mut reader, why))?;
        reader.get_ref().set_read_timeout(None)?;
        let state = Mutex::new(State { credit: credit.into(), ..State::default() });
        let (service, handler) = (!cluster.is_empty(), Box::new(handler));
        let shared = Arc::new(Shared { stream, limits, service, handler, state, over: Condvar::new() });
        if service {
            shared.send(&write(0x05, &[Number(0), Number(credit.into())]));
        }
        let client = Client(shared.clone());
        thread::spawn(move || shared.run(reader));
        Ok(client)
    }

    /// Asks a cluster, and waits. The node answers `timeout` when the time has run out.
    pub fn request(&self, cluster: &str, payload: &[u8], timeout: Option<Duration>) -> Result<Reply, Error> {
        self.start(cluster, &BTreeMap::new(), payload, timeout)?.wait()
    }

    /// Asks a cluster. The request has been written when this returns.
    pub fn start(
        &self,
        cluster: &str,
        headers: &Headers,
        payload: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Pending, Error> {
        self.0.fits(cluster, headers, payload)?;
        let budget = timeout.map_or(u32::MAX, |t| t.as_nanos().div_ceil(1_000_000).min(u32::MAX as u128 - 1) as u32);
        let (sender, receiver) = mpsc::channel();
        let id = self.0.state.lock().unwrap().admit(sender, self.0.limits["requests"])?;
        let fields = [Number(id), Str(cluster), Number(budget.into()), Map(headers), Payload(payload)];
        self.0.send(&write(0x10, &fields));
        Ok(Pending(self.0.clone(), id, receiver, timeout))
    }

    /// Gives up a request: it fails at once, with `cancelled`, unless its reply is there already.
    pub fn cancel(&self, id: u64) {
        self.0.cancel(id);
    }

    /// Closes in good order, 6.4. What waits fails with `closed`.
    pub fn close(&self) {
        if self.0.state.lock().unwrap().close() {
            bye(&self.0.stream.lock().unwrap(), 0, "");
        }
        let state = self.0.state.lock().unwrap();
        let _unlocked = self.0.over.wait_timeout_while(state, Duration::from_secs(1), |state| !state.over);
        let _ = self.0.stream.lock().unwrap().shutdown(Shutdown::Both);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

impl Pending {
    /// Waits for the outcome: the node keeps the time, unless it has not answered a second after it.
    pub fn wait(self) -> Result<Reply, Error> {
        let outcome = match self.3 {
            Some(timeout) => self.2.recv_timeout(timeout.saturating_add(Duration::from_secs(1))),
            None => self.2.recv().or(Err(RecvTimeoutError::Disconnected)),
        };
        match outcome {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(Error::Code(TIMEOUT, "the node does not answer".into())),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Code(LOST, "the connection has ended".into())),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.cancel(self.1); // 5.2; nothing, if it is answered
    }
}

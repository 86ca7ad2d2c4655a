//! The conformance subject: `conformance/docs/subject.md`. The threads that the client does not have are here.
use base64::{Engine, engine::general_purpose::STANDARD};
use iris::{Client, Error, Headers, Outcome};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex};
use std::{thread, time::Duration};

type Failure = (&'static str, String); // the name of the error, and its text
type Shared = Arc<Mutex<Conn>>;

/// A connection, and the commands that wait for its requests.
struct Conn {
    client: Client,
    asked: HashMap<u64, u64>,
}

#[derive(Default)]
struct Subject {
    conns: Mutex<HashMap<String, Shared>>,
    commands: Mutex<HashMap<u64, (Shared, u64)>>, // those that are requests
}

fn say(line: Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|_| out.flush());
}

fn answer(id: u64, outcome: Result<Value, Failure>) {
    say(outcome.map_or_else(|(e, text)| json!({"id": id, "error": e, "text": text}), |ok| json!({"id": id, "ok": ok})));
}

fn failure(Error(code, text): Error) -> Failure {
    let names = "closed timeout no-service overloaded lost failed cancelled closing invalid - - - - - - - version \
        feature name limit";
    let name = match code {
        0..=19 => names.split(' ').nth(code as usize).unwrap_or("other"),
        20..=31 => "not-ready", // 7.2
        32..=34 => "protocol",
        iris::TOO_LARGE => "too-large",
        iris::NO_NODE => "no-node",
        _ => "other",
    };
    (name, text)
}

fn bad(text: &str) -> Failure {
    ("bad-command", text.into())
}

fn string<'a>(command: &'a Value, field: &str) -> Result<&'a str, Failure> {
    command[field].as_str().ok_or(bad(&format!("{field} is missing")))
}

impl Conn {
    /// Answers the command that waits for a request, if it still does.
    fn end(&mut self, request: u64, outcome: Outcome) {
        let Some(command) = self.asked.remove(&request) else { return };
        let ok = |(headers, payload): (Headers, _)| json!({"headers": headers, "payload": STANDARD.encode(payload)});
        self.client.cancel(request); // nothing, if there was a reply
        answer(command, outcome.map(ok).map_err(failure));
    }
}

impl Subject {
    fn conn(&self, command: &Value) -> Result<Shared, Failure> {
        self.conns.lock().unwrap().get(string(command, "conn")?).cloned().ok_or(bad("no such conn"))
    }

    /// Attaches, and reads for as long as the connection lasts.
    fn attach(&self, id: u64, command: &Value) -> Result<(), Failure> {
        let (name, port) = (string(command, "conn")?, command["port"].as_u64().ok_or(bad("port"))?);
        let (client, read) = Client::attach(port as u16).map_err(failure)?;
        let conn = Arc::new(Mutex::new(Conn { client, asked: HashMap::new() }));
        self.conns.lock().unwrap().insert(name.into(), conn.clone());
        answer(id, Ok(json!({})));
        let Error(code, text) = loop {
            let frame = read();
            let mut conn = conn.lock().unwrap();
            match conn.client.take(frame) {
                Ok(reply) => reply.into_iter().for_each(|(request, outcome)| conn.end(request, outcome)),
                Err(why) => break why,
            }
        };
        let mut conn = conn.lock().unwrap();
        for request in conn.asked.keys().copied().collect::<Vec<_>>() {
            conn.end(request, Err(Error(code.min(4), text.clone()))); // closed by this side, or lost
        }
        if code > 0 {
            say(json!({"notice": "dropped", "conn": name, "text": text}));
        }
        Ok(())
    }

    fn ask(&self, id: u64, command: &Value) -> Result<(), Failure> {
        let payload = STANDARD.decode(string(command, "payload")?).or(Err(bad("payload")))?;
        let headers: Option<Headers> = serde_json::from_value(command["headers"].clone()).or(Err(bad("headers")))?;
        let (shared, cluster) = (self.conn(command)?, string(command, "cluster")?);
        let timeout = command["timeout_ms"].as_u64();
        let budget = timeout.map_or(u32::MAX, |ms| ms.min(u32::MAX as u64 - 1) as u32);
        let mut conn = shared.lock().unwrap();
        let request = conn.client.request(cluster, &headers.unwrap_or_default(), &payload, budget).map_err(failure)?;
        conn.asked.insert(request, id);
        drop(conn);
        self.commands.lock().unwrap().insert(id, (shared.clone(), request));
        if let Some(ms) = timeout {
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(ms + 1000)); // 5.2: a clock of one's own, a little later
                shared.lock().unwrap().end(request, Err(Error(1, "the node is silent".into())));
            });
        }
        Ok(())
    }

    /// Runs a command: what waits has a thread.
    fn run(self: Arc<Self>, id: u64, op: &str, command: Value) {
        let failed = move |error| answer(id, Err(error));
        match op {
            "info" => say(json!({"id": id, "ok": {"name": "iris-rust-client", "version": env!("CARGO_PKG_VERSION"),
                "language": "Rust", "protocol": [1], "features": ["request", "cancel", "headers"]}})),
            "connect" => drop(thread::spawn(move || self.attach(id, &command).unwrap_or_else(failed))),
            "request" => self.ask(id, &command).unwrap_or_else(failed),
            "cancel" => {
                let asked = self.commands.lock().unwrap().remove(&command["command"].as_u64().unwrap_or(0));
                asked.into_iter().for_each(|(conn, id)| conn.lock().unwrap().end(id, Err(Error(6, String::new()))));
                answer(id, Ok(json!({})));
            }
            "close" => drop(thread::spawn(move || {
                let closed = self.conn(&command).map(|conn| conn.lock().unwrap().client.close(iris::CLOSED));
                answer(id, closed.map(|_| json!({})));
            })),
            _ => failed(("unsupported", op.into())),
        }
    }
}

fn main() {
    let subject = Arc::new(Subject::default());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let command: Value = serde_json::from_str(&line).unwrap_or_default();
        match (command["id"].as_u64(), command["op"].as_str().map(String::from)) {
            (Some(id), Some(op)) => subject.clone().run(id, &op, command),
            (id, _) => answer(id.unwrap_or(0), Err(bad("no command"))),
        }
    }
    let conns = subject.conns.lock().unwrap();
    let close = |conn: &Mutex<Conn>| drop(conn.lock().unwrap().client.close(iris::CLOSED));
    thread::scope(|threads| conns.values().for_each(|conn| drop(threads.spawn(|| close(conn)))));
}

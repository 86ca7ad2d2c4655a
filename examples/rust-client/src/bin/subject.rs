//! The conformance subject: `conformance/docs/subject.md`. It can what the client can: ask and serve requests.
use base64::{Engine, engine::general_purpose::STANDARD};
use iris::{Client, Error, Event, Headers, Outcome};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::{thread, time::Duration};

type Failure = (String, String); // the name of the error, and its text
type Answer = Result<Value, Failure>;

#[derive(Default)]
struct Subject {
    conns: Mutex<HashMap<String, Arc<Client>>>,
    asked: Mutex<HashMap<u64, (Arc<Client>, u64)>>, // commands that are requests
}

/// Tells what a connection is told. A request is named after its connection, which is new each time, and its id.
fn tell(conn: String, client: Arc<Client>, events: mpsc::Receiver<Event>) {
    for event in events {
        match event {
            Event::Request(id, budget, headers, payload) => say(json!({"notice": "request", "conn": conn,
                "request": format!("{id} {conn}"), "payload": STANDARD.encode(&payload), "headers": headers,
                "budget_ms": Some(budget).filter(|budget| *budget < u32::MAX.into())})),
            Event::Cancelled(id) => {
                say(json!({"notice": "cancelled", "request": format!("{id} {conn}")}));
                client.reply(id, Err("cancelled".into()));
            }
            Event::Ended(why) => say(json!({"notice": "dropped", "conn": conn, "text": why.1})),
        }
    }
}

fn say(line: Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|_| out.flush());
}

fn answer(id: u64, outcome: Answer) {
    say(outcome.map_or_else(|(e, text)| json!({"id": id, "error": e, "text": text}), |ok| json!({"id": id, "ok": ok})));
}

fn failure(Error(code, text): Error) -> Failure {
    let names = "ok timeout no-service overloaded lost failed cancelled closing invalid - - - - - - - version feature \
        name limit not-ready";
    let name = match code {
        0..=20 => names.split(' ').nth(code as usize).unwrap_or("other"),
        21..=31 => "not-ready", // 7.2
        32..=34 => "protocol",
        iris::TOO_LARGE => "too-large",
        iris::CLOSED => "closed",
        iris::NO_NODE => "no-node",
        _ => "other",
    };
    (name.into(), text)
}

fn bad(text: &str) -> Failure {
    ("bad-command".into(), text.into())
}

fn string<'a>(command: &'a Value, field: &str) -> Result<&'a str, Failure> {
    command[field].as_str().ok_or(bad(&format!("{field} is missing")))
}

fn message(command: &Value) -> Result<(Headers, Vec<u8>), Failure> {
    let payload = STANDARD.decode(string(command, "payload")?).or(Err(bad("payload")))?;
    let headers: Option<Headers> = serde_json::from_value(command["headers"].clone()).or(Err(bad("headers")))?;
    Ok((headers.unwrap_or_default(), payload))
}

impl Subject {
    fn conn(&self, command: &Value) -> Result<Arc<Client>, Failure> {
        let conns = self.conns.lock().unwrap();
        conns.get(string(command, "conn")?).cloned().ok_or(("other".into(), "no such conn".into()))
    }

    fn attach(self: &Arc<Self>, command: &Value) -> Answer {
        let cluster = command["cluster"].as_str().map_or("", |cluster| cluster);
        let (conn, port) = (string(command, "conn")?, command["port"].as_u64().ok_or(bad("port"))?);
        let limit = |name: &str| command["limits"][name].as_u64();
        let credit = limit("requests").map_or(1024, |requests| requests + limit("queue").unwrap_or(0));
        let (client, events) = Client::attach(port as u16, cluster, credit as u32).map_err(failure)?;
        self.conns.lock().unwrap().insert(conn.into(), client.clone());
        let conn = conn.to_string();
        thread::spawn(move || tell(conn, client, events));
        Ok(json!({}))
    }

    /// Writes the request at once, so that commands begin in their order.
    fn ask(&self, id: u64, command: &Value) -> Result<impl FnOnce() -> Outcome + use<>, Failure> {
        let (client, (headers, payload)) = (self.conn(command)?, message(command)?);
        let timeout = command["timeout_ms"].as_u64().map(Duration::from_millis);
        let cluster = string(command, "cluster")?;
        let (request, outcome) = client.request(cluster, &headers, &payload, timeout).map_err(failure)?;
        self.asked.lock().unwrap().insert(id, (client.clone(), request));
        Ok(move || client.wait(request, outcome, timeout))
    }

    fn reply(&self, command: &Value) -> Answer {
        let result = if let Some(text) = command["error"].as_str() { Err(text.into()) } else { Ok(message(command)?) };
        let (request, conn) = string(command, "request")?.split_once(' ').ok_or(bad("request"))?;
        self.conn(&json!({"conn": conn}))?.reply(request.parse().or(Err(bad("request")))?, result);
        Ok(json!({}))
    }

    /// Runs a command: what waits has a thread.
    fn run(self: Arc<Self>, id: u64, op: &str, command: Value) {
        match op {
            "info" => say(json!({"id": id, "ok": {"name": "iris-rust-client", "version": env!("CARGO_PKG_VERSION"),
                "language": "Rust", "protocol": [1], "features": ["request", "service", "cancel", "headers"]}})),
            "connect" | "register" => drop(thread::spawn(move || answer(id, self.attach(&command)))),
            "request" => match self.ask(id, &command) {
                Err(error) => answer(id, Err(error)),
                Ok(wait) => drop(thread::spawn(move || {
                    let reply = wait().map_err(failure);
                    self.asked.lock().unwrap().remove(&id);
                    answer(id, reply.map(|(h, p)| json!({"headers": h, "payload": STANDARD.encode(p)})));
                })),
            },
            "cancel" => {
                let asked = self.asked.lock().unwrap().get(&command["command"].as_u64().unwrap_or(0)).cloned();
                asked.iter().for_each(|(client, request)| client.cancel(*request));
                answer(id, Ok(json!({})));
            }
            "reply" => answer(id, self.reply(&command)),
            "close" => drop(thread::spawn(move || {
                answer(id, self.conn(&command).map(|client| client.close()).map(|_| json!({})));
            })),
            _ => answer(id, Err(("unsupported".into(), op.into()))),
        }
    }
}

fn main() {
    let subject = Arc::new(Subject::default());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let command: Value = serde_json::from_str(&line).unwrap_or_default();
        let id = command["id"].as_u64();
        match (id, command["op"].as_str().map(String::from)) {
            (Some(id), Some(op)) => subject.clone().run(id, &op, command),
            _ => answer(id.unwrap_or(0), Err(bad("no command"))),
        }
    }
    let conns: Vec<_> = subject.conns.lock().unwrap().drain().collect();
    let closing: Vec<_> = conns.into_iter().map(|(_, client)| thread::spawn(move || client.close())).collect();
    closing.into_iter().for_each(|thread| drop(thread.join()));
    std::process::exit(0); // whatever handlers still wait for
}

//! The conformance subject: `conformance/docs/subject.md`. It can what the client can: ask and serve requests.
use base64::{Engine, engine::general_purpose::STANDARD};
use iris::{Client, Error, Handler, Headers, Pending, Reply, Request};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering::Relaxed, mpsc};
use std::{thread, time::Duration};

type Failure = (String, String); // the name of the error, and its text
type Outcome = Result<Value, Failure>;

#[derive(Default)]
struct Subject {
    conns: Mutex<HashMap<String, Arc<Client>>>,
    asked: Mutex<HashMap<u64, (Arc<Client>, u64)>>, // commands that are requests
    serving: Mutex<HashMap<String, mpsc::Sender<Result<Reply, String>>>>,
    requests: AtomicU64,
}

/// The handler of a connection: it tells, and returns what `reply` says.
struct Teller(Arc<Subject>, String);

impl Handler for Teller {
    fn request(&self, request: Request) -> Result<Reply, String> {
        let Teller(subject, conn) = self;
        let name = subject.requests.fetch_add(1, Relaxed).to_string();
        let (sender, replies) = mpsc::channel();
        subject.serving.lock().unwrap().insert(name.clone(), sender.clone());
        say(json!({"notice": "request", "conn": conn, "request": name, "payload": STANDARD.encode(&request.payload),
            "headers": request.headers, "budget_ms": request.budget.map(|budget| budget.as_millis() as u64)}));
        thread::spawn(move || {
            if request.cancelled.recv().is_ok() {
                say(json!({"notice": "cancelled", "request": name}));
                let _ = sender.send(Err("cancelled".into()));
            }
        });
        replies.recv().unwrap()
    }

    fn lost(&self, why: &Error) {
        say(json!({"notice": "dropped", "conn": self.1, "text": why.to_string()}));
    }
}

fn say(line: Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|_| out.flush());
}

fn answer(id: u64, outcome: Outcome) {
    say(outcome.map_or_else(|(e, text)| json!({"id": id, "error": e, "text": text}), |ok| json!({"id": id, "ok": ok})));
}

/// A text of `failed` is the other side's and nothing else.
fn failure(error: Error) -> Failure {
    let text = if let Error::Code(iris::FAILED, text) = &error { text.clone() } else { error.to_string() };
    (error.name().into(), text)
}

fn bad(text: &str) -> Failure {
    ("bad-command".into(), text.into())
}

fn string<'a>(command: &'a Value, field: &str) -> Result<&'a str, Failure> {
    command[field].as_str().ok_or(bad(&format!("{field} is missing")))
}

fn message(command: &Value) -> Result<Reply, Failure> {
    let payload = STANDARD.decode(string(command, "payload")?).or(Err(bad("payload")))?;
    let headers: Option<Headers> = serde_json::from_value(command["headers"].clone()).or(Err(bad("headers")))?;
    Ok((headers.unwrap_or_default(), payload))
}

impl Subject {
    fn conn(&self, command: &Value) -> Result<Arc<Client>, Failure> {
        let conns = self.conns.lock().unwrap();
        conns.get(string(command, "conn")?).cloned().ok_or(("other".into(), "no such conn".into()))
    }

    fn attach(self: &Arc<Self>, command: &Value) -> Outcome {
        let (cluster, credit) = command["cluster"].as_str().map_or(("", 0), |cluster| (cluster, 16));
        let (conn, port) = (string(command, "conn")?, command["port"].as_u64().ok_or(bad("port"))?);
        let teller = Teller(self.clone(), conn.into());
        let client = Client::attach(port as u16, cluster, credit, teller).map_err(failure)?;
        self.conns.lock().unwrap().insert(conn.into(), Arc::new(client));
        Ok(json!({}))
    }

    /// Writes the request at once, so that commands begin in their order.
    fn ask(&self, id: u64, command: &Value) -> Result<Pending, Failure> {
        let (client, (headers, payload)) = (self.conn(command)?, message(command)?);
        let timeout = command["timeout_ms"].as_u64().map(Duration::from_millis);
        let pending = client.start(string(command, "cluster")?, &headers, &payload, timeout).map_err(failure)?;
        self.asked.lock().unwrap().insert(id, (client, pending.1));
        Ok(pending)
    }

    fn reply(&self, command: &Value) -> Outcome {
        let result = if let Some(text) = command["error"].as_str() { Err(text.into()) } else { Ok(message(command)?) };
        let serving = self.serving.lock().unwrap();
        let to = serving.get(string(command, "request")?).ok_or(("other".into(), "no such request".into()))?;
        let _ = to.send(result); // nobody listens when it was cancelled
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
                Ok(pending) => drop(thread::spawn(move || {
                    let reply = pending.wait().map_err(failure);
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

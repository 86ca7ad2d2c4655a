//! Plays a node that sends what the vectors of `spec/vectors` call wrong: the client answers with the bye they name.
use iris::{Client, Error, Handler, MALFORMED, Reply, Request, TOO_LARGE, UNEXPECTED};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::{sync::mpsc, thread, time::Duration};

const WELCOME: &str = "c4 06 95 01 01 80 80 90";

/// Tells why the connection has ended.
struct Ends(mpsc::Sender<Error>);

impl Handler for Ends {
    fn request(&self, _: Request) -> Result<Reply, String> {
        Ok(Default::default())
    }

    fn lost(&self, why: &Error) {
        let _ = self.0.send(why.clone());
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// Sends this behind the hello, and gives why the client ended and the last bytes that it wrote.
fn play(cluster: &'static str, sent: Vec<u8>) -> (Error, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ends, why) = mpsc::channel();
    let client = thread::spawn(move || Client::attach(port, cluster, 1, Ends(ends)));
    let mut node = listener.accept().unwrap().0;
    node.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    node.write_all(&sent).unwrap();
    let mut got = Vec::new();
    node.read_to_end(&mut got).unwrap();
    drop(node);
    let client = client.join().unwrap();
    let why = client.err().unwrap_or_else(|| why.recv_timeout(Duration::from_secs(5)).unwrap());
    (why, got)
}

fn vectors(file: &str) -> Vec<serde_json::Value> {
    let path = format!("{}/../../spec/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn wrong_frames_are_answered_with_the_bye_that_the_vectors_name() {
    let mut played = 0;
    for vector in [vectors("malformed.json"), vectors("misplaced.json")].concat() {
        if vector["to"] == "node" {
            continue;
        }
        let welcome = if vector["state"] == "open" { bytes(WELCOME) } else { Vec::new() };
        let cluster = if vector["role"] == "service" { "upper" } else { "" };
        let (why, got) = play(cluster, [welcome, bytes(vector["hex"].as_str().unwrap())].concat());
        let want = match vector["code"].as_str().unwrap() {
            "malformed" => MALFORMED,
            "too-large" => TOO_LARGE,
            _ => UNEXPECTED,
        };
        let Error::Protocol(code, text) = why else { panic!("{vector}: {why}") };
        assert_eq!(code, want, "{vector}");
        assert!(got.ends_with(text.as_bytes()) && got.windows(3).any(|at| at == [0x93, 0x09, code]), "{vector}");
        played += 1;
    }
    assert!(played > 100, "{played}");
}

#[test]
fn what_ends_within_a_frame_is_broken_and_gets_no_bye() {
    for vector in vectors("incomplete.json") {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ends, why) = mpsc::channel();
        let client = thread::spawn(move || Client::attach(port, "", 0, Ends(ends)));
        let mut node = listener.accept().unwrap().0;
        node.write_all(&[bytes(WELCOME), bytes(vector["hex"].as_str().unwrap())].concat()).unwrap();
        let _client = client.join().unwrap().unwrap();
        node.shutdown(std::net::Shutdown::Write).unwrap();
        let why = why.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(matches!(why, Error::Code(iris::LOST, _)), "{vector}: {why}");
        let mut got = Vec::new();
        node.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), 14, "{vector}: only the hello"); // 2.1
    }
}

//! Asks a cluster: `hello CLUSTER [TEXT] [PORT]`.
use std::time::Duration;

fn show(error: iris::Error) -> String {
    format!("{error:?}")
}

fn main() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let cluster = args.next().ok_or("usage: hello CLUSTER [TEXT] [PORT]")?;
    let text = args.next().unwrap_or("hello".into());
    let port = args.next().map_or(Ok(55555), |port| port.parse()).or(Err("no port number"))?;

    let (client, _) = iris::Client::attach(port, "", 0).map_err(show)?;
    let timeout = Some(Duration::from_secs(1));
    let (id, outcome) = client.request(&cluster, &Default::default(), text.as_bytes(), timeout).map_err(show)?;
    let (_, payload) = client.wait(id, outcome, timeout).map_err(show)?;
    client.close();
    println!("{}", String::from_utf8_lossy(&payload));
    Ok(())
}

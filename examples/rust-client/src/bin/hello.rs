//! Asks a cluster: `hello CLUSTER [TEXT] [PORT]`.
use std::io::Write;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let cluster = args.next().ok_or("usage: hello CLUSTER [TEXT] [PORT]")?;
    let text = args.next().unwrap_or("hello".into());
    let port = args.next().unwrap_or("55555".into()).parse()?;

    let client = iris::Client::attach(port, "", 0, ())?;
    let (_, payload) = client.request(&cluster, text.as_bytes(), Some(Duration::from_secs(1)))?;
    std::io::stdout().write_all(&payload)?;
    println!();
    Ok(())
}

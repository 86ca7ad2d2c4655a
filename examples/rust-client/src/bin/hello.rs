//! Asks a cluster: `hello CLUSTER [TEXT] [PORT]`.
fn show(error: iris::Error) -> String {
    format!("{error:?}")
}

fn main() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let cluster = args.next().ok_or("usage: hello CLUSTER [TEXT] [PORT]")?;
    let text = args.next().unwrap_or("hello".into());
    let port = args.next().map_or(Ok(55555), |port| port.parse()).or(Err("no port number"))?;

    let (mut client, read) = iris::Client::attach(port).map_err(show)?;
    client.request(&cluster, &Default::default(), text.as_bytes(), 1000).map_err(show)?;
    let outcome = loop {
        if let Some((_, outcome)) = client.take(read()).map_err(show)? {
            break outcome; // the only one: nothing else was asked
        }
    };
    client.close(iris::CLOSED);
    println!("{}", String::from_utf8_lossy(&outcome.map_err(show)?.1));
    Ok(())
}

//! How do two programs share an interface, so that the client never sees the implementation?
//!
//! `guestbook`, the crate in `interface/`, has the trait and the types. `server` implements it; `client` uses the stub
//! that came with it. Run without arguments, this starts the server as a process of its own, and is the client.

mod client;
mod server;

use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => server::run().await,
        ["client", address] => client::run(address).await,
        [] => both().await,
        _ => Err("usage: shared-interface [server | client ADDRESS]".into()),
    }
}

async fn both() -> Result<(), Box<dyn std::error::Error>> {
    // The server ends when its input does, which is when this process is gone.
    let mut server = Command::new(std::env::current_exe()?);
    let mut server = server.arg("server").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = server.stdout.take().ok_or("the server has no output")?;
    let address = BufReader::new(output).lines().next_line().await?.ok_or("the server did not start")?;
    println!("the server is process {:?} at {address}", server.id());

    client::run(&address).await?;

    drop(server.stdin.take());
    println!("the server has ended: {}", server.wait().await?);
    Ok(())
}

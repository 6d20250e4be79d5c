//! Erlang's `erpc` between two nodes, where `erl` is installed.
//!
//! A fixed port instead of epmd, `dist_nodelay`, and nothing else: it needs no tuning. Both processes become `erl`, so
//! what is measured of them is measured of it. The work and its measurement are in `comparison.erl`.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::workload::Result;

pub const NAME: &str = "erpc";

/// It has one connection between two nodes (E), and no way to burn exactly as much as the others (I).
pub const SKIPS: &[&str] = &["E", "Eidle", "I", "Itask"];

const SOURCE: &str = include_str!("comparison.erl");

fn directory() -> PathBuf {
    std::env::temp_dir().join(format!("rmi-comparisons-{}", rustix::process::getuid().as_raw()))
}

/// Compiles Erlang's part.
///
/// # Errors
/// Why there is none.
pub fn prepare() -> Result<()> {
    let directory = directory();
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("comparison.erl"), SOURCE)?;
    let mut erlc = Command::new("erlc");
    erlc.current_dir(&directory).arg("comparison.erl").stdin(Stdio::null());
    match erlc.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stdout).into_owned().into()),
        Err(_) => Err("`erlc` is not installed".into()),
    }
}

fn erl(name: &str, port: u16) -> Command {
    let mut erl = Command::new("erl");
    erl.args(["-noinput", "-name", name, "-setcookie", "comparison", "-start_epmd", "false", "-connect_all", "false"]);
    erl.args(["-erl_epmd_port", &port.to_string(), "-kernel", "dist_nodelay", "true"]);
    erl.args(["-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-pa"]).arg(directory());
    erl
}

/// Becomes the server.
pub fn serve() -> Result<()> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    // The name carries the port to the client.
    Err(erl(&format!("server{port}@127.0.0.1"), port).args(["-s", "comparison", "server"]).exec().into())
}

/// Becomes the client, which prints its figures.
pub fn measure(workload: &str, address: &str, server_pid: &str, millis: &str) -> Result<()> {
    let port = address.strip_prefix("server").and_then(|rest| rest.split('@').next()).ok_or("not a server's name")?;
    let mut client = erl(&format!("client{}@127.0.0.1", std::process::id()), port.parse()?);
    client.args(["-dist_listen", "false", "-s", "comparison", "client"]);
    Err(client.args(["-extra", workload, address, server_pid, millis]).exec().into())
}

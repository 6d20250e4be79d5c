//! A network that is unplugged: no end, no reset, nothing.
//!
//! Two network namespaces with a cable between them, of which one end is taken down. The test starts itself once more in
//! one of the two, with a worker in the other. Only root may do that, so elsewhere it is skipped, and says so.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rmi::{Class, Kind, Node, Peer};

use crate::common::rounds;
use crate::within;
use crate::worker::{Ledger, Plan, WorkStub};

const INSIDE: &str = "RMI_TEST_INSIDE";

/// Two namespaces with a cable between them. They go when this is dropped.
#[derive(Debug)]
struct Cable {
    near: String,
    far: String,
}

fn ip(args: &[&str]) -> Output {
    Command::new("ip").args(args).output().unwrap_or_else(|error| panic!("there is no program `ip`: {error}"))
}

impl Cable {
    /// Lays it, or says why it cannot.
    fn lay() -> Result<Self, String> {
        let pid = std::process::id();
        let this = Self { near: format!("rmi-{pid}-near"), far: format!("rmi-{pid}-far") };
        let (near, far) = (&*this.near, &*this.far);
        for command in [
            &["netns", "add", near][..],
            &["netns", "add", far],
            &["link", "add", "near", "netns", near, "type", "veth", "peer", "name", "far", "netns", far],
            &["-n", near, "addr", "add", "10.231.0.1/30", "dev", "near"],
            &["-n", far, "addr", "add", "10.231.0.2/30", "dev", "far"],
            &["-n", near, "link", "set", "lo", "up"],
            &["-n", near, "link", "set", "near", "up"],
            &["-n", far, "link", "set", "far", "up"],
        ] {
            let output = ip(command);
            if !output.status.success() {
                return Err(format!("`ip {}`: {}", command.join(" "), String::from_utf8_lossy(&output.stderr).trim()));
            }
        }
        Ok(this)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            ip(&["netns", "del", namespace]);
        }
    }
}

#[test]
fn a_link_that_is_unplugged_is_noticed_and_deadlines_hold() {
    if let Ok(far) = std::env::var(INSIDE) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(within(120, inside(&far)));
    }
    if rounds(0, 1) == 0 {
        return println!("skipped: it takes 45 s, and runs where RMI_FULL is set");
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return println!("skipped: there is no program `ip`");
    }
    let cable = match Cable::lay() {
        Ok(cable) => cable,
        Err(error) => return println!("skipped: {error}"),
    };
    let test = std::env::current_exe().unwrap();
    let output = Command::new("ip")
        .args(["netns", "exec", &cable.near])
        .arg(test)
        .args(["--exact", "link_down::a_link_that_is_unplugged_is_noticed_and_deadlines_hold", "--nocapture"])
        .env(INSIDE, &cable.far)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches(" is down:").count(), 2, "it has not run");
}

/// The test, in the near namespace.
async fn inside(far: &str) {
    let ledger = Ledger::new();
    let plan = Plan {
        name: "far".to_owned(),
        listen: "tcp://10.231.0.2:0".to_owned(),
        seed: None,
        ledger: ledger.path(),
        starter: ["ip", "netns", "exec", far].map(str::to_owned).to_vec(),
    };
    let worker = tokio::task::spawn_blocking(move || plan.start()).await.unwrap();
    let caller = Node::builder().name("near").seed(worker.address.as_str()).danger_plaintext().start().await.unwrap();
    let peer = caller.peer("far").await.unwrap();
    for (key, end) in [(1, &["link", "set", "near"][..]), (2, &["-n", far, "link", "set", "far"])] {
        let stub = WorkStub::new(&peer);
        let before = tokio::spawn(stub.work(key * 100, u64::MAX >> 20).into_future());
        peer.ping().await.unwrap();
        assert!(ip(&[end, &["down"]].concat()).status.success());
        let down = Instant::now();
        let with_deadline = stub.work(key * 100 + 1, 0).with_timeout(Duration::from_secs(1));
        let with_deadline = tokio::spawn(async {
            let begun = Instant::now();
            (with_deadline.await.unwrap_err(), begun.elapsed())
        });
        let after = stub.work(key * 100 + 2, 0).send();
        let (error, took) = with_deadline.await.unwrap();
        assert_eq!((error.kind(), error.class()), (Kind::Timeout, Class::MaybeExecuted), "{error:?}");
        assert!((1000..=1250).contains(&took.as_millis()), "{took:?}");
        for error in [before.await.unwrap().unwrap_err(), after.await.unwrap_err()] {
            assert_eq!((error.kind(), error.class()), (Kind::ConnectionLost, Class::MaybeExecuted), "{error:?}");
        }
        let noticed = down.elapsed();
        assert!(noticed <= Duration::from_secs(21), "{noticed:?}");
        assert!(ip(&[end, &["up"]].concat()).status.success());
        let up = Instant::now();
        callable(&peer).await;
        let back = up.elapsed();
        println!(
            "{} is down: the deadline after {took:?}, noticed after {noticed:?}, back after {back:?}",
            end.join(" ")
        );
        assert!(back <= Duration::from_secs(5), "{back:?}");
    }
}

async fn callable(peer: &Peer) {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    while peer.ping().with_timeout(Duration::from_secs(1)).await.is_err() {
        look.tick().await;
    }
}

//! Can a program in another language call a node, and be called by it? `wire_client.py` is written after
//! `docs/wire.md`; here it talks to a real node.

#![cfg(feature = "net")]

use std::sync::Arc;
use std::time::Duration;

use rmi::{Blob, Node, Peer, args, rmi_node};
use tokio::process::Command;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

#[derive(Default)]
struct Demo {
    started: watch::Sender<u32>,
    dropped: watch::Sender<u32>,
    shut_down: Arc<Notify>,
}

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
enum MathError {
    #[error("cannot divide {dividend}")]
    DivisionByZero { dividend: i64, source: Zero },
}

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("the divisor is zero")]
struct Zero;

struct CountsItsDrop<'a>(&'a watch::Sender<u32>);

impl Drop for CountsItsDrop<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n += 1);
    }
}

#[rmi_node]
impl Demo {
    async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 {
        a + b
    }

    async fn div(&self, a: i64, b: i64) -> Result<i64, MathError> {
        a.checked_div(b).ok_or(MathError::DivisionByZero { dividend: a, source: Zero })
    }

    /// The bytes in reverse, so that none of them can be the caller's own.
    async fn blob(&self, blob: Blob) -> Blob {
        blob.iter().rev().copied().collect::<Vec<u8>>().into()
    }

    async fn text(&self, text: String) -> String {
        text
    }

    async fn slow(&self) {
        let _guard = CountsItsDrop(&self.dropped);
        self.started.send_modify(|n| *n += 1);
        std::future::pending().await
    }

    /// How often `slow` began, as soon as that is `at_least`.
    async fn started(&self, at_least: u32) -> u32 {
        reaches(&self.started, at_least).await
    }

    /// How often `slow` was dropped, as soon as that is `at_least`.
    async fn dropped(&self, at_least: u32) -> u32 {
        reaches(&self.dropped, at_least).await
    }

    async fn call_back(&self, caller: &Peer, name: &str) -> rmi::Result<String> {
        Ok(caller.invoke("Client.hello", args![name]).await?)
    }

    /// Answers only after the node has begun to shut down.
    async fn shut_down(&self) -> String {
        self.shut_down.notify_one();
        tokio::time::sleep(Duration::from_millis(300)).await;
        "done".to_owned()
    }
}

async fn reaches(count: &watch::Sender<u32>, at_least: u32) -> u32 {
    // It only ends with the sender, which is borrowed here.
    *count.subscribe().wait_for(|n| *n >= at_least).await.expect("the sender lives")
}

const LINES: &str = "\
name of the node: calc
Demo.add(1, 2): 3
Demo.add(1, b=2): 3
add(1): 2
Demo.div(1, 0): kind=1 cls=2 type='wire_client::MathError' message='cannot divide 1' chain=['the divisor is zero'] \
payload={'DivisionByZero': {'dividend': 1, 'source': []}} node='calc' method='Demo.div' retry_after=None via=None
kind, class, node, method: (1, 2, 'calc', 'Demo.div')
message, chain: ('cannot divide 1', ['the divisor is zero'])
payload: {'DivisionByZero': {'dividend': 1, 'source': []}}
Demo.sub(1): (33, 0, 'service `Demo` has no method `sub`')
Demo.blob: b'\\xad\\xde'
a long text came back: True
a large blob, too: True
Demo.started: 1
Demo.slow was cancelled: 49
Demo.dropped: 1
Demo.call_back: hello calc, from Python
Demo.shut_down: done
GOAWAY: [(0, 18446744073709551615), (0, 13)]
pings answered: 1
types of skipped frames: {1}
done
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_python_calls_and_is_called() {
    if std::env::var_os("RMI_SKIP_PYTHON").is_some() {
        return;
    }
    let has_msgpack = Command::new("python3").args(["-c", "import msgpack"]).output().await;
    assert!(
        has_msgpack.is_ok_and(|output| output.status.success()),
        "this test needs python3 and `pip install msgpack`; RMI_SKIP_PYTHON=1 skips it"
    );

    let shut_down = Arc::new(Notify::new());
    let demo = Demo { shut_down: Arc::clone(&shut_down), ..Demo::default() };
    let node = Node::builder().name("calc").listen("tcp://127.0.0.1:0").serve(demo).start().await.unwrap();
    let address = node.addresses()[0].to_string();
    let (host, port) = address.strip_prefix("tcp://").and_then(|address| address.rsplit_once(':')).unwrap();
    tokio::spawn(async move {
        shut_down.notified().await;
        node.shutdown(Duration::from_secs(10)).await;
    });

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire_client_demo.py");
    let output = Command::new("python3").args([script, host, port]).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(60), output).await.expect("the client ends within a minute").unwrap();
    let (lines, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{lines}\n{complaints}");
    assert_eq!(lines.lines().collect::<Vec<_>>(), LINES.lines().collect::<Vec<_>>());
}

//! Programs that are not async: `wait()` gives what `.await` gives, the errors as well.

use std::error::Error;
use std::time::Duration;

use rmi::{ConnectError, Node, StartError, connect, rmi_node};

#[derive(Clone)]
struct Greeter;

#[rmi_node]
impl Greeter {
    fn greet(&self) -> String {
        "hello".to_owned()
    }
}

#[test]
fn a_node_that_cannot_start_says_why() {
    let error = Node::builder().listen("tcp:/127.0.0.1").start().wait().unwrap_err();
    assert!(matches!(error, StartError::Address(_)), "{error}");
    let error = Node::builder().listen("tcp://192.0.2.1:5000").start().wait().unwrap_err();
    assert!(matches!(error, StartError::NotLocal { .. }), "{error}");
    let error = Node::builder().serve(Greeter).serve(Greeter).start().wait().unwrap_err();
    assert!(matches!(error, StartError::Serve(_)), "{error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = format!("tcp://{}", listener.local_addr().unwrap());
    let error = Node::builder().listen(&in_use).start().wait().unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
}

#[test]
fn a_client_that_cannot_connect_says_why() {
    let error = connect("tcp:/127.0.0.1").wait().unwrap_err();
    assert!(matches!(error, ConnectError::Start(StartError::Address(_))), "{error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = connect(&nobody).wait().unwrap_err();
    assert!(matches!(error, ConnectError::Failed { .. }) && error.source().is_some(), "{error}");
}

#[test]
fn a_node_is_started_called_and_shut_down() {
    let node = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(Greeter).start().wait().unwrap();
    let peer = connect(node.addresses().remove(0)).wait().unwrap();
    assert_eq!(GreeterStub::new(&peer).greet().wait().unwrap(), "hello");
    node.shutdown(Duration::from_secs(5)).wait();
}

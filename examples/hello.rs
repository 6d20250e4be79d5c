//! How do two nodes find and call each other? This is the program of the README.

use rmi::{Node, Peer, args, rmi_node, root_exc};
use std::time::Duration;

struct Calculator;

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
enum MathError {
    #[error("division by zero")]
    DivisionByZero,
}

#[rmi_node]
impl Calculator {
    /// Adds two integers.
    async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 {
        a + b
    }

    /// Divides, or raises.
    async fn div(&self, a: i64, b: i64) -> Result<i64, MathError> {
        a.checked_div(b).ok_or(MathError::DivisionByZero)
    }

    /// `caller` is the calling peer: given by the node, never sent.
    async fn greet(&self, caller: &Peer, name: &str) -> String {
        format!("hello {name}, from {}", caller.name())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(Calculator).start().await?;
    let client = Node::builder().name("client").listen("tcp://127.0.0.1:0").seeds(server.addresses()).start().await?;

    let peer = client.peer("server").await?; // waits until it is found (30 s unless told otherwise)

    // Typed, through the generated stub.
    let calculator = CalculatorStub::new(&peer);
    assert_eq!(calculator.add(1, Some(2)).with_timeout(Duration::from_secs(1)).await?, 3);
    println!("{}", calculator.greet("you").await?);

    // By name, with positional and keyword arguments.
    let sum: i64 = peer.invoke("Calculator.add", args![1, b = 2]).await?;
    let two: i64 = peer.invoke("add", args![1]).with_timeout(Duration::from_secs(1)).await?; // unique on that node
    println!("{sum} {two}");

    // A remote error is an `InvocationException`, raised from the error of the method.
    let error = calculator.div(1, 0).await.unwrap_err();
    println!("{error}: {}", root_exc(&error));
    assert!(matches!(error.cause(), Some(MathError::DivisionByZero)));
    assert!(matches!(root_exc(&error).downcast_ref(), Some(MathError::DivisionByZero)));
    Ok(())
}

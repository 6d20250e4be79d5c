//! How does a program call what it has no stub for? By name, as in Python, with what the node says about itself.

use rmi::{Node, Peer, Value, args, rmi_node};

struct Index;

#[rmi_node]
impl Index {
    /// Finds documents.
    async fn search(
        &self,
        query: &str,
        #[rmi(default = 10)] limit: usize,
        #[rmi(keyword, default)] tags: Vec<String>,
    ) -> Vec<String> {
        let found = (1..=3).map(|n| format!("{query} {n} {tags:?}"));
        found.take(limit).collect()
    }

    async fn stats(&self) -> Vec<(String, u64)> {
        vec![("documents".into(), 3), ("words".into(), 1204)]
    }
}

struct Clock;

#[rmi_node]
impl Clock {
    async fn stats(&self) -> u64 {
        7
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(Index).serve(Clock).start().await?;
    let client = Node::builder().name("client").seeds(server.addresses()).start().await?;
    let peer: Peer = client.peer("server").await?;

    println!("what it offers:");
    for service in peer.describe().await?.services {
        for method in service.methods {
            println!("  {}.{method}", service.name);
        }
    }

    println!("\ncalls, and the types that the caller wants:");
    let found: Vec<String> = peer.invoke("Index.search", args!["rust", limit = 1, tags = ["new"]]).await?;
    println!("  {found:?}");
    let found: Vec<String> = peer.invoke("search", args!["go", 2]).await?; // one service has it: the name will do
    println!("  {found:?}");
    let stats: Value = peer.invoke("Index.stats", args![]).await?; // any type at all
    println!("  {stats}, of which {} words", stats.as_array().map_or(0, <[Value]>::len));

    println!("\nwhat fits no method never reaches one, and the answer says why:");
    let wrong = [
        ("Index.search", args![]),
        ("Index.search", args!["x", 1, 2]),
        ("Index.search", args!["x", query = "y"]),
        ("Index.search", args!["x", limits = 1]),
        ("Index.search", args![1]),
        ("Index.serch", args!["x"]),
        ("stats", args![]),
    ];
    for (method, args) in wrong {
        match peer.invoke::<Value>(method, args).await {
            Ok(value) => println!("  {method} gave {value}"),
            Err(error) => println!("  {:?}: {}", error.kind(), rmi::root_exc(&error)),
        }
    }
    Ok(())
}

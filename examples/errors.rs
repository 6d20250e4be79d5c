//! What does a caller learn of an error two nodes away? Everything: what, where, on which way, and what to do next.

use rmi::{Node, Peer, args, rmi_node, root_exc};
use std::time::Duration;

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
enum StoreError {
    #[error("no page {0}")]
    NoPage(u32),
}

struct Store;

#[rmi_node]
impl Store {
    async fn read(&self, page: u32) -> Result<String, StoreError> {
        Err(StoreError::NoPage(page))
    }

    async fn slow(&self) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    async fn first(&self, pages: Vec<u32>) {
        println!("the first page is {}", pages[0]); // panics if there is none
    }
}

/// Stands between: it calls the store for its callers, and any error of it leaves by `?`.
struct Front {
    store: Peer,
}

#[rmi_node]
impl Front {
    async fn page(&self, page: u32) -> rmi::Result<String> {
        Ok(StoreStub::new(&self.store).read(page).await?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let c = Node::builder().name("c").listen("tcp://127.0.0.1:0").serve(Store).start().await?;
    let b = Node::builder().name("b").listen("tcp://127.0.0.1:0").seeds(c.addresses()).start().await?;
    b.serve(Front { store: b.peer("c").await? })?;
    let a = Node::builder().name("a").seeds(b.addresses()).seeds(c.addresses()).start().await?;
    let (front, store) = (a.peer("b").await?, a.peer("c").await?);

    println!("a calls c, and gets the method's error as its type:");
    if let Err(error) = StoreStub::new(&store).read(7).await {
        println!("{error:?}"); // `Display` is the first line, the others are its sources
        println!("typed: {:?}\n", error.cause());
    }

    println!("a calls b, b calls c: the whole way is told, and the type can still be had:");
    if let Err(error) = FrontStub::new(&front).page(8).await {
        println!("{error:?}");
        let decoded = error.remote().map(|remote| remote.decode::<StoreError>());
        println!("root: {}, decoded: {decoded:?}\n", root_exc(&error));
    }

    println!("and what is no error of the method says whether the method can have run:");
    let outcomes = [
        StoreStub::new(&store).slow().with_timeout(Duration::from_millis(50)).await,
        StoreStub::new(&store).first(vec![]).await,
        store.invoke("Store.reed", args![7]).await,
        store.invoke("Store.read", args!["seven"]).await,
    ];
    for error in outcomes.into_iter().filter_map(Result::err) {
        println!("{:?}, {}, safe to retry: {}", error.kind(), error.class(), error.is_safe_to_retry());
        println!("{error:?}\n");
    }
    Ok(())
}

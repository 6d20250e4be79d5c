//! The implementation, and the node that offers it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use guestbook::{Entry, Guestbook, SignError};
use rmi::{CallContext, Node, rmi_node};
use tokio::io::AsyncReadExt;

const MOST: usize = 40;

#[derive(Default)]
struct Book {
    entries: Mutex<Vec<Entry>>,
}

#[rmi_node]
impl Guestbook for Book {
    async fn sign(&self, context: &CallContext, text: &str) -> Result<usize, SignError> {
        match text.len() {
            0 => return Err(SignError::Empty),
            length if length > MOST => return Err(SignError::TooLong { length, most: MOST }),
            _ => {}
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry { author: context.caller_name().to_owned(), text: text.to_owned() });
        Ok(entries.len())
    }

    async fn last(&self, count: usize) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().rev().take(count).cloned().collect()
    }
}

/// Prints its address, and serves until its input ends.
pub(crate) async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().name("library").listen("tcp://127.0.0.1:0").serve(Book::default()).start().await?;
    for address in node.addresses() {
        println!("{address}");
    }
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    node.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

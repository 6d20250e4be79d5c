//! How does the called node call its caller, while the call is still running? Through the `Peer` that the method gets.

use rmi::{Node, Peer, rmi_node};
use std::sync::atomic::{AtomicU32, Ordering};

/// Lives on node `b`.
struct Copier;

#[rmi_node]
impl Copier {
    /// Tells its caller how far it is, and asks it before it overwrites anything.
    async fn copy(&self, caller: &Peer, files: Vec<String>) -> rmi::Result<u32> {
        let watcher = WatcherStub::new(caller);
        let mut n_copied = 0;
        for (idx, file) in files.iter().enumerate() {
            watcher.progress(idx, files.len()).await?;
            if !file.starts_with("old") || watcher.may_overwrite(file).await? {
                n_copied += 1;
            }
        }
        Ok(n_copied)
    }
}

/// Lives on node `a`, which does not even listen: the calls go back on the connection that it has made.
#[derive(Default)]
struct Watcher {
    n_questions: AtomicU32,
}

#[rmi_node]
impl Watcher {
    async fn progress(&self, caller: &Peer, done: usize, of: usize) {
        println!("a: {} has done {done} of {of}", caller.name());
    }

    async fn may_overwrite(&self, file: &str) -> bool {
        let may = self.n_questions.fetch_add(1, Ordering::Relaxed) == 0;
        println!("a: may {file} be overwritten? {may}");
        may
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let b = Node::builder().name("b").listen("tcp://127.0.0.1:0").serve(Copier).start().await?;
    let a = Node::builder().name("a").seeds(b.addresses()).serve(Watcher::default()).start().await?;
    let copier = CopierStub::new(&a.peer("b").await?);

    let files = ["new 1", "old 1", "old 2"].map(String::from).to_vec();
    let n_copied = copier.copy(files).await?;
    println!("a: b has copied {n_copied} files");
    Ok(())
}

//! What a worker offers, and its process.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use rmi::{Blob, Limits, Node, rmi_node};
use serde::{Deserialize, Serialize};

use crate::AnyError;
use crate::text::{self, Counts, TextError};

/// The type of the workers' nodes.
pub(crate) const WORKER: &str = "worker";

/// A file, or a part of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Piece {
    /// Where to read it.
    At { path: PathBuf, range: Range<u64> },
    /// The text itself, which begins at this byte of its file.
    Text { begin: u64, text: Blob },
}

pub(crate) struct WordCounter;

#[rmi_node]
impl WordCounter {
    /// Waits until this worker is connected to `n_peers` others, and tells their names.
    pub(crate) async fn meet(&self, node: &Node, n_peers: usize) -> rmi::Result<Vec<String>> {
        let peers = node.peers().wait_for(move |peers| peers.connected() >= n_peers).await?;
        Ok(peers.iter().map(|peer| peer.name().to_owned()).collect())
    }

    /// Counts the words of some pieces together; the first that is not text is raised.
    #[rmi(cpu, idempotent)]
    pub(crate) fn count(&self, pieces: Vec<Piece>) -> Result<Counts, TextError> {
        let mut counts = Counts::new();
        for piece in pieces {
            match piece {
                Piece::At { path, range } => {
                    let (begin, bytes) = text::read_part(&path, &range)?;
                    text::count(begin, &bytes, &mut counts)?;
                }
                Piece::Text { begin, text } => text::count(begin, &text, &mut counts)?,
            }
        }
        Ok(counts)
    }
}

/// The whole life of a worker's process.
pub(crate) async fn run(name: String, seed: String) -> Result<(), AnyError> {
    let _node = Node::builder()
        .name(name)
        .node_type(WORKER)
        .listen("tcp://127.0.0.1:0")
        .seed(seed)
        // One core for each worker: more cores are used by more workers.
        .limits(Limits::default().with_compute_threads(1))
        .serve(WordCounter)
        .start()
        .await?;
    // The coordinator holds the other end of this pipe and never writes. However it ends, the system closes the pipe.
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    // Not by returning: that would wait for files that nobody wants counted any more.
    std::process::exit(0);
}

//! What a worker offers, and its process.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use rmi::{Blob, Limits, Node, rmi_node};
use serde::{Deserialize, Serialize};

use crate::AnyError;
use crate::text::{self, Counts, TextError};

/// A file, or a part of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Piece {
    /// Where to read it.
    At { path: PathBuf, range: Range<u64> },
    /// The text itself, which begins at this byte of its file.
    Text { begin: u64, text: Blob },
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) counts: Counts,
    /// The positions of the pieces that are not in `counts`.
    pub(crate) left_out: Vec<usize>,
}

pub(crate) struct WordCounter;

#[rmi_node]
impl WordCounter {
    /// Waits until this worker is connected to `n_peers` others, and tells their names.
    pub(crate) async fn meet(&self, node: &Node, n_peers: usize) -> rmi::Result<Vec<String>> {
        let peers = node.peers().wait_for(move |peers| peers.connected() >= n_peers).await?;
        Ok(peers.iter().map(|peer| peer.name().to_owned()).collect())
    }

    /// Counts the words of a piece.
    #[rmi(cpu, idempotent)]
    pub(crate) fn count(&self, piece: Piece) -> Result<Counts, TextError> {
        let mut counts = Counts::new();
        piece.count(&mut counts)?;
        Ok(counts)
    }

    /// Counts the words of many small pieces together. Those that cannot be counted are left out: `count` says why.
    #[rmi(cpu, idempotent)]
    pub(crate) fn count_all(&self, pieces: Vec<Piece>) -> Counted {
        let mut counted = Counted::default();
        for (piece_idx, piece) in pieces.into_iter().enumerate() {
            if piece.count(&mut counted.counts).is_err() {
                counted.left_out.push(piece_idx);
            }
        }
        counted
    }
}

impl Piece {
    fn count(self, counts: &mut Counts) -> Result<(), TextError> {
        match self {
            Self::At { path, range } => {
                let (begin, bytes) = text::read_part(&path, &range)?;
                text::count(begin, &bytes, counts)
            }
            Self::Text { begin, text } => text::count(begin, &text, counts),
        }
    }
}

/// The whole life of a worker's process.
pub(crate) async fn run(name: String, seed: String) -> Result<(), AnyError> {
    let _node = Node::builder()
        .name(name)
        .node_type("worker")
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

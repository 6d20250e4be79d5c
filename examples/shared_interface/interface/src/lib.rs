//! What both sides know: the interface, the types that travel, and nothing of how it is done.

use rmi::{CallContext, rmi_node};
use serde::{Deserialize, Serialize};

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SignError {
    /// It says nothing.
    #[error("the entry is empty")]
    Empty,
    /// It says too much.
    #[error("the entry has {length} bytes and may have {most}")]
    TooLong {
        /// What it has.
        length: usize,
        /// What it may have.
        most: usize,
    },
}

/// An entry in the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who wrote it.
    pub author: String,
    /// What it says.
    pub text: String,
}

/// A book in which callers write.
#[rmi_node]
pub trait Guestbook {
    /// Adds an entry in the name of the caller, and gives its number.
    async fn sign(&self, context: &CallContext, text: &str) -> Result<usize, SignError>;

    /// The last entries, newest first.
    async fn last(&self, #[rmi(default = 3)] count: usize) -> Vec<Entry>;
}

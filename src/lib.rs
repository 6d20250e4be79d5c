//! Remote method invocation between Rust processes.

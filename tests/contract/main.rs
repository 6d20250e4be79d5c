//! What a caller may conclude of each end of a call, provoked, and proven by counting how often the method ran.
//!
//! A module for each class; [`table`] says which test holds which row of `docs/guarantees.md`.

#[path = "../common/mod.rs"]
mod common;
mod executed;
mod handed_on;
mod perhaps;
mod refused;
mod service;
mod table;
mod unsent;

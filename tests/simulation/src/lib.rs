//! Whole clusters of RMI nodes in virtual time, from a seed.
//!
//! A seed gives a [`plan`]: 2 to 16 nodes, calls of all kinds, and faults. [`run`](run::run) carries it out with turmoil:
//! each node is a whole one from the public API on a host of its own, with sockets, time and chance from the seam of
//! `rmi-net`. What happens is written into a [`ledger`]. In the end everything is healed, the cluster has to come to
//! rest, and the [`check`]s read the ledger.
//!
//! Two processes that run a seed give the same trace. Therefore nothing here, and nothing in the nodes, may depend on the order of
//! a hash map, on the system's clock or on its chance. Methods that run on threads are not called for the same reason.
//!
//! ```sh
//! cargo run --release -p rmi-simulation -- 1234        # one seed, with its trace
//! cargo run --release -p rmi-simulation -- 0..300      # many, on all cores
//! ```

pub mod check;
pub mod ledger;
pub mod net;
pub mod plan;
pub mod run;
mod service;

/// The command that repeats the run of a seed, and prints all that happens.
pub fn replay_command(seed: u64) -> String {
    format!("cargo run --release -p rmi-simulation -- {seed}")
}

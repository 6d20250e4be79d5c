//! What a call costs, piece by piece and as a whole.
//!
//! `cargo bench -p rmi-benches` times the pieces; `src/bin/speed.rs` runs the workloads of `docs/performance.md` between
//! two processes; `src/bin/instructions.rs` is what `benches/instructions.sh` counts the instructions of, and
//! `tests/allocations.rs` counts allocations.

pub mod clock;
pub mod process;
pub mod raw;
pub mod service;

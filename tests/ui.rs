//! What the compiler says of each misuse of `#[rmi_node]`, and that all that is meant to compile does.
//!
//! `TRYBUILD=overwrite cargo test --test ui` writes the expected messages anew.

use std::process::Command;

/// The messages are this compiler's; others word theirs differently.
const PINNED: &str = "rustc 1.95.";

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    if version.starts_with(PINNED.as_bytes()) {
        cases.compile_fail("tests/ui/fail/*.rs");
    } else {
        eprintln!("the compiler is not {PINNED}x, so its messages are not compared");
    }
}

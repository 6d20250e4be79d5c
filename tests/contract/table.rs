//! The contract as a table: what became of a call, whether its method ran, and the test that shows it.
//!
//! `docs/guarantees.md` has the same table; the tests here hold the two together, and both to the kinds that there are.

use std::path::{Path, PathBuf};

use rmi::{Class, Kind};

/// A way in which a call ends.
struct Row {
    /// The kind, or `Ok`.
    outcome: &'static str,
    class: Class,
    /// What the caller may conclude.
    conclusion: &'static str,
    /// `file::test`, in `tests/contract/`.
    test: &'static str,
}

const fn row(outcome: &'static str, class: Class, conclusion: &'static str, test: &'static str) -> Row {
    Row { outcome, class, conclusion, test }
}

use Class::{Executed, MaybeExecuted, NotExecuted};

const TABLE: &[Row] = &[
    row("Ok", Executed, "the method ran once and returned this", "executed.rs::returned"),
    row("Raised", Executed, "it ran once and returned this error", "executed.rs::raised"),
    row("Panicked", Executed, "it was started; its effects may be partial", "executed.rs::panicked"),
    row("ResponseTooLarge", Executed, "it ran; only its result did not get through", "executed.rs::response_too_large"),
    row("ResponseEncode", Executed, "it ran; only its result did not get through", "executed.rs::response_encode"),
    row("ResponseDecode", Executed, "it ran; only its result did not get through", "executed.rs::response_decode"),
    row("NotConnected", NotExecuted, "nobody to call, and no way to anybody", "unsent.rs::not_connected"),
    row(
        "ConnectFailed",
        NotExecuted,
        "the peer could not be dialled; the source says why",
        "unsent.rs::connect_failed_names_the_address_and_the_reason",
    ),
    row(
        "Overloaded",
        NotExecuted,
        "too many calls wait on this side",
        "unsent.rs::callers_wait_at_the_limit_of_calls_and_then_are_overloaded",
    ),
    row("RequestTooLarge", NotExecuted, "larger than one of the two ends takes", "unsent.rs::request_too_large"),
    row("RequestEncode", NotExecuted, "an argument could not be encoded", "unsent.rs::request_encode"),
    row("LocalShutdown", NotExecuted, "this node has been shut down", "unsent.rs::local_shutdown"),
    row("WouldBlock", NotExecuted, "`wait()` where one has to await", "unsent.rs::would_block"),
    row(
        "Timeout",
        NotExecuted,
        "the time was over in the queue",
        "unsent.rs::a_call_that_ends_in_the_queue_is_taken_back",
    ),
    row(
        "ConnectionLost",
        NotExecuted,
        "lost before the last byte was given to the system",
        "unsent.rs::a_request_that_did_not_leave_entirely_did_not_run",
    ),
    row("Busy", NotExecuted, "the peer is at a limit of calls or of memory", "refused.rs::busy"),
    row("NoSuchMethod", NotExecuted, "the peer has no such method", "refused.rs::no_such_method"),
    row("Denied", NotExecuted, "this caller may not call it", "refused.rs::denied"),
    row("BadArguments", NotExecuted, "they do not fit the method, or do not decode", "refused.rs::bad_arguments"),
    row("ExpiredOnArrival", NotExecuted, "the time was over when it came", "refused.rs::expired_on_arrival"),
    row("GoingAway", NotExecuted, "the peer shuts down, and had not accepted it", "refused.rs::going_away"),
    row("PeerRestarted", NotExecuted, "a pinned peer whose process is no more", "perhaps.rs::peer_restarted"),
    row("WouldBlock", MaybeExecuted, "the same, of a call that `send()` had started", "unsent.rs::would_block"),
    row("Timeout", MaybeExecuted, "no answer in time; the method was told to stop", "perhaps.rs::timeout"),
    row(
        "Cancelled",
        MaybeExecuted,
        "the peer's grace was over before the method",
        "perhaps.rs::cancelled_by_the_end_of_grace",
    ),
    row("ConnectionLost", MaybeExecuted, "the connection ended before the answer", "perhaps.rs::connection_lost"),
    row("PeerRestarted", MaybeExecuted, "another process has the place of the peer", "perhaps.rs::peer_restarted"),
    row(
        "Other",
        MaybeExecuted,
        "a kind of a later version: the class that came with it counts",
        "perhaps.rs::an_exception_of_an_unknown_kind_has_the_class_that_travelled",
    ),
];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of a test, if there is one: `path::name`, from the root of the repository.
fn find_test(root: &Path, test: &str) -> Option<String> {
    let (path, name) = test.rsplit_once("::")?;
    let source = std::fs::read_to_string(root.join(path)).ok()?;
    let at = source.find(&format!("fn {name}("))?;
    // Its attribute stands right above it, indented or not.
    let above = source[..at].lines().rev().take(4).any(|line| line.contains("test]") || line.contains("test("));
    let rest = &source[at..];
    above.then(|| rest[..rest.find("\n}\n").map_or(rest.len(), |end| end + 2)].to_owned())
}

#[test]
fn every_kind_has_a_row_and_every_row_a_test_that_provokes_it() {
    let known = Kind::ALL.iter().map(ToString::to_string).chain(["Other".to_owned(), "Ok".to_owned()]);
    let known: Vec<String> = known.collect();
    for kind in &known {
        assert!(TABLE.iter().any(|row| row.outcome == kind), "`{kind}` has no row: what may its caller conclude?");
    }
    for kind in Kind::ALL {
        let rows = || TABLE.iter().filter(|row| row.outcome == kind.to_string());
        let careful = if *kind == Kind::GoingAway { NotExecuted } else { kind.class() };
        assert!(rows().any(|row| row.class == careful), "no row of `{kind}` shows the class that it has by itself");
    }
    for Row { outcome, class, test, .. } in TABLE {
        assert!(known.iter().any(|kind| kind == outcome), "`{outcome}` is no kind");
        let text = find_test(&repository().join("tests/contract"), test);
        let text = text.unwrap_or_else(|| panic!("`{test}` is no test, and `{outcome}` ({class}) has no other"));
        if *outcome != "Ok" {
            assert!(text.contains(&format!("Kind::{outcome}")), "`{test}` does not look for `{outcome}`");
            let looks = text.contains(&format!("Class::{class:?}")) || text.contains("expected)");
            assert!(looks, "`{test}` does not look for the class {class:?}");
        }
    }
}

#[test]
fn the_guarantees_have_the_rows_of_the_table() {
    let document = read(&repository().join("docs/guarantees.md"));
    for Row { outcome, class, conclusion, test } in TABLE {
        let line = format!("| `{outcome}` | {class} | {conclusion} | `{test}` |");
        assert!(document.lines().any(|found| found == line), "docs/guarantees.md lacks\n{line}");
    }
    let rows = document.lines().skip_while(|line| !line.starts_with("| outcome |")).skip(2);
    let n_rows = rows.take_while(|line| line.starts_with('|')).count();
    assert_eq!(n_rows, TABLE.len(), "the table in docs/guarantees.md has rows that no test holds");
}

#[test]
fn every_test_that_the_guarantees_name_is_there() {
    let document = read(&repository().join("docs/guarantees.md"));
    let mut n_tests = 0;
    for named in document.split('`').skip(1).step_by(2).filter(|text| text.contains(".rs::")) {
        n_tests += 1;
        let whole = if named.contains('/') { named.to_owned() } else { format!("tests/contract/{named}") };
        let found = find_test(&repository(), &whole).is_some();
        assert!(found, "docs/guarantees.md names `{named}`, which is no test");
    }
    assert!(n_tests > TABLE.len(), "only {n_tests} tests are named");
}

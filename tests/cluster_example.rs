//! The main example keeps its promises: its totals are right, also with a worker killed, and no process is left behind.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The example as `cargo test` builds it. With `cargo test --test cluster_example` alone cargo does not.
fn cluster() -> Command {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("tests are in target/<profile>/deps");
    let example = profile.join("examples").join(format!("cluster{}", std::env::consts::EXE_SUFFIX));
    assert!(example.exists(), "{} is not there: run `cargo build --example cluster`", example.display());
    Command::new(example)
}

/// Runs it to its end, which it must reach well, and gives back what it says.
fn run(args: &[&str], path: &Path) -> (String, String) {
    let Output { status, stdout, stderr } =
        cluster().args(args).arg(path).stdin(Stdio::null()).output().expect("the example starts");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned());
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    for pid in worker_pids(stdout.lines()) {
        assert!(!is_alive(pid), "worker {pid} is left\n{stdout}\n{stderr}");
    }
    (stdout, stderr)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The numbers of the workers' processes, as the example prints them.
fn worker_pids<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u32> {
    lines.filter_map(|line| line.split_once("(process ")?.1.split_once(')')?.0.parse().ok()).collect()
}

/// Whether this process still runs, where that can be seen.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state comes behind the name of the program. One that has ended may wait for a parent to ask how.
    !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[test]
fn all_workers_meet_and_count_what_one_process_counts() {
    let (stdout, _) = run(&["--check", "--workers", "3"], repository());
    assert!(stdout.contains(" is connected to coordinator, worker-2, worker-3\n"), "{stdout}");
    assert!(stdout.contains("check: a single process counts the same"), "{stdout}");
}

#[test]
fn a_killed_worker_costs_nothing() {
    for args in [&["--check", "--kill-one"][..], &["--check", "--kill-one", "--send"]] {
        let (stdout, stderr) = run(args, repository());
        assert!(stderr.contains("killed worker-"), "{stderr}");
        assert!(stdout.contains("check: a single process counts the same"), "{stdout}");
    }
}

#[test]
fn without_workers_it_says_so() {
    let output = cluster().args(["--kill-one", "--workers", "1"]).output().expect("the example starts");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("error: all workers are gone"), "{stderr}");
}

#[test]
fn large_files_are_cut_and_what_is_not_text_is_told() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the folder for tests can be written");
    // Words and characters of all lengths, so that borders of parts fall into them.
    let text = "Straße ÅNGSTRÖM naïve 語 слово don't e\u{301}te 𝒳 İstanbul\n".repeat(5_000);
    let files: [(&str, &[u8]); 5] = [
        ("large", text.as_bytes()),
        ("small", b"one, two"),
        ("empty", b""),
        ("latin-1", b"caf\xe9"),
        ("large-and-cut", &text.as_bytes()[..text.len() - 3]),
    ];
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("the folder for tests can be written");
    }
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"no text is my na\xefe");
        fs::write(folder.join(name), "but I am").expect("the folder for tests can be written");
    }
    for args in [&["--check"][..], &["--check", "--send"]] {
        let (stdout, _) = run(args, &folder);
        assert!(stdout.contains("(1 could not be read as text)"), "{stdout}");
        assert!(
            stdout.contains("latin-1: invocation of `WordCounter.count` failed\n  caused by: raised on node `worker-")
        );
        assert!(stdout.contains("caused by: the file is not text\n  caused by: what begins at byte 3 is not UTF-8"));
        assert!(stdout.contains("check: a single process counts the same"), "{stdout}");
    }
    fs::remove_dir_all(&folder).expect("the folder for tests can be removed");
}

#[cfg(unix)]
#[test]
fn workers_end_when_the_coordinator_is_killed() {
    // Often enough that it is not ready before it is killed.
    let mut coordinator = cluster()
        .args(vec![repository(); 40])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    let stdout = BufReader::new(coordinator.stdout.take().expect("it is piped"));
    let mut stderr = BufReader::new(coordinator.stderr.take().expect("it is piped"));
    let lines: Vec<String> = stdout.lines().take(4).map(|line| line.expect("it is text")).collect();
    let pids = worker_pids(lines.iter().map(String::as_str));
    assert_eq!(pids.len(), 4, "{lines:?}");
    // The first quarter is done.
    let mut line = String::new();
    stderr.read_line(&mut line).expect("it is text");
    assert!(line.contains(" % of "), "{line}");

    coordinator.kill().expect("it can be killed");
    coordinator.wait().expect("it can be waited for");
    // The workers have the same standard error: it ends with the last of them.
    let (ended, has_ended) = mpsc::channel();
    thread::spawn(move || ended.send(stderr.read_to_end(&mut Vec::new())));
    has_ended.recv_timeout(Duration::from_secs(5)).expect("all workers have ended").expect("it can be read");
    // A process closes its files a moment before it is gone.
    while pids.iter().any(|pid| is_alive(*pid)) {
        thread::yield_now();
    }
}

//! What Linux knows of a process: its processor time and its memory.

use std::time::Duration;

use crate::workload::Result;

/// User and system time of all threads, also of those that have ended.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold spaces; after it come the fields from the third on.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/pid/stat")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().ok_or("/proc/pid/stat is short")?.parse()?) };
    Ok((ticks()? + ticks()?) / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory that the process has had.
pub fn peak_memory_kib(pid: u32) -> Result<f64> {
    status_kib(pid, "VmHWM:")
}

/// The memory of the process, once it no longer changes.
pub async fn settled_memory_kib(pid: u32) -> Result<f64> {
    let mut last = status_kib(pid, "VmRSS:")?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = status_kib(pid, "VmRSS:")?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

fn status_kib(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(field)).ok_or("a field of /proc/pid/status is missing")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// A thousand connections need more files than many systems allow at first.
pub fn raise_file_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

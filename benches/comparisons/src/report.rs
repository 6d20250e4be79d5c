//! Raw figures, tables and charts of a run.
//!
//! The raw figures are a CSV file from which everything else can be written again (`--report`). What is said of a figure
//! is its median, with its least and greatest value beside it where there is room.

mod medians;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

pub use self::medians::{Medians, Spread};
use crate::chart::{self, Panel};
use crate::gates;
use crate::runner::Regime;
use crate::systems::ALL;
use crate::workload::{Result, WORKLOADS};

/// One figure of one measurement.
#[derive(Debug, Clone)]
pub struct Sample {
    pub regime: Regime,
    pub workload: String,
    pub system: String,
    pub figure: String,
    pub round: usize,
    pub value: f64,
}

/// A figure worth a row.
#[derive(Debug)]
pub struct Row {
    pub workload: &'static str,
    pub figure: &'static str,
    pub title: &'static str,
    pub less_is_better: bool,
}

const fn less(workload: &'static str, figure: &'static str, title: &'static str) -> Row {
    Row { workload, figure, title, less_is_better: true }
}

const fn more(workload: &'static str, figure: &'static str, title: &'static str) -> Row {
    Row { workload, figure, title, less_is_better: false }
}

pub const ROWS: &[Row] = &[
    less("A", "p50_us", "A: one `add` in flight, p50 µs"),
    less("A", "p99_us", "A: one `add` in flight, p99 µs"),
    less("A", "cpu_us_per_call", "A: one `add` in flight, CPU µs per call"),
    more("B64", "calls_per_s", "B: 64 `add` in flight, calls/s"),
    less("B64", "cpu_us_per_call", "B/G: 64 in flight, CPU µs per call"),
    more("B1024", "calls_per_s", "B: 1,024 in flight, calls/s"),
    less("B1024", "cpu_us_per_call", "B/G: 1,024 in flight, CPU µs per call"),
    more("C", "calls_per_s", "C: records, 64 in flight, calls/s"),
    less("C", "cpu_us_per_call", "C: records, 64 in flight, CPU µs per call"),
    more("D1", "mib_per_s", "D: echo of 1 MiB, MiB/s"),
    less("D1", "cpu_us_per_call", "D: CPU µs per echo of 1 MiB"),
    more("D64", "mib_per_s", "D: echo of 64 MiB, MiB/s"),
    less("D64", "server_peak_mib", "D: server's peak memory at 64 MiB, MiB"),
    more("E", "calls_per_s", "E: 500 connections, calls/s"),
    less("E", "cpu_us_per_call", "E: 500 connections, CPU µs per call"),
    less("Eidle", "server_kib_per_connection", "E: server's memory per idle connection, KiB"),
    less("F", "small_p50_us", "F: `add` beside 16 MiB blobs, p50 µs"),
    less("F", "small_p99_us", "F: `add` beside 16 MiB blobs, p99 µs"),
    more("F", "bulk_mib_per_s", "F: the blobs meanwhile, MiB/s"),
    more("H", "calls_per_s", "H: nested, 64 in flight, calls/s"),
    less("H", "cpu_us_per_call", "H: CPU µs per nested call"),
    more("I", "burn_calls_per_s", "I: offloaded 1 ms methods, calls/s"),
    less("I", "small_p50_us", "I: `add` beside offloaded methods, p50 µs"),
    less("I", "small_p99_us", "I: `add` beside offloaded methods, p99 µs"),
    more("Itask", "burn_calls_per_s", "I: 1 ms inside of `async` methods, calls/s"),
    less("Itask", "small_p50_us", "I: `add` beside `async` methods, p50 µs"),
    less("Itask", "small_p99_us", "I: `add` beside `async` methods, p99 µs"),
];

/// Writes everything.
pub fn write(samples: &[Sample], machine: &str, out: &Path, insert_into: Option<&Path>) -> Result<()> {
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("raw.csv"), to_csv(samples, machine))?;
    let medians = Medians::of(samples);
    let details = details(&medians, machine);
    print!("{details}");
    std::fs::write(out.join("tables.md"), &details)?;
    let summary = summary(&medians, machine);
    if let Some(path) = insert_into {
        insert(path, &format!("{summary}{}", charts_beside(path, out)))?;
    }
    for regime in [Regime::OneCore, Regime::TwoCores].into_iter().filter(|&regime| medians.has(regime)) {
        let panels: Vec<Panel> = ROWS.iter().filter_map(|row| panel(&medians, regime, row)).collect();
        let name = format!("{}.svg", regime.name().replace(' ', "-"));
        std::fs::write(out.join(name), chart::draw(&panels, machine))?;
    }
    let chosen = [
        (Regime::OneCore, "A", "p50_us"),
        (Regime::OneCore, "B64", "calls_per_s"),
        (Regime::OneCore, "C", "cpu_us_per_call"),
        (Regime::TwoCores, "D1", "mib_per_s"),
        (Regime::TwoCores, "Eidle", "server_kib_per_connection"),
        (Regime::TwoCores, "F", "small_p99_us"),
    ];
    let chosen_panels: Vec<Panel> = chosen
        .into_iter()
        .filter_map(|(regime, workload, figure)| {
            let row = ROWS.iter().find(|row| (row.workload, row.figure) == (workload, figure))?;
            panel(&medians, regime, row)
        })
        .collect();
    std::fs::write(out.join("speed.svg"), chart::draw(&chosen_panels, machine))?;
    eprintln!("written: raw.csv, tables.md and charts in {}", out.display());
    Ok(())
}

fn panel(medians: &Medians, regime: Regime, row: &Row) -> Option<Panel> {
    let bars: Vec<_> = ALL
        .iter()
        .filter(|entry| entry.name != "raw")
        .filter_map(|entry| Some((entry.name.to_owned(), medians.get(regime, row.workload, entry.name, row.figure)?)))
        .collect();
    let raw = medians.get(regime, row.workload, "raw", row.figure).map(|spread| spread.median);
    let title = row.title.replace('`', "");
    (!bars.is_empty()).then(|| Panel { title, regime, bars, raw, less_is_better: row.less_is_better })
}

/// CPU, cores, memory, kernel and compiler, without anything that names the machine.
pub fn describe_machine(rounds: usize, window: Duration) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model.trim());
    let is_virtual = cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let meminfo = read("/proc/meminfo");
    let memory_kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let memory_kib: f64 =
        memory_kib.and_then(|kib| kib.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split(['-', '+']).next().unwrap_or_default();
    let rustc = std::process::Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let load = read("/proc/loadavg");
    format!(
        "{model}{}, {n_cores} cores, {:.0} GiB, Linux {kernel}, {}; loopback TCP; {rounds} rounds of {} s in turns; load average before: {}",
        if is_virtual { " (virtual machine)" } else { "" },
        memory_kib / 1024.0 / 1024.0,
        rustc.unwrap_or_else(|_| "rustc unknown".into()),
        window.as_secs_f64(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

fn to_csv(samples: &[Sample], machine: &str) -> String {
    let mut csv = format!("# {machine}\nregime,workload,system,figure,round,value\n");
    for Sample { regime, workload, system, figure, round, value } in samples {
        let _ = writeln!(csv, "{},{workload},{system},{figure},{round},{value:.4}", regime.name());
    }
    csv
}

/// The figures of an earlier run, and the machine on which it ran.
pub fn read_csv(path: &Path) -> Result<(Vec<Sample>, String)> {
    let text = std::fs::read_to_string(path)?;
    let (machine, rows) = text.split_once('\n').ok_or("no figures")?;
    let sample = |line: &str| -> Result<Sample> {
        let [regime, workload, system, figure, round, value] = line.split(',').collect::<Vec<_>>()[..] else {
            return Err(format!("not a figure: {line}").into());
        };
        Ok(Sample {
            regime: Regime::from_name(regime).ok_or("unknown regime")?,
            workload: workload.into(),
            system: system.into(),
            figure: figure.into(),
            round: round.parse()?,
            value: value.parse()?,
        })
    };
    Ok((rows.lines().skip(1).map(sample).collect::<Result<_>>()?, machine.trim_start_matches("# ").to_owned()))
}

/// Three digits that count, and a unit for thousands and millions.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    let (value, unit) = match value {
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.digits$}{unit}")
}

/// How many times worse than the bare socket; below 1 is better.
fn times_worse(row: &Row, value: f64, raw: f64) -> f64 {
    if row.less_is_better { value / raw } else { raw / value }
}

/// The tables of the documentation: a table for each regime, systems side by side, and the gates.
fn summary(medians: &Medians, machine: &str) -> String {
    let mut text = format!("{machine}.\n");
    for regime in [Regime::OneCore, Regime::TwoCores].into_iter().filter(|&regime| medians.has(regime)) {
        let systems: Vec<&str> =
            ALL.iter().map(|entry| entry.name).filter(|name| medians.has_system(regime, name)).collect();
        let _ = writeln!(text, "\n### {}\n", sentence(regime.name()));
        let _ = writeln!(text, "Medians; in brackets, how many times worse than `raw` (below 1: better).\n");
        let _ = writeln!(text, "| | {} |\n|---|{}", systems.join(" | "), "---|".repeat(systems.len()));
        for row in ROWS {
            let get = |name: &str| medians.get(regime, row.workload, name, row.figure);
            if systems.iter().all(|name| get(name).is_none()) {
                continue;
            }
            let raw = get("raw").map(|spread| spread.median);
            let cell = |name: &&str| match (get(name), raw) {
                (None, _) => "-".into(),
                (Some(spread), Some(raw)) if *name != "raw" => {
                    format!("{} ({})", short(spread.median), short(times_worse(row, spread.median, raw)))
                }
                (Some(spread), _) => short(spread.median),
            };
            let cells: Vec<String> = systems.iter().map(cell).collect();
            let _ = writeln!(text, "| {} | {} |", row.title, cells.join(" | "));
        }
    }
    let _ = writeln!(text, "\n### Goals\n\n{}", gates::table(medians));
    text
}

/// Everything: a table for each workload, with the least and the greatest value.
fn details(medians: &Medians, machine: &str) -> String {
    let mut text = format!("{machine}.\n");
    for regime in [Regime::OneCore, Regime::TwoCores].into_iter().filter(|&regime| medians.has(regime)) {
        let _ = writeln!(text, "\n# {}", sentence(regime.name()));
        for workload in WORKLOADS {
            let rows: Vec<&Row> = ROWS
                .iter()
                .filter(|row| row.workload == workload.id)
                .filter(|row| ALL.iter().any(|e| medians.get(regime, row.workload, e.name, row.figure).is_some()))
                .collect();
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n## {}: {}\n", workload.id, workload.what);
            let titles: Vec<String> = rows.iter().map(|row| row.figure.replace('_', " ")).collect();
            let heads: Vec<String> = titles.iter().map(|title| format!("{title} | x raw | x best peer")).collect();
            let _ = writeln!(text, "| | {} |\n|---|{}", heads.join(" | "), "---|".repeat(3 * rows.len()));
            for entry in ALL {
                if rows.iter().all(|row| medians.get(regime, row.workload, entry.name, row.figure).is_none()) {
                    continue;
                }
                let _ = write!(text, "| {} |", entry.name);
                for row in &rows {
                    let _ = write!(text, " {} |", detail_cells(medians, regime, row, entry.name));
                }
                text.push('\n');
            }
        }
    }
    let _ = writeln!(text, "\n# Goals\n\n{}", gates::table(medians));
    text
}

fn detail_cells(medians: &Medians, regime: Regime, row: &Row, system: &str) -> String {
    let Some(spread) = medians.get(regime, row.workload, system, row.figure) else { return "- | - | -".into() };
    let against = |other: Option<f64>| other.map_or("-".into(), |other| short(times_worse(row, spread.median, other)));
    let raw = medians.get(regime, row.workload, "raw", row.figure).map(|spread| spread.median);
    let best_peer = medians.best_peer(regime, row).map(|(_, value)| value);
    format!(
        "{} ({} to {}) | {} | {}",
        short(spread.median),
        short(spread.least),
        short(spread.greatest),
        against(raw),
        against(best_peer)
    )
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The charts, where they lie below the file that shows them.
fn charts_beside(path: &Path, out: &Path) -> String {
    let Some(below) = path.parent().and_then(|directory| out.strip_prefix(directory).ok()) else {
        return String::new();
    };
    let image = |name: &str| format!("![{name}]({}/{}.svg)\n", below.display(), name.replace(' ', "-"));
    format!("\n### Charts\n\n{}\n{}", image(Regime::OneCore.name()), image(Regime::TwoCores.name()))
}

/// Replaces what stands between the markers.
fn insert(path: &Path, tables: &str) -> Result<()> {
    const BEGIN: &str = "<!-- measured: begin -->\n";
    const END: &str = "<!-- measured: end -->";
    let text = std::fs::read_to_string(path)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{} has no markers", path.display()))?;
    std::fs::write(path, format!("{before}{BEGIN}{tables}{END}{after}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::workload;

    #[test]
    fn every_row_names_a_workload() {
        assert!(ROWS.iter().all(|row| workload(row.workload).is_some()));
    }

    #[test]
    fn what_was_written_as_csv_is_read_back() {
        let sample = Sample {
            regime: Regime::TwoCores,
            workload: "A".into(),
            system: "raw".into(),
            figure: "p50_us".into(),
            round: 2,
            value: 7.5,
        };
        let path = std::env::temp_dir().join(format!("comparisons-{}.csv", std::process::id()));
        std::fs::write(&path, to_csv(&[sample], "a machine")).expect("cannot write");
        let (samples, machine) = read_csv(&path).expect("cannot read");
        std::fs::remove_file(&path).expect("cannot remove");
        assert_eq!(machine, "a machine");
        assert_eq!((samples[0].regime, samples[0].round, samples[0].value), (Regime::TwoCores, 2, 7.5));
    }

    #[test]
    fn three_digits_count() {
        assert_eq!(
            [7.901, 48.51, 874.2, 9_999.0, 45_120.0, 1_910_000.0].map(short),
            ["7.90", "48.5", "874", "9999", "45.1k", "1.91M"]
        );
    }
}

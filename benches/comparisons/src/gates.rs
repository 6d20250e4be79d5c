//! What RMI has set itself as goals, and whether this run meets them.

use std::fmt::Write;

use crate::report::{Medians, ROWS, Row, short};
use crate::runner::Regime::{self, OneCore, TwoCores};

/// With whom RMI is compared.
#[derive(Clone, Copy)]
enum Other {
    Raw,
    BestPeer,
    System(&'static str),
    /// RMI's own figure on one core.
    OneCore,
    /// A fixed figure.
    Value(f64),
}

struct Gate {
    what: &'static str,
    regime: Regime,
    figure: (&'static str, &'static str),
    other: Other,
    /// For what should be little: at most this many times the other's. For what should be much: at least.
    factor: f64,
}

const fn gate(
    what: &'static str,
    regime: Regime,
    workload: &'static str,
    figure: &'static str,
    factor: f64,
    other: Other,
) -> Gate {
    Gate { what, regime, figure: (workload, figure), other, factor }
}

const GATES: &[Gate] = &[
    gate("A p50", OneCore, "A", "p50_us", 1.15, Other::Raw),
    gate("A p50", OneCore, "A", "p50_us", 0.75, Other::BestPeer),
    gate("A p50", TwoCores, "A", "p50_us", 1.10, Other::Raw),
    gate("B 64, CPU per call", OneCore, "B64", "cpu_us_per_call", 5.5, Other::Raw),
    gate("B 64, calls/s", OneCore, "B64", "calls_per_s", 7.0, Other::System("tarpc-bincode")),
    gate("B 1,024, calls/s", TwoCores, "B1024", "calls_per_s", 6.0, Other::BestPeer),
    gate("C, CPU per call", OneCore, "C", "cpu_us_per_call", 10.5, Other::Raw),
    gate("C, CPU per call", OneCore, "C", "cpu_us_per_call", 1.0 / 3.0, Other::BestPeer),
    gate("D 1 MiB, MiB/s", TwoCores, "D1", "mib_per_s", 1.0 / 1.2, Other::Raw),
    gate("D 1 MiB, MiB/s", TwoCores, "D1", "mib_per_s", 1.0, Other::BestPeer),
    gate("D 64 MiB, MiB/s", TwoCores, "D64", "mib_per_s", 1.0 / 1.7, Other::Raw),
    gate("D 64 MiB, MiB/s", TwoCores, "D64", "mib_per_s", 1.4, Other::BestPeer),
    gate("D 64 MiB, server's peak, MiB", TwoCores, "D64", "server_peak_mib", 1.0, Other::Value(72.0)),
    gate("E, calls/s", TwoCores, "E", "calls_per_s", 1.0 / 1.2, Other::Raw),
    gate("E, calls/s", TwoCores, "E", "calls_per_s", 1.5, Other::BestPeer),
    gate("E, KiB per idle connection", TwoCores, "Eidle", "server_kib_per_connection", 1.0, Other::Value(6.0)),
    gate("F, p99 of `add`", TwoCores, "F", "small_p99_us", 1.0, Other::Raw),
    gate("F, the blobs' MiB/s", TwoCores, "F", "bulk_mib_per_s", 0.7, Other::Raw),
    gate("H, calls/s", TwoCores, "H", "calls_per_s", 3.0, Other::BestPeer),
    gate("I, `cpu` methods, calls/s", TwoCores, "I", "burn_calls_per_s", 1.8, Other::OneCore),
    gate("I, p99 of `add` beside them, µs", TwoCores, "I", "small_p99_us", 1.0, Other::Value(5000.0)),
    gate("I, heavy `async` methods, calls/s", TwoCores, "Itask", "burn_calls_per_s", 1.8, Other::OneCore),
    gate("I, p99 of `add` beside them, µs", TwoCores, "Itask", "small_p99_us", 1.0, Other::Value(5000.0)),
];

/// All goals for which there are figures.
pub fn table(medians: &Medians) -> String {
    let mut text = "| | cores | goal | RMI | compared with | is | |\n|---|---|---|---|---|---|---|\n".to_owned();
    for gate in GATES {
        if let Some(line) = gate.line(medians) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

impl Gate {
    fn line(&self, medians: &Medians) -> Option<String> {
        let (workload, figure) = self.figure;
        let row: &Row = ROWS.iter().find(|row| (row.workload, row.figure) == self.figure)?;
        let get = |regime, system: &str| Some(medians.get(regime, workload, system, figure)?.median);
        let rmi = get(self.regime, "rmi")?;
        let (name, other) = match self.other {
            Other::Raw => ("raw".to_owned(), get(self.regime, "raw")?),
            Other::System(system) => (system.to_owned(), get(self.regime, system)?),
            Other::OneCore => ("one core".to_owned(), get(OneCore, "rmi")?),
            Other::Value(value) => (String::new(), value),
            Other::BestPeer => medians.best_peer(self.regime, row).map(|(name, value)| (name.to_owned(), value))?,
        };
        let is_met = if row.less_is_better { rmi <= self.factor * other } else { rmi >= self.factor * other };
        let sign = if row.less_is_better { "<=" } else { ">=" };
        let (goal, is) = match self.other {
            Other::Value(value) => (format!("{sign} {}", short(value)), short(rmi)),
            _ => {
                let best = if matches!(self.other, Other::BestPeer) { "the best peer" } else { &name };
                (format!("{sign} {:.2} x {best}", self.factor), format!("{:.2} x", rmi / other))
            }
        };
        let compared = if name.is_empty() { "-".into() } else { format!("{name}: {}", short(other)) };
        let cores = self.regime.name().split(' ').next().unwrap_or_default();
        let verdict = if is_met { "met" } else { "**missed**" };
        Some(format!("| {} | {cores} | {goal} | {} | {compared} | {is} | {verdict} |", self.what, short(rmi)))
    }
}

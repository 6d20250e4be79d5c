//! Runs everything, in turns: of each workload, each system's first round, then each one's second, and so on.
//!
//! What changes on the machine in the meantime changes all systems alike. A measurement is a server process and a client
//! process, both new, bound to the same cores by `taskset`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::report::{self, Sample};
use crate::systems::{ALL, Entry, erlang};
use crate::workload::{Result, WORKLOADS, Workload, workload};

/// Longer than any measurement takes.
const LONGEST: Duration = Duration::from_secs(40);

const HELP: &str = "\
Compares RMI with the bare socket and with other systems.

    --rounds N          how often each is measured (3)
    --seconds S         how long each measurement lasts, without its warm-up (0.5)
    --quick             one round of 0.2 s
    --systems A,B       only these
    --workloads A,B     only these
    --one-core          only the table of one core
    --two-cores         only the table of two cores
    --cores X,Y         which cores (0,1); the second is that of `one core`
    --out DIR           where the raw figures, tables and charts go (target/comparisons)
    --insert FILE       puts the tables into FILE too, between its markers
    --report CSV        measures nothing: tables and charts of an earlier run
    --list              what there is
";

/// Which cores the processes may use. Figures are compared only within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Regime {
    OneCore,
    TwoCores,
}

impl Regime {
    pub fn name(self) -> &'static str {
        match self {
            Self::OneCore => "one core",
            Self::TwoCores => "two cores",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::OneCore, Self::TwoCores].into_iter().find(|regime| regime.name() == name)
    }

    /// What says nothing on one core, or nothing new, is left out there.
    fn measures(self, workload: &Workload) -> bool {
        self == Self::TwoCores || !matches!(workload.id, "B1024" | "D64" | "E" | "Eidle")
    }

    /// How long it takes to wake another core varies most.
    fn repeats(self, workload: &Workload) -> usize {
        if self == Self::TwoCores && workload.id == "A" { 3 } else { 1 }
    }
}

struct Options {
    rounds: usize,
    window: Duration,
    systems: Vec<&'static Entry>,
    workloads: Vec<&'static Workload>,
    regimes: Vec<Regime>,
    cores: (String, String),
    out: PathBuf,
    insert: Option<PathBuf>,
    report: Option<PathBuf>,
}

pub fn run(arguments: &[&str]) -> Result<()> {
    let Some(mut options) = Options::parse(arguments)? else { return Ok(()) };
    if options.report.is_none()
        && options.systems.iter().any(|entry| entry.name == erlang::NAME)
        && let Err(error) = erlang::prepare()
    {
        eprintln!("{} is left out: {error}", erlang::NAME);
        options.systems.retain(|entry| entry.name != erlang::NAME);
    }
    let (samples, machine) = match &options.report {
        Some(csv) => report::read_csv(csv)?,
        None => {
            let machine = report::describe_machine(options.rounds, options.window);
            (measure_all(&options)?, machine)
        }
    };
    report::write(&samples, &machine, &options.out, options.insert.as_deref())
}

impl Options {
    /// Nothing if there is nothing more to do.
    fn parse(arguments: &[&str]) -> Result<Option<Self>> {
        let mut options = Self {
            rounds: 3,
            window: Duration::from_millis(500),
            systems: ALL.iter().collect(),
            workloads: WORKLOADS.iter().collect(),
            regimes: vec![Regime::OneCore, Regime::TwoCores],
            cores: ("0".into(), "1".into()),
            out: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/comparisons")),
            insert: None,
            report: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` needs a value"));
            match *argument {
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.window = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--quick" => (options.rounds, options.window) = (1, Duration::from_millis(200)),
                "--systems" => options.systems = value()?.split(',').map(entry).collect::<Result<_>>()?,
                "--workloads" => {
                    let find = |id| workload(id).ok_or_else(|| format!("there is no workload `{id}`").into());
                    options.workloads = value()?.split(',').map(find).collect::<Result<_>>()?;
                }
                "--one-core" => options.regimes = vec![Regime::OneCore],
                "--two-cores" => options.regimes = vec![Regime::TwoCores],
                "--cores" => {
                    let (first, second) = value()?.split_once(',').ok_or("`--cores` needs two, as in 0,1")?;
                    options.cores = (first.into(), second.into());
                }
                "--out" => options.out = value()?.into(),
                "--insert" => options.insert = Some(value()?.into()),
                "--report" => options.report = Some(value()?.into()),
                "--list" => {
                    ALL.iter().for_each(|entry| println!("{}", entry.name));
                    WORKLOADS.iter().for_each(|workload| println!("{}: {}", workload.id, workload.what));
                    return Ok(None);
                }
                "--help" => {
                    print!("{HELP}");
                    return Ok(None);
                }
                unknown => return Err(format!("`{unknown}` is no option\n\n{HELP}").into()),
            }
        }
        Ok(Some(options))
    }
}

fn entry(name: &str) -> Result<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name).ok_or_else(|| format!("there is no system `{name}` here").into())
}

fn measure_all(options: &Options) -> Result<Vec<Sample>> {
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut failures: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for &regime in &options.regimes {
        let cores = match regime {
            Regime::OneCore => options.cores.1.clone(),
            Regime::TwoCores => format!("{},{}", options.cores.0, options.cores.1),
        };
        for workload in options.workloads.iter().filter(|workload| regime.measures(workload)) {
            for round in 0..options.rounds * regime.repeats(workload) {
                for system in options.systems.iter().filter(|system| !system.skips.contains(&workload.id)) {
                    // What has failed twice will fail again.
                    if failures.get(&(system.name, workload.id)).is_some_and(|&n| n > 1) {
                        continue;
                    }
                    match measure_once(system.name, workload.id, &cores, options.window) {
                        Ok(figures) => samples.extend(figures.into_iter().map(|(figure, value)| Sample {
                            regime,
                            workload: workload.id.into(),
                            system: system.name.into(),
                            figure,
                            round,
                            value,
                        })),
                        Err(error) => {
                            *failures.entry((system.name, workload.id)).or_default() += 1;
                            eprintln!("{} {} {}: {error}", regime.name(), workload.id, system.name);
                        }
                    }
                }
            }
            eprintln!("{:>4} s  {}, {}: {}", began.elapsed().as_secs(), regime.name(), workload.id, workload.what);
        }
    }
    Ok(samples)
}

/// Ends with the measurement, whatever that ends with.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure_once(system: &str, workload: &str, cores: &str, window: Duration) -> Result<Vec<(String, f64)>> {
    let binary = std::env::current_exe()?;
    let start = |arguments: &[&str]| {
        let mut command = Command::new("taskset");
        command.args(["-c", cores]).arg(&binary).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    // `taskset` becomes the process that it starts, so the numbers are those of server and client.
    let mut server = Killed(start(&["server", system]).map_err(|error| format!("cannot start `taskset`: {error}"))?);
    let server_pid = server.0.id().to_string();
    let stdout = server.0.stdout.take().ok_or("no output")?;
    let line = within(LONGEST, move || {
        let mut line = String::new();
        let mut reader = BufReader::new(stdout);
        reader.read_line(&mut line).map(|_| (line, reader))
    })?;
    // The reader is kept: a server that prints into a closed pipe would fail.
    let (line, _reader) = line?;
    let Some(address) = line.trim().strip_prefix("ready ") else {
        return Err(format!("the server did not start: {}", rest(&mut server.0)).into());
    };

    let millis = window.as_millis().to_string();
    let mut client = Killed(start(&["client", system, workload, address, &server_pid, &millis])?);
    let mut stdout = client.0.stdout.take().ok_or("no output")?;
    let output = within(LONGEST, move || {
        let mut output = String::new();
        stdout.read_to_string(&mut output).map(|_| output)
    })??;
    if !client.0.wait()?.success() {
        let client_says = rest(&mut client.0);
        return Err(format!("{client_says}; the server: {}", rest(&mut server.0)).into());
    }
    let parse = |line: &str| -> Result<_> {
        let (name, value) = line.split_once(' ').ok_or("no value")?;
        Ok((name.to_owned(), value.parse()?))
    };
    output.lines().map(parse).collect()
}

/// Runs something that blocks, for so long at most.
fn within<T: Send + 'static>(longest: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || tx.send(work()));
    rx.recv_timeout(longest).map_err(|_| format!("nothing within {} s", longest.as_secs()).into())
}

/// The last line of a process's complaints. Ends the process.
fn rest(child: &mut Child) -> String {
    let mut text = String::new();
    let _ = child.kill();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut text);
    }
    text.lines().last().unwrap_or("no word").to_owned()
}

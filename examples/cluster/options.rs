//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::AnyError;

pub(crate) const USAGE: &str = "\
Counts the words of the text files below each PATH (default: this repository), on a cluster of worker processes.
Hidden files and folders, folders named `target` and symbolic links below a PATH are left out.

usage: cluster [OPTIONS] [PATH..]

  --workers N   how many worker processes to start (default: 4)
  --send        send the text itself to the workers, not only where they find it
  --check       count once more in this process, and fail if the totals differ
  --kill-one    kill one worker (SIGKILL) when half of the work is done
  --help        print this
";

/// What this process is to do.
pub(crate) enum Command {
    /// Start workers and give them the files.
    Count(Options),
    /// Be a worker: how the coordinator starts this program, not for people.
    Work {
        name: String,
        seed: String,
    },
    Help,
}

pub(crate) struct Options {
    pub(crate) n_workers: usize,
    pub(crate) sends_text: bool,
    pub(crate) checks: bool,
    pub(crate) kills_one: bool,
    pub(crate) paths: Vec<PathBuf>,
}

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, AnyError> {
    let mut args = args.into_iter();
    let mut options = Options { n_workers: 4, sends_text: false, checks: false, kills_one: false, paths: Vec::new() };
    while let Some(arg) = args.next() {
        let mut value = || {
            let value = args.next().and_then(|value| value.into_string().ok());
            value.ok_or_else(|| format!("{} needs a value", arg.display()))
        };
        match arg.to_str() {
            Some("--workers") => {
                let n_workers = value()?;
                options.n_workers =
                    n_workers.parse().map_err(|_| format!("`{n_workers}` is not a number of workers"))?;
            }
            Some("--send") => options.sends_text = true,
            Some("--check") => options.checks = true,
            Some("--kill-one") => options.kills_one = true,
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--be-worker") => return Ok(Command::Work { name: value()?, seed: value()? }),
            Some(option) if option.starts_with("--") => {
                return Err(format!("there is no option `{option}`\n{USAGE}").into());
            }
            _ => options.paths.push(arg.into()),
        }
    }
    if options.n_workers == 0 {
        return Err("it takes at least one worker".into());
    }
    if options.paths.is_empty() {
        options.paths.push(env!("CARGO_MANIFEST_DIR").into());
    }
    Ok(Command::Count(options))
}

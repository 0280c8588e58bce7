//! Benchmarks: compares the server with a baseline, the usual axum example of a live stream; with a
//! floor, which only writes; with nchan; and with another build of itself.
//!
//! They run as separate processes over loopback, restarted for every measurement, and take turns in
//! each run. The load uses the same processors, so delays are meaningful only in comparison;
//! processor time and memory are those of the server alone.

mod attacker;
mod contender;
mod crowd;
mod identity;
mod nginx;
mod noise;
mod parts;
mod process;
mod processes;
mod publisher;
mod reader;
mod table;
mod text;
mod transport;
mod transport_crowd;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, ValueEnum as _};

use self::{
    contender::Contender,
    parts::{Bench, Part},
    table::Table,
};

/// Compares the Tidings server with the usual axum example of a live stream, and with others.
#[derive(Parser)]
struct Options {
    /// What to measure; by default everything
    parts: Vec<Part>,

    /// The number of runs; the table has the medians, and in brackets the extremes
    #[arg(long, default_value = "5", value_name = "NUMBER")]
    runs: usize,

    /// Only check that the benchmarks work: one run, and a tenth of the size
    #[arg(long)]
    quick: bool,

    /// The folder for the data of the servers. For meaningful figures of publishing it must be on a
    /// disk; the default, the system's folder for temporary files, may be in memory
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,

    /// The server to measure, by default the one beside this program. Pass the baseline to see how
    /// much the figures vary by themselves
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,

    /// Another build of Tidings to compare with, such as an earlier release
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,

    /// The servers to measure, separated by commas; by default all that there are
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<Contender>,
}

fn main() -> ExitCode {
    let mut table = Table::default();
    let measured = run(Options::parse(), &mut table);
    if !table.is_empty() {
        println!("{table}");
    }
    for failure in table.failures() {
        println!("{failure}");
    }
    if let Err(error) = &measured {
        eprintln!("tidings-bench: {error:#}");
    }
    if measured.is_ok() && table.failures().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(options: Options, table: &mut Table) -> anyhow::Result<()> {
    ensure!(cfg!(target_os = "linux"), "the use of resources is read from /proc: this needs Linux");
    let executable = env::current_exe()?;
    let mut bench = Bench {
        executables: options.executables(&executable)?,
        folder: options.dir.unwrap_or_else(env::temp_dir),
        quick: options.quick,
        run: 0,
    };
    let mut parts = options.parts;
    if parts.is_empty() {
        parts = Part::value_variants().to_vec();
    }
    open_files_suffice(&parts, &bench)?;

    let cores = thread::available_parallelism().map_or(1, usize::from);
    let runs = if bench.quick { 1 } else { options.runs };
    eprintln!("{runs} runs on {cores} cores; data in {}", bench.folder.display());
    for part in parts {
        for run in 0..runs {
            bench.run = run;
            part.measure(&bench, table)?;
        }
    }
    Ok(())
}

impl Options {
    /// The contenders to measure, and their executables. Most are beside this program.
    fn executables(&self, program: &Path) -> anyhow::Result<Vec<(Contender, PathBuf)>> {
        let mut executables = Vec::new();
        for contender in Contender::ALL {
            if !self.only.is_empty() && !self.only.contains(&contender) {
                continue;
            }
            let (executable, advice) = match contender {
                Contender::Ours => {
                    let own = || program.with_file_name("tidings");
                    (Some(self.server.clone().unwrap_or_else(own)), "")
                }
                Contender::Before => (self.before.clone(), "say which it is with --before"),
                Contender::Baseline => (Some(program.with_file_name("tidings-baseline")), ""),
                Contender::Floor => (Some(program.with_file_name("tidings-floor")), ""),
                Contender::Nchan => (nginx::find(), nginx::ADVICE),
            };
            match executable {
                Some(executable) => executables.push((contender, executable)),
                None if self.only.contains(&contender) => {
                    bail!("{contender} cannot be measured: {advice}")
                }
                None if contender == Contender::Nchan => {
                    eprintln!("Without nchan. To measure it: {advice}");
                }
                None => {}
            }
        }
        Ok(executables)
    }
}

/// Every connection is an open file, here and in the server, which inherits the limit.
fn open_files_suffice(parts: &[Part], bench: &Bench) -> anyhow::Result<()> {
    let connections = parts.iter().map(|part| part.connections(bench)).max().unwrap_or(0);
    // Other open files of a process.
    let needed = connections + 100;
    let limit = rlimit::increase_nofile_limit(u64::MAX).context("the limit of open files")?;
    ensure!(
        limit >= needed,
        "this needs {needed} open files and may have {limit}: raise the hard limit (ulimit -Hn), \
         or measure less"
    );
    Ok(())
}

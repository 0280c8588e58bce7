//! `cargo xtask cluster`: a cluster on this machine, to try failover. A `PostgreSQL` primary with a
//! synchronous standby, three Tidings servers, and `HAProxy` before them.
//!
//! Commands are read from standard input. SIGINT, SIGTERM and SIGHUP stop everything; a second one does so
//! at once.

mod command;
mod process;
mod stack;

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    command::Command,
    stack::{Paths, Stack},
};

/// How often to look whether a process has ended by itself.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the main thread waits for.
enum Input {
    Line(String),
    Stop,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let Ok([folder, server, proxy, proxy_configuration]) = <[OsString; 4]>::try_from(arguments)
    else {
        let usage = "usage: local_cluster FOLDER TIDINGS HAPROXY CONFIGURATION-OF-HAPROXY";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, usage));
    };
    let paths = Paths {
        folder: folder.into(),
        server: server.into(),
        proxy: proxy.into(),
        proxy_configuration: proxy_configuration.into(),
    };
    let (sender, inputs) = mpsc::channel();
    stop_on_signals(sender.clone())?;
    let mut stack = Stack::start(&paths)?;
    println!("{}", stack.introduction());
    read_lines(sender);
    loop {
        match inputs.recv_timeout(LOOK_INTERVAL) {
            Ok(Input::Line(line)) => match line.parse() {
                Ok(Command::Quit) => break,
                Ok(command) => match stack.execute(command) {
                    Ok(answer) => println!("{answer}"),
                    Err(error) => println!("That failed: {error}"),
                },
                Err(error) => println!("{error}"),
            },
            Err(RecvTimeoutError::Timeout) => stack.report_ended(),
            Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    stack.stop()
}

/// Stops at the first signal, in good order; exits at the second one.
fn stop_on_signals(sender: Sender<Input>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        let mut signals = signals.forever();
        let first = signals.next();
        let _ = sender.send(Input::Stop);
        // The terminal may be closed.
        let _ = writeln!(io::stdout(), "\nStopping. (Ctrl+C once more kills everything.)");
        // Closing a terminal may send SIGHUP several times.
        if signals.any(|signal| signal != SIGHUP || first != Some(SIGHUP)) {
            // The processes are killed when this one has ended.
            std::process::exit(130);
        }
    });
    Ok(())
}

/// Passes on the lines of standard input. At its end the cluster runs on, until a signal.
fn read_lines(sender: Sender<Input>) {
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if !line.trim().is_empty() && sender.send(Input::Line(line)).is_err() {
                return;
            }
        }
    });
}

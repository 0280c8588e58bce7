//! The command line: the options of the server, or a subcommand.

use std::io::{Write as _, stderr};

use clap::{
    Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::Resettable,
    parser::ValueSource,
};
use tidings::server::{Config, CopyOptions, TokenOptions};

use crate::{
    manual::{CompletionsOptions, ManOptions},
    terminal::{PublishOptions, WatchOptions},
};

/// A live message page: publishers send messages, and browsers show them as they arrive.
///
/// Messages belong to named streams. A publisher is a client that writes to a stream, a watcher one
/// that has an event stream (SSE) open. A token names the streams that a client may publish to or
/// watch.
///
/// Without a subcommand it runs the server. Every option of the server can also be set by its
/// environment variable; the flag wins. Durations: 50ms, 15s, 2m, 30d. Sizes: 65536, 500KB, 16MiB.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, args_conflicts_with_subcommands = true)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    task: Option<Subcommands>,
    #[command(flatten)]
    config: Config,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Publish(Box<PublishOptions>),
    Watch(Box<WatchOptions>),
    Copy(Box<CopyOptions>),
    Token(TokenOptions),
    Completions(CompletionsOptions),
    Man(ManOptions),
}

/// What to run, from the command line.
#[derive(Debug)]
pub(crate) enum CliCommand {
    /// The server.
    Serve(Box<Config>),
    /// Publishes to a stream.
    Publish(Box<PublishOptions>),
    /// Prints the messages of a stream.
    Watch(Box<WatchOptions>),
    /// Copies a store.
    Copy(Box<CopyOptions>),
    /// Prints a token.
    Token(TokenOptions),
    /// Prints the completions of a shell.
    Completions(CompletionsOptions),
    /// Writes the manual pages.
    Man(ManOptions),
}

impl CliCommand {
    /// Reads the command line and the environment. On an error it prints it to standard error and
    /// exits with status 2.
    pub(crate) fn from_command_line() -> Self {
        let matches = CommandLine::command()
            .mut_args(ignore_empty_variable)
            .mut_subcommands(|command| command.mut_args(ignore_empty_variable))
            .get_matches();
        let CommandLine { task, config } =
            CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let is_visible = matches.value_source("data") == Some(ValueSource::CommandLine);
        let (command, checked) = match task {
            Some(Subcommands::Publish(publish)) => (Self::Publish(publish), Ok(())),
            Some(Subcommands::Watch(watch)) => (Self::Watch(watch), Ok(())),
            Some(Subcommands::Token(token)) => (Self::Token(token), Ok(())),
            Some(Subcommands::Completions(completions)) => (Self::Completions(completions), Ok(())),
            Some(Subcommands::Man(man)) => (Self::Man(man), Ok(())),
            Some(Subcommands::Copy(copy)) => {
                let checked = copy.check();
                (Self::Copy(copy), checked)
            }
            None => {
                let checked = config.check(is_visible);
                (Self::Serve(Box::new(config)), checked)
            }
        };
        if let Err(error) = checked {
            // Standard error may be closed; the exit status still reports the error.
            let _ = writeln!(stderr(), "tidings: {error}");
            // As for any other mistake in the command line.
            std::process::exit(2);
        }
        command
    }
}

/// An empty environment variable, which compose files set, counts as unset. Not that of a secret:
/// an empty secret is an error, so that a lost secret does not leave the server open.
fn ignore_empty_variable(arg: Arg) -> Arg {
    let variable = arg.get_env().and_then(std::env::var_os);
    let is_secret = arg.get_id().as_str().contains("secret");
    let ignored = variable.is_some_and(|value| value.is_empty()) && !is_secret;
    if ignored { arg.env(Resettable::Reset) } else { arg }
}

//! The commands: lines of standard input.

use std::str::FromStr;

/// What `help` prints.
pub(crate) const HELP: &str =
    "  status       what runs, and what each server says of itself
  kill 2       kills a server (SIGKILL), as a crash does: 1, 2 or 3; or `primary`, `standby`, of the database
  stop 2       stops it in good order
  start 2      starts it again
  freeze 2     stops its processes and keeps its connections open, as a machine that hangs does
  thaw 2       lets them go on
  promote      makes the standby the primary
  rebuild      makes a new standby, as a copy of the primary, in place of the other server
  help         prints this
  quit         stops everything, as Ctrl+C does";

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Do(Action, Target),
    Promote,
    Rebuild,
    Status,
    Help,
    Quit,
}

/// What to do to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Kill,
    Stop,
    Start,
    Freeze,
    Thaw,
}

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A server of the database.
    Primary,
    Standby,
    /// A Tidings server, by its index.
    Tidings(usize),
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let action = |action, target: &str| target.parse().map(|target| Self::Do(action, target));
        match words[..] {
            ["kill", target] => action(Action::Kill, target),
            ["stop", target] => action(Action::Stop, target),
            ["start", target] => action(Action::Start, target),
            ["freeze", target] => action(Action::Freeze, target),
            ["thaw", target] => action(Action::Thaw, target),
            ["promote"] => Ok(Self::Promote),
            ["rebuild"] => Ok(Self::Rebuild),
            ["status"] => Ok(Self::Status),
            ["help"] => Ok(Self::Help),
            ["quit" | "exit"] => Ok(Self::Quit),
            _ => Err(format!("No such command. There are:\n{HELP}")),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "primary" => Ok(Self::Primary),
            "standby" => Ok(Self::Standby),
            "1" => Ok(Self::Tidings(0)),
            "2" => Ok(Self::Tidings(1)),
            "3" => Ok(Self::Tidings(2)),
            _ => Err("There are the servers 1, 2 and 3, primary and standby.".to_owned()),
        }
    }
}

//! Shell completions and manual pages, generated from the definition of the command line.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;

/// Print the completions for a shell
///
/// For bash: tidings completions bash > ~/.local/share/bash-completion/completions/tidings
#[derive(Args, Clone, Debug)]
pub(crate) struct CompletionsOptions {
    /// The shell
    shell: Shell,
}

/// Print the manual page, or write the pages of all subcommands
#[derive(Args, Clone, Debug)]
pub(crate) struct ManOptions {
    /// The folder to write the pages to, which is created: tidings.1, tidings-publish.1 and so on
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl CompletionsOptions {
    /// Prints the completions of this command line.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn print(&self, mut command: Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "tidings", &mut script);
        io::stdout().write_all(&script).context("the completions cannot be printed")
    }
}

impl ManOptions {
    /// Prints or writes the pages of this command line.
    ///
    /// # Errors
    /// When standard output is closed, or the folder cannot be written.
    pub(crate) fn print(&self, command: Command) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            return io::stdout().write_all(&page).context("the manual page cannot be printed");
        };
        let written =
            fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
        written.with_context(|| format!("{} cannot be written", folder.display()))
    }
}

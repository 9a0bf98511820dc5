//! `ustate completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::context::Context;
use crate::stop::Done;

/// Print a shell's completions.
///
/// For bash: ustate completions bash > ~/.local/share/bash-completion/completions/ustate
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, context: &mut Context) -> Done {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ustate", &mut script);
        context.out.bytes(&script)
    }
}

//! `ustate`: the tool for operators and auditors of a `univrs-state` store.

// The comments on the command line's types are its help, where backticks would be shown.
#![allow(clippy::doc_markdown)]

mod arguments;
mod as_of;
mod cli;
mod commands;
mod compare;
mod condition;
mod confirm;
mod context;
mod cursor_file;
mod delta;
mod escape;
mod folder;
mod following;
mod health;
mod input;
mod interrupt;
mod json;
mod leaves;
mod moment;
mod mounts;
mod opening;
mod origin;
mod output;
mod pages;
mod pairs;
mod pipe;
mod place;
mod plan;
mod point;
mod policy;
mod progress;
mod retention;
mod rows;
mod runtime;
mod selection;
mod signals;
mod slices;
mod source;
mod sqlite_file;
mod state;
mod stop;
mod strict;
mod time;
mod twin;
mod usage;
mod value;
mod verdict;
mod wall;
mod width;
mod written;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use clap::Parser;
use jiff::tz::TimeZone;

use arguments::Arguments;
use cli::{Cli, Command, Global};
use context::Context;
use output::{BAD, Format, Output, paint};
use stop::{Exit, Stop};
use time::Times;

fn main() -> ExitCode {
    let mut arguments = Arguments::new(std::env::args_os().collect());
    let Cli { global, mut command } = match Cli::try_parse_from(&arguments.words) {
        Ok(cli) => cli,
        Err(error) => return usage::misunderstood(&error, &arguments),
    };
    if let Command::Set(set) = &mut command
        && let Some(value) = arguments.value.take()
    {
        set.take_value(value);
    }
    let colors = Colors::of(&global);
    let mut context = context_of(global, &colors);
    let done = match runtime::start() {
        Ok(runtime) => runtime.block_on(async {
            let done = commands::run(command, &mut context).await;
            context.out.flush().and(done)
        }),
        Err(failure) => Err(failure.into()),
    };
    match done {
        Ok(()) | Err(Stop::ClosedPipe) => ExitCode::SUCCESS,
        Err(Stop::No) => ExitCode::from(Exit::No as u8),
        Err(Stop::Signal(number)) => ExitCode::from(128 + number),
        Err(Stop::Failed(mut failure)) => {
            let exit = failure.exit;
            if exit == Exit::Integrity {
                failure.hint.get_or_insert_with(|| context.hint("verify"));
            }
            failure.hint = failure.hint.or_else(|| context.way_on(&failure.what));
            let text = if context.format.is_json() {
                failure.json() + "\n"
            } else {
                failure.lines(&paint(colors.stderr, BAD, "error:"))
            };
            drop(io::stderr().write_all(text.as_bytes()));
            ExitCode::from(exit as u8)
        }
    }
}

/// Whether the two outputs show colour.
struct Colors {
    stdout: bool,
    stderr: bool,
}

impl Colors {
    fn of(global: &Global) -> Self {
        let shows = |terminal: ColorChoice| match global.color {
            clap::ColorChoice::Always => true,
            clap::ColorChoice::Never => false,
            clap::ColorChoice::Auto => terminal != ColorChoice::Never,
        };
        Self {
            stdout: shows(AutoStream::choice(&io::stdout())),
            stderr: shows(AutoStream::choice(&io::stderr())),
        }
    }
}

fn context_of(global: Global, colors: &Colors) -> Context {
    Context {
        db_from_env: global
            .db
            .as_ref()
            .is_some_and(|db| std::env::var_os("USTATE_DB").is_some_and(|named| named == db.as_os_str())),
        db: global.db.filter(|db| !db.as_os_str().is_empty()),
        format: if global.json { Format::Json } else { global.output },
        out: Output::new(colors.stdout),
        color_notes: colors.stderr,
        times: Times { zone: global.tz.unwrap_or(TimeZone::UTC), relative: global.relative },
        quiet: global.quiet,
        verbose: global.verbose,
        busy_timeout: global.busy_timeout,
        accept_loss: global.accept_loss,
    }
}

/// Whether a person can be asked.
fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

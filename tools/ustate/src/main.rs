//! `ustate`: the tool for operators and auditors of a `univrs-state` store.

// The comments on the command line's types are its help, where backticks would be shown.
#![allow(clippy::doc_markdown)]

mod cli;
mod commands;
mod context;
mod cursor_file;
mod escape;
mod json;
mod origin;
mod output;
mod point;
mod rows;
mod signals;
mod stop;
mod time;
mod value;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use clap::Parser;
use jiff::tz::TimeZone;

use cli::{Cli, Global};
use context::Context;
use output::{BAD, Format, Output, paint};
use stop::{Exit, Failure, Stop};
use time::Times;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let Cli { global, command } = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error, &arguments),
    };
    let colors = Colors::of(&global);
    let mut context = context_of(global, &colors);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let done = commands::run(command, &mut context).await;
            context.out.flush().and(done)
        }),
        Err(error) => Err(Failure::io("cannot start", &error).into()),
    };
    match done {
        Ok(()) | Err(Stop::ClosedPipe) => ExitCode::SUCCESS,
        Err(Stop::Signal(number)) => ExitCode::from(128 + number),
        Err(Stop::Failed(failure)) => {
            let exit = failure.exit;
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
        db: global.db,
        format: if global.json { Format::Json } else { global.output },
        out: Output::new(colors.stdout),
        color_notes: colors.stderr,
        times: Times { zone: global.tz.unwrap_or(TimeZone::UTC), relative: global.relative },
        quiet: global.quiet,
        verbose: global.verbose,
        busy_timeout: global.busy_timeout,
    }
}

/// Help and version are data; anything else that clap says is a usage error.
fn misunderstood(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let json = arguments.iter().take_while(|argument| *argument != "--").any(|argument| {
        let argument = argument.to_string_lossy();
        matches!(
            argument.as_ref(),
            "--json" | "json" | "ndjson" | "-ojson" | "-ondjson" | "--output=json" | "--output=ndjson"
        )
    });
    if json && error.use_stderr() {
        let text = error.render().to_string();
        let what: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let what = what.join(" ");
        let what = what.trim_start_matches("error: ");
        drop(writeln!(io::stderr(), "{}", Failure::usage(what).json()));
    } else {
        // A closed pipe ends quietly.
        drop(error.print());
    }
    let code = if error.use_stderr() { Exit::Usage as u8 } else { 0 };
    ExitCode::from(code)
}

/// Whether a person can be asked.
fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

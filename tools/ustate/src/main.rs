//! `ustate`: the tool for operators and auditors of a `univrs-state` store.

// The comments on the command line's types are its help, where backticks would be shown.
#![allow(clippy::doc_markdown)]

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
mod input;
mod json;
mod leaves;
mod moment;
mod mounts;
mod origin;
mod output;
mod pairs;
mod pipe;
mod point;
mod progress;
mod rows;
mod selection;
mod signals;
mod source;
mod sqlite_file;
mod stop;
mod time;
mod value;
mod verdict;
mod written;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use clap::{CommandFactory, Parser};
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
        Err(Stop::No) => ExitCode::from(Exit::No as u8),
        Err(Stop::Signal(number)) => ExitCode::from(128 + number),
        Err(Stop::Failed(mut failure)) => {
            let exit = failure.exit;
            if exit == Exit::Integrity {
                failure.hint.get_or_insert_with(|| context.hint("verify"));
            }
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
        accept_loss: global.accept_loss,
    }
}

/// Help and version are data; anything else that clap says is a usage error.
fn misunderstood(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe ends quietly.
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    let nothing = [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
    if nothing.contains(&error.kind()) && !wants_json(arguments) {
        drop(write!(io::stderr(), "{}", Cli::command().render_help()));
        return ExitCode::from(Exit::Usage as u8);
    }
    let failure = usage(error, arguments);
    let text = if wants_json(arguments) {
        failure.json() + "\n"
    } else {
        let color = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        failure.lines(&paint(color, BAD, "error:"))
    };
    drop(io::stderr().write_all(text.as_bytes()));
    ExitCode::from(Exit::Usage as u8)
}

/// What clap says, in the form of all errors.
fn usage(error: &clap::Error, arguments: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(|part| part.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    let what = parts.next().unwrap_or_default();
    let mut failure = Failure::usage(what.trim_start_matches("error: "));
    for part in parts {
        if let Some(tip) = part.trim().strip_prefix("tip: ") {
            failure = failure.fact(tip);
        }
    }
    let command = Cli::command();
    let known = arguments.iter().find(|argument| command.find_subcommand(argument).is_some());
    let name = known.map(|name| format!(" {}", name.to_string_lossy())).unwrap_or_default();
    failure.hint(format!("ustate{name} --help"))
}

fn wants_json(arguments: &[OsString]) -> bool {
    let ours = arguments.iter().take_while(|argument| *argument != "--");
    let text: Vec<_> = ours.map(|argument| argument.to_string_lossy()).collect();
    let is_json = |form: &str| matches!(form, "json" | "ndjson");
    text.iter().any(|word| {
        let form = word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o"));
        word == "--json" || form.is_some_and(is_json)
    }) || text
        .windows(2)
        .any(|pair| matches!(pair, [name, form] if (name == "-o" || name == "--output") && is_json(form)))
}

/// Whether a person can be asked.
fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

//! What is wrong with a command line, in words that show no value.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::arguments::Arguments;
use crate::cli::Cli;
use crate::output::{BAD, paint};
use crate::stop::{Exit, Failure};

/// Help and version are data where they are asked for; anything else that `clap` says is a usage error.
pub(crate) fn misunderstood(error: &clap::Error, arguments: &Arguments) -> ExitCode {
    let asks = |words: [&str; 2]| arguments.before_dashes().any(|word| words.iter().any(|one| word == *one));
    let is_answer = match error.kind() {
        ErrorKind::DisplayHelp => asks(["-h", "--help"]) || arguments.command() == Some("help"),
        ErrorKind::DisplayVersion => asks(["-V", "--version"]),
        _ => false,
    };
    if is_answer {
        // A closed pipe ends quietly.
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    let nothing = [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
    if nothing.contains(&error.kind()) && !wants_json(arguments) {
        drop(write!(io::stderr(), "{}", Cli::command().render_help()));
        return ExitCode::from(Exit::Usage as u8);
    }
    let failure = failure(error, arguments);
    let text = if wants_json(arguments) {
        failure.json() + "\n"
    } else {
        let color = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        failure.lines(&paint(color, BAD, "error:"))
    };
    drop(io::stderr().write_all(text.as_bytes()));
    ExitCode::from(Exit::Usage as u8)
}

/// What `clap` says, in the form of all errors.
fn failure(error: &clap::Error, arguments: &Arguments) -> Failure {
    let command = arguments.command().filter(|name| Cli::command().find_subcommand(name).is_some());
    let what = match error.kind() {
        ErrorKind::DisplayHelp => "help is asked for by exactly -h or --help".into(),
        ErrorKind::DisplayVersion => "the version is asked for by exactly -V or --version".into(),
        _ if arguments.may_hold_values() => without_values(error, command.unwrap_or_default()),
        _ => rendered(error),
    };
    let mut failure = Failure::usage(what);
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let similar = [
        (ContextKind::SuggestedArg, "argument"),
        (ContextKind::SuggestedValue, "value"),
        (ContextKind::SuggestedSubcommand, "subcommand"),
    ];
    for (kind, noun) in similar {
        let found = match error.get(kind) {
            Some(ContextValue::String(one)) => one.clone(),
            Some(ContextValue::Strings(some)) => some.join("', '"),
            _ => continue,
        };
        failure = failure.fact(format!("a similar {noun} exists: '{found}'"));
    }
    let negative = |text: &str| {
        text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    if error.kind() == ErrorKind::UnknownArgument && text(ContextKind::InvalidArg).is_some_and(negative) {
        failure = failure.fact("places and counts are never negative; head~1 is before the last commit");
    }
    let name = command.map(|name| format!(" {name}")).unwrap_or_default();
    failure.hint(format!("ustate{name} --help"))
}

/// The first part of what `clap` says, which may quote words of the command line.
fn rendered(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.split("\n\n").next().unwrap_or_default().lines();
    let what = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    what.trim_start_matches("error: ").to_owned()
}

/// The same where a word may be a value: only the names of options are quoted.
fn without_values(error: &clap::Error, command: &str) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let argument = text(ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            format!("a word that begins with '-' is no option of 'ustate {command}'")
        }
        ErrorKind::UnknownArgument => {
            format!("'ustate {command}' takes fewer words; quote a value that has spaces")
        }
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_empty() => {
            format!("a value is required for '{argument}' but none was supplied")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
            let possible = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(values)) if !values.is_empty() => {
                    format!(" [possible values: {}]", values.join(", "))
                }
                _ => String::new(),
            };
            format!("invalid value for '{argument}'{possible}{why}")
        }
        ErrorKind::TooManyValues => format!("'{argument}' takes no value"),
        // They name options and what they stand for, as the help does.
        ErrorKind::ArgumentConflict | ErrorKind::MissingRequiredArgument => rendered(error),
        kind => kind.as_str().unwrap_or("the command line was not understood").to_owned(),
    }
}

/// Whether errors are to be JSON, as far as that can be told of a line that was not understood.
fn wants_json(arguments: &Arguments) -> bool {
    let text: Vec<_> = arguments.before_dashes().map(|argument| argument.to_string_lossy()).collect();
    let is_json = |form: &str| matches!(form, "json" | "ndjson");
    text.iter().any(|word| {
        let form = word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o"));
        word == "--json" || form.is_some_and(is_json)
    }) || text
        .windows(2)
        .any(|pair| matches!(pair, [name, form] if (name == "-o" || name == "--output") && is_json(form)))
}

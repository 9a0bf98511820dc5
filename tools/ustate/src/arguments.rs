//! The words of the command line before they are parsed: a value is set aside, so that it is never taken for an
//! option.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Args, CommandFactory};

use crate::cli::Cli;
use crate::commands::set::Set;

/// What stands where the value was; an error may show it.
const STAND_IN: &str = "VALUE";

/// The words of a command line.
pub(crate) struct Arguments {
    /// What is parsed: all words, but for the value.
    pub(crate) words: Vec<OsString>,
    /// The value that `set` writes.
    pub(crate) value: Option<OsString>,
    /// The place of the command's name.
    command: usize,
}

impl Arguments {
    pub(crate) fn new(mut words: Vec<OsString>) -> Self {
        let root = Cli::command();
        let mut options = Options(root.get_arguments().collect());
        let command = options.skip(&words, 1);
        let mut value = None;
        let set = Set::augment_args(clap::Command::new("set"));
        if words.get(command).is_some_and(|name| name == "set") {
            options.0.extend(set.get_arguments());
            if let Some(word) = options.place_of_value(&words, command + 1).and_then(|at| words.get_mut(at)) {
                value = Some(std::mem::replace(word, STAND_IN.into()));
            }
        }
        Self { words, value, command }
    }

    /// The name of the command, if there is one.
    pub(crate) fn command(&self) -> Option<&str> {
        self.words.get(self.command)?.to_str()
    }

    /// Whether the command takes values or parts of them, so that a word of it may be a secret.
    pub(crate) fn may_hold_values(&self) -> bool {
        matches!(self.command(), Some("set" | "log"))
    }

    /// The words that may be options.
    pub(crate) fn before_dashes(&self) -> impl Iterator<Item = &OsStr> {
        self.words.iter().skip(1).map(OsString::as_os_str).take_while(|word| *word != "--")
    }
}

/// The options of a command.
struct Options<'a>(Vec<&'a Arg>);

impl Options<'_> {
    /// The place of the first word that is neither an option nor what belongs to one.
    fn skip(&self, words: &[OsString], from: usize) -> usize {
        let mut at = from;
        while let Some(word) = words.get(at)
            && word != "-"
            && word != "--"
            && word.as_encoded_bytes().starts_with(b"-")
        {
            let takes_next = word.to_str().and_then(|word| self.exact(word).or_else(|| self.joined(word)));
            at += if takes_next == Some(true) { 2 } else { 1 };
        }
        at
    }

    /// The place of the value: the first word behind the key that is not exactly an option.
    fn place_of_value(&self, words: &[OsString], from: usize) -> Option<usize> {
        let key = self.skip(words, from);
        if words.get(key)? == "--" {
            return Some(key + 2);
        }
        let mut at = key + 1;
        while let Some(takes_next) = words.get(at)?.to_str().and_then(|word| self.exact(word)) {
            at += if takes_next { 2 } else { 1 };
        }
        Some(if words.get(at)? == "--" { at + 1 } else { at })
    }

    /// Whether an option takes the next word; none if the word is not exactly an option, as `--file`, `--file=x`
    /// and `-m` are.
    fn exact(&self, word: &str) -> Option<bool> {
        if matches!(word, "-h" | "--help") {
            return Some(false);
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, joined) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
            let option = self.0.iter().find(|option| option.get_long() == Some(name))?;
            return Some(!joined && option.get_action().takes_values());
        }
        let mut letters = word.strip_prefix('-')?.chars();
        let letter = letters.next().filter(|_| letters.next().is_none())?;
        self.takes_value(letter)
    }

    /// That of short options in one word: `-qv`, `-ojson`.
    fn joined(&self, word: &str) -> Option<bool> {
        let mut letters = word.strip_prefix('-')?.chars();
        while let Some(letter) = letters.next() {
            if self.takes_value(letter)? {
                return Some(letters.next().is_none());
            }
        }
        Some(false)
    }

    fn takes_value(&self, letter: char) -> Option<bool> {
        let option = self.0.iter().find(|option| option.get_short() == Some(letter))?;
        Some(option.get_action().takes_values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a line, and what is left of it.
    fn set_aside(line: &str) -> (Option<String>, String) {
        let words = line.split(' ').map(OsString::from).collect();
        let Arguments { words, value, .. } = Arguments::new(words);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        (value.map(|value| value.into_string().unwrap()), words.join(" "))
    }

    #[test]
    fn the_word_behind_the_key_is_the_value_unless_it_is_exactly_an_option() {
        for (line, value) in [
            ("ustate set /a 1", "1"),
            ("ustate set /a -5x", "-5x"),
            ("ustate set /a -hunter2", "-hunter2"),
            ("ustate set /a -----BEGIN", "-----BEGIN"),
            ("ustate set /a -qv", "-qv"),
            ("ustate set /a -mreason", "-mreason"),
            ("ustate set /a --files=x", "--files=x"),
            ("ustate set /a -", "-"),
            ("ustate set /a -- -h", "-h"),
            ("ustate set -- /a -h", "-h"),
            ("ustate set /a -- --", "--"),
            ("ustate set /a --if-absent -5", "-5"),
            ("ustate set /a -m -5 -6 --json", "-6"),
            ("ustate set /a --type=text -x", "-x"),
            ("ustate set -m why /a -5", "-5"),
            ("ustate set -mwhy -qv /a -5", "-5"),
            ("ustate --db x -o json set /a --json", ""),
            ("ustate --db set set /a -x", "-x"),
            ("ustate -ojson set /a -x -m y", "-x"),
            ("ustate --nonsense set /a -x", "-x"),
            ("ustate set /a --file x", ""),
            ("ustate set /a --file=x", ""),
            ("ustate set /a -h", ""),
            ("ustate set /a --if-version 3", ""),
            ("ustate set /a", ""),
            ("ustate set", ""),
            ("ustate set --", ""),
            ("ustate", ""),
            ("ustate get set /a", ""),
        ] {
            let (found, left) = set_aside(line);
            assert_eq!(found.as_deref().unwrap_or(""), value, "{line}");
            assert_eq!(left.replacen(STAND_IN, value, 1), line);
        }
    }

    #[test]
    fn the_command_is_the_first_word_that_belongs_to_no_option() {
        let command = |line: &str| {
            let words = line.split(' ').map(OsString::from).collect();
            Arguments::new(words).command().map(str::to_owned)
        };
        assert_eq!(command("ustate --db log -o tsv set /a 1").as_deref(), Some("set"));
        assert_eq!(command("ustate -qotsv log").as_deref(), Some("log"));
        assert_eq!(command("ustate --db"), None);
    }
}

//! Asking a person before much is done at once.

use std::io::{BufRead, Write};

use crate::escape::escape;
use crate::stop::{Done, Exit, Failure, fail};

/// The most keys that a question names.
const SHOWN: usize = 3;

/// Some keys, for a question: `/a, /b, /c, …`
pub(crate) fn some_of<'a>(keys: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = keys.len() > SHOWN;
    let mut shown: Vec<_> = keys.take(SHOWN).map(escape).collect();
    if more {
        shown.push("…".into());
    }
    shown.join(", ")
}

/// Goes on if the answer is yes. `without` says what can be done where nobody can be asked, and
/// `declined` what was not done.
pub(crate) fn confirm(question: &str, without: &str, declined: &str) -> Done {
    if !crate::is_interactive() {
        let failure = Failure::usage(format!("{question}? there is no terminal to ask on"));
        return fail(failure.fact(without));
    }
    let mut answer = String::new();
    let asked = write!(std::io::stderr(), "{question}? [y/N] ");
    let answered = asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    answered.map_err(|error| Failure::io("cannot ask", &error))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    fail(Failure::new(Exit::No, "declined", format!("not confirmed, so nothing was {declined}")))
}

//! What commands read from files and from standard input, none of it without end.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use univrs_state::Limits;

use crate::stop::{Done, Exit, Failure, fail};
use crate::value::size;

/// The bytes of a file, or of standard input where none is named, unless there are more than `most`:
/// then none.
pub(crate) fn read_at_most(path: Option<&Path>, most: usize) -> Done<Option<Vec<u8>>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let input: Box<dyn Read> = match path {
            Some(path) => Box::new(File::open(path)?),
            None => Box::new(io::stdin().lock()),
        };
        input.take(most as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| Failure::io(&format!("cannot read {}", named(path)), &error))?;
    Ok((bytes.len() <= most).then_some(bytes))
}

/// A value for a key.
pub(crate) fn read_value(path: Option<&Path>) -> Done<Vec<u8>> {
    let most = Limits::default().value_bytes;
    let Some(value) = read_at_most(path, most)? else {
        let most = size(most as u64);
        return fail(too_large(&format!("{} is too large: a value has {most} at most", named(path))));
    };
    Ok(value)
}

/// What is read, in words.
pub(crate) fn named(path: Option<&Path>) -> String {
    path.map_or_else(|| "standard input".into(), |path| path.display().to_string())
}

pub(crate) fn too_large(what: &str) -> Failure {
    Failure::new(Exit::Usage, "limit_exceeded", what).fact("nothing was written")
}

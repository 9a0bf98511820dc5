pub(crate) mod checker;
mod matching;
pub(crate) mod recording;

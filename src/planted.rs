//! Bugs that are planted on purpose, to see that the tests catch them.
//!
//! A build with `--cfg planted` has the bug that `UNIVRS_PLANTED` names; any other build has none,
//! whatever the environment says. `tools/prove` tries them all.

/// Whether this bug is planted.
#[cfg(planted)]
pub(crate) fn planted(bug: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("UNIVRS_PLANTED").ok()).as_deref() == Some(bug)
}

/// Whether this bug is planted: never, in a build that is not for that.
#[cfg(not(planted))]
pub(crate) const fn planted(_: &str) -> bool {
    false
}

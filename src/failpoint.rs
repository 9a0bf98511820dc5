//! Failpoints: bugs that are planted on purpose, to see that the tests catch them.
//!
//! A build with `--cfg failpoints` has the bug that `UNIVRS_FAILPOINT` names; any other build has none,
//! whatever the environment says. `tools/prove` tries them all.

/// Whether this bug is planted.
#[cfg(failpoints)]
pub(crate) fn failpoint(bug: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("UNIVRS_FAILPOINT").ok()).as_deref() == Some(bug)
}

/// Whether this bug is planted: never, in a build that is not for that.
#[cfg(not(failpoints))]
pub(crate) const fn failpoint(_: &str) -> bool {
    false
}

//! Keys that look the same: one that differs from another only in the normalisation of its text.

use unicode_normalization::UnicodeNormalization;
use univrs_state::{Page, Result, Scan};

/// Pages that are searched. A folder of more keys than these have is not searched to its end.
const PAGES: usize = 100;

/// A key that is there and looks like this one. It reads the keys below the last folder whose name is plain.
pub(crate) async fn twin(key: &str, scan: impl AsyncFn(Scan) -> Result<Page>) -> Result<Option<String>> {
    let plain = key.find(|c: char| !c.is_ascii()).and_then(|at| key.get(..at));
    let Some(folder) = plain.and_then(|plain| plain.rfind('/')).and_then(|at| key.get(..=at)) else {
        return Ok(None);
    };
    let is_twin = |other: &&str| *other != key && other.nfc().eq(key.nfc());
    let mut next = Some(Scan::prefix(folder).skip_erased());
    for _ in 0..PAGES {
        let Some(scan_next) = next else { break };
        let page = scan(scan_next).await?;
        let keys = page.entries.iter().map(|entry| &*entry.key).chain(page.erased.iter().map(|key| &**key));
        if let Some(found) = keys.into_iter().find(is_twin) {
            return Ok(Some(found.to_owned()));
        }
        next = page.next;
    }
    Ok(None)
}

/// Says that another key looks like this one.
pub(crate) fn says(key: &str, twin: &str) -> String {
    format!(
        "another key looks the same and differs only in how its text is composed: {}, not {}",
        spelt(twin),
        spelt(key)
    )
}

/// A text in ASCII alone, with the numbers of its other characters.
fn spelt(text: &str) -> String {
    let spell = |c: char| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() };
    text.chars().map(spell).collect()
}

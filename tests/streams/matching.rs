//! Patterns once more, as plainly as they can be put: the store's own code is not asked.

/// Whether a pattern matches a key. A `*` at the end is the rest of the key; elsewhere `*` is one
/// segment and `**` any number of them. No key here is a reserved one.
pub(crate) fn matches(pattern: &str, key: &str) -> bool {
    match pattern.find('*') {
        None => pattern == key,
        Some(first) if first == pattern.len() - 1 => key.starts_with(&pattern[..first]),
        Some(_) => {
            let [pattern, key] = [pattern, key].map(|path| path.split('/').collect::<Vec<_>>());
            segments(&pattern, &key)
        }
    }
}

fn segments(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=key.len()).any(|taken| segments(rest, &key[taken..])),
        ([last], [segment, ..]) if last.ends_with('*') => segment.starts_with(last.trim_end_matches('*')),
        (["*", rest @ ..], [_, others @ ..]) => segments(rest, others),
        ([literal, rest @ ..], [segment, others @ ..]) => literal == segment && segments(rest, others),
        _ => false,
    }
}

#[test]
fn the_plain_matching_is_that_of_the_store() {
    let paths = ["/a", "/a/1", "/a/1/2", "/ab", "/b/x/1", "/b/x/y/1", "/c/2", "/2", "/b/x", "/x", "/b/1"];
    let patterns =
        ["/*", "/**", "/a", "/a/*", "/a*", "/b/*/1", "/**/2", "/**/x/**", "/*/1", "/b/**/1", "/*/x/*"];
    let mut matched = 0;
    for pattern in patterns {
        let store: univrs_state::pattern::Pattern = pattern.parse().unwrap();
        for key in paths {
            assert_eq!(matches(pattern, key), store.matches(key), "{pattern} {key}");
            matched += usize::from(matches(pattern, key));
        }
    }
    assert!(matched > patterns.len() && matched < patterns.len() * paths.len() / 2, "{matched}");
}

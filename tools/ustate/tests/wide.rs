//! Text that is wider or narrower than it has characters, keys that hide what they are, and keys that look the same.

use unicode_width::UnicodeWidthStr;

use crate::support::Place;

#[test]
fn columns_stand_below_each_other_whatever_the_text() {
    let place = Place::new();
    for line in [
        "set /日本/東京 値 --actor 太郎@本社",
        "set /emoji/🦀🦀 🦀 --actor ferris@sea",
        "set /e\u{301}e\u{301}/x 1 --actor ascii@ops",
        "set /plain/key 22 --actor a@b",
    ] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    // The same cells before what follows the column.
    let cells = |line: &str, mark: &str| line.find(mark).map(|at| line[..at].width());
    let log = place.stdout("log");
    let places: Vec<_> = log.lines().map(|line| cells(line, "  by ")).collect();
    assert!(places.len() == 4 && places.iter().all(|place| *place == places[0] && place.is_some()), "{log}");
    let list = place.stdout("list --values '/**'");
    let places: Vec<_> = list
        .lines()
        .zip(["🦀", "1", "22", "値"])
        .map(|(line, value)| line.strip_suffix(value).map(UnicodeWidthStr::width))
        .collect();
    assert!(places.len() == 4 && places.iter().all(|place| *place == places[0] && place.is_some()), "{list}");
}

#[test]
fn what_hides_in_a_key_is_shown_to_people_and_left_alone_for_machines() {
    let place = Place::new();
    let key = "/a\u{ad}b\u{200d}\u{3164}c\u{fe0f}";
    assert_eq!(place.code(&format!("set {key} 1")), 0);
    for line in ["log", "list", "list --values '/**'", "show 1"] {
        let shown = place.stdout(line);
        assert!(shown.contains("/a\\u{ad}b\\u{200d}\\u{3164}c\\u{fe0f}"), "{line}: {shown}");
    }
    assert!(place.stdout("list --json").contains(key));
}

#[test]
fn a_key_that_differs_only_in_its_composition_gets_a_hint() {
    let place = Place::new();
    assert_eq!(place.code("set /users/jose\u{301} 1"), 0);
    let missing = place.output("get /users/jos\u{e9}");
    assert_eq!(missing.status.code(), Some(1));
    let says = String::from_utf8(missing.stderr).unwrap();
    assert!(
        says.contains("looks the same") && says.contains("/users/jose\\u{301}, not /users/jos\\u{e9}"),
        "{says}"
    );
    let created = place.output("set /users/jos\u{e9} 2");
    assert_eq!(created.status.code(), Some(0));
    assert!(String::from_utf8(created.stderr).unwrap().contains("looks the same"));
    let again = place.output("set /users/jos\u{e9} 3");
    assert!(!String::from_utf8(again.stderr).unwrap().contains("looks the same"), "it is known by now");
    let other = place.output("set /users/zo\u{eb} 1");
    assert!(!String::from_utf8(other.stderr).unwrap().contains("looks the same"));
}

//! Entries that end by themselves: whoever asks is told when, and restoring one says that it does not end any longer.

use univrs_state::log::Until;

use crate::support::Place;

/// A store whose key /moment ended at a moment when it had its first value, and /lease with a lease.
async fn with_ends() -> Place {
    let place = Place::new();
    for line in ["set /plain 1", "set /moment 1", "set /lease 1"] {
        place.stdout(line);
    }
    place
        .forge(|log| {
            log[1].until = Some(Until::try_from(253_402_300_799_999_999).unwrap());
            log[2].until = Some(Until::try_from(-1).unwrap());
        })
        .await;
    place
}

#[tokio::test]
async fn an_end_is_shown_where_the_times_of_an_entry_are_and_nothing_where_there_is_none() {
    let place = with_ends().await;
    let moment = r#""until":"9999-12-31T23:59:59.999999Z""#;
    for (key, seq, json, people) in [
        ("/plain", 1, None, None),
        ("/moment", 2, Some(moment), Some("until       9999-12-31T23:59:59.999999Z (in ")),
        ("/lease", 3, Some(r#""lease":1"#), Some("until       lease 1 ends\n")),
    ] {
        let lines = [
            format!("get {key} --json"),
            format!("list {key} --values --json"),
            format!("show {seq} --json"),
            format!("history {key} --json"),
            format!("log {key} --json"),
        ];
        for line in lines {
            let shown = place.stdout(&line);
            assert_eq!(
                shown.contains("until") || shown.contains(r#""lease":"#),
                json.is_some(),
                "{line}: {shown}"
            );
            assert!(json.is_none_or(|json| shown.contains(json)), "{line}: {shown}");
        }
        for line in [format!("get {key} --meta"), format!("show {seq}")] {
            let shown = place.stdout(&line);
            assert_eq!(shown.contains("until"), people.is_some(), "{line}: {shown}");
            assert!(people.is_none_or(|people| shown.contains(people)), "{line}: {shown}");
        }
    }
}

#[tokio::test]
async fn what_is_restored_does_not_end_and_that_is_said() {
    for how in ["/moment /lease /plain", "--all --yes", "--all --yes --in-slices"] {
        let place = with_ends().await;
        for line in ["set /plain 2", "set /moment 2", "delete /lease"] {
            place.stdout(line);
        }
        let told = "note: 2 values had an end then; what is restored stays until it is changed or deleted\n";
        for line in [format!("restore {how} --to 3 --dry-run"), format!("restore {how} --to 3")] {
            let notes = String::from_utf8(place.output(&line).stderr).unwrap();
            assert!(notes.contains(told), "{line}: {notes}");
        }
        for key in ["/moment", "/lease"] {
            assert_eq!(place.stdout(&format!("get {key}")), "1\n");
            let json = place.stdout(&format!("get {key} --json"));
            assert!(!json.contains("until") && !json.contains(r#""lease":"#), "{json}");
        }
        assert_eq!(place.code("verify"), 0);
    }
    let place = with_ends().await;
    place.stdout("set /plain 2");
    assert_eq!(place.output("restore /plain --to 3").stderr, b"");
}

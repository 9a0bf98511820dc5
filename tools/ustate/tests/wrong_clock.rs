//! A clock that was wrong once: whoever writes, counts, examines or asks by a time is told.

use std::process::Output;

use univrs_state::log::Timestamp;
use univrs_state::options::Clock;
use univrs_state::{LocalStore, Options, StateStore};

use crate::support::Place;

/// Always shows the same.
struct Wrong(Timestamp);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// Sets keys, each in a commit, while the clock is wrong.
async fn set_at(place: &Place, micros: i64, keys: &[&str]) {
    let clock = Wrong(Timestamp::from_micros(micros));
    let store = Options::new().clock(clock).open(place.path("state.db")).await.unwrap();
    for key in keys {
        store.set(key, b"2".to_vec()).await.unwrap();
    }
    store.close().await.unwrap();
}

/// After a while in 2099.
async fn pinned() -> Place {
    let place = Place::new();
    assert_eq!(place.code("set /before 1"), 0);
    set_at(&place, 4_070_908_800_000_000, &["/during"]).await;
    place
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn a_newest_commit_ahead_of_the_clock_is_told_to_those_whom_it_concerns() {
    let place = pinned().await;
    let told = "note: the newest commit has the time 2099-01-01T00:00:00.000000Z, ";
    for line in ["set /after 3", "delete /before", "stats", "stats --by actor -o tsv"] {
        let output = place.output(line);
        let notes = error(&output);
        assert!(output.status.success(), "{line}: {notes}");
        assert_eq!(
            notes.contains(" days ahead of the clock, so all later"),
            !line.contains("--by"),
            "{line}: {notes}"
        );
        assert!(line != "set /after 3" || notes.starts_with(told), "{notes}");
        let quiet = line.replace("/before", "/during");
        assert_eq!(error(&place.output(&format!("{quiet} -q"))), "", "{line}");
    }
    let json = place.output("stats --json");
    assert!(
        String::from_utf8_lossy(&json.stdout)
            .contains(r#""warnings":["the newest commit has the time 2099-"#)
    );
    assert_eq!(error(&json), "");
    for line in ["get /after", "list", "log", "verify"] {
        assert!(!error(&place.output(line)).contains("ahead"), "{line}: reads are not disturbed");
    }
    let doctor = place.output("doctor -o tsv");
    assert_eq!(doctor.status.code(), Some(1));
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.contains("warning\tclock\tthe newest commit has the time 2099-01-01"), "{doctor}");
    assert!(doctor.contains("ok\thead file\tagrees"), "{doctor}");
}

#[tokio::test]
async fn what_was_some_time_ago_says_that_it_does_not_reach_the_newest_commit() {
    let place = pinned().await;
    let output = place.output("get /before --at 0s-ago");
    assert_eq!(output.stdout, b"1\n");
    let notes = error(&output);
    assert!(
        notes.contains(
            "the newest commit, 2, has the time 2099-01-01T00:00:00.000000Z, which is ahead of the clock"
        ),
        "{notes}"
    );
    assert!(notes.contains("'head' names its state"), "{notes}");
    assert!(!error(&place.output("get /before --at head")).contains("ahead"));
    assert!(!error(&place.output("get /during --at 2099-02-01")).contains("ahead"));
    let sound = Place::new();
    assert_eq!(sound.code("set /a 1"), 0);
    assert!(!error(&sound.output("get /a --at 0s-ago")).contains("ahead"));
}

#[tokio::test]
async fn a_clock_that_is_right_again_is_accepted_with_who_and_why() {
    let place = pinned().await;
    let told = |line: &str| {
        let output = place.output(line);
        (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap(), error(&output))
    };
    let (code, would, _) = told("doctor --accept-clock --dry-run --actor olga -m 'n7 was in 2099'");
    let due = "would accept the clock by olga \"n7 was in 2099\": times would go on from it, and not from \
               2099-01-01T00:00:00.000000Z\n";
    assert_eq!((code, would.as_str()), (Some(0), due));
    assert!(place.stdout("log -o tsv").contains("/during") && !place.stdout("log -o tsv").contains("clock"));
    let json = told("doctor --accept-clock --dry-run --actor olga --json").1;
    let due = "{\"v\":1,\"type\":\"clock\",\"accepted\":false,\"dry_run\":true,\
               \"before\":\"2099-01-01T00:00:00.000000Z\",\"actor\":\"olga\"}\n";
    assert_eq!(json, due);

    let (code, both, notes) =
        told("doctor --accept-loss --accept-clock --dry-run --actor olga -m 'n7 was in 2099'");
    assert_eq!((code, both.as_str()), (Some(0), would.as_str()), "{notes}");
    assert!(notes.contains("nothing was lost"), "{notes}");

    let (code, done, notes) = told("doctor --accept-clock --actor olga -m 'n7 was in 2099' -o tsv");
    assert_eq!(code, Some(0), "{done}{notes}");
    let fields: Vec<&str> = done.lines().next().unwrap().split('\t').collect();
    assert_eq!(fields.len(), 5, "{done}");
    assert_eq!(
        [fields[0], fields[2], fields[3], fields[4]],
        ["3", "2099-01-01T00:00:00.000000Z", "olga", "n7 was in 2099"]
    );
    assert!(fields[1] < "2099" && fields[1].len() == fields[2].len(), "{done}");
    assert!(done.contains("ok\tclock\tnot behind the newest commit"), "{done}");

    // What is written now is found by its time.
    assert_eq!(place.code("set /before 3"), 0);
    assert_eq!(place.stdout("get /before --at 0s-ago"), "3\n");
    let (code, again, notes) = told("doctor --accept-clock -o tsv");
    assert_eq!((code, again.contains("olga")), (Some(0), false));
    assert!(notes.contains("the newest commit is not ahead of the clock, so nothing is recorded"), "{notes}");
    assert_eq!(place.stdout("log -n 1 -o tsv /before").split('\t').next(), Some("4"));
    assert_eq!(place.code("verify"), 0);
    assert_eq!(place.code("doctor --dry-run"), 2);
}

#[tokio::test]
async fn a_time_after_the_last_year_is_shown_as_it_is_and_named_as_it_is_shown() {
    let place = Place::new();
    // No clock counts as later than this, but each commit is later than the one before it.
    let last = Timestamp::MAX_CLOCK.as_micros();
    set_at(&place, last - 7_200_000_000, &["/a"]).await;
    set_at(&place, last, &["/b", "/c", "/d"]).await;
    let times = |line: &str, field: usize| -> Vec<String> {
        place.stdout(line).lines().map(|line| line.split('\t').nth(field).unwrap().to_owned()).collect()
    };
    let shown = [
        "9999-12-31T21:59:59.999999Z",
        "9999-12-31T23:59:59.999999Z",
        "@253402300800000000",
        "@253402300800000001",
    ];
    assert_eq!(times("log --reverse -o tsv", 1), shown);
    assert_eq!(times("list --values -o tsv", 3), shown);
    let people = place.stdout("log --reverse");
    let people: Vec<&str> = people.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(people, ["9999-12-31T21:59:59Z", "9999-12-31T23:59:59Z", shown[2], shown[3]]);
    assert!(place.stdout("show 3").contains("at          @253402300800000000 (in "));
    assert!(place.stdout("get /d --json").contains(r#""updated_at":"@253402300800000001""#));
    for (seq, at) in shown.into_iter().enumerate() {
        assert_eq!(
            place.stdout(&format!("anchor --at {at}")),
            place.stdout(&format!("anchor --at {}", seq + 1))
        );
    }
    let zone = place.stdout("log -n 1 --reverse --tz +02:00");
    assert!(zone.starts_with("9999-12-31T23:59:59+02:00 "), "{zone}");
    for at in ["9999-12-31T23:59:59.999999+02:00", "9999-12-31T22:00"] {
        assert_eq!(place.stdout(&format!("get /a --at {at}")), "2\n");
    }
}

#[tokio::test]
async fn what_names_the_accepted_clock_names_its_command_and_that_command_does_not() {
    let place = pinned().await;
    let way = "ustate doctor --accept-clock -m WHY";
    let notes = error(&place.output("set /after 3"));
    assert!(notes.ends_with(&format!("accept the clock, and times go on from its time: {way}\n")), "{notes}");
    // As late as no clock is.
    place
        .forge(|log| {
            let last = log.last_mut().unwrap();
            (last.at, last.created_at) = (Timestamp::from_micros(i64::MAX), Timestamp::from_micros(i64::MAX));
        })
        .await;
    let output = place.output("set /late 4");
    let refused = error(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(refused.contains("has the time @9223372036854775807, "), "{refused}");
    assert!(refused.contains("so no commit can follow it: if the clock is wrong"), "{refused}");
    assert!(refused.contains("the latest time that the file format can hold"), "{refused}");
    assert!(refused.ends_with(&format!("\n  hint: {way}\n")), "{refused}");
    let doctor = place.output("doctor --accept-clock -m 'n7 was wrong' -o tsv");
    assert_eq!(error(&doctor), "", "it is not told to do what it does");
    assert!(String::from_utf8(doctor.stdout).unwrap().contains("\tn7 was wrong\n"));
    assert_eq!(error(&place.output("set /late 4")), "");
    assert_eq!(place.code("verify"), 0);
}

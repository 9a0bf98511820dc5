//! Points inside a commit: every command that takes a point refuses one, whichever way it is written.

use univrs_state::options::Clock;
use univrs_state::{Batch, Options, Seq, SqliteStore, StateStore};

use crate::support::Place;

/// A clock that goes on by an hour with each commit, from 2024-03-01T00:00:00Z on.
#[derive(Debug, Default)]
struct Hourly(std::sync::atomic::AtomicI64);

impl Clock for Hourly {
    fn now(&self) -> univrs_state::log::Timestamp {
        let hour = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        univrs_state::log::Timestamp::from_micros(1_709_251_200_000_000 + hour * 3_600_000_000)
    }
}

/// A store whose changes are 1 to 3, then 4, then 5 to 7: three commits, an hour apart.
async fn stocked() -> (Place, SqliteStore) {
    let place = Place::without_store();
    let store = Options::new().clock(Hourly::default()).open(place.path("state.db")).await.unwrap();
    store.commit(Batch::new().set("/a", "{\"n\":1}").set("/b", "1").set("/c/d", "1")).await.unwrap();
    store.set("/a", b"{\"n\":2}".to_vec()).await.unwrap();
    store.commit(Batch::new().delete("/b").set("/a", "{\"n\":3}").set("/e", "1")).await.unwrap();
    (place, store)
}

/// Every command that takes a point, with `P` where the point stands.
const COMMANDS: [&str; 23] = [
    "get /a --at P",
    "list --at P",
    "tree --at P",
    "log --at P",
    "history /a --at P",
    "blame /a --at P",
    "stats --at P",
    "anchor --at P",
    "log P..",
    "log ..P",
    "export P.. --text",
    "export ..P --text",
    "export P.. -O part.log",
    "replay P.. -o ndjson",
    "replay ..P -o ndjson",
    "replay ..P --into new.db",
    "diff P..",
    "diff ..P",
    "bisect --good P --bad head -- true",
    "bisect --good 0 --bad P -- true",
    "restore /a --to P",
    "restore --all --to P --dry-run",
    "mark add new P --dry-run",
];

/// A command at a point, with output in JSON.
fn in_json(command: &str, point: &str) -> String {
    let command = command.replace('P', point);
    match command.split_once(' ') {
        Some((name, words)) if !words.contains("ndjson") => format!("{name} --json {words}"),
        _ => command,
    }
}

#[tokio::test]
async fn every_command_refuses_a_point_inside_a_commit_however_it_is_written_and_names_both_neighbours() {
    let (place, store) = stocked().await;
    let commits = store.changes(Seq::ZERO, 100).await.unwrap();
    let hash = commits[2].changes[1].hash.to_string();
    for point in ["6", &format!("hash:{hash}"), &format!("hash:{}", &hash[..20])] {
        for command in COMMANDS {
            let command = in_json(command, point);
            let output = place.output(&command);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{command}: {said}");
            assert!(said.contains("\"code\":\"inside_commit\""), "{command}: {said}");
            assert!(
                said.contains("from 5 to 7; before it is the state at 4, after it the one at 7"),
                "{command}: {said}"
            );
            assert!(output.stdout.is_empty(), "{command}");
        }
    }
    assert_eq!(store.head().await.unwrap().seq, Seq::new(7), "nothing was recorded");
    for made in ["part.log", "new.db"] {
        assert!(!place.path(made).exists(), "{made}");
    }
}

#[tokio::test]
async fn the_points_beside_it_are_taken_by_every_command_however_they_are_written() {
    let (place, store) = stocked().await;
    let commits = store.changes(Seq::ZERO, 100).await.unwrap();
    let hash = |commit: usize| format!("hash:{}", commits[commit].changes.last().unwrap().hash);
    let points = [
        "4",
        "7",
        "0",
        "head",
        "head~0",
        "head~1",
        "head~2",
        "2024-03-01T01:30:00Z",
        "2024-03-02",
        &hash(0),
        &hash(1),
        "mark:here",
    ];
    assert_eq!(place.code("mark add here"), 0);
    for point in points {
        // Making files and searching are told apart by other tests.
        for command in
            COMMANDS.iter().filter(|command| !command.contains("-O ") && !command.contains("--into"))
        {
            let command = in_json(command, point);
            let output = place.output(&command);
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(!said.contains("inside"), "{command}: {said}");
            assert!(matches!(output.status.code(), Some(0..=2)), "{command}: {said}");
            let bisects = command.starts_with("bisect");
            assert!(output.status.code() != Some(2) || bisects || point == "0", "{command}: {said}");
        }
    }
}

#[tokio::test]
async fn head_and_a_number_is_the_state_before_so_many_commits() {
    let (place, store) = stocked().await;
    for (point, end) in [("head", 7), ("head~0", 7), ("head~1", 4), ("head~2", 3), ("head~3", 0)] {
        let anchor = place.stdout(&format!("anchor --at {point}"));
        assert!(anchor.contains(&format!("\"seq\":{end},")), "{point}: {anchor}");
    }
    assert_eq!(place.code("anchor --at head~4"), 6);
    assert_eq!(place.stdout("show head~1 -o raw"), "{\"n\":2}");
    assert_eq!(place.stdout("log head~1.. -o tsv").lines().count(), 3);
    assert_eq!(place.stdout("log head~9.. -o tsv").lines().count(), 7);
    // More commits than are read at a time, of one change and of several.
    for n in 0..1500 {
        store.set("/n", n.to_string().into()).await.unwrap();
    }
    for (back, end) in [(1, 1506), (1000, 507), (1001, 506), (1500, 7), (1501, 4), (1503, 0)] {
        let anchor = place.stdout(&format!("anchor --at head~{back}"));
        assert!(anchor.contains(&format!("\"seq\":{end},")), "{back}: {anchor}");
    }
    assert_eq!(place.code("anchor --at head~1504"), 6);
    // Where changes are withheld, nobody can count commits.
    assert_eq!(place.code("export /n -O part.log -q"), 0);
    assert!(place.stdout("anchor --at head~1499 --db part.log").contains("\"seq\":8,"));
    assert_eq!(place.code("anchor --at head~1500 --db part.log"), 6, "7 may be of the same commit as 8");
    assert_eq!(place.code("export '/c/*' -O other.log -q"), 0);
    assert_eq!(place.code("anchor --at head~1 --db other.log"), 6);
}

#[tokio::test]
async fn a_change_inside_a_commit_is_shown_undone_and_followed_from() {
    let (place, store) = stocked().await;
    let hash = store.changes(Seq::ZERO, 100).await.unwrap()[2].changes[1].hash;
    for change in ["6", &format!("hash:{hash}")] {
        assert_eq!(place.stdout(&format!("show {change} -o raw")), "{\"n\":3}");
        let undone = place.stdout(&format!("restore --undo {change} --dry-run -o tsv"));
        assert_eq!(undone.lines().count(), 3, "{undone}");
        let output = place.output(&format!("watch --after {change} --count 3 -o tsv"));
        let (shown, said) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let seqs: Vec<_> = shown.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(seqs, ["5", "6", "7"]);
        assert!(said.contains("6 is inside the commit 5 to 7, which is shown whole"), "{said}");
    }
}

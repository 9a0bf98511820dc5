//! log: pages that end inside large commits.

use univrs_state::archive::Export;
use univrs_state::{Batch, LocalStore, StateStore};

use crate::support::Place;

/// Commits of 1, 450, 3, 700, 199, 200, 201 and 2 changes; each also writes the key `/own`.
async fn stocked() -> (Place, Vec<(u64, String)>) {
    let place = Place::new();
    let store = place.open().await;
    let mut all = Vec::new();
    for size in [1_u64, 450, 3, 700, 199, 200, 201, 2] {
        let batch = (1..size).fold(Batch::new(), |batch, n| batch.set(format!("/many/{n}"), n.to_string()));
        store.commit(batch.set("/own", size.to_string())).await.unwrap();
        let first = all.len() as u64;
        all.extend((1..size).map(|n| (first + n, format!("/many/{n}"))));
        all.push((first + size, "/own".to_owned()));
    }
    store.export_to(Export::new(), place.path("state.log")).await.unwrap();
    store.export_to(Export::new().only("/own".parse().unwrap()), place.path("own.log")).await.unwrap();
    store.close().await.unwrap();
    (place, all)
}

fn told(place: &Place, line: &str) -> Vec<(u64, String)> {
    let rows = place.stdout(line);
    rows.lines()
        .map(|row| {
            let mut fields = row.split('\t');
            let seq = fields.next().unwrap().parse().unwrap();
            (seq, fields.nth(2).unwrap().to_owned())
        })
        .collect()
}

#[tokio::test]
async fn a_log_of_large_commits_is_shown_whole_and_once_from_either_end() {
    let (place, all) = stocked().await;
    let newest_first = |from: &[(u64, String)]| from.iter().rev().cloned().collect::<Vec<_>>();
    for db in ["state.db", "state.log"] {
        assert_eq!(told(&place, &format!("log -o tsv --db {db}")), newest_first(&all), "{db}");
        assert_eq!(told(&place, &format!("log -o tsv --reverse --db {db}")), all, "{db}");
        for (after, to) in [(1, 451), (451, 1154), (454, 1353), (0, 1), (1754, 1756)] {
            let part = &all[after..to];
            let range = format!("log {after}..{to} -o tsv --db {db}");
            assert_eq!(told(&place, &range), newest_first(part), "{range}");
            assert_eq!(told(&place, &format!("{range} --reverse")), part, "{range}");
            assert_eq!(told(&place, &format!("{range} -n 1")), newest_first(part)[..1], "{range}");
        }
        let own: Vec<_> = all.iter().filter(|(_, key)| key == "/own").cloned().collect();
        assert_eq!(told(&place, &format!("log /own -o tsv --db {db}")), newest_first(&own), "{db}");
        assert_eq!(told(&place, &format!("log /own -o tsv --reverse --db {db}")), own, "{db}");
        let part: Vec<_> = own[2..6].to_vec();
        let range = format!("log /own {}..{} -o tsv --db {db}", own[1].0, own[5].0);
        assert_eq!(told(&place, &range), newest_first(&part), "{range}");
    }
    let own: Vec<_> = all.iter().filter(|(_, key)| key == "/own").cloned().collect();
    assert_eq!(told(&place, "log /own -o tsv --db own.log"), newest_first(&own));
}

#[tokio::test]
async fn a_key_of_many_pages_is_shown_whole_and_once_from_either_end() {
    let place = Place::new();
    let store = place.open().await;
    for slice in (0..900).collect::<Vec<u32>>().chunks(90) {
        let batch = slice.iter().fold(Batch::new(), |batch, n| {
            let key = if n % 2 == 0 { "/own" } else { "/other" };
            batch.set(key, n.to_string())
        });
        store.commit(batch).await.unwrap();
    }
    store.close().await.unwrap();
    let own: Vec<u64> = (0..900).filter(|n| n % 2 == 0).map(|n| n + 1).collect();
    for (after, to) in [(0, 900), (90, 810), (450, 540), (810, 900)] {
        let mut part: Vec<u64> = own.iter().copied().filter(|seq| *seq > after && *seq <= to).collect();
        let range = format!("log /own {after}..{to} -o tsv");
        let seqs = |line: &str| told(&place, line).into_iter().map(|(seq, _)| seq).collect::<Vec<_>>();
        assert_eq!(seqs(&format!("{range} --reverse")), part, "{range}");
        assert_eq!(seqs(&format!("{range} --reverse -n 3")), part[..3], "{range}");
        part.reverse();
        assert_eq!(seqs(&range), part, "{range}");
    }
}

#[tokio::test]
async fn changes_of_one_commit_are_shown_together() {
    let (place, all) = stocked().await;
    let shown = place.stdout("show 3 451 2 452 1 -o tsv");
    let seqs: Vec<&str> = shown.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(seqs, ["3", "451", "2", "452", "1"]);
    assert!(all.len() == 1756 && shown.lines().nth(1).unwrap().contains("/own"));
}

//! Exports: whatever carries a log elsewhere carries all of it, proves what it shows, and is
//! believed only whole.

use std::path::Path;
use std::sync::{Arc, Mutex};

use univrs_state::archive::{Archive, Export, Form};
use univrs_state::history::Point;
use univrs_state::log::Change;
use univrs_state::{
    Batch, ErrorKind, LocalStore, MemoryStore, Scan, Seq, SqliteStore, StateError, StateStore,
};

use crate::support::audit::{entries, log_of};
use crate::support::history::{commit_end, random_log, state_at};
use crate::support::{Local, Store, Subject, Written, audit, folder, on_every_backend, seq, value};

on_every_backend!(
    an_export_of_an_import_is_the_same_byte_for_byte,
    an_archive_reads_as_the_store_that_it_was_exported_from,
    an_export_of_a_pattern_shows_that_and_proves_the_same_head,
    redacted_values_are_gone_and_the_rest_is_proved,
    an_export_up_to_a_point_is_the_store_as_it_was,
    an_export_after_a_point_shows_what_came_then,
    lines_of_json_say_all_that_the_log_says,
    an_export_says_how_far_it_is,
    an_export_never_writes_over_anything,
);

fn memory_of(bytes: &[u8]) -> MemoryStore {
    MemoryStore::import(bytes).unwrap()
}

async fn sqlite_of(bytes: Vec<u8>, path: &Path) -> SqliteStore {
    SqliteStore::import(std::io::Cursor::new(bytes), path).await.unwrap()
}

async fn an_export_of_an_import_is_the_same_byte_for_byte<S: Store>(store: S, subject: &Subject) {
    for commits in [0, 1, 40] {
        let log = if commits > 0 { random_log(&store, commits).await } else { Vec::new() };
        let exported = subject.local.export(Export::new()).await.unwrap();
        keep(&exported, "whole");
        let folder = folder();
        let imported = sqlite_of(exported.clone(), &folder.path().join("deep/state.db")).await;
        for copy in [Local::Memory(memory_of(&exported)), Local::Sqlite(imported)] {
            assert_eq!(audit(&copy).await, log, "the same places, versions, times and hashes");
            assert_eq!(copy.export(Export::new()).await.unwrap(), exported);
            // It goes on as the first one would: the same versions, and its commit ids are known.
            let shared = copy.shared();
            for change in log.iter().filter(|change| change.closes_commit()) {
                if let Some(id) = change.meta.as_ref().and_then(|meta| meta.commit_id()) {
                    let other = univrs_state::Batch::new().set("/other/key", "x").commit_id(id);
                    let again = shared.commit(other).await;
                    assert!(matches!(again, Err(StateError::CommitIdReused(_))), "{again:?}");
                }
            }
            shared.set("/a", value("goes on")).await.unwrap();
            let before = log.iter().filter(|change| &*change.key == "/a").count() as u64;
            assert_eq!(shared.version("/a").await.unwrap(), before + 1);
            audit(&copy).await;
        }
        let left: Vec<_> =
            std::fs::read_dir(folder.path().join("deep")).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
    }
}

async fn an_archive_reads_as_the_store_that_it_was_exported_from<S: Store>(store: S, subject: &Subject) {
    let log = random_log(&store, 40).await;
    let folder = folder();
    let path = folder.path().join("state.log");
    let exported = subject.local.export_to(Export::new(), &path).await.unwrap();
    assert_eq!((exported.head, exported.changes), (store.head().await.unwrap(), log.len() as u64));
    assert!(Archive::is_one(&path).unwrap());
    let archive = Archive::open(&path).await.unwrap();
    assert_eq!(
        (archive.store_id(), archive.withheld(), archive.floor().seq),
        (subject.local.store_id(), 0, Seq::ZERO)
    );
    assert_eq!(log_of(&archive).await, log);
    assert_eq!(entries(&archive, "").await, entries(&store, "").await);
    assert_eq!(archive.list_deleted("").await.unwrap(), store.list_deleted("").await.unwrap());
    for key in store.list("").await.unwrap() {
        assert_eq!(
            archive.history(&key, None, 100).await.unwrap(),
            store.history(&key, None, 100).await.unwrap()
        );
    }
    let end = commit_end(&log, seq(9));
    let past = archive.at(end.into()).await.unwrap();
    assert_eq!(past.list("").await.unwrap(), state_at(&log, seq(9)).keys().map(|k| &**k).collect::<Vec<_>>());
    assert!(archive.verify().await.unwrap().is_intact());
    let mut watch = archive.watch_after("/*", Seq::ZERO.into()).unwrap();
    assert_eq!(watch.try_next().await.unwrap().unwrap().seq, Seq::new(1));
    let shared: std::sync::Arc<dyn StateStore> = std::sync::Arc::new(archive.clone());
    assert_eq!(shared.set("/a", value(1)).await, Err(StateError::ReadOnly));
    assert_eq!(archive.delete("/a").await, Err(StateError::ReadOnly));
    assert_eq!(archive.head().await.unwrap(), store.head().await.unwrap());
    archive.close().await.unwrap();
    assert_eq!(archive.get("/a").await, Err(StateError::Closed));
}

async fn an_export_of_a_pattern_shows_that_and_proves_the_same_head<S: Store>(store: S, subject: &Subject) {
    let log = random_log(&store, 60).await;
    let head = store.head().await.unwrap();
    let export = Export::new().only("/a/*".parse().unwrap()).only("/c".parse().unwrap());
    let bytes = subject.local.export(export.clone()).await.unwrap();
    keep(&bytes, "pattern");
    let is_shown = |change: &&Change| change.key.starts_with("/a/") || &*change.key == "/c";
    let shown: Vec<Change> = log.iter().filter(is_shown).cloned().collect();
    let archive = Archive::read(&bytes[..]).unwrap();
    assert_eq!(archive.head().await.unwrap(), head);
    assert_eq!(archive.withheld(), (log.len() - shown.len()) as u64);
    let commits = archive.changes(Seq::ZERO, 10_000).await.unwrap();
    assert!(
        commits.iter().all(|commit| commit.changes.iter().all(|change| change.commit_seq == commit.last))
    );
    assert_eq!(commits.into_iter().flat_map(|commit| commit.changes).collect::<Vec<_>>(), shown);
    let mut paged: Vec<Change> = Vec::new();
    loop {
        let after = paged.last().map_or(Seq::ZERO, |change| change.commit_seq);
        let page = archive.changes(after, 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page.into_iter().flat_map(|commit| commit.changes));
    }
    assert_eq!(paged, shown);
    for n in 0..=log.len() as u64 {
        // Where the end of a commit is withheld, its place is not known to be inside one.
        let past = match archive.at(seq(n).into()).await {
            Err(StateError::InsideCommit { last, .. }) => {
                assert_eq!(last, log[usize::try_from(n).unwrap() - 1].commit_seq);
                continue;
            }
            past => past.unwrap(),
        };
        assert_eq!(past.seq(), seq(n));
        let mut expected = state_at(&log, past.seq());
        expected.retain(|key, _| key.starts_with("/a/") || &**key == "/c");
        if log
            .get(usize::try_from(past.seq().as_u64()).unwrap().wrapping_sub(1))
            .is_none_or(Change::closes_commit)
        {
            assert_eq!(
                past.list("").await.unwrap(),
                expected.keys().map(|key| &**key).collect::<Vec<_>>(),
                "at {n}"
            );
        }
    }
    for change in &shown {
        let past = archive.at(change.at.into()).await.unwrap();
        assert_eq!(past.seq(), change.commit_seq);
        assert_eq!(
            past.version(&change.key).await.unwrap(),
            state_at(&log, change.commit_seq).get(&change.key).map_or(0, |e| e.version)
        );
    }
    assert!(matches!(archive.get("/b/x/1").await, Err(StateError::Erased(_))), "withheld is not absent");
    assert!(matches!(archive.exists("/nowhere").await, Err(StateError::Erased(_))));
    assert!(archive.verify().await.unwrap().is_intact());

    cannot_be_watched(&archive);

    // Exported again it is the same, or less; and it cannot become a store.
    let again = Written::default();
    archive.export(Export::new(), again.clone()).await.unwrap();
    assert_eq!(again.bytes(), bytes);
    let less = Written::default();
    let exported = archive.export(Export::new().only("/c".parse().unwrap()), less.clone()).await.unwrap();
    assert_eq!((exported.head, exported.changes + exported.withheld), (head, log.len() as u64));
    assert_eq!(Archive::read(&less.bytes()[..]).unwrap().head().await.unwrap(), head);
    refused_as_a_store(&bytes, "withholds change").await;
}

/// An export that shows not everything becomes no store, and leaves nothing behind.
async fn refused_as_a_store(bytes: &[u8], why: &str) {
    let error = MemoryStore::import(bytes).unwrap_err();
    assert!(matches!(error, StateError::Erased(_)) && error.to_string().contains(why), "{error}");
    let folder = folder();
    let into = folder.path().join("state.db");
    let error = SqliteStore::import(std::io::Cursor::new(bytes.to_vec()), &into).await.unwrap_err();
    assert!(matches!(error, StateError::Erased(_)) && error.to_string().contains(why), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something is left behind");
}

async fn redacted_values_are_gone_and_the_rest_is_proved<S: Store>(store: S, subject: &Subject) {
    random_log(&store, 60).await;
    store.set("/secret/1", value("hunter2")).await.unwrap();
    store.set("/a", value("shown")).await.unwrap();
    let log = log_of(&store).await;
    let redact = || Export::new().redact("/secret/*".parse().unwrap());
    let bytes = subject.local.export(redact()).await.unwrap();
    keep(&bytes, "redacted");
    assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
    let is_secret = |change: &Change| change.key.starts_with("/secret/") && change.value.is_some();
    let expected: Vec<Change> = log
        .iter()
        .map(|c| if is_secret(c) { Change { value: None, salt: None, ..c.clone() } } else { c.clone() })
        .collect();
    let folder = folder();
    let archive = Archive::read(&bytes[..]).unwrap();
    let memory = memory_of(&bytes);
    let sqlite = sqlite_of(bytes.clone(), &folder.path().join("state.db")).await;
    let stores: [std::sync::Arc<dyn StateStore>; 3] = [
        std::sync::Arc::new(archive),
        std::sync::Arc::new(memory.clone()),
        std::sync::Arc::new(sqlite.clone()),
    ];
    for copy in stores {
        assert_eq!(copy.head().await.unwrap(), store.head().await.unwrap());
        assert_eq!(log_of(&copy).await, expected);
        let erased = copy.get("/secret/1").await.unwrap_err();
        assert!(matches!(&erased, StateError::Erased(why) if why.contains("/secret/1")), "{erased}");
        assert!(copy.exists("/secret/1").await.unwrap());
        assert_eq!(copy.version("/secret/1").await.unwrap(), store.version("/secret/1").await.unwrap());
        assert_eq!(copy.list("").await.unwrap(), store.list("").await.unwrap());
        assert!(matches!(copy.scan(Scan::prefix("/secret/")).await, Err(StateError::Erased(_))));
        let (mut next, mut keys, mut gone) =
            (Some(Scan::prefix("").limit(2).skip_erased()), Vec::new(), Vec::new());
        while let Some(scan) = next {
            let page = copy.scan(scan).await.unwrap();
            assert!(page.entries.len() + page.erased.len() <= 2);
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            gone.extend(page.erased);
            next = page.next;
        }
        assert!(gone.iter().all(|key| key.starts_with("/secret/")) && gone.contains(&"/secret/1".to_owned()));
        assert_eq!(keys.len() + gone.len(), store.list("").await.unwrap().len());
        let past = copy.at(Point::Head).await.unwrap();
        assert!(matches!(past.get("/secret/1").await, Err(StateError::Erased(_))));
        assert_eq!(past.get("/a").await.unwrap(), store.get("/a").await.unwrap());
    }
    for copy in [Local::Memory(memory), Local::Sqlite(sqlite)] {
        assert!(copy.verify().await.unwrap().is_intact());
        assert_eq!(copy.export(Export::new()).await.unwrap(), bytes);
        assert_eq!(copy.export(redact()).await.unwrap(), bytes);
        // It can be written over, and deleted.
        let shared = copy.shared();
        for secret in ["/secret/1", "/secret/2"] {
            shared.set(secret, value("new")).await.unwrap();
            assert_eq!(shared.get(secret).await.unwrap().unwrap().value, b"new");
        }
        shared.delete("/secret/1").await.unwrap();
        audit(&copy).await;
    }
}

async fn an_export_up_to_a_point_is_the_store_as_it_was<S: Store>(store: S, subject: &Subject) {
    let log = random_log(&store, 30).await;
    for n in [0, 1, 10, log.len() as u64].map(|n| commit_end(&log, seq(n)).as_u64()) {
        let past = store.at(seq(n).into()).await.unwrap();
        let bytes = subject.local.export(Export::new().to(seq(n))).await.unwrap();
        let copy = memory_of(&bytes);
        assert_eq!(copy.head().await.unwrap(), past.head());
        assert_eq!(entries(&copy, "").await, state_at(&log, seq(n)).into_values().collect::<Vec<_>>());
    }
    let error = subject.local.export(Export::new().to(seq(9999))).await.unwrap_err();
    assert!(matches!(error, StateError::CursorDiverged(_)), "{error}");
    let error = subject.local.export(Export::new().after(Point::Head).to(seq(0))).await.unwrap_err();
    assert!(error.to_string().contains("exchange the two points"), "{error}");
}

async fn an_export_after_a_point_shows_what_came_then<S: Store>(store: S, subject: &Subject) {
    store.set("/early", value(1)).await.unwrap();
    store.set("/both", value(1)).await.unwrap();
    let floor = store.head().await.unwrap();
    store.set("/both", value(2)).await.unwrap();
    store.set("/late", value(1)).await.unwrap();
    let bytes = subject.local.export(Export::new().after(floor)).await.unwrap();
    keep(&bytes, "range");
    let archive = Archive::read(&bytes[..]).unwrap();
    assert_eq!((archive.floor(), archive.head().await.unwrap()), (floor, store.head().await.unwrap()));
    assert_eq!(archive.get("/both").await.unwrap(), store.get("/both").await.unwrap());
    assert_eq!(archive.list("").await.unwrap(), ["/both", "/late"]);
    assert!(matches!(archive.get("/early").await, Err(StateError::Erased(_))));
    assert!(matches!(archive.at(seq(1).into()).await, Err(StateError::Compacted { .. })));
    let past = archive.at(floor.into()).await.unwrap();
    assert!(matches!(past.get("/both").await, Err(StateError::Compacted { .. })), "it is not known");
    assert_eq!(past.get("/late").await.unwrap(), None);
    assert_eq!(archive.history("/late", None, 9).await.unwrap().len(), 1);
    assert!(matches!(archive.changes(Seq::ZERO, 9).await, Err(StateError::Compacted { .. })));
    assert_eq!(archive.changes(floor.seq, 9).await.unwrap(), store.changes(floor.seq, 9).await.unwrap());
    cannot_be_watched(&archive);
    assert!(archive.verify().await.unwrap().is_intact());
    refused_as_a_store(&bytes, "begins after change 2").await;
}

async fn lines_of_json_say_all_that_the_log_says<S: Store>(store: S, subject: &Subject) {
    random_log(&store, 20).await;
    store.set("/bytes", vec![0xff, 0]).await.unwrap();
    let log = log_of(&store).await;
    let export =
        Export::new().form(Form::Ndjson).redact("/secret/*".parse().unwrap()).only("/bytes".parse().unwrap());
    let text = String::from_utf8(subject.local.export(export).await.unwrap()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(text.lines().all(|line| line.starts_with("{\"v\":1,\"type\":\"")));
    assert_eq!(lines.len(), log.len() + 2);
    assert_eq!((lines[0]["type"].as_str(), lines[0]["floor"].as_u64()), (Some("log"), Some(0)));
    for (line, change) in lines[1..].iter().zip(&log) {
        assert_eq!(
            (line["seq"].as_u64().unwrap(), line["hash"].as_str().unwrap()),
            (change.seq.as_u64(), &*change.hash.to_string())
        );
        if &*change.key != "/bytes" {
            assert_eq!(line["header_hash"].as_str().unwrap(), change.header_hash().to_string());
        }
    }
    let shown = &lines[log.len()];
    assert_eq!((shown["encoding"].as_str(), shown["value"].as_str()), (Some("base64"), Some("/wA=")));
    let end = lines.last().unwrap();
    assert_eq!((end["type"].as_str(), end["count"].as_u64()), (Some("end"), Some(log.len() as u64)));
    assert!(matches!(MemoryStore::import(text.as_bytes()), Err(StateError::InvalidArgument(_))));
}

async fn an_export_says_how_far_it_is<S: Store>(store: S, subject: &Subject) {
    for changes in [100, 2_400] {
        let batch = Batch::new();
        store
            .commit((0..changes).fold(batch, |batch, n| batch.set(format!("/k/{n}"), value(n))))
            .await
            .unwrap();
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let export = Export::new().after(Seq::new(100)).progress(move |at| tell.lock().unwrap().push(at));
    subject.local.export(export).await.unwrap();
    let told = told.lock().unwrap();
    assert!(told.len() > 1 && told.iter().all(|at| at.total == 2_400), "{told:?}");
    assert!(told.is_sorted_by_key(|at| at.done) && told.last().unwrap().done == 2_400, "{told:?}");
}

/// A watch would have to have every change.
fn cannot_be_watched(archive: &Archive) {
    let refusals = [
        archive.watch("/*").unwrap_err(),
        archive.watch_after("/*", Seq::ZERO.into()).unwrap_err(),
        archive.watch_after("/*", archive.floor().seq.into()).unwrap_err(),
        archive.watch_with_snapshot("/*").unwrap_err(),
    ];
    for error in refusals {
        assert!(matches!(error, StateError::Unsupported(_)), "{error}");
        assert!(error.kind() == ErrorKind::Unsupported && !error.is_retryable());
    }
    assert!(matches!(archive.watch("/a**b"), Err(StateError::InvalidKey(_))), "what is wrong is told first");
}

async fn an_export_never_writes_over_anything<S: Store>(store: S, subject: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let folder = folder();
    let path = folder.path().join("state.log");
    std::fs::write(&path, "precious").unwrap();
    let error = subject.local.export_to(Export::new(), &path).await.unwrap_err();
    assert!(
        matches!(&error, StateError::CannotOpen { why, .. } if why.what().contains("not written over")),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let error =
        subject.local.export_to(Export::new(), &folder.path().join("no/state.log")).await.unwrap_err();
    assert!(error.to_string().contains("state.log"), "{error}");
    let error = subject.local.export_to(Export::new(), folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("exists"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something is left behind");
    let new = folder.path().join("new.log");
    subject.local.export_to(Export::new(), &new).await.unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(new.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// Keeps an export for `tools/check_export.py`, which recomputes it.
pub(crate) fn keep(bytes: &[u8], name: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exports");
    std::fs::create_dir_all(&folder).unwrap();
    // Other tests keep the same at the same time.
    let temporary = tempfile::NamedTempFile::new_in(&folder).unwrap();
    std::fs::write(&temporary, bytes).unwrap();
    temporary.persist(folder.join(format!("{name}.log"))).unwrap();
}

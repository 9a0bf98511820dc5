//! Marks: names of points that are in the log themselves.

use std::sync::Arc;

use univrs_state::archive::{Archive, Export};
use univrs_state::history::{Mark, Point};
use univrs_state::{
    Batch, LocalStore, MemoryStore, Meta, Options, Seq, SqliteStore, StateError, StateStore, WithMeta,
};

use crate::support::audit::log_of;
use crate::support::{Store, Subject, folder, on_every_backend, seq, value};

on_every_backend!(
    a_mark_reads_as_the_point_that_it_was_made_at,
    a_mark_is_in_the_log_with_who_made_it_and_why_and_no_pattern_shows_it,
    a_name_that_is_taken_is_refused_unless_it_has_this_point_or_is_moved,
    what_is_no_name_and_what_is_no_point_is_refused_and_nothing_is_recorded,
    of_many_that_take_a_name_at_once_one_gets_it,
    marks_go_with_an_export_an_import_and_a_replay,
    a_log_that_does_not_have_the_point_refuses_it,
);

fn names(marks: &[Mark]) -> Vec<(&str, u64)> {
    marks.iter().map(|mark| (mark.name.as_str(), mark.head.seq.as_u64())).collect()
}

async fn a_mark_reads_as_the_point_that_it_was_made_at<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    let mut points = vec![("zero".to_owned(), 0)];
    assert_eq!(local.mark("zero", Seq::ZERO.into()).await.unwrap().head.seq, Seq::ZERO);
    for n in 1..=20_u64 {
        store.commit(Batch::new().set("/a", n.to_string()).set("/b", "x")).await.unwrap();
        let head = store.head().await.unwrap();
        let at = store.at(Point::Head).await.unwrap().at().unwrap();
        let point = [Point::Head, head.seq.into(), head.into(), at.into()][usize::try_from(n).unwrap() % 4];
        let name = format!("n{n:02}");
        let mark = local.mark(&name, point).await.unwrap();
        assert_eq!((&mark.name, mark.head), (&name, head));
        assert_eq!(local.marked(&name).await.unwrap(), Some(mark));
        points.push((name, n));
    }
    let marks = local.marks().await.unwrap();
    assert!(marks.is_sorted_by(|a, b| a.name < b.name) && marks.len() == points.len());
    for (name, n) in points {
        let mark = local.marked(&name).await.unwrap().unwrap();
        let past = store.at((&mark).into()).await.unwrap();
        assert_eq!(past.head(), mark.head);
        let found = past.get("/a").await.unwrap().map(|entry| entry.value);
        assert_eq!(found, (n > 0).then(|| value(n)), "{name}");
    }
    assert_eq!(local.marked("never").await.unwrap(), None);
}

async fn a_mark_is_in_the_log_with_who_made_it_and_why_and_no_pattern_shows_it<S: Store>(
    store: S,
    subject: &Subject,
) {
    let local = subject.local.opened();
    store.set("/a", value(1)).await.unwrap();
    let mut watch = store.watch("/**").unwrap();
    let alice = WithMeta::new(local.clone(), Meta::new().actor("alice").reason("rollout 88"));
    let mark = alice.mark("before-88", Point::Head).await.unwrap();
    alice.move_mark("before-88", Seq::ZERO.into()).await.unwrap();
    assert!(alice.unmark("before-88").await.unwrap());
    assert!(!alice.unmark("before-88").await.unwrap(), "it is gone");
    store.set("/a", value(2)).await.unwrap();
    assert_eq!(
        watch.try_next().await.unwrap().unwrap().seq,
        seq(5),
        "the changes 2 to 4 are those of the mark"
    );
    let history = store.history(&mark.key(), None, 9).await.unwrap();
    assert_eq!((mark.key().as_str(), history.len()), ("/.univrs/marks/before-88", 3));
    for change in history {
        let meta = change.meta.unwrap();
        assert_eq!((meta.actor.as_deref(), meta.reason.as_deref()), (Some("alice"), Some("rollout 88")));
    }
    assert_eq!(store.list("").await.unwrap(), ["/a"]);
    // Programs make none themselves.
    let own = store.set(&mark.key(), b"{}".to_vec()).await;
    assert!(matches!(own, Err(StateError::InvalidKey(_))), "{own:?}");
    let own = store.delete(&mark.key()).await;
    assert!(matches!(own, Err(StateError::InvalidKey(_))), "{own:?}");
}

async fn a_name_that_is_taken_is_refused_unless_it_has_this_point_or_is_moved<S: Store>(
    store: S,
    subject: &Subject,
) {
    let local = subject.local.opened();
    store.set("/a", value(1)).await.unwrap();
    let mark = local.mark("m", seq(1).into()).await.unwrap();
    store.set("/a", value(2)).await.unwrap();
    let head = store.head().await.unwrap();
    assert_eq!(local.mark("m", seq(1).into()).await.unwrap(), mark);
    assert_eq!(local.move_mark("m", (&mark).into()).await.unwrap(), mark);
    let taken = local.mark("m", Point::Head).await.unwrap_err();
    assert_eq!(taken, StateError::AlreadyExists("/.univrs/marks/m".into()));
    assert_eq!(store.head().await.unwrap(), head, "nothing was recorded");
    assert_eq!(local.marked("m").await.unwrap(), Some(mark));
    let moved = local.move_mark("m", Point::Head).await.unwrap();
    assert_eq!(moved.head, head);
    assert_eq!(local.marks().await.unwrap(), [moved]);
}

async fn what_is_no_name_and_what_is_no_point_is_refused_and_nothing_is_recorded<S: Store>(
    store: S,
    subject: &Subject,
) {
    let local = subject.local.opened();
    store.commit(Batch::new().set("/a", "1").set("/b", "1")).await.unwrap();
    let head = store.head().await.unwrap();
    for name in ["", "a b", "a/b", "../x", "*", "a..b", &"x".repeat(129)] {
        for refused in [
            local.mark(name, Point::Head).await.unwrap_err(),
            local.move_mark(name, Point::Head).await.unwrap_err(),
            local.marked(name).await.unwrap_err(),
            local.unmark(name).await.unwrap_err(),
        ] {
            assert!(matches!(&refused, StateError::InvalidArgument(_)), "{name:?}: {refused}");
        }
    }
    let inside = local.mark("m", seq(1).into()).await.unwrap_err();
    assert!(matches!(inside, StateError::InsideCommit { .. }), "{inside}");
    let beyond = local.mark("m", seq(9).into()).await.unwrap_err();
    assert!(matches!(beyond, StateError::CursorDiverged(_)), "{beyond}");
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(local.marks().await.unwrap(), []);
}

async fn of_many_that_take_a_name_at_once_one_gets_it<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    for n in 1..=8 {
        store.set("/a", value(n)).await.unwrap();
    }
    let tasks: Vec<_> = (1..=8)
        .map(|n| {
            let local = local.clone();
            tokio::spawn(async move { local.mark("m", seq(n).into()).await })
        })
        .collect();
    let mut made = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(mark) => made.push(mark),
            Err(error) => assert!(matches!(error, StateError::AlreadyExists(_)), "{error}"),
        }
    }
    assert_eq!((made.len(), local.marks().await.unwrap()), (1, made));
    assert_eq!(store.head().await.unwrap().seq, seq(9));
}

async fn marks_go_with_an_export_an_import_and_a_replay<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    store.set("/a", value(1)).await.unwrap();
    local.mark("one", Point::Head).await.unwrap();
    store.set("/a", value(2)).await.unwrap();
    local.mark("two", Point::Head).await.unwrap();
    local.mark("gone", Point::Head).await.unwrap();
    local.unmark("gone").await.unwrap();
    let marks = local.marks().await.unwrap();
    assert_eq!(names(&marks), [("one", 1), ("two", 3)]);

    let bytes = subject.local.export(Export::new()).await.unwrap();
    crate::archive::keep(&bytes, "marks");
    let folder = folder();
    let imported: SqliteStore = Options::new()
        .import(std::io::Cursor::new(bytes.clone()), folder.path().join("copy.db"))
        .await
        .unwrap();
    let replayed = MemoryStore::replay(local.store_id(), log_of(&store).await).unwrap();
    let archive = Archive::read(&bytes[..]).unwrap();
    let copies: [Arc<dyn LocalStore>; 4] = [
        Arc::new(imported),
        Arc::new(replayed),
        Arc::new(archive.clone()),
        Arc::new(MemoryStore::import(&bytes[..]).unwrap()),
    ];
    for copy in &copies {
        assert_eq!(copy.marks().await.unwrap(), marks);
        let past = copy.at((&marks[0]).into()).await.unwrap();
        assert_eq!(past.get("/a").await.unwrap().unwrap().value, value(1));
        assert!(copy.verify().await.unwrap().is_intact());
    }
    // What cannot be written refuses even a mark that is there.
    for refused in [
        archive.mark("new", Point::Head).await.map(drop),
        archive.mark("one", (&marks[0]).into()).await.map(drop),
        archive.unmark("one").await.map(drop),
    ] {
        assert_eq!(refused, Err(StateError::ReadOnly));
    }
    // A part of a log says what it lacks.
    let part = subject.local.export(Export::new().only("/a".parse().unwrap())).await.unwrap();
    let part = Archive::read(&part[..]).unwrap();
    assert!(matches!(part.marked("one").await, Err(StateError::Erased(_))));
    let late = subject.local.export(Export::new().after(seq(3))).await.unwrap();
    let late = Archive::read(&late[..]).unwrap();
    assert!(matches!(late.at((&marks[0]).into()).await, Err(StateError::Compacted { .. })));
}

async fn a_log_that_does_not_have_the_point_refuses_it<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    store.set("/a", value(1)).await.unwrap();
    let mark = local.mark("m", Point::Head).await.unwrap();
    // The log of another store, and one that ends before.
    let (other, empty) = (MemoryStore::new(), MemoryStore::new());
    other.set("/a", value(1)).await.unwrap();
    for log in [other, empty] {
        let error = log.at((&mark).into()).await.unwrap_err();
        assert!(matches!(error, StateError::CursorDiverged(_)), "{error}");
    }
    let mut forged = mark.clone();
    forged.head.hash = store.changes(Seq::ZERO, 9).await.unwrap()[1].changes[0].hash;
    let error = store.at((&forged).into()).await.unwrap_err();
    assert!(error.to_string().contains("another hash at position 1"), "{error}");
    assert!(store.at((&mark).into()).await.is_ok());
}

#[tokio::test]
async fn a_handle_that_only_reads_shows_marks_and_makes_none() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.set("/a", value(1)).await.unwrap();
    let mark = store.mark("m", Point::Head).await.unwrap();
    let reader = Options::new().read_only(true).open(&path).await.unwrap();
    assert_eq!(reader.marks().await.unwrap(), std::slice::from_ref(&mark));
    for refused in [
        reader.mark("n", Point::Head).await.map(drop),
        reader.mark("m", (&mark).into()).await.map(drop),
        reader.move_mark("m", Point::Head).await.map(drop),
        reader.unmark("m").await.map(drop),
        reader.unmark("n").await.map(drop),
    ] {
        assert_eq!(refused, Err(StateError::ReadOnly));
    }
    // It stays when the store is opened again.
    reader.close().await.unwrap();
    store.close().await.unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.marked("m").await.unwrap(), Some(mark));
    assert!(store.verify().await.unwrap().is_intact());
}

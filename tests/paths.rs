//! Paths and files that are not right: opening says what is wrong and leaves them as they are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use rusqlite::Connection;
use univrs_state::archive::{Archive, Export};
use univrs_state::{ErrorKind, LocalStore, Options, SqliteStore, StateError, StateStore};

use crate::support::child::Child;
use crate::support::{PATIENCE, Subject, folder, value};

/// The refusal of a path, which names it; reading only is refused in the same way.
async fn refusal(path: &Path) -> String {
    let error = SqliteStore::open(path).await.unwrap_err();
    assert!(matches!(error, StateError::CannotOpen { .. }), "{error:?}");
    assert!(error.kind() == ErrorKind::CannotOpen && !error.is_retryable());
    let read_only = Options::new().read_only(true).open(path).await.unwrap_err();
    assert!(matches!(read_only, StateError::CannotOpen { .. }), "{read_only:?}");
    error.to_string()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_path_that_is_no_file_is_refused_by_what_it_is() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    fs::write(at("elsewhere"), "").unwrap();
    symlink(at("elsewhere"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    for (name, why) in [
        ("directory", "is a directory"),
        ("fifo", "is not a regular file"),
        ("link", "is a symbolic link"),
        ("dangling", "is a symbolic link"),
        ("new/", "ends with '/'"),
    ] {
        let refusal = refusal(&at(name)).await;
        assert!(refusal.contains(why) && refusal.contains(name), "{refusal}");
    }
    for path in ["", "/", "/dev/null", "a\0b"] {
        refusal(Path::new(path)).await;
    }
    assert_eq!(names(folder.path()), ["dangling", "directory", "elsewhere", "fifo", "link"]);
    assert_eq!(fs::metadata(at("elsewhere")).unwrap().len(), 0, "nothing was written through the link");
}

/// A thread that waits for a writer cannot be ended: if opening waits, the test fails and leaves it.
#[test]
fn a_named_pipe_is_no_export_and_is_not_waited_for() {
    let folder = folder();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (answer, answers) = mpsc::channel();
    for told in [false, true] {
        let (pipe, answer) = (pipe.clone(), answer.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let error = if told {
                Archive::is_one(&pipe).unwrap_err()
            } else {
                runtime.block_on(Archive::open(&pipe)).unwrap_err()
            };
            answer.send(error)
        });
    }
    for _ in 0..2 {
        let error = answers.recv_timeout(PATIENCE).expect("it waits for a writer");
        let StateError::CannotOpen { path, why } = &error else { panic!("{error:?}") };
        assert_eq!((path, why.what()), (&pipe, "is not a regular file"));
    }
}

#[tokio::test]
async fn a_part_of_a_path_that_is_no_directory_is_named() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "").unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for (path, part, why) in [
        ("file/x.db", "file", "is not a directory"),
        ("file/in/x.db", "file", "is not a directory"),
        ("loop/x.db", "loop", "Too many levels of symbolic links"),
        ("dangling/x.db", "dangling", "is a symbolic link to nothing"),
    ] {
        let refusal = refusal(&at(path)).await;
        let named = format!("{}: it ", at(part).display());
        assert!(refusal.contains(&named) && refusal.contains(why), "{path}: {refusal}");
    }
    assert_eq!(names(folder.path()), ["dangling", "file", "loop"]);
}

#[tokio::test]
async fn a_place_that_ends_with_a_slash_is_no_file_to_write() {
    let folder = folder();
    let store = SqliteStore::open(folder.path().join("x.db")).await.unwrap();
    store.set("/a", value(1)).await.unwrap();
    let full = folder.path().join("full.log");
    store.export_to(Export::new(), &full).await.unwrap();
    for place in ["x.db/", "new/"].map(|name| folder.path().join(name)) {
        let log = fs::File::open(&full).unwrap();
        let refusals = [
            store.export_to(Export::new(), &place).await.unwrap_err(),
            SqliteStore::import(log, &place).await.unwrap_err(),
        ];
        for error in refusals {
            assert!(matches!(error, StateError::CannotOpen { .. }), "{error:?}");
            assert!(error.to_string().contains("ends with '/'"), "{error}");
        }
    }
    assert!(store.verify().await.unwrap().is_intact());
    store.close().await.unwrap();
    let made = names(folder.path()).into_iter().filter(|name| !name.starts_with("x.db"));
    assert_eq!(made.collect::<Vec<_>>(), ["full.log"]);
}

#[tokio::test]
async fn a_link_planted_beside_the_database_is_not_followed() {
    for suffix in ["-wal", "-shm", "-journal", "-head", "-new"] {
        let folder = folder();
        let path = folder.path().join("state.db");
        fs::write(folder.path().join("victim"), "precious").unwrap();
        symlink(folder.path().join("victim"), folder.path().join(format!("state.db{suffix}"))).unwrap();
        assert!(refusal(&path).await.contains("is a symbolic link; remove it"));
        assert_eq!(fs::read(folder.path().join("victim")).unwrap(), b"precious");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_as_it_is() {
    let folder = folder();
    let long = b"no database at all ".repeat(500);
    for (name, content) in [("short", &b"x"[..]), ("long", &long), ("header", b"SQLite format 3\0")] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let refusal = refusal(&path).await;
        assert!(refusal.contains("is not a database") && refusal.contains(name), "{refusal}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    assert_eq!(names(folder.path()), ["header", "long", "short"], "nothing is left beside them");
}

#[tokio::test]
async fn a_database_of_something_else_is_left_as_it_is() {
    for setup in [
        "CREATE TABLE precious (x); INSERT INTO precious VALUES (1)",
        "PRAGMA journal_mode = WAL; CREATE TABLE precious (x); INSERT INTO precious VALUES (1)",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 3",
        "CREATE TABLE changes (seq INTEGER PRIMARY KEY)",
        "CREATE TABLE kv_store (key TEXT); CREATE TABLE meta (name TEXT)",
    ] {
        let folder = folder();
        let path = folder.path().join("other.db");
        Connection::open(&path).unwrap().execute_batch(setup).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(refusal(&path).await.contains("something else"), "{setup}");
        assert!(fs::read(&path).unwrap() == before, "changed: {setup}");
        let wal = fs::metadata(folder.path().join("other.db-wal")).map_or(0, |wal| wal.len());
        assert_eq!(wal, 0, "written: {setup}");
    }
}

#[tokio::test]
async fn a_database_of_something_else_that_crashed_is_left_as_it_is() {
    let folder = folder();
    let (live, path) = (folder.path().join("live.db"), folder.path().join("other.db"));
    let conn = Connection::open(&live).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
         CREATE TABLE precious (x); INSERT INTO precious VALUES (1)",
    )
    .unwrap();
    // What a crash would leave: everything is still in the write-ahead log.
    let wal = |path: &Path| path.with_extension("db-wal");
    fs::copy(&live, &path).unwrap();
    fs::copy(wal(&live), wal(&path)).unwrap();
    let before = (fs::read(&path).unwrap(), fs::read(wal(&path)).unwrap());
    assert!(refusal(&path).await.contains("something else"));
    assert!(fs::read(&path).unwrap() == before.0, "the database was changed");
    assert!(
        fs::read(wal(&path)).is_ok_and(|wal| wal == before.1),
        "its write-ahead log was moved or deleted"
    );
    let rows: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM precious", [], |r| r.get(0))
        .unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn a_newer_format_is_refused_by_its_number() {
    let subject = Subject::disk().await;
    subject.shared().set("/a", value(1)).await.unwrap();
    subject.audit().await;
    subject.local.close().await.unwrap();
    let path = subject.path.clone().unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let before = fs::read(&path).unwrap();
    let refusal = refusal(&path).await;
    assert!(refusal.contains("format 2") && refusal.contains("newer"), "{refusal}");
    assert!(fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn an_empty_file_becomes_a_store_unless_creating_is_forbidden() {
    let folder = folder();
    let path = folder.path().join("state.db");
    fs::write(&path, "").unwrap();
    for options in [Options::new().create(false), Options::new().read_only(true)] {
        let error = options.open(&path).await.unwrap_err();
        assert!(error.to_string().contains("is empty, not a store"), "{error}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }
    let subject = Subject::open(Options::new(), &path).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    subject.audit().await;
}

#[tokio::test]
async fn nothing_is_created_where_that_is_forbidden() {
    let folder = folder();
    let path = folder.path().join("new/state.db");
    for options in [Options::new().create(false), Options::new().read_only(true)] {
        let error = options.open(&path).await.unwrap_err();
        assert!(matches!(error, StateError::CannotOpen { .. }), "{error}");
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}

// URI file names are always on in the SQLite that we link: `%41` is an A there, and a name may ask
// for a database in memory.
#[tokio::test]
async fn a_path_opens_exactly_the_file_of_its_name() {
    let folder = folder();
    let odd = [
        "%41.db",
        "file:a.db?mode=memory",
        "file:x%2Fy?immutable=1#z",
        ":memory:",
        "a b'\"; DROP.db",
        "ä.db",
        "x?vfs=none",
        "-wal",
    ];
    for name in odd {
        let path = folder.path().join(name);
        let subject = Subject::open(Options::new(), &path).await;
        subject.shared().set("/name", value(name)).await.unwrap();
        subject.audit().await;
        subject.local.close().await.unwrap();
        assert!(fs::metadata(&path).unwrap().len() > 0, "{name}");
    }
    let mut expected: Vec<String> =
        odd.iter().flat_map(|name| [name.to_string(), format!("{name}-head")]).collect();
    expected.sort();
    assert_eq!(names(folder.path()), expected);
    for name in odd {
        let store = SqliteStore::open(folder.path().join(name)).await.unwrap();
        assert_eq!(store.get("/name").await.unwrap().unwrap().value, name.as_bytes());
    }
}

#[tokio::test]
async fn a_new_store_is_readable_by_its_owner_alone() {
    let folder = folder();
    let path = folder.path().join("new/folder/state.db");
    let subject = Subject::open(Options::new(), &path).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    for name in ["state.db", "state.db-wal", "state.db-shm", "state.db-head"] {
        let mode = fs::metadata(path.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    subject.audit().await;
}

#[tokio::test]
async fn a_path_that_is_too_long_for_sqlite_is_refused_by_its_length() {
    let folder = folder();
    let name_of = |bytes: usize| {
        let mut path = folder.path().join("d".repeat(200)).join("e".repeat(200));
        let left = bytes - path.as_os_str().len() - 1;
        path.push("f".repeat(left));
        path
    };
    let subject = Subject::open(Options::new(), &name_of(504)).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    subject.audit().await;
    let refused = refusal(&name_of(505)).await;
    assert!(refused.contains("a path of 505 bytes") && refused.contains("504"), "{refused}");
    let name = "n".repeat(256);
    assert!(refusal(&folder.path().join(&name)).await.contains("name too long"));
}

// A rollback journal of a crash must be rolled back before anything is read, which takes writing.
#[tokio::test]
async fn a_database_with_a_hot_journal_is_refused_to_a_reader_by_that_name() {
    let folder = folder();
    let (live, path) = (folder.path().join("live.db"), folder.path().join("state.db"));
    let subject = Subject::open(Options::new(), &live).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    subject.audit().await;
    subject.local.close().await.unwrap();
    let conn = Connection::open(&live).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN; CREATE TABLE more (x);
         INSERT INTO more SELECT randomblob(3000) FROM json_each('[1,2,3,4,5,6,7,8,9]')",
    )
    .unwrap();
    let journal = |path: &Path| path.with_extension("db-journal");
    fs::copy(&live, &path).unwrap();
    fs::copy(journal(&live), journal(&path)).unwrap();
    drop(conn);
    let error = Options::new().read_only(true).open(&path).await.unwrap_err();
    let StateError::CannotOpen { path: named, why } = &error else { panic!("{error}") };
    assert_eq!(named, &path);
    assert!(why.what().contains("in the middle of a change") && why.what().contains("-journal"), "{error}");
    assert!(std::error::Error::source(&error).is_some(), "what SQLite said is kept");
    // Who may write rolls it back, and then it is the store that it was.
    Subject::open(Options::new(), &path).await.audit().await;
    Subject::open(Options::new().read_only(true), &path).await.audit().await;
}

// As root a file of mode 000 is readable, so this runs as another user, and checks that it does.
#[tokio::test]
async fn a_file_without_permission_is_refused() {
    let folder = folder();
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(folder.path(), 0o755);
    let binary = folder.path().join("child");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    set_mode(&binary, 0o755);
    let path = folder.path().join("state.db");
    let subject = Subject::open(Options::new(), &path).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    subject.audit().await;
    subject.local.close().await.unwrap();
    let before = fs::read(&path).unwrap();

    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let other: &[&str] = if is_root { &["setpriv", "--reuid=65534", "--clear-groups"] } else { &[] };
    set_mode(&path, 0o000);
    let mut child = Child::start_by(other, &binary);
    let shown = path.display();
    child.ask(&format!("read file\t{shown}")).expect_err("the premise: the child may not read the file");
    let refuse = |child: &mut Child, command: &str, why: &str| {
        let error = child.ask(command).unwrap_err();
        assert!(error.starts_with("cannot_open") && error.contains("state.db"), "{error}");
        assert!(error.contains(why), "{error}");
    };
    refuse(&mut child, &format!("open\t{shown}"), "it cannot be read: Permission denied");
    refuse(&mut child, &format!("open read-only\t{shown}"), "it cannot be read: Permission denied");
    if is_root {
        set_mode(&path, 0o644);
        child.ask(&format!("read file\t{shown}")).expect("the premise: now it may");
        refuse(&mut child, &format!("open\t{shown}"), "it cannot be written");
        set_mode(&path, 0o666);
        refuse(&mut child, &format!("open\t{shown}"), "cannot be written: Permission denied");
        let error = child.ask(&format!("open\t{}/new.db", folder.path().display())).unwrap_err();
        assert!(error.starts_with("cannot_open") && error.contains("new.db"), "{error}");
    }
    child.kill();
    set_mode(&path, 0o600);
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(names(folder.path()), ["child", "state.db", "state.db-head"]);
    subject.audit().await;
}

//! How long a connection waits for the locks of others.

use std::ffi::c_int;
use std::time::Duration;

use rusqlite::{Connection, Result};

use super::ffi;
use super::patience::{Clock, Patience};

/// The pause between two attempts at a lock. SQLite's own handler sleeps up to 100 ms, so that a busy process would
/// starve the others.
pub(super) const BUSY_SLEEP: Duration = Duration::from_millis(1);

/// From now on, the connection waits at most so long for a lock; with zero, it does not wait.
///
/// IMPORTANT: by the clock. SQLite's own timeout adds up the times that it means to sleep, so that one second may take
/// many on a busy machine.
pub(super) fn set_busy_timeout(conn: &Connection, most: Duration) -> Result<()> {
    if most.is_zero() { conn.busy_timeout(most) } else { wait(conn, move || Patience::new(most, BUSY_SLEEP)) }
}

/// From now on, the connection waits for each lock with a patience of its own.
fn wait<C: Clock + Send + 'static>(
    conn: &Connection,
    begin: impl Fn() -> Patience<C> + Send + 'static,
) -> Result<()> {
    let mut patience = begin();
    ffi::set_busy_handler(conn, move |earlier: c_int| {
        if earlier == 0 {
            patience = begin();
        }
        patience.pause()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use rusqlite::{Error, ErrorCode};

    use super::super::patience::tests::Told;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The clock of a machine on which each sleep takes eighteen times as long as it is meant to, and since when a
    /// wait measures by it.
    #[derive(Clone, Default)]
    struct Slow(Told, Duration);

    impl Clock for Slow {
        fn passed(&self) -> Duration {
            self.0.passed().saturating_sub(self.1)
        }

        fn sleep(&self, time: Duration) {
            self.0.pass(18 * time);
        }
    }

    /// A connection that waits for a second by this clock, and whatever else it keeps meanwhile.
    fn waiting(path: &Path, clock: &Told, kept: Arc<()>) -> Connection {
        let (conn, clock) = (Connection::open(path).unwrap(), clock.clone());
        let begin = move || {
            let _ = &kept;
            Patience::by(Slow(clock.clone(), clock.passed()), SECOND, BUSY_SLEEP)
        };
        wait(&conn, begin).unwrap();
        conn
    }

    /// A second has passed, and no more than the pause in which it ended.
    fn assert_a_second_since(before: Duration, clock: &Told) {
        let took = clock.passed().saturating_sub(before);
        assert!(took >= SECOND && took <= SECOND + 18 * BUSY_SLEEP, "it took {took:?}");
    }

    fn folder_with_log() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.db");
        let conn = Connection::open(&path).unwrap();
        conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        conn.execute_batch("CREATE TABLE numbers (number INTEGER)").unwrap();
        (folder, path)
    }

    fn count(conn: &Connection) -> Result<i64> {
        conn.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))
    }

    // One second took eighteen: the sleeps were counted, and not the time.
    #[test]
    fn each_read_of_a_locked_file_is_given_up_when_the_time_is_over_by_the_clock() {
        let (_folder, path) = folder_with_log();
        let other = Connection::open(&path).unwrap();
        // This keeps readers out, too, as the recovery of a log does.
        other.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(())).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let clock = Told::default();
        let conn = waiting(&path, &clock, Arc::default());
        for _ in 0..2 {
            let before = clock.passed();
            let error = count(&conn).unwrap_err();
            assert!(
                matches!(&error, Error::SqliteFailure(e, _) if e.code == ErrorCode::DatabaseBusy),
                "{error}"
            );
            assert_a_second_since(before, &clock);
        }
        set_busy_timeout(&conn, Duration::ZERO).unwrap();
        let before = clock.passed();
        assert!(count(&conn).is_err());
        assert_eq!(clock.passed(), before, "without time, it does not wait");
        drop(other);
        assert_eq!(count(&conn).unwrap(), 0);
    }

    #[test]
    fn a_checkpoint_waits_for_a_reader_until_the_time_is_over_by_the_clock() {
        let (_folder, path) = folder_with_log();
        let clock = Told::default();
        let conn = waiting(&path, &clock, Arc::default());
        conn.execute_batch("INSERT INTO numbers VALUES (1)").unwrap();
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        assert_eq!(count(&reader).unwrap(), 1);
        conn.execute_batch("INSERT INTO numbers VALUES (2)").unwrap();
        let empty = || conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        let before = clock.passed();
        assert_eq!(empty().unwrap(), 1, "it was busy");
        assert_a_second_since(before, &clock);
        reader.execute_batch("COMMIT").unwrap();
        let before = clock.passed();
        assert_eq!(empty().unwrap(), 0);
        assert_eq!(clock.passed(), before);
    }

    #[test]
    fn what_a_wait_keeps_is_freed_once_when_it_is_replaced_or_the_connection_is_closed() {
        let (_folder, path) = folder_with_log();
        let kept = Arc::new(());
        let conn = waiting(&path, &Told::default(), kept.clone());
        assert_eq!(Arc::strong_count(&kept), 2);
        set_busy_timeout(&conn, SECOND).unwrap();
        assert_eq!(Arc::strong_count(&kept), 1);
        let conn = waiting(&path, &Told::default(), kept.clone());
        set_busy_timeout(&conn, Duration::ZERO).unwrap();
        assert_eq!(count(&conn).unwrap(), 0);
        drop(conn);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}

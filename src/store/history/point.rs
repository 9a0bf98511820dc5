//! Points in the history of a store.

use std::ops::ControlFlow;
use std::time::SystemTime;

use crate::backend::{Snapshot, missing};
use crate::error::{Result, StateError};
use crate::key::CLOCK_KEY;
use crate::log::{Cursor, Head, Timestamp};
use crate::seq::Seq;
use crate::store::read::log::{recorded, resolve};

/// A point in the history of a store: the end of a commit, named by its position, its time or its hash.
///
/// A position inside a commit is refused with [`StateError::InsideCommit`], which names both neighbours, however it is
/// written: as a position, a cursor or a head. A time means the newest of the commits at or before it. Commit times
/// strictly increase, except where the clock was accepted
/// ([`LocalStore::accept_clock`](crate::LocalStore::accept_clock)).
///
/// ```
/// use univrs_state::history::Point;
/// use univrs_state::{Batch, MemoryStore, Seq, StateError, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let first = store.head().await?;
/// store.set("/a", b"2".to_vec()).await?;
///
/// for point in [Point::from(Seq::new(1)), Point::from(first)] {
///     assert_eq!(store.at(point).await?.get("/a").await?.unwrap().value, b"1");
/// }
/// assert_eq!(store.at(Point::Head).await?.get("/a").await?.unwrap().value, b"2");
///
/// store.commit(Batch::new().set("/a", "3").set("/b", "3")).await?; // the changes 3 and 4
/// let inside = store.at(Seq::new(3).into()).await.unwrap_err();
/// let (requested, before, last) = (Seq::new(3), Seq::new(2), Seq::new(4));
/// assert_eq!(inside, StateError::InsideCommit { requested, before, last });
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Point {
    /// The end of the log at the moment of the call.
    #[default]
    Head,
    /// A position, which is the end of a commit; zero is before the first change.
    Seq(Seq),
    /// The last commit at or before this time.
    Time(Timestamp),
    /// A position with the hash there and the id of the store, both of which are checked.
    Cursor(Cursor),
    /// A position with the hash there, which is checked: a head that was kept outside of the store.
    Anchor(Head),
}

impl From<Seq> for Point {
    fn from(seq: Seq) -> Self {
        Self::Seq(seq)
    }
}

impl From<Timestamp> for Point {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl From<SystemTime> for Point {
    fn from(time: SystemTime) -> Self {
        Self::Time(time.into())
    }
}

impl From<Cursor> for Point {
    fn from(cursor: Cursor) -> Self {
        Self::Cursor(cursor)
    }
}

impl From<Head> for Point {
    fn from(head: Head) -> Self {
        Self::Anchor(head)
    }
}

/// Finds a point: the head at the end of a commit, and its time; no time before the first commit.
pub(crate) fn find(snapshot: &dyn Snapshot, point: Point) -> Result<(Head, Option<Timestamp>)> {
    let head = match point {
        Point::Head => snapshot.tip()?.head,
        Point::Seq(seq) => end_at(snapshot, seq.into())?,
        Point::Cursor(cursor) => end_at(snapshot, cursor)?,
        Point::Anchor(head) => end_at(snapshot, Cursor::new(snapshot.store_id(), head))?,
        Point::Time(time) => at_time(snapshot, time)?,
    };
    let floor = snapshot.floor()?;
    let at = if head.seq == floor.seq() {
        floor.at
    } else if snapshot.withheld(head.seq).is_some() {
        None
    } else {
        snapshot.change(head.seq)?.map(|change| change.at)
    };
    Ok((head, at))
}

/// The end of the commit at a position.
fn end_at(snapshot: &dyn Snapshot, cursor: Cursor) -> Result<Head> {
    let (requested, found) = (cursor.seq(), resolve(snapshot, cursor)?);
    let last = if found.seq < requested { recorded(snapshot, requested)?.commit_seq } else { requested };
    not_inside(requested, found, last)
}

/// Refuses a position inside a commit. `found` is the last end of a commit at or before the position; `last` is the end
/// of the commit of the change there.
fn not_inside(requested: Seq, found: Head, last: Seq) -> Result<Head> {
    if found.seq == requested {
        return Ok(found);
    }
    Err(StateError::InsideCommit { requested, before: found.seq, last })
}

/// The end of the last commit at or before a time.
///
/// Times increase from commit to commit, except where the clock was accepted. So the log is a row of spans with sorted
/// times, each but the first beginning with a change of the clock's key. The newest span that has a commit at or before
/// the time has the last one, which is found by binary search.
fn at_time(snapshot: &dyn Snapshot, time: Timestamp) -> Result<Head> {
    let floor = snapshot.floor()?.seq();
    let (mut last, mut accepted) = (snapshot.tip()?.head.seq, last_accepted(snapshot)?);
    while last > floor {
        let first = accepted.filter(|accepted| *accepted > floor).unwrap_or(floor.next());
        match at_time_between(snapshot, first, last, time)? {
            Search::Found(head) => return Ok(head),
            Search::Later => {}
            Search::Withheld => return at_known_time(snapshot, time),
        }
        let change = if accepted == Some(first) { Some(recorded(snapshot, first)?) } else { None };
        (last, accepted) = (first.previous(), change.map(|change| change.prev));
    }
    floor_at(snapshot, time)
}

/// The floor, if its commit was at or before a time; else the log has no commit that was, or none any more.
fn floor_at(snapshot: &dyn Snapshot, time: Timestamp) -> Result<Head> {
    let floor = snapshot.floor()?;
    match floor.at {
        Some(at) if at <= time => Ok(floor.head),
        _ if floor.seq() > Seq::ZERO && snapshot.is_whole() => Err(floor.compacted(floor.seq().previous())),
        _ => Err(too_early()),
    }
}

/// The last change of the clock's key; `None` if the log has none.
fn last_accepted(snapshot: &dyn Snapshot) -> Result<Option<Seq>> {
    match snapshot.key_version(CLOCK_KEY) {
        Ok(known) => Ok(known.map(|known| known.seq)),
        // The log is a part of one, and may lack an earlier change of the key.
        Err(StateError::Erased(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The result of a search in a span of the log.
enum Search {
    Found(Head),
    /// All its commits are later.
    Later,
    /// A change whose time is needed is withheld.
    Withheld,
}

/// The end of the last commit at or before a time, of those from one change to another, whose times increase. The
/// changes on both sides of the end are checked.
fn at_time_between(snapshot: &dyn Snapshot, first: Seq, last: Seq, time: Timestamp) -> Result<Search> {
    if [first, last].into_iter().any(|seq| snapshot.withheld(seq).is_some()) {
        return Ok(Search::Withheld);
    }
    if recorded(snapshot, first)?.at > time {
        return Ok(Search::Later);
    }
    let end = recorded(snapshot, last)?;
    if end.at <= time {
        return Ok(Search::Found(end.head()));
    }
    let (mut before, mut after) = (first, last);
    while before.next() < after {
        let middle = Seq::new(u64::midpoint(before.as_u64(), after.as_u64()));
        let link = match snapshot.link(middle)? {
            Some(link) => link,
            None if snapshot.withheld(middle).is_some() => return Ok(Search::Withheld),
            None => return Err(missing(middle)),
        };
        if link.at <= time { before = middle } else { after = middle }
    }
    let (found, next) = (recorded(snapshot, before)?, recorded(snapshot, after)?);
    if found.at <= time && next.at > time && found.closes_commit() {
        Ok(Search::Found(found.head()))
    } else {
        Err(StateError::Corrupted(format!("the times of the changes around {before} are not in order")))
    }
}

/// The end of the last commit at or before a time, in a log with withheld changes. Their times are unknown, so only the
/// other changes are compared.
fn at_known_time(snapshot: &dyn Snapshot, time: Timestamp) -> Result<Head> {
    let floor = snapshot.floor()?.seq();
    let mut last = floor;
    snapshot.changes(last, &mut |change| {
        if change.at <= time {
            last = change.commit_seq;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if last == floor {
        return floor_at(snapshot, time);
    }
    let hash = snapshot.hash_at(last)?.ok_or_else(|| missing(last))?;
    Ok(Head { seq: last, hash })
}

fn too_early() -> StateError {
    StateError::InvalidArgument(
        "nothing was recorded at or before that time; name a time after the first commit, or the position 0"
            .into(),
    )
}

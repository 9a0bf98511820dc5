//! The checker finds what it is there to find: each violation, planted in a stream that is sound.

use std::sync::{Arc, Mutex};

use univrs_state::log::Change;
use univrs_state::{Batch, Cursor, EventType, MemoryStore, StateStore, WatchEvent};

use super::checker::{Tally, check};
use super::plan::{END, Plan, Seen, Start};
use super::recording::follow;
use super::stage::Stage;
use crate::histories::journal::{Journal, Line};
use crate::support::plant::{Plant, each_is_found};
use crate::support::{log_of, seq, value};

const PATTERN: &str = "/a/*";

/// A stream that was read to its end, an event at a time.
#[derive(Clone)]
struct Sound {
    log: Vec<Change>,
    seen: Vec<Seen>,
    until: u64,
}

impl Sound {
    fn check(&self) -> Result<Tally, String> {
        check(&self.log, PATTERN, &self.seen, self.until)
    }

    /// Where the event of a position stands.
    fn place(&self, at: u64) -> usize {
        self.seen.iter().position(|seen| matches!(seen, Seen::Event(event) if event.seq == seq(at))).unwrap()
    }

    fn event(&mut self, at: u64) -> &mut WatchEvent {
        let place = self.place(at);
        match &mut self.seen[place] {
            Seen::Event(event) => event,
            _ => unreachable!(),
        }
    }

    /// The cursor behind a position of the log.
    fn cursor(&self, at: u64) -> Cursor {
        let store = self.seen.iter().find_map(|seen| match seen {
            Seen::Cursor(cursor) => cursor.store_id(),
            _ => None,
        });
        let change = &self.log[usize::try_from(at).unwrap() - 1];
        Cursor::new(store.unwrap(), change.head())
    }
}

/// The stream that begins so, of commits at 1, 2, 3 to 5, 6, 7 to 8, 9 and 10; those at 2 and 4
/// and 9 do not match.
async fn sound(start: Start) -> Sound {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    store.set("/a/1", value(1)).await.unwrap();
    store.set("/b", value(1)).await.unwrap();
    let (stage, lines) = (Stage::new(store.clone()), Arc::new(Mutex::new(Vec::new())));
    let plan = Plan {
        name: "stream".into(),
        pattern: PATTERN.into(),
        start,
        burst: u64::MAX,
        last: true,
        commits: false,
        // Reads on without a pause.
        seed: 1,
    };
    let following = tokio::spawn(follow(stage.clone(), plan, Journal::Kept(lines.clone())));
    stage.begun(1).await;
    store.commit(Batch::new().set("/a/1", "2").set("/b", "2").set("/a/2", "2")).await.unwrap();
    store.delete("/a/1").await.unwrap();
    store.commit(Batch::new().set("/a/1", "3").set("/a/1", "4")).await.unwrap();
    store.set("/b", value(3)).await.unwrap();
    store.set("/a/1", value(END)).await.unwrap();
    stage.written();
    following.await.unwrap().unwrap();
    let lines = std::mem::take(&mut *lines.lock().unwrap());
    let seen = lines.into_iter().filter_map(|line| match line {
        Line::Seen { seen, .. } => Some(seen),
        _ => None,
    });
    Sound { log: log_of(&store).await, seen: seen.collect(), until: 10 }
}

#[tokio::test]
async fn sound_streams_are_found_sound() {
    let tally = sound(Start::Beginning).await.check().unwrap();
    assert_eq!(tally, Tally { events: 7, bookmarks: 7, resumed: 0, snapshots: 0 });
    let tally = sound(Start::Now).await.check().unwrap();
    assert_eq!(tally, Tally { events: 6, bookmarks: 6, resumed: 0, snapshots: 0 });
    let tally = sound(Start::Snapshot).await.check().unwrap();
    assert_eq!(tally, Tally { events: 6, bookmarks: 6, resumed: 0, snapshots: 1 });
}

#[tokio::test]
async fn a_stream_that_is_resumed_may_repeat_what_its_cursor_does_not_cover() {
    let mut sound = sound(Start::Beginning).await;
    // In the middle of a commit, all of it comes again.
    let place = sound.place(3) + 2;
    let again = sound.seen[place - 2..].to_vec();
    sound.seen.truncate(place);
    sound.seen.push(Seen::From(sound.cursor(1)));
    sound.seen.extend(again);
    let tally = sound.check().unwrap();
    assert_eq!((tally.events, tally.resumed), (8, 1));
}

#[tokio::test]
async fn each_planted_violation_is_found() {
    let plants: [Plant<Sound>; 22] = [
        ("events in another order", "event 3 is missing before 5", |sound| {
            let (one, two) = (sound.place(3), sound.place(5));
            sound.seen.swap(one, two);
        }),
        ("an event that comes again later", "event 3 came after 6", |sound| {
            let again = sound.seen[sound.place(3)].clone();
            sound.seen.insert(sound.place(6) + 1, again);
        }),
        ("an event that comes twice", "event 3 came twice", |sound| {
            let again = sound.seen[sound.place(3)].clone();
            sound.seen.insert(sound.place(3), again);
        }),
        ("an event that is left out", "event 6 is missing before the bookmark 6", |sound| {
            sound.seen.remove(sound.place(6));
        }),
        ("an event that is left out with its bookmark", "event 6 is missing before 7", |sound| {
            let place = sound.place(6);
            sound.seen.drain(place..place + 2);
        }),
        ("half a commit that is left out", "event 5 is missing before the bookmark 5", |sound| {
            sound.seen.remove(sound.place(5));
        }),
        ("an end that is not shown", "it stands at Some(9) and has not reached 10", |sound| {
            sound.seen.truncate(sound.place(10));
            sound.seen.push(Seen::Cursor(sound.cursor(9)));
        }),
        (
            "a bookmark that passes over what was not shown",
            "event 5 is missing before the bookmark",
            |sound| {
                let place = sound.place(3) + 1;
                sound.seen[place] = Seen::Cursor(sound.cursor(5));
            },
        ),
        ("a bookmark inside a commit", "its bookmark 3 is inside a commit", |sound| {
            let place = sound.place(3) + 1;
            sound.seen[place] = Seen::Cursor(sound.cursor(3));
        }),
        ("a bookmark that goes back", "its bookmark went back from Some(5) to 2", |sound| {
            let place = sound.place(6) + 1;
            sound.seen[place] = Seen::Cursor(sound.cursor(2));
        }),
        ("a bookmark that lags", "its bookmark 5 lags behind the commit at 6", |sound| {
            let place = sound.place(6) + 1;
            sound.seen[place] = Seen::Cursor(sound.cursor(5));
        }),
        ("a bookmark of another log", "is no position of the log", |sound| {
            sound.log[9].hash = sound.log[0].hash;
        }),
        ("a stream that is resumed too far on", "event 3 is missing before 5", |sound| {
            let place = sound.place(3);
            let resumed = Seen::From(sound.cursor(1));
            sound.seen.splice(place..place + 2, [resumed]);
        }),
        ("a stream that is resumed too far back", "event 1 lies before the position", |sound| {
            let (place, again) = (sound.place(6), sound.seen[sound.place(1)].clone());
            sound.seen.insert(place, Seen::From(sound.cursor(5)));
            sound.seen.insert(place + 1, again);
        }),
        ("an event of another pattern", "event 2 is of /b, which is not of its pattern", |sound| {
            let place = sound.place(3);
            let mut event = sound.event(1).clone();
            (event.seq, event.commit_seq, event.key) = (seq(2), seq(2), "/b".into());
            sound.seen.insert(place, Seen::Event(event));
        }),
        ("an event that never happened", "event 11 never happened", |sound| sound.event(10).seq = seq(11)),
        ("a wrong kind", "event 3 has a wrong kind", |sound| {
            sound.event(3).event_type = EventType::Created;
        }),
        ("no value before", "event 3 has a wrong value before", |sound| sound.event(3).old_value = None),
        ("another value before", "event 8 has a wrong value before", |sound| {
            // That of before the commit, which wrote the key twice.
            sound.event(8).old_value = Some(value(2));
        }),
        ("a value before where there was none", "event 7 has a wrong value before", |sound| {
            sound.event(7).old_value = Some(value(2));
        }),
        ("a wrong value", "event 5 has a wrong value", |sound| sound.event(5).new_value = Some(value(3))),
        ("a wrong commit", "event 3 has a wrong commit", |sound| sound.event(3).commit_seq = seq(3)),
    ];
    each_is_found(&sound(Start::Beginning).await, Sound::check, &plants);
}

#[tokio::test]
async fn each_gap_behind_a_snapshot_is_found() {
    let plants: [Plant<Sound>; 6] = [
        ("a change between snapshot and events", "event 3 is missing before 5", |sound| {
            let place = sound.place(3);
            sound.seen.drain(place..place + 2);
        }),
        ("a snapshot that lies before its cursor", "its snapshot is not the state at 5", |sound| {
            let Seen::Snapshot(entries, _) = sound.seen[0].clone() else { unreachable!() };
            let place = sound.place(6);
            sound.seen.drain(..place);
            sound.seen.insert(0, Seen::Snapshot(entries, sound.cursor(5)));
        }),
        ("a snapshot of half a commit", "its snapshot is of half a commit, at 3", |sound| {
            let Seen::Snapshot(entries, _) = sound.seen[0].clone() else { unreachable!() };
            sound.seen[0] = Seen::Snapshot(entries, sound.cursor(3));
        }),
        ("an entry that the snapshot leaves out", "its snapshot is not the state at 2", |sound| {
            sound.seen[0] = Seen::Snapshot(Vec::new(), sound.cursor(2));
        }),
        ("a value in the snapshot that is not there yet", "its snapshot is not the state at 2", |sound| {
            let Seen::Snapshot(entries, _) = &mut sound.seen[0] else { unreachable!() };
            entries[0].value = value(2);
        }),
        ("events that begin before the snapshot", "event 1 lies before the position", |sound| {
            let mut event = sound.event(3).clone();
            (event.seq, event.commit_seq) = (seq(1), seq(1));
            sound.seen.insert(1, Seen::Event(event));
        }),
    ];
    each_is_found(&sound(Start::Snapshot).await, Sound::check, &plants);
}

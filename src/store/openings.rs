//! The files that this process has open. Openings of one file share one store: its threads, its connections and
//! its state in memory.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::commit::Sources;
use super::engine::writer::Writer;
use super::foreign::broken;
use super::options::Options;
use super::session::{Membership, Running};
use super::stats::Warning;
use super::threads;
use crate::backend::sqlite::{Opening, Place, PlaceLocks};
use crate::error::Result;
use crate::sync::{Mutex, lock};

/// IMPORTANT: both are locked only while a connection is counted ([`Opening::enter`]). A fork that was made
/// meanwhile is refused before it would wait for a thread that it does not have.
static OPEN: Mutex<Vec<Weak<OpenFile>>> = Mutex::new(Vec::new());
/// One opening of a place starts its store, while others of that place wait for it.
static STARTING: PlaceLocks = PlaceLocks::new();

/// A store that other openings may join. The store keeps it, so that what the program gave to it, such as a clock, ends
/// with the last handle.
struct OpenFile {
    place: Place,
    /// The device and the inode number.
    number: (u64, u64),
    options: Options,
    opening: Opening,
    warnings: Arc<[Warning]>,
    running: Weak<Running>,
}

/// What an opening has of its store. The opening ends with it.
pub(super) struct Opened {
    pub(super) membership: Membership,
    pub(super) immutable: bool,
    pub(super) warnings: Arc<[Warning]>,
}

/// Opens a file, or joins the store of an earlier opening.
pub(super) async fn open(options: Options, opening: Opening) -> Result<Opened> {
    begin(move || join_or_start(options, opening)).await
}

/// Opens a store that no other opening joins.
pub(super) async fn open_alone(opening: Opening, sources: Sources, resident_bytes: usize) -> Result<Opened> {
    let start = move || start(opening, sources, resident_bytes);
    begin(|| start().map(|(opened, writer)| (opened, Some(writer)))).await
}

/// Runs this on a thread of its own, which becomes that of the writer if there is one.
async fn begin(open: impl FnOnce() -> Result<(Opened, Option<Writer>)> + Send + 'static) -> Result<Opened> {
    let (reply, opened) = oneshot::channel();
    let run = move || match open() {
        Ok((opened, writer)) => {
            // If the caller no longer waits, its opening ends here, and the store with it, unless others have joined.
            drop(reply.send(Ok(opened)));
            if let Some(writer) = writer {
                writer.run_until_closed();
            }
        }
        Err(error) => drop(reply.send(Err(error))),
    };
    threads::spawn("univrs-state writer", run)?;
    opened.await.unwrap_or_else(|_| Err(broken()))
}

fn join_or_start(options: Options, opening: Opening) -> Result<(Opened, Option<Writer>)> {
    let (opening, _entered) = opening.enter()?;
    let place = opening.place();
    if let Some(opened) = place.as_ref().and_then(|place| join(place, &options, &opening)) {
        return Ok((opened, None));
    }
    STARTING.at(place.as_ref(), || {
        // Another opening may have started one meanwhile.
        if let Some(opened) = place.as_ref().and_then(|place| join(place, &options, &opening)) {
            return Ok((opened, None));
        }
        let (opened, writer) = start(opening, options.sources(), options.budget())?;
        opened.membership.running().shared.registry().budget().limit(options.of_watches());
        if let (Some(place), false) = (&place, opened.immutable) {
            register(place.clone(), options, writer.opening().clone(), &opened);
        }
        Ok((opened, Some(writer)))
    })
}

/// Joins a store that is open at this place, if the options allow it, and its files are those that are there now.
/// One that can be written comes before one that is read-only.
fn join(place: &Place, options: &Options, asked: &Opening) -> Option<Opened> {
    let number = asked.file_number()?;
    let fits = |open: &OpenFile| {
        open.place == *place
            && open.number == number
            && options.may_share(&open.options)
            && asked.durability.is_none_or(|durability| open.opening.durability == Some(durability))
    };
    // IMPORTANT: the last reference to a store is dropped without the lock, because that runs code of the program.
    let open: Vec<Arc<OpenFile>> = lock(&OPEN).iter().filter_map(Weak::upgrade).collect();
    let mut found: Vec<(Arc<Running>, Arc<OpenFile>)> = open
        .into_iter()
        .filter(|open| fits(open))
        .filter_map(|open| Some((open.running.upgrade()?, open)))
        .collect();
    found.retain(|(running, _)| asked.expected.is_none_or(|store| store == running.shared.store));
    found.sort_by_key(|(_, open)| open.opening.read_only);
    found.into_iter().filter(|(_, open)| open.opening.is_in_place()).find_map(|(running, open)| {
        let membership = running.join()?;
        Some(Opened { membership, immutable: false, warnings: open.warnings.clone() })
    })
}

fn start(opening: Opening, sources: Sources, resident_bytes: usize) -> Result<(Opened, Writer)> {
    let (writer, engine) = Writer::open(opening, sources, resident_bytes)?;
    let warnings = engine.warnings.as_slice().into();
    let membership = Running::start(engine.shared.clone(), Arc::new(engine));
    Ok((Opened { membership, immutable: writer.opening().immutable, warnings }, writer))
}

/// Lets later openings join a store.
fn register(place: Place, options: Options, opening: Opening, opened: &Opened) {
    let Some(number) = opening.file_number() else { return };
    let running = opened.membership.running();
    let (joined, warnings) = (Arc::downgrade(running), opened.warnings.clone());
    let file = Arc::new(OpenFile { place, number, options, opening, warnings, running: joined });
    let mut open = lock(&OPEN);
    open.retain(|open| open.strong_count() > 0);
    open.push(Arc::downgrade(&file));
    drop(open);
    running.keep(file);
}

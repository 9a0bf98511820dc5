//! `ustate compact`

use std::path::{Path, PathBuf};

use clap::Args;
use univrs_state::archive::{Archive, Export};
use univrs_state::history::Point as Place;
use univrs_state::log::Anchor;
use univrs_state::pattern::Pattern;
use univrs_state::retain::{Compact as Request, Compacted, Retention};
use univrs_state::{Batch, Head, LocalStore, StateStore};

use super::export::{refuse_existing, to_file};
use super::verify::read_anchors;
use crate::confirm::confirm;
use crate::context::{Context, may_write};
use crate::interrupt::interruptible;
use crate::json::Object;
use crate::origin::Origin;
use crate::output::Format;
use crate::plan::{Planned, outcome};
use crate::point::Point;
use crate::progress::{Progress, Unit};
use crate::selection::parse_pattern;
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, fail};

const EXAMPLES: &str = "\
Examples:
  ustate compact --before 30d-ago --dry-run
  ustate compact --before 30d-ago --archive old.log --yes -m 'kept for 30 days'
  ustate compact --before mark:release-7 --keep '/config/**' --forget
  ustate compact --resume";

/// The command that finishes a compaction.
const RESUME: &str = "compact --resume";

/// Drop what was replaced before a point, for good.
///
/// The log then begins after the point, its floor. Up to there only the last change of each key is left, so the state at
/// the floor and everything after it stay as they are. Without --yes it asks first. Readers and writers go on meanwhile. If
/// it is cut off, 'ustate compact --resume' finishes it. Exit code 1 says that a consumer, or with --spare-marks a mark, is
/// in the way. Fields of -o tsv: floor, hash, dropped, left, digest; with --dry-run a name and a number, then consumer,
/// name, seq, holds or passed; mark, name, seq; anchor, seq.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Compact {
    /// The new floor: the end of a commit at least ten minutes old ('ustate --help').
    #[arg(long, value_name = "POINT", required_unless_present = "resume", conflicts_with = "resume")]
    before: Option<Point>,
    /// Keep all changes of the keys that match.
    #[arg(long, value_name = "PATTERN", conflicts_with = "resume")]
    keep: Vec<String>,
    /// Forget keys that were deleted before the point, as if they had never been.
    #[arg(long, conflicts_with = "resume")]
    forget: bool,
    /// Also where a consumer is not done with it, or the point is younger than ten minutes.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// Not where a mark names a point before it.
    #[arg(long, conflicts_with = "resume")]
    spare_marks: bool,
    /// First write everything up to the point to this file; nothing may be there yet.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    archive: Option<PathBuf>,
    /// Finish a compaction that was cut off.
    #[arg(long)]
    resume: bool,
    /// With --dry-run, which of these anchors would stop being provable; - for standard input.
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    anchor: Vec<PathBuf>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Say what would be done, and who is in the way, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

impl Compact {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "compact")?;
        let Some(point) = &self.before else { return self.resume(context).await };
        if let Some(archive) = &self.archive {
            refuse_existing(archive)?;
        }
        let keep = self.keep.iter().map(|text| parse_pattern(text)).collect::<Done<Vec<_>>>()?;
        let mut anchors = Vec::new();
        for file in &self.anchor {
            anchors.extend(read_anchors(file).await?);
        }
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let floor = point.past(context, &source).await?.head();
        let planned = self.plan(context, &source, self.request(floor, &keep), &anchors).await?;
        if self.dry_run {
            // The metadata can be refused, too.
            source.local().rehearse(Batch::new().meta(self.origin.meta())).await?;
            planned.report(context)?;
            context.out.flush()?;
        }
        if planned.is_refused() {
            return fail(planned.refusal(context, self.dry_run && context.format == Format::Human));
        }
        if self.dry_run {
            return Ok(());
        }
        if !self.yes {
            confirm(
                &format!("drop {} up to {} for good", planned.much(), floor.seq),
                "--yes drops them without asking, --dry-run says who is in the way",
                "dropped",
            )?;
        }
        if let Some(file) = &self.archive {
            archive(context, &source, floor, file).await?;
        }
        source.close().await?;
        let store = context.open_to_write(&self.origin.meta()).await?;
        let progress = Progress::of(context, "compacting", Unit::Changes);
        let request = self.request(floor, &keep).progress(move |at| progress.at(at.done, at.total));
        let handle = store.with_meta(self.origin.meta());
        let compacted = interruptible(context, &store, RESUME, handle.compact(request)).await?;
        context.close(&store).await;
        self.report(context, &compacted)
    }

    fn request(&self, floor: Head, keep: &[Pattern]) -> Request {
        let request = Request::before(Place::Anchor(floor));
        let request = keep.iter().fold(request, |request, pattern| request.keep(pattern.clone()));
        let request = if self.forget { request.forget() } else { request };
        let request = if self.force { request.force() } else { request };
        if self.spare_marks { request.spare_marks() } else { request }
    }

    async fn plan(
        &self,
        context: &Context,
        source: &Source,
        request: Request,
        anchors: &[Anchor],
    ) -> Done<Planned> {
        if let Some(other) = anchors.iter().find(|anchor| anchor.store != source.store_id()) {
            let what = format!("the anchor at {} is of another store, {}", other.head.seq, other.store);
            return fail(Failure::usage(what).hint(context.hint("anchor")));
        }
        let progress = Progress::of(context, "planning", Unit::Changes);
        let request = request.progress(move |at| progress.at(at.done, at.total));
        let plan = source.plan_compaction(request).await?;
        let anchors = Planned::losing(&plan, anchors);
        Ok(Planned { plan, anchors, forced: self.force, spares_marks: self.spare_marks })
    }

    /// Finishes a compaction that was cut off.
    async fn resume(&self, context: &mut Context) -> Done {
        if self.dry_run {
            let source = context.open_to_rehearse(&self.origin.meta()).await?;
            let Some(floor) = source.stats().await?.unfinished_compaction else {
                nothing(context);
                return Ok(());
            };
            return match context.format {
                Format::Human => context.out.line(&format!("would finish the compaction to {floor}")),
                Format::Tsv => context.out.fields(["floor", &floor.to_string()]),
                _ => {
                    let object = Object::of_type("compaction").flag("dry_run", true).flag("resumes", true);
                    context.out.line(&object.number("floor", floor.as_u64()).finish())
                }
            };
        }
        let store = context.open_to_write(&self.origin.meta()).await?;
        let handle = store.with_meta(self.origin.meta());
        let compacted = interruptible(context, &store, RESUME, handle.resume_compaction()).await?;
        context.close(&store).await;
        if let Some(compacted) = compacted {
            return self.report(context, &compacted);
        }
        nothing(context);
        Ok(())
    }

    fn report(&self, context: &mut Context, compacted: &Compacted) -> Done {
        let Compacted { floor, dropped, left, digest, .. } = compacted;
        match context.format {
            Format::Human if context.quiet => Ok(()),
            Format::Human => context.out.line(&outcome(compacted)),
            Format::Tsv => context.out.fields([
                &floor.seq.to_string(),
                &floor.hash.to_string(),
                &dropped.to_string(),
                &left.to_string(),
                &digest.to_string(),
            ]),
            _ => {
                let object = Object::of_type("compaction").text("floor", &floor.to_string());
                let object = object.number("dropped", *dropped).number("left", *left);
                let object = object.text("digest", &digest.to_string());
                let archive = self.archive.as_ref().map(|archive| archive.display().to_string());
                context.out.line(&object.maybe("archive", archive.as_deref()).finish())
            }
        }
    }
}

fn nothing(context: &mut Context) {
    context.note("no compaction was cut off, so there is nothing to finish");
}

/// Writes everything up to the floor to a file, reads that back, and compares where it leads.
async fn archive(context: &Context, source: &Source, floor: Head, file: &Path) -> Done {
    let progress = Progress::of(context, "archiving", Unit::Changes);
    let export = Export::new().to(Place::Anchor(floor)).progress(move |at| progress.at(at.done, at.total));
    to_file(source, export, file).await?;
    // As an archive is opened, every change is checked.
    let archive = Archive::open(file).await?;
    let head = archive.head().await?;
    if head != floor || archive.store_id() != source.store_id() {
        let what = format!("{} leads to {head}, and not to {floor}", file.display());
        let failure = Failure::new(Exit::Integrity, "corrupted", what);
        return fail(failure.fact("nothing was dropped").hint(context.hint("verify")));
    }
    context.note(&format!("everything up to {} is in {}", floor.seq, file.display()));
    Ok(())
}

//! `ustate mark`

use clap::{Args, Subcommand};
use univrs_state::{Batch, Head, LocalStore, StateStore};

use crate::context::{Context, may_write};
use crate::escape::escape_field;
use crate::json::Object;
use crate::origin::Origin;
use crate::output::Format;
use crate::place::unknown_mark;
use crate::point::{Point, parse_name};
use crate::rows::origin;
use crate::stop::{Done, Exit, Failure, fail};

const EXAMPLES: &str = "\
Examples:
  ustate mark add before-88 -m 'rollout 88'
  ustate mark list
  ustate diff mark:before-88..
  ustate mark remove before-88";

/// Give points in the history names, for mark:NAME.
///
/// A mark names a position and the hash there. It is recorded in the log, with who made it and why, under
/// /.univrs/marks/NAME, so it goes with an export and 'ustate history' shows what became of it. A name has
/// ASCII letters, digits, '-', '_' and '.', up to 128; it starts with a letter or a digit, ends with no dot,
/// and has no two dots together. Without a verb, this lists the marks. Fields of -o tsv: name, seq, hash; list adds
/// actor and reason.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Marks {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Give a point a name.
///
/// Exit code 1 says that another point has the name.
#[derive(Debug, Args)]
struct Add {
    /// The name.
    #[arg(value_parser = parse_name)]
    name: String,
    /// The point ('ustate --help').
    #[arg(default_value = "head")]
    point: Point,
    /// Take the name from the point that has it.
    #[arg(long = "move")]
    moves: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

/// List the marks, with who made them and why.
#[derive(Debug, Args)]
struct List {}

/// Take a name away. Its history stays in the log.
#[derive(Debug, Args)]
struct Remove {
    /// The name.
    #[arg(value_parser = parse_name)]
    name: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

impl Marks {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "mark")?;
        match self.verb {
            Some(Verb::Add(add)) => add.run(context).await,
            None | Some(Verb::List(List {})) => list(context).await,
            Some(Verb::Remove(remove)) => remove.run(context).await,
        }
    }
}

impl Add {
    async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let head = self.point.past(context, &source).await?.head();
        let known = source.marked(&self.name).await?;
        let same = known.as_ref().is_some_and(|known| known.head == head);
        if let Some(known) = known.filter(|_| !same && !self.moves) {
            let what = format!("the mark {} is at {} already", self.name, known.head.seq);
            let failure = Failure::new(Exit::No, "already_exists", what);
            return fail(failure.fact("--move takes the name from there").hint(context.hint("mark list")));
        }
        if self.dry_run {
            // The metadata are all that can be refused of a mark whose name and point are right.
            source.local().rehearse(Batch::new().meta(self.origin.meta())).await?;
        }
        if !self.dry_run && !same {
            // Before its file is looked at again: that would drop the locks of what is open.
            source.close().await?;
            let meta = self.origin.meta();
            let store = context.open_to_write(&meta).await?;
            let marker = store.with_meta(meta);
            let point = univrs_state::history::Point::Anchor(head);
            if self.moves {
                marker.move_mark(&self.name, point).await?;
            } else {
                marker.mark(&self.name, point).await?;
            }
            context.close(&store).await;
        }
        let verb = if self.dry_run { "would mark" } else { "marked" };
        let done = if same { "is marked already:".to_owned() } else { verb.to_owned() };
        self.report(context, head, &done)
    }

    fn report(&self, context: &mut Context, head: Head, done: &str) -> Done {
        match context.format {
            Format::Human if context.quiet => Ok(()),
            Format::Human => context.out.line(&format!("{} {done} {}", head.seq, self.name)),
            Format::Tsv => context.out.fields([&*self.name, &head.seq.to_string(), &head.hash.to_string()]),
            _ => {
                let object = object(&self.name, head);
                let object = if self.dry_run { object.flag("dry_run", true) } else { object };
                context.out.line(&object.finish())
            }
        }
    }
}

impl Remove {
    async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let Some(known) = source.marked(&self.name).await? else {
            return fail(unknown_mark(context, &self.name, Exit::No));
        };
        let done = if self.dry_run { "would remove" } else { "removed" };
        if self.dry_run {
            source.local().rehearse(Batch::new().meta(self.origin.meta())).await?;
        }
        if !self.dry_run {
            source.close().await?;
            let meta = self.origin.meta();
            let store = context.open_to_write(&meta).await?;
            let removed = store.with_meta(meta).unmark(&self.name).await?;
            context.close(&store).await;
            if !removed {
                return fail(unknown_mark(context, &self.name, Exit::No));
            }
        }
        match context.format {
            Format::Human if context.quiet => Ok(()),
            Format::Human => context.out.line(&format!("{done} the mark {}", self.name)),
            Format::Tsv => {
                context.out.fields([&*known.name, &known.head.seq.to_string(), &known.head.hash.to_string()])
            }
            _ => {
                let object = object(&known.name, known.head).flag("removed", !self.dry_run);
                let object = if self.dry_run { object.flag("dry_run", true) } else { object };
                context.out.line(&object.finish())
            }
        }
    }
}

async fn list(context: &mut Context) -> Done {
    let source = context.open().await?;
    let marks = source.marks().await?;
    let name = marks.iter().map(|mark| mark.name.len()).max().unwrap_or_default();
    let seq = marks.iter().map(|mark| mark.head.seq.to_string().len()).max().unwrap_or_default();
    for mark in &marks {
        let change = source.history(&mark.key(), None, 1).await?.into_iter().next();
        let meta = change.as_ref().and_then(|change| change.meta.as_deref());
        let at = mark.head.seq.to_string();
        match context.format {
            Format::Human => {
                let line = format!("{:<name$}  {at:>seq$}{}", mark.name, origin(meta));
                context.out.line(&line)?;
            }
            Format::Tsv => {
                let said = [
                    meta.and_then(|meta| meta.actor.as_deref()),
                    meta.and_then(|meta| meta.reason.as_deref()),
                ];
                let [actor, reason] = said.map(|said| escape_field(said.unwrap_or_default()));
                context.out.fields([&*mark.name, &at, &mark.head.hash.to_string(), &*actor, &*reason])?;
            }
            _ => context.out.line(&object(&mark.name, mark.head).meta(meta).finish())?,
        }
    }
    if marks.is_empty() {
        context.out.flush()?;
        context.note("there are no marks");
    }
    Ok(())
}

fn object(name: &str, head: Head) -> Object {
    Object::of_type("mark")
        .text("name", name)
        .number("seq", head.seq.as_u64())
        .text("hash", &head.hash.to_string())
}

//! A watch under way: what it delivers, where its place is kept, and what ends it.

use std::time::{Duration, Instant};

use univrs_state::pattern::Pattern;
use univrs_state::{Seq, StateError, WatchEvent, WatchStream};

use crate::commands::run::{Occasion, Program};
use crate::context::{Context, quoted};
use crate::cursor_file::CursorFile;
use crate::json::{self, Object};
use crate::output::{DIM, Format};
use crate::rows::{Columns, Row};
use crate::signals::Signals;
use crate::stop::{Done, Exit, Failure, Stop};

/// How often the place is looked at while nothing matches, and whether anybody reads.
const PULSE: Duration = Duration::from_millis(50);

/// A watch under way.
pub(crate) struct Following {
    pub(crate) stream: WatchStream,
    /// Where there are any, an event must match one of them.
    pub(crate) filter: Vec<Pattern>,
    pub(crate) file: Option<CursorFile>,
    pub(crate) program: Option<Program>,
    pub(crate) columns: Columns,
    /// The place whose passing is still to be said.
    pub(crate) awaited: Option<Seq>,
    /// Whether it is said.
    pub(crate) says_so: bool,
    /// Whether nothing comes after it.
    pub(crate) ends: bool,
    pub(crate) left: Option<u64>,
}

impl Following {
    /// Follows until the end, whatever it is; what was delivered until then is kept.
    pub(crate) async fn follow(&mut self, context: &mut Context, signals: &mut Signals) -> Done {
        let done = self.deliver_all(context, signals).await;
        match (done, self.save()) {
            (Err(Stop::Failed(failure)), _) => Err(Stop::Failed(failure)),
            (done, kept) => kept.and(done),
        }
    }

    async fn deliver_all(&mut self, context: &mut Context, signals: &mut Signals) -> Done {
        let mut pulse = Instant::now();
        loop {
            if pulse.elapsed() >= PULSE {
                pulse = Instant::now();
                self.keep()?;
                // The output of a command is its own.
                if self.program.is_none() && context.out.is_closed() {
                    return Err(Stop::ClosedPipe);
                }
            }
            let event = tokio::select! {
                biased;
                number = signals.next() => return Err(Stop::Signal(number)),
                event = self.stream.try_next() => match event {
                    Ok(event) => event,
                    Err(error) => return Err(lost(&error, self.file.as_ref())),
                },
                () = tokio::time::sleep(PULSE) => {
                    self.advance();
                    self.catch_up(context)?;
                    if self.is_over() {
                        return Ok(());
                    }
                    continue;
                }
            };
            let Some(event) = event else { return Ok(()) };
            let mut signal = None;
            if self.filter.is_empty() || self.filter.iter().any(|pattern| pattern.matches(&event.key)) {
                signal = self.deliver(context, signals, &event).await?;
                self.left = self.left.map(|left| left.saturating_sub(1));
            }
            self.advance();
            if self.program.is_some() {
                self.save()?;
            }
            if let Some(number) = signal {
                return Err(Stop::Signal(number));
            }
            self.catch_up(context)?;
            let whole = self.file.is_none() || self.stream.cursor().seq() >= event.commit_seq;
            if (self.left == Some(0) && whole) || self.is_over() {
                return Ok(());
            }
        }
    }

    /// Nothing is added to an export.
    fn is_over(&self) -> bool {
        self.ends && self.awaited.is_none()
    }

    /// Prints the event, or runs the command for it; a signal may come meanwhile.
    async fn deliver(
        &mut self,
        context: &mut Context,
        signals: &mut Signals,
        event: &WatchEvent,
    ) -> Done<Option<u8>> {
        if let Some(program) = &self.program {
            let input = json::event(event, &self.stream.cursor());
            let occasion = Occasion::of_event(event, input, self.file.as_ref().map(CursorFile::path));
            return program.run(occasion, signals).await;
        }
        let row = Row::of_event(event, context.times.clock(event.at));
        match context.format {
            Format::Human => {
                let line = self.columns.line(&row, &context.out);
                context.out.line(&line)?;
            }
            Format::Tsv => context.out.fields(row.fields(event.at).each_ref().map(String::as_str))?,
            _ => context.out.line(&json::event(event, &self.stream.cursor()))?,
        }
        context.out.flush()?;
        Ok(None)
    }

    /// Everything up to the stream's cursor has been delivered: the file may say so.
    fn advance(&mut self) {
        let cursor = self.stream.cursor();
        if let Some(file) = &mut self.file {
            file.advance(cursor);
        }
    }

    /// Keeps the place if that was not done lately.
    fn keep(&mut self) -> Done {
        self.file.as_mut().map_or(Ok(()), CursorFile::save_at_times)
    }

    fn save(&mut self) -> Done {
        self.file.as_mut().map_or(Ok(()), CursorFile::save)
    }

    fn catch_up(&mut self, context: &mut Context) -> Done {
        let cursor = self.stream.cursor();
        if self.awaited.is_none_or(|head| cursor.seq() < head) {
            return Ok(());
        }
        self.awaited = None;
        if !self.says_so {
            return Ok(());
        }
        let seq = cursor.seq();
        match context.format {
            Format::Human => {
                let line = context.out.paint(DIM, &format!("-- caught up at {seq} --"));
                context.out.line(&line)?;
            }
            Format::Tsv => context.note(&format!("caught up at {seq}")),
            _ => {
                let object = Object::of_type("caught_up").number("seq", seq.as_u64());
                context.out.line(&object.text("cursor", &cursor.to_string()).finish())?;
            }
        }
        context.out.flush()
    }
}

/// Why the log cannot be followed from there.
pub(crate) fn lost(error: &StateError, file: Option<&CursorFile>) -> Stop {
    let failure = Failure::of(error);
    match file {
        Some(file) if failure.exit == Exit::HistoryGone => {
            let path = file.path();
            failure
                .fact(format!("the place was read from {}, which was left as it is", path.display()))
                .fact("move it away to start anew from now on; what happened in between is not shown then")
                .hint(format!("mv {0} {1}", quoted(path), quoted(&path.with_extension("lost"))))
                .into()
        }
        _ => failure.into(),
    }
}

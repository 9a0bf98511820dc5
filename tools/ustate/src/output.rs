//! Where data goes: standard output, in the form that was asked for.

use std::io::{self, BufWriter, Stdout, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use univrs_state::log::ChangeKind;

use crate::stop::{Done, Failure, Stop};

/// The forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One JSON object; one a line where there are several.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Fields between tabs, without a heading; backslash escapes.
    Tsv,
    /// The exact bytes of a value; keys one a line.
    Raw,
}

/// How often it is looked at whether anybody reads.
const PULSE: Duration = Duration::from_millis(50);

impl Format {
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Ndjson)
    }
}

/// Standard output.
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    color: bool,
}

impl Output {
    pub(crate) fn new(color: bool) -> Self {
        Self { stdout: BufWriter::new(io::stdout()), color }
    }

    pub(crate) fn line(&mut self, line: &str) -> Done {
        self.bytes(line.trim_end_matches(' ').as_bytes())?;
        self.bytes(b"\n")
    }

    /// Fields between tabs.
    pub(crate) fn fields<const N: usize>(&mut self, fields: [&str; N]) -> Done {
        self.bytes(fields.join("\t").as_bytes())?;
        self.bytes(b"\n")
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Done {
        self.stdout.write_all(bytes).map_err(|error| stop(&error))
    }

    pub(crate) fn flush(&mut self) -> Done {
        self.stdout.flush().map_err(|error| stop(&error))
    }

    /// Whether nobody reads it any longer, as far as that can be told without writing.
    #[cfg(unix)]
    pub(crate) fn is_closed(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut stdout = [PollFd::new(self.stdout.get_ref(), PollFlags::empty())];
        let found = poll(&mut stdout, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        let [stdout] = &stdout;
        found.is_ok() && stdout.revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }

    #[cfg(not(unix))]
    pub(crate) fn is_closed(&self) -> bool {
        false
    }

    /// Waits until nobody reads it any longer.
    pub(crate) async fn closed(&self) {
        loop {
            tokio::time::sleep(PULSE).await;
            if self.is_closed() {
                return;
            }
        }
    }

    /// Text in a style, where there is colour.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.color, style, text)
    }

    /// The name of a kind in its colour.
    pub(crate) fn kind(&self, kind: ChangeKind) -> String {
        let color = match kind {
            ChangeKind::Created => AnsiColor::Green,
            ChangeKind::Updated => AnsiColor::Cyan,
            ChangeKind::Deleted => AnsiColor::Red,
        };
        self.paint(color.on_default(), &kind.to_string())
    }
}

pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const REMOVED: Style = AnsiColor::Red.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

pub(crate) fn paint(color: bool, style: Style, text: &str) -> String {
    if color && !text.is_empty() { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

fn stop(error: &io::Error) -> Stop {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Stop::ClosedPipe;
    }
    Failure::io("cannot write to standard output", error).into()
}

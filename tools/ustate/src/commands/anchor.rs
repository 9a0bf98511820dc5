//! `ustate anchor`

use clap::Args;

use crate::context::Context;
use crate::output::Format;
use crate::point::Point;
use crate::stop::Done;

const EXAMPLES: &str = "\
Examples:
  ustate anchor >> anchors.ndjson
  ustate anchor --at head~1";

/// Print the end of the log as a line to keep elsewhere.
///
/// Nobody can rewrite or cut off the log up to this line unnoticed: 'ustate verify --anchor' finds it.
/// The same state always gives the same line. Fields of -o tsv: store, seq, hash.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Anchor {
    /// As of this point ('ustate --help').
    #[arg(long, value_name = "POINT")]
    at: Option<Point>,
}

impl Anchor {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "anchor")?;
        let source = context.open().await?;
        let head = match &self.at {
            Some(point) => point.past(context, &source).await?.head(),
            None => source.head().await?,
        };
        let anchor = univrs_state::log::Anchor::new(source.store_id(), head);
        if context.format == Format::Tsv {
            let [store, hash] = [anchor.store.to_string(), head.hash.to_string()];
            return context.out.fields([&store, &head.seq.to_string(), &hash]);
        }
        context.out.line(&anchor.to_string())
    }
}

//! `ustate init`

use std::path::{Path, PathBuf};

use clap::Args;
use univrs_state::{LocalStore, StateStore};

use crate::context::{Context, may_write, quoted};
use crate::escape::{escape, escape_field};
use crate::json::Object;
use crate::output::Format;
use crate::stop::{Done, Exit, Failure, fail};

/// Create an empty store.
///
/// No other command creates an empty store. The file is readable by its owner alone.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The file to create, with its folder where that is missing.
    path: PathBuf,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Init {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "init")?;
        let path = &self.path;
        // An empty file may become a store; anything else that is there stays what it is.
        let vacant = path.metadata().map_or(!path.is_symlink(), |file| file.is_file() && file.len() == 0);
        if !vacant {
            let store = context.options(path).read_only(true).open(path).await?;
            let head = store.head().await?.seq;
            return fail(already(path).fact(format!("its log ends at {head}")));
        }
        if self.dry_run {
            return report(context, path, None);
        }
        let options = context.options(path).accept_loss(context.accept_loss);
        let store = options.open(path).await.map_err(|error| Context::explain(path, &error))?;
        let id = store.store_id().to_string();
        context.close(&store).await;
        report(context, path, Some(&id))
    }
}

fn already(path: &Path) -> Failure {
    Failure::new(Exit::No, "already_exists", format!("{} is a store already", path.display()))
        .hint(format!("ustate log --db {}", quoted(path)))
}

fn report(context: &mut Context, path: &Path, id: Option<&str>) -> Done {
    let shown = path.display().to_string();
    match context.format {
        Format::Human if context.quiet => Ok(()),
        Format::Human => {
            let done = if id.is_some() { "created" } else { "would create" };
            context.out.line(&format!("{done} {}", escape(&shown)))?;
            context.out.flush()?;
            if let Some(id) = id {
                context.note(&format!("store {id}; name it with: export USTATE_DB={}", quoted(path)));
            }
            Ok(())
        }
        Format::Tsv => context.out.fields([&escape_field(&shown), id.unwrap_or_default()]),
        _ => {
            let object = Object::of_type("store").text("path", &shown).maybe("store_id", id);
            context.out.line(&object.flag("dry_run", id.is_none()).finish())
        }
    }
}

//! `ustate init`

use std::path::{Path, PathBuf};

use clap::Args;
use univrs_state::log::StoreId;
use univrs_state::options::{Entropy, OsEntropy};
use univrs_state::{LocalStore, SqliteStore, StateStore};

use crate::context::{Context, loss_in, may_write, quoted};
use crate::escape::{escape, escape_field};
use crate::json::Object;
use crate::origin::Origin;
use crate::output::Format;
use crate::rows::origin;
use crate::stop::{Done, Exit, Failure, fail};

/// Create an empty store.
///
/// No other command creates an empty store. The file is readable by its owner alone. Nothing is recorded in
/// it, except a loss that --accept-loss accepts.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The file to create, with its folder where that is missing.
    path: PathBuf,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
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
            return fail(already(path, &store).await?);
        }
        if self.dry_run {
            if context.accept_loss
                && let Err(error) = context.options(path).read_only(true).open(path).await
                && let Some(lost) = loss_in(&error)
            {
                let by = origin(Some(&self.origin.meta())).replace("  ", " ");
                context.note(&format!("would accept the loss{by}: {lost}"));
            }
            return report(context, path, None);
        }
        let options = context.options(path).accept_loss(context.accept_loss).loss_meta(self.origin.meta());
        // A lost store comes back with its own id.
        let own = if context.accept_loss { None } else { Some(new_id()?) };
        let store = match own.iter().fold(options, |options, id| options.store_id(*id)).open(path).await {
            Ok(store) => store,
            Err(error) => {
                // Another process may have created one meanwhile, with another id.
                let other = context.options(path).read_only(true).open(path).await;
                return match other {
                    Ok(other) if Some(other.store_id()) != own => fail(already(path, &other).await?),
                    _ => fail(Context::explain(path, &error)),
                };
            }
        };
        let id = store.store_id().to_string();
        context.close(&store).await;
        report(context, path, Some(&id))
    }
}

/// The random id of a new store, by which it is known whether this process has created it.
fn new_id() -> Done<StoreId> {
    let mut bytes = [0; 16];
    if !OsEntropy.fill(&mut bytes) {
        return fail(Failure::new(Exit::Io, "io", "the operating system gives no random bytes"));
    }
    Ok(StoreId::from_bytes(bytes))
}

async fn already(path: &Path, store: &SqliteStore) -> Done<Failure> {
    let head = store.head().await?.seq;
    let what = format!("{} is a store already", path.display());
    Ok(Failure::new(Exit::No, "already_exists", what)
        .fact(format!("its log ends at {head}"))
        .hint(format!("ustate log --db {}", quoted(path))))
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

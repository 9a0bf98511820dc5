//! `ustate load`

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use univrs_state::log::ChangeKind;
use univrs_state::{Batch, Limits, Meta, Scan, StateError, StateStore};

use super::delete::parse_prefix;
use crate::confirm::{confirm, some_of};
use crate::context::{Context, may_write, quoted, quoted_text};
use crate::folder::{Folder, FolderFile};
use crate::input::{read_value, too_large};
use crate::json::Object;
use crate::origin::Origin;
use crate::output::Format;
use crate::slices::key_of;
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, fail};
use crate::value::{count, counted, size};
use crate::written::{Outcome, Written, written};

/// How often a folder is read that changes meanwhile.
const TRIES: usize = 5;

const EXAMPLES: &str = "\
Examples:
  ustate load conf --prefix /config --dry-run
  ustate load conf --prefix /config --delete --yes -m 'release 88'";

/// Set a key for each file of a folder, all in one commit.
///
/// The key is the prefix and the path below the folder. Files whose key has their bytes already are
/// skipped; dot files and special files are left out, and counted in a note. A link is followed if it
/// stays in the folder, as those of a Kubernetes ConfigMap do. If another link is there, or a name that is
/// no valid key, or if the folder changes meanwhile, nothing is written. Fields of -o tsv: seq, kind, key.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
pub(crate) struct Load {
    /// The folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What the keys start with: /config and /config/ are the same.
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    prefix: String,
    /// Delete keys below the prefix that have no file. Asks first.
    #[arg(long)]
    delete: bool,
    /// With --delete, also if the folder has no files, so that every key below the prefix goes.
    #[arg(long, requires = "delete")]
    allow_empty: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

/// What is to be written.
#[derive(Default)]
struct Due {
    sets: Vec<(String, ChangeKind, Vec<u8>)>,
    deletes: Vec<String>,
    /// The versions of the keys then.
    versions: Vec<(String, u64)>,
    unchanged: u64,
}

impl Load {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "load")?;
        let prefix = format!("{}/", self.prefix.trim_end_matches('/'));
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let (folder, due) = self.read(&source, &prefix).await?;
        if folder.files.is_empty() && !due.deletes.is_empty() && !self.allow_empty {
            return fail(self.would_delete_all(&folder, &due, &prefix));
        }
        let object = Object::of_type("receipt").number("unchanged", due.unchanged).raw(
            "left_out",
            &Object::nested().number("dot_files", folder.dot_files).number("others", folder.others).finish(),
        );
        if let Some(note) = folder.left_out() {
            context.note(&note);
        }
        let nothing = format!("{} unchanged, so nothing was written", counted(due.unchanged, "file"));
        if self.dry_run {
            let rehearsed = source.local().rehearse(due.batch(self.origin.meta())).await;
            rehearsed.map_err(|error| refused(&error))?;
        }
        if self.dry_run || (due.sets.is_empty() && due.deletes.is_empty()) {
            let rows: Vec<_> = due.rows().collect();
            return Outcome { rows: &rows, receipt: None, dry_run: self.dry_run }
                .report(context, object, &nothing);
        }
        if !due.deletes.is_empty() && !self.yes {
            let some = some_of(due.deletes.iter().map(String::as_str));
            confirm(
                &format!("delete {} without a file ({some})", counted(due.deletes.len() as u64, "key")),
                "--yes deletes without asking, --dry-run says what would be done",
                "loaded",
            )?;
        }
        // Before its file is looked at again: that would drop the locks of what is open.
        source.close().await?;
        let store = context.open_to_write(&self.origin.meta()).await?;
        let receipt = store.commit(due.batch(self.origin.meta())).await;
        let receipt = receipt.map_err(|error| refused(&error))?;
        let changes = written(&store, &receipt).await?;
        context.close(&store).await;
        let rows: Vec<_> = changes.iter().map(Written::of_change).collect();
        Outcome { rows: &rows, receipt: Some(&receipt), dry_run: false }.report(context, object, &nothing)
    }

    /// Reads the folder and its files as they were at one time, as far as that can be told.
    async fn read(&self, source: &Source, prefix: &str) -> Done<(Folder, Due)> {
        for _ in 0..TRIES {
            let folder = Folder::read(&self.folder, prefix)?;
            let due = self.due(source, &folder, prefix).await;
            // What was exchanged meanwhile may be gone, or be half of the old and half of the new.
            if Folder::read(&self.folder, prefix)? == folder {
                return Ok((folder, due?));
            }
        }
        let what = format!("{} changed each time that it was read", self.folder.display());
        fail(Failure::new(Exit::Io, "source_changed", what).fact("nothing was written; try again"))
    }

    fn would_delete_all(&self, folder: &Folder, due: &Due, prefix: &str) -> Failure {
        let keys = counted(due.deletes.len() as u64, "key");
        let what = format!(
            "{} has no files, so --delete would delete all that is below {prefix}: {keys}",
            self.folder.display()
        );
        let failure = Failure::new(Exit::Usage, "empty_source", what);
        let failure = folder.left_out().into_iter().fold(failure, Failure::fact);
        failure.fact("nothing was written; if it is meant to be empty, --allow-empty deletes them")
    }

    /// Reads the files and keeps what differs, as much as fits a commit.
    async fn due(&self, source: &Source, folder: &Folder, prefix: &str) -> Done<Due> {
        let limits = Limits::default();
        let (mut due, mut bytes) = (Due::default(), 0);
        for FolderFile { key, path, .. } in &folder.files {
            let value = read_value(path)?;
            let version = source.version(key).await?;
            let before = match source.get(key).await {
                // It is gone, so it is another one.
                Err(StateError::Erased(_)) => Some(None),
                entry => entry?.map(|entry| Some(entry.value)),
            };
            match before {
                Some(Some(before)) if before == value => {
                    due.unchanged += 1;
                    continue;
                }
                Some(_) => due.sets.push((key.clone(), ChangeKind::Updated, value)),
                None => due.sets.push((key.clone(), ChangeKind::Created, value)),
            }
            due.versions.push((key.clone(), version));
            bytes += key.len() + due.sets.last().map_or(0, |(_, _, value)| value.len());
            if bytes > limits.batch_bytes {
                return fail(self.too_much(&size(limits.batch_bytes as u64)));
            }
        }
        if self.delete {
            let files: BTreeSet<&str> = folder.files.iter().map(|file| file.key.as_str()).collect();
            let mut next = Some(Scan::prefix(prefix));
            while let Some(scan) = next {
                let page = source.scan(scan).await?;
                for entry in page.entries.into_iter().filter(|entry| !files.contains(entry.key.as_str())) {
                    due.versions.push((entry.key.clone(), entry.version));
                    due.deletes.push(entry.key);
                }
                next = page.next;
            }
        }
        if due.sets.len() + due.deletes.len() > limits.batch_writes {
            return fail(self.too_much(&format!("{} changes", count(limits.batch_writes as u64))));
        }
        Ok(due)
    }

    fn too_much(&self, most: &str) -> Failure {
        let what = format!("{} is too much for one commit, which has {most} at most", self.folder.display());
        let (folder, prefix) = (self.folder.join("SUBFOLDER"), self.prefix.trim_end_matches('/'));
        let prefix = quoted_text(&format!("{prefix}/SUBFOLDER"));
        too_large(&what).hint(format!("ustate load {} --prefix {prefix}", quoted(&folder)))
    }
}

impl Due {
    /// The batch that writes it, if nobody changes one of its keys meanwhile.
    fn batch(&self, meta: Meta) -> Batch {
        let batch = Batch::new().meta(meta);
        let batch = self.versions.iter().fold(batch, |batch, (key, version)| batch.expect(key, *version));
        let batch = self.sets.iter().fold(batch, |batch, (key, _, value)| batch.set(key, value.as_slice()));
        self.deletes.iter().fold(batch, Batch::delete)
    }

    fn rows(&self) -> impl Iterator<Item = Written<'_>> {
        let sets = self.sets.iter().map(|(key, kind, value)| Written {
            seq: String::new(),
            kind: *kind,
            key,
            value: Some(value),
        });
        let deletes = self.deletes.iter().map(|key| Written {
            seq: String::new(),
            kind: ChangeKind::Deleted,
            key,
            value: None,
        });
        sets.chain(deletes)
    }
}

/// The error of a commit, if it is one of others who write.
fn refused(error: &StateError) -> Failure {
    match error {
        StateError::Rejected(rejection) => {
            let key = rejection.failed.first().map(key_of).unwrap_or_default();
            let failure = Failure::new(
                Exit::No,
                "rejected",
                format!("{key} was changed meanwhile; nothing was written"),
            );
            failure.fact("try again, to see what differs now")
        }
        error => Failure::of(error),
    }
}

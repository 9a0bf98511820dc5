//! The commands, a file each.

mod accept_clock;
pub(crate) mod anchor;
pub(crate) mod bisect;
pub(crate) mod blame;
pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod consumers;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod erase;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod mark;
pub(crate) mod replay;
pub(crate) mod restore;
mod restore_in_slices;
pub(crate) mod retain;
pub(crate) mod run;
pub(crate) mod set;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod thin;
pub(crate) mod tree;
pub(crate) mod verify;
pub(crate) mod watch;

use crate::cli::Command;
use crate::context::Context;
use crate::stop::Done;

pub(crate) async fn run(command: Command, context: &mut Context) -> Done {
    match command {
        Command::Get(command) => command.run(context).await,
        Command::List(command) => command.run(context).await,
        Command::Tree(command) => command.run(context).await,
        Command::Set(command) => command.run(context).await,
        Command::Delete(command) => command.run(context).await,
        Command::Watch(command) => command.run(context).await,
        Command::Log(command) => command.run(context).await,
        Command::Show(command) => command.run(context).await,
        Command::History(command) => command.run(context).await,
        Command::Diff(command) => command.run(context).await,
        Command::Blame(command) => command.run(context).await,
        Command::Bisect(command) => command.run(context).await,
        Command::Stats(command) => command.run(context).await,
        Command::Verify(command) => command.run(context).await,
        Command::Anchor(command) => command.run(context).await,
        Command::Mark(command) => command.run(context).await,
        Command::Export(command) => command.run(context).await,
        Command::Import(command) => command.run(context).await,
        Command::Replay(command) => command.run(context).await,
        Command::Restore(command) => command.run(context).await,
        Command::Load(command) => command.run(context).await,
        Command::Compact(command) => command.run(context).await,
        Command::Thin(command) => command.run(context).await,
        Command::Erase(command) => command.run(context).await,
        Command::Retain(command) => command.run(context).await,
        Command::Consumers(command) => command.run(context).await,
        Command::Doctor(command) => command.run(context).await,
        Command::Init(command) => command.run(context).await,
        Command::Completions(command) => command.run(context),
    }
}

//! Who writes, and why.

use std::fs;

use clap::Args;
use univrs_state::Meta;

/// Options of commands that write changes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recorded with the change")]
pub(crate) struct Origin {
    /// Who writes; user@host by default.
    #[arg(
        long,
        env = "USTATE_ACTOR",
        value_name = "NAME",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub(crate) actor: Option<String>,
    /// Why.
    #[arg(short = 'm', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) reason: Option<String>,
    /// What it belongs to: a request, a job, a ticket.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(crate) correlation: Option<String>,
}

impl Origin {
    pub(crate) fn meta(&self) -> Meta {
        let actor = self.actor.clone().filter(|actor| !actor.is_empty());
        let mut meta = Meta::new().actor(actor.unwrap_or_else(default_actor));
        if let Some(reason) = &self.reason {
            meta = meta.reason(reason);
        }
        if let Some(correlation) = &self.correlation {
            meta = meta.correlation(correlation);
        }
        meta
    }
}

/// `user@host`.
fn default_actor() -> String {
    let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = named("USER").or_else(|| named("LOGNAME")).or_else(user_of_this_process);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| named("HOSTNAME"));
    let host = host.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host.as_deref().unwrap_or("localhost"))
}

#[cfg(unix)]
fn user_of_this_process() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let uid = fs::metadata("/proc/self").ok()?.uid().to_string();
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut users = users.lines().map(|line| line.split(':'));
    let name = users.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.or(Some(uid))
}

#[cfg(not(unix))]
fn user_of_this_process() -> Option<String> {
    None
}

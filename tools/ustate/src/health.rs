//! What was looked at of a store's files, and what was found.

use crate::context::Context;
use crate::escape::{escape, escape_field};
use crate::json::Object;
use crate::output::{BOLD, Format, GOOD};
use crate::stop::Done;

/// What was looked at, and what was found.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) what: String,
    /// What to do about it; none if all is well.
    pub(crate) warning: Option<String>,
}

impl Check {
    pub(crate) fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, what: what.into(), warning: None }
    }

    pub(crate) fn warning(name: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, what: what.into(), warning: Some(advice.into()) }
    }
}

/// Shows the checks.
pub(crate) fn show(context: &mut Context, checks: &[Check]) -> Done {
    let healthy = checks.iter().all(|check| check.warning.is_none());
    match context.format {
        Format::Human => {
            let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
            for check in checks {
                let (style, verdict) = if check.warning.is_none() { (GOOD, "ok") } else { (BOLD, "warning") };
                let verdict = context.out.paint(style, &format!("{verdict:<7}"));
                context.out.line(&format!("  {verdict}  {:<width$}  {}", check.name, escape(&check.what)))?;
                if let Some(advice) = &check.warning {
                    context.out.line(&format!("           {:<width$}  {}", "", escape(advice)))?;
                }
            }
        }
        Format::Tsv => {
            for check in checks {
                let verdict = if check.warning.is_none() { "ok" } else { "warning" };
                context.out.fields([verdict, check.name, &escape_field(&check.what)])?;
            }
        }
        _ => {
            let checks = checks.iter().map(|check| {
                let object = Object::nested().text("check", check.name).flag("ok", check.warning.is_none());
                object.text("what", &check.what).maybe("advice", check.warning.as_deref()).finish()
            });
            context
                .out
                .line(&Object::of_type("health").flag("healthy", healthy).list("checks", checks).finish())?;
        }
    }
    context.out.flush()
}

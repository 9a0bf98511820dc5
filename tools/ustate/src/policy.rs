//! A policy, as people and machines read it.

use univrs_state::retain::Policy;

use crate::context::Context;
use crate::escape::escape;
use crate::json::{Object, quote};
use crate::output::Format;
use crate::stop::Done;
use crate::time::span;
use crate::value::counted;

/// A policy, and what became of it.
pub(crate) fn show(context: &mut Context, policy: Option<&Policy>, done: Option<&str>) -> Done {
    let Some(policy) = policy else {
        return match context.format {
            Format::Human => context
                .out
                .line(done.map_or("no policy: everything is kept", |_| "removed: everything is kept")),
            Format::Tsv => Ok(()),
            _ => context.out.line(&Object::of_type("policy").finish()),
        };
    };
    match context.format {
        Format::Human if context.quiet && done.is_some() => Ok(()),
        Format::Human => lines(policy)
            .iter()
            .try_for_each(|(name, what)| context.out.line(&format!("{name:<8}  {}", escape(what)))),
        Format::Tsv => {
            lines(policy).iter().try_for_each(|(name, what)| context.out.fields([*name, what.as_str()]))
        }
        _ => context.out.line(&of_policy(Object::of_type("policy"), policy).finish()),
    }
}

fn lines(policy: &Policy) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    lines.extend(policy.age.map(|age| ("age", span(age))));
    lines.extend(policy.keep.iter().map(|pattern| ("keep", pattern.as_str().to_owned())));
    lines.extend(policy.forget.then(|| ("forget", "deleted keys of that age".to_owned())));
    lines.extend(policy.spare_marks.then(|| ("spare", "what marks name".to_owned())));
    lines.extend(policy.values.iter().map(|rule| {
        let versions = counted(rule.keep.max(1), "version");
        ("values", format!("{} after {}, but for {versions}", rule.pattern.as_str(), span(rule.age)))
    }));
    if lines.is_empty() {
        lines.push(("keep", "everything".to_owned()));
    }
    lines
}

pub(crate) fn of_policy(object: Object, policy: &Policy) -> Object {
    let object = match policy.age {
        Some(age) => object.number("age_seconds", age.as_secs()),
        None => object,
    };
    let rules = policy.values.iter().map(|rule| {
        let object = Object::nested().text("pattern", rule.pattern.as_str());
        object.number("age_seconds", rule.age.as_secs()).number("keep", rule.keep).finish()
    });
    let keep = policy.keep.iter().map(|pattern| quote(pattern.as_str()));
    let object =
        object.list("keep", keep).flag("forget", policy.forget).flag("spare_marks", policy.spare_marks);
    object.list("values", rules)
}

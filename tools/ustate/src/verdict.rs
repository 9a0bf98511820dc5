//! What a verification says: what is proved, what contradicts, and what no log can prove.

use univrs_state::Seq;
use univrs_state::verify::{Finding, NotProvable, Proved, VerifyReport};

use crate::context::Context;
use crate::escape::{escape, escape_field};
use crate::json::Object;
use crate::output::{BAD, BOLD, DIM, GOOD};
use crate::stop::Done;
use crate::value::{count, counted};

/// The most contradictions, and anchors, that people are shown unless they ask for more.
const SHOWN: usize = 10;

/// What is proved, and how much of it.
fn proved(context: &Context, proved: &Proved) -> (String, String) {
    match proved {
        Proved::Values(changes) => {
            ("every change's bytes match its hash".into(), counted(*changes, "change"))
        }
        Proved::Links(links) => ("every link follows the one before it".into(), counted(*links, "link")),
        Proved::Projection { keys, tombstones } => {
            let deleted =
                if *tombstones > 0 { format!(" and {} deleted", count(*tombstones)) } else { String::new() };
            ("kv_store equals the fold of the log".into(), counted(*keys, "key") + &deleted)
        }
        Proved::Storage => ("the storage around the rows is whole".into(), String::new()),
        Proved::Export { after, to } => (format!("the export is whole, from {after} to {to}"), String::new()),
        Proved::Anchors(anchors) => {
            let most = if context.verbose { usize::MAX } else { SHOWN };
            let number = anchors.len() as u64;
            let are = if number == 1 { "is" } else { "are" };
            (format!("{} {are} in this chain", counted(number, "anchor")), newest(anchors, most))
        }
        other => (other.to_string(), String::new()),
    }
}

/// The newest places, and that there are more.
fn newest(places: &[Seq], most: usize) -> String {
    let newest = places.get(places.len().saturating_sub(most)..).unwrap_or_default();
    let more = (newest.len() < places.len()).then(|| "…".to_owned());
    more.into_iter().chain(newest.iter().map(ToString::to_string)).collect::<Vec<_>>().join(" ")
}

/// What is not provable, a line each; the anchors outside of an export share one.
fn open_lines(context: &Context, report: &VerifyReport) -> Vec<String> {
    let (mut lines, mut outside, mut part) = (Vec::new(), Vec::new(), None);
    for what in &report.not_provable {
        if let NotProvable::OutsideExport { anchor, after, to } = what {
            outside.push(*anchor);
            part = Some((after, to));
        } else {
            lines.push(open(what));
        }
    }
    if let Some((after, to)) = part {
        let most = if context.verbose { usize::MAX } else { SHOWN };
        let number = outside.len() as u64;
        let are = if number == 1 { "is" } else { "are" };
        lines.push(format!(
            "{} {are} outside this export, which begins after {after} and ends with {to}: {}",
            counted(number, "anchor"),
            newest(&outside, most)
        ));
    }
    lines
}

/// What is not provable, in words.
fn open(what: &NotProvable) -> String {
    match what {
        NotProvable::AfterAnchor { anchor: Some(anchor), changes } => {
            let changes = counted(*changes, "change");
            format!("{changes} after the newest anchor ({anchor}) could have been cut off or rewritten")
        }
        NotProvable::AfterAnchor { anchor: None, changes } => {
            format!(
                "{} that no anchor covers could have been cut off or rewritten",
                counted(*changes, "change")
            )
        }
        NotProvable::Erased(values) => {
            format!("{} erased or redacted, of which only the hash is checked", counted(*values, "value"))
        }
        NotProvable::Withheld(changes) => {
            format!("{} withheld, of which only the hash is checked", counted(*changes, "change"))
        }
        other => other.to_string(),
    }
}

/// For people.
pub(crate) fn human(context: &mut Context, report: &VerifyReport) -> Done {
    let most = if context.verbose { usize::MAX } else { SHOWN };
    for (i, finding) in report.findings.iter().take(most).enumerate() {
        let verdict = context.out.paint(BAD, "contradicted ");
        let which =
            if i == 0 { format!(" (first of {})", count(report.contradictions)) } else { String::new() };
        context.out.line(&format!("  {verdict} {}{which}", escape(&place(finding))))?;
        if let Some(detail) = detail(finding) {
            context.out.line(&format!("                {detail}"))?;
        }
    }
    let proved: Vec<_> = report.proved.iter().map(|what| proved(context, what)).collect();
    let number =
        |text: &str| text.split_once(|c: char| c.is_alphabetic()).map_or(0, |(number, _)| number.len());
    let width = proved.iter().map(|(_, much)| number(much)).max().unwrap_or(0);
    for (what, much) in proved {
        let verdict = context.out.paint(GOOD, "proved       ");
        let indent = if number(&much) > 0 { width - number(&much) } else { 0 };
        context.out.line(&format!("  {verdict} {what:<38}  {:indent$}{much}", ""))?;
    }
    for what in open_lines(context, report) {
        let verdict = context.out.paint(BOLD, "not provable ");
        context.out.line(&format!("  {verdict} {what}"))?;
    }
    if report.head.seq.as_u64() == 0 {
        return context.out.line("  the log is empty");
    }
    let head = context.out.paint(DIM, "head         ");
    context.out.line(&format!("  {head} {}", report.head))
}

/// What was altered, as far as it can be told.
fn detail(finding: &Finding) -> Option<String> {
    let field = finding.field.map(|field| format!("the field that was altered is its {field}"));
    let links = finding.links_hold.map(|hold| {
        if hold {
            "the links around it hold, so only this change was altered"
        } else {
            "the change after it follows another hash"
        }
    });
    let parts: Vec<&str> = field.as_deref().into_iter().chain(links).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `4487 /billing/rate: the stored value does not match its hash`
fn place(finding: &Finding) -> String {
    let seq = finding.seq.map(|seq| seq.to_string());
    let place: Vec<&str> = seq.iter().map(String::as_str).chain(finding.key.as_deref()).collect();
    if place.is_empty() { finding.what.clone() } else { format!("{}: {}", place.join(" "), finding.what) }
}

/// Fields between tabs.
pub(crate) fn tsv(context: &mut Context, report: &VerifyReport) -> Done {
    for finding in &report.findings {
        let seq = finding.seq.map(|seq| seq.to_string()).unwrap_or_default();
        let key = escape_field(finding.key.as_deref().unwrap_or_default());
        context.out.fields(["contradicted", &seq, &key, &escape_field(&finding.what)])?;
    }
    for what in &report.proved {
        let (what, much) = proved(context, what);
        let what = if much.is_empty() { what } else { format!("{what}: {much}") };
        context.out.fields(["proved", "", "", &escape_field(&what)])?;
    }
    report.not_provable.iter().try_for_each(|what| {
        let seq = match what {
            NotProvable::OutsideExport { anchor, .. } => anchor.to_string(),
            _ => report.head.seq.to_string(),
        };
        context.out.fields(["not_provable", &seq, "", &escape_field(&open(what))])
    })
}

/// For machines.
pub(crate) fn object(report: &VerifyReport) -> String {
    let findings = report.findings.iter().map(|finding| {
        let object = Object::nested();
        let object = match finding.seq {
            Some(seq) => object.number("seq", seq.as_u64()),
            None => object,
        };
        let object = object.maybe("key", finding.key.as_deref()).text("what", &finding.what);
        let object = object.maybe("field", finding.field);
        match finding.links_hold {
            Some(hold) => object.flag("links_hold", hold).finish(),
            None => object.finish(),
        }
    });
    Object::of_type("verification")
        .flag("intact", report.is_intact())
        .text("level", &format!("{:?}", report.level).to_lowercase())
        .text("head", &report.head.to_string())
        .number("changes", report.changes)
        .number("keys", report.keys)
        .number("tombstones", report.tombstones)
        .list("proved", report.proved.iter().map(proved_object))
        .list("not_provable", report.not_provable.iter().map(open_object))
        .number("contradictions", report.contradictions)
        .list("findings", findings)
        .finish()
}

fn proved_object(proved: &Proved) -> String {
    let what = |name| Object::nested().text("what", name);
    let object = match proved {
        Proved::Values(changes) => what("values").number("changes", *changes),
        Proved::Links(changes) => what("links").number("changes", *changes),
        Proved::Projection { keys, tombstones } => {
            what("projection").number("keys", *keys).number("tombstones", *tombstones)
        }
        Proved::Storage => what("storage"),
        Proved::Export { after, to } => {
            what("export").number("after", after.as_u64()).number("to", to.as_u64())
        }
        Proved::Anchors(seqs) => what("anchors").list("seqs", seqs.iter().map(ToString::to_string)),
        other => what("other").text("message", &other.to_string()),
    };
    object.finish()
}

fn open_object(open: &NotProvable) -> String {
    let what = |name| Object::nested().text("what", name);
    let object = match open {
        NotProvable::AfterAnchor { anchor, changes } => {
            let object = what("after_anchor").number("changes", *changes);
            match anchor {
                Some(anchor) => object.number("anchor", anchor.as_u64()),
                None => object,
            }
        }
        NotProvable::OutsideExport { anchor, after, to } => what("outside_export")
            .number("anchor", anchor.as_u64())
            .number("after", after.as_u64())
            .number("to", to.as_u64()),
        NotProvable::BelowFloor(seq) => what("below_floor").number("seq", seq.as_u64()),
        NotProvable::Erased(values) => what("erased").number("values", *values),
        NotProvable::Withheld(changes) => what("withheld").number("changes", *changes),
        NotProvable::Before(seq) => what("before").number("seq", seq.as_u64()),
        other => what("other").text("message", &other.to_string()),
    };
    object.finish()
}

//! `ustate verify`

use clap::Args;
use univrs_state::{Finding, VerifyReport};

use crate::context::Context;
use crate::escape::{escape, escape_field};
use crate::json::Object;
use crate::output::{BAD, BOLD, Format, GOOD};
use crate::stop::{Done, Exit, Failure, fail};
use crate::value::{count, counted};

/// The most contradictions that people are shown unless they ask for more.
const SHOWN: usize = 10;

const EXAMPLES: &str = "\
Examples:
  ustate verify
  ustate verify --json > verified.json";

/// Check every change against its hash and the entries against the log.
///
/// Exit code 5 says that something contradicts. What a log cannot prove about itself: that
/// nothing was cut off its end or rewritten since; a head that was kept elsewhere can. Fields of
/// -o tsv: proved, contradicted or not_provable; seq; key; what.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Verify {}

impl Verify {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "verify")?;
        let store = context.open().await?;
        let report = store.verify(univrs_state::Verify::full()).await?;
        match context.format {
            Format::Human => human(context, &report)?,
            Format::Tsv => tsv(context, &report)?,
            _ => {
                let object = object(&report);
                context.out.line(&object)?;
            }
        }
        context.out.flush()?;
        if report.is_intact() { Ok(()) } else { fail(contradicted(&report)) }
    }
}

/// What is proved where nothing contradicts.
fn proved(report: &VerifyReport) -> [(&'static str, String); 3] {
    let deleted = if report.tombstones > 0 {
        format!(" and {} deleted", count(report.tombstones))
    } else {
        String::new()
    };
    [
        ("every change's bytes match its hash", counted(report.changes, "change")),
        ("every link follows the one before it", counted(report.changes, "link")),
        ("kv_store equals the fold of the log", counted(report.keys, "key") + &deleted),
    ]
}

const NOT_PROVABLE: &str = "could have been cut off or rewritten since; keep this head elsewhere:";

fn human(context: &mut Context, report: &VerifyReport) -> Done {
    if !report.is_intact() {
        let most = if context.verbose { usize::MAX } else { SHOWN };
        for (i, finding) in report.findings.iter().take(most).enumerate() {
            let verdict = context.out.paint(BAD, "contradicted ");
            let which =
                if i == 0 { format!(" (first of {})", count(report.contradictions)) } else { String::new() };
            context.out.line(&format!("  {verdict} {}{which}", escape(&place(finding))))?;
        }
        return Ok(());
    }
    let proved = proved(report);
    let number =
        |text: &str| text.split_once(|c: char| c.is_alphabetic()).map_or(0, |(number, _)| number.len());
    let width = proved.iter().map(|(_, much)| number(much)).max().unwrap_or(0);
    for (what, much) in proved {
        let verdict = context.out.paint(GOOD, "proved       ");
        let indent = width - number(&much);
        context.out.line(&format!("  {verdict} {what:<38}  {:indent$}{much}", ""))?;
    }
    if report.changes == 0 {
        return context.out.line("  the log is empty");
    }
    let verdict = context.out.paint(BOLD, "not provable ");
    context.out.line(&format!("  {verdict} changes up to {} {NOT_PROVABLE}", report.head.seq))?;
    context.out.line(&format!("                {}", report.head))
}

/// `4487 /billing/rate: the stored value does not match its hash`
fn place(finding: &Finding) -> String {
    let seq = finding.seq.map(|seq| seq.to_string());
    let place: Vec<&str> = seq.iter().map(String::as_str).chain(finding.key.as_deref()).collect();
    if place.is_empty() { finding.what.clone() } else { format!("{}: {}", place.join(" "), finding.what) }
}

fn tsv(context: &mut Context, report: &VerifyReport) -> Done {
    for finding in &report.findings {
        let seq = finding.seq.map(|seq| seq.to_string()).unwrap_or_default();
        let key = escape_field(finding.key.as_deref().unwrap_or_default());
        context.out.fields(["contradicted", &seq, &key, &escape_field(&finding.what)])?;
    }
    if !report.is_intact() {
        return Ok(());
    }
    for (what, much) in proved(report) {
        context.out.fields(["proved", "", "", &format!("{what}: {much}")])?;
    }
    let seq = report.head.seq.to_string();
    context.out.fields(["not_provable", &seq, "", &format!("{NOT_PROVABLE} {}", report.head)])
}

fn object(report: &VerifyReport) -> String {
    let findings = report.findings.iter().map(|finding| {
        let object = Object::nested();
        let object = match finding.seq {
            Some(seq) => object.number("seq", seq.as_u64()),
            None => object,
        };
        object.maybe("key", finding.key.as_deref()).text("what", &finding.what).finish()
    });
    Object::of_type("verification")
        .flag("intact", report.is_intact())
        .text("head", &report.head.to_string())
        .number("changes", report.changes)
        .number("keys", report.keys)
        .number("tombstones", report.tombstones)
        .number("contradictions", report.contradictions)
        .list("findings", findings)
        .finish()
}

fn contradicted(report: &VerifyReport) -> Failure {
    let first = report.findings.iter().find_map(|finding| finding.seq);
    let place = first.map(|seq| format!(", first at {seq}")).unwrap_or_default();
    let what = format!("{}{place}", counted(report.contradictions, "contradiction"));
    Failure::new(Exit::Integrity, "corrupted", what)
        .fact("keep a copy of the file as it is; see whether a backup is whole")
        .hint("ustate verify --db BACKUP")
}

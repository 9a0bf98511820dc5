//! What a compaction would do, and who is in its way.

use univrs_state::consumer::ConsumerInfo;
use univrs_state::log::Anchor;
use univrs_state::retain::CompactionPlan;
use univrs_state::{Seq, StateError};

use crate::context::Context;
use crate::escape::{escape, escape_field};
use crate::json::Object;
use crate::output::Format;
use crate::stop::{Done, Failure};
use crate::time::span;
use crate::value::{count, counted, size};

/// The most consumers, marks and anchors that people are shown unless they ask for more.
const SHOWN: usize = 10;

/// A plan, and what an operator wants to know of it.
pub(crate) struct Planned {
    pub(crate) plan: CompactionPlan,
    /// Positions of anchors that would stop being provable.
    pub(crate) anchors: Vec<Seq>,
    pub(crate) forced: bool,
    pub(crate) spares_marks: bool,
}

impl Planned {
    /// Whether somebody is in the way, and the compaction would be refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_held() || self.spares_marks && !self.plan.marks.is_empty()
    }

    fn is_held(&self) -> bool {
        !self.forced && self.plan.consumers.iter().any(|consumer| consumer.holds)
    }

    /// The error of a compaction that somebody is in the way of. Whoever was `named` already is not named again.
    pub(crate) fn refusal(&self, context: &Context, named: bool) -> Failure {
        let floor = self.plan.floor.seq;
        let failure =
            Failure::of(&StateError::Held(format!("the log cannot be compacted to {floor} as it is")));
        let facts = self.in_the_way(usize::MAX).into_iter().filter(|_| !named);
        let failure = facts.fold(failure, Failure::fact);
        let command = if self.is_held() { "consumers" } else { "mark list" };
        failure.hint(context.hint(command))
    }

    /// The anchors that a log of this store has, and that lie before the new floor but not before the old one.
    pub(crate) fn losing(plan: &CompactionPlan, anchors: &[Anchor]) -> Vec<Seq> {
        let seqs = anchors.iter().map(|anchor| anchor.head.seq);
        let mut losing: Vec<Seq> =
            seqs.filter(|seq| (plan.before.seq..plan.floor.seq).contains(seq)).collect();
        losing.sort_unstable();
        losing.dedup();
        losing
    }

    /// `1 200 changes (34 KiB)`
    pub(crate) fn much(&self) -> String {
        format!("{} ({})", counted(self.plan.dropped, "change"), size(self.plan.dropped_bytes))
    }

    /// Who loses something, a line each.
    fn in_the_way(&self, most: usize) -> Vec<String> {
        let consumers = self.plan.consumers.iter().map(|consumer| consumer_in_the_way(consumer, self.forced));
        let mut lines: Vec<String> = consumers.take(most).collect();
        let marks = self.plan.marks.iter().map(|mark| {
            let way = if self.spares_marks { "in the way" } else { "gone then" };
            format!("the mark {}, of {}: {way}", mark.name, mark.head.seq)
        });
        lines.extend(marks.take(most));
        let more = [(self.plan.consumers.len(), "consumer"), (self.plan.marks.len(), "mark")];
        for (number, noun) in more.into_iter().filter(|(number, _)| *number > most) {
            lines.push(format!(
                "and {}; -v names all",
                counted((number - most) as u64, &format!("more {noun}"))
            ));
        }
        lines
    }

    pub(crate) fn report(&self, context: &mut Context) -> Done {
        match context.format {
            Format::Human => self.human(context),
            Format::Tsv => self.tsv(context),
            _ => context.out.line(&self.object()),
        }
    }

    fn human(&self, context: &mut Context) -> Done {
        let CompactionPlan { floor, left, left_bytes, forgotten, .. } = self.plan;
        context.out.line(&format!("would drop {}, and begin the log after {}", self.much(), floor.seq))?;
        context.out.line(&format!(
            "would leave {} ({}) up to there",
            counted(left, "change"),
            size(left_bytes)
        ))?;
        if forgotten > 0 {
            context.out.line(&format!("would forget {}", counted(forgotten, "deleted key")))?;
        }
        let most = if context.verbose { usize::MAX } else { SHOWN };
        for line in self.in_the_way(most) {
            context.out.line(&format!("  {}", escape(&line)))?;
        }
        if !self.anchors.is_empty() {
            let newest = self.anchors.iter().rev().take(most).rev().map(Seq::to_string);
            let more = if self.anchors.len() > most { "… " } else { "" };
            let places = newest.collect::<Vec<_>>().join(" ");
            let anchors = counted(self.anchors.len() as u64, "anchor");
            context.out.line(&format!("  {anchors} would stop being provable: {more}{places}"))?;
        }
        Ok(())
    }

    /// The counts, by their names.
    fn counts(&self) -> [(&'static str, u64); 6] {
        let plan = &self.plan;
        [
            ("floor", plan.floor.seq.as_u64()),
            ("dropped", plan.dropped),
            ("dropped_bytes", plan.dropped_bytes),
            ("left", plan.left),
            ("left_bytes", plan.left_bytes),
            ("forgotten", plan.forgotten),
        ]
    }

    fn tsv(&self, context: &mut Context) -> Done {
        for (name, number) in self.counts() {
            context.out.fields([name, &number.to_string()])?;
        }
        for consumer in &self.plan.consumers {
            let holds = if consumer.holds { "holds" } else { "passed" };
            let seq = consumer.cursor.seq().to_string();
            context.out.fields(["consumer", &escape_field(&consumer.name), &seq, holds])?;
        }
        for mark in &self.plan.marks {
            context.out.fields(["mark", &escape_field(&mark.name), &mark.head.seq.to_string()])?;
        }
        self.anchors.iter().try_for_each(|seq| context.out.fields(["anchor", &seq.to_string()]))
    }

    fn object(&self) -> String {
        let object = Object::of_type("compaction").flag("dry_run", true).flag("refused", self.is_refused());
        let object = object.text("before", &self.plan.before.to_string());
        let object = object.text("floor", &self.plan.floor.to_string());
        let counts = self.counts().into_iter().skip(1);
        let object = counts.fold(object, |object, (name, number)| object.number(name, number));
        let marks = self.plan.marks.iter().map(|mark| {
            Object::nested().text("name", &mark.name).number("seq", mark.head.seq.as_u64()).finish()
        });
        object
            .list(
                "consumers",
                self.plan.consumers.iter().map(|consumer| of_consumer(Object::nested(), consumer)),
            )
            .list("marks", marks)
            .list("anchors", self.anchors.iter().map(Seq::to_string))
            .finish()
    }
}

/// A consumer that is not done with what would go.
pub(crate) fn consumer_in_the_way(consumer: &ConsumerInfo, forced: bool) -> String {
    let (name, at, hold) = (&consumer.name, consumer.cursor.seq(), span(consumer.hold));
    let what = match (consumer.holds, forced) {
        (true, false) => format!("in the way for {hold}; --force passes it by"),
        (true, true) => "loses its place, as it is forced".to_owned(),
        (false, _) => format!("loses its place; not heard of for {hold}"),
    };
    format!("the consumer {name}, at {at}: {what}")
}

/// A consumer, for machines.
pub(crate) fn of_consumer(object: Object, consumer: &ConsumerInfo) -> String {
    object
        .text("name", &consumer.name)
        .number("seq", consumer.cursor.seq().as_u64())
        .number("lag", consumer.lag)
        .text("pattern", &consumer.pattern)
        .number("hold_seconds", consumer.hold.as_secs())
        .flag("holds", consumer.holds)
        .text("recorded", &crate::time::rfc3339(consumer.recorded))
        .number("generation", consumer.generation)
        .text("cursor", &consumer.cursor.to_string())
        .finish()
}

/// What a compaction did, in short: `dropped 1 200 changes, and left 40 of those up to 300`
pub(crate) fn outcome(compacted: &univrs_state::retain::Compacted) -> String {
    let floor = compacted.floor.seq;
    format!(
        "dropped {}, and left {} up to {floor}",
        counted(compacted.dropped, "change"),
        count(compacted.left)
    )
}

//! What another policy would have said of the past.
//!
//! In: the effects of one recording under two policies. Out: the judgements that differ.

use std::collections::BTreeMap;

use crate::core::collector::Collector;
use crate::core::event::Event;
use crate::core::flow::endpoint_name;
use crate::core::policy::judgement::Judgement;
use crate::core::report::{Effect, FlowAction, ProcessView};
use crate::source::recording::{Entry, Recording};

/// Judgements that differ: of what, and how often.
#[derive(Debug, Default)]
pub struct Changes {
    counted: BTreeMap<String, u64>,
    /// Judgements in all.
    judged: u64,
}

impl Changes {
    /// Plays the recording to both.
    ///
    /// # Errors
    ///
    /// A damaged recording: file and line are named.
    pub fn between(
        mut old: Collector,
        mut new: Collector,
        recording: &mut Recording,
    ) -> anyhow::Result<Changes> {
        let mut changes = Changes::default();
        for entry in recording.by_ref() {
            let entry = entry?;
            let now = entry.now();
            match entry {
                Entry::Record { bytes, .. } => {
                    if let Ok(event) = Event::decode(&bytes) {
                        let before = old.apply(event.clone(), now);
                        changes.add(&before, &new.apply(event, now));
                    }
                }
                // What a policy says first when time passes is an alert, and no judgement.
                Entry::Tick { .. } => {
                    old.sweep(now);
                    new.sweep(now);
                }
                Entry::End { .. } => {}
            }
        }
        Ok(changes)
    }

    /// Nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    /// Both tell of the same processes and flows, in the same order: only the judgements differ.
    fn add(&mut self, old: &[Effect], new: &[Effect]) {
        let (old, new) = (old.iter().filter_map(judged), new.iter().filter_map(judged));
        for ((what, old), (_, new)) in old.zip(new) {
            self.judged += 1;
            let (old, new) = (said(old), said(new));
            if old != new {
                *self
                    .counted
                    .entry(format!("{what}: {old}, now {new}"))
                    .or_default() += 1;
            }
        }
    }

    /// One line for each difference.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut text = String::new();
        for (change, times) in &self.counted {
            text += &format!("{times:>6} x {change}\n");
        }
        let changed: u64 = self.counted.values().sum();
        let judged = self.judged;
        text + &format!("{changed} of {judged} judgements change\n")
    }
}

/// Of what an effect tells, and how that was judged. Ends of flows repeat their opening.
fn judged(effect: &Effect) -> Option<(String, &Judgement)> {
    match effect {
        Effect::ProcessStarted(event) => {
            Some((format!("{} starts", who(&event.process)), &event.judgement))
        }
        Effect::Flow(report) if matches!(report.action, FlowAction::Opened { .. }) => {
            let to = endpoint_name(report.names.first(), report.ip());
            Some((
                format!("{} to {to}", who(&report.process)),
                &report.judgement,
            ))
        }
        _ => None,
    }
}

fn who(process: &ProcessView) -> String {
    match &process.tool {
        Some(member) => format!("{} ({})", member.tool.id, member.role.name()),
        None => process.exe.to_string(),
    }
}

/// `denied by banned-tool`; `undeclared, lifted by …`.
fn said(judgement: &Judgement) -> String {
    let mut said = format!("{} by {}", judgement.verdict.name(), judgement.rule);
    if let Some(action) = judgement.action {
        said += &format!(" ({})", action.name());
    }
    if let Some(exception) = &judgement.exception {
        said += &format!(", exception {exception}");
    }
    said
}

//! What another policy would have said of the past.
//!
//! In: the effects of one recording under two policies. Out: the judgements that differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::collector::Collector;
use crate::core::event::{BootNs, Event};
use crate::core::flow::endpoint_name;
use crate::core::policy::judgement::Judgement;
use crate::core::report::{Effect, FlowAction, ProcessView};
use crate::source::recording::{Entry, Recording};

/// Judgements that differ: of what, and how often.
#[derive(Debug, Default)]
pub struct Changes {
    counted: BTreeMap<String, u64>,
    /// Judgements in all.
    judged: usize,
}

/// What is judged: image, socket, remote; of a start, the image alone.
type Judged = (Arc<str>, u64, String);

/// What one policy says, by process and socket: a policy may wait longer than another for what a
/// client says, so that the order differs.
#[derive(Debug, Default)]
struct Said(BTreeMap<Judged, (String, String)>);

impl Said {
    fn add(&mut self, effects: &[Effect]) {
        for (key, what, judgement) in effects.iter().filter_map(judged) {
            self.0.entry(key).or_insert_with(|| (what, said(judgement)));
        }
    }
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
        let (mut before, mut after) = (Said::default(), Said::default());
        let mut last = BootNs(0);
        for entry in recording.by_ref() {
            let entry = entry?;
            last = entry.now();
            match entry {
                Entry::Record { bytes, .. } => {
                    if let Ok(event) = Event::decode(&bytes) {
                        before.add(&old.apply(event.clone(), last));
                        after.add(&new.apply(event, last));
                    }
                }
                Entry::Tick { .. } => {
                    before.add(&old.sweep(last));
                    after.add(&new.sweep(last));
                }
                Entry::End { .. } => {}
            }
        }
        before.add(&old.shutdown(last));
        after.add(&new.shutdown(last));
        let mut changes = Changes {
            judged: after.0.len(),
            ..Changes::default()
        };
        for (key, (what, new)) in &after.0 {
            let Some((_, old)) = before.0.get(key) else {
                continue;
            };
            if old != new {
                let change = format!("{what}: {old}, now {new}");
                *changes.counted.entry(change).or_default() += 1;
            }
        }
        Ok(changes)
    }

    /// Nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counted.is_empty()
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

/// Of what an effect tells, in which words, and how that was judged. Ends of flows repeat their
/// opening.
fn judged(effect: &Effect) -> Option<(Judged, String, &Judgement)> {
    match effect {
        Effect::ProcessStarted(event) => {
            let key = (Arc::clone(&event.process.entity_id), 0, String::new());
            Some((
                key,
                format!("{} starts", who(&event.process)),
                &event.judgement,
            ))
        }
        Effect::Flow(report) if matches!(report.action, FlowAction::Opened { .. }) => {
            let to = endpoint_name(report.names.first(), report.ip());
            let remote = report.remote.addr.to_string();
            let key = (
                Arc::clone(&report.process.entity_id),
                report.cookie.0,
                remote,
            );
            Some((
                key,
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

//! The straight line: records in, effects out. Live or replayed, it is the same.
//!
//! In: a source of records and the passing of time. Out: whatever the sinks do with the effects.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::WallClock;
use crate::core::collector::Collector;
use crate::core::event::decode::DecodeError;
use crate::core::event::{BootNs, Event};
use crate::core::report::{Effect, Limit};
use crate::core::sample::Samples;
use crate::host::clock;
use crate::reload::Reload;
use crate::sink::Sinks;
use crate::sink::http::pages::PolicyStatus;
use crate::source::facts::Facts;
use crate::source::feed::{Batch, Feed};
use crate::source::recording::{Entry, Recorder, Recording};
use crate::source::resolved::Resolved;
use crate::supervisor;

/// How often time passes for the collector: expiry, repetition and resolution of alerts.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Questions about one event: its cgroup, its container, its job.
const QUESTIONS_MAX: usize = 3;

/// Everything between a record and its effects.
pub struct Line {
    /// All state.
    pub collector: Collector,
    /// All outputs.
    pub sinks: Sinks,
    /// Where records are kept for a replay, if anywhere.
    pub recorder: Option<Recorder>,
    /// Who answers the collector's questions about the host; nobody in a replay, whose recording
    /// holds the answers.
    pub facts: Option<Facts>,
    /// Who hears what systemd-resolved answers; nobody in a replay, as above.
    pub resolved: Option<Resolved>,
}

impl Line {
    /// Applies one record, and before it what the collector would like to know of the host.
    pub fn record(&mut self, bytes: &[u8], now: BootNs) {
        let event = Event::decode(bytes);
        if let Ok(event) = &event {
            self.inquire(event, now);
        }
        self.apply(bytes, event, now);
    }

    /// Applies what the host said in the meantime: systemd-resolved's answers, and answers that
    /// came late.
    pub fn catch_up(&mut self, now: BootNs) {
        let resolved: Vec<_> = self.resolved.iter().flat_map(Resolved::take).collect();
        self.answers(resolved, now);
        let late = self.facts.as_mut().map(|facts| facts.late(now));
        self.answers(late.unwrap_or_default(), now);
    }

    fn inquire(&mut self, event: &Event, now: BootNs) {
        for _ in 0..QUESTIONS_MAX {
            let Some(facts) = &mut self.facts else { return };
            let Some(question) = self.collector.question(event) else {
                return;
            };
            let answers = facts.ask(question, now);
            self.answers(answers, now);
        }
    }

    fn answers(&mut self, answers: Vec<Vec<u8>>, now: BootNs) {
        for answer in answers {
            self.apply(&answer, Event::decode(&answer), now);
        }
    }

    fn apply(&mut self, bytes: &[u8], event: Result<Event, DecodeError>, now: BootNs) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(now, bytes);
        }
        match event {
            Ok(event) => {
                self.sinks.metrics.record_event(event.kind());
                if let Event::SelfChecked(check) = &event {
                    for (program, attached) in &check.attached {
                        self.sinks.metrics.set_hook_attached(program, *attached);
                    }
                }
                let effects = self.collector.apply(event, now);
                self.sinks.emit(&effects);
            }
            Err(error) => {
                self.sinks.metrics.record_decode_error(&error);
                self.collector.undecodable(now);
                tracing::debug!("a record was not understood: {error}");
            }
        }
    }

    /// Judges by something else from the next event on; or tells why not, and goes on as before.
    pub fn reload(&mut self, reload: Reload, status: &watch::Sender<PolicyStatus>, now: BootNs) {
        let effects = match reload {
            Reload::Loaded(judges) => {
                let (policy, catalog) = *judges;
                let digest = catalog.digest().to_owned();
                status.send_replace(PolicyStatus::of(&policy, &digest));
                self.sinks
                    .metrics
                    .set_tools(catalog.tools().map(|tool| &*tool.id));
                self.sinks.metrics.set_policy(&policy, &digest);
                tracing::info!("judging by the policy {} from now on", policy.digest());
                self.collector.judge_by(policy, catalog, now)
            }
            Reload::Rejected(error) => {
                tracing::error!("the last good policy and catalog stay in force: {error}");
                let effects = self.collector.reject(&error, now);
                status.send_modify(|status| status.rejected = Some(error));
                effects
            }
        };
        let loaded = self.collector.rejected().is_none();
        let unix_seconds = self.sinks.clock.unix_seconds(now);
        self.sinks.metrics.reloaded(loaded, unix_seconds);
        self.sinks.emit(&effects);
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: BootNs) {
        if let Some(recorder) = &mut self.recorder {
            recorder.tick(now);
        }
        let effects = self.collector.sweep(now);
        self.sinks.emit(&effects);
        self.show_sizes();
        if let Some(facts) = &mut self.facts {
            self.sinks.metrics.add_facts(&facts.take_counts());
        }
        if let Some(resolved) = &self.resolved {
            self.sinks.metrics.set_resolved(&resolved.status());
        }
        self.sinks.flush();
    }

    /// Tells the outputs that this is the end, and lets them finish. Returns whether the event log
    /// has everything.
    pub async fn end(mut self, now: BootNs) -> bool {
        let effects = self.collector.shutdown(now);
        self.sinks.emit(&effects);
        self.show_sizes();
        if let Some(recorder) = self.recorder {
            let lost = recorder.finish(now);
            if lost > 0 {
                tracing::warn!("the recording is incomplete: {lost} entries were lost");
            }
        }
        let written = self.sinks.write_out();
        self.sinks.drain().await;
        written
    }

    fn show_sizes(&self) {
        let (sizes, limits) = (self.collector.sizes(), self.collector.limits());
        let (pending, withheld) = self.collector.alerts_waiting();
        self.sinks.metrics.set_alerts_waiting(pending, withheld);
        let tables = [
            ("processes", sizes.processes, limits.processes),
            ("flows", sizes.flows, limits.flows),
            ("alerts", sizes.alerts, limits.alerts),
            ("names", sizes.names.names, limits.names.total),
        ];
        for (table, entries, capacity) in tables {
            self.sinks
                .metrics
                .set_table(table, entries as u64, capacity as u64);
        }
    }
}

/// What judges, when it is another, and who is told.
pub struct Reloads {
    /// What comes.
    pub next: mpsc::Receiver<Reload>,
    /// What is in force.
    pub status: watch::Sender<PolicyStatus>,
}

/// Runs the line on the kernel until `shutdown` resolves.
///
/// # Errors
///
/// If the kernel's maps can no longer be read; nothing can be seen then.
pub async fn run(
    mut line: Line,
    mut feed: Feed,
    mut reloads: Reloads,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut samples = Samples::default();
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut stops = false;
    let mut last = 0;
    // A batch came since the service manager was told: there is one at least every second.
    let mut moved = false;
    supervisor::ready();
    loop {
        tokio::select! {
            () = &mut shutdown, if !stops => {
                stops = true;
                supervisor::stopping();
                feed.stop();
            }
            batch = feed.next() => {
                let Some(batch) = batch.context("the kernel side failed")? else {
                    break;
                };
                last = batch.number();
                moved = true;
                apply(&mut line, &mut samples, &batch);
                for process in line.collector.take_watches() {
                    feed.watch(process);
                }
                if feed.is_pinned() && line.sinks.write_out() {
                    feed.written(last, line.collector.waiting());
                }
            }
            Some(reload) = reloads.next.recv() => {
                line.reload(reload, &reloads.status, clock::now());
                feed.recognise_by(Arc::clone(line.collector.catalog()));
            }
            _ = sweep.tick() => {
                let offset_ns = clock::wall_offset_ns();
                line.sinks.clock = WallClock { offset_ns };
                line.collector.set_wall_offset(offset_ns);
                line.tick(clock::now());
                if std::mem::take(&mut moved) {
                    supervisor::alive();
                }
            }
        }
    }
    // Detached by now: what happens from here on is not seen, and not promised. Where it is pinned
    // instead, the next monitor tells it.
    if line.end(clock::now()).await {
        feed.written(last, 0);
    }
    feed.end();
    Ok(())
}

/// Applies one batch of records.
fn apply(line: &mut Line, samples: &mut Samples, batch: &Batch) {
    let now = clock::now();
    line.catch_up(now);
    for record in batch.records() {
        samples.pass(record, &mut |record| line.record(record, now));
    }
    samples.sweep(now, &mut |record| line.record(record, now));
    for _ in 0..batch.skipped_scripts {
        let effect = Effect::Limited(Limit::Scripts);
        line.sinks.metrics.record(&effect, &line.sinks.clock);
    }
    for _ in 0..batch.unwatched {
        let effects = line.collector.limited(Limit::Watched, now);
        line.sinks.emit(&effects);
    }
    let most = u64::from(monitor_common::limits::FLOWS_MAX);
    let flows = batch.flows as u64;
    line.sinks.metrics.set_map("flows", flows, most);
    line.sinks.metrics.set_flows_evicted(batch.flows_evicted);
    if let Some(figures) = &batch.figures {
        let metrics = &line.sinks.metrics;
        metrics.set_programs_measured(figures.measured);
        for program in &figures.programs {
            metrics.set_program(program.name, program.runs, program.run_time);
        }
        for (map, entries, capacity) in &figures.maps {
            metrics.set_map(map, *entries, *capacity);
        }
        for (ring, most, capacity) in &figures.rings {
            metrics.set_ring(ring, *most, *capacity);
        }
    }
}

/// Runs the line on a recording. The same file gives the same output, byte for byte.
///
/// # Errors
///
/// A damaged recording: file and line are named.
pub async fn replay(mut line: Line, mut recording: Recording) -> anyhow::Result<()> {
    let mut last = BootNs(0);
    for entry in recording.by_ref() {
        let entry = entry?;
        last = entry.now();
        match entry {
            Entry::Record { now, bytes } => line.record(&bytes, now),
            Entry::Tick { now } => line.tick(now),
            Entry::End { .. } => {}
        }
    }
    if let Some(warning) = recording.warning() {
        tracing::warn!("{warning}");
    }
    line.end(last).await;
    Ok(())
}

//! Where effects go: metrics, event log, console, and the receivers of alerts.
//!
//! In: effects, in order. Out: files, a terminal, HTTP. Sinks translate and never decide, and
//! none of them stops the line: what a sink cannot take is dropped, and counted.

pub mod alertmanager;
pub mod chain;
pub mod console;
pub mod ecs;
pub mod event_log;
#[cfg(test)]
pub(crate) mod fixture;
pub mod http;
pub mod http_post;
mod json;
pub mod lines;
pub mod notice;
pub mod ocsf;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod post;
pub mod receivers;
pub mod slack;
pub mod spool;
pub mod syslog;
pub mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::clock::WallClock;
use crate::core::report::{AlertState, Effect};
use crate::metrics::Metrics;
use console::Console;
use event_log::EventLog;
use post::Post;

/// Time that receivers of alerts get to take what waits when Telltale stops: systemd kills after
/// 90 s, and an operator at a terminal waits less. All get it together.
const DRAIN_SECONDS: Duration = Duration::from_secs(5);

/// Which host, boot and run the effects are of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Host name.
    pub name: String,
    /// `/proc/sys/kernel/random/boot_id`: sequence and cookie are unique within it.
    pub boot_id: String,
    /// This run of Telltale: with the sequence of an event it makes a unique id.
    pub session: String,
    /// Where each rule is explained; the rule's name is added as a fragment.
    pub runbooks: String,
}

/// All outputs. What is not configured is not there, and costs nothing.
pub struct Sinks {
    /// Turns boot time into wall time; the owner renews it as the wall clock may be stepped.
    pub clock: WallClock,
    /// Counts everything.
    pub metrics: Arc<Metrics>,
    /// The event log.
    pub event_log: Option<EventLog>,
    /// The terminal.
    pub console: Option<Console>,
    /// Receivers of alerts.
    pub posts: Vec<Post>,
    /// An OpenTelemetry collector.
    #[cfg(feature = "otlp")]
    pub otlp: Option<otlp::Otlp>,
}

impl Sinks {
    /// Hands effects to every output. Never blocks, unless an output was told to wait.
    pub fn emit(&mut self, effects: &[Effect]) {
        for effect in effects {
            self.metrics.record(effect, &self.clock);
            if let Some(log) = &mut self.event_log {
                log.write(effect, &self.clock);
            }
            if let Some(console) = &mut self.console {
                console.write(effect, &self.clock);
            }
            #[cfg(feature = "otlp")]
            if let Some(otlp) = &mut self.otlp {
                otlp.write(effect, &self.clock);
            }
            if let Effect::Alert(notice) = effect {
                self.posts
                    .iter()
                    .for_each(|post| post.offer(notice, self.clock));
            }
        }
    }

    /// Writes what is buffered, and shows in the metrics what each output did.
    /// The owner calls it at least every second.
    pub fn flush(&mut self) {
        if let Some(log) = &mut self.event_log {
            log.flush();
            self.metrics.set_event_log(&log.stats());
        }
        if let Some(console) = &mut self.console {
            console.flush();
            self.metrics.set_sink("console", &console.stats());
        }
        for post in &self.posts {
            self.metrics.set_sink(post.name(), &post.stats());
        }
        #[cfg(feature = "otlp")]
        for (name, stats) in self.otlp.iter().flat_map(otlp::Otlp::stats) {
            self.metrics.set_sink(name, &stats);
        }
    }

    /// Writes what the event log holds back. Returns whether all of it is in the file.
    pub fn write_out(&mut self) -> bool {
        let Some(log) = &mut self.event_log else {
            return true;
        };
        log.flush();
        log.stats().bytes_pending == 0
    }

    /// Delivers what waits, within [`DRAIN_SECONDS`], and ends.
    pub async fn drain(mut self) {
        self.flush();
        if let Some(log) = &mut self.event_log {
            log.finish();
        }
        let deadline = Instant::now() + DRAIN_SECONDS;
        for post in self.posts {
            let name = post.name().to_owned();
            let stats = post.drain(deadline).await;
            self.metrics.set_sink(&name, &stats);
        }
        #[cfg(feature = "otlp")]
        if let Some(otlp) = self.otlp {
            for (name, stats) in otlp.drain(deadline).await {
                self.metrics.set_sink(name, &stats);
            }
        }
    }
}

/// Name of an alert's state in outputs.
fn state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::Fired => "fired",
        AlertState::StillFiring => "still-firing",
        AlertState::Resolved => "resolved",
    }
}

/// The last component of a path.
fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Labels or annotations as texts.
fn plain<K: AsRef<str> + Ord>(map: &BTreeMap<K, Arc<str>>) -> BTreeMap<&str, &str> {
    map.iter()
        .map(|(name, value)| (name.as_ref(), &**value))
        .collect()
}

/// A character that a terminal acts on instead of showing it, or that hides or reorders others:
/// control characters, line separators, zero-width and bidirectional marks, tags.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::BuildInfo;
    use crate::metrics::encode::Format;
    use fixture::TestReceiver;
    use lines::WhenFull;

    #[tokio::test]
    async fn effects_reach_every_output_and_the_outputs_reach_the_metrics() {
        let receiver = TestReceiver::start(vec![]).await;
        let target = http_post::Target {
            url: receiver.url.parse().unwrap(),
            timeout: Duration::from_secs(5),
            secret: None,
        };
        let transport = http_post::HttpPost::new(target, webhook::Webhook).unwrap();
        let post = Post::start(
            "webhook-1".to_owned(),
            &fixture::host(),
            spool::Spool::in_memory(1 << 20),
            post::Retry::default(),
            transport,
        );
        let path = std::env::temp_dir().join(format!("telltale-sinks-{}", std::process::id()));
        let target = event_log::LogTarget::File(path.clone());
        let metrics = Arc::new(
            Metrics::new(["claude-code"].into_iter(), &BuildInfo::default(), "5f3c").unwrap(),
        );
        let mut sinks = Sinks {
            clock: fixture::CLOCK,
            metrics: Arc::clone(&metrics),
            event_log: Some(EventLog::open(&target, WhenFull::Drop, &fixture::host()).unwrap()),
            console: None,
            posts: vec![post],
            #[cfg(feature = "otlp")]
            otlp: None,
        };
        let states = [AlertState::Fired, AlertState::Resolved];
        sinks.emit(&[fixture::started(fixture::process(1))]);
        sinks.emit(&states.map(fixture::alert));
        sinks.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        sinks.drain().await;
        assert_eq!(receiver.bodies().len(), 2);
        let text = metrics.encode(Format::Text);
        for series in [
            "telltale_processes_started_total{role=\"main\",tool=\"claude-code\"} 1\n",
            "telltale_event_log_lines_total 3\n",
            "telltale_sink_delivered_total{sink=\"webhook-1\"} 2\n",
            "telltale_sink_queue_length{sink=\"webhook-1\"} 0\n",
            "telltale_sink_dropped_total{reason=\"shutdown\",sink=\"webhook-1\"} 0\n",
        ] {
            assert!(text.contains(series), "no {series} in\n{text}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn nothing_is_needed_but_metrics() {
        let metrics =
            Arc::new(Metrics::new(std::iter::empty(), &BuildInfo::default(), "5f3c").unwrap());
        let mut sinks = Sinks {
            clock: WallClock::default(),
            metrics,
            event_log: None,
            console: None,
            posts: Vec::new(),
            #[cfg(feature = "otlp")]
            otlp: None,
        };
        sinks.emit(&[fixture::alert(AlertState::Fired)]);
        sinks.drain().await;
    }
}

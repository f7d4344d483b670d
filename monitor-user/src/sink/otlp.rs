//! Sends events as log records, and all metrics, to an OpenTelemetry collector: OTLP over HTTP, in
//! protobuf.
//!
//! In: effects, and the metrics as they are now and then. Out: requests to `/v1/logs` and
//! `/v1/metrics` below one URL. A collector that is slow or gone holds nothing up: events wait in
//! a bounded queue, and are dropped and counted when that is full; metrics are cumulative, and
//! the next ones say it all.

mod record;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use self::send::{Endpoint, send_events, send_metrics};
use super::HostInfo;
use super::ecs::Lines;
use super::http_post::{Target, client};
use crate::clock::WallClock;
use crate::config;
use crate::core::report::Effect;
use crate::metrics::Metrics;
use crate::metrics::outputs::SinkStats;

/// Events that may wait, each 1 to 3 kB: some seconds of a busy host.
const QUEUE_MAX: usize = 4096;

/// The `sink` labels of its metrics.
pub const EVENTS: &str = "otlp-events";
/// See [`EVENTS`].
pub const METRICS: &str = "otlp-metrics";

/// A collector that is told.
pub struct Otlp {
    lines: Lines,
    /// Log records, as protobuf. `None`: it is told no events.
    queue: Option<mpsc::Sender<Vec<u8>>>,
    events: Arc<Counts>,
    metrics: Arc<Counts>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What became of what was offered.
#[derive(Default)]
struct Counts {
    offered: AtomicU64,
    delivered: AtomicU64,
    retries: AtomicU64,
    queue_full: AtomicU64,
    rejected: AtomicU64,
}

impl Otlp {
    /// Starts telling. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If the URL is https and the host has no CA certificates.
    pub fn start(
        config: &config::Otlp,
        host: &HostInfo,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let endpoint = |path: &str| -> anyhow::Result<Endpoint> {
            let mut url = config.url.clone();
            url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
            let target = Target {
                url: url.clone(),
                timeout: config.timeout,
                secret: None,
            };
            let client = client(&target).context("otlp: no TLS client")?;
            Ok(Endpoint {
                client,
                url,
                resource: record::resource(host),
            })
        };
        let mut otlp = Otlp {
            lines: Lines::new(host),
            queue: None,
            events: Arc::default(),
            metrics: Arc::default(),
            stop: watch::channel(false).0,
            tasks: Vec::new(),
        };
        if config.events {
            let (queue, waiting) = mpsc::channel(QUEUE_MAX);
            let counts = Arc::clone(&otlp.events);
            let task = send_events(endpoint("/v1/logs")?, waiting, counts);
            otlp.queue = Some(queue);
            otlp.tasks.push(tokio::spawn(task));
        }
        if let Some(interval) = config.metrics {
            let counts = Arc::clone(&otlp.metrics);
            let (endpoint, metrics) = (endpoint("/v1/metrics")?, Arc::clone(metrics));
            let task = send_metrics(endpoint, metrics, interval, otlp.stop.subscribe(), counts);
            otlp.tasks.push(tokio::spawn(task));
        }
        Ok(otlp)
    }

    /// Queues the line of an effect, if it has one; drops and counts it if the queue is full.
    pub fn write(&mut self, effect: &Effect, clock: &WallClock) {
        let Some(queue) = &self.queue else { return };
        let Ok(Some(line)) = self.lines.value(effect, clock) else {
            return;
        };
        self.events.offered.fetch_add(1, Ordering::Relaxed);
        if queue.try_send(record::encode(&line)).is_err() {
            self.events.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was delivered, dropped and waits, by sink.
    #[must_use]
    pub fn stats(&self) -> [(&'static str, SinkStats); 2] {
        [
            (EVENTS, self.events.stats()),
            (METRICS, self.metrics.stats()),
        ]
    }

    /// Delivers what waits until `deadline`; what is left then is dropped, and counted.
    pub async fn drain(mut self, deadline: Instant) -> [(&'static str, SinkStats); 2] {
        self.queue = None;
        self.stop.send_replace(true);
        for task in &mut self.tasks {
            if timeout_at(deadline, &mut *task).await.is_err() {
                task.abort();
            }
        }
        self.stats().map(|(name, stats)| {
            let stats = SinkStats {
                queue_length: 0,
                dropped_shutdown: stats.queue_length,
                ..stats
            };
            (name, stats)
        })
    }
}

impl Counts {
    fn stats(&self) -> SinkStats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (delivered, full) = (get(&self.delivered), get(&self.queue_full));
        let rejected = get(&self.rejected);
        let done = delivered + full + rejected;
        SinkStats {
            queue_length: get(&self.offered).saturating_sub(done),
            delivered,
            retries: get(&self.retries),
            dropped_queue_full: full,
            dropped_rejected: rejected,
            ..SinkStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::StatusCode;
    use tokio::net::TcpListener;

    use super::*;
    use crate::metrics::BuildInfo;
    use crate::sink::fixture::{self, CLOCK, TestReceiver};

    fn start(url: &str, metrics: Option<Duration>) -> Otlp {
        let config = config::Otlp {
            url: url.parse().unwrap(),
            timeout: Duration::from_millis(500),
            events: true,
            metrics,
        };
        let registry = Metrics::new(std::iter::empty(), &BuildInfo::default(), "5f3c").unwrap();
        Otlp::start(&config, &fixture::host(), &Arc::new(registry)).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn events_and_metrics_come_to_the_paths_of_the_protocol() {
        let receiver = TestReceiver::start(vec![StatusCode::SERVICE_UNAVAILABLE]).await;
        let mut otlp = start(&receiver.url, Some(Duration::from_secs(3600)));
        for effect in fixture::every_line() {
            otlp.write(&effect, &CLOCK);
        }
        let [(_, events), (_, metrics)] = otlp.drain(soon()).await;
        let lines = fixture::every_line().len() as u64;
        assert_eq!((events.delivered, events.dropped_shutdown), (lines, 0));
        assert!(
            metrics.delivered > 0 && metrics.dropped_shutdown == 0,
            "{metrics:?}"
        );
        assert_eq!(events.retries + metrics.retries, 1);
        let asked = |path: &str| {
            let wanted = format!("POST {path} application/x-protobuf");
            let requests = receiver.requests();
            requests.iter().filter(|(line, _)| *line == wanted).count()
        };
        assert!(asked("/v1/logs") >= 1 && asked("/v1/metrics") >= 1);
    }

    #[tokio::test]
    async fn what_a_collector_refuses_or_nobody_takes_is_counted() {
        let receiver = TestReceiver::start(vec![StatusCode::BAD_REQUEST]).await;
        let mut otlp = start(&receiver.url, None);
        otlp.write(&fixture::started(fixture::process(1)), &CLOCK);
        let [(_, events), _] = otlp.drain(soon()).await;
        assert_eq!((events.dropped_rejected, events.queue_length), (1, 0));

        // It takes connections, and never answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut otlp = start(&url, None);
        let offered = 2 * QUEUE_MAX as u64;
        for _ in 0..offered {
            otlp.write(&fixture::started(fixture::process(1)), &CLOCK);
        }
        let [(_, waiting), _] = otlp.stats();
        assert!(waiting.dropped_queue_full > 0 && waiting.queue_length > 0);
        let now = Instant::now() + Duration::from_millis(50);
        let [(_, events), _] = otlp.drain(now).await;
        assert_eq!(events.dropped_queue_full + events.dropped_shutdown, offered);
    }
}

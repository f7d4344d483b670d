//! Requests to a collector, and what it says of them.
//!
//! In: log records from the queue; metrics, at an interval. Out: POSTs, tried again while the
//! collector may still take them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout_at};

use super::Counts;
use crate::host::clock::unix_ns;
use crate::metrics::Metrics;
use crate::sink::http_post::refusal;
use crate::sink::post::{Delivery, Retry, jittered};

/// Records in one request: some hundred kilobytes.
const BATCH_MAX: usize = 512;
/// How long the first record of a request waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 4096;

/// Where one kind of data goes.
pub struct Endpoint {
    pub client: Client,
    pub url: Url,
    pub resource: Resource,
}

impl Endpoint {
    /// One attempt, and the start of the answer to a success.
    async fn post(&self, body: Vec<u8>) -> (Delivery, Vec<u8>) {
        let request = self.client.post(self.url.clone());
        let request = request.header(CONTENT_TYPE, "application/x-protobuf");
        let mut answer = Vec::new();
        match request.body(body).send().await {
            Ok(mut response) if response.status().is_success() => {
                while let Ok(Some(part)) = response.chunk().await
                    && answer.len() < ANSWER_BYTES_MAX
                {
                    answer.extend_from_slice(&part);
                }
                (Delivery::Delivered, answer)
            }
            Ok(response) => (refusal(response).await, answer),
            // Without the URL, which may hold a password.
            Err(error) => {
                let error = anyhow::Error::from(error.without_url());
                (Delivery::Unreachable(format!("{error:#}")), answer)
            }
        }
    }

    /// Attempts until it is taken or refused for good.
    async fn deliver(&self, body: Vec<u8>, counts: &Counts) -> (Delivery, Vec<u8>) {
        let retry = Retry::default();
        for failures in 0u32.. {
            let (why, answer) = self.post(body.clone()).await;
            let (Delivery::Busy(why) | Delivery::Unreachable(why)) = why else {
                if failures > 0 {
                    tracing::info!("the OpenTelemetry collector takes data again");
                }
                return (why, answer);
            };
            if failures == 0 {
                tracing::warn!("the OpenTelemetry collector does not take data; it waits: {why}");
            }
            counts.retries.fetch_add(1, Ordering::Relaxed);
            let delay = retry.delay.saturating_mul(1 << failures.min(16));
            sleep(jittered(delay.min(retry.delay_max))).await;
        }
        (Delivery::Delivered, Vec::new()) // The loop has no end.
    }
}

/// Sends events until no more come.
pub async fn send_events(
    endpoint: Endpoint,
    mut queue: mpsc::Receiver<Vec<u8>>,
    counts: Arc<Counts>,
) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let full = Instant::now() + BATCH_WAIT;
        while batch.len() < BATCH_MAX
            && let room = BATCH_MAX - batch.len()
            && let Ok(more) = timeout_at(full, queue.recv_many(&mut batch, room)).await
            && more > 0
        {}
        let count = batch.len() as u64;
        let records = batch
            .drain(..)
            .filter_map(|bytes| LogRecord::decode(&*bytes).ok());
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(endpoint.resource.clone()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope()),
                    log_records: records.collect(),
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        };
        let (delivery, answer) = endpoint.deliver(request.encode_to_vec(), &counts).await;
        let refused = match delivery {
            Delivery::Rejected(why) => {
                tracing::warn!("the OpenTelemetry collector refuses {count} events: {why}");
                count
            }
            _ => refused_of(&answer).min(count),
        };
        counts.rejected.fetch_add(refused, Ordering::Relaxed);
        counts
            .delivered
            .fetch_add(count - refused, Ordering::Relaxed);
    }
}

/// Events of a request that the collector took, and says it refused.
fn refused_of(answer: &[u8]) -> u64 {
    let answer = ExportLogsServiceResponse::decode(answer).ok();
    let partial = answer.and_then(|answer| answer.partial_success);
    let refused = partial.map(|partial| partial.rejected_log_records);
    refused
        .and_then(|refused| u64::try_from(refused).ok())
        .unwrap_or(0)
}

/// Sends all metrics each `interval`, and at the end.
pub async fn send_metrics(
    endpoint: Endpoint,
    metrics: Arc<Metrics>,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
    counts: Arc<Counts>,
) {
    let started_ns = unix_ns();
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stops = false;
    while !stops {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stops| *stops) => stops = true,
        }
        let metrics = Arc::clone(&metrics);
        let made = move || metrics.otlp(started_ns, unix_ns());
        let Ok(made) = tokio::task::spawn_blocking(made).await else {
            continue;
        };
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(endpoint.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics: made,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        counts.offered.fetch_add(1, Ordering::Relaxed);
        let (delivery, _) = endpoint.deliver(request.encode_to_vec(), &counts).await;
        let count = match delivery {
            Delivery::Rejected(why) => {
                tracing::warn!("the OpenTelemetry collector refuses metrics: {why}");
                &counts.rejected
            }
            _ => &counts.delivered,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "telltale".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

//! Delivers alerts by HTTP POST: one queue and one task per receiver.
//!
//! In: alerts, offered without waiting. Out: JSON bodies to one URL. A receiver that is slow,
//! broken or gone costs its own alerts after some attempts, counted, and holds up nobody else.
//!
//! Nothing is followed, looked up or sent that the operator did not configure: no redirects,
//! and no proxy from the environment.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock::WallClock;
use crate::core::report::AlertNotice;
use crate::metrics::outputs::SinkStats;

/// Alerts that may wait for one receiver: more than a full alert table repeats at once.
pub const QUEUE_MAX: usize = 1_024;

/// Bytes of a refusal that are read and logged.
const REFUSAL_BYTES_MAX: usize = 512;

/// An alert on its way out.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The alert, and what became of it.
    pub notice: AlertNotice,
    /// The wall clock at that time.
    pub clock: WallClock,
}

/// Writes alerts as a receiver wants them.
pub trait Format: Send + Sync + 'static {
    /// Alerts per body, at least 1. It bounds the body, together with the size of an alert.
    const BATCH_MAX: usize;

    /// Writes a JSON body.
    fn body(&self, notices: &[Notice]) -> String;
}

/// A receiver of alerts.
pub struct Receiver<F> {
    /// The `sink` label of its metrics.
    pub name: String,
    /// Where to post.
    pub url: Url,
    /// What to post.
    pub format: F,
    /// How long to try.
    pub retry: Retry,
}

/// How long to try to deliver.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Attempts per body.
    pub attempts_max: u32,
    /// Wait after the first failure; each further one doubles it. A random half is taken off,
    /// so that a fleet does not come back in step.
    pub delay: Duration,
    /// Time to resolve the name and connect.
    pub connect_timeout: Duration,
    /// Time for a whole attempt.
    pub timeout: Duration,
}

impl Default for Retry {
    /// At most a minute per body: shorter than the time after which an alert is sent again.
    fn default() -> Self {
        Retry {
            attempts_max: 5,
            delay: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(10),
        }
    }
}

/// A started receiver.
pub struct Post {
    name: String,
    queue: mpsc::Sender<Notice>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

/// Each alert offered ends up in one of the others, or is queued.
#[derive(Default)]
struct Counts {
    offered: AtomicU64,
    delivered: AtomicU64,
    retries: AtomicU64,
    queue_full: AtomicU64,
    rejected: AtomicU64,
    gave_up: AtomicU64,
}

/// What became of one attempt, or of a body.
enum Delivery {
    Delivered,
    /// The receiver will never take it.
    Rejected(String),
    /// The receiver may take it later.
    Failed(String),
}

/// Reads the URL of a receiver. `key` is its key in the configuration, for the error.
///
/// # Errors
///
/// If it is not an absolute `http` or `https` URL.
pub fn receiver_url(key: &str, text: &str) -> anyhow::Result<Url> {
    // The text is not repeated: it may hold a password, or a token in its path.
    let url = Url::parse(text)
        .with_context(|| format!("{key}: not a URL; write it as http://host:port/path"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => bail!("{key}: scheme `{other}`; only http and https are possible"),
    }
}

impl Post {
    /// Starts the task of a receiver. It connects when the first alert comes, not before.
    ///
    /// # Errors
    ///
    /// If the URL is https and the host has no CA certificates.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn start<F: Format>(receiver: Receiver<F>) -> anyhow::Result<Self> {
        let client = client(&receiver.url, &receiver.retry).with_context(|| {
            format!(
                "{}: no TLS client; install the ca-certificates package",
                receiver.name
            )
        })?;
        let (queue, notices) = mpsc::channel(QUEUE_MAX);
        let counts = Arc::new(Counts::default());
        let name = receiver.name.clone();
        let task = tokio::spawn(run(receiver, client, notices, Arc::clone(&counts)));
        Ok(Post {
            name,
            queue,
            counts,
            task,
        })
    }

    /// The `sink` label of its metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queues an alert; drops and counts it if the queue is full. Never waits.
    pub fn offer(&self, notice: &AlertNotice, clock: WallClock) {
        let notice = Notice {
            notice: notice.clone(),
            clock,
        };
        add(&self.counts.offered, 1);
        if self.queue.try_send(notice).is_err() {
            add(&self.counts.queue_full, 1);
        }
    }

    /// What was delivered, dropped and is queued.
    #[must_use]
    pub fn stats(&self) -> SinkStats {
        self.counts.stats()
    }

    /// Delivers what is queued until `deadline`; what is left then is dropped and counted.
    pub async fn drain(self, deadline: Instant) -> SinkStats {
        let Post {
            queue,
            counts,
            mut task,
            ..
        } = self;
        drop(queue);
        if timeout_at(deadline, &mut task).await.is_err() {
            task.abort();
        }
        let stats = counts.stats();
        SinkStats {
            queue_length: 0,
            dropped_shutdown: stats.queue_length,
            ..stats
        }
    }
}

impl Counts {
    fn stats(&self) -> SinkStats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut stats = SinkStats {
            queue_length: 0,
            delivered: get(&self.delivered),
            retries: get(&self.retries),
            dropped_queue_full: get(&self.queue_full),
            dropped_rejected: get(&self.rejected),
            dropped_gave_up: get(&self.gave_up),
            dropped_shutdown: 0,
        };
        let done = stats.delivered
            + stats.dropped_queue_full
            + stats.dropped_rejected
            + stats.dropped_gave_up;
        stats.queue_length = get(&self.offered).saturating_sub(done);
        stats
    }
}

fn add(count: &AtomicU64, by: usize) {
    count.fetch_add(by as u64, Ordering::Relaxed);
}

fn client(url: &Url, retry: &Retry) -> anyhow::Result<Client> {
    // An error says that one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(concat!("telltale/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(retry.connect_timeout)
        .timeout(retry.timeout);
    // Without https there is no need to have, and to read, the CA certificates of the host.
    let client = if url.scheme() == "https" {
        client
    } else {
        client.tls_certs_only([])
    };
    Ok(client.build()?)
}

async fn run<F: Format>(
    receiver: Receiver<F>,
    client: Client,
    mut notices: mpsc::Receiver<Notice>,
    counts: Arc<Counts>,
) {
    let mut batch = Vec::new();
    while notices.recv_many(&mut batch, F::BATCH_MAX).await > 0 {
        let Receiver { name, url, .. } = &receiver;
        let (host, size) = (url.host_str().unwrap_or_default(), batch.len());
        match deliver(&receiver, &client, &batch, &counts).await {
            Delivery::Delivered => add(&counts.delivered, size),
            Delivery::Rejected(why) => {
                add(&counts.rejected, size);
                tracing::warn!("{name} ({host}) refuses {size} alerts: {why}");
            }
            Delivery::Failed(why) => {
                add(&counts.gave_up, size);
                tracing::warn!("{name} ({host}) could not be told of {size} alerts: {why}");
            }
        }
        batch.clear();
    }
}

/// Tries until the body is delivered or rejected, or the attempts are used up.
async fn deliver<F: Format>(
    receiver: &Receiver<F>,
    client: &Client,
    batch: &[Notice],
    counts: &Counts,
) -> Delivery {
    let body = receiver.format.body(batch);
    let mut delay = receiver.retry.delay;
    let mut delivery = attempt(client, &receiver.url, &body).await;
    for _ in 1..receiver.retry.attempts_max {
        if !matches!(delivery, Delivery::Failed(_)) {
            break;
        }
        sleep(jittered(delay)).await;
        delay = delay.saturating_mul(2);
        add(&counts.retries, 1);
        delivery = attempt(client, &receiver.url, &body).await;
    }
    delivery
}

async fn attempt(client: &Client, url: &Url, body: &str) -> Delivery {
    let request = client
        .post(url.clone())
        .header(CONTENT_TYPE, "application/json");
    match request.body(body.to_owned()).send().await {
        Ok(response) if response.status().is_success() => Delivery::Delivered,
        Ok(response) => refusal(response).await,
        // Without the URL, which may hold a password.
        Err(error) => Delivery::Failed(format!("{:#}", anyhow::Error::from(error.without_url()))),
    }
}

/// What a status other than success means.
async fn refusal(mut response: Response) -> Delivery {
    let status = response.status();
    let mut text = Vec::new();
    while text.len() < REFUSAL_BYTES_MAX {
        let Ok(Some(chunk)) = response.chunk().await else {
            break;
        };
        text.extend_from_slice(&chunk);
    }
    text.truncate(REFUSAL_BYTES_MAX);
    let why = format!("{status}: {:?}", String::from_utf8_lossy(&text));
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || later.contains(&status) {
        Delivery::Failed(why)
    } else {
        Delivery::Rejected(why)
    }
}

/// Between half of `delay` and all of it.
fn jittered(delay: Duration) -> Duration {
    // A new `RandomState` hashes nothing to another number each time.
    let random = RandomState::new().build_hasher().finish();
    let part = f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX);
    delay.mul_f64(0.5 + part / 2.0)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode as Answer;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::core::report::AlertState;
    use crate::sink::fixture::{self, CLOCK, TestReceiver};

    /// Fails within a second where the default takes a minute.
    const QUICK: Retry = Retry {
        attempts_max: 3,
        delay: Duration::from_millis(10),
        connect_timeout: Duration::from_millis(200),
        timeout: Duration::from_millis(200),
    };

    /// Writes the sequence numbers.
    struct Numbers;

    impl Format for Numbers {
        const BATCH_MAX: usize = 4;

        fn body(&self, notices: &[Notice]) -> String {
            let numbers = notices.iter().map(|notice| notice.notice.sequence);
            serde_json::json!(numbers.collect::<Vec<_>>()).to_string()
        }
    }

    fn start(url: &str) -> Post {
        let url = receiver_url("test", url).unwrap();
        Post::start(Receiver {
            name: "test".into(),
            url,
            format: Numbers,
            retry: QUICK,
        })
        .unwrap()
    }

    fn offer(post: &Post, sequences: std::ops::Range<u64>) {
        for sequence in sequences {
            let notice = AlertNotice {
                sequence,
                ..fixture::notice(AlertState::Fired)
            };
            post.offer(&notice, CLOCK);
        }
    }

    /// Delivers what was offered, within ten seconds.
    async fn drain(post: Post) -> SinkStats {
        post.drain(Instant::now() + Duration::from_secs(10)).await
    }

    /// A listener that takes connections and never says a word.
    async fn hanging() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        (listener, url)
    }

    #[tokio::test]
    async fn alerts_arrive_in_order_and_in_batches() {
        let receiver = TestReceiver::start(vec![]).await;
        let post = start(&receiver.url);
        offer(&post, 0..10);
        let stats = drain(post).await;
        assert_eq!(
            stats,
            SinkStats {
                delivered: 10,
                ..SinkStats::default()
            }
        );
        let bodies = receiver.bodies();
        let numbers: Vec<Vec<u64>> = bodies
            .iter()
            .map(|body| serde_json::from_str(body).unwrap())
            .collect();
        assert!(
            numbers
                .iter()
                .all(|batch| batch.len() <= Numbers::BATCH_MAX),
            "{numbers:?}"
        );
        assert_eq!(numbers.concat(), (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_failure_is_tried_again() {
        let receiver = TestReceiver::start(vec![
            Answer::INTERNAL_SERVER_ERROR,
            Answer::TOO_MANY_REQUESTS,
        ])
        .await;
        let post = start(&receiver.url);
        offer(&post, 0..1);
        let stats = drain(post).await;
        assert_eq!(
            stats,
            SinkStats {
                delivered: 1,
                retries: 2,
                ..SinkStats::default()
            }
        );
        assert_eq!(receiver.bodies(), ["[0]", "[0]", "[0]"]);
    }

    #[tokio::test]
    async fn a_refusal_is_not_tried_again() {
        let receiver = TestReceiver::start(vec![Answer::BAD_REQUEST]).await;
        let post = start(&receiver.url);
        offer(&post, 0..1);
        let stats = drain(post).await;
        assert_eq!(
            stats,
            SinkStats {
                dropped_rejected: 1,
                ..SinkStats::default()
            }
        );
        assert_eq!(receiver.bodies().len(), 1);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (target, target_url) = hanging().await;
        let (listener, url) = hanging().await;
        let answer =
            format!("HTTP/1.1 307 X\r\nLocation: {target_url}\r\nContent-Length: 0\r\n\r\n");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        });
        let post = start(&url);
        offer(&post, 0..1);
        let stats = drain(post).await;
        assert_eq!(
            stats,
            SinkStats {
                dropped_rejected: 1,
                ..SinkStats::default()
            }
        );
        let contacted = tokio::time::timeout(Duration::from_millis(50), target.accept()).await;
        assert!(contacted.is_err());
        server.abort();
    }

    #[track_caller]
    fn assert_gave_up(stats: SinkStats) {
        let expect = SinkStats {
            dropped_gave_up: 1,
            retries: 2,
            ..SinkStats::default()
        };
        assert_eq!(stats, expect);
    }

    #[tokio::test]
    async fn a_receiver_that_is_not_there_is_given_up() {
        let (listener, url) = hanging().await;
        drop(listener);
        let post = start(&url);
        offer(&post, 0..1);
        assert_gave_up(drain(post).await);
    }

    #[tokio::test]
    async fn a_receiver_that_hangs_is_given_up() {
        let (_listener, url) = hanging().await;
        let post = start(&url);
        offer(&post, 0..1);
        assert_gave_up(drain(post).await);
    }

    #[tokio::test]
    async fn a_receiver_whose_tls_is_broken_is_given_up() {
        let receiver = TestReceiver::start(vec![]).await;
        let post = start(&receiver.url.replace("http:", "https:"));
        offer(&post, 0..1);
        assert_gave_up(drain(post).await);
        assert!(receiver.bodies().is_empty());
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        let (listener, url) = hanging().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = "HTTP/1.1 400 X\r\nContent-Length: 1000000000\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut sent = 0u64;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                sent += 4096;
            }
            sent
        });
        let post = start(&url);
        offer(&post, 0..1);
        let stats = drain(post).await;
        assert_eq!(
            stats,
            SinkStats {
                dropped_rejected: 1,
                ..SinkStats::default()
            }
        );
        let sent = server.await.unwrap();
        assert!(sent < 100_000_000, "{sent} bytes were taken");
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_and_holds_up_nobody() {
        let (_listener, url) = hanging().await;
        let receiver = TestReceiver::start(vec![]).await;
        let (slow, good) = (start(&url), start(&receiver.url));
        let offered = QUEUE_MAX as u64 + 100;
        for sequence in 0..offered {
            offer(&slow, sequence..sequence + 1);
            offer(&good, sequence..sequence + 1);
            tokio::task::yield_now().await;
        }
        let stats = good.drain(Instant::now() + Duration::from_secs(5)).await;
        assert_eq!(
            stats.delivered + stats.dropped_queue_full,
            offered,
            "{stats:?}"
        );
        assert!(stats.delivered >= QUEUE_MAX as u64, "{stats:?}");
        let stats = slow.stats();
        assert!(stats.dropped_queue_full > 0 && stats.queue_length >= QUEUE_MAX as u64);
        let begun = Instant::now();
        let stats = slow
            .drain(Instant::now() + Duration::from_millis(100))
            .await;
        assert!(begun.elapsed() < Duration::from_secs(2));
        let dropped = stats.dropped_queue_full + stats.dropped_gave_up + stats.dropped_shutdown;
        assert_eq!(
            (stats.queue_length, stats.delivered, dropped),
            (0, 0, offered),
            "{stats:?}"
        );
    }

    #[tokio::test]
    async fn nothing_is_contacted_before_the_first_alert() {
        let (listener, url) = hanging().await;
        let post = start(&url);
        let contacted = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(contacted.is_err());
        assert_eq!(drain(post).await, SinkStats::default());
    }

    #[track_caller]
    fn check_url_error(text: &str, part: &str) {
        let error = format!("{:#}", receiver_url("webhook.url", text).unwrap_err());
        assert!(
            error.starts_with("webhook.url: ") && error.contains(part),
            "{error}"
        );
    }

    #[test]
    fn a_bad_url_is_named_with_its_key() {
        check_url_error("ftp://x/", "scheme `ftp`; only http and https");
        check_url_error("file:///etc/passwd", "scheme `file`");
        check_url_error("alerts.example.net/hook", "http://host:port/path");
        check_url_error("localhost:9093", "scheme `localhost`");
        check_url_error("http://", "http://host:port/path");
        check_url_error("", "http://host:port/path");
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let delay = Duration::from_millis(100);
        let jittered: Vec<_> = (0..100).map(|_| super::jittered(delay)).collect();
        assert!(
            jittered
                .iter()
                .all(|wait| (delay / 2..=delay).contains(wait)),
            "{jittered:?}"
        );
        assert!(
            jittered.iter().any(|wait| *wait != jittered[0]),
            "{jittered:?}"
        );
    }
}

//! Delivers alerts to one receiver: a queue that outlives Telltale, and what empties it.
//!
//! In: alerts, offered without waiting. Out: batches to a [`Transport`]. A receiver that is slow,
//! broken or gone holds up nobody else, and loses nothing: it is tried again, ever more slowly,
//! until it takes what waits or refuses it for good.
//!
//! offer ─► bounded channel ─► intake ─► [`Spool`] on disk ─► outlet ─► [`Transport`]

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout_at};

use super::HostInfo;
use super::notice::Notice;
use super::spool::Spool;
use crate::clock::WallClock;
use crate::core::report::{AlertNotice, AlertState};
use crate::metrics::outputs::SinkStats;

/// Alerts on their way to the spool: more than a full alert table repeats at once.
pub const QUEUE_MAX: usize = 8_192;

/// Alerts that are written to the spool with one sync.
const INTAKE_MAX: usize = 256;

/// Takes alerts to a receiver.
pub trait Transport: Send + Sync + 'static {
    /// Alerts per delivery, at least 1.
    const BATCH_MAX: usize;
    /// Whether it is told again of what fires still.
    const REPEATS: bool;

    /// Delivers them, in order, or says why not. It ends within a bounded time.
    fn deliver(&self, notices: &[Notice]) -> impl Future<Output = Delivery> + Send;
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver took them.
    Delivered,
    /// The receiver will never take them.
    Rejected(String),
    /// The receiver is there and may take them later.
    Busy(String),
    /// The receiver is not there.
    Unreachable(String),
}

/// When to try again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Wait after the first failure; each further one doubles it. A random half is taken off, so
    /// that a fleet does not come back in step.
    pub delay: Duration,
    /// Longest wait: how late a receiver that is back hears of what it missed.
    pub delay_max: Duration,
    /// Failures after which a batch that a receiver answers but does not take lets others go
    /// before it: it may be what the receiver stumbles over.
    pub put_off_after: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            delay: Duration::from_millis(500),
            delay_max: Duration::from_secs(15),
            put_off_after: 5,
        }
    }
}

/// A receiver that was started.
pub struct Post {
    name: String,
    host: HostInfo,
    repeats: bool,
    queue: mpsc::Sender<Notice>,
    shared: Arc<Shared>,
    outlet: JoinHandle<()>,
}

/// What intake and outlet share.
struct Shared {
    spool: Mutex<Spool>,
    /// Something waits, or nothing more will come.
    wake: Notify,
    /// Nothing more will come.
    closed: AtomicBool,
    counts: Counts,
}

/// Each alert offered ends up in one of the others, or waits.
#[derive(Default)]
struct Counts {
    offered: AtomicU64,
    delivered: AtomicU64,
    retries: AtomicU64,
    superseded: AtomicU64,
    unwritten: AtomicU64,
    queue_full: AtomicU64,
    rejected: AtomicU64,
}

impl Post {
    /// Starts a receiver. It connects when the first alert comes, not before, and first delivers
    /// what an earlier run left in the spool.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn start<T: Transport>(
        name: String,
        host: &HostInfo,
        spool: Spool,
        retry: Retry,
        transport: T,
    ) -> Self {
        let (queue, offered) = mpsc::channel(QUEUE_MAX);
        let left = spool.len();
        if left > 0 {
            tracing::info!("{name}: {left} alerts of an earlier run wait to be delivered");
        }
        let shared = Arc::new(Shared {
            spool: Mutex::new(spool),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            counts: Counts::default(),
        });
        add(&shared.counts.offered, left);
        tokio::spawn(intake(name.clone(), offered, Arc::clone(&shared)));
        let outlet = tokio::spawn(outlet(name.clone(), transport, retry, Arc::clone(&shared)));
        Post {
            name,
            host: host.clone(),
            repeats: T::REPEATS,
            queue,
            shared,
            outlet,
        }
    }

    /// The `sink` label of its metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queues an alert; drops and counts it if the queue is full. Never waits.
    pub fn offer(&self, notice: &AlertNotice, clock: WallClock) {
        if notice.state == AlertState::StillFiring && !self.repeats {
            return;
        }
        let counts = &self.shared.counts;
        add(&counts.offered, 1);
        let notice = Notice::new(notice, clock, &self.host);
        if self.queue.try_send(notice).is_err() {
            add(&counts.queue_full, 1);
        }
    }

    /// What was delivered, dropped and waits.
    #[must_use]
    pub fn stats(&self) -> SinkStats {
        self.shared.counts.stats()
    }

    /// Delivers what waits until `deadline`. What is left then stays in a spool on disk; without
    /// one it is dropped and counted.
    pub async fn drain(self, deadline: Instant) -> SinkStats {
        let Post {
            queue,
            shared,
            mut outlet,
            ..
        } = self;
        drop(queue);
        if timeout_at(deadline, &mut outlet).await.is_err() {
            outlet.abort();
        }
        let stats = shared.counts.stats();
        if shared.lock().is_kept() {
            return stats;
        }
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
            superseded: get(&self.superseded),
            unwritten: get(&self.unwritten),
            dropped_queue_full: get(&self.queue_full),
            dropped_rejected: get(&self.rejected),
            dropped_shutdown: 0,
        };
        let done =
            stats.delivered + stats.superseded + stats.dropped_queue_full + stats.dropped_rejected;
        stats.queue_length = get(&self.offered).saturating_sub(done);
        stats
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the spool off the async workers: disks may be slow.
    async fn with_spool<R: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Spool) -> R + Send + 'static,
    ) -> Option<R> {
        let shared = Arc::clone(self);
        spawn_blocking(move || act(&mut shared.lock())).await.ok()
    }
}

fn add(count: &AtomicU64, by: usize) {
    count.fetch_add(by as u64, Ordering::Relaxed);
}

/// Takes what is offered to the spool, until nothing more will come.
async fn intake(name: String, mut offered: mpsc::Receiver<Notice>, shared: Arc<Shared>) {
    let mut batch = Vec::new();
    while offered.recv_many(&mut batch, INTAKE_MAX).await > 0 {
        let notices = std::mem::take(&mut batch);
        let pushed = shared.with_spool(|spool| spool.push(notices)).await;
        let pushed = pushed.unwrap_or_default();
        let counts = &shared.counts;
        counts
            .superseded
            .fetch_add(pushed.superseded, Ordering::Relaxed);
        counts
            .unwritten
            .fetch_add(pushed.unwritten, Ordering::Relaxed);
        counts.queue_full.fetch_add(pushed.full, Ordering::Relaxed);
        if pushed.full > 0 {
            tracing::warn!(
                "{name}: the spool is full; {} alerts are dropped",
                pushed.full
            );
        }
        shared.wake.notify_one();
    }
    shared.closed.store(true, Ordering::Release);
    shared.wake.notify_one();
}

/// Delivers what waits, until nothing does and nothing more will come. A batch that fails is tried
/// again as a smaller one: a receiver may need longer for each alert than an attempt may take.
async fn outlet<T: Transport>(name: String, transport: T, retry: Retry, shared: Arc<Shared>) {
    let (mut failures, mut told) = (0u32, false);
    let mut most = T::BATCH_MAX;
    loop {
        // Before the spool is looked at: what came in between then wakes.
        let closed = shared.closed.load(Ordering::Acquire);
        let batch = shared.with_spool(move |spool| spool.front(most)).await;
        let batch = batch.unwrap_or_default();
        if batch.is_empty() {
            if closed {
                return;
            }
            shared.wake.notified().await;
            continue;
        }
        let (size, counts) = (batch.len(), &shared.counts);
        let why = match transport.deliver(&batch).await {
            Delivery::Delivered => {
                add(&counts.delivered, size);
                shared.with_spool(move |spool| spool.done(size)).await;
                if told {
                    tracing::info!("{name} takes alerts again");
                }
                (failures, told) = (0, false);
                most = (most * 2).min(T::BATCH_MAX);
                continue;
            }
            Delivery::Rejected(why) => {
                add(&counts.rejected, size);
                tracing::warn!("{name} refuses {size} alerts: {why}");
                shared.with_spool(move |spool| spool.done(size)).await;
                continue;
            }
            Delivery::Busy(why) => {
                if failures >= retry.put_off_after {
                    shared.with_spool(move |spool| spool.put_off(size)).await;
                }
                why
            }
            Delivery::Unreachable(why) => why,
        };
        if !told {
            tracing::warn!("{name} does not take alerts; they wait: {why}");
            told = true;
        }
        add(&counts.retries, 1);
        most = (most / 2).max(1);
        let delay = retry.delay.saturating_mul(1 << failures.min(16));
        failures = failures.saturating_add(1);
        sleep(jittered(delay.min(retry.delay_max))).await;
    }
}

/// Between half of `delay` and all of it.
pub(super) fn jittered(delay: Duration) -> Duration {
    // A new `RandomState` hashes nothing to another number each time.
    let random = RandomState::new().build_hasher().finish();
    let part = f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX);
    delay.mul_f64(0.5 + part / 2.0)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::sink::fixture::{self, CLOCK};

    /// Fails within milliseconds where the default takes seconds.
    const QUICK: Retry = Retry {
        delay: Duration::from_millis(2),
        delay_max: Duration::from_millis(20),
        put_off_after: 2,
    };

    const ROOMY: u64 = 1 << 20;

    /// A receiver that gives these answers first, then takes everything.
    #[derive(Clone, Default)]
    struct Scripted {
        answers: Arc<Mutex<VecDeque<Delivery>>>,
        taken: Arc<Mutex<Vec<String>>>,
        /// An id it never takes.
        poison: Option<&'static str>,
    }

    impl Scripted {
        fn answering(answers: Vec<Delivery>) -> Self {
            Scripted {
                answers: Arc::new(Mutex::new(answers.into())),
                ..Scripted::default()
            }
        }

        fn taken(&self) -> Vec<String> {
            self.taken.lock().unwrap().clone()
        }
    }

    impl Transport for Scripted {
        const BATCH_MAX: usize = 1;
        const REPEATS: bool = true;

        async fn deliver(&self, notices: &[Notice]) -> Delivery {
            if let Some(answer) = self.answers.lock().unwrap().pop_front() {
                return answer;
            }
            if notices.iter().any(|it| Some(&*it.id) == self.poison) {
                return Delivery::Busy("500".into());
            }
            let ids = notices.iter().map(|it| it.id.clone());
            self.taken.lock().unwrap().extend(ids);
            Delivery::Delivered
        }
    }

    fn start(receiver: &Scripted, spool: Spool) -> Post {
        let receiver = receiver.clone();
        Post::start("test".into(), &fixture::host(), spool, QUICK, receiver)
    }

    /// Alerts of their own each, so that none supersedes another.
    fn offer(post: &Post, sequences: std::ops::Range<u64>) {
        for sequence in sequences {
            let notice = AlertNotice {
                sequence,
                ..fixture::notice(AlertState::Fired)
            };
            post.offer(&notice, CLOCK);
        }
    }

    fn ids(sequences: impl Iterator<Item = u64>) -> Vec<String> {
        sequences
            .map(|sequence| format!("5f3c-{sequence}"))
            .collect()
    }

    /// Delivers what was offered, within ten seconds.
    async fn drain(post: Post) -> SinkStats {
        post.drain(Instant::now() + Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn alerts_arrive_in_order() {
        let receiver = Scripted::default();
        let post = start(&receiver, Spool::in_memory(ROOMY));
        offer(&post, 0..10);
        let expect = SinkStats {
            delivered: 10,
            ..SinkStats::default()
        };
        assert_eq!(drain(post).await, expect);
        assert_eq!(receiver.taken(), ids(0..10));
    }

    #[tokio::test]
    async fn what_fails_is_tried_again_and_what_is_refused_is_not() {
        let busy = || Delivery::Busy("503".into());
        let gone = || Delivery::Unreachable("refused".into());
        let receiver = Scripted::answering(vec![
            gone(),
            busy(),
            gone(),
            gone(),
            Delivery::Rejected("400".into()),
        ]);
        let post = start(&receiver, Spool::in_memory(ROOMY));
        offer(&post, 0..3);
        let expect = SinkStats {
            delivered: 2,
            retries: 4,
            dropped_rejected: 1,
            ..SinkStats::default()
        };
        assert_eq!(drain(post).await, expect);
        assert_eq!(receiver.taken(), ids(1..3));
    }

    #[tokio::test]
    async fn what_a_receiver_stumbles_over_does_not_hold_up_the_rest() {
        let receiver = Scripted {
            poison: Some("5f3c-0"),
            ..Scripted::default()
        };
        let post = start(&receiver, Spool::in_memory(ROOMY));
        offer(&post, 0..3);
        let stats = post.drain(Instant::now() + Duration::from_secs(1)).await;
        assert_eq!(receiver.taken(), ids(1..3));
        assert_eq!((stats.delivered, stats.dropped_shutdown), (2, 1));
    }

    /// A receiver that has no time for more than three at once.
    struct Slow(Scripted);

    impl Transport for Slow {
        const BATCH_MAX: usize = 64;
        const REPEATS: bool = true;

        async fn deliver(&self, notices: &[Notice]) -> Delivery {
            match notices {
                [_, _, _, _, ..] => Delivery::Unreachable("timed out".into()),
                few => self.0.deliver(few).await,
            }
        }
    }

    #[tokio::test]
    async fn a_receiver_that_is_slow_with_many_gets_few_at_a_time() {
        let receiver = Scripted::default();
        let (host, spool) = (fixture::host(), Spool::in_memory(ROOMY));
        let slow = Slow(receiver.clone());
        let post = Post::start("test".into(), &host, spool, QUICK, slow);
        offer(&post, 0..20);
        assert_eq!(drain(post).await.delivered, 20);
        assert_eq!(receiver.taken(), ids(0..20));
    }

    #[tokio::test]
    async fn what_waits_outlives_this_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spool");
        let gone = Delivery::Unreachable("refused".into());
        let away = Scripted::answering(vec![gone; 10_000]);
        let post = start(&away, Spool::open(&path, ROOMY).unwrap());
        offer(&post, 0..5);
        let stats = post
            .drain(Instant::now() + Duration::from_millis(200))
            .await;
        assert_eq!((stats.delivered, stats.queue_length), (0, 5), "{stats:?}");
        assert_eq!(stats.dropped_shutdown, 0);
        let back = Scripted::default();
        // The first one's tasks hold the file until they notice that they were ended.
        let spool = loop {
            if let Ok(spool) = Spool::open(&path, ROOMY) {
                break spool;
            }
            sleep(Duration::from_millis(10)).await;
        };
        let post = start(&back, spool);
        offer(&post, 5..6);
        assert_eq!(drain(post).await.delivered, 6);
        assert_eq!(back.taken(), ids(0..6));
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_and_the_books_balance() {
        let gone = Delivery::Unreachable("refused".into());
        let away = Scripted::answering(vec![gone; 100_000]);
        let post = start(&away, Spool::in_memory(10_000));
        let offered = 2 * QUEUE_MAX as u64;
        offer(&post, 0..offered);
        sleep(Duration::from_millis(100)).await;
        let stats = post.stats();
        assert!(stats.dropped_queue_full > QUEUE_MAX as u64, "{stats:?}");
        assert!(stats.queue_length > 1, "{stats:?}");
        assert_eq!(stats.queue_length + stats.dropped_queue_full, offered);
        let stats = post.drain(Instant::now() + Duration::from_millis(50)).await;
        assert_eq!(stats.dropped_shutdown + stats.dropped_queue_full, offered);
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

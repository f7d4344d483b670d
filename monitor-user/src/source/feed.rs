//! The kernel side in a thread of its own, the only one that keeps the right to speak to it.
//!
//! In: [`Live`], and what the line asks for: processes to watch, what it has written, the end.
//! Out: [`Batch`]es of records through a bounded channel. A line that is slow makes the thread
//! wait; the rings then fill up, and the kernel side counts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self as orders, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use monitor_common::flow::ProcessKey;
use tokio::sync::mpsc as batches;

use super::bpf::Options;
use super::bpf::figures::Figures;
use super::bpf::handover::Mark;
use super::live::Live;
use crate::core::catalog::Catalog;
use crate::host::HostRoot;
use crate::sandbox::{self, Role};

/// How often the kernel's rings are emptied. They hold some hundred milliseconds of the most
/// that two CPUs can produce.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Batches that may wait for the line: one is being filled while another is looked at.
const BATCHES_MAX: usize = 2;

/// The records of one look at the kernel side.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// End of each record in `bytes`.
    ends: Vec<usize>,
    number: u64,
    /// Exec records of which the file system did not tell in time what script they run.
    pub skipped_scripts: u64,
    /// Processes that could not be marked as watched.
    pub unwatched: u64,
    /// Distinct flows in the kernel's map.
    pub flows: usize,
    /// Idle ones that were taken out of it so far.
    pub flows_evicted: u64,
    /// What the kernel side costs, now and then.
    pub figures: Option<Box<Figures>>,
}

impl Batch {
    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    fn is_empty(&self) -> bool {
        let told = self.skipped_scripts > 0 || self.unwatched > 0 || self.figures.is_some();
        self.ends.is_empty() && !told
    }

    /// The records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let parts = starts.zip(&self.ends);
        parts.map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }
}

enum Order {
    Watch(ProcessKey),
    /// Everything up to the batch of this number was written out, except so many openings.
    Written(u64, usize),
    /// The catalog is another one.
    Recognise(Arc<Catalog>),
    Stop,
}

/// The line's end of the thread.
pub struct Feed {
    batches: batches::Receiver<anyhow::Result<Batch>>,
    orders: orders::Sender<Order>,
    thread: JoinHandle<()>,
    is_pinned: bool,
}

impl Feed {
    /// Starts the thread, which loads and attaches the programs and then gives up what it needed
    /// for that alone.
    ///
    /// # Errors
    ///
    /// What is missing, and the remedy.
    pub fn start(
        host: &HostRoot,
        options: &Options,
        catalog: Arc<Catalog>,
    ) -> anyhow::Result<Feed> {
        let (send, batches) = batches::channel(BATCHES_MAX);
        let (orders, ordered) = orders::channel();
        let (started, wait) = orders::channel();
        let (host, options) = (host.clone(), options.clone());
        let thread = thread::Builder::new()
            .name("kernel".to_owned())
            .spawn(move || {
                let live = Live::start(&host, &options, catalog).and_then(|live| {
                    sandbox::enter(Role::Kernel).context("cannot give up privileges")?;
                    Ok(live)
                });
                match live {
                    Ok(live) => {
                        let _ = started.send(Ok(live.is_pinned()));
                        Source::new(live, send).run(&ordered);
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            })
            .context("cannot start a thread")?;
        let started = wait.recv();
        let is_pinned = started.unwrap_or_else(|_| Err(anyhow!("the kernel side ended")))?;
        Ok(Feed {
            batches,
            orders,
            thread,
            is_pinned,
        })
    }

    /// The next batch; `None` after the last one.
    ///
    /// # Errors
    ///
    /// The kernel's maps can no longer be read.
    pub async fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        self.batches.recv().await.transpose()
    }

    /// Asks for every flow of a process as a record.
    pub fn watch(&self, process: ProcessKey) {
        let _ = self.orders.send(Order::Watch(process)); // Ended: the next batch says why.
    }

    /// From now on the catalog is this one.
    pub fn recognise_by(&self, catalog: Arc<Catalog>) {
        let _ = self.orders.send(Order::Recognise(catalog)); // As above.
    }

    /// Whether it matters what was written out.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// Everything up to this batch was written out, except so many openings that wait for a name.
    pub fn written(&self, number: u64, waiting: usize) {
        let _ = self.orders.send(Order::Written(number, waiting)); // As above.
    }

    /// Asks for the last batch.
    pub fn stop(&self) {
        let _ = self.orders.send(Order::Stop); // As above.
    }

    /// Waits until the programs are detached or, where they are pinned, what was written is noted.
    pub fn end(self) {
        drop((self.orders, self.batches));
        let _ = self.thread.join(); // It does not panic.
    }
}

impl Batch {
    /// Which one it is, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// What the thread works with.
struct Source {
    live: Live,
    batches: batches::Sender<anyhow::Result<Batch>>,
    sent: u64,
    unwatched: u64,
    /// How far each batch came that is not known to be written out.
    marks: VecDeque<(u64, Mark)>,
}

impl Source {
    fn new(live: Live, batches: batches::Sender<anyhow::Result<Batch>>) -> Self {
        Source {
            live,
            batches,
            sent: 0,
            unwatched: 0,
            marks: VecDeque::new(),
        }
    }

    fn run(mut self, orders: &orders::Receiver<Order>) {
        let mut due = Instant::now();
        loop {
            match orders.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Order::Watch(process)) => self.watch(process),
                Ok(Order::Recognise(catalog)) => self.live.recognise_by(catalog),
                Ok(Order::Written(number, waiting)) => self.settle(number, waiting),
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    due = Instant::now() + POLL_INTERVAL;
                    let mut batch = Batch::default();
                    let polled = self.live.poll(|record| batch.push(record));
                    if !self.send(polled.map(|()| batch)) {
                        return;
                    }
                }
            }
        }
        let mut batch = Batch::default();
        let finished = self.live.finish(|record| batch.push(record));
        if !self.send(finished.map(|()| batch)) || !self.live.is_pinned() {
            return; // Dropped here, and so detached.
        }
        let Source {
            live,
            marks,
            batches,
            ..
        } = &mut self;
        // The line sees that there is no more, writes out and says so.
        let (closed, _) = batches::channel(1);
        drop(std::mem::replace(batches, closed));
        for order in orders {
            if let Order::Written(number, waiting) = order {
                settle(live, marks, number, waiting);
            }
        }
    }

    fn watch(&mut self, process: ProcessKey) {
        if let Err(error) = self.live.watch(process) {
            // Repeats are then counted, not listed; first contacts are reported all the same.
            tracing::warn!("process {} is not watched in detail: {error}", process.tgid);
            self.unwatched += 1;
        }
    }

    fn settle(&mut self, number: u64, waiting: usize) {
        settle(&mut self.live, &mut self.marks, number, waiting);
    }

    /// Sends a batch. Returns whether there is anyone for the next.
    fn send(&mut self, batch: anyhow::Result<Batch>) -> bool {
        let batch = batch.map(|batch| Batch {
            number: self.sent + 1,
            skipped_scripts: self.live.take_skipped_scripts(),
            unwatched: std::mem::take(&mut self.unwatched),
            flows: self.live.flows(),
            flows_evicted: self.live.flows_evicted(),
            figures: self.live.take_figures(),
            ..batch
        });
        match batch {
            Ok(batch) if batch.is_empty() => true,
            Ok(batch) => {
                self.sent = batch.number;
                if self.live.is_pinned() {
                    self.marks.push_back((batch.number, self.live.mark()));
                }
                self.batches.blocking_send(Ok(batch)).is_ok()
            }
            Err(error) => {
                let _ = self.batches.blocking_send(Err(error)); // The line has ended already.
                false
            }
        }
    }
}

/// Notes the last mark up to `number` for the next monitor, less the openings that wait.
fn settle(live: &mut Live, marks: &mut VecDeque<(u64, Mark)>, number: u64, waiting: usize) {
    let written = marks.partition_point(|(batch, _)| *batch <= number);
    if let Some((_, mark)) = marks.drain(..written).next_back() {
        live.settle(&mark, waiting as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_records_apart_and_in_order() {
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        let records = [&b"one"[..], b"", b"three"];
        for record in records {
            batch.push(record);
        }
        assert_eq!(batch.records().collect::<Vec<_>>(), records);
    }
}

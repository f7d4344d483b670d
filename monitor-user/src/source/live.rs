//! The running kernel as a source of records, in order of time.
//!
//! In: the attached programs ([`Kernel`]), `/proc` for the argv of processes that are older than
//! the monitor, and what [`Scripts`] finds. Out: records, oldest first, through [`Live::poll`].

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use monitor_common::counter::COUNTERS;
use monitor_common::flow::{FlowKey, ProcessKey};
use monitor_common::limits::ARGS_BYTES;
use monitor_common::program::PROGRAMS;
use monitor_common::record::{
    EXEC_ARGS_TRUNCATED, EXEC_ARGS_UNREADABLE, EXEC_KERNEL_THREAD, Header, KIND_KERNEL_COUNTERS,
    KIND_PROCESS_EXECUTED, KIND_RESUMED, KIND_SELF_CHECKED, KernelCounters, ProcessExecuted,
    Resumed, SelfChecked, is_booked,
};
use zerocopy::{FromBytes, IntoBytes};

use super::arguments;
use super::bpf::figures::Figures;
use super::bpf::handover::Mark;
use super::bpf::{Kernel, Options};
use super::canary::Canary;
use super::drain::Drain;
use super::order::Order;
use super::passage::Passage;
use super::scripts::Scripts;
use crate::core::catalog::Catalog;
use crate::core::event::BootNs;
use crate::host::clock;
use crate::host::{HostRoot, LOCKED_DOWN, Lockdown};

/// How long a record waits for older ones: far longer than a hook runs, far shorter than a
/// person waits.
const HOLD: Duration = Duration::from_millis(5);
/// How long records wait for what the file system says of them, at most: a slow disk's answer, and
/// no more than the rings hold.
const WAIT_FOR_FILES: Duration = Duration::from_millis(20);
/// The same for all the processes that are there at the start.
const WAIT_FOR_FILES_AT_START: Duration = Duration::from_secs(1);
/// How often the kernel's books are read.
const BOOKS_INTERVAL: Duration = Duration::from_secs(1);
/// How often the kernel is asked what its programs cost and how full its tables are: a full one
/// takes some ten milliseconds to count.
const FIGURES_INTERVAL: Duration = Duration::from_secs(60);

/// How often the monitor checks that it still sees. A hook that someone detached is told, and
/// attached again, within this time.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// When the first check is made: long after the first canary flow was counted.
const FIRST_CHECK: Duration = Duration::from_millis(200);

/// How often sockets and devices are looked for that no hook sees being opened: a packet socket
/// may be open for less and be missed, and the walk over all open files has its cost.
const SOCKETS_INTERVAL: Duration = Duration::from_secs(2);

/// How often the books are read to find out what a monitor before had in its hands, at most.
const READINGS: usize = 25;
/// The pause between two readings. A hook that was displaced between reserving a record and handing
/// it over, perhaps by this very thread, keeps everything behind that record in the ring until it
/// runs again.
const READINGS_PAUSE: Duration = Duration::from_millis(2);

/// The kernel programs with everything that turns their maps into one stream.
pub struct Live {
    kernel: Kernel,
    order: Order,
    scripts: Scripts,
    drain: Drain,
    books_due: BootNs,
    sockets_due: BootNs,
    /// Why the open sockets could not be listed the last time.
    unlisted: Option<anyhow::Error>,
    canary: Canary,
    canary_heard: BootNs,
    check_due: BootNs,
    figures_due: BootNs,
    host: HostRoot,
    /// Records that a hook has booked and that were taken out of the rings so far.
    received: u64,
    passage: Passage,
    /// Records that were settled before this monitor began to take any.
    settled_before: u64,
    /// What became of the time before this monitor, until it is handed out.
    resumed: Option<Box<Resumed>>,
    /// The last reading of the kernel's books, and when it was made.
    books: [u64; COUNTERS as usize],
    books_read: BootNs,
}

impl Live {
    /// Loads and attaches the programs, then puts the processes that are running now at the head
    /// of the stream.
    ///
    /// # Errors
    ///
    /// What is missing, and the remedy.
    pub fn start(
        host: &HostRoot,
        options: &Options,
        catalog: Arc<Catalog>,
    ) -> anyhow::Result<Live> {
        // The kernel would say that it knows no helper of that name.
        let is_open = host.lockdown() != Lockdown::Confidentiality;
        ensure!(is_open, "the kernel is in lockdown, {LOCKED_DOWN}");
        let cgroup = super::cgroup2::open_root(host)?;
        let kernel = Kernel::load(cgroup, options)?;
        let mut live = Live {
            kernel,
            order: Order::default(),
            scripts: Scripts::start(host, catalog).context("cannot look up scripts")?,
            drain: Drain::default(),
            books_due: BootNs(0),
            sockets_due: after(clock::now(), SOCKETS_INTERVAL),
            unlisted: None,
            canary: Canary::new(ProcessKey::default()),
            canary_heard: BootNs(0),
            check_due: after(clock::now(), FIRST_CHECK),
            figures_due: BootNs(0),
            host: host.clone(),
            received: 0,
            passage: Passage::fresh(),
            settled_before: 0,
            resumed: None,
            books: [0; _],
            books_read: BootNs(0),
        };
        let flows = live.kernel.flow_keys();
        let found = live
            .find_processes(host)
            .context("cannot list the processes that are running")?;
        if live.kernel.generation() > 1 {
            live.resume(&flows, &found.alive)
                .context("cannot take over from the monitor before")?;
        }
        let own = found.own.context(
            "this process has another id than the kernel side gives it: Telltale runs in a PID \
             namespace of its own and could not look at the host's processes; run it in the host's \
             (`--pid=host`, `hostPID: true`)",
        )?;
        live.canary = Canary::new(own);
        live.canary.sing();
        live.find_sockets()
            .context("cannot list the sockets that are open")?;
        Ok(live)
    }

    /// From now on the catalog is this one.
    pub fn recognise_by(&mut self, catalog: Arc<Catalog>) {
        self.scripts.recognise_by(catalog);
    }

    /// Hands out every record that is due.
    ///
    /// # Errors
    ///
    /// What the kernel's maps say; nothing is lost by trying again.
    pub fn poll(&mut self, mut each: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let now = clock::now();
        if let Some(resumed) = self.resumed.take() {
            each(resumed.as_bytes());
        }
        let hold_ns = u64::try_from(HOLD.as_nanos()).unwrap_or_default();
        let cutoff = BootNs(now.0.saturating_sub(hold_ns));
        self.release(cutoff, &mut each);
        if self.drain.due(now) {
            self.drain_flows(now, &mut each);
        }
        if now >= self.check_due {
            // Without a check the canary goes missing: that is the gap which is told.
            match self.check(now) {
                Ok(checked) => each(checked.as_bytes()),
                Err(error) => tracing::warn!("cannot look whether the hooks see: {error:#}"),
            }
            self.check_due = after(now, CHECK_INTERVAL);
        }
        if now >= self.books_due {
            let books = self.read_books(now)?;
            each(books.as_bytes());
            self.books_due = after(now, BOOKS_INTERVAL);
        }
        if now >= self.sockets_due {
            self.unlisted = self.find_sockets().err();
            self.sockets_due = after(now, SOCKETS_INTERVAL);
        }
        Ok(())
    }

    /// Hands out everything that is left, at the end.
    ///
    /// # Errors
    ///
    /// As [`Live::poll`].
    pub fn finish(&mut self, mut each: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let now = clock::now();
        self.release(BootNs(u64::MAX), &mut each);
        self.drain_flows(now, &mut each);
        let books = self.read_books(now)?;
        each(books.as_bytes());
        Ok(())
    }

    /// Whether the kernel side outlives the monitor.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.kernel.is_pinned()
    }

    /// How far this monitor has come.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let settled = self.settled_before + self.order.released();
        let handover = &self.kernel.handover;
        handover.mark(settled, &self.books, self.books_read)
    }

    /// Notes for the next monitor that everything handed out up to a mark was written out, except
    /// so many records.
    pub fn settle(&mut self, mark: &Mark, waiting: u64) {
        self.kernel.handover.settle(mark, waiting);
    }

    /// Asks for every flow of a process as a record.
    ///
    /// # Errors
    ///
    /// The kernel's map is full.
    pub fn watch(&mut self, process: ProcessKey) -> anyhow::Result<()> {
        self.kernel.watch(process)
    }

    /// Exec records since the last call of which the file system did not tell in time what script
    /// they run.
    pub fn take_skipped_scripts(&mut self) -> u64 {
        self.scripts.take_skipped()
    }

    /// What the kernel side costs, and how full its tables are, if it is time to tell again.
    pub fn take_figures(&mut self) -> Option<Box<Figures>> {
        let now = clock::now();
        if now < self.figures_due {
            return None;
        }
        self.figures_due = after(now, FIGURES_INTERVAL);
        Some(Box::new(self.kernel.figures(&self.host)))
    }

    /// Distinct flows in the kernel's map at the last drain.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.drain.flows()
    }

    /// Idle flows of living processes that were taken out of the kernel's map so far.
    #[must_use]
    pub fn flows_evicted(&self) -> u64 {
        self.drain.evicted()
    }

    fn read_books(&mut self, now: BootNs) -> anyhow::Result<KernelCounters> {
        let kernel = &self.kernel;
        let both = || anyhow::Ok((kernel.books()?, kernel.delivered()?));
        let (mut values, booked) = both().context("cannot read the kernel's books")?;
        (self.books, self.books_read) = (values, now);
        kernel.book_skipped(&mut values);
        let header = header::<KernelCounters>(now, KIND_KERNEL_COUNTERS)?;
        Ok(KernelCounters {
            header,
            values,
            astray: self.passage.read(booked, self.received),
        })
    }

    /// Takes everything out of the rings.
    fn take_records(&mut self, mut notice: impl FnMut(&[u8])) {
        let Live {
            kernel,
            order,
            scripts,
            received,
            ..
        } = self;
        kernel.drain(|ring, record| {
            *received += u64::from(is_booked(kind(record)));
            notice(record);
            scripts.ask(record);
            order.push(ring, record);
        });
    }

    fn release(&mut self, cutoff: BootNs, each: &mut impl FnMut(&[u8])) {
        self.take_records(|_| {});
        let Live {
            order,
            scripts,
            drain,
            canary,
            ..
        } = self;
        scripts.wait(WAIT_FOR_FILES);
        order.release(cutoff, |record| {
            drain.notice(record);
            if !canary.is_own(record) {
                each(&scripts.complete(record));
            }
        });
    }

    fn drain_flows(&mut self, now: BootNs, each: &mut impl FnMut(&[u8])) {
        let Live {
            kernel,
            drain,
            canary,
            ..
        } = self;
        drain.run(kernel, now, |record| {
            if !canary.is_own(record) {
                each(record);
            }
        });
    }

    /// Looks whether the hooks still see. What was detached is attached again, after the loss is
    /// in the record.
    ///
    /// # Errors
    ///
    /// What could not be looked at, for want of a descriptor or of memory: it is tried again.
    fn check(&mut self, now: BootNs) -> anyhow::Result<SelfChecked> {
        if let Some(error) = self.unlisted.take() {
            return Err(error.context("the open sockets cannot be listed"));
        }
        if self.canary.was_heard(|key| self.kernel.flow(key).connects) {
            self.canary_heard = now;
        }
        self.canary.sing();
        let (attached, missing) = self.kernel.attached(&self.host)?;
        for (place, name) in PROGRAMS.iter().enumerate() {
            if (attached | missing) >> place & 1 == 0 {
                match self.kernel.attach(name) {
                    Ok(()) => tracing::warn!("{name} was detached, and is attached again"),
                    Err(error) => tracing::error!("{name} was detached: {error}"),
                }
            }
        }
        let header = header::<SelfChecked>(now, KIND_SELF_CHECKED)?;
        Ok(SelfChecked {
            header,
            canary_ns: self.canary_heard.0,
            attached,
            missing,
        })
    }

    /// Records of the processes that are there, with the argv that they show in `/proc`. They go
    /// before everything that is in the rings, where a monitor before left it unread; what the
    /// rings tell of an image is then more than what can be found.
    fn find_processes(&mut self, host: &HostRoot) -> anyhow::Result<Found> {
        let records = self.kernel.found_processes()?;
        let mut told = HashSet::new();
        self.take_records(|record| {
            if let Some(image) = executed(record) {
                told.insert(image);
            }
        });
        let mut found = Found::default();
        let mut untold = Vec::new();
        each_record(&records, |record| {
            let Some(image) = executed(record) else {
                return;
            };
            found.alive.insert((image.start_ns, image.tgid));
            if image.tgid == std::process::id() {
                found.own = Some(image);
            }
            if !told.contains(&image) && !is_kernel_thread(record) {
                untold.push((image.tgid, record));
            }
        })?;
        let pids: Vec<u32> = untold.iter().map(|(pid, _)| *pid).collect();
        let arguments = arguments::read(host, &pids)?;
        let Live { order, scripts, .. } = self;
        for ((_, record), arguments) in untold.into_iter().zip(arguments) {
            if let Some(complete) = with_arguments(record, arguments) {
                scripts.ask(&complete);
                order.push_first(&complete);
            }
        }
        self.scripts.wait(WAIT_FOR_FILES_AT_START);
        Ok(found)
    }

    /// Takes over what a monitor before left: its place in the flow map, and what it had in its
    /// hands when it ended.
    fn resume(
        &mut self,
        flows: &HashSet<FlowKey>,
        alive: &HashSet<(u64, u32)>,
    ) -> anyhow::Result<()> {
        let now = clock::now();
        let former = *self.kernel.handover.checkpoint();
        self.passage = Passage::taken_over();
        self.drain.resume(&mut self.kernel, flows, alive, now);
        // What is delivered between emptying the rings and reading the books looks unread, so
        // the least of some readings is nearest.
        let mut unread = u64::MAX;
        for _ in 0..READINGS {
            self.take_records(|_| {});
            let known = former.settled + self.received;
            unread = unread.min(self.kernel.delivered()?.saturating_sub(known));
            if unread == 0 {
                break;
            }
            std::thread::sleep(READINGS_PAUSE);
        }
        self.settled_before = former.settled + unread;
        let books = self.read_books(now)?;
        self.resumed = Some(Box::new(Resumed {
            header: header::<Resumed>(now, KIND_RESUMED)?,
            from_ns: former.time_ns,
            recovered: self.received,
            unread,
            untold: former.taken.saturating_sub(former.told),
            discarded: self.kernel.discarded(),
            before: former.books,
            after: books.values,
        }));
        Ok(())
    }

    /// Records of the sockets that are open and that no hook has seen.
    fn find_sockets(&mut self) -> anyhow::Result<()> {
        let found = self.kernel.found_sockets()?;
        let order = &mut self.order;
        each_record(&found, |record| order.push_found(record))
    }
}

/// What the task iterator found.
#[derive(Default)]
struct Found {
    /// This process.
    own: Option<ProcessKey>,
    /// Start and id of all that run.
    alive: HashSet<(u64, u32)>,
}

/// The header of a record that is a `T` and no more.
fn header<T>(now: BootNs, kind: u32) -> anyhow::Result<Header> {
    Ok(Header {
        time_ns: now.0,
        kind,
        bytes: u32::try_from(size_of::<T>())?,
    })
}

fn kind(record: &[u8]) -> u32 {
    Header::read_from_prefix(record).map_or(0, |(header, _)| header.kind)
}

/// The image that an exec record is about.
fn executed(record: &[u8]) -> Option<ProcessKey> {
    let (head, _) = ProcessExecuted::read_from_prefix(record).ok()?;
    (head.header.kind == KIND_PROCESS_EXECUTED).then_some(head.process)
}

fn after(now: BootNs, pause: Duration) -> BootNs {
    BootNs(
        now.0
            .saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)),
    )
}

/// Splits what an iterator wrote into its records.
fn each_record<'a>(found: &'a [u8], mut each: impl FnMut(&'a [u8])) -> anyhow::Result<()> {
    let mut rest = found;
    while let Ok((header, _)) = Header::read_from_prefix(rest) {
        let bytes = usize::try_from(header.bytes)?.max(size_of::<Header>());
        let record = rest
            .get(..bytes)
            .context("an iterator's last record is cut off")?;
        each(record);
        rest = rest.get(bytes..).unwrap_or_default();
    }
    Ok(())
}

/// Whether an exec record is about a kernel thread, which runs no program.
fn is_kernel_thread(record: &[u8]) -> bool {
    ProcessExecuted::read_from_prefix(record)
        .is_ok_and(|(head, _)| head.flags & EXEC_KERNEL_THREAD != 0)
}

/// A found process's record with its arguments, if they could be read.
fn with_arguments(record: &[u8], args: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (mut head, path) = ProcessExecuted::read_from_prefix(record).ok()?;
    let mut args = args.unwrap_or_else(|| {
        head.flags |= EXEC_ARGS_UNREADABLE; // Mostly gone by now: its exit is in the ring.
        Vec::new()
    });
    if args.len() > ARGS_BYTES {
        args.truncate(ARGS_BYTES);
        head.flags |= EXEC_ARGS_TRUNCATED;
    }
    head.args_bytes = u16::try_from(args.len()).ok()?;
    head.header.bytes =
        u32::try_from(size_of::<ProcessExecuted>() + path.len() + args.len()).ok()?;
    Some([head.as_bytes(), path, &args].concat())
}

//! The running kernel as a source of records, in order of time.
//!
//! In: the attached programs ([`Kernel`]), `/proc` for the argv of processes that are older than
//! the monitor, and what [`Scripts`] finds. Out: records, oldest first, through [`Live::poll`].

use std::time::Duration;

use anyhow::Context;
use monitor_common::flow::ProcessKey;
use monitor_common::limits::ARGS_BYTES;
use monitor_common::program::PROGRAMS;
use monitor_common::record::{
    EXEC_ARGS_TRUNCATED, EXEC_ARGS_UNREADABLE, EXEC_KERNEL_THREAD, Header, KIND_SELF_CHECKED,
    ProcessExecuted, SelfChecked,
};
use zerocopy::{FromBytes, IntoBytes};

use super::bpf::{Kernel, LoadError, Options};
use super::canary::Canary;
use super::drain::Drain;
use super::order::Order;
use super::scripts::Scripts;
use crate::core::event::BootNs;
use crate::core::sample::Samples;
use crate::host::HostRoot;
use crate::host::clock;

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

/// How often the monitor checks that it still sees. A hook that someone detached is told, and
/// attached again, within this time.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// When the first check is made: long after the first canary flow was counted.
const FIRST_CHECK: Duration = Duration::from_millis(200);

/// How often sockets and devices are looked for that no hook sees being opened: a packet socket
/// may be open for less and be missed, and the walk over all open files has its cost.
const SOCKETS_INTERVAL: Duration = Duration::from_secs(2);

/// The kernel programs with everything that turns their maps into one stream.
pub struct Live {
    kernel: Kernel,
    order: Order,
    scripts: Scripts,
    samples: Samples,
    drain: Drain,
    books_due: BootNs,
    sockets_due: BootNs,
    canary: Canary,
    canary_heard: BootNs,
    check_due: BootNs,
    host: HostRoot,
}

impl Live {
    /// Loads and attaches the programs, then puts the processes that are running now at the head
    /// of the stream.
    ///
    /// # Errors
    ///
    /// What is missing, and the remedy.
    pub fn start(host: &HostRoot, options: Options) -> anyhow::Result<Live> {
        let cgroup = super::cgroup2::open_root(host)?;
        let kernel = Kernel::load(cgroup, &options).map_err(|error: LoadError| error)?;
        let mut live = Live {
            kernel,
            order: Order::default(),
            scripts: Scripts::start(host).context("cannot look up scripts")?,
            samples: Samples::default(),
            drain: Drain::default(),
            books_due: BootNs(0),
            sockets_due: after(clock::now(), SOCKETS_INTERVAL),
            canary: Canary::new(ProcessKey::default()),
            canary_heard: BootNs(0),
            check_due: after(clock::now(), FIRST_CHECK),
            host: host.clone(),
        };
        let own = live
            .find_processes(host)
            .context("cannot list the processes that are running")?;
        live.canary = Canary::new(own.context("the task iterator did not find this process")?);
        live.canary.sing();
        live.find_sockets()
            .context("cannot list the sockets that are open")?;
        Ok(live)
    }

    /// Hands out every record that is due, with the time at which it is applied.
    ///
    /// # Errors
    ///
    /// What the kernel's maps say; nothing is lost by trying again.
    pub fn poll(&mut self, mut each: impl FnMut(&[u8], BootNs)) -> anyhow::Result<()> {
        let now = clock::now();
        let hold_ns = u64::try_from(HOLD.as_nanos()).unwrap_or_default();
        let cutoff = BootNs(now.0.saturating_sub(hold_ns));
        self.release(cutoff, now, &mut each);
        if self.drain.due(now) {
            self.drain_flows(now, &mut each);
        }
        if now >= self.check_due {
            each(self.check(now)?.as_bytes(), now);
            self.check_due = after(now, CHECK_INTERVAL);
        }
        if now >= self.books_due {
            let books = self
                .kernel
                .counters(now)
                .context("cannot read the kernel's books")?;
            each(books.as_bytes(), now);
            self.books_due = after(now, BOOKS_INTERVAL);
        }
        if now >= self.sockets_due {
            self.find_sockets()
                .context("cannot list the sockets that are open")?;
            self.sockets_due = after(now, SOCKETS_INTERVAL);
        }
        Ok(())
    }

    /// Hands out everything that is left, at the end.
    ///
    /// # Errors
    ///
    /// As [`Live::poll`].
    pub fn finish(&mut self, mut each: impl FnMut(&[u8], BootNs)) -> anyhow::Result<()> {
        let now = clock::now();
        self.release(BootNs(u64::MAX), now, &mut each);
        self.drain_flows(now, &mut each);
        let books = self
            .kernel
            .counters(now)
            .context("cannot read the kernel's books")?;
        each(books.as_bytes(), now);
        Ok(())
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

    /// Distinct flows in the kernel's map at the last drain.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.drain.flows()
    }

    fn release(&mut self, cutoff: BootNs, now: BootNs, each: &mut impl FnMut(&[u8], BootNs)) {
        let Live {
            kernel,
            order,
            scripts,
            samples,
            drain,
            canary,
            ..
        } = self;
        kernel.drain(|record| {
            scripts.ask(record);
            order.push(record);
        });
        scripts.wait(WAIT_FOR_FILES);
        order.release(cutoff, |record| {
            drain.notice(record);
            if !canary.is_own(record) {
                let complete = scripts.complete(record);
                samples.pass(&complete, &mut |record| each(record, now));
            }
        });
        samples.sweep(now, &mut |record| each(record, now));
    }

    fn drain_flows(&mut self, now: BootNs, each: &mut impl FnMut(&[u8], BootNs)) {
        let Live {
            kernel,
            drain,
            canary,
            ..
        } = self;
        drain.run(kernel, now, |record| {
            if !canary.is_own(record) {
                each(record, now);
            }
        });
    }

    /// Looks whether the hooks still see. What was detached is attached again, after the loss is
    /// in the record.
    fn check(&mut self, now: BootNs) -> anyhow::Result<SelfChecked> {
        if self.canary.was_heard(|key| self.kernel.flow(key).connects) {
            self.canary_heard = now;
        }
        self.canary.sing();
        let (attached, missing) = self.kernel.attached(&self.host)?;
        for (place, name) in PROGRAMS.iter().enumerate() {
            if (attached | missing) >> place & 1 == 0 {
                match self.kernel.attach_again(name) {
                    Ok(()) => tracing::warn!("{name} was detached, and is attached again"),
                    Err(error) => tracing::error!("{name} was detached: {error}"),
                }
            }
        }
        let header = Header {
            time_ns: now.0,
            kind: KIND_SELF_CHECKED,
            bytes: u32::try_from(size_of::<SelfChecked>())?,
        };
        Ok(SelfChecked {
            header,
            canary_ns: self.canary_heard.0,
            attached,
            missing,
        })
    }

    /// Records of the processes that are there, with the argv that they show in `/proc`. Returns
    /// the key of this one.
    fn find_processes(&mut self, host: &HostRoot) -> anyhow::Result<Option<ProcessKey>> {
        let found = self.kernel.found_processes()?;
        let Live { order, scripts, .. } = self;
        let mut own = None;
        each_record(&found, |record| {
            if let Ok((head, _)) = ProcessExecuted::read_from_prefix(record)
                && head.process.tgid == std::process::id()
            {
                own = Some(head.process);
            }
            if let Some(complete) = with_arguments(record, host) {
                scripts.ask(&complete);
                order.push(&complete);
            }
        })?;
        self.scripts.wait(WAIT_FOR_FILES_AT_START);
        Ok(own)
    }

    /// Records of the sockets that are open and that no hook has seen.
    fn find_sockets(&mut self) -> anyhow::Result<()> {
        let found = self.kernel.found_sockets()?;
        let order = &mut self.order;
        each_record(&found, |record| order.push(record))
    }
}

fn after(now: BootNs, pause: Duration) -> BootNs {
    BootNs(
        now.0
            .saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)),
    )
}

/// Splits what an iterator wrote into its records.
fn each_record(found: &[u8], mut each: impl FnMut(&[u8])) -> anyhow::Result<()> {
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

/// A found process's record with its argv. `None` for a kernel thread: it runs no program.
fn with_arguments(record: &[u8], host: &HostRoot) -> Option<Vec<u8>> {
    let (mut head, path) = ProcessExecuted::read_from_prefix(record).ok()?;
    if head.flags & EXEC_KERNEL_THREAD != 0 {
        return None;
    }
    let mut args = host.arguments(head.process.tgid).unwrap_or_else(|_| {
        head.flags |= EXEC_ARGS_UNREADABLE; // Gone by now: its exit is in the ring.
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

//! The running kernel as a source of records, in order of time.
//!
//! In: the attached programs ([`Kernel`]) and `/proc` for the argv of processes that are older
//! than the monitor. Out: records, oldest first, through [`Live::poll`].

use std::time::Duration;

use anyhow::Context;
use monitor_common::flow::ProcessKey;
use monitor_common::limits::ARGS_BYTES;
use monitor_common::record::{
    EXEC_ARGS_TRUNCATED, EXEC_ARGS_UNREADABLE, EXEC_KERNEL_THREAD, Header, ProcessExecuted,
};
use zerocopy::{FromBytes, IntoBytes};

use super::bpf::{Kernel, LoadError, Options};
use super::drain::Drain;
use super::order::Order;
use crate::core::event::BootNs;
use crate::host::HostRoot;
use crate::host::clock;

/// How long a record waits for older ones: far longer than a hook runs, far shorter than a
/// person waits.
const HOLD: Duration = Duration::from_millis(5);
/// How often the kernel's books are read.
const BOOKS_INTERVAL: Duration = Duration::from_secs(1);

/// How often sockets and devices are looked for that no hook sees being opened: a packet socket
/// may be open for less and be missed, and the walk over all open files has its cost.
const SOCKETS_INTERVAL: Duration = Duration::from_secs(2);

/// The kernel programs with everything that turns their maps into one stream.
pub struct Live {
    kernel: Kernel,
    order: Order,
    drain: Drain,
    books_due: BootNs,
    sockets_due: BootNs,
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
        let kernel = Kernel::load(cgroup, options).map_err(|error: LoadError| error)?;
        let mut live = Live {
            kernel,
            order: Order::default(),
            drain: Drain::default(),
            books_due: BootNs(0),
            sockets_due: after(clock::now(), SOCKETS_INTERVAL),
        };
        live.find_processes(host)
            .context("cannot list the processes that are running")?;
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
            self.drain
                .run(&mut self.kernel, now, |record| each(record, now));
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
        self.drain
            .run(&mut self.kernel, now, |record| each(record, now));
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

    /// Distinct flows in the kernel's map at the last drain.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.drain.flows()
    }

    fn release(&mut self, cutoff: BootNs, now: BootNs, each: &mut impl FnMut(&[u8], BootNs)) {
        let Live {
            kernel,
            order,
            drain,
            ..
        } = self;
        kernel.drain(|record| order.push(record));
        order.release(cutoff, |record| {
            drain.notice(record);
            each(record, now);
        });
    }

    /// Records of the processes that are there, with the argv that they show in `/proc`.
    fn find_processes(&mut self, host: &HostRoot) -> anyhow::Result<()> {
        let found = self.kernel.found_processes()?;
        let order = &mut self.order;
        each_record(&found, |record| {
            if let Some(complete) = with_arguments(record, host) {
                order.push(&complete);
            }
        })
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

//! io_uring: sockets that are opened, connected and written to without a system call of theirs.
//!
//! In: a target. Out: packets to it, some by a thread of the kernel's.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::squeue::Flags;
use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{IoUring, Probe, opcode, squeue};
use libc::{AF_INET, SOCK_DGRAM, SOCK_STREAM};

use crate::sys::{self, Address, Message, Outcome, unsupported};
use crate::{Act, Target};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("uring-connect", |t| connect(t, Mode::Plain)),
    ("uring-connect-async", |t| connect(t, Mode::Async)),
    ("uring-connect-sqpoll", |t| connect(t, Mode::Polled)),
    ("uring-sendmsg", |t| send_message(t, Mode::Plain)),
    ("uring-sendmsg-async", |t| send_message(t, Mode::Async)),
    ("uring-sendmsg-sqpoll", |t| send_message(t, Mode::Polled)),
    ("uring-send-address", send_address),
    ("uring-socket", socket),
    ("uring-fixed", fixed),
];

const HELLO: &[u8] = b"hello";

/// Who does the work.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// The caller, as it enters.
    Plain,
    /// A worker thread of the kernel's.
    Async,
    /// A thread of the kernel's that watches the queue; the caller does not enter.
    Polled,
}

/// A ring that does one operation at a time.
pub struct Ring {
    ring: IoUring,
    flags: Flags,
}

impl Ring {
    fn new(mode: Mode) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        if mode == Mode::Polled {
            builder.setup_sqpoll(1000);
        }
        let ring = sys::supported("io_uring", builder.build(8))?;
        let flags = if mode == Mode::Async {
            Flags::ASYNC
        } else {
            Flags::empty()
        };
        Ok(Ring { ring, flags })
    }

    /// A ring in its simplest form.
    pub fn plain() -> io::Result<Ring> {
        Ring::new(Mode::Plain)
    }

    fn require(&self, code: u8, name: &str) -> io::Result<()> {
        let mut probe = Probe::new();
        self.ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(code) {
            unsupported(&format!("io_uring {name}"));
        }
        Ok(())
    }

    /// Does one operation, and returns its result.
    ///
    /// # Safety
    ///
    /// What the entry points to is valid until then.
    pub unsafe fn perform(&mut self, entry: squeue::Entry) -> io::Result<i32> {
        let entry = entry.flags(self.flags);
        let mut queue = self.ring.submission();
        // SAFETY: the caller vouches for what it points to.
        unsafe { queue.push(&entry) }.map_err(io::Error::other)?;
        drop(queue);
        self.ring.submit_and_wait(1)?;
        let done = self.ring.completion().next();
        let result = done.ok_or_else(|| io::Error::other("no completion"))?;
        if result.result() < 0 {
            return Err(io::Error::from_raw_os_error(-result.result()));
        }
        Ok(result.result())
    }

    /// Connects.
    pub fn connect(&mut self, fd: &OwnedFd, address: &Address) -> io::Result<i32> {
        let entry =
            opcode::Connect::new(Fd(fd.as_raw_fd()), address.pointer().cast(), address.length);
        // SAFETY: the address lives until the operation is done.
        unsafe { self.perform(entry.build()) }
    }

    /// Writes to a connected socket.
    pub fn send(&mut self, fd: &OwnedFd, bytes: &[u8]) -> io::Result<i32> {
        let length = u32::try_from(bytes.len()).unwrap_or_default();
        let entry = opcode::Send::new(Fd(fd.as_raw_fd()), bytes.as_ptr(), length);
        // SAFETY: the bytes live until the operation is done.
        unsafe { self.perform(entry.build()) }
    }
}

fn connect(target: &Target, mode: Mode) -> Outcome {
    let mut ring = Ring::new(mode)?;
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    ring.connect(&fd, &Address::new(target.v4))?;
    ring.send(&fd, HELLO)?;
    Ok(())
}

fn send_message(target: &Target, mode: Mode) -> Outcome {
    let mut ring = Ring::new(mode)?;
    let fd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
    let message = Message::new(HELLO, Some(&Address::new(target.v4)), None);
    let entry = opcode::SendMsg::new(Fd(fd.as_raw_fd()), message.pointer());
    // SAFETY: the message lives until the operation is done.
    unsafe { ring.perform(entry.build()) }?;
    Ok(())
}

/// `sendto` as an operation of its own.
fn send_address(target: &Target) -> Outcome {
    let mut ring = Ring::new(Mode::Plain)?;
    ring.require(opcode::SendZc::CODE, "SEND_ZC")?;
    let fd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
    let address = Address::new(target.v4);
    let length = u32::try_from(HELLO.len()).unwrap_or_default();
    let entry = opcode::SendZc::new(Fd(fd.as_raw_fd()), HELLO.as_ptr(), length)
        .dest_addr(address.pointer().cast())
        .dest_addr_len(address.length);
    // SAFETY: address and bytes live until the operation is done.
    unsafe { ring.perform(entry.build()) }?;
    // The kernel says once more that it is done with the bytes.
    ring.ring.submit_and_wait(1)?;
    Ok(())
}

/// A socket that is opened by the ring as well.
fn socket(target: &Target) -> Outcome {
    let mut ring = Ring::new(Mode::Plain)?;
    ring.require(opcode::Socket::CODE, "SOCKET")?;
    let entry = opcode::Socket::new(AF_INET, SOCK_STREAM, 0);
    // SAFETY: it points to nothing.
    let fd = sys::owned(unsafe { ring.perform(entry.build()) }?)?;
    ring.connect(&fd, &Address::new(target.v4))?;
    ring.send(&fd, HELLO)?;
    Ok(())
}

/// A socket that never has a file descriptor: only the ring knows it.
fn fixed(target: &Target) -> Outcome {
    let mut ring = Ring::new(Mode::Plain)?;
    ring.require(opcode::Socket::CODE, "SOCKET")?;
    ring.ring.submitter().register_files(&[-1])?;
    let slot = DestinationSlot::try_from_slot_target(0).map_err(|_| "slot 0")?;
    let entry = opcode::Socket::new(AF_INET, SOCK_STREAM, 0).file_index(Some(slot));
    // SAFETY: it points to nothing.
    unsafe { ring.perform(entry.build()) }?;
    let address = Address::new(target.v4);
    let entry = opcode::Connect::new(Fixed(0), address.pointer().cast(), address.length);
    // SAFETY: the address lives until the operation is done.
    unsafe { ring.perform(entry.build()) }?;
    let length = u32::try_from(HELLO.len()).unwrap_or_default();
    let entry = opcode::Send::new(Fixed(0), HELLO.as_ptr(), length);
    // SAFETY: the bytes live until the operation is done.
    unsafe { ring.perform(entry.build()) }?;
    Ok(())
}

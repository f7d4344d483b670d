//! What each kernel program is, and how it is loaded and attached.
//!
//! In: a program of the object, the kernel's types, the cgroup-v2 root. Out: a link; the program
//! is attached as long as the link, or a pin of it, is there.

use std::os::fd::{AsFd, OwnedFd};

use aya::programs::links::{FdLink, LinkError};
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr,
    FExit, Iter, Program, ProgramError, SockOps,
};
use monitor_common::program;

/// What a program is and where it is attached.
#[derive(Clone, Copy)]
pub enum Hook {
    /// A tracepoint, by its name.
    Tracepoint(&'static str),
    /// The return of a kernel function, by its name.
    Return(&'static str),
    /// An iterator, by what it walks over; it is attached anew for each walk.
    Iterator(&'static str),
    /// `cgroup/connect` and `cgroup/sendmsg`.
    SockAddr,
    /// `cgroup/sock`.
    Sock,
    /// `sock_ops`.
    SockOps,
    /// `cgroup_skb`.
    Skb(CgroupSkbAttachType),
}

/// Whether the monitor can do without a program.
#[derive(Clone, Copy, PartialEq)]
pub enum Need {
    /// It cannot.
    Required,
    /// Kernels before this version (major, minor) lack what the program needs, and the coverage
    /// has a gap there.
    Since(u32, u32),
}

/// What each program of [`program::PROGRAMS`] is, in its order.
const HOOKS: [(Hook, Need); program::PROGRAMS.len()] = [
    (Hook::Tracepoint("sched_process_fork"), Need::Required),
    (Hook::Tracepoint("sched_process_exec"), Need::Required),
    (Hook::Tracepoint("sched_process_exit"), Need::Required),
    (Hook::Sock, Need::Required),
    (Hook::Sock, Need::Required),
    (Hook::SockOps, Need::Required),
    (Hook::SockAddr, Need::Required),
    (Hook::SockAddr, Need::Required),
    (Hook::SockAddr, Need::Required),
    (Hook::SockAddr, Need::Required),
    (Hook::Skb(CgroupSkbAttachType::Egress), Need::Required),
    (Hook::Skb(CgroupSkbAttachType::Ingress), Need::Required),
    (Hook::Tracepoint("sock_send_length"), Need::Since(6, 3)),
    (Hook::Iterator("task"), Need::Required),
    (Hook::Iterator("task_file"), Need::Since(5, 11)),
    (Hook::Tracepoint("cgroup_mkdir"), Need::Since(5, 10)),
];

/// What stands in for a program that this kernel cannot have: its name in the object, and its hook.
#[must_use]
pub fn stand_in(program: &str) -> Option<(&'static str, Hook)> {
    (program == "send_length").then_some(("socket_made", Hook::Return("__sock_create")))
}

/// Name, hook and need of every program.
pub fn programs() -> impl Iterator<Item = (&'static str, Hook, Need)> {
    program::PROGRAMS
        .iter()
        .zip(HOOKS)
        .map(|(name, (hook, need))| (*name, hook, need))
}

/// Why a program is not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The kernel gave no link.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Has the kernel check a program and take it in.
///
/// # Errors
///
/// The kernel's words.
pub fn load(program: &mut Program, btf: &aya::Btf, hook: Hook) -> Result<(), ProgramError> {
    match hook {
        Hook::Tracepoint(point) => <&mut BtfTracePoint>::try_from(program)?.load(point, btf),
        Hook::Return(function) => <&mut FExit>::try_from(program)?.load(function, btf),
        Hook::Iterator(target) => <&mut Iter>::try_from(program)?.load(target, btf),
        Hook::SockAddr => <&mut CgroupSockAddr>::try_from(program)?.load(),
        Hook::Sock => <&mut CgroupSock>::try_from(program)?.load(),
        Hook::SockOps => <&mut SockOps>::try_from(program)?.load(),
        Hook::Skb(_) => <&mut CgroupSkb>::try_from(program)?.load(),
    }
}

/// Takes a new link out of its program, to be kept or pinned.
macro_rules! link {
    ($program:ident as $kind:ty, $($argument:expr),*) => {{
        let program = <&mut $kind>::try_from($program)?;
        let id = program.attach($($argument),*)?;
        program.take_link(id)?
    }};
}

/// Attaches a program. `None` for an iterator.
///
/// `Single` is the only mode that works on links (aya passes modes as link flags, and the kernel
/// refuses any); a link is multi-attach by nature.
///
/// # Errors
///
/// The kernel's words.
pub fn attach(
    program: &mut Program,
    hook: Hook,
    cgroup: &OwnedFd,
) -> Result<Option<FdLink>, AttachError> {
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    let cgroup = cgroup.as_fd();
    Ok(Some(match hook {
        Hook::Iterator(_) => return Ok(None),
        Hook::Tracepoint(_) => link!(program as BtfTracePoint,).into(),
        Hook::Return(_) => link!(program as FExit,).into(),
        Hook::SockAddr => link!(program as CgroupSockAddr, cgroup, MODE).try_into()?,
        Hook::Sock => link!(program as CgroupSock, cgroup, MODE).try_into()?,
        Hook::SockOps => link!(program as SockOps, cgroup, MODE).try_into()?,
        Hook::Skb(kind) => link!(program as CgroupSkb, cgroup, kind, MODE).try_into()?,
    }))
}

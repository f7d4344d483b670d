//! Programs at the same hooks that change whereto a connection goes, and programs that are taken
//! off their hooks.
//!
//! In: a target. Out: a connection to another address than the one asked for.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::process::{Resource, Rlimit};

use crate::place::{Cgroup, cgroup_root};
use crate::sys::{self, Outcome};
use crate::{Act, Target, tcp};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("rewritten-at-root", rewritten_at_root),
    ("rewritten-below", rewritten_below),
    ("detach", detach),
];

const BPF_PROG_LOAD: usize = 5;
const BPF_LINK_GET_FD_BY_ID: usize = 30;
const BPF_LINK_CREATE: usize = 28;
const BPF_LINK_DETACH: usize = 34;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const BPF_CGROUP_INET4_CONNECT: u32 = 10;

/// `bpf(2)` with an attribute of plain bytes.
fn bpf(command: usize, attribute: &[u8]) -> io::Result<c_int> {
    let args = [
        command,
        sys::pointer(attribute) as usize,
        attribute.len(),
        0,
        0,
    ];
    // SAFETY: the attribute has that many bytes, and what it points to lives as long.
    let result = unsafe { sys::call(libc::SYS_bpf, args) }?;
    c_int::try_from(result).map_err(io::Error::other)
}

/// Loads a program for `connect4` that puts the address `to` in the place of `from`, and leaves
/// everybody else alone.
fn rewriter(from: SocketAddr, to: SocketAddr) -> io::Result<OwnedFd> {
    // Code, registers (source << 4 | destination), offset, immediate: include/uapi/linux/bpf.h.
    let instruction = |code: u8, registers: u8, offset: i16, immediate: [u8; 4]| {
        let mut bytes = vec![code, registers];
        bytes.extend(offset.to_ne_bytes());
        bytes.extend(immediate);
        bytes
    };
    let number = |value: i32| value.to_ne_bytes();
    let (from, to) = (octets(from), octets(to));
    let program = [
        instruction(0x61, 0x12, 4, number(0)), // r2 = ctx->user_ip4
        instruction(0x56, 0x02, 2, from),      // if (u32) r2 != from: skip two
        instruction(0xb4, 0x03, 0, to),        // r3 = to
        instruction(0x63, 0x31, 4, number(0)), // ctx->user_ip4 = r3
        instruction(0xb7, 0x00, 0, number(1)), // r0 = 1: allow
        instruction(0x95, 0x00, 0, number(0)), // exit
    ];
    let count = u32::try_from(program.len()).unwrap_or_default();
    let (program, license) = (program.concat(), b"MIT\0");
    let mut attribute = [0u8; 72];
    let mut put = |at: usize, bytes: &[u8]| attribute[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &BPF_PROG_TYPE_CGROUP_SOCK_ADDR.to_ne_bytes());
    put(4, &count.to_ne_bytes());
    put(8, &(program.as_ptr() as u64).to_ne_bytes());
    put(16, &(license.as_ptr() as u64).to_ne_bytes());
    put(68, &BPF_CGROUP_INET4_CONNECT.to_ne_bytes());
    // Before Linux 5.11 a program counts as locked memory. Later nothing is lost where the limit may
    // not be lifted, and before the kernel then refuses the program.
    let limit = Rlimit {
        current: None,
        maximum: None,
    };
    let _: rustix::io::Result<()> = rustix::process::setrlimit(Resource::Memlock, limit);
    sys::owned(bpf(BPF_PROG_LOAD, &attribute)?)
}

fn octets(address: SocketAddr) -> [u8; 4] {
    match address {
        SocketAddr::V4(v4) => v4.ip().octets(),
        SocketAddr::V6(_) => [0; 4],
    }
}

/// Attaches it to a cgroup until the result is dropped, whatever becomes of this process.
fn attach(program: &OwnedFd, cgroup: &Path) -> io::Result<OwnedFd> {
    let folder = File::open(cgroup)?;
    let mut attribute = Vec::new();
    attribute.extend(program.as_raw_fd().to_ne_bytes());
    attribute.extend(folder.as_raw_fd().to_ne_bytes());
    attribute.extend(BPF_CGROUP_INET4_CONNECT.to_ne_bytes());
    attribute.extend([0; 4]);
    sys::owned(bpf(BPF_LINK_CREATE, &attribute)?)
}

/// A rewriting program at the root, attached after the monitor's: it runs later.
fn rewritten_at_root(target: &Target) -> Outcome {
    let program = rewriter(target.v4, target.other4)?;
    let _link = attach(&program, &cgroup_root()?)?;
    tcp::plain(target.v4)
}

/// One in a cgroup below: it runs earlier.
fn rewritten_below(target: &Target) -> Outcome {
    let cgroup = Cgroup::new()?;
    let program = rewriter(target.v4, target.other4)?;
    let _link = attach(&program, &cgroup.path)?;
    cgroup.enter()?;
    tcp::plain(target.v4)
}

/// Takes a program off its hook: the link with the id of the first further argument.
fn detach(target: &Target) -> Outcome {
    let id: u32 = target.number(0)?;
    let mut attribute = id.to_ne_bytes().to_vec();
    attribute.extend([0; 12]);
    let link = sys::owned(bpf(BPF_LINK_GET_FD_BY_ID, &attribute)?)?;
    bpf(BPF_LINK_DETACH, &link.as_raw_fd().to_ne_bytes())?;
    Ok(())
}

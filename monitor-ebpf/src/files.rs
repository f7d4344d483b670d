//! Sockets and devices that are open already, whoever opened them.
//!
//! In: the file iterator (`struct bpf_iter__task_file`, kernel/bpf/task_iter.c, since 5.8), run
//! by the collector at the start and again and again. Out: in the reader's file, a [`FlowOpened`]
//! for each connected IP socket that no hook has seen, and a [`SocketOpened`] for each socket of
//! another family and each open TUN device. An IP socket found here gets its record, as
//! `sock_create` would have given it, so its packets are attributed from then on.
//!
//! Missed: what is opened and closed between two runs; sockets that no process has as a file.
//! Needs `bpf_sock_from_file` and socket storage for tracing programs: 5.11.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, seq_file},
    helpers::generated::{bpf_seq_write, bpf_sk_storage_get, bpf_sock_from_file},
};
use monitor_common::{
    counter::HOOK_WIRE,
    flow::{FlowKey, ProcessKey, Remote},
    record::{self, FAMILY_TUN, FLOW_FIRST, FLOW_FOUND, FlowOpened, SOCK_RAW, SocketOpened},
};

use crate::{
    emit,
    kernel::{self, Address},
    maps::{SOCKET_CONNECTED, SOCKET_FOUND, SOCKET_REPORTED, SOCKETS, Socket},
    offsets,
};

/// `AF_UNIX`: stays on this host.
const UNIX: u32 = 1;
/// `AF_INET`.
const IPV4: u32 = 2;
/// `AF_INET6`.
const IPV6: u32 = 10;
/// `AF_NETLINK`: stays on this host.
const NETLINK: u32 = 16;
/// `AF_ALG`: the kernel's ciphers.
const ALG: u32 = 38;
/// `TCP_ESTABLISHED` of `enum tcp_state`, include/net/tcp_states.h; also a connected UDP socket.
const ESTABLISHED: u8 = 1;
/// `S_IFMT`, `S_IFCHR` of include/uapi/linux/stat.h.
const FILE_TYPE: u16 = 0o170_000;
const CHARACTER_DEVICE: u16 = 0o020_000;
/// `/dev/net/tun`: `MKDEV(MISC_MAJOR, TUN_MINOR)`, drivers/net/tun.c.
const TUN_DEVICE: u32 = 10 << 20 | 200;

/// What the file iterator hands over.
#[repr(C)]
pub struct FileIterContext {
    /// `struct bpf_iter_meta`, whose first field is the `seq_file` to write to.
    meta: *const *mut seq_file,
    /// `struct task_struct`; null at the end of the walk.
    task: *const u8,
    /// File descriptor.
    fd: u32,
    /// `struct file`; null at the end of the walk.
    file: *mut u8,
}

/// See the module's documentation. Runs as the reader, once per open file of every process.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub fn file_iter(ctx: *const FileIterContext) -> i32 {
    // SAFETY: the kernel passes a valid context; the verifier knows the types of the fields.
    let (meta, task, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).file) };
    if task.is_null() || file.is_null() {
        return 0; // The end of the walk.
    }
    // SAFETY: as above.
    let seq = unsafe { *meta };
    let Some(task) = Address::new(task as u64) else {
        return 0;
    };
    // SAFETY: `file` is a file; the result is its socket, or null.
    let socket = unsafe { bpf_sock_from_file(file.cast()) };
    if socket.is_null() {
        device(seq, task, file);
        return 0;
    }
    let offset = offsets::SOCKET_SK.load() as usize;
    // SAFETY: `sk` is a pointer field of `struct socket`; the verifier follows the types.
    let sk = unsafe { *socket.cast::<u8>().add(offset).cast::<*mut u8>() };
    if !sk.is_null() {
        found(seq, task, sk);
    }
    0
}

/// A socket that a process has open.
#[inline(always)]
fn found(seq: *mut seq_file, task: Address, sk: *mut u8) -> Option<()> {
    let address = Address::new(sk as u64)?;
    let family = u32::from(address.read::<u16>(&offsets::SOCK_FAMILY)?);
    if stays_here(family) || is_known(sk) {
        return None;
    }
    let process = kernel::process_key(task)?;
    let remote = remote(address, family);
    let mut fresh = Socket::new(FlowKey { process, remote }, kernel::now_ns());
    fresh.flags = SOCKET_FOUND;
    if remote.port != 0 {
        fresh.flags |= SOCKET_CONNECTED | SOCKET_REPORTED;
    }
    // Told first, remembered then: if the reader's file is full, the kernel comes back to this
    // socket, and must find it as unknown as before.
    if tell(seq, task, address, family, &fresh) {
        remember(sk, &mut fresh);
    }
    Some(())
}

/// Whether sockets of a family carry IP.
#[inline(always)]
pub fn is_ip(family: u32) -> bool {
    family == IPV4 || family == IPV6
}

/// Whether what sockets of a family send cannot leave this host.
#[inline(always)]
pub fn stays_here(family: u32) -> bool {
    matches!(family, UNIX | NETLINK | ALG)
}

/// Whether the socket has a record.
#[inline(always)]
pub fn is_known(sk: *mut u8) -> bool {
    let map = (&raw const SOCKETS).cast_mut().cast();
    // SAFETY: `sk` is a socket; null for the initial value means "do not create".
    !unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), 0) }.is_null()
}

/// Gives the socket its record. Without memory for it the socket is told again at the next run,
/// which is better than not at all.
#[inline(always)]
pub fn remember(sk: *mut u8, fresh: &mut Socket) {
    const CREATE: u64 = BPF_SK_STORAGE_GET_F_CREATE as u64;
    let map = (&raw const SOCKETS).cast_mut().cast();
    let initial = core::ptr::from_mut(fresh).cast();
    // SAFETY: `sk` is a socket, and `initial` is a whole value.
    let _ = unsafe { bpf_sk_storage_get(map, sk.cast(), initial, CREATE) };
}

/// The far end of an IP socket; port 0 if it has none.
#[inline(always)]
fn remote(sk: Address, family: u32) -> Remote {
    let protocol = sk.read::<u16>(&offsets::SOCK_PROTOCOL).unwrap_or(0);
    let mut remote = Remote {
        addr: [0; 4],
        port: 0,
        protocol,
        reserved: 0,
    };
    if sk.read::<u8>(&offsets::SOCK_STATE) != Some(ESTABLISHED) {
        return remote;
    }
    let port = sk.read::<u16>(&offsets::SOCK_DPORT).unwrap_or(0);
    if family == IPV6 {
        remote.addr = sk
            .read::<[u32; 4]>(&offsets::SOCK_V6_DADDR)
            .unwrap_or_default();
        remote.port = u16::from_be(port);
    } else if family == IPV4 {
        remote.addr = Remote::v4_mapped(sk.read::<u32>(&offsets::SOCK_DADDR).unwrap_or(0));
        remote.port = u16::from_be(port);
    }
    remote
}

/// Writes what the reader is to know of a socket that no hook has seen. Returns whether there
/// was room.
#[inline(always)]
fn tell(seq: *mut seq_file, task: Address, sk: Address, family: u32, socket: &Socket) -> bool {
    let socket_type = u32::from(sk.read::<u16>(&offsets::SOCK_TYPE).unwrap_or(0));
    if !is_ip(family) || socket_type == SOCK_RAW {
        let protocol = u32::from(socket.flow.remote.protocol);
        return tell_socket(seq, socket.flow.process, family, socket_type, protocol);
    }
    if socket.flow.remote.port == 0 {
        return true; // Not connected.
    }
    let record = FlowOpened {
        header: emit::header::<FlowOpened>(record::KIND_FLOW_OPENED),
        process: socket.flow.process,
        remote: socket.flow.remote,
        cookie: sk.read::<u64>(&offsets::SOCK_COOKIE).unwrap_or(0),
        cgroup_id: kernel::cgroup_id(task).unwrap_or(0),
        netns_cookie: 0,
        tid: 0,
        uid: uid(task).unwrap_or(u32::MAX),
        hook: HOOK_WIRE,
        flags: FLOW_FIRST | FLOW_FOUND,
    };
    write(seq, &record)
}

#[inline(always)]
fn uid(task: Address) -> Option<u32> {
    task.follow(&offsets::TASK_CRED)?.read(&offsets::CRED_UID)
}

#[inline(always)]
fn tell_socket(
    seq: *mut seq_file,
    process: ProcessKey,
    family: u32,
    kind: u32,
    protocol: u32,
) -> bool {
    let record = SocketOpened {
        header: emit::header::<SocketOpened>(record::KIND_SOCKET_OPENED),
        process,
        family,
        socket_type: kind,
        protocol,
        flags: FLOW_FOUND,
    };
    write(seq, &record)
}

/// A file that is no socket: only the TUN device matters.
#[inline(always)]
fn device(seq: *mut seq_file, task: Address, file: *mut u8) -> Option<()> {
    let inode = Address::new(file as u64)?.follow(&offsets::FILE_INODE)?;
    let mode = inode.read::<u16>(&offsets::INODE_MODE)?;
    if mode & FILE_TYPE != CHARACTER_DEVICE
        || inode.read::<u32>(&offsets::INODE_RDEV)? != TUN_DEVICE
    {
        return None;
    }
    let process = kernel::process_key(task)?;
    let _ = tell_socket(seq, process, FAMILY_TUN, 0, 0); // Told again at the next run anyway.
    Some(())
}

/// Appends a record to the reader's file. Returns whether there was room; if not, the kernel runs
/// the program again for the same file after the reader has taken what is there.
#[inline(always)]
fn write<T>(seq: *mut seq_file, record: &T) -> bool {
    let bytes = size_of::<T>() as u32;
    // SAFETY: `record` has `bytes` bytes.
    unsafe { bpf_seq_write(seq, core::ptr::from_ref(record).cast_mut().cast(), bytes) == 0 }
}

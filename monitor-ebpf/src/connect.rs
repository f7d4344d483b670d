//! Who reaches out to whom: `connect()` and datagrams that carry an address.
//!
//! In: `cgroup/connect4|6` and `cgroup/sendmsg4|6` at the cgroup-v2 root. They run in the
//! caller's context (an io_uring worker has the caller's tgid), under the socket's lock, on the
//! kernel's own copy of the address, so the caller cannot change it afterwards. They also see
//! TCP Fast Open, io_uring and 32-bit callers, which syscall tracers miss.
//! Kernel: net/ipv4/tcp_ipv4.c `tcp_v4_pre_connect`, net/ipv4/udp.c `udp_pre_connect` and
//! `udp_sendmsg`, and their IPv6 twins; since 4.17 / 4.18.
//! Out: [`FlowOpened`] records, the flow map, and the socket's own record.
//!
//! Missed: sends on a connected UDP socket (the connect was seen), SCTP, raw and packet sockets.
//! The hooks run before routing: an attempt that fails is seen as well.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use monitor_common::{
    counter::{
        AGGREGATED, DROPPED_FLOWS_FULL, DROPPED_UNREADABLE, GAP_FLOWS_FULL, GAP_NO_SOCKET_STORAGE,
        HOOK_CONNECT4, HOOK_CONNECT6, HOOK_SENDMSG4, HOOK_SENDMSG6,
    },
    flow::{FlowCounters, FlowKey, ProcessKey, Remote},
    record::{self, FLOW_FIRST, FlowOpened},
};

use crate::{
    emit,
    kernel::{self, Setting},
    maps::{
        CONTROL, DETAIL, FLOWS, SOCKET_CONNECTED, SOCKET_REPORTED, Socket, flow_key,
        socket_or_insert, watched,
    },
};

/// 1 if every flow of every process is wanted as a record. Written by the loader.
#[unsafe(no_mangle)]
static REPORT_ALL: Setting = Setting::new(0);

/// Let the call go on: this program only watches.
const ALLOW: i32 = 1;

/// The call that carries the address.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    Connect,
    Sendmsg,
}

/// See the module's documentation.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    let remote = remote4(ctx.sock_addr);
    opened(&ctx, HOOK_CONNECT4, Call::Connect, remote)
}

/// See the module's documentation. Also v4-mapped addresses: `connect4` does not fire for them.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let remote = remote6(ctx.sock_addr);
    opened(&ctx, HOOK_CONNECT6, Call::Connect, remote)
}

/// See the module's documentation. Also `AF_UNSPEC` addresses, and IPv4 ones on an IPv6 socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let remote = remote4(ctx.sock_addr);
    opened(&ctx, HOOK_SENDMSG4, Call::Sendmsg, remote)
}

/// See the module's documentation.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let remote = remote6(ctx.sock_addr);
    opened(&ctx, HOOK_SENDMSG6, Call::Sendmsg, remote)
}

/// Reads one context field exactly as wide as the kernel declares it.
macro_rules! field {
    ($sock_addr:ident . $($field:tt)+) => {
        // SAFETY: the context is valid for the program's run; the verifier rewrites the access.
        unsafe { core::ptr::read_volatile(&raw const (*$sock_addr).$($field)+) }
    };
}

#[inline(always)]
fn remote4(sock_addr: *mut bpf_sock_addr) -> Remote {
    let mut addr = [0u8; 16];
    addr[10] = 0xff;
    addr[11] = 0xff;
    let ip4 = field!(sock_addr.user_ip4).to_ne_bytes();
    addr[12] = ip4[0];
    addr[13] = ip4[1];
    addr[14] = ip4[2];
    addr[15] = ip4[3];
    remote(sock_addr, addr)
}

#[inline(always)]
fn remote6(sock_addr: *mut bpf_sock_addr) -> Remote {
    let words = [
        field!(sock_addr.user_ip6[0]),
        field!(sock_addr.user_ip6[1]),
        field!(sock_addr.user_ip6[2]),
        field!(sock_addr.user_ip6[3]),
    ];
    let mut addr = [0u8; 16];
    let mut i = 0;
    while i < 4 {
        let word = words[i].to_ne_bytes();
        addr[i * 4] = word[0];
        addr[i * 4 + 1] = word[1];
        addr[i * 4 + 2] = word[2];
        addr[i * 4 + 3] = word[3];
        i += 1;
    }
    remote(sock_addr, addr)
}

#[inline(always)]
fn remote(sock_addr: *mut bpf_sock_addr, addr: [u8; 16]) -> Remote {
    Remote {
        addr,
        port: u16::from_be(field!(sock_addr.user_port) as u16),
        protocol: field!(sock_addr.protocol) as u16,
        reserved: 0,
    }
}

#[inline(always)]
fn opened(ctx: &SockAddrContext, hook: u32, call: Call, remote: Remote) -> i32 {
    emit::attempted(hook);
    let Some(process) = kernel::current_process() else {
        emit::outcome(hook, DROPPED_UNREADABLE);
        return ALLOW;
    };
    let key = flow_key(process, remote);
    let now = kernel::now_ns();
    let first = enter_flow(&key, call, now);
    let counted = first != First::Refused;
    let delivered = if wanted(&process, call, first) {
        deliver(ctx, hook, &key, first, now)
    } else {
        emit::outcome(hook, AGGREGATED);
        false
    };
    if call == Call::Connect {
        if !delivered && counted {
            add_unreported(&key);
        }
        remember_socket(ctx, key, delivered, now);
    } else if first == First::Yes {
        remember_sender(ctx, key, now);
    }
    ALLOW
}

/// Whether this is the first time that the image goes to the remote.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Yes,
    No,
    /// The flow map is full, so nobody knows.
    Refused,
}

/// Counts the call in the flow map.
#[inline(always)]
fn enter_flow(key: &FlowKey, call: Call, now: u64) -> First {
    if add_call(key, call, now) {
        return First::No;
    }
    let (connects, datagrams) = match call {
        Call::Connect => (1, 0),
        Call::Sendmsg => (0, 1),
    };
    let fresh = FlowCounters {
        connects,
        datagrams,
        last_seen_ns: now,
        ..FlowCounters::default()
    };
    const NO_EXIST: u64 = aya_ebpf::bindings::BPF_NOEXIST as u64;
    if FLOWS.insert(key, &fresh, NO_EXIST).is_ok() {
        return First::Yes;
    }
    // Either another CPU was first, or the map is full.
    if add_call(key, call, now) {
        return First::No;
    }
    emit::count(GAP_FLOWS_FULL);
    First::Refused
}

/// Adds a call to a flow that is there. Returns whether it is.
#[inline(always)]
fn add_call(key: &FlowKey, call: Call, now: u64) -> bool {
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a map value; other CPUs write it too, hence the atomic additions.
    unsafe {
        match call {
            Call::Connect => kernel::add(&raw mut (*flow).connects, 1),
            Call::Sendmsg => kernel::add(&raw mut (*flow).datagrams, 1),
        }
        (*flow).last_seen_ns = now;
    }
    true
}

/// Notes that a connect of this flow has no record of its own.
#[inline(always)]
fn add_unreported(key: &FlowKey) {
    if let Some(flow) = FLOWS.get_ptr_mut(key) {
        // SAFETY: as in `add_call`.
        unsafe { kernel::add(&raw mut (*flow).connects_unreported, 1) };
    }
}

/// Whether this call is worth a record of its own. A datagram beyond the first never is: it is
/// no new contact, and one process can send a million a second.
#[inline(always)]
fn wanted(process: &ProcessKey, call: Call, first: First) -> bool {
    match (first, call) {
        (First::Yes | First::Refused, _) => true,
        (First::No, Call::Sendmsg) => false,
        (First::No, Call::Connect) => REPORT_ALL.load() != 0 || watched(process),
    }
}

#[inline(always)]
fn deliver(ctx: &SockAddrContext, hook: u32, key: &FlowKey, first: First, now: u64) -> bool {
    // First sightings travel with the process records: repeats cannot crowd them out.
    let ring = if first == First::No {
        &DETAIL
    } else {
        &CONTROL
    };
    let mut header = emit::header::<FlowOpened>(record::KIND_FLOW_OPENED);
    header.time_ns = now;
    let record = FlowOpened {
        header,
        process: key.process,
        remote: key.remote,
        cookie: cookie(ctx),
        cgroup_id: kernel::current_cgroup_id(),
        netns_cookie: netns_cookie(ctx),
        tid: kernel::current_tid(),
        uid: kernel::current_uid(),
        hook,
        flags: if first == First::Yes { FLOW_FIRST } else { 0 },
    };
    if first == First::Refused {
        // Not in the flow map: if the ring is full as well, nothing else has counted it.
        return emit::record_or(ring, hook, &record, DROPPED_FLOWS_FULL);
    }
    emit::record(ring, hook, &record)
}

#[inline(always)]
fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: a valid context of a type that this helper takes.
    unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) }
}

#[inline(always)]
fn netns_cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: a valid context of a type that this helper takes.
    unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) }
}

/// Keeps with the socket who connected it and whereto, for its end and for its packets.
#[inline(always)]
fn remember_socket(ctx: &SockAddrContext, flow: FlowKey, reported: bool, now: u64) {
    let flags = SOCKET_CONNECTED | if reported { SOCKET_REPORTED } else { 0 };
    let cookie = cookie(ctx);
    let mut fresh = Socket {
        flow,
        cookie,
        opened_ns: now,
        established_ns: 0,
        flags,
        reserved: 0,
    };
    let sock_addr = ctx.sock_addr;
    let sk = field!(sock_addr.__bindgen_anon_1.sk);
    match socket_or_insert(sk, &mut fresh) {
        Some(socket) => *socket = fresh,
        None => emit::count(GAP_NO_SOCKET_STORAGE),
    }
}

/// Keeps with an unconnected socket who sends on it, for the answers that come back.
#[inline(always)]
fn remember_sender(ctx: &SockAddrContext, flow: FlowKey, now: u64) {
    let cookie = cookie(ctx);
    let mut fresh = Socket {
        flow,
        cookie,
        opened_ns: now,
        established_ns: 0,
        flags: 0,
        reserved: 0,
    };
    let sock_addr = ctx.sock_addr;
    let sk = field!(sock_addr.__bindgen_anon_1.sk);
    if socket_or_insert(sk, &mut fresh).is_none() {
        emit::count(GAP_NO_SOCKET_STORAGE);
    }
}

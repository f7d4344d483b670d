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
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use monitor_common::{
    counter::{
        DROPPED_UNREADABLE, GAP_NO_SOCKET_STORAGE, HOOK_CONNECT4, HOOK_CONNECT6, HOOK_SENDMSG4,
        HOOK_SENDMSG6,
    },
    flow::{FlowKey, ProcessKey, Remote},
    record::{self, FlowOpened},
};

use crate::{
    emit,
    flows::{self, has_ports},
    generation,
    kernel::{self, Address},
    maps::{
        MPTCP_OPENERS, SOCKET_CONNECTED, SOCKET_REPORTED, Sampled, Socket, socket,
        socket_or_insert, watched,
    },
    offsets,
    packet::UDP,
    sample,
};

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
    remote(sock_addr, Remote::v4_mapped(field!(sock_addr.user_ip4)))
}

#[inline(always)]
fn remote6(sock_addr: *mut bpf_sock_addr) -> Remote {
    let addr = [
        field!(sock_addr.user_ip6[0]),
        field!(sock_addr.user_ip6[1]),
        field!(sock_addr.user_ip6[2]),
        field!(sock_addr.user_ip6[3]),
    ];
    remote(sock_addr, addr)
}

#[inline(always)]
fn remote(sock_addr: *mut bpf_sock_addr, addr: [u32; 4]) -> Remote {
    let protocol = field!(sock_addr.protocol) as u16;
    let port = u16::from_be(field!(sock_addr.user_port) as u16);
    Remote {
        addr,
        port: if has_ports(protocol) { port } else { 0 },
        protocol,
        reserved: 0,
    }
}

#[inline(always)]
fn opened(ctx: &SockAddrContext, hook: u32, call: Call, remote: Remote) -> i32 {
    if !generation::is_current() {
        return ALLOW;
    }
    // `getaddrinfo()` connects UDP sockets to port 0 to learn which source address the kernel
    // would choose. Nothing is sent; a packet to port 0 would be seen when it leaves.
    if call == Call::Connect && remote.protocol == UDP && remote.port == 0 {
        return ALLOW;
    }
    emit::attempted(hook);
    let sock_addr = ctx.sock_addr;
    let sk = field!(sock_addr.__bindgen_anon_1.sk);
    let Some(process) = doer(sk) else {
        emit::outcome(hook, DROPPED_UNREADABLE);
        return ALLOW;
    };
    let mut record = FlowOpened {
        header: emit::header::<FlowOpened>(record::KIND_FLOW_OPENED),
        process,
        remote,
        cookie: cookie(ctx),
        cgroup_id: kernel::current_cgroup_id(),
        netns_cookie: netns_cookie(ctx),
        tid: kernel::current_tid(),
        uid: kernel::current_uid(),
        hook,
        flags: 0,
    };
    let delivered = flows::seen(&mut record);
    remember(sk, &record, call, delivered);
    ALLOW
}

/// The process that calls. A kernel thread acts for whom the socket belongs to: an io_uring
/// worker before 5.12, a work queue of MPTCP.
#[inline(always)]
fn doer(sk: *mut bpf_sock) -> Option<ProcessKey> {
    let task = kernel::current_task()?;
    if kernel::is_kernel_thread(task) {
        if let Some(socket) = socket(sk) {
            return Some(socket.flow.process);
        }
        if let Some(opener) = mptcp_opener(sk) {
            return Some(opener);
        }
    }
    kernel::process_key(task)
}

/// Who opened the MPTCP socket that a TCP socket belongs to. The kernel opens such sockets to
/// addresses that the peer announces (net/mptcp/subflow.c `__mptcp_subflow_connect`).
#[inline(always)]
fn mptcp_opener(sk: *mut bpf_sock) -> Option<ProcessKey> {
    if offsets::ICSK_ULP_DATA.load() == 0 || offsets::MPTCP_SUBFLOW_CONN.load() == 0 {
        return None; // A kernel without MPTCP.
    }
    // SAFETY: `sk` is a socket; the cast gives the kernel's own structure, or null.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast()) };
    let cookie: u64 = Address::new(tcp as u64)?
        .follow(&offsets::ICSK_ULP_DATA)?
        .follow(&offsets::MPTCP_SUBFLOW_CONN)?
        .read(&offsets::SOCK_COOKIE)?;
    // SAFETY: the value is copied at once; the entry lives as long as the MPTCP socket.
    unsafe { MPTCP_OPENERS.get(&cookie) }.copied()
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

/// Keeps with the socket who uses it and whereto: for its packets, and for its end.
#[inline(always)]
fn remember(sk: *mut bpf_sock, record: &FlowOpened, call: Call, delivered: bool) {
    let flow = FlowKey {
        process: record.process,
        remote: record.remote,
    };
    let mut fresh = Socket::new(flow, record.header.time_ns);
    let Some(socket) = socket_or_insert(sk, &mut fresh) else {
        return emit::count(GAP_NO_SOCKET_STORAGE);
    };
    match call {
        Call::Connect => {
            fresh.cookie = record.cookie;
            let reported = if delivered { SOCKET_REPORTED } else { 0 };
            fresh.flags = SOCKET_CONNECTED | reported | sample::wanted(&flow.remote, delivered);
            *socket = fresh;
        }
        // On a connected socket, a datagram to elsewhere changes nothing of the connection.
        Call::Sendmsg if socket.flags & SOCKET_CONNECTED == 0 => {
            // A socket's first remote is told of watched processes as if each had its own socket.
            let told = delivered || (socket.flow.remote.port == 0 && watched(&flow.process));
            let wanted = sample::wanted(&flow.remote, told);
            if wanted != 0 {
                socket.flags |= wanted;
                socket.sent = Sampled::NOTHING;
            }
            socket.flow = flow;
        }
        Call::Sendmsg => {}
    }
}

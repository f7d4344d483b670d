//! Sockets: who opens them, and how flows end.
//!
//! In: `cgroup/sock_create` (net/ipv4/af_inet.c `inet_create`; in the caller's context; since
//! 4.10; not for the kernel's own sockets), `sock_ops` callbacks (TCP: connected, established,
//! state changed; net/ipv4/tcp.c `tcp_set_state`, since 4.16) and `cgroup/sock_release`
//! (net/ipv4/af_inet.c `inet_release`, since 5.9). Callbacks may run in any task's context or
//! none, so who opened the flow comes from the socket's own record.
//! Out: that record, [`SocketOpened`] for sockets that can send unasked, [`FlowEnded`], and the
//! flow map's totals.
//!
//! Missed: sockets that are no IP sockets (packet, vsock, netlink), and those older than the
//! monitor unless the file iterator could own them.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock,
        bpf_sock_ops,
    },
    helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
    macros::{cgroup_sock, sock_ops},
    programs::{SockContext, SockOpsContext},
};
use monitor_common::{
    counter::{
        AGGREGATED, DROPPED_UNREADABLE, GAP_MPTCP_FULL, GAP_NO_SOCKET_STORAGE, HOOK_FLOW_END,
        HOOK_SOCKET,
    },
    flow::{FlowKey, Remote},
    record::{self, END_CLOSED, END_FAILED, END_NEVER_SENT, FlowEnded, SOCK_RAW, SocketOpened},
};

use crate::{
    emit, flows, generation,
    kernel::{self, Address},
    maps::{
        CONTROL, DETAIL, MPTCP_OPENERS, SOCKET_CONNECTED, SOCKET_ENDED, SOCKET_FOUND,
        SOCKET_REPORTED, SOCKET_SYN_SENT, Socket, socket, socket_or_insert,
    },
    offsets,
};

/// `TCP_CLOSE` of `enum tcp_state`, include/net/tcp_states.h.
const TCP_CLOSE: u32 = 7;
/// Let the call go on: this program only watches.
const ALLOW: i32 = 1;
/// States that a FIN of ours leads to: FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING.
const FIN_SENT: u32 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11;
/// `SOCK_DONE` of `enum sock_flags`, include/net/sock.h: the remote's FIN was received.
const SOCK_DONE: u32 = 1;
/// `IPPROTO_TCP`.
const TCP: u16 = 6;
/// `IPPROTO_MPTCP`.
const MPTCP: u16 = 262;

/// Reads one context field exactly as wide as the kernel declares it.
macro_rules! field {
    ($context:ident . $($field:tt)+) => {
        // SAFETY: the context is valid for the program's run; the verifier rewrites the access.
        unsafe { core::ptr::read_volatile(&raw const (*$context).$($field)+) }
    };
}

/// See the module's documentation.
#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    if generation::is_current() {
        created(ctx.sock);
    }
    ALLOW
}

#[inline(always)]
fn created(sock: *mut bpf_sock) {
    let socket_type = field!(sock.type_);
    let protocol = field!(sock.protocol);
    let process = kernel::current_process();
    let remote = Remote {
        addr: [0; 4],
        port: 0,
        protocol: protocol as u16,
        reserved: 0,
    };
    let flow = FlowKey {
        process: process.unwrap_or_default(),
        remote,
    };
    let mut fresh = Socket::new(flow, kernel::now_ns());
    if socket_or_insert(sock, &mut fresh).is_none() {
        emit::count(GAP_NO_SOCKET_STORAGE);
    }
    if protocol == u32::from(MPTCP)
        && let Some(process) = process
    {
        if MPTCP_OPENERS.insert(cookie(sock), &process, 0).is_err() {
            emit::count(GAP_MPTCP_FULL);
        }
    }
    if socket_type != SOCK_RAW {
        return;
    }
    emit::attempted(HOOK_SOCKET);
    let Some(process) = process else {
        return emit::outcome(HOOK_SOCKET, DROPPED_UNREADABLE);
    };
    let record = SocketOpened {
        header: emit::header::<SocketOpened>(record::KIND_SOCKET_OPENED),
        process,
        family: field!(sock.family),
        socket_type,
        protocol,
        flags: 0,
    };
    emit::record(&CONTROL, HOOK_SOCKET, &record);
}

/// See the module's documentation.
#[sock_ops]
pub fn socket_state(ctx: SockOpsContext) -> u32 {
    if !generation::is_current() {
        return 1;
    }
    let op = ctx.op();
    if op != BPF_SOCK_OPS_TCP_CONNECT_CB
        && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
        && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
        && op != BPF_SOCK_OPS_STATE_CB
    {
        return 1;
    }
    let ops = ctx.ops;
    let sk = field!(ops.__bindgen_anon_2.sk);
    if sk.is_null() {
        return 1;
    }
    let Some(socket) = socket(sk) else {
        return 1;
    };
    match op {
        BPF_SOCK_OPS_TCP_CONNECT_CB => {
            socket.flags |= SOCKET_SYN_SENT;
            let _ = ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32);
        }
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => socket.established_ns = kernel::now_ns(),
        // The record is a copy of the listener's: of it, only the owner is true of this one.
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            socket.flags &= SOCKET_FOUND;
            socket.established_ns = 0;
        }
        _ if ctx.arg(1) == TCP_CLOSE => tcp_closed(ops, sk, socket),
        _ => {}
    }
    1
}

#[inline(always)]
fn tcp_closed(ops: *mut bpf_sock_ops, sk: *mut bpf_sock, socket: &mut Socket) {
    let established = socket.established_ns != 0;
    let (errno, flags) = inner_state(sk);
    // The kernel counts sequence numbers, of which SYN and FIN take one each: RFC 9293 section 3.4.
    let syn = u64::from(established);
    let fin_received = flags >> SOCK_DONE & 1;
    let partial = FlowEnded {
        bytes_sent: field!(ops.bytes_acked).saturating_sub(syn + fin_acknowledged(ops)),
        bytes_received: field!(ops.bytes_received).saturating_sub(fin_received),
        srtt_us: field!(ops.srtt_us) >> 3,
        retransmits: field!(ops.total_retrans),
        outcome: if established { END_CLOSED } else { END_FAILED },
        errno: if established { 0 } else { errno },
        ..FlowEnded::default()
    };
    // SAFETY: a valid context of a type that this helper takes.
    let cookie = unsafe { bpf_get_socket_cookie(ops.cast()) };
    end(socket, cookie, partial);
}

/// 1 if the remote acknowledged a FIN of ours, else 0: nothing is outstanding, and the state that
/// the connection leaves is one that only a FIN leads to.
#[inline(always)]
fn fin_acknowledged(ops: *mut bpf_sock_ops) -> u64 {
    let state = field!(ops.__bindgen_anon_1.args[0]);
    let all_acknowledged = field!(ops.snd_una) == field!(ops.snd_nxt);
    u64::from(state < 32 && FIN_SENT >> state & 1 == 1 && all_acknowledged)
}

/// What the UAPI does not show of a TCP socket: `sk_err` (0: no error) and the `SOCK_` flags.
#[inline(always)]
fn inner_state(sk: *mut bpf_sock) -> (i32, u64) {
    // SAFETY: `sk` is a socket; the cast gives the kernel's own structure, or null. The context's
    // socket itself may not be read beyond the fields of the UAPI.
    let sock = unsafe { bpf_skc_to_tcp_sock(sk.cast()) };
    let Some(sock) = Address::new(sock as u64) else {
        return (0, 0);
    };
    let errno = sock.read(&offsets::SOCK_ERR).unwrap_or(0);
    (errno, sock.read(&offsets::SOCK_FLAGS).unwrap_or(0))
}

/// See the module's documentation. Runs when the last reference of a socket file is put.
#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    if generation::is_current()
        && let Some(socket) = socket(ctx.sock)
    {
        released(ctx.sock, socket);
    }
    ALLOW
}

#[inline(always)]
fn released(sock: *mut bpf_sock, socket: &mut Socket) {
    let cookie = cookie(sock);
    if socket.flow.remote.protocol == MPTCP {
        let _: Result<(), _> = MPTCP_OPENERS.remove(cookie); // Not there: the map was full.
    }
    let (bytes_sent, bytes_received) = (socket.bytes_sent, socket.bytes_received);
    let partial = FlowEnded {
        bytes_sent,
        bytes_received,
        ..FlowEnded::default()
    };
    if socket.flow.remote.protocol != TCP {
        end(
            socket,
            cookie,
            FlowEnded {
                outcome: END_CLOSED,
                ..partial
            },
        );
    } else if socket.flags & SOCKET_FOUND != 0 {
        // Older than the monitor: what it carried is not known, so its end is only counted.
        socket.flags &= !SOCKET_REPORTED;
        end(
            socket,
            cookie,
            FlowEnded {
                outcome: END_CLOSED,
                ..partial
            },
        );
    } else if socket.flags & SOCKET_SYN_SENT == 0 {
        // connect() was called, but no SYN was ever made: no route, no free port.
        end(
            socket,
            cookie,
            FlowEnded {
                outcome: END_NEVER_SENT,
                ..partial
            },
        );
    }
}

/// The socket's cookie, which this makes if there was none.
#[inline(always)]
fn cookie(sock: *mut bpf_sock) -> u64 {
    // SAFETY: a valid context of a type that this helper takes.
    unsafe { bpf_get_socket_cookie(sock.cast()) }
}

/// Tells the end of a flow once.
#[inline(always)]
fn end(socket: &mut Socket, cookie: u64, partial: FlowEnded) {
    if socket.flags & SOCKET_ENDED != 0 || socket.flags & SOCKET_CONNECTED == 0 {
        return;
    }
    socket.flags |= SOCKET_ENDED;
    emit::attempted(HOOK_FLOW_END);
    let established = socket.established_ns != 0;
    let failed = partial.outcome != END_CLOSED;
    let (sent, received) = (partial.bytes_sent, partial.bytes_received);
    flows::add_end(&socket.flow, established, failed, sent, received);
    if socket.flags & SOCKET_REPORTED == 0 {
        return emit::outcome(HOOK_FLOW_END, AGGREGATED);
    }
    let record = FlowEnded {
        header: emit::header::<FlowEnded>(record::KIND_FLOW_ENDED),
        process: socket.flow.process,
        remote: socket.flow.remote,
        cookie,
        opened_ns: socket.opened_ns,
        established_ns: socket.established_ns,
        ..partial
    };
    emit::record(&DETAIL, HOOK_FLOW_END, &record);
}

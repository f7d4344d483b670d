//! How flows end.
//!
//! In: `sock_ops` callbacks (TCP: connected, established, state changed; net/ipv4/tcp.c
//! `tcp_set_state`, since 4.16) and `cgroup/sock_release` (net/ipv4/af_inet.c `inet_release`,
//! since 5.9). The callbacks may run in any task's context or none, so who opened the flow comes
//! from the socket's own record. Out: [`FlowEnded`] records, and the flow map's totals.
//!
//! Missed: sockets older than the monitor, and passive (accepted) ones: they have no record.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock, bpf_sock_ops,
    },
    helpers::generated::bpf_skc_to_tcp_sock,
    macros::{cgroup_sock, sock_ops},
    programs::{SockContext, SockOpsContext},
};
use monitor_common::{
    counter::{AGGREGATED, HOOK_FLOW_END},
    record::{self, END_CLOSED, END_FAILED, END_NEVER_SENT, FlowEnded},
};

use crate::{
    emit,
    kernel::{self, Address},
    maps::{
        DETAIL, FLOWS, SOCKET_CONNECTED, SOCKET_ENDED, SOCKET_REPORTED, SOCKET_SYN_SENT, Socket,
        socket,
    },
    offsets,
};

/// `TCP_CLOSE` of `enum tcp_state`, include/net/tcp_states.h.
const TCP_CLOSE: u32 = 7;
/// `IPPROTO_TCP`.
const TCP: u16 = 6;

/// Reads one context field exactly as wide as the kernel declares it.
macro_rules! field {
    ($ops:ident . $($field:tt)+) => {
        // SAFETY: the context is valid for the program's run; the verifier rewrites the access.
        unsafe { core::ptr::read_volatile(&raw const (*$ops).$($field)+) }
    };
}

/// See the module's documentation.
#[sock_ops]
pub fn socket_state(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    if op != BPF_SOCK_OPS_TCP_CONNECT_CB
        && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
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
        _ if ctx.arg(1) == TCP_CLOSE => tcp_closed(ops, sk, socket),
        _ => {}
    }
    1
}

#[inline(always)]
fn tcp_closed(ops: *mut bpf_sock_ops, sk: *mut bpf_sock, socket: &mut Socket) {
    let established = socket.established_ns != 0;
    let ended = FlowEnded {
        bytes_sent: field!(ops.bytes_acked),
        bytes_received: field!(ops.bytes_received),
        srtt_us: field!(ops.srtt_us) >> 3,
        retransmits: field!(ops.total_retrans),
        outcome: if established { END_CLOSED } else { END_FAILED },
        errno: if established { 0 } else { errno(sk) },
        ..FlowEnded::default()
    };
    end(socket, ended);
}

/// The error that ended a TCP connection attempt; 0 if the kernel recorded none.
#[inline(always)]
fn errno(sk: *mut bpf_sock) -> i32 {
    // SAFETY: `sk` is a socket; the cast gives the kernel's own structure, or null. The context's
    // socket itself may not be read beyond the fields of the UAPI.
    let sock = unsafe { bpf_skc_to_tcp_sock(sk.cast()) };
    Address::new(sock as u64)
        .and_then(|sock| sock.read(&offsets::SOCK_ERR))
        .unwrap_or(0)
}

/// See the module's documentation. Runs when the last reference of a socket file is put.
#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    if let Some(socket) = socket(ctx.sock) {
        let tcp = socket.flow.remote.protocol == TCP;
        if !tcp {
            end(
                socket,
                FlowEnded {
                    outcome: END_CLOSED,
                    ..FlowEnded::default()
                },
            );
        } else if socket.flags & SOCKET_SYN_SENT == 0 {
            // connect() was called, but no SYN was ever made: no route, no free port.
            end(
                socket,
                FlowEnded {
                    outcome: END_NEVER_SENT,
                    ..FlowEnded::default()
                },
            );
        }
    }
    1
}

/// Tells the end of a flow once.
#[inline(always)]
fn end(socket: &mut Socket, partial: FlowEnded) {
    if socket.flags & SOCKET_ENDED != 0 || socket.flags & SOCKET_CONNECTED == 0 {
        return;
    }
    socket.flags |= SOCKET_ENDED;
    emit::attempted(HOOK_FLOW_END);
    add_totals(socket, &partial);
    if socket.flags & SOCKET_REPORTED == 0 {
        return emit::outcome(HOOK_FLOW_END, AGGREGATED);
    }
    let record = FlowEnded {
        header: emit::header::<FlowEnded>(record::KIND_FLOW_ENDED),
        process: socket.flow.process,
        remote: socket.flow.remote,
        cookie: socket.cookie,
        opened_ns: socket.opened_ns,
        established_ns: socket.established_ns,
        ..partial
    };
    emit::record(&DETAIL, HOOK_FLOW_END, &record);
}

#[inline(always)]
fn add_totals(socket: &Socket, ended: &FlowEnded) {
    let Some(flow) = FLOWS.get_ptr_mut(&socket.flow) else {
        return; // Refused when it opened, or drained since its process ended.
    };
    let add = |field: *mut u64, value: u64| {
        // SAFETY: a field of a map value; other CPUs write it too, hence atomic.
        unsafe { kernel::add(field, value) };
    };
    // SAFETY: only addresses are taken.
    let (established, failed, closed, sent, received) = unsafe {
        (
            &raw mut (*flow).established,
            &raw mut (*flow).failed,
            &raw mut (*flow).closed,
            &raw mut (*flow).bytes_sent,
            &raw mut (*flow).bytes_received,
        )
    };
    if socket.established_ns != 0 {
        add(established, 1);
    }
    if ended.outcome != END_CLOSED {
        add(failed, 1);
    }
    add(closed, 1);
    add(sent, ended.bytes_sent);
    add(received, ended.bytes_received);
}

//! Sends on sockets that are no IP sockets: packet, XDP, vsock and other families.
//!
//! In: `sock_send_length` (`TP_PROTO(struct sock *sk, int ret, int flags)`, net/socket.c
//! `sock_sendmsg_nosec`; since 6.3), after each send of any socket, in the sender's context, so
//! also for a socket that is open for a millisecond. Older kernels have its stand-in instead: the
//! return of `__sock_create` (net/socket.c; `fexit`, since 5.5 on x86-64), in the opener's
//! context. Out: a [`SocketOpened`] for the first send, or for the opening.
//! Without either, only the file iterator finds such sockets, if they are open long enough.
//!
//! Missed: XDP sockets that send without a call (not by the stand-in), frames written to a TUN
//! device.

use aya_ebpf::{
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};
use monitor_common::{
    counter::{DROPPED_UNREADABLE, HOOK_SOCKET},
    flow::{FlowKey, ProcessKey, Remote},
    record::{self, SocketOpened},
};

use crate::{
    emit,
    files::{self, is_known, remember},
    generation,
    kernel::{self, Address},
    maps::{CONTROL, Socket},
    offsets,
};

/// See the module's documentation.
#[btf_tracepoint(function = "sock_send_length")]
pub fn send_length(ctx: BtfTracePointContext) -> i32 {
    if !generation::is_current() {
        return 0;
    }
    let sk = ctx.arg::<*mut u8>(0);
    if let Some(address) = Address::new(sk as u64) {
        sent(sk, address);
    }
    0
}

/// `SOCK_TYPE_MASK` of include/linux/net.h: what is above are flags.
const TYPE: u32 = 0xf;

/// `AF_PACKET`: its protocol is an Ethernet protocol, in network order.
const PACKET: u32 = 17;

/// See the module's documentation.
#[fexit(function = "__sock_create")]
pub fn socket_made(ctx: FExitContext) -> i32 {
    // struct net *, int family, int type, int protocol, struct socket **, int kern; the result.
    let (family, kind, protocol) = (ctx.arg::<u32>(1), ctx.arg::<u32>(2), ctx.arg::<u32>(3));
    let (is_kernels, result) = (ctx.arg::<i32>(5) != 0, ctx.arg::<i32>(6));
    let told_elsewhere = files::is_ip(family) || files::stays_here(family);
    if generation::is_current() && !is_kernels && result == 0 && !told_elsewhere {
        let protocol = if family == PACKET {
            u32::from(u16::from_be(protocol as u16))
        } else {
            protocol
        };
        opened(family, kind & TYPE, protocol);
    }
    0
}

/// Tells that the running process has a socket. Returns who that is.
#[inline(always)]
fn opened(family: u32, socket_type: u32, protocol: u32) -> Option<ProcessKey> {
    emit::attempted(HOOK_SOCKET);
    let Some(process) = kernel::current_process() else {
        emit::outcome(HOOK_SOCKET, DROPPED_UNREADABLE);
        return None;
    };
    let record = SocketOpened {
        header: emit::header::<SocketOpened>(record::KIND_SOCKET_OPENED),
        process,
        family,
        socket_type,
        protocol,
        flags: 0,
    };
    emit::record(&CONTROL, HOOK_SOCKET, &record);
    Some(process)
}

#[inline(always)]
fn sent(sk: *mut u8, address: Address) {
    let family = u32::from(address.read::<u16>(&offsets::SOCK_FAMILY).unwrap_or(0));
    if files::is_ip(family) || files::stays_here(family) || is_known(sk) {
        return;
    }
    let protocol = address.read::<u16>(&offsets::SOCK_PROTOCOL).unwrap_or(0);
    let socket_type = address.read::<u16>(&offsets::SOCK_TYPE).unwrap_or(0);
    if let Some(process) = opened(family, socket_type.into(), protocol.into()) {
        remember(sk, &mut known(process, protocol));
    }
}

/// Told once: the socket's record says so from now on.
#[inline(always)]
fn known(process: ProcessKey, protocol: u16) -> Socket {
    let remote = Remote {
        addr: [0; 4],
        port: 0,
        protocol,
        reserved: 0,
    };
    Socket::new(FlowKey { process, remote }, kernel::now_ns())
}

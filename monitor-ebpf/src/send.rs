//! Sends on sockets that are no IP sockets: packet, XDP, vsock and other families.
//!
//! In: `sock_send_length` (`TP_PROTO(struct sock *sk, int ret, int flags)`, net/socket.c
//! `sock_sendmsg_nosec`; since 6.3), after each send of any socket, in the sender's context, so
//! also for a socket that is open for a millisecond. Out: a [`SocketOpened`] for the first send.
//! On older kernels only the file iterator finds such sockets, if they are open long enough.
//!
//! Missed: XDP sockets that send without a call, frames written to a TUN device.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
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

#[inline(always)]
fn sent(sk: *mut u8, address: Address) {
    let family = u32::from(address.read::<u16>(&offsets::SOCK_FAMILY).unwrap_or(0));
    if files::is_ip(family) || files::stays_here(family) || is_known(sk) {
        return;
    }
    emit::attempted(HOOK_SOCKET);
    let Some(process) = kernel::current_process() else {
        return emit::outcome(HOOK_SOCKET, DROPPED_UNREADABLE);
    };
    let protocol = address.read::<u16>(&offsets::SOCK_PROTOCOL).unwrap_or(0);
    let record = SocketOpened {
        header: emit::header::<SocketOpened>(record::KIND_SOCKET_OPENED),
        process,
        family,
        socket_type: u32::from(address.read::<u16>(&offsets::SOCK_TYPE).unwrap_or(0)),
        protocol: u32::from(protocol),
        flags: 0,
    };
    emit::record(&CONTROL, HOOK_SOCKET, &record);
    remember(sk, &mut known(process, protocol));
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

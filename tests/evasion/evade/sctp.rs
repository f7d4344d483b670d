//! SCTP and DCCP: transport protocols that the address hooks do not see.
//!
//! In: a target. Out: an INIT or a REQUEST to it.

use std::time::Duration;

use libc::{SOCK_SEQPACKET, SOCK_STREAM};

use crate::sys::{self, Address, Outcome, supported};
use crate::{Act, Target};

/// What was asked for has left by then.
const LINGER: Duration = Duration::from_millis(200);

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("sctp-connect", |t| connect(t, SOCK_STREAM)),
    ("sctp-sendto", send_to),
    ("sctp6-connect", |t| {
        let target = Target {
            v4: t.v6,
            ..t.clone()
        };
        connect(&target, SOCK_STREAM)
    }),
    ("dccp-connect", dccp),
];

/// One association, opened as TCP would be. Whether the other end wants it does not matter: the
/// first packet leaves at once, and an answer that does not come would take minutes.
fn connect(target: &Target, kind: i32) -> Outcome {
    let kind = kind | libc::SOCK_NONBLOCK;
    let socket = sys::socket_for(target.v4, kind, libc::IPPROTO_SCTP);
    let fd = supported("SCTP", socket)?;
    let _ = sys::connect(&fd, &Address::new(target.v4)); // In progress.
    std::thread::sleep(LINGER);
    Ok(())
}

/// One socket, two associations, opened by their first message.
fn send_to(target: &Target) -> Outcome {
    let kind = SOCK_SEQPACKET | libc::SOCK_NONBLOCK;
    let socket = sys::socket_for(target.v4, kind, libc::IPPROTO_SCTP);
    let fd = supported("SCTP", socket)?;
    for address in [target.v4, target.other4] {
        let _ = sys::send_to(&fd, b"hello", 0, Some(&Address::new(address))); // In progress.
    }
    std::thread::sleep(LINGER);
    Ok(())
}

/// DCCP, up to Linux 6.15. Nobody answers.
fn dccp(target: &Target) -> Outcome {
    const SOL_DCCP: i32 = 269;
    const DCCP_SOCKOPT_SERVICE: i32 = 2;
    const SOCK_DCCP: i32 = 6;
    let socket = sys::socket_for(
        target.v4,
        SOCK_DCCP | libc::SOCK_NONBLOCK,
        libc::IPPROTO_DCCP,
    );
    let fd = supported("DCCP", socket)?;
    sys::set_number(&fd, SOL_DCCP, DCCP_SOCKOPT_SERVICE, 42)?;
    // In progress, or refused by then.
    let _ = sys::connect(&fd, &Address::new(target.v4));
    std::thread::sleep(LINGER);
    Ok(())
}

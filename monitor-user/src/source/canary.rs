//! A flow of the monitor's own that must come back: proof that the hooks still see.
//!
//! In: nothing. Out: `connect()` calls on UDP sockets, which send no packet, to addresses that
//! are reserved for documentation (RFC 5737, RFC 3849). The kernel's flow map must have counted
//! them a moment later.

use std::net::{SocketAddr, UdpSocket};

use monitor_common::flow::{FlowKey, ProcessKey, Remote};
use zerocopy::transmute;

/// The documentation addresses that are asked for: one per hook on `connect()`.
const TARGETS: [(&str, &str, &str); 2] = [
    ("connect4", "192.0.2.1:9", "0.0.0.0:0"),
    ("connect6", "[2001:db8::1]:9", "[::]:0"),
];

/// What was asked for, and how often.
pub struct Canary {
    process: ProcessKey,
    calls: [u64; TARGETS.len()],
}

impl Canary {
    /// For the process that makes the calls: this one.
    #[must_use]
    pub fn new(process: ProcessKey) -> Self {
        Canary {
            process,
            calls: [0; TARGETS.len()],
        }
    }

    /// Asks once for each target. One that the host cannot even ask for (no IPv6) is not counted.
    pub fn sing(&mut self) {
        for ((_, target, local), calls) in TARGETS.iter().zip(&mut self.calls) {
            let Ok(target) = target.parse::<SocketAddr>() else {
                continue;
            };
            let Ok(socket) = UdpSocket::bind(local) else {
                continue;
            };
            // The hook runs before the route is looked up: an unreachable target counts too.
            let _ = socket.connect(target);
            *calls += 1;
        }
    }

    /// The programs that did not count every call, given how to look up the calls counted.
    pub fn missed(&self, counted: impl Fn(&FlowKey) -> u64) -> Vec<&'static str> {
        let mut missed = Vec::new();
        for ((program, target, _), calls) in TARGETS.iter().zip(self.calls) {
            let Ok(target) = target.parse::<SocketAddr>() else {
                continue;
            };
            if counted(&self.key(target)) < calls {
                missed.push(*program);
            }
        }
        missed
    }

    fn key(&self, target: SocketAddr) -> FlowKey {
        let ip = match target.ip() {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            std::net::IpAddr::V6(ip) => ip,
        };
        let addr: [u32; 4] = transmute!(ip.octets());
        let remote = Remote {
            addr,
            port: target.port(),
            protocol: 17,
            reserved: 0,
        };
        FlowKey {
            process: self.process,
            remote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_was_not_counted_is_missed() {
        let mut canary = Canary::new(ProcessKey {
            start_ns: 1,
            tgid: 2,
            exec_id: 3,
        });
        assert!(canary.missed(|_| 0).is_empty());
        canary.calls = [1, 1];
        assert_eq!(canary.missed(|_| 0), ["connect4", "connect6"]);
        let v4 = canary.key("192.0.2.1:9".parse().unwrap());
        assert_eq!(canary.missed(|key| u64::from(*key == v4)), ["connect6"]);
        assert!(canary.missed(|_| 1).is_empty());
    }
}

//! A flow of the monitor's own that must come back: proof that the hooks still see.
//!
//! In: nothing. Out: `connect()` calls on UDP sockets, which send no packet, to addresses that
//! are reserved for documentation (RFC 5737, RFC 3849). The kernel's flow map must have counted
//! them a moment later.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use monitor_common::flow::{FlowKey, ProcessKey, Remote};
use rustix::io::Errno;
use zerocopy::{IntoBytes, transmute};

/// The documentation addresses that are asked for: one per hook on `connect()`.
const TARGETS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// The discard port.
const PORT: u16 = 9;

/// What was asked for, and how often.
pub struct Canary {
    songs: [Song; TARGETS.len()],
    /// A call could not be made, for want of a descriptor or of memory.
    mute: bool,
}

struct Song {
    target: IpAddr,
    key: FlowKey,
    calls: u64,
}

impl Canary {
    /// For the process that makes the calls: this one.
    #[must_use]
    pub fn new(process: ProcessKey) -> Self {
        let song = |target| Song {
            target,
            key: key(process, target),
            calls: 0,
        };
        Canary {
            songs: TARGETS.map(song),
            mute: false,
        }
    }

    /// Asks once for each target. One that the host cannot even ask for (no IPv6) is not counted.
    pub fn sing(&mut self) {
        self.mute = false;
        for song in &mut self.songs {
            let any = match song.target {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let socket = match UdpSocket::bind(SocketAddr::new(any, 0)) {
                Ok(socket) => socket,
                Err(error) => {
                    self.mute |= !is_without_family(&error);
                    continue;
                }
            };
            // The hook runs before the route is looked up: an unreachable target counts too.
            let _ = socket.connect(SocketAddr::new(song.target, PORT));
            song.calls += 1;
        }
    }

    /// Whether every call was made and counted, given how to look up the calls counted.
    pub fn was_heard(&self, counted: impl Fn(&FlowKey) -> u64) -> bool {
        let mut songs = self.songs.iter();
        !self.mute && songs.all(|song| counted(&song.key) >= song.calls)
    }

    /// Whether a record is about the canary itself, which is nobody's business.
    #[must_use]
    pub fn is_own(&self, record: &[u8]) -> bool {
        // Every record of a flow has its process and its remote address right after the header.
        let about = record.get(16..48);
        self.songs
            .iter()
            .any(|song| song.key.as_bytes().get(..32) == about)
    }
}

/// Whether a socket could not be had because the host is without its address family.
fn is_without_family(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

fn key(process: ProcessKey, target: IpAddr) -> FlowKey {
    let ip = match target {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let addr: [u32; 4] = transmute!(ip.octets());
    let remote = Remote {
        addr,
        port: PORT,
        protocol: 17,
        reserved: 0,
    };
    FlowKey { process, remote }
}

#[cfg(test)]
mod tests {
    use monitor_common::record::FlowOpened;

    use super::*;

    const SELF: ProcessKey = ProcessKey {
        start_ns: 1,
        tgid: 2,
        exec_id: 3,
    };

    #[test]
    fn a_call_that_was_not_counted_is_not_heard() {
        let mut canary = Canary::new(SELF);
        assert!(canary.was_heard(|_| 0), "nothing was sung yet");
        canary.songs.iter_mut().for_each(|song| song.calls = 1);
        assert!(!canary.was_heard(|_| 0));
        let v4 = canary.songs[0].key;
        assert!(!canary.was_heard(|key| u64::from(*key == v4)));
        assert!(canary.was_heard(|_| 1));
        canary.mute = true;
        assert!(!canary.was_heard(|_| 1));
    }

    #[test]
    fn its_own_records_are_told_from_others() {
        let canary = Canary::new(SELF);
        let FlowKey { process, remote } = canary.songs[1].key;
        let own = FlowOpened {
            process,
            remote,
            ..FlowOpened::default()
        };
        assert!(canary.is_own(own.as_bytes()));
        let other = ProcessKey {
            exec_id: 4,
            ..process
        };
        let others = FlowOpened {
            process: other,
            remote,
            ..FlowOpened::default()
        };
        assert!(!canary.is_own(others.as_bytes()));
        assert!(!canary.is_own(&own.as_bytes()[..40]));
    }
}

//! Very many, very fast; at the wrong time; and while another thread changes the arguments.
//!
//! In: a target, and how many. Out: that many calls.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use libc::{AF_INET, AF_PACKET, SOCK_DGRAM, SOCK_RAW};

use crate::sys::{self, Address, Outcome, say};
use crate::{Act, Target, raw, tcp, udp};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("flood", |t| flood(t.number(0)?, 1)),
    ("flood-by-children", flood_by_children),
    ("burst", burst),
    ("burst-exec", burst_exec),
    ("steady", steady),
    ("race", race),
    ("older-tcp", |t| older(t, &tcp::open(t.v4)?, None)),
    ("older-udp-connected", older_udp_connected),
    ("older-udp", older_udp),
    ("older-raw", older_raw),
    ("older-listener", older_listener),
    ("older-packet", older_packet),
    ("older-process", older_process),
];

/// A generator of numbers (Knuth's constants), the same each time.
fn next(state: &mut u64) -> u32 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    u32::try_from(*state >> 32).unwrap_or_default()
}

/// Asks for that many random addresses. No packet leaves: UDP's `connect` sends none.
fn flood(count: u32, seed: u64) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
    let mut state = seed;
    for _ in 0..count {
        // 10.0.0.0/8: beyond the default route like any other.
        let random = next(&mut state);
        let octets = [
            10,
            random.to_be_bytes()[1],
            random.to_be_bytes()[2],
            random.to_be_bytes()[3],
        ];
        let address = SocketAddr::from((octets, 1024 + u16::try_from(random >> 20)?));
        sys::connect(&fd, &Address::new(address))?;
    }
    Ok(())
}

/// The same number by many processes: a budget per process does not hold them.
fn flood_by_children(target: &Target) -> Outcome {
    let (children, each): (u32, u32) = (target.number(0)?, target.number(1)?);
    for child in 0..children {
        sys::wait(sys::fork(|| flood(each, u64::from(child) + 2))?)?;
    }
    Ok(())
}

/// Processes that do nothing but connect and end.
fn burst(target: &Target) -> Outcome {
    for _ in 0..target.number::<u32>(0)? {
        let child = sys::fork(|| tcp::plain(target.v4))?;
        sys::wait(child)?;
        say(&format!("doer {child} {} -", target.v4.ip()));
    }
    Ok(())
}

/// Processes that execute this program, connect and end.
fn burst_exec(target: &Target) -> Outcome {
    let argv = target.argv("udp-connected");
    let exe = std::env::current_exe()?;
    for _ in 0..target.number::<u32>(0)? {
        let child = sys::fork(|| {
            let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
            Err(sys::exec(&exe, &args).into())
        })?;
        sys::wait(child)?;
        say(&format!("doer {child} {} -", target.v4.ip()));
    }
    Ok(())
}

/// One datagram after the other, each from a new socket, until a line comes in.
fn steady(target: &Target) -> Outcome {
    static STOP: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        let _ = line();
        STOP.store(true, Ordering::Relaxed);
    });
    let mut sent = 0u32;
    while !STOP.load(Ordering::Relaxed) {
        udp::connected(target.v4)?;
        sent += 1;
        thread::sleep(Duration::from_millis(5));
    }
    say(&format!("sent {sent}"));
    Ok(())
}

/// Another thread changes the address while the call is under way.
fn race(target: &Target) -> Outcome {
    /// The first 16 bytes of a `sockaddr_in`, in words that two threads may write.
    static SHARED: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
    static STOP: AtomicBool = AtomicBool::new(false);
    let words = |address: SocketAddr| {
        let bytes = Address::new(address).bytes;
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        [word(0), word(4), word(8), word(12)]
    };
    let (one, other) = (words(target.v4), words(target.other4));
    for (shared, word) in SHARED.iter().zip(one) {
        shared.store(word, Ordering::Relaxed);
    }
    let racer = thread::spawn(move || {
        while !STOP.load(Ordering::Relaxed) {
            SHARED[1].store(other[1], Ordering::Relaxed);
            SHARED[1].store(one[1], Ordering::Relaxed);
        }
    });
    for _ in 0..target.number::<u32>(0)? {
        let fd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
        // SAFETY: the address has 16 bytes; the kernel copies it once, whatever the racer does.
        sys::check(unsafe { libc::connect(number, SHARED.as_ptr().cast(), 16) })?;
        sys::send(&fd, b"hello")?;
    }
    STOP.store(true, Ordering::Relaxed);
    racer.join().map_err(|_| "the racer panicked")?;
    Ok(())
}

fn line() -> io::Result<()> {
    io::stdin().lock().read_line(&mut String::new()).map(drop)
}

/// Waits until the monitor runs, then sends on a socket that is older.
fn older(target: &Target, fd: &OwnedFd, to: Option<SocketAddr>) -> Outcome {
    say(&format!("doer {} {} -", sys::pid(), target.v4.ip()));
    say("ready");
    line()?;
    let to = to.map(Address::new);
    sys::send_to(fd, b"hello", libc::MSG_NOSIGNAL, to.as_ref())?;
    thread::sleep(Duration::from_millis(200));
    Ok(())
}

fn older_udp_connected(target: &Target) -> Outcome {
    let fd = udp::open(target.v4)?;
    sys::connect(&fd, &Address::new(target.v4))?;
    older(target, &fd, None)
}

/// Open, but without a remote until later.
fn older_udp(target: &Target) -> Outcome {
    older(target, &udp::open(target.v4)?, Some(target.v4))
}

fn older_raw(target: &Target) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_RAW, raw::UNKNOWN)?;
    older(target, &fd, Some(SocketAddr::new(target.v4.ip(), 0)))
}

/// Listens since before; somebody connects now.
fn older_listener(target: &Target) -> Outcome {
    const PORT: u16 = 31_030;
    let fd = sys::socket(AF_INET, libc::SOCK_STREAM, 0)?;
    sys::bind(&fd, &Address::new(([0, 0, 0, 0], PORT).into()))?;
    sys::listen(&fd)?;
    say(&format!("doer {} {} -", sys::pid(), target.v4.ip()));
    say("ready");
    sys::send(&sys::accept(&fd)?, b"hello")?;
    Ok(())
}

/// A packet socket is open since before.
fn older_packet(_: &Target) -> Outcome {
    let _fd = sys::socket(AF_PACKET, SOCK_RAW, 0)?;
    say("ready");
    line()?;
    Ok(())
}

/// Only the process is older.
fn older_process(target: &Target) -> Outcome {
    say("ready");
    line()?;
    tcp::plain(target.v4)
}

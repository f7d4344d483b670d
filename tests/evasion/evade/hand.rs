//! Sockets that change hands, and processes that act for others.
//!
//! In: a target. Out: packets, and who opened and who used the socket.

use std::ffi::c_int;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use libc::{AF_INET, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, SOL_SOCKET};

use crate::sys::{self, Address, Message, Outcome, inherited, say, set_number};
use crate::{Act, Target, raw, tcp};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("passed-connected", |t| passed(t, connected_stream)),
    ("passed-connected-datagram", |t| {
        passed(t, connected_datagram)
    }),
    ("passed-unconnected", passed_unconnected),
    ("passed-raw", passed_raw),
    ("pidfd-stolen", pidfd_stolen),
    ("inherited", inherited_by_child),
    ("inherited-after-exec", inherited_after_exec),
    ("use-3", use_3),
    ("accepted", accepted),
    ("accepted-twice", accepted_twice),
    ("accepted-after-connect", accepted_after_connect),
    ("proxied", |t| proxied(t, Via::Loopback)),
    ("proxied-unix", |t| proxied(t, Via::Unix)),
    ("proxied-twice", proxied_twice),
];

const HELLO: &[u8] = b"hello";

/// Where the acts listen: outside on any address, for proxies on loopback.
const LISTEN: u16 = 31_020;

fn told(word: &str, target: &Target) {
    say(&format!("{word} {} {} -", sys::pid(), target.v4.ip()));
}

fn connected_stream(target: &Target) -> std::io::Result<OwnedFd> {
    tcp::open(target.v4)
}

fn connected_datagram(target: &Target) -> std::io::Result<OwnedFd> {
    let fd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
    sys::connect(&fd, &Address::new(target.v4))?;
    Ok(fd)
}

/// A pair of connected Unix sockets.
fn pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [c_int; 2] = [0; 2];
    // SAFETY: there is room for two descriptors.
    sys::check(unsafe { libc::socketpair(AF_UNIX, SOCK_DGRAM, 0, fds.as_mut_ptr()) })?;
    Ok((sys::owned(fds[0])?, sys::owned(fds[1])?))
}

fn pass(through: &OwnedFd, fd: &OwnedFd) -> Outcome {
    let number = fd.as_raw_fd().to_ne_bytes();
    let control = Some((SOL_SOCKET, libc::SCM_RIGHTS, number.as_slice()));
    Message::new(b"!", None, control).send(through, 0)?;
    Ok(())
}

fn take(through: &OwnedFd) -> Result<OwnedFd, Box<dyn std::error::Error + Send + Sync>> {
    // A message that asks for a descriptor has the shape of one that passes it.
    let nothing = [0; 4];
    let control = Some((SOL_SOCKET, libc::SCM_RIGHTS, nothing.as_slice()));
    let message = Message::new(b"?", None, control);
    let header = message.pointer().cast_mut();
    // SAFETY: the header points to places of the lengths that it says.
    sys::check(unsafe { libc::recvmsg(through.as_raw_fd(), header, 0) })?;
    // SAFETY: the kernel has filled in the control message.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: the first control message is within the header's buffer.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: there are at least four bytes.
    let number = unsafe { std::ptr::read_unaligned(data.cast::<c_int>()) };
    Ok(sys::owned(number)?)
}

/// One process opens and connects; another one, which never did, sends. The opener lives on.
fn passed(target: &Target, open: fn(&Target) -> std::io::Result<OwnedFd>) -> Outcome {
    let (here, there) = pair()?;
    let user = sys::fork(|| {
        let fd = take(&there)?;
        told("user", target);
        sys::send(&fd, HELLO)?;
        Ok(())
    })?;
    told("opener", target);
    let fd = open(target)?;
    pass(&here, &fd)?;
    sys::wait(user)
}

/// The user says whereto: it is the user's contact.
fn passed_unconnected(target: &Target) -> Outcome {
    let (here, there) = pair()?;
    let user = sys::fork(|| {
        let fd = take(&there)?;
        told("doer", target);
        sys::send_to(&fd, HELLO, 0, Some(&Address::new(target.v4)))?;
        Ok(())
    })?;
    let fd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
    pass(&here, &fd)?;
    sys::wait(user)
}

/// A raw socket, opened by who may, and used by who may not.
fn passed_raw(target: &Target) -> Outcome {
    let (here, there) = pair()?;
    let user = sys::fork(|| {
        let fd = take(&there)?;
        told("user", target);
        let address = Address::new(SocketAddr::new(target.v4.ip(), 0));
        sys::send_to(&fd, HELLO, 0, Some(&address))?;
        Ok(())
    })?;
    told("opener", target);
    let fd = sys::socket(AF_INET, SOCK_RAW, raw::UNKNOWN)?;
    pass(&here, &fd)?;
    sys::wait(user)
}

/// Takes a connected socket out of another process, which does not notice.
fn pidfd_stolen(target: &Target) -> Outcome {
    let (here, there) = pair()?;
    let victim = sys::fork(|| {
        told("opener", target);
        let fd = tcp::open(target.v4)?;
        sys::send(&there, &fd.as_raw_fd().to_ne_bytes())?;
        sys::receive(&there, &mut [0])?; // Until the thief is done.
        Ok(())
    })?;
    let mut number = [0; 4];
    sys::receive(&here, &mut number)?;
    let victim_pid = usize::try_from(victim)?;
    // SAFETY: no pointer is passed.
    let opened = unsafe { sys::call(libc::SYS_pidfd_open, [victim_pid, 0, 0, 0, 0]) };
    let pidfd = sys::owned(c_int::try_from(sys::supported("pidfd_open", opened)?)?)?;
    let wanted = usize::try_from(c_int::from_ne_bytes(number))?;
    let from = usize::try_from(pidfd.as_raw_fd())?;
    // SAFETY: no pointer is passed.
    let stolen = unsafe { sys::call(libc::SYS_pidfd_getfd, [from, wanted, 0, 0, 0]) };
    let stolen = sys::owned(c_int::try_from(sys::supported("pidfd_getfd", stolen)?)?)?;
    told("user", target);
    sys::send(&stolen, HELLO)?;
    sys::send(&here, b"!")?;
    sys::wait(victim)
}

/// The opener is gone when its child sends.
fn inherited_by_child(target: &Target) -> Outcome {
    let opener = sys::fork(|| {
        told("opener", target);
        let fd = tcp::open(target.v4)?;
        sys::fork(|| {
            sleep(Duration::from_millis(300));
            told("user", target);
            sys::send(&fd, HELLO)?;
            Ok(())
        })?;
        Ok(())
    })?;
    sys::wait(opener)
}

/// The same, and the child has become another program.
fn inherited_after_exec(target: &Target) -> Outcome {
    let opener = sys::fork(|| {
        told("opener", target);
        let fd = tcp::open(target.v4)?;
        sys::fork(|| {
            // SAFETY: the copy has no FD_CLOEXEC, and number 3 is nobody else's from here on.
            sys::check(unsafe { libc::dup2(fd.as_raw_fd(), 3) })?;
            if fd.as_raw_fd() == 3 {
                // SAFETY: no pointer is passed.
                sys::check(unsafe { libc::fcntl(3, libc::F_SETFD, 0) })?;
            }
            let argv = target.argv("use-3");
            let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
            Err(sys::exec(&std::env::current_exe()?, &args).into())
        })?;
        Ok(())
    })?;
    sys::wait(opener)
}

/// Sends on the socket that it was started with.
fn use_3(target: &Target) -> Outcome {
    sleep(Duration::from_millis(300));
    told("user", target);
    sys::send(&inherited(3), HELLO)?;
    Ok(())
}

fn listener(address: [u8; 4]) -> std::io::Result<OwnedFd> {
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    serve_on(&fd, address)?;
    Ok(fd)
}

fn serve_on(fd: &OwnedFd, address: [u8; 4]) -> std::io::Result<()> {
    set_number(fd, SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sys::bind(fd, &Address::new((address, LISTEN).into()))?;
    sys::listen(fd)
}

/// A server: it never asks for a remote, the remote asks for it.
fn accepted(_: &Target) -> Outcome {
    let listener = listener([0; 4])?;
    say("ready");
    sys::send(&sys::accept(&listener)?, HELLO)?;
    Ok(())
}

/// For two remotes.
fn accepted_twice(_: &Target) -> Outcome {
    let listener = listener([0; 4])?;
    say("ready");
    for _ in 0..2 {
        sys::send(&sys::accept(&listener)?, HELLO)?;
    }
    Ok(())
}

/// A socket that was a client before it became a server.
fn accepted_after_connect(target: &Target) -> Outcome {
    let fd = tcp::open(target.v4)?;
    sys::send(&fd, HELLO)?;
    sys::connect(&fd, &Address::raw(libc::AF_UNSPEC, &[0; 14]))?;
    serve_on(&fd, [0; 4])?;
    say("ready");
    sys::send(&sys::accept(&fd)?, HELLO)?;
    Ok(())
}

/// How client and proxy talk.
#[derive(Clone, Copy, PartialEq)]
enum Via {
    Loopback,
    Unix,
}

/// A client of a proxy of this host.
fn proxied(target: &Target, via: Via) -> Outcome {
    let listener = match via {
        Via::Loopback => listener([127, 0, 0, 1])?,
        Via::Unix => unix_listener()?,
    };
    let proxy = sys::fork(|| {
        told("doer", target);
        let client = sys::accept(&listener)?;
        let mut bytes = [0; 16];
        let got = sys::receive(&client, &mut bytes)?;
        sys::send(&tcp::open(target.v4)?, &bytes[..got])?;
        sys::send(&client, b"!")?;
        Ok(())
    })?;
    let client = sys::fork(|| {
        say(&format!("client {} {} -", sys::pid(), target.v4.ip()));
        let fd = match via {
            Via::Loopback => tcp::open(([127, 0, 0, 1], LISTEN).into())?,
            Via::Unix => unix_client()?,
        };
        sys::send(&fd, HELLO)?;
        sys::receive(&fd, &mut [0])?;
        Ok(())
    })?;
    sys::wait(client)?;
    sys::wait(proxy)
}

/// In the abstract namespace: no file is left.
fn unix_address() -> Address {
    Address::raw(AF_UNIX, b"\0evade-proxy")
}

fn unix_listener() -> std::io::Result<OwnedFd> {
    let fd = sys::socket(AF_UNIX, SOCK_STREAM, 0)?;
    sys::bind(&fd, &unix_address())?;
    sys::listen(&fd)?;
    Ok(fd)
}

fn unix_client() -> std::io::Result<OwnedFd> {
    let fd = sys::socket(AF_UNIX, SOCK_STREAM, 0)?;
    sys::connect(&fd, &unix_address())?;
    Ok(fd)
}

/// One proxy, two clients, two remotes: who is whose?
fn proxied_twice(target: &Target) -> Outcome {
    let listener = listener([127, 0, 0, 1])?;
    let proxy = sys::fork(|| {
        for address in [target.v4, target.other4] {
            say(&format!("doer {} {} -", sys::pid(), address.ip()));
            let client = sys::accept(&listener)?;
            sys::receive(&client, &mut [0; 16])?;
            sys::send(&tcp::open(address)?, HELLO)?;
            sys::send(&client, b"!")?;
        }
        Ok(())
    })?;
    for address in [target.v4, target.other4] {
        let client = sys::fork(|| {
            say(&format!("client {} {} -", sys::pid(), address.ip()));
            let fd = tcp::open(([127, 0, 0, 1], LISTEN).into())?;
            sys::send(&fd, HELLO)?;
            sys::receive(&fd, &mut [0])?;
            Ok(())
        })?;
        sys::wait(client)?;
    }
    sys::wait(proxy)
}

//! Other places: network, user, pid and time namespaces, and cgroups.
//!
//! In: a target, and for some acts the path of another network namespace that reaches it too.
//! Out: a connection from there.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libc::{AF_INET, SOCK_STREAM, c_int};

use crate::sys::{self, Address, Outcome, check, say};
use crate::{Act, Target, tcp, udp};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("setns", |t| {
        enter(Path::new(t.arg(0)?))?;
        tcp::plain(t.v4)
    }),
    ("setns-udp", |t| {
        enter(Path::new(t.arg(0)?))?;
        udp::send_to(t.v4)
    }),
    ("socket-of-other-netns", socket_of_other_netns),
    ("user-namespace", user_namespace),
    ("pid-namespace", |t| in_child(t, libc::CLONE_NEWPID)),
    ("time-namespace", time_namespace),
    ("cgroup-then-connect", cgroup_then_connect),
    ("socket-then-cgroup", socket_then_cgroup),
    ("cgroup-namespace", |t| {
        unshare(libc::CLONE_NEWCGROUP)?;
        tcp::plain(t.v4)
    }),
];

fn enter(namespace: &Path) -> io::Result<()> {
    let file = File::open(namespace)?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::setns(file.as_raw_fd(), 0) }).map(drop)
}

fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// A socket stays in the namespace that it was opened in.
fn socket_of_other_netns(target: &Target) -> Outcome {
    let home = File::open("/proc/self/ns/net")?;
    enter(Path::new(target.arg(0)?))?;
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::setns(home.as_raw_fd(), 0) })?;
    sys::connect(&fd, &Address::new(target.v4))?;
    sys::send(&fd, b"hello")?;
    Ok(())
}

/// Somebody else in a user namespace, on this network.
fn user_namespace(target: &Target) -> Outcome {
    sys::supported("user namespaces", unshare(libc::CLONE_NEWUSER))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", "0 0 1")?;
    tcp::plain(target.v4)
}

/// A child in a new namespace: it does not know the pid that others know it by.
fn in_child(target: &Target, flag: c_int) -> Outcome {
    sys::supported("the namespace", unshare(flag))?;
    let child = sys::fork(|| tcp::plain(target.v4))?;
    say(&format!("doer {child} {} -", target.v4.ip()));
    sys::wait(child)
}

/// A child for whom the host has been up for another day.
fn time_namespace(target: &Target) -> Outcome {
    const CLONE_NEWTIME: c_int = 0x80;
    sys::supported("time namespaces", unshare(CLONE_NEWTIME))?;
    fs::write("/proc/self/timens_offsets", "boottime 86400 0\n")?;
    let child = sys::fork(|| tcp::plain(target.v4))?;
    say(&format!("doer {child} {} -", target.v4.ip()));
    sys::wait(child)
}

/// The root of the cgroup-v2 hierarchy.
pub fn cgroup_root() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let found = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let path = mount.split(' ').nth(4)?;
        kind.starts_with("cgroup2 ").then(|| PathBuf::from(path))
    });
    Ok(found.unwrap_or_else(|| sys::unsupported("no cgroup-v2 hierarchy is mounted")))
}

/// A cgroup of this process's own, gone when it is dropped.
pub struct Cgroup {
    /// Its folder.
    pub path: PathBuf,
    before: PathBuf,
}

impl Cgroup {
    /// Makes it; nobody is in it yet.
    pub fn new() -> io::Result<Cgroup> {
        let root = cgroup_root()?;
        let path = root.join(format!("telltale-evade-{}", sys::pid()));
        fs::create_dir(&path)?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        let before = root.join(own.unwrap_or("/").trim_start_matches('/'));
        Ok(Cgroup { path, before })
    }

    /// Moves this process into it.
    pub fn enter(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), "0")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.before.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.path);
    }
}

/// From a cgroup of its own.
fn cgroup_then_connect(target: &Target) -> Outcome {
    let cgroup = Cgroup::new()?;
    cgroup.enter()?;
    tcp::plain(target.v4)
}

/// The socket still belongs to the cgroup that it was opened in.
fn socket_then_cgroup(target: &Target) -> Outcome {
    let cgroup = Cgroup::new()?;
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    cgroup.enter()?;
    sys::connect(&fd, &Address::new(target.v4))?;
    sys::send(&fd, b"hello")?;
    Ok(())
}

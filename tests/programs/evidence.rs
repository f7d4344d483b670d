//! What each kernel program must have said of the acts.
//!
//! In: the acts and the events. Out: nothing if the program said the truth, else what is missing.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;

use telltale::core::claim::Claim;
use telltale::core::event::{
    CgroupId, Direction, DnsMessage, Event, FlowEnded, FlowOpened, Hook, Outcome, ProcessExecuted,
    Protocol, SocketKind,
};

use crate::acts::{Acts, CHILD_ARGS, DNS_ANSWER, DNS_QUERY, EXIT_STATUS, GREETED, GREETING, REPLY};

type Check = fn(&Acts, &[Event]) -> Result<(), String>;

/// Errno of a refused connection.
const ECONNREFUSED: i32 = 111;

/// One check per program, in the loader's order.
pub const CHECKS: [(&str, Check); 16] = [
    ("process_fork", process_fork),
    ("process_exec", process_exec),
    ("process_exit", process_exit),
    ("sock_create", sock_create),
    ("sock_release", sock_release),
    ("socket_state", socket_state),
    ("connect4", |acts, events| {
        opened(acts, events, Hook::Connect, acts.tcp4, Protocol::Tcp)
    }),
    ("connect6", |acts, events| {
        opened(acts, events, Hook::Connect, acts.tcp6, Protocol::Tcp)
    }),
    ("sendmsg4", |acts, events| {
        opened(acts, events, Hook::Sendmsg, acts.udp4, Protocol::Udp)
    }),
    ("sendmsg6", |acts, events| {
        opened(acts, events, Hook::Sendmsg, acts.udp6, Protocol::Udp)
    }),
    ("packet_egress", |acts, events| {
        dns(acts, events, Direction::Egress, DNS_QUERY)?;
        claimed(acts, events, acts.tcp4)?;
        claimed(acts, events, acts.tcp6)?;
        echo(acts, events)
    }),
    ("packet_ingress", |acts, events| {
        dns(acts, events, Direction::Ingress, DNS_ANSWER)
    }),
    ("send_length", send_length),
    ("task_iter", task_iter),
    ("file_iter", file_iter),
    ("cgroup_mkdir", cgroup_mkdir),
];

/// An error that names the first fact that does not hold.
fn all(facts: &[(&str, bool)], event: &dyn std::fmt::Debug) -> Result<(), String> {
    match facts.iter().find(|(_, holds)| !holds) {
        Some((fact, _)) => Err(format!("wrong {fact}: {event:?}")),
        None => Ok(()),
    }
}

fn process_fork(acts: &Acts, events: &[Event]) -> Result<(), String> {
    let fork = events.iter().find_map(|event| match event {
        Event::ProcessForked(fork) if fork.process.tgid == acts.child => Some(fork),
        _ => None,
    });
    let fork = fork.ok_or("no record of the child")?;
    let after_parent = fork.process.start_ns > fork.parent.start_ns;
    all(
        &[
            ("parent", fork.parent.tgid == acts.pid),
            ("start", after_parent),
        ],
        fork,
    )
}

fn process_exec(acts: &Acts, events: &[Event]) -> Result<(), String> {
    let exec = execs(events).find(|exec| exec.process.tgid == acts.child && !exec.found);
    let exec = exec.ok_or("no record of the child's program")?;
    // As the flows of this process, whose cgroup a helper told and not a walk of structures.
    let cgroup = opens(events)
        .find(|open| open.process.tgid == acts.pid)
        .map(|open| open.cgroup);
    let facts = [
        ("parent", exec.parent.tgid == acts.pid),
        ("path", exec.exe == acts.child_exe.to_string_lossy()),
        (
            "inode",
            Some(exec.exe_file.inode) == fs::metadata(&acts.child_exe).ok().map(|it| it.ino()),
        ),
        ("argv", exec.args == CHILD_ARGS),
        ("uid", exec.uid == rustix::process::getuid().as_raw()),
        ("gid", exec.gid == rustix::process::getgid().as_raw()),
        ("cgroup", Some(exec.cgroup) == cgroup),
        (
            "mount namespace",
            u64::from(exec.mount_ns) == namespace("mnt"),
        ),
        (
            "network namespace",
            u64::from(exec.net_ns) == namespace("net"),
        ),
        (
            "kind",
            !exec.kernel_thread && !exec.exe_truncated && !exec.args_truncated,
        ),
    ];
    all(&facts, exec)
}

fn process_exit(acts: &Acts, events: &[Event]) -> Result<(), String> {
    let exit = events.iter().find_map(|event| match event {
        Event::ProcessExited(exit) if exit.process.tgid == acts.child => Some(exit),
        _ => None,
    });
    let exit = exit.ok_or("no record of the child's end")?;
    all(&[("status", exit.exit_code == EXIT_STATUS << 8)], exit)
}

fn task_iter(acts: &Acts, events: &[Event]) -> Result<(), String> {
    let found = execs(events).find(|exec| exec.process.tgid == acts.pid && exec.found);
    let found = found.ok_or("this process was not found")?;
    let threads = execs(events).any(|exec| exec.found && exec.kernel_thread);
    all(
        &[
            ("path", found.exe == acts.exe.to_string_lossy()),
            ("kernel threads", threads),
        ],
        found,
    )
}

/// The raw socket that was opened.
fn sock_create(acts: &Acts, events: &[Event]) -> Result<(), String> {
    let opened = events.iter().find_map(|event| match event {
        Event::SocketOpened(socket)
            if socket.process.tgid == acts.pid && socket.kind == SocketKind::Raw =>
        {
            Some(socket)
        }
        _ => None,
    });
    let opened = opened.ok_or("no record of the raw socket")?;
    let facts = [
        ("protocol", opened.protocol == 1),
        ("how it was seen", !opened.found),
    ];
    all(&facts, opened)
}

/// The packet socket that something was sent on.
fn send_length(acts: &Acts, events: &[Event]) -> Result<(), String> {
    // Others on the host may have packet sockets too.
    let opened = events.iter().find_map(|event| match event {
        Event::SocketOpened(socket)
            if socket.kind == SocketKind::Packet && socket.process.tgid == acts.pid =>
        {
            Some(socket)
        }
        _ => None,
    });
    let opened = opened.ok_or("no record of the packet socket")?;
    all(&[("how it was seen", !opened.found)], opened)
}

/// The echo request over the raw socket, which no call but the send itself announces.
fn echo(acts: &Acts, events: &[Event]) -> Result<(), String> {
    let open = opens(events).find(|open| open.remote.addr == acts.echoed);
    let open = open.ok_or("no record of the echo request")?;
    let facts = [
        ("process", open.process.tgid == acts.pid),
        ("hook", open.hook == Hook::Packet),
        ("protocol", open.remote.protocol == Protocol::Other(1)),
    ];
    all(&facts, open)
}

/// The name in the first bytes of a connection.
fn claimed(acts: &Acts, events: &[Event], addr: SocketAddr) -> Result<(), String> {
    let claimed = events.iter().find_map(|event| match event {
        Event::NameClaimed(claimed) if claimed.remote.addr == addr => Some(claimed.as_ref()),
        _ => None,
    });
    let claimed = claimed.ok_or_else(|| format!("no record of what was said to {addr}"))?;
    let facts = [
        ("process", claimed.process.tgid == acts.pid),
        (
            "name",
            matches!(&claimed.claim, Claim::Named(named) if &*named.text() == GREETED),
        ),
    ];
    all(&facts, claimed)
}

/// The cgroup that was made.
fn cgroup_mkdir(acts: &Acts, events: &[Event]) -> Result<(), String> {
    let (path, id) = &acts.cgroup;
    let made = events.iter().find_map(|event| match event {
        Event::CgroupMade(made) if made.cgroup == CgroupId(*id) => Some(made),
        _ => None,
    });
    let made = made.ok_or("no record of the cgroup")?;
    all(&[("path", made.path.as_ref() == Some(path))], made)
}

/// The connection that was there before the programs.
fn file_iter(acts: &Acts, events: &[Event]) -> Result<(), String> {
    let open = opens(events).find(|open| open.remote.addr == acts.older);
    let open = open.ok_or("no record of the older connection")?;
    let facts = [
        ("process", open.process.tgid == acts.pid),
        ("hook", open.hook == Hook::Found),
        ("protocol", open.remote.protocol == Protocol::Tcp),
    ];
    all(&facts, open)
}

fn opened(
    acts: &Acts,
    events: &[Event],
    hook: Hook,
    addr: SocketAddr,
    protocol: Protocol,
) -> Result<(), String> {
    let open = opens(events).find(|open| open.hook == hook && open.remote.addr == addr);
    let open = open.ok_or_else(|| format!("no record of {addr}"))?;
    let facts = [
        ("process", open.process.tgid == acts.pid),
        ("protocol", open.remote.protocol == protocol),
        ("uid", open.uid == rustix::process::getuid().as_raw()),
        ("cookie", open.cookie.0 != 0),
        ("cgroup", open.cgroup.0 != 0),
    ];
    all(&facts, open)
}

/// Both ends of a connection attempt: established and closed, and refused.
fn socket_state(acts: &Acts, events: &[Event]) -> Result<(), String> {
    for addr in [acts.tcp4, acts.tcp6] {
        let end = ended(acts, events, addr)?;
        let facts = [
            (
                "outcome",
                end.outcome == Outcome::Closed && end.established.is_some(),
            ),
            ("bytes", end.bytes_sent == GREETING.len() as u64),
            ("bytes received", end.bytes_received == REPLY.len() as u64),
            ("round-trip time", end.srtt_us.is_some()),
        ];
        all(&facts, end)?;
    }
    let end = ended(acts, events, acts.refused)?;
    all(
        &[(
            "outcome",
            end.outcome == Outcome::Failed(Some(ECONNREFUSED)),
        )],
        end,
    )
}

fn sock_release(acts: &Acts, events: &[Event]) -> Result<(), String> {
    let end = ended(acts, events, acts.resolver)?;
    all(&[("outcome", end.outcome == Outcome::Closed)], end)
}

fn dns(acts: &Acts, events: &[Event], way: Direction, payload: &[u8]) -> Result<(), String> {
    let message = events.iter().find_map(|event| match event {
        Event::DnsMessage(message) if message.payload == payload => Some(message.as_ref()),
        _ => None,
    });
    let message: &DnsMessage = message.ok_or("no record of the message")?;
    let facts = [
        ("process", message.process.tgid == acts.pid),
        ("resolver", message.resolver.addr == acts.resolver),
        ("direction", message.direction == way),
    ];
    all(&facts, message)
}

fn execs(events: &[Event]) -> impl Iterator<Item = &ProcessExecuted> {
    events.iter().filter_map(|event| match event {
        Event::ProcessExecuted(exec) => Some(exec.as_ref()),
        _ => None,
    })
}

fn opens(events: &[Event]) -> impl Iterator<Item = &FlowOpened> {
    events.iter().filter_map(|event| match event {
        Event::FlowOpened(open) => Some(open),
        _ => None,
    })
}

fn ended<'a>(acts: &Acts, events: &'a [Event], addr: SocketAddr) -> Result<&'a FlowEnded, String> {
    let end = events.iter().find_map(|event| match event {
        Event::FlowEnded(end) if end.remote.addr == addr => Some(end),
        _ => None,
    });
    let end = end.ok_or_else(|| format!("no record of the end of {addr}"))?;
    all(&[("process", end.process.tgid == acts.pid)], end)?;
    Ok(end)
}

/// Inode of a namespace of this process.
fn namespace(kind: &str) -> u64 {
    fs::metadata(format!("/proc/self/ns/{kind}")).map_or(0, |data| data.ino())
}

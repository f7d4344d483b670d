//! Streams of records that are made, not recorded: each shows the price of one way of life.
//!
//! In: nothing. Out: raw records, as the kernel and the drain write them.

use monitor_common::counter::{HOOK_CONNECT4, HOOK_DNS_EGRESS, HOOK_DNS_INGRESS};
use monitor_common::flow::{FlowCounters, FlowKey, ProcessKey, Remote};
use monitor_common::record::{
    self, CgroupHead, DnsHead, END_CLOSED, FLOW_FIRST, FlowCounted, FlowEnded, FlowOpened, Header,
    ProcessExecuted, ProcessExited, ProcessForked,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Repetitions of each stream: enough that one takes tens of milliseconds.
const COUNT: u32 = 20_000;
/// Distinct remotes of a stranger that connects again and again.
const REMOTES: u32 = 8;
/// A native Claude Code, as its installer lays it out; leaf first, as the kernel writes paths.
const TOOL_PATH: &[u8] = b"2.1.328\0versions\0claude\0share\0.local\0ci\0home\0";
const TOOL_HOST: &[u8] = b"\x03api\x09anthropic\x03com\0";
/// The cgroup of every process.
const CGROUP: u64 = 7;
const TOOL_IP: [u8; 4] = [192, 0, 2, 10];

/// Every stream, with its name.
pub fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    vec![
        ("connections of no tool", connections(stranger(), REMOTES)),
        ("connections of a tool, named", connections(tool(), 1)),
        ("fork, exec, connect, close, exit", short_lived()),
        ("drained counters", counted()),
        ("DNS queries and answers", resolved()),
    ]
}

/// Connections of Claude Code, in a unit of its own, to an endpoint of its manifest.
pub fn named_connections() -> Vec<Vec<u8>> {
    let path = b"/system.slice/runner-7@main.service";
    let mut made = whole(record::KIND_CGROUP_MADE, 0, |header| CgroupHead {
        header,
        cgroup_id: CGROUP,
        path_bytes: short(path.len()),
        ..CgroupHead::default()
    });
    made.extend(path);
    let mut records = connections(tool(), 1);
    records.insert(0, with_length(made));
    records
}

/// Two records each: opened and closed.
fn connections(mut records: Vec<Vec<u8>>, remotes: u32) -> Vec<Vec<u8>> {
    for number in 0..COUNT {
        let to = remote(number % remotes);
        records.push(opened(process(100), to, number));
        records.push(ended(process(100), to, number));
    }
    records
}

/// Five records each.
fn short_lived() -> Vec<Vec<u8>> {
    let mut records = stranger();
    for number in 0..COUNT / 4 {
        let child = process(1000 + number);
        let fork = ProcessKey {
            exec_id: 1,
            ..child
        };
        records.push(whole(record::KIND_PROCESS_FORKED, number, |header| {
            ProcessForked {
                header,
                process: fork,
                parent: process(100),
            }
        }));
        let args = format!("/usr/bin/curl\0-s\0https://host-{number}.test/path\0");
        records.push(executed(child, b"curl\0bin\0usr\0", args.as_bytes()));
        records.push(opened(child, remote(0), number));
        records.push(ended(child, remote(0), number));
        records.push(whole(record::KIND_PROCESS_EXITED, number, |header| {
            ProcessExited {
                header,
                process: child,
                ..ProcessExited::default()
            }
        }));
    }
    records
}

/// One record each: a thousand connections that nobody wanted one by one.
fn counted() -> Vec<Vec<u8>> {
    let delta = FlowCounters {
        connects: 1000,
        connects_unreported: 1000,
        ..FlowCounters::default()
    };
    let mut records = stranger();
    records.extend((0..COUNT).map(|number| {
        let flow = FlowKey {
            process: process(100),
            remote: remote(number % REMOTES),
        };
        whole(record::KIND_FLOW_COUNTED, number, |header| FlowCounted {
            header,
            flow,
            delta,
        })
    }));
    records
}

/// Two records each.
fn resolved() -> Vec<Vec<u8>> {
    let mut records = stranger();
    for number in 0..COUNT {
        let id = number.to_be_bytes();
        let id = [id[2], id[3]];
        records.push(dns(HOOK_DNS_EGRESS, number, &query(id)));
        records.push(dns(HOOK_DNS_INGRESS, number, &answer(id)));
    }
    records
}

/// A program that is no tool.
fn stranger() -> Vec<Vec<u8>> {
    vec![executed(
        process(100),
        b"python3.13\0bin\0usr\0",
        b"python3\0/srv/job/run.py\0--all\0",
    )]
}

/// A tool that has asked for the name of its API.
fn tool() -> Vec<Vec<u8>> {
    let id = [0, 1];
    vec![
        executed(process(100), TOOL_PATH, b"claude\0-p\0fix the build\0"),
        dns(HOOK_DNS_EGRESS, 0, &query(id)),
        dns(HOOK_DNS_INGRESS, 0, &answer(id)),
    ]
}

fn process(tgid: u32) -> ProcessKey {
    ProcessKey {
        start_ns: u64::from(tgid) * 1_000_000,
        tgid,
        exec_id: 2,
    }
}

fn remote(number: u32) -> Remote {
    let mut ip = TOOL_IP;
    ip[3] += number.to_le_bytes()[0];
    Remote {
        addr: Remote::v4_mapped(u32::from_ne_bytes(ip)),
        port: 443,
        protocol: 6,
        reserved: 0,
    }
}

fn executed(process: ProcessKey, path: &[u8], args: &[u8]) -> Vec<u8> {
    let mut bytes = whole(record::KIND_PROCESS_EXECUTED, 0, |header| ProcessExecuted {
        header,
        process,
        uid: 1000,
        gid: 1000,
        cgroup_id: CGROUP,
        exe_inode: 247_003,
        exe_device: 266_338_304,
        exe_links: 1,
        path_bytes: short(path.len()),
        args_bytes: short(args.len()),
        ..ProcessExecuted::default()
    });
    bytes.extend([path, args].concat());
    with_length(bytes)
}

fn opened(process: ProcessKey, remote: Remote, number: u32) -> Vec<u8> {
    whole(record::KIND_FLOW_OPENED, number, |header| FlowOpened {
        header,
        process,
        remote,
        cookie: u64::from(number) + 1,
        uid: 1000,
        tid: process.tgid,
        hook: HOOK_CONNECT4,
        flags: FLOW_FIRST,
        ..FlowOpened::default()
    })
}

fn ended(process: ProcessKey, remote: Remote, number: u32) -> Vec<u8> {
    whole(record::KIND_FLOW_ENDED, number, |header| FlowEnded {
        header,
        process,
        remote,
        cookie: u64::from(number) + 1,
        opened_ns: header.time_ns,
        established_ns: header.time_ns,
        bytes_sent: 1234,
        bytes_received: 5678,
        srtt_us: 300,
        outcome: END_CLOSED,
        ..FlowEnded::default()
    })
}

fn dns(hook: u32, number: u32, message: &[u8]) -> Vec<u8> {
    let resolver = Remote {
        port: 53,
        protocol: 17,
        ..remote(200)
    };
    let mut bytes = whole(record::KIND_DNS_MESSAGE, number, |header| DnsHead {
        header,
        process: process(100),
        remote: resolver,
        cookie: u64::from(number) + 1,
        hook,
        payload_bytes: short(message.len()),
        message_bytes: short(message.len()),
    });
    bytes.extend(message);
    with_length(bytes)
}

/// RFC 1035: header, one question of type A and class IN.
fn query(id: [u8; 2]) -> Vec<u8> {
    [
        &id,
        &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
        TOOL_HOST,
        &[0, 1, 0, 1],
    ]
    .concat()
}

/// The same with one address, whose owner is a pointer to the question.
fn answer(id: [u8; 2]) -> Vec<u8> {
    let head = [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4];
    [&id, &head[..], TOOL_HOST, &[0, 1, 0, 1], &record, &TOOL_IP].concat()
}

/// The bytes of a record that is stamped a microsecond after the one before.
fn whole<T: IntoBytes + Immutable>(
    kind: u32,
    number: u32,
    make: impl FnOnce(Header) -> T,
) -> Vec<u8> {
    let header = Header {
        time_ns: 1_000_000_000_000 + u64::from(number) * 1000,
        kind,
        bytes: 0,
    };
    with_length(make(header).as_bytes().to_vec())
}

/// Writes the record's length into its header.
fn with_length(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    if let Ok((header, _)) = Header::mut_from_prefix(&mut bytes) {
        header.bytes = length;
    }
    bytes
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or_default()
}

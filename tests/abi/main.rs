//! The kernel/user ABI as bytes: sizes, offsets, and what the decoder makes of anything else.
//!
//! In: records as the kernel side would write them, whole, cut and bent. Out: events or errors,
//! never a panic.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

use std::mem::{offset_of, size_of};

use monitor_common::counter::{self, COUNTERS};
use monitor_common::flow::{FlowCounters, FlowKey, ProcessKey, Remote};
use monitor_common::record::{
    self, CgroupHead, ContainerTold, DnsHead, FlowCounted, FlowEnded, FlowJoined, FlowOpened,
    FlowRedirected, Header, JobTold, KernelCounters, NameClaimed, NameResolved, OverBudget,
    ProcessExecuted, ProcessExited, ProcessForked, SampleHead, SelfChecked, SocketOpened,
};
use telltale::core::event::decode::DecodeError;
use telltale::core::event::{BootNs, Event, Hook, Outcome, Protocol};
use zerocopy::IntoBytes;

const PROCESS: ProcessKey = ProcessKey {
    start_ns: 0x1122_3344_5566_7788,
    tgid: 4242,
    exec_id: 3,
};

/// `203.0.113.10:443`, TCP.
const REMOTE: Remote = Remote {
    addr: Remote::v4_mapped(0xcb00_710a_u32.to_be()),
    port: 443,
    protocol: 6,
    reserved: 0,
};

fn header<T>(kind: u32, tail: usize) -> Header {
    let bytes = u32::try_from(size_of::<T>() + tail).unwrap();
    Header {
        time_ns: 1_000,
        kind,
        bytes,
    }
}

/// One valid record of each kind.
fn records() -> Vec<(u32, Vec<u8>)> {
    let path = b"claude\0bin\0usr\0";
    let args = b"claude\0-p\0hello\0";
    let executed = ProcessExecuted {
        header: header::<ProcessExecuted>(record::KIND_PROCESS_EXECUTED, path.len() + args.len()),
        process: PROCESS,
        path_bytes: u16::try_from(path.len()).unwrap(),
        args_bytes: u16::try_from(args.len()).unwrap(),
        ..ProcessExecuted::default()
    };
    let payload = [0_u8; 12];
    let dns = DnsHead {
        header: header::<DnsHead>(record::KIND_DNS_MESSAGE, payload.len()),
        process: PROCESS,
        remote: Remote {
            port: 53,
            protocol: 17,
            ..REMOTE
        },
        hook: counter::HOOK_DNS_INGRESS,
        payload_bytes: 12,
        message_bytes: 12,
        ..DnsHead::default()
    };
    let name = b"api.example";
    let claimed = NameClaimed {
        header: header::<NameClaimed>(record::KIND_NAME_CLAIMED, name.len()),
        process: PROCESS,
        remote: REMOTE,
        protocol: record::PROTOCOL_TLS,
        outcome: record::CLAIM_NAMED,
        name_bytes: 11,
        ..NameClaimed::default()
    };
    let counters = KernelCounters {
        header: header::<KernelCounters>(record::KIND_KERNEL_COUNTERS, 0),
        values: [7; COUNTERS as usize],
        astray: 0,
    };
    vec![
        (record::KIND_PROCESS_FORKED, forked().as_bytes().to_vec()),
        (
            record::KIND_PROCESS_EXECUTED,
            [executed.as_bytes(), path, args].concat(),
        ),
        (record::KIND_PROCESS_EXITED, exited().as_bytes().to_vec()),
        (record::KIND_FLOW_OPENED, opened().as_bytes().to_vec()),
        (record::KIND_FLOW_ENDED, ended().as_bytes().to_vec()),
        (
            record::KIND_DNS_MESSAGE,
            [dns.as_bytes(), &payload].concat(),
        ),
        (
            record::KIND_NAME_CLAIMED,
            [claimed.as_bytes(), name].concat(),
        ),
        (record::KIND_FLOW_COUNTED, counted().as_bytes().to_vec()),
        (record::KIND_KERNEL_COUNTERS, counters.as_bytes().to_vec()),
        (record::KIND_CGROUP_MADE, cgroup_made()),
        (record::KIND_CONTAINER_TOLD, container_told()),
        (record::KIND_JOB_TOLD, job_told()),
        (record::KIND_NAME_RESOLVED, name_resolved()),
    ]
}

fn cgroup_made() -> Vec<u8> {
    let path = b"/system.slice/web.service";
    let head = CgroupHead {
        header: header::<CgroupHead>(record::KIND_CGROUP_MADE, path.len()),
        cgroup_id: 7,
        path_bytes: u16::try_from(path.len()).unwrap(),
        ..CgroupHead::default()
    };
    [head.as_bytes(), path].concat()
}

fn container_told() -> Vec<u8> {
    let facts = b"name=web\0image=example:1\0";
    let head = ContainerTold {
        header: header::<ContainerTold>(record::KIND_CONTAINER_TOLD, facts.len()),
        cgroup_id: 7,
        facts_bytes: u16::try_from(facts.len()).unwrap(),
        ..ContainerTold::default()
    };
    [head.as_bytes(), facts].concat()
}

fn job_told() -> Vec<u8> {
    let facts = b"TF_BUILD=True\0";
    let head = JobTold {
        header: header::<JobTold>(record::KIND_JOB_TOLD, facts.len()),
        process: PROCESS,
        facts_bytes: u16::try_from(facts.len()).unwrap(),
        ..JobTold::default()
    };
    [head.as_bytes(), facts].concat()
}

fn name_resolved() -> Vec<u8> {
    let name = b"api.example";
    let head = NameResolved {
        header: header::<NameResolved>(record::KIND_NAME_RESOLVED, name.len()),
        addr: [7; 16],
        name_bytes: u16::try_from(name.len()).unwrap(),
        ..NameResolved::default()
    };
    [head.as_bytes(), name].concat()
}

fn forked() -> ProcessForked {
    let header = header::<ProcessForked>(record::KIND_PROCESS_FORKED, 0);
    ProcessForked {
        header,
        process: PROCESS,
        parent: ProcessKey { tgid: 1, ..PROCESS },
    }
}

fn exited() -> ProcessExited {
    let header = header::<ProcessExited>(record::KIND_PROCESS_EXITED, 0);
    ProcessExited {
        header,
        process: PROCESS,
        exit_code: 9,
        reserved: 0,
    }
}

fn opened() -> FlowOpened {
    FlowOpened {
        header: header::<FlowOpened>(record::KIND_FLOW_OPENED, 0),
        process: PROCESS,
        remote: REMOTE,
        cookie: 5,
        hook: counter::HOOK_CONNECT6,
        flags: record::FLOW_FIRST,
        ..FlowOpened::default()
    }
}

fn ended() -> FlowEnded {
    FlowEnded {
        header: header::<FlowEnded>(record::KIND_FLOW_ENDED, 0),
        process: PROCESS,
        remote: REMOTE,
        outcome: record::END_FAILED,
        errno: 111,
        ..FlowEnded::default()
    }
}

fn counted() -> FlowCounted {
    let header = header::<FlowCounted>(record::KIND_FLOW_COUNTED, 0);
    let flow = FlowKey {
        process: PROCESS,
        remote: REMOTE,
    };
    FlowCounted {
        header,
        flow,
        delta: FlowCounters {
            connects: 3,
            ..FlowCounters::default()
        },
    }
}

#[test]
fn sizes_are_those_of_version_6() {
    assert_eq!(
        monitor_common::ABI_VERSION,
        6,
        "a new version needs new figures here"
    );
    let sizes = [
        (size_of::<Header>(), 16),
        (size_of::<ProcessKey>(), 16),
        (size_of::<Remote>(), 24),
        (size_of::<FlowKey>(), 40),
        (size_of::<FlowCounters>(), 72),
        (size_of::<ProcessForked>(), 48),
        (size_of::<ProcessExecuted>(), 104),
        (size_of::<ProcessExited>(), 40),
        (size_of::<FlowOpened>(), 96),
        (size_of::<FlowEnded>(), 112),
        (size_of::<DnsHead>(), 72),
        (size_of::<SampleHead>(), 80),
        (size_of::<NameClaimed>(), 80),
        (size_of::<NameResolved>(), 40),
        (size_of::<FlowRedirected>(), 88),
        (size_of::<SocketOpened>(), 48),
        (size_of::<OverBudget>(), 40),
        (size_of::<FlowJoined>(), 56),
        (size_of::<SelfChecked>(), 40),
        (size_of::<FlowCounted>(), 128),
        (size_of::<KernelCounters>(), 24 + 8 * COUNTERS as usize),
    ];
    for (at, (found, expect)) in sizes.into_iter().enumerate() {
        assert_eq!(found, expect, "size number {at}");
    }
}

#[test]
fn offsets_are_those_of_version_1() {
    let offsets = [
        (offset_of!(Header, kind), 8),
        (offset_of!(Header, bytes), 12),
        (offset_of!(ProcessForked, parent), 32),
        (offset_of!(ProcessExecuted, cgroup_id), 48),
        (offset_of!(ProcessExecuted, uid), 80),
        (offset_of!(ProcessExecuted, path_bytes), 92),
        (offset_of!(FlowOpened, remote), 32),
        (offset_of!(FlowOpened, cookie), 56),
        (offset_of!(FlowOpened, flags), 92),
        (offset_of!(FlowEnded, outcome), 104),
        (offset_of!(DnsHead, payload_bytes), 68),
        (offset_of!(FlowCounted, delta), 56),
        (offset_of!(KernelCounters, values), 16),
    ];
    for (at, (found, expect)) in offsets.into_iter().enumerate() {
        assert_eq!(found, expect, "offset number {at}");
    }
}

#[test]
fn every_kind_decodes_to_its_event() {
    let kinds: Vec<&str> = records()
        .iter()
        .map(|(_, bytes)| Event::decode(bytes).unwrap().kind())
        .collect();
    let expect = [
        "process_forked",
        "process_executed",
        "process_exited",
        "flow_opened",
        "flow_ended",
        "dns_message",
        "name_claimed",
        "flow_counted",
        "kernel_counters",
        "cgroup_made",
        "container_told",
        "job_told",
        "name_resolved",
    ];
    assert_eq!(kinds, expect);
    assert!(
        records()
            .iter()
            .all(|(_, bytes)| Event::decode(bytes).unwrap().time() == BootNs(1_000))
    );
}

#[test]
fn an_executed_image_has_its_path_and_argv() {
    let Event::ProcessExecuted(event) = Event::decode(&records()[1].1).unwrap() else {
        panic!()
    };
    assert_eq!(event.process, PROCESS);
    assert_eq!(event.exe, "/usr/bin/claude");
    assert_eq!(event.args, ["claude", "-p", "hello"]);
}

#[test]
fn flows_have_plain_addresses_and_named_outcomes() {
    let Event::FlowOpened(event) = Event::decode(opened().as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!(event.remote.addr, "203.0.113.10:443".parse().unwrap());
    assert_eq!(event.remote.protocol, Protocol::Tcp);
    assert_eq!((event.hook, event.first), (Hook::Connect, true));
    let Event::FlowEnded(event) = Event::decode(ended().as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!(event.outcome, Outcome::Failed(Some(111)));
}

#[test]
fn unknown_kinds_and_values_are_errors() {
    for kind in [0, record::KIND_SAMPLE, 63, 127, u32::MAX] {
        let header = Header {
            time_ns: 1,
            kind,
            bytes: 16,
        };
        assert_eq!(
            Event::decode(header.as_bytes()),
            Err(DecodeError::UnknownKind(kind))
        );
    }
    let unknown = |bytes: &[u8]| Event::decode(bytes).unwrap_err().reason();
    let bent = FlowOpened {
        hook: counter::HOOKS,
        ..opened()
    };
    assert_eq!(unknown(bent.as_bytes()), "unknown_value");
    let bent = FlowEnded {
        outcome: 0,
        ..ended()
    };
    assert_eq!(unknown(bent.as_bytes()), "unknown_value");
}

#[test]
fn a_record_cut_anywhere_is_an_error() {
    for (kind, bytes) in records() {
        for length in 0..bytes.len() {
            let error = Event::decode(&bytes[..length]);
            assert!(error.is_err(), "kind {kind} cut to {length} gave {error:?}");
        }
    }
}

/// Every byte of every record, replaced by each of a few values: an event or an error, no panic.
#[test]
fn a_bent_record_never_panics() {
    for (_, bytes) in records() {
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bent = bytes.clone();
                bent[at] = value;
                let _ = Event::decode(&bent);
            }
        }
    }
}

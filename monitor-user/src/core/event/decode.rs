//! Bytes of a record → [`Event`]. Parse, do not validate: past this file nothing is raw.
//!
//! In: one record as `monitor_common::record` lays it out. Out: an [`Event`], or a
//! [`DecodeError`] that is counted and never stops the line.

use std::net::IpAddr;

use monitor_common::counter;
use monitor_common::program::PROGRAMS;
use monitor_common::record::{self, Header};
use zerocopy::FromBytes;

use super::{
    BootNs, CgroupId, CgroupMade, ContainerTold, Direction, DnsMessage, Event, ExeFile,
    FlowCounted, FlowEnded, FlowJoined, FlowOpened, FlowRedirected, Hook, JobTold, KernelCounters,
    NameClaimed, NameResolved, Outcome, OverBudget, ProcessExecuted, ProcessExited, ProcessForked,
    Resumed, SelfChecked, SocketCookie, SocketKind, SocketOpened,
};
use crate::core::claim;
use crate::core::wire::HostName;

/// Why a record could not be used. The `reason` label of `telltale_decode_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the kind needs.
    #[error("record of kind {kind} has {got} bytes, {want} wanted")]
    TooShort {
        /// Kind in the header; 0 if there is no whole header.
        kind: u32,
        /// Bytes there.
        got: usize,
        /// Bytes wanted.
        want: usize,
    },
    /// A length field points outside the record.
    #[error("record of kind {kind} has a tail of {tail} bytes but says {said}")]
    TailMismatch {
        /// Kind in the header.
        kind: u32,
        /// Bytes after the fixed fields.
        tail: usize,
        /// What its length fields add up to.
        said: usize,
    },
    /// A kind that this build does not know.
    #[error("record of unknown kind {0}")]
    UnknownKind(u32),
    /// A field holds a value that this build does not know.
    #[error("record of kind {kind} has {field} {value}")]
    UnknownValue {
        /// Kind in the header.
        kind: u32,
        /// Which field.
        field: &'static str,
        /// The value.
        value: u32,
    },
}

impl DecodeError {
    /// Short name for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            DecodeError::TooShort { .. } => "too_short",
            DecodeError::TailMismatch { .. } => "tail_mismatch",
            DecodeError::UnknownKind(_) => "unknown_kind",
            DecodeError::UnknownValue { .. } => "unknown_value",
        }
    }
}

impl Event {
    /// Decodes one record.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are not a record of a known kind. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
        let (header, _) = prefix::<Header>(0, bytes)?;
        let time = BootNs(header.time_ns);
        match header.kind {
            record::KIND_PROCESS_FORKED => decode_forked(time, bytes),
            record::KIND_PROCESS_EXECUTED => decode_executed(time, bytes),
            record::KIND_PROCESS_EXITED => decode_exited(time, bytes),
            record::KIND_FLOW_OPENED => decode_opened(time, bytes),
            record::KIND_FLOW_ENDED => decode_ended(time, bytes),
            record::KIND_FLOW_REDIRECTED => decode_redirected(time, bytes),
            record::KIND_SOCKET_OPENED => decode_socket(time, bytes),
            record::KIND_OVER_BUDGET => decode_over_budget(time, bytes),
            record::KIND_FLOW_JOINED => decode_joined(time, bytes),
            record::KIND_DNS_MESSAGE => decode_dns(time, bytes),
            record::KIND_NAME_CLAIMED => decode_claim(time, bytes),
            record::KIND_FLOW_COUNTED => decode_counted(time, bytes),
            record::KIND_KERNEL_COUNTERS => decode_counters(time, bytes),
            record::KIND_SELF_CHECKED => decode_self_checked(time, bytes),
            record::KIND_RESUMED => decode_resumed(time, bytes),
            record::KIND_CGROUP_MADE => decode_cgroup(time, bytes),
            record::KIND_CONTAINER_TOLD => decode_container(time, bytes),
            record::KIND_JOB_TOLD => decode_job(time, bytes),
            record::KIND_NAME_RESOLVED => decode_resolved(time, bytes),
            other => Err(DecodeError::UnknownKind(other)),
        }
    }
}

/// Splits a `T` off the front of a record.
fn prefix<T: FromBytes>(kind: u32, bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(bytes).map_err(|_| DecodeError::TooShort {
        kind,
        got: bytes.len(),
        want: size_of::<T>(),
    })
}

fn decode_forked(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::ProcessForked>(record::KIND_PROCESS_FORKED, bytes)?;
    Ok(Event::ProcessForked(ProcessForked {
        time,
        process: raw.process,
        parent: raw.parent,
    }))
}

fn decode_executed(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_PROCESS_EXECUTED;
    let (raw, tail) = prefix::<record::ProcessExecuted>(kind, bytes)?;
    let [path, args, script, version] = parts(
        kind,
        tail,
        [
            raw.path_bytes,
            raw.args_bytes,
            raw.script_bytes,
            raw.version_bytes,
        ],
    )?;
    let text =
        |bytes: &[u8]| (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned());
    let flag = |bit: u32| raw.flags & bit != 0;
    let exe_truncated = flag(record::EXEC_PATH_TRUNCATED);
    Ok(Event::ProcessExecuted(Box::new(ProcessExecuted {
        time,
        process: raw.process,
        parent: raw.parent,
        cgroup: CgroupId(raw.cgroup_id),
        uid: raw.uid,
        gid: raw.gid,
        exe: path_from_components(path, exe_truncated),
        exe_file: ExeFile {
            device: raw.exe_device,
            inode: raw.exe_inode,
            links: raw.exe_links,
        },
        args: args_from_bytes(args),
        script: text(script),
        package_version: text(version),
        exe_truncated,
        args_truncated: flag(record::EXEC_ARGS_TRUNCATED | record::EXEC_ARGS_UNREADABLE),
        found: flag(record::EXEC_FOUND),
        kernel_thread: flag(record::EXEC_KERNEL_THREAD),
        mount_ns: raw.mount_ns,
        net_ns: raw.net_ns,
    })))
}

/// Splits a tail into its parts, which are of these lengths.
fn parts<const N: usize>(
    kind: u32,
    tail: &[u8],
    lengths: [u16; N],
) -> Result<[&[u8]; N], DecodeError> {
    let lengths = lengths.map(usize::from);
    let mismatch = DecodeError::TailMismatch {
        kind,
        tail: tail.len(),
        said: lengths.iter().sum(),
    };
    let (mut parts, mut rest) = ([tail; N], tail);
    for (part, length) in parts.iter_mut().zip(lengths) {
        (*part, rest) = rest.split_at_checked(length).ok_or(mismatch)?;
    }
    Ok(parts)
}

fn decode_cgroup(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_CGROUP_MADE;
    let (raw, tail) = prefix::<record::CgroupHead>(kind, bytes)?;
    let [path] = parts(kind, tail, [raw.path_bytes])?;
    let path = (!path.is_empty()).then(|| String::from_utf8_lossy(path).into_owned());
    Ok(Event::CgroupMade(CgroupMade {
        time,
        cgroup: CgroupId(raw.cgroup_id),
        path,
    }))
}

fn decode_container(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_CONTAINER_TOLD;
    let (raw, tail) = prefix::<record::ContainerTold>(kind, bytes)?;
    let [facts] = parts(kind, tail, [raw.facts_bytes])?;
    Ok(Event::ContainerTold(ContainerTold {
        time,
        cgroup: CgroupId(raw.cgroup_id),
        facts: pairs(facts),
    }))
}

fn decode_job(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_JOB_TOLD;
    let (raw, tail) = prefix::<record::JobTold>(kind, bytes)?;
    let [variables] = parts(kind, tail, [raw.facts_bytes])?;
    Ok(Event::JobTold(JobTold {
        time,
        process: raw.process,
        variables: pairs(variables),
    }))
}

/// `b"name=web\0image=example:1\0"`. What has no `=` is left out.
fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
    let pair = |pair: &[u8]| {
        let text = String::from_utf8_lossy(pair);
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    bytes.split(|&byte| byte == 0).filter_map(pair).collect()
}

/// `b"node\0bin\0usr\0"` → `/usr/bin/node`; `…/` in front if the root end is missing.
fn path_from_components(bytes: &[u8], truncated: bool) -> String {
    let mut path = String::with_capacity(bytes.len() + 4);
    if truncated {
        path.push('…');
    }
    let components = bytes
        .split(|&byte| byte == 0)
        .filter(|component| !component.is_empty());
    for component in components.collect::<Vec<_>>().into_iter().rev() {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(component));
    }
    path
}

/// argv from its NUL-separated form. Empty arguments in the middle are kept.
fn args_from_bytes(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|&byte| byte == 0)
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect()
}

fn decode_exited(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::ProcessExited>(record::KIND_PROCESS_EXITED, bytes)?;
    let exit_code = raw.exit_code;
    Ok(Event::ProcessExited(ProcessExited {
        time,
        process: raw.process,
        exit_code,
    }))
}

fn decode_opened(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_FLOW_OPENED;
    let (raw, _) = prefix::<record::FlowOpened>(kind, bytes)?;
    let hook = match raw.hook {
        counter::HOOK_CONNECT4 | counter::HOOK_CONNECT6 => Hook::Connect,
        counter::HOOK_SENDMSG4 | counter::HOOK_SENDMSG6 => Hook::Sendmsg,
        counter::HOOK_WIRE if raw.flags & record::FLOW_ACCEPTED != 0 => Hook::Accepted,
        counter::HOOK_WIRE if raw.flags & record::FLOW_FOUND != 0 => Hook::Found,
        counter::HOOK_WIRE => Hook::Packet,
        value => {
            return Err(DecodeError::UnknownValue {
                kind,
                field: "hook",
                value,
            });
        }
    };
    Ok(Event::FlowOpened(FlowOpened {
        time,
        process: raw.process,
        remote: raw.remote.into(),
        cookie: SocketCookie(raw.cookie),
        cgroup: CgroupId(raw.cgroup_id),
        uid: raw.uid,
        tid: raw.tid,
        hook,
        first: raw.flags & record::FLOW_FIRST != 0,
    }))
}

fn decode_ended(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_FLOW_ENDED;
    let (raw, _) = prefix::<record::FlowEnded>(kind, bytes)?;
    let outcome = match raw.outcome {
        record::END_CLOSED => Outcome::Closed,
        record::END_FAILED => Outcome::Failed((raw.errno != 0).then_some(raw.errno)),
        record::END_NEVER_SENT => Outcome::NeverSent,
        value => {
            return Err(DecodeError::UnknownValue {
                kind,
                field: "outcome",
                value,
            });
        }
    };
    Ok(Event::FlowEnded(FlowEnded {
        time,
        process: raw.process,
        remote: raw.remote.into(),
        cookie: SocketCookie(raw.cookie),
        opened: BootNs(raw.opened_ns),
        established: (raw.established_ns != 0).then_some(BootNs(raw.established_ns)),
        outcome,
        bytes_sent: raw.bytes_sent,
        bytes_received: raw.bytes_received,
        srtt_us: (raw.srtt_us != 0).then_some(raw.srtt_us),
        retransmits: raw.retransmits,
    }))
}

fn decode_redirected(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::FlowRedirected>(record::KIND_FLOW_REDIRECTED, bytes)?;
    Ok(Event::FlowRedirected(FlowRedirected {
        time,
        process: raw.process,
        asked: raw.asked.into(),
        wire: raw.wire.into(),
        cookie: SocketCookie(raw.cookie),
    }))
}

fn decode_socket(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::SocketOpened>(record::KIND_SOCKET_OPENED, bytes)?;
    Ok(Event::SocketOpened(SocketOpened {
        time,
        process: raw.process,
        kind: SocketKind::from_numbers(raw.family, raw.socket_type),
        protocol: raw.protocol,
        found: raw.flags & record::FLOW_FOUND != 0,
    }))
}

fn decode_over_budget(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::OverBudget>(record::KIND_OVER_BUDGET, bytes)?;
    let (process, refused) = (raw.process, raw.refused);
    Ok(Event::OverBudget(OverBudget {
        time,
        process,
        refused,
    }))
}

fn decode_joined(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::FlowJoined>(record::KIND_FLOW_JOINED, bytes)?;
    Ok(Event::FlowJoined(FlowJoined {
        time,
        client: raw.client,
        server: raw.server,
        cookie: SocketCookie(raw.cookie),
    }))
}

fn decode_dns(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_DNS_MESSAGE;
    let (raw, tail) = prefix::<record::DnsHead>(kind, bytes)?;
    let said = usize::from(raw.payload_bytes);
    let payload = tail.get(..said).ok_or(DecodeError::TailMismatch {
        kind,
        tail: tail.len(),
        said,
    })?;
    let direction = match raw.hook {
        counter::HOOK_DNS_EGRESS => Direction::Egress,
        counter::HOOK_DNS_INGRESS => Direction::Ingress,
        value => {
            return Err(DecodeError::UnknownValue {
                kind,
                field: "hook",
                value,
            });
        }
    };
    Ok(Event::DnsMessage(Box::new(DnsMessage {
        time,
        process: raw.process,
        resolver: raw.remote.into(),
        cookie: SocketCookie(raw.cookie),
        direction,
        payload: payload.to_vec(),
        truncated: raw.message_bytes > raw.payload_bytes,
    })))
}

fn decode_claim(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_NAME_CLAIMED;
    let (raw, tail) = prefix::<record::NameClaimed>(kind, bytes)?;
    let [name] = parts(kind, tail, [raw.name_bytes])?;
    Ok(Event::NameClaimed(Box::new(NameClaimed {
        time,
        process: raw.process,
        remote: raw.remote.into(),
        cookie: SocketCookie(raw.cookie),
        claim: claim::decode(&raw, name).map_err(|(field, value)| DecodeError::UnknownValue {
            kind,
            field,
            value,
        })?,
    })))
}

fn decode_resolved(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_NAME_RESOLVED;
    let (raw, tail) = prefix::<record::NameResolved>(kind, bytes)?;
    let [name] = parts(kind, tail, [raw.name_bytes])?;
    let name = HostName::from_text(name).map_err(|_| DecodeError::UnknownValue {
        kind,
        field: "name",
        value: 0,
    })?;
    Ok(Event::NameResolved(NameResolved {
        time,
        name: name.into(),
        ip: IpAddr::from(raw.addr).to_canonical(),
    }))
}

fn decode_counted(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::FlowCounted>(record::KIND_FLOW_COUNTED, bytes)?;
    let (process, remote) = (raw.flow.process, raw.flow.remote.into());
    Ok(Event::FlowCounted(FlowCounted {
        time,
        process,
        remote,
        delta: raw.delta,
    }))
}

fn decode_counters(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::KernelCounters>(record::KIND_KERNEL_COUNTERS, bytes)?;
    Ok(Event::KernelCounters(Box::new(KernelCounters {
        time,
        values: raw.values,
        astray: raw.astray,
    })))
}

fn decode_self_checked(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::SelfChecked>(record::KIND_SELF_CHECKED, bytes)?;
    let programs = || PROGRAMS.iter().enumerate();
    let has = |mask: u64, place: usize| mask >> place & 1 == 1;
    let allowed = programs().filter(|(place, _)| !has(raw.missing, *place));
    let missing = programs().filter(|(place, _)| has(raw.missing, *place));
    Ok(Event::SelfChecked(Box::new(SelfChecked {
        time,
        attached: allowed
            .map(|(place, name)| (*name, has(raw.attached, place)))
            .collect(),
        canary: (raw.canary_ns != 0).then_some(BootNs(raw.canary_ns)),
        missing: missing.map(|(_, name)| *name).collect(),
        unpinned: raw.missing & record::MISSING_PINS != 0,
    })))
}

fn decode_resumed(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::Resumed>(record::KIND_RESUMED, bytes)?;
    Ok(Event::Resumed(Box::new(Resumed {
        time,
        from: BootNs(raw.from_ns),
        recovered: raw.recovered,
        unread: raw.unread,
        untold: raw.untold,
        discarded: raw.discarded,
        before: raw.before,
        after: raw.after,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn executed(path: &[u8], args: &[u8], flags: u32) -> Vec<u8> {
        let raw = record::ProcessExecuted {
            header: Header {
                time_ns: 7,
                kind: record::KIND_PROCESS_EXECUTED,
                bytes: 0,
            },
            flags,
            path_bytes: u16::try_from(path.len()).unwrap(),
            args_bytes: u16::try_from(args.len()).unwrap(),
            ..record::ProcessExecuted::default()
        };
        [raw.as_bytes(), path, args].concat()
    }

    #[track_caller]
    fn check_executed(bytes: &[u8], exe: &str, args: &[&str]) {
        let Ok(Event::ProcessExecuted(event)) = Event::decode(bytes) else {
            panic!("not an exec: {:?}", Event::decode(bytes));
        };
        assert_eq!(event.exe, exe);
        assert_eq!(event.args, args);
    }

    #[test]
    fn exec_path_is_put_in_order_and_args_are_split() {
        check_executed(
            &executed(b"node\0bin\0usr\0", b"node\0\0cli.js\0", 0),
            "/usr/bin/node",
            &["node", "", "cli.js"],
        );
        check_executed(&executed(b"x\0", b"", 0), "/x", &[]);
        check_executed(
            &executed(b"a\0b\0", b"a", record::EXEC_PATH_TRUNCATED),
            "…/b/a",
            &["a"],
        );
        check_executed(
            &executed(b"\xff\0", b"\xff\0", 0),
            "/\u{fffd}",
            &["\u{fffd}"],
        );
    }

    #[test]
    fn what_was_found_of_the_script_follows_argv() {
        #[track_caller]
        fn check(script: &[u8], version: &[u8], expect: (Option<&str>, Option<&str>)) {
            let bytes = executed(b"node\0bin\0", b"node\0/bin/gemini\0", 0);
            let (mut raw, tail) = prefix::<record::ProcessExecuted>(2, &bytes).unwrap();
            raw.script_bytes = u16::try_from(script.len()).unwrap();
            raw.version_bytes = u16::try_from(version.len()).unwrap();
            let bytes = [raw.as_bytes(), tail, script, version].concat();
            check_executed(&bytes, "/bin/node", &["node", "/bin/gemini"]);
            let Ok(Event::ProcessExecuted(event)) = Event::decode(&bytes) else {
                unreachable!()
            };
            let found = (event.script.as_deref(), event.package_version.as_deref());
            assert_eq!(found, expect);
            // Without its last byte, a length lies; a byte more is no part of it.
            let cut = Event::decode(&bytes[..bytes.len() - 1]);
            assert!(matches!(cut, Err(DecodeError::TailMismatch { .. })));
            assert_eq!(
                Event::decode(&[&*bytes, b"!"].concat()),
                Event::decode(&bytes)
            );
        }
        check(b"", b"", (None, None));
        check(b"/lib/gemini.js", b"", (Some("/lib/gemini.js"), None));
        check(b"", b"0.61.0", (None, Some("0.61.0")));
        check(b"/a", b"1\xff", (Some("/a"), Some("1\u{fffd}")));
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let mut bytes = executed(b"node\0", b"node\0", 0);
        bytes.truncate(bytes.len() - 1);
        assert!(matches!(
            Event::decode(&bytes),
            Err(DecodeError::TailMismatch { .. })
        ));
        assert!(matches!(
            Event::decode(&bytes[..40]),
            Err(DecodeError::TooShort { .. })
        ));
        assert!(matches!(
            Event::decode(&[]),
            Err(DecodeError::TooShort { .. })
        ));
    }

    #[test]
    fn unknown_kinds_and_values_are_errors() {
        let header = Header {
            time_ns: 0,
            kind: 9_999,
            bytes: 16,
        };
        assert_eq!(
            Event::decode(header.as_bytes()),
            Err(DecodeError::UnknownKind(9_999))
        );
        let raw = record::FlowEnded {
            header: Header {
                kind: record::KIND_FLOW_ENDED,
                ..Header::default()
            },
            outcome: 77,
            ..record::FlowEnded::default()
        };
        let error = Event::decode(raw.as_bytes()).unwrap_err();
        assert_eq!(error.reason(), "unknown_value");
    }

    #[test]
    fn no_prefix_of_a_record_panics() {
        let full = executed(b"node\0bin\0", b"node\0x\0", 0);
        for kind in 0..80u32 {
            for len in 0..full.len() {
                let mut bytes = full[..len].to_vec();
                if len >= 12 {
                    bytes[8..12].copy_from_slice(&kind.to_le_bytes());
                }
                let _ = Event::decode(&bytes);
            }
        }
    }
}

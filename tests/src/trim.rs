//! Makes a golden case of a recording: small, and of no particular machine.
//!
//! In: what `telltale run --record` wrote while a job ran. Out: the records of the job and of all
//! that descends from it, under a host's name and a boot that never were. Ticks stay: they are
//! the time that passed. The kernel's books go: they count the whole host.

use std::collections::BTreeSet;

use monitor_common::flow::ProcessKey;
use monitor_common::record::{
    DnsHead, Header, KIND_DNS_MESSAGE, KIND_KERNEL_COUNTERS, KIND_PROCESS_EXECUTED,
    KIND_PROCESS_FORKED, ProcessExecuted, ProcessForked,
};
use serde_json::{Value, json};
use zerocopy::{FromBytes, IntoBytes};

/// The program that runs a job.
pub const SHELL: &str = "/usr/bin/bash";

/// How the kernel side writes the path of [`SHELL`]: the leaf first.
const SHELL_PATH: &[u8] = b"bash\0bin\0usr\0";

/// Trims a recording to the job with this pid, from the moment on that it is a [`SHELL`].
///
/// # Panics
///
/// If it is no recording, or the job is not in it.
#[must_use]
pub fn trim(recording: &str, job: u32) -> String {
    let mut lines = recording.lines();
    let mut header: Value = serde_json::from_str(lines.next().expect("a header")).expect("JSON");
    header["host"] = json!("build-7");
    header["boot_id"] = json!("7d0a1f6e-0000-4000-8000-000000000001");
    let mut trimmed = format!("{header}\n");
    let mut family = Family::default();
    for line in lines {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        let Some(hex) = entry["hex"].as_str() else {
            if family.has_begun() {
                trimmed.push_str(line);
                trimmed.push('\n');
            }
            continue;
        };
        let record = bytes(hex);
        if family.has(&record, job) {
            let (now, record) = (&entry["now_ns"], digits(&cut(record)));
            trimmed.push_str(&format!("{{\"now_ns\":{now},\"hex\":\"{record}\"}}\n"));
        }
    }
    assert!(family.has_begun(), "pid {job} ran no {SHELL}");
    trimmed
}

/// The job and its descendants, by start time and pid.
#[derive(Default)]
struct Family(BTreeSet<(u64, u32)>);

impl Family {
    fn has_begun(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether a record belongs to it. The record may found the family, or add to it.
    fn has(&mut self, record: &[u8], job: u32) -> bool {
        let (header, rest) = Header::read_from_prefix(record).expect("a record");
        if header.kind == KIND_KERNEL_COUNTERS {
            return false;
        }
        let (process, _) = ProcessKey::read_from_prefix(rest).expect("a record of a process");
        match header.kind {
            KIND_PROCESS_FORKED => {
                let (fork, _) = ProcessForked::read_from_prefix(record).expect("a fork");
                let mine = self.0.contains(&id(fork.parent));
                if mine {
                    self.0.insert(id(process));
                }
                mine
            }
            KIND_PROCESS_EXECUTED if !self.has_begun() && process.tgid == job => {
                let (_, path) = ProcessExecuted::read_from_prefix(record).expect("an exec");
                path.starts_with(SHELL_PATH) && self.0.insert(id(process))
            }
            _ => self.0.contains(&id(process)),
        }
    }
}

fn id(process: ProcessKey) -> (u64, u32) {
    (process.start_ns, process.tgid)
}

/// A DNS message's record is as long as the longest one. What is behind its payload says nothing.
fn cut(mut record: Vec<u8>) -> Vec<u8> {
    let (mut head, _) = DnsHead::read_from_prefix(&record).unwrap_or_default();
    if head.header.kind == KIND_DNS_MESSAGE {
        record.truncate(size_of::<DnsHead>() + usize::from(head.payload_bytes));
        head.header.bytes = u32::try_from(record.len()).expect("a short record");
        record[..size_of::<DnsHead>()].copy_from_slice(head.as_bytes());
    }
    record
}

fn digits(record: &[u8]) -> String {
    record.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

//! Names of remote addresses, as evidence: each with a source, an age, and whose query it was.
//!
//! In: DNS messages with the process that sent or received them. Out: for an address and a
//! process, the names that may be meant, best first.

use std::sync::Arc;

use monitor_common::flow::ProcessKey;

use super::event::BootNs;

/// One name of one address.
#[derive(Clone, Debug, PartialEq)]
pub struct NameEvidence {
    /// Canonical: lower case, no trailing dot, A-labels.
    pub name: Arc<str>,
    /// Where it comes from.
    pub source: NameSource,
    /// When it was last learned.
    pub learned: BootNs,
    /// The process that asked.
    pub asked_by: ProcessKey,
}

/// Where a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameSource {
    /// A resolver's answer to this process's own query.
    DnsOwn,
    /// A resolver's answer to another process of this host.
    DnsShared,
    /// The catalog lists the address itself.
    ManifestIp,
}

impl NameSource {
    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NameSource::DnsOwn => "dns-own",
            NameSource::DnsShared => "dns-shared",
            NameSource::ManifestIp => "manifest-ip",
        }
    }
}

// STUB, replaced by the names branch.
use super::event::DnsMessage;
use super::report::{DnsOutcome, Limit};
use std::net::IpAddr;

/// Stub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameLimits;
/// Stub.
pub struct Observed {
    /// Stub.
    pub outcome: DnsOutcome,
    /// Stub.
    pub limited: Option<Limit>,
}
/// Stub.
#[derive(Debug, Default)]
pub struct NameTable(Vec<(IpAddr, NameEvidence)>);
impl NameTable {
    /// Stub.
    #[must_use]
    pub fn new(_: NameLimits) -> Self {
        NameTable::default()
    }
    /// Stub: payload is `ip name`.
    pub fn observe(&mut self, m: &DnsMessage) -> Observed {
        for record in simple_dns::Packet::parse(&m.payload).iter().flat_map(|p| p.answers.iter()) {
            let ip: IpAddr = match &record.rdata {
                simple_dns::rdata::RData::A(a) => std::net::Ipv4Addr::from(a.address).into(),
                simple_dns::rdata::RData::AAAA(a) => std::net::Ipv6Addr::from(a.address).into(),
                _ => continue,
            };
            let evidence = NameEvidence { name: record.name.to_string().into(), source: NameSource::DnsOwn, learned: m.time, asked_by: m.process };
            self.0.push((ip, evidence));
        }
        Observed {
            outcome: if m.direction == super::event::Direction::Egress { DnsOutcome::Query } else { DnsOutcome::Answer },
            limited: None,
        }
    }
    /// Stub.
    #[must_use]
    pub fn lookup(&self, process: ProcessKey, ip: IpAddr, _: BootNs) -> Vec<NameEvidence> {
        let mut found: Vec<_> = self
            .0
            .iter()
            .filter(|(at, _)| *at == ip)
            .map(|(_, e)| {
                let source = if e.asked_by == process {
                    NameSource::DnsOwn
                } else {
                    NameSource::DnsShared
                };
                NameEvidence {
                    source,
                    ..e.clone()
                }
            })
            .collect();
        found.sort_by_key(|e| e.source);
        found
    }
    /// Stub.
    pub fn process_gone(&mut self, _: ProcessKey, _: BootNs) {}
    /// Stub.
    pub fn sweep(&mut self, _: BootNs) {}
}

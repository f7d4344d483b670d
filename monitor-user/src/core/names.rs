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

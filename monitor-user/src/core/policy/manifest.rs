//! What follows from the catalog alone: whether a tool's manifest lists where its flow goes.
//!
//! In: a flow and its names. Out: a [`Judgement`] without any rule of the operator's.

use std::net::IpAddr;

use super::FlowFacts;
use super::facts::Known;
use super::judgement::{Judgement, Verdict, rule};
use crate::core::attribute::Attribution;
use crate::core::catalog::{Catalog, ManifestEndpoint, Tool};
use crate::core::names::{NameEvidence, NameSource};

/// A flow of a tool.
pub(super) fn judge_member(
    catalog: &Catalog,
    flow: &FlowFacts<'_>,
    member: &Attribution,
    known: &Known<'_>,
) -> Judgement {
    if flow.served {
        return judge_served(flow, &member.tool);
    }
    if let Some(local) = judge_local(flow) {
        return local;
    }
    match listed(catalog, flow, member) {
        Some((endpoint, fact, source)) => judge_listed(endpoint, fact, doubt(flow, member, source)),
        None => Judgement {
            purpose: known.purpose(),
            ..judge_unlisted(flow, &member.tool, known)
        },
    }
}

/// A flow of a process that belongs to no known tool; `None` if it reaches no AI provider.
pub(super) fn judge_stranger(flow: &FlowFacts<'_>, known: &Known<'_>) -> Option<Judgement> {
    let (host, provider) = (&flow.name?.name, known.provider?);
    let (vendor, purpose) = (&provider.vendor, &provider.purpose);
    let why = format!("{host} is {vendor}'s ({purpose}), and the program is no known AI tool");
    let rule = rule::AI_ENDPOINT_BY_UNKNOWN_PROGRAM;
    Some(Judgement::new(Verdict::Undeclared, rule, why).for_purpose(purpose))
}

/// The entry of the tool's manifest that a flow fits, a clause that says so, and what ties the two.
fn listed<'a>(
    catalog: &'a Catalog,
    flow: &FlowFacts<'_>,
    member: &Attribution,
) -> Option<(&'a ManifestEndpoint, String, NameSource)> {
    let (tool, version) = (&member.tool, member.version.as_deref());
    let by_name = |name: &NameEvidence| {
        let endpoint = catalog.endpoint(tool, &name.name, version)?;
        Some((endpoint, name.name.to_string(), name.source))
    };
    let by_address = || {
        let ip = flow.remote.addr.ip();
        let endpoint = catalog.endpoint_ip(tool, ip, version)?;
        Some((endpoint, ip.to_string(), NameSource::ManifestIp))
    };
    let (endpoint, what, source) = flow.name.and_then(by_name).or_else(by_address)?;
    let (tool, purpose, how) = (&tool.name, &endpoint.purpose, how_known(source));
    let fact = format!("{what} is in {tool}'s manifest ({purpose}), {how}");
    Some((endpoint, fact, source))
}

/// A tool's answer to a peer that connected to it.
fn judge_served(flow: &FlowFacts<'_>, tool: &Tool) -> Judgement {
    let ip = flow.remote.addr.ip();
    if ip.is_loopback() {
        return loopback(ip);
    }
    let why = format!("{ip} connected to {}, not the other way round", tool.name);
    Judgement::new(Verdict::Served, rule::SERVED, why)
}

/// A flow that stays on this host or goes to its resolver. An address of this host that has a
/// name is judged by the name, which says what the process meant to reach.
fn judge_local(flow: &FlowFacts<'_>) -> Option<Judgement> {
    let ip = flow.remote.addr.ip();
    let here = ip.is_loopback() || ip.is_unspecified();
    if flow.to_resolver {
        Some(local(ip, "dns", "a resolver of this host"))
    } else {
        (here && flow.name.is_none()).then(|| loopback(ip))
    }
}

fn loopback(ip: IpAddr) -> Judgement {
    local(ip, "loopback", "this host itself")
}

fn local(ip: IpAddr, purpose: &str, what: &str) -> Judgement {
    let why = format!("{ip} is {what}");
    Judgement::new(Verdict::Local, rule::LOCAL, why).for_purpose(&purpose.into())
}

/// Why a process that is attributed to a tool may be another program after all. Such a process
/// does not profit from the tool's manifest.
fn doubt(flow: &FlowFacts<'_>, member: &Attribution, source: NameSource) -> Option<String> {
    if !flow.exact {
        Some("the record of the process's last exec was lost".to_owned())
    } else if !member.trusted {
        Some(format!(
            "only its name says that it is {}",
            member.tool.name
        ))
    } else if !source.is_backed() && !flow.vouched {
        Some("nobody else says so".to_owned())
    } else {
        None
    }
}

/// A flow to an endpoint that the manifest lists, as `fact` says.
fn judge_listed(endpoint: &ManifestEndpoint, fact: String, doubt: Option<String>) -> Judgement {
    let (verdict, why) = match (doubt, &endpoint.switch) {
        (Some(doubt), _) => (Verdict::ExpectedUnverified, format!("{fact}; but {doubt}")),
        (None, _) if !endpoint.optional => (Verdict::Expected, fact),
        (None, Some(switch)) => (Verdict::Optional, format!("{fact}; {switch} turns it off")),
        (None, None) => (Verdict::Optional, format!("{fact}; it is optional")),
    };
    Judgement::new(verdict, rule::MANIFEST, why).for_purpose(&endpoint.purpose)
}

/// A flow to an endpoint that the manifest does not list. An address that a known service is
/// reached at has no need of a name.
fn judge_unlisted(flow: &FlowFacts<'_>, tool: &Tool, known: &Known<'_>) -> Judgement {
    let tool = &tool.name;
    if let Some(NameEvidence { name, source, .. }) = flow.name {
        let why = format!("{name} is not in {tool}'s manifest; {}", how_known(*source));
        Judgement::new(Verdict::Undeclared, rule::UNEXPECTED_ENDPOINT, why)
    } else if let Some(service) = known.service {
        let (ip, service) = (flow.remote.addr.ip(), &service.name);
        let why = format!("{ip} is {service}'s, and is not in {tool}'s manifest");
        Judgement::new(Verdict::Undeclared, rule::UNEXPECTED_ENDPOINT, why)
    } else {
        let ip = flow.remote.addr.ip();
        let why = format!("{ip} has no known name, and is not in {tool}'s manifest");
        Judgement::new(Verdict::Unknown, rule::UNNAMED_ENDPOINT, why)
    }
}

fn how_known(source: NameSource) -> &'static str {
    match source {
        NameSource::DnsOwn => "resolved by the process's own DNS query",
        NameSource::DnsShared => "resolved by another process's DNS query",
        NameSource::Resolved => "resolved by this host's resolver",
        NameSource::DnsUntrusted => "resolved by a resolver that is not this host's",
        NameSource::Sni => "named in the process's TLS hello",
        NameSource::QuicSni => "named in the process's QUIC hello",
        NameSource::HttpHost => "named in the process's HTTP request",
        NameSource::HttpConnect => "asked of an HTTP proxy",
        NameSource::Socks => "asked of a SOCKS proxy",
        NameSource::ManifestIp => "listed by address",
    }
}

//! What the policy says of a flow or of a process's presence.
//!
//! In: who, to whom, under which names. Out: a [`Judgement`]: verdict, rule, purpose and why.

use std::net::IpAddr;
use std::sync::Arc;

use super::attribute::Attribution;
use super::catalog::{Catalog, ManifestEndpoint, Provider, Tool};
use super::event::Endpoint;
use super::names::{NameEvidence, NameSource};
use super::report::ProcessView;

/// The verdict on a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// In the tool's manifest, under a name that a resolver's answer backs.
    Expected,
    /// In the manifest, but only the client's own claim says so.
    ExpectedUnverified,
    /// In the manifest as something that can be switched off.
    Optional,
    /// Named, and not in the manifest.
    Undeclared,
    /// Forbidden by a rule.
    Denied,
    /// An AI tool's flow to an address without a name.
    Unknown,
    /// It stays on this host, or goes to its configured resolver.
    Local,
    /// Not a flow of an AI tool, nor to an AI endpoint.
    NotJudged,
}

impl Verdict {
    /// All verdicts, for metrics that must exist at zero.
    pub const ALL: [Verdict; 8] = [
        Verdict::Expected,
        Verdict::ExpectedUnverified,
        Verdict::Optional,
        Verdict::Undeclared,
        Verdict::Denied,
        Verdict::Unknown,
        Verdict::Local,
        Verdict::NotJudged,
    ];

    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Expected => "expected",
            Verdict::ExpectedUnverified => "expected-unverified",
            Verdict::Optional => "optional",
            Verdict::Undeclared => "undeclared",
            Verdict::Denied => "denied",
            Verdict::Unknown => "unknown",
            Verdict::Local => "local",
            Verdict::NotJudged => "not-judged",
        }
    }
}

/// What the policy says, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that decided, one of [`rule`].
    pub rule: &'static str,
    /// What the endpoint is for, where the catalog says so: `api`, `telemetry`, …
    pub purpose: Option<Arc<str>>,
    /// One sentence for a person.
    pub why: Arc<str>,
}

/// The rules that a [`Judgement`] can name.
pub mod rule {
    /// The process belongs to a banned tool, or reaches a banned tool's provider.
    pub const BANNED_TOOL: &str = "banned-tool";
    /// The tool's manifest lists the endpoint.
    pub const MANIFEST: &str = "manifest";
    /// The endpoint has a name, and the tool's manifest does not list it.
    pub const UNEXPECTED_ENDPOINT: &str = "unexpected-endpoint";
    /// The endpoint has no known name, and the tool's manifest does not list its address.
    pub const UNNAMED_ENDPOINT: &str = "unnamed-endpoint";
    /// A program that is no known AI tool reaches an AI provider.
    pub const AI_ENDPOINT_BY_UNKNOWN_PROGRAM: &str = "ai-endpoint-by-unknown-program";
    /// It stays on this host, or goes to its resolver.
    pub const LOCAL: &str = "local";
    /// No rule concerns it.
    pub const NONE: &str = "none";
}

/// What the operator wants: `[policy]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyConfig {
    /// Ids of tools that must not run: `claude-code`.
    pub banned: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The catalog has no tool of this id.
    #[error("[policy] banned: the catalog has no tool `{id}`{}", remedy(near))]
    UnknownTool {
        /// What the policy says.
        id: String,
        /// Ids that look like it, nearest first.
        near: Vec<Arc<str>>,
    },
}

/// What is judged of a flow.
#[derive(Clone, Copy, Debug)]
pub struct FlowFacts<'a> {
    /// Who opened it.
    pub process: &'a ProcessView,
    /// `process` is the very image that opened the flow. If not, it is the last known image of
    /// that process, because the record of a later exec was lost.
    pub exact: bool,
    /// To whom.
    pub remote: Endpoint,
    /// The remote is port 53 of a resolver that this host is configured to use.
    pub to_resolver: bool,
    /// Names of the remote, best first.
    pub names: &'a [NameEvidence],
}

impl<'a> FlowFacts<'a> {
    /// The names that count: those that the process itself asked for; only where it asked for
    /// none, those that others did. Many hosts share an address, and what another process calls
    /// it neither excuses nor accuses a process that asked for something else.
    fn names(&self) -> impl Iterator<Item = &'a NameEvidence> {
        let best = self.names.first().map(|name| name.source);
        self.names
            .iter()
            .take_while(move |name| Some(name.source) == best)
    }
}

/// The rules, ready to judge.
#[derive(Clone, Debug)]
pub struct Policy {
    banned: Vec<Arc<Tool>>,
    /// What is said of most processes and flows of a host: made once.
    not_judged: Judgement,
}

impl Policy {
    /// The policy that `config` asks for.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] if it names a tool that `catalog` does not have.
    pub fn new(config: &PolicyConfig, catalog: &Catalog) -> Result<Policy, PolicyError> {
        let find = |id: &String| {
            let unknown = || PolicyError::UnknownTool {
                id: id.clone(),
                near: near(id, catalog),
            };
            catalog.tool(id).cloned().ok_or_else(unknown)
        };
        let banned = config.banned.iter().map(find).collect::<Result<_, _>>()?;
        let not_judged = Judgement {
            verdict: Verdict::NotJudged,
            rule: rule::NONE,
            purpose: None,
            why: "no rule concerns it".into(),
        };
        Ok(Policy { banned, not_judged })
    }

    /// Whether the tool must not run.
    #[must_use]
    pub fn bans(&self, tool: &Tool) -> bool {
        self.banned.iter().any(|banned| banned.id == tool.id)
    }

    /// What the presence of a process means, whatever it does.
    #[must_use]
    pub fn judge_presence(&self, process: &ProcessView) -> Judgement {
        match &process.tool {
            Some(member) if self.bans(&member.tool) => banned(member),
            _ => self.not_judged.clone(),
        }
    }

    /// What a flow means.
    #[must_use]
    pub fn judge_flow(&self, catalog: &Catalog, flow: &FlowFacts<'_>) -> Judgement {
        match &flow.process.tool {
            Some(member) if self.bans(&member.tool) => banned(member),
            Some(member) => judge_member(catalog, flow, member),
            None => self.judge_stranger(catalog, flow),
        }
    }

    /// A flow of a process that belongs to no known tool: judged if it reaches an AI provider.
    fn judge_stranger(&self, catalog: &Catalog, flow: &FlowFacts<'_>) -> Judgement {
        let provided =
            |name: &NameEvidence| Some((name.name.clone(), catalog.provider(&name.name)?));
        let Some((host, provider)) = flow.names().find_map(provided) else {
            return self.not_judged.clone();
        };
        let whose = format!("{host} is {}'s ({})", provider.vendor, provider.purpose);
        let (verdict, rule, why) = match self.banned_product(&provider) {
            Some(tool) => {
                let why = format!("{whose}, whose {} is banned", tool.name);
                (Verdict::Denied, rule::BANNED_TOOL, why)
            }
            None => {
                let why = format!("{whose}, and the program is no known AI tool");
                (
                    Verdict::Undeclared,
                    rule::AI_ENDPOINT_BY_UNKNOWN_PROGRAM,
                    why,
                )
            }
        };
        Judgement {
            verdict,
            rule,
            purpose: Some(provider.purpose),
            why: why.into(),
        }
    }

    /// The banned tool that a provider serves, or that is of its vendor.
    fn banned_product(&self, provider: &Provider) -> Option<&Arc<Tool>> {
        self.banned
            .iter()
            .find(|tool| tool.id == provider.owner || tool.vendor == provider.vendor)
    }
}

/// A process of a banned tool, whatever it does. One that merely bears the tool's name counts:
/// a ban is not escaped by an unusual place of installation.
fn banned(member: &Attribution) -> Judgement {
    let evidence = member
        .evidence
        .first()
        .map_or("?", |evidence| evidence.kind());
    let (tool, role) = (&member.tool.name, member.role.name());
    Judgement {
        verdict: Verdict::Denied,
        rule: rule::BANNED_TOOL,
        purpose: None,
        why: format!("{tool} is banned, and this is its {role} (evidence: {evidence})").into(),
    }
}

/// A flow of a tool that is not banned.
fn judge_member(catalog: &Catalog, flow: &FlowFacts<'_>, member: &Attribution) -> Judgement {
    let (tool, version) = (&member.tool, member.version.as_deref());
    let ip = flow.remote.addr.ip();
    if let Some(purpose) = local_purpose(flow) {
        return local(ip, purpose);
    }
    let by_name = flow.names().find_map(|name| {
        let endpoint = catalog.endpoint(tool, &name.name, version)?;
        Some(in_manifest(
            flow,
            member,
            endpoint,
            &name.name,
            how_known(name.source),
        ))
    });
    let by_address = || {
        let endpoint = catalog.endpoint_ip(tool, ip, version)?;
        let how = how_known(NameSource::ManifestIp);
        Some(in_manifest(flow, member, endpoint, &ip.to_string(), how))
    };
    by_name
        .or_else(by_address)
        .unwrap_or_else(|| not_in_manifest(flow, tool))
}

/// What a flow is for that stays on this host or goes to its resolver. An address of this host
/// that has a name is judged by the name: the name says what the process meant to reach.
fn local_purpose(flow: &FlowFacts<'_>) -> Option<&'static str> {
    let ip = flow.remote.addr.ip();
    let here = ip.is_loopback() || ip.is_unspecified();
    if flow.to_resolver {
        Some("dns")
    } else {
        (here && flow.names.is_empty()).then_some("loopback")
    }
}

fn local(ip: IpAddr, purpose: &str) -> Judgement {
    let what = if purpose == "dns" {
        "a resolver of this host"
    } else {
        "this host itself"
    };
    Judgement {
        verdict: Verdict::Local,
        rule: rule::LOCAL,
        purpose: Some(purpose.into()),
        why: format!("{ip} is {what}").into(),
    }
}

/// The manifest lists `what`. Only a process that certainly is the tool profits from that.
fn in_manifest(
    flow: &FlowFacts<'_>,
    member: &Attribution,
    endpoint: &ManifestEndpoint,
    what: &str,
    how: &str,
) -> Judgement {
    let (tool, purpose) = (&member.tool.name, &endpoint.purpose);
    let (verdict, remark) = if !flow.exact {
        (
            Verdict::ExpectedUnverified,
            "; but the record of the process's last exec was lost".into(),
        )
    } else if !member.trusted {
        (
            Verdict::ExpectedUnverified,
            format!("; but only its name says that it is {tool}"),
        )
    } else if endpoint.optional {
        let switch = endpoint.switch.as_deref();
        let off = switch.map(|switch| format!("; {switch} turns it off"));
        (Verdict::Optional, off.unwrap_or_default())
    } else {
        (Verdict::Expected, String::new())
    };
    Judgement {
        verdict,
        rule: rule::MANIFEST,
        purpose: Some(Arc::clone(purpose)),
        why: format!("{what} is in {tool}'s manifest ({purpose}), {how}{remark}").into(),
    }
}

fn how_known(source: NameSource) -> &'static str {
    match source {
        NameSource::DnsOwn => "resolved by the process's own DNS query",
        NameSource::DnsShared => "resolved by another process's DNS query",
        NameSource::ManifestIp => "listed by address",
    }
}

fn not_in_manifest(flow: &FlowFacts<'_>, tool: &Tool) -> Judgement {
    let tool = &tool.name;
    let (verdict, rule, why) = match flow.names.first() {
        Some(NameEvidence { name, source, .. }) => {
            let why = format!(
                "{name} is not in {tool}'s manifest ({})",
                how_known(*source)
            );
            (Verdict::Undeclared, rule::UNEXPECTED_ENDPOINT, why)
        }
        None => {
            let ip = flow.remote.addr.ip();
            let why = format!("{ip} has no known name, and is not in {tool}'s manifest");
            (Verdict::Unknown, rule::UNNAMED_ENDPOINT, why)
        }
    };
    Judgement {
        verdict,
        rule,
        purpose: None,
        why: why.into(),
    }
}

/// At most this many ids are suggested for an unknown one.
const SUGGESTIONS_MAX: usize = 3;

/// How alike (Jaro-Winkler, 0 to 1) an id must be to be suggested. At 0.8, `claude` and
/// `cluade-code` find `claude-code`, and unrelated ids stay out.
const ALIKE_MIN: f64 = 0.8;

/// Ids of the catalog that one may have meant by `id`, the most alike first.
fn near(id: &str, catalog: &Catalog) -> Vec<Arc<str>> {
    let mut near: Vec<_> = catalog
        .tools()
        .map(|tool| (strsim::jaro_winkler(id, &tool.id), Arc::clone(&tool.id)))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .collect();
    near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    near.into_iter()
        .map(|(_, known)| known)
        .take(SUGGESTIONS_MAX)
        .collect()
}

fn remedy(near: &[Arc<str>]) -> String {
    if near.is_empty() {
        return "; `telltale catalog list` shows all".to_owned();
    }
    format!("; did you mean `{}`?", near.join("`, `"))
}

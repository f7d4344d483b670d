//! What the policy says of a flow or of a process's presence.
//!
//! In: who, to whom, under which names. Out: a [`Judgement`]: verdict, rule, purpose and why.

use std::net::IpAddr;
use std::sync::Arc;

use super::attribute::{Attribution, Evidence};
use super::catalog::{Catalog, ManifestEndpoint, Provider, Tool};
use super::event::Endpoint;
use super::names::{NameEvidence, NameSource};
use super::report::{Origin, ProcessView};

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
    /// An AI tool answers a peer that connected to it.
    Served,
    /// Not a flow of an AI tool, nor to an AI endpoint.
    NotJudged,
}

impl Verdict {
    /// All verdicts, for metrics that must exist at zero.
    pub const ALL: [Verdict; 9] = [
        Verdict::Expected,
        Verdict::ExpectedUnverified,
        Verdict::Optional,
        Verdict::Undeclared,
        Verdict::Denied,
        Verdict::Unknown,
        Verdict::Local,
        Verdict::Served,
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
            Verdict::Served => "served",
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

impl Judgement {
    fn new(verdict: Verdict, rule: &'static str, why: String) -> Judgement {
        let (purpose, why) = (None, why.into());
        Judgement {
            verdict,
            rule,
            purpose,
            why,
        }
    }

    fn for_purpose(self, purpose: &Arc<str>) -> Judgement {
        let purpose = Some(Arc::clone(purpose));
        Judgement { purpose, ..self }
    }
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
    /// A peer connected to the process: no contact of its own choosing.
    pub const SERVED: &str = "served";
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
    /// The remote connected to the process, not the process to it.
    pub served: bool,
    /// What the remote is called, by [`meant_first`].
    pub name: Option<&'a NameEvidence>,
}

/// Brings the name to the front that `process` means by its flow: of those that count, the first
/// that the catalog knows for such a process, if it knows any.
///
/// Those count that the process itself asked for; only where it asked for none, those that
/// others did. Many hosts share an address, and what another process calls it neither excuses
/// nor accuses a process that asked for something else.
pub fn meant_first(catalog: &Catalog, process: &ProcessView, names: &mut [NameEvidence]) {
    let best = names.first().map(|name| name.source);
    let known = |name: &NameEvidence| match process.tool.as_deref() {
        Some(Attribution { tool, version, .. }) => catalog
            .endpoint(tool, &name.name, version.as_deref())
            .is_some(),
        None => catalog.provider(&name.name).is_some(),
    };
    let mut counting = names.iter().take_while(|name| Some(name.source) == best);
    if let Some(place) = counting.position(known) {
        names[..=place].rotate_right(1);
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
                near: catalog.near(id),
            };
            catalog.tool(id).cloned().ok_or_else(unknown)
        };
        let banned = config.banned.iter().map(find).collect::<Result<_, _>>()?;
        let why = "no rule concerns it".to_owned();
        let not_judged = Judgement::new(Verdict::NotJudged, rule::NONE, why);
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
            Some(member) if flow.served => judge_served(flow, &member.tool),
            Some(member) => judge_member(catalog, flow, member),
            // What others serve is nobody's business. The kernel answers late packets of sockets
            // that are gone, whose remote then says nothing of who reached it.
            None if flow.served || flow.process.origin == Origin::Kernel => self.not_judged.clone(),
            None => self.judge_stranger(catalog, flow),
        }
    }

    /// A flow of a process that belongs to no known tool: judged if it reaches an AI provider.
    fn judge_stranger(&self, catalog: &Catalog, flow: &FlowFacts<'_>) -> Judgement {
        let provided = flow
            .name
            .map(|name| (&name.name, catalog.provider(&name.name)));
        let Some((host, Some(provider))) = provided else {
            return self.not_judged.clone();
        };
        let whose = format!("{host} is {}'s ({})", provider.vendor, provider.purpose);
        let judgement = if let Some(tool) = self.banned_product(&provider) {
            let why = format!("{whose}, whose {} is banned", tool.name);
            Judgement::new(Verdict::Denied, rule::BANNED_TOOL, why)
        } else {
            let why = format!("{whose}, and the program is no known AI tool");
            Judgement::new(
                Verdict::Undeclared,
                rule::AI_ENDPOINT_BY_UNKNOWN_PROGRAM,
                why,
            )
        };
        judgement.for_purpose(&provider.purpose)
    }

    /// The banned tool that a provider serves, or that is of its vendor.
    fn banned_product(&self, provider: &Provider) -> Option<&Arc<Tool>> {
        let serves =
            |tool: &&Arc<Tool>| tool.id == provider.owner || tool.vendor == provider.vendor;
        self.banned.iter().find(serves)
    }
}

/// A process of a banned tool, whatever it does. One that merely bears the tool's name counts:
/// a ban is not escaped by an unusual place of installation.
fn banned(member: &Attribution) -> Judgement {
    let (tool, role) = (&member.tool.name, member.role.name());
    let evidence = member.evidence.first().map_or("none", Evidence::kind);
    let why = format!("{tool} is banned; the process belongs to it as {role}, evidence {evidence}");
    Judgement::new(Verdict::Denied, rule::BANNED_TOOL, why)
}

/// A flow of a tool that is not banned.
fn judge_member(catalog: &Catalog, flow: &FlowFacts<'_>, member: &Attribution) -> Judgement {
    if let Some(local) = judge_local(flow) {
        return local;
    }
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
    match flow.name.and_then(by_name).or_else(by_address) {
        Some((endpoint, what, source)) => {
            let (tool, purpose, how) = (&tool.name, &endpoint.purpose, how_known(source));
            let fact = format!("{what} is in {tool}'s manifest ({purpose}), {how}");
            judge_listed(endpoint, fact, doubt(flow, member))
        }
        None => judge_unlisted(flow, tool),
    }
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
fn doubt(flow: &FlowFacts<'_>, member: &Attribution) -> Option<String> {
    if !flow.exact {
        Some("the record of the process's last exec was lost".to_owned())
    } else if !member.trusted {
        Some(format!(
            "only its name says that it is {}",
            member.tool.name
        ))
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

/// A flow to an endpoint that the manifest does not list.
fn judge_unlisted(flow: &FlowFacts<'_>, tool: &Tool) -> Judgement {
    let tool = &tool.name;
    if let Some(NameEvidence { name, source, .. }) = flow.name {
        let why = format!("{name} is not in {tool}'s manifest; {}", how_known(*source));
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
        NameSource::ManifestIp => "listed by address",
    }
}

fn remedy(near: &[Arc<str>]) -> String {
    if near.is_empty() {
        return "; `telltale catalog list` shows all".to_owned();
    }
    format!("; did you mean `{}`?", near.join("`, `"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::attribute::Role;
    use crate::core::fixture::{catalog, member, own, shared, stranger, tcp};

    fn policy(banned: &[&str]) -> Policy {
        let banned = banned.iter().map(|&id| id.to_owned()).collect();
        Policy::new(&PolicyConfig { banned }, &catalog()).unwrap()
    }

    /// Who goes where, under which names, with nothing banned but `banned`.
    struct Case<'a> {
        process: ProcessView,
        to: &'a str,
        names: &'a [NameEvidence],
        banned: &'a [&'a str],
    }

    impl Case<'_> {
        fn judge(&self) -> Judgement {
            self.judge_where(|facts| facts)
        }

        fn judge_where(&self, change: impl FnOnce(FlowFacts<'_>) -> FlowFacts<'_>) -> Judgement {
            let mut names = self.names.to_vec();
            meant_first(&catalog(), &self.process, &mut names);
            let facts = FlowFacts {
                process: &self.process,
                exact: true,
                remote: tcp(self.to),
                to_resolver: false,
                served: false,
                name: names.first(),
            };
            policy(self.banned).judge_flow(&catalog(), &change(facts))
        }
    }

    fn claude() -> ProcessView {
        member("claude-code", Role::Main, true)
    }

    #[track_caller]
    fn check(judgement: &Judgement, verdict: Verdict, rule: &str, why: &str) {
        assert_eq!(
            (judgement.verdict, judgement.rule),
            (verdict, rule),
            "{}",
            judgement.why
        );
        assert_eq!(&*judgement.why, why);
    }

    #[track_caller]
    fn check_claude(to: &str, names: &[NameEvidence], verdict: Verdict, why: &str) {
        let judgement = Case {
            process: claude(),
            to,
            names,
            banned: &[],
        }
        .judge();
        assert_eq!((judgement.verdict, &*judgement.why), (verdict, why));
    }

    const REMOTE: &str = "203.0.113.9:443";

    #[test]
    fn a_tool_may_reach_what_its_manifest_lists() {
        check_claude(
            REMOTE,
            &[own("api.anthropic.com")],
            Verdict::Expected,
            "api.anthropic.com is in Claude Code's manifest (api), \
             resolved by the process's own DNS query",
        );
        check_claude(
            REMOTE,
            &[own("api.anthropic.com"), shared("evil.test")],
            Verdict::Expected,
            "api.anthropic.com is in Claude Code's manifest (api), \
             resolved by the process's own DNS query",
        );
        check_claude(
            REMOTE,
            &[shared("cdn.test"), shared("api.anthropic.com")],
            Verdict::Expected,
            "api.anthropic.com is in Claude Code's manifest (api), \
             resolved by another process's DNS query",
        );
        check_claude(
            REMOTE,
            &[own("statsig.anthropic.com")],
            Verdict::Optional,
            "statsig.anthropic.com is in Claude Code's manifest (telemetry), \
             resolved by the process's own DNS query; DISABLE_TELEMETRY=1 turns it off",
        );
        check_claude(
            REMOTE,
            &[own("cdn.anthropic.com")],
            Verdict::Optional,
            "cdn.anthropic.com is in Claude Code's manifest (assets), \
             resolved by the process's own DNS query; it is optional",
        );
        check_claude(
            "192.0.2.200:443",
            &[],
            Verdict::Expected,
            "192.0.2.200 is in Claude Code's manifest (api), listed by address",
        );
    }

    #[test]
    fn what_the_manifest_does_not_list_is_undeclared_or_unknown() {
        check_claude(
            REMOTE,
            &[own("evil.test")],
            Verdict::Undeclared,
            "evil.test is not in Claude Code's manifest; resolved by the process's own DNS query",
        );
        check_claude(
            REMOTE,
            &[],
            Verdict::Unknown,
            "203.0.113.9 has no known name, and is not in Claude Code's manifest",
        );
    }

    #[track_caller]
    fn check_meant(process: &ProcessView, mut names: Vec<NameEvidence>, expect: &[&str]) {
        meant_first(&catalog(), process, &mut names);
        let names: Vec<_> = names.iter().map(|name| &*name.name).collect();
        assert_eq!(names, expect);
    }

    #[test]
    fn of_several_names_the_one_is_meant_that_explains_the_flow() {
        let (api, cdn, other) = ("api.anthropic.com", "cdn.anthropic.com", "other.test");
        check_meant(&claude(), vec![], &[]);
        check_meant(
            &claude(),
            vec![own(other), own(cdn), own(api)],
            &[cdn, other, api],
        );
        check_meant(
            &claude(),
            vec![shared(other), shared("else.test"), shared(api)],
            &[api, other, "else.test"],
        );
        check_meant(&claude(), vec![own(other), shared(api)], &[other, api]);
        // No provider's name explains what a stranger does with a CDN.
        let curl = stranger("/bin/curl");
        check_meant(&curl, vec![own(cdn), own(api)], &[api, cdn]);
        check_meant(&curl, vec![own(other), own(cdn)], &[other, cdn]);
    }

    #[test]
    fn what_another_process_calls_an_address_does_not_excuse_one_that_asked_for_itself() {
        let names = [own("evil.test"), shared("api.anthropic.com")];
        let case = Case {
            process: claude(),
            to: REMOTE,
            names: &names,
            banned: &[],
        };
        assert_eq!(case.judge().verdict, Verdict::Undeclared);
        // Nor does it accuse one.
        let names = [own("example.test"), shared("api.anthropic.com")];
        let process = stranger("/bin/curl");
        let case = Case {
            process,
            to: REMOTE,
            names: &names,
            banned: &["claude-code"],
        };
        assert_eq!(case.judge().verdict, Verdict::NotJudged);
    }

    #[test]
    fn a_flow_on_this_host_or_to_its_resolver_is_local() {
        check_claude(
            "127.0.0.1:8080",
            &[],
            Verdict::Local,
            "127.0.0.1 is this host itself",
        );
        check_claude("[::]:8080", &[], Verdict::Local, ":: is this host itself");
        let case = Case {
            process: claude(),
            to: "198.51.100.1:53",
            names: &[],
            banned: &[],
        };
        let dns = case.judge_where(|facts| FlowFacts {
            to_resolver: true,
            ..facts
        });
        check(
            &dns,
            Verdict::Local,
            rule::LOCAL,
            "198.51.100.1 is a resolver of this host",
        );
        assert_eq!(dns.purpose.as_deref(), Some("dns"));
        check(
            &case.judge(),
            Verdict::Unknown,
            rule::UNNAMED_ENDPOINT,
            "198.51.100.1 has no known name, and is not in Claude Code's manifest",
        );
        // A name that leads to this host is what the process meant.
        let names = [own("evil.test")];
        let case = Case {
            process: claude(),
            to: "127.0.0.1:443",
            names: &names,
            banned: &[],
        };
        assert_eq!(case.judge().verdict, Verdict::Undeclared);
    }

    #[track_caller]
    fn check_served(process: ProcessView, to: &str, banned: &[&str], verdict: Verdict, why: &str) {
        let case = Case {
            process,
            to,
            names: &[own("api.openai.com")],
            banned,
        };
        let judgement = case.judge_where(|facts| FlowFacts {
            served: true,
            ..facts
        });
        assert_eq!((judgement.verdict, &*judgement.why), (verdict, why));
    }

    #[test]
    fn a_peer_that_connects_to_a_tool_is_not_the_tools_choice() {
        check_served(
            claude(),
            "203.0.113.9:0",
            &[],
            Verdict::Served,
            "203.0.113.9 connected to Claude Code, not the other way round",
        );
        check_served(
            claude(),
            "[::1]:0",
            &[],
            Verdict::Local,
            "::1 is this host itself",
        );
        check_served(
            claude(),
            "203.0.113.9:0",
            &["claude-code"],
            Verdict::Denied,
            "Claude Code is banned; the process belongs to it as main, evidence exe-path",
        );
        check_served(
            stranger("/usr/sbin/nginx"),
            "203.0.113.9:0",
            &["codex-cli"],
            Verdict::NotJudged,
            "no rule concerns it",
        );
    }

    #[test]
    fn the_kernel_is_not_judged_wherever_its_packets_go() {
        let names = &[shared("api.openai.com")];
        let case = |process| Case {
            process,
            to: REMOTE,
            names,
            banned: &["codex-cli"],
        };
        let kernel = ProcessView {
            origin: Origin::Kernel,
            ..stranger("")
        };
        assert_eq!(case(kernel).judge().verdict, Verdict::NotJudged);
        assert_eq!(case(stranger("")).judge().verdict, Verdict::Denied);
    }

    #[test]
    fn a_process_that_may_not_be_the_tool_does_not_profit_from_its_manifest() {
        let case = |process| Case {
            process,
            to: REMOTE,
            names: &[],
            banned: &[],
        };
        for name in ["api.anthropic.com", "statsig.anthropic.com"] {
            let names = &[own(name)];
            let by_name = Case {
                names,
                ..case(member("claude-code", Role::Main, false))
            };
            assert_eq!(by_name.judge().verdict, Verdict::ExpectedUnverified);
            let lost = Case {
                names,
                ..case(claude())
            };
            let lost = lost.judge_where(|facts| FlowFacts {
                exact: false,
                ..facts
            });
            assert_eq!(lost.verdict, Verdict::ExpectedUnverified);
        }
        let by_name = Case {
            to: "192.0.2.200:443",
            ..case(member("claude-code", Role::Main, false))
        };
        check(
            &by_name.judge(),
            Verdict::ExpectedUnverified,
            rule::MANIFEST,
            "192.0.2.200 is in Claude Code's manifest (api), listed by address; \
             but only its name says that it is Claude Code",
        );
    }

    #[test]
    fn a_banned_tool_may_reach_nothing_and_not_even_run() {
        let banned = &["claude-code"];
        for (role, trusted, why) in [
            (
                Role::Main,
                true,
                "Claude Code is banned; the process belongs to it as main, evidence exe-path",
            ),
            (
                Role::Git,
                true,
                "Claude Code is banned; the process belongs to it as git, evidence exe-path",
            ),
            (
                Role::Main,
                false,
                "Claude Code is banned; the process belongs to it as main, evidence name",
            ),
        ] {
            let process = member("claude-code", role, trusted);
            check(
                &policy(banned).judge_presence(&process),
                Verdict::Denied,
                rule::BANNED_TOOL,
                why,
            );
            for to in ["127.0.0.1:8080", REMOTE] {
                let names = &[own("api.anthropic.com")];
                let case = Case {
                    process: process.clone(),
                    to,
                    names,
                    banned,
                };
                check(&case.judge(), Verdict::Denied, rule::BANNED_TOOL, why);
            }
        }
        for process in [member("codex-cli", Role::Main, true), stranger("/bin/sh")] {
            let judgement = policy(banned).judge_presence(&process);
            assert_eq!(judgement.verdict, Verdict::NotJudged);
        }
    }

    #[test]
    fn a_stranger_is_judged_only_where_it_reaches_an_ai_provider() {
        let case = |names: &[NameEvidence], banned: &[&str]| {
            Case {
                process: stranger("/bin/python3"),
                to: REMOTE,
                names,
                banned,
            }
            .judge()
        };
        assert_eq!(case(&[], &[]).verdict, Verdict::NotJudged);
        assert_eq!(
            case(&[own("example.test")], &["claude-code"]).verdict,
            Verdict::NotJudged
        );
        let reaches = [own("api.openai.com")];
        check(
            &case(&reaches, &["claude-code"]),
            Verdict::Undeclared,
            rule::AI_ENDPOINT_BY_UNKNOWN_PROGRAM,
            "api.openai.com is OpenAI's (api), and the program is no known AI tool",
        );
        check(
            &case(&reaches, &["claude-code", "codex-cli"]),
            Verdict::Denied,
            rule::BANNED_TOOL,
            "api.openai.com is OpenAI's (api), whose Codex CLI is banned",
        );
    }

    #[track_caller]
    fn check_unknown(id: &str, error: &str) {
        let config = PolicyConfig {
            banned: vec![id.to_owned()],
        };
        assert_eq!(
            Policy::new(&config, &catalog()).unwrap_err().to_string(),
            error
        );
    }

    #[test]
    fn a_ban_of_an_unknown_tool_says_what_may_be_meant() {
        for id in ["claude", "cluade-code", "claude_code"] {
            check_unknown(
                id,
                &format!(
                    "[policy] banned: the catalog has no tool `{id}`; did you mean `claude-code`?"
                ),
            );
        }
        check_unknown(
            "vim",
            "[policy] banned: the catalog has no tool `vim`; `telltale catalog list` shows all",
        );
    }
}

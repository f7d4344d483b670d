//! What rules look at, of one flow or of one process's presence.
//!
//! In: the process, its attribution, the remote and what the catalog says of it. Out: [`Facts`],
//! twice: `generous`, where a name alone counts, and `strict`, where nothing does that anybody
//! can make up.

use std::net::IpAddr;
use std::sync::Arc;

use super::FlowFacts;
use super::judgement::{Judgement, Verdict};
use super::rule::Word;
use crate::core::addresses::CountryCode;
use crate::core::attribute::{Attribution, Role};
use crate::core::catalog::version::Version;
use crate::core::catalog::{Catalog, Operator, Provider, Service};
use crate::core::job::JobOf;
use crate::core::place::Place;
use crate::core::report::ProcessView;

/// What is said of the country of an endpoint that nobody is known to run, and of an address that
/// no database has.
const UNKNOWN_COUNTRY: &str = "XX";

/// The words of one part.
#[derive(Clone, Debug, Default)]
pub struct Texts<'a> {
    /// Whether anything can be said of it at all: nothing fits what is not known.
    pub known: bool,
    first: Option<&'a str>,
    more: Vec<&'a str>,
}

impl<'a> Texts<'a> {
    /// Known: these.
    fn of(texts: impl IntoIterator<Item = &'a str>) -> Texts<'a> {
        let mut texts = texts.into_iter();
        Texts {
            known: true,
            first: texts.next(),
            more: texts.collect(),
        }
    }

    /// Known, and there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.first.is_none()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// What rules look at.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    texts: [Texts<'a>; Word::ALL.len()],
    /// It is a flow, and not a process's presence.
    pub is_flow: bool,
    /// It stays on this host, goes to its resolver, or answers a peer.
    pub is_local: bool,
    /// The process belongs to a tool.
    pub has_tool: bool,
    /// The tool's version.
    pub version: Option<Version>,
    /// The remote's name.
    pub host: Option<&'a str>,
    /// The remote's address.
    pub ip: Option<IpAddr>,
    /// The remote's port.
    pub port: Option<u16>,
    /// User id.
    pub user: Option<u32>,
    /// Seconds since 1970 began in UTC.
    pub wall_seconds: i64,
}

impl<'a> Facts<'a> {
    /// The words of a part.
    #[must_use]
    pub fn texts(&self, word: Word) -> &Texts<'a> {
        &self.texts[word as usize]
    }

    fn set(&mut self, word: Word, texts: impl IntoIterator<Item = &'a str>) {
        self.texts[word as usize] = Texts::of(texts);
    }

    /// Of a process, whatever it does. `strict`: only what its place of installation says.
    fn of_process(process: &'a ProcessView, strict: bool, wall_seconds: i64) -> Facts<'a> {
        let member = process.tool.as_deref();
        let mut facts = Facts {
            texts: Default::default(),
            is_flow: false,
            is_local: false,
            has_tool: member.is_some(),
            version: member.and_then(version),
            host: None,
            ip: None,
            port: None,
            user: Some(process.uid),
            wall_seconds,
        };
        let tools = || {
            let namesakes = member.filter(|_| !strict).map(|member| &member.namesakes);
            let own = member.map(|member| &member.tool);
            own.into_iter().chain(namesakes.into_iter().flatten())
        };
        facts.set(Word::Tool, tools().map(|tool| &*tool.id));
        facts.set(Word::Vendor, tools().map(|tool| &*tool.vendor));
        facts.set(Word::Jurisdiction, tools().map(|tool| &*tool.jurisdiction));
        facts.set(Word::Role, member.map(|member| member.role.name()));
        if let Some(place) = &process.place {
            facts.add_place(place, strict);
        }
        match &process.job {
            JobOf::NotAsked => {}
            // Whoever starts a process chooses its environment.
            JobOf::Job(_) | JobOf::NoJob if strict => {}
            JobOf::NoJob => facts.set(Word::Job, None),
            JobOf::Job(job) => {
                let parts = [&job.pipeline, &job.name, &job.repository];
                let parts = parts.into_iter().filter_map(|part| part.as_deref());
                facts.set(Word::Job, parts.chain([job.provider]));
            }
        }
        facts
    }

    fn add_place(&mut self, place: &'a Place, strict: bool) {
        self.set(Word::Cgroup, [&*place.path]);
        let container = place.container.as_ref().map(|container| {
            let told = [&container.name, &container.image];
            let told = told.into_iter().filter_map(|part| part.as_deref());
            told.chain([&*container.id])
        });
        self.set(Word::Container, container.into_iter().flatten());
        // A user names the units of a systemd of its own.
        let own = place.unit.as_ref().is_some_and(|unit| unit.user.is_some());
        if !(strict && own) {
            self.set(Word::Unit, place.unit.as_ref().map(|unit| &*unit.name));
        }
    }
}

fn version(member: &Attribution) -> Option<Version> {
    Version::parse(member.version.as_deref()?)
}

/// One flow, or one process's presence, as rules see it.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Everything that may be so.
    pub generous: Facts<'a>,
    /// What is sure to be so; `None` if the process may be another program after all.
    pub strict: Option<Facts<'a>>,
}

impl<'a> Subject<'a> {
    /// A process's presence.
    #[must_use]
    pub fn of_presence(process: &'a ProcessView, wall_seconds: i64) -> Subject<'a> {
        let is_sure = process.tool.as_ref().is_none_or(|member| member.trusted);
        let of = |strict| Facts::of_process(process, strict, wall_seconds);
        Subject {
            generous: of(false),
            strict: is_sure.then(|| of(true)),
        }
    }
}

/// What the catalog and the operator's databases say of the remote of a flow.
pub struct Known<'a> {
    /// Whose AI endpoint it is.
    pub provider: Option<&'a Provider>,
    /// Who runs it.
    pub operator: Option<&'a Operator>,
    /// The service that it belongs to.
    pub service: Option<&'a Service>,
    /// The autonomous system of its address, as rules write it: `AS64496`.
    pub asn: Option<String>,
    /// Where its address is.
    pub address_country: Option<CountryCode>,
}

impl<'a> Known<'a> {
    /// What `catalog` and the flow's own facts say.
    #[must_use]
    pub fn of(catalog: &'a Catalog, flow: &FlowFacts<'_>) -> Known<'a> {
        let host = flow.name.map(|name| &*name.name);
        Known {
            provider: host.and_then(|host| catalog.provider(host)),
            operator: match host {
                Some(host) => catalog.operator(host),
                None => catalog.operator_ip(flow.remote.addr.ip()),
            },
            service: service(catalog, flow),
            asn: flow.address.asn.map(as_name),
            address_country: flow.address.country,
        }
    }

    /// What the endpoint is for, where no manifest says so.
    #[must_use]
    pub fn purpose(&self) -> Option<Arc<str>> {
        let of_provider = self.provider.map(|provider| Arc::clone(&provider.purpose));
        let of_service = || self.service.map(purpose_of);
        of_provider.or_else(of_service)
    }
}

/// How rules write the number of an autonomous system.
#[must_use]
pub fn as_name(number: u32) -> String {
    format!("AS{number}")
}

/// The service that a flow reaches, by name or, where it has none, by address. Some services of
/// encrypted DNS answer plain queries at the same addresses: those are none of it.
fn service<'a>(catalog: &'a Catalog, flow: &FlowFacts<'_>) -> Option<&'a Service> {
    const DNS_PORT: u16 = 53;
    let Some(name) = flow.name else {
        let ip = flow.remote.addr.ip().to_string();
        let service = catalog.service(&ip)?;
        let is_shared = service.shared.iter().any(|host| host.to_string() == ip);
        let is_plain = is_shared && flow.remote.addr.port() == DNS_PORT;
        return (!is_plain).then_some(service);
    };
    catalog.service(&name.name)
}

/// What a service is used for: its class, in the words of manifests.
fn purpose_of(service: &Service) -> Arc<str> {
    match &*service.class {
        "ip-geolocation" => "geolocation-probe".into(),
        "llm-api" => "api".into(),
        _ => Arc::clone(&service.class),
    }
}

/// A flow, of which the catalog alone says `assessment`.
pub fn of_flow<'a>(
    flow: &FlowFacts<'a>,
    known: &'a Known<'_>,
    assessment: &'a Judgement,
) -> Subject<'a> {
    let mut subject = Subject::of_presence(flow.process, flow.wall_seconds);
    subject.strict = subject.strict.filter(|_| flow.exact);
    let backed = flow.vouched || flow.name.is_none_or(|name| name.source.is_backed());
    add_flow(&mut subject.generous, flow, known, assessment, true);
    if let Some(strict) = &mut subject.strict {
        add_flow(strict, flow, known, assessment, backed);
    }
    subject
}

/// `named`: the remote's name counts, with all that follows from it.
fn add_flow<'a>(
    facts: &mut Facts<'a>,
    flow: &FlowFacts<'a>,
    known: &'a Known<'_>,
    assessment: &'a Judgement,
    named: bool,
) {
    facts.is_flow = true;
    facts.is_local = matches!(assessment.verdict, Verdict::Local | Verdict::Served);
    facts.ip = Some(flow.remote.addr.ip());
    facts.port = Some(flow.remote.addr.port());
    facts.set(Word::Protocol, [flow.remote.protocol.name()]);
    facts.set(Word::Verdict, [assessment.verdict.name()]);
    facts.set(Word::Asn, known.asn.as_deref());
    let country = known.address_country.as_ref();
    facts.set(
        Word::AddressCountry,
        [country.map_or(UNKNOWN_COUNTRY, CountryCode::as_str)],
    );
    if flow.process.tool.is_none() && known.provider.is_some() {
        facts.set(Word::Role, [Role::Unidentified.name()]);
    }
    if !named {
        return;
    }
    facts.host = flow.name.map(|name| &*name.name);
    facts.set(Word::Purpose, assessment.purpose.as_deref());
    let provider = known.provider.map(|it| [&*it.owner, &*it.vendor]);
    facts.set(Word::Provider, provider.into_iter().flatten());
    let country = known
        .operator
        .map_or(UNKNOWN_COUNTRY, |it| &*it.jurisdiction);
    facts.set(Word::Country, [country]);
    let source = flow
        .name
        .map(|name| [name.source.name(), backing(name.source.is_backed())]);
    facts.set(Word::NameSource, source.into_iter().flatten());
}

fn backing(is_backed: bool) -> &'static str {
    if is_backed { "backed" } else { "claimed" }
}

//! Why something was judged as it was: process, ancestry, evidence, names, and each rule.
//!
//! In: lines of the event log (a recording is played into such lines first), and the policy. Out:
//! text for a person. The rules are asked again, from what the log says: where the policy is
//! another than the one that judged then, both are told.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use monitor_common::flow::ProcessKey;
use serde_json::Value;

use crate::core::addresses::{AddressOrigin, CountryCode};
use crate::core::attribute::{Attribution, Evidence, Role};
use crate::core::catalog::{Catalog, Tool};
use crate::core::event::{BootNs, CgroupId, Endpoint, ExeFile, Protocol};
use crate::core::job::{Job, JobOf, provider};
use crate::core::names::{NameEvidence, NameSource};
use crate::core::place::Place;
use crate::core::policy::facts::{self, Known, Subject};
use crate::core::policy::{FlowFacts, Policy};
use crate::core::report::{Origin, ProcessView};
use crate::sink::console;

/// Events that are explained at most: a process that did more is explained by its first.
const EXPLAINED_MAX: usize = 20;

/// Ancestors that are shown; no sane tree is deeper, and a log may be made to lead in a circle.
const ANCESTORS_MAX: usize = 32;

/// What to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every process with this pid.
    Pid(u64),
    /// One program image: `process.entity_id`.
    Entity(String),
    /// One event: `event.id`.
    Event(String),
}

impl Wanted {
    /// A pid, an entity id of 16 hex digits, or an event id, which holds a hyphen.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Wanted, String> {
        let is_entity = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_entity {
            Ok(Wanted::Entity(text.to_owned()))
        } else if let Ok(pid) = text.parse() {
            Ok(Wanted::Pid(pid))
        } else if text.contains('-') {
            Ok(Wanted::Event(text.to_owned()))
        } else {
            Err(
                "write a pid, an entity id (16 hex digits) or an event id (\"43fc6638b35-17\")"
                    .to_owned(),
            )
        }
    }

    fn is(&self, event: &Value) -> bool {
        match self {
            Wanted::Pid(pid) => event["process"]["pid"].as_u64() == Some(*pid),
            Wanted::Entity(id) => event["process"]["entity_id"] == **id,
            Wanted::Event(id) => event["event"]["id"] == **id,
        }
    }
}

/// Makes all text of an event fit for a terminal: others chose it.
pub fn clean(event: &mut Value) {
    match event {
        Value::String(text) => *text = console::clean(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The explanation; `None` if the log holds nothing of it.
#[must_use]
pub fn in_words(
    events: &[Value],
    wanted: &Wanted,
    catalog: &Catalog,
    policy: &Policy,
) -> Option<String> {
    let is_judged = |event: &&Value| {
        let judged = [
            "process-started",
            "connection-opened",
            "connection-redirected",
        ];
        wanted.is(event)
            && judged
                .iter()
                .any(|action| event["event"]["action"] == **action)
    };
    let found: Vec<&Value> = events.iter().filter(is_judged).collect();
    let mut text = String::new();
    let mut last = None;
    for event in found.iter().take(EXPLAINED_MAX) {
        let entity = &event["process"]["entity_id"];
        if last != Some(entity) {
            text += &process_in_words(event, events);
            last = Some(entity);
        }
        text += &event_in_words(event, catalog, policy);
    }
    if found.len() > EXPLAINED_MAX {
        text += &format!("\n… and {} events more\n", found.len() - EXPLAINED_MAX);
    }
    (!found.is_empty()).then_some(text)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn process_in_words(event: &Value, events: &[Value]) -> String {
    let (process, own) = (&event["process"], &event["telltale"]);
    let args: Vec<&str> = process["args"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    let mut out = format!(
        "process {} {}\n  args: {}\n  user: {}, entity: {}\n",
        process["pid"],
        text(&process["executable"]),
        args.join(" "),
        text(&process["user"]["id"]),
        text(&process["entity_id"]),
    );
    for ancestor in ancestry(process, events) {
        out += &format!("  below {ancestor}\n");
    }
    let tool = &own["tool"];
    if text(&tool["id"]).is_empty() {
        return out + "  of no known AI tool\n";
    }
    let trust = match tool["trusted"].as_bool() {
        Some(true) => "by its place of installation",
        _ => "by name alone: counts towards a ban, never towards an allowance",
    };
    out += &format!(
        "  {} ({}) {} as {}, {trust}\n",
        text(&tool["name"]),
        text(&tool["id"]),
        text(&tool["version"]),
        text(&tool["role"]),
    );
    for evidence in own["attribution"]["evidence"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let fields = evidence
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "kind");
        let fields: Vec<_> = fields
            .map(|(name, value)| format!("{name} {}", plain(value)))
            .collect();
        out += &format!(
            "    evidence {}: {}\n",
            text(&evidence["kind"]),
            fields.join(", ")
        );
    }
    out
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The ancestors, nearest first, as far as the log knows them.
fn ancestry(process: &Value, events: &[Value]) -> Vec<String> {
    let known: HashMap<&str, &Value> = events
        .iter()
        .map(|event| {
            (
                text(&event["process"]["entity_id"]),
                &event["process"]["parent"],
            )
        })
        .filter(|(entity, parent)| !entity.is_empty() && parent.is_object())
        .collect();
    let mut parent = &process["parent"];
    let mut ancestors = Vec::new();
    while parent.is_object() && ancestors.len() < ANCESTORS_MAX {
        let exe = parent["executable"]
            .as_str()
            .unwrap_or("a program that is not known");
        ancestors.push(format!("{exe} (pid {})", parent["pid"]));
        let Some(next) = known.get(text(&parent["entity_id"])) else {
            break;
        };
        parent = next;
    }
    ancestors
}

fn event_in_words(event: &Value, catalog: &Catalog, policy: &Policy) -> String {
    let own = &event["telltale"];
    let what = match text(&event["destination"]["address"]) {
        "" => "its presence".to_owned(),
        address => format!(
            "to {} port {} {}",
            event["destination"]["domain"]
                .as_str()
                .map_or_else(|| address.to_owned(), |name| format!("{name}, {address}")),
            event["destination"]["port"],
            text(&event["network"]["transport"]),
        ),
    };
    let mut out = format!(
        "\nevent {} at {}: {what}\n",
        text(&event["event"]["id"]),
        text(&event["@timestamp"])
    );
    for name in own["name"]["candidates"].as_array().into_iter().flatten() {
        let asker = name["asked_by_pid"].as_u64();
        out += &format!(
            "  name {} ({}, {} s old{})\n",
            text(&name["name"]),
            text(&name["source"]),
            name["age_seconds"],
            asker.map_or_else(String::new, |pid| format!(", asked by pid {pid}")),
        );
    }
    out += &format!(
        "  {} by {}: {}\n",
        text(&own["verdict"]),
        text(&own["rule"]),
        text(&own["why"])
    );
    if let Some(exception) = own["exception"].as_str() {
        out += &format!("  lifted by exception {exception}\n");
    }
    out + &rules_in_words(event, catalog, policy)
}

/// What each rule says, up to the first that fits.
fn rules_in_words(event: &Value, catalog: &Catalog, policy: &Policy) -> String {
    let process = process_of(event, catalog);
    let wall_seconds = humantime::parse_rfc3339(text(&event["@timestamp"])).ok();
    let wall_seconds =
        wall_seconds.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let wall_seconds = wall_seconds.map_or(0, |since| since.as_secs().cast_signed());
    let name = name_of(event);
    let flow = remote_of(event).map(|remote| FlowFacts {
        process: &process,
        exact: true,
        remote,
        address: origin_of(event),
        to_resolver: event["telltale"]["endpoint"]["purpose"] == "dns",
        served: event["telltale"]["flow"]["hook"] == "accepted",
        name: name.as_ref(),
        also: None,
        vouched: false,
        wall_seconds,
    });
    let known = flow.as_ref().map(|flow| (flow, Known::of(catalog, flow)));
    let assessed = known.as_ref().and_then(|(flow, known)| {
        let assessment = policy.assess(catalog, flow, known)?;
        Some((*flow, known, assessment))
    });
    let subject = match &assessed {
        Some((flow, known, assessment)) => facts::of_flow(flow, known, assessment),
        None if flow.is_some() => return "  no rule is asked: it is nobody's choice\n".to_owned(),
        None => Subject::of_presence(&process, wall_seconds),
    };
    let mut out = String::new();
    if let Some((_, _, assessment)) = &assessed {
        out += &format!(
            "  the catalog alone: {}: {}\n",
            assessment.verdict.name(),
            assessment.why
        );
    }
    let asked = policy.explain(&subject);
    let decided = asked.last().is_some_and(|(_, misfit)| misfit.is_none());
    for (number, (rule, misfit)) in asked.iter().enumerate() {
        let number = number + 1;
        out += &match misfit {
            Some(misfit) => format!("  rule {number}, {}: {misfit}\n", rule.id),
            None => format!(
                "  rule {number}, {}: fits, and decides: {}\n",
                rule.id,
                rule.action.name()
            ),
        };
    }
    if !decided {
        out += "  no rule fits: the catalog's word stands\n";
    }
    out
}

/// The process as far as rules look at it.
fn process_of(event: &Value, catalog: &Catalog) -> ProcessView {
    let (process, own) = (&event["process"], &event["telltale"]);
    let number = |value: &Value| text(value).parse().unwrap_or_default();
    ProcessView {
        key: ProcessKey {
            tgid: process["pid"]
                .as_u64()
                .and_then(|pid| u32::try_from(pid).ok())
                .unwrap_or_default(),
            ..ProcessKey::default()
        },
        entity_id: text(&process["entity_id"]).into(),
        parent: None,
        exe: text(&process["executable"]).into(),
        exe_file: ExeFile::default(),
        args: [].into(),
        args_truncated: false,
        started: BootNs(0),
        uid: number(&process["user"]["id"]),
        gid: 0,
        cgroup: CgroupId(0),
        place: place_of(event).map(Arc::new),
        job: job_of(event),
        opted_out: Arc::default(),
        origin: if own["process"]["origin"] == "kernel" {
            Origin::Kernel
        } else {
            Origin::Executed
        },
        tool: member_of(event, catalog).map(Arc::new),
    }
}

/// Where the process runs: what the path of its cgroup says, and what the runtime's files said.
fn place_of(event: &Value) -> Option<Place> {
    let mut place = Place::at(event["telltale"]["cgroup"]["path"].as_str()?);
    if let Some(container) = &mut place.container {
        let told = &event["container"];
        container.name = told["name"].as_str().map(Arc::from);
        container.image = told["image"]["name"].as_str().map(Arc::from);
    }
    Some(place)
}

fn job_of(event: &Value) -> JobOf {
    let told = &event["telltale"]["job"];
    let part = |name: &str| told[name].as_str().map(Arc::from);
    match provider(text(&told["provider"])) {
        Some(provider) => JobOf::Job(Arc::new(Job {
            provider,
            pipeline: part("pipeline"),
            run_id: None,
            name: part("name"),
            id: None,
            repository: part("repository"),
            others: BTreeMap::new(),
        })),
        // Whether nobody asked, or there was none, a line does not tell.
        None => JobOf::NoJob,
    }
}

fn member_of(event: &Value, catalog: &Catalog) -> Option<Attribution> {
    let fields = &event["telltale"]["tool"];
    let (id, role) = (text(&fields["id"]), text(&fields["role"]));
    let role = Role::ALL.into_iter().find(|known| known.name() == role)?;
    let made_up = || {
        Arc::new(Tool {
            id: id.into(),
            name: text(&fields["name"]).into(),
            vendor: text(&fields["vendor"]).into(),
            jurisdiction: text(&fields["jurisdiction"]).into(),
        })
    };
    if role == Role::Unidentified || id.is_empty() {
        return None;
    }
    Some(Attribution {
        tool: catalog.tool(id).cloned().unwrap_or_else(made_up),
        version: Some(text(&fields["version"]))
            .filter(|it| *it != "unknown")
            .map(Arc::from),
        role,
        evidence: vec![Evidence::Name { name: id.into() }],
        trusted: fields["trusted"] == true,
        namesakes: Vec::new(),
    })
}

fn name_of(event: &Value) -> Option<NameEvidence> {
    let name = event["telltale"]["name"]["candidates"]
        .as_array()?
        .first()?;
    let source = text(&name["source"]);
    Some(NameEvidence {
        name: text(&name["name"]).into(),
        source: NameSource::ALL
            .into_iter()
            .find(|known| known.name() == source)?,
        first: BootNs(0),
        learned: BootNs(0),
        asked_by: ProcessKey::default(),
    })
}

/// What the databases of then said of the address.
fn origin_of(event: &Value) -> AddressOrigin {
    let destination = &event["destination"];
    let number = destination["as"]["number"].as_u64();
    AddressOrigin {
        asn: number.and_then(|number| u32::try_from(number).ok()),
        country: CountryCode::parse(text(&destination["geo"]["country_iso_code"])),
    }
}

fn remote_of(event: &Value) -> Option<Endpoint> {
    let destination = &event["destination"];
    let ip: IpAddr = text(&destination["ip"]).parse().ok()?;
    let port = destination["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    let protocol = match text(&event["network"]["transport"]) {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => Protocol::Other(0),
    };
    Some(Endpoint {
        addr: (ip, port.unwrap_or_default()).into(),
        protocol,
    })
}

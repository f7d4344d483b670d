//! What tools were seen to contact, against what their manifests declare.
//!
//! In: lines of the event log, and the catalog. Out: for each tool what was seen, what was not,
//! and a patch of its manifest for what was undeclared, in TOML, with the evidence.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::core::catalog::Catalog;
use crate::core::names::NameSource;

/// What was seen of one host.
#[derive(Default)]
struct Seen {
    connections: u64,
    first: String,
    last: String,
    event: String,
    versions: BTreeSet<String>,
    source: String,
}

/// What the events show of each tool; empty if of none.
#[must_use]
pub fn in_words(events: &[Value], catalog: &Catalog) -> String {
    let mut tools: BTreeMap<&str, BTreeMap<&str, Seen>> = BTreeMap::new();
    let mut unnamed: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events.iter().filter(|event| is_of_tool_itself(event)) {
        let tool = text(&event["telltale"]["tool"]["id"]);
        let host = text(&event["destination"]["domain"]);
        if host.is_empty() {
            *unnamed.entry(tool).or_default() += 1;
            tools.entry(tool).or_default();
            continue;
        }
        tools
            .entry(tool)
            .or_default()
            .entry(host)
            .or_default()
            .add(event);
    }
    let mut out = String::new();
    for (tool, hosts) in &tools {
        let unnamed = unnamed.get(tool).copied().unwrap_or_default();
        out += &tool_in_words(catalog, tool, hosts, unnamed);
    }
    out
}

/// How the name is known that the event shows: the first source that backs it, if any does.
fn best_source(event: &Value) -> &str {
    let (own, host) = (&event["telltale"]["name"], &event["destination"]["domain"]);
    let candidates = own["candidates"].as_array().into_iter().flatten();
    let mut sources = candidates
        .filter(|candidate| candidate["name"] == *host)
        .map(|candidate| text(&candidate["source"]));
    let backs = |name: &&str| {
        let mut known = NameSource::ALL.into_iter();
        known.any(|source| source.name() == *name && source.is_backed())
    };
    sources.find(backs).unwrap_or_else(|| text(&own["source"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A connection to another host that the tool itself opened: not what its children were asked to
/// do, and not on the word of a mere name.
fn is_of_tool_itself(event: &Value) -> bool {
    let own = &event["telltale"];
    let itself = ["main", "helper"]
        .iter()
        .any(|role| own["tool"]["role"] == **role);
    let elsewhere = !["local", "served"]
        .iter()
        .any(|verdict| own["verdict"] == **verdict);
    event["event"]["action"] == "connection-opened"
        && itself
        && elsewhere
        && own["tool"]["trusted"] == true
}

impl Seen {
    fn add(&mut self, event: &Value) {
        let time = text(&event["@timestamp"]);
        if self.connections == 0 {
            self.first = time.to_owned();
            self.event = text(&event["event"]["id"]).to_owned();
            self.source = best_source(event).to_owned();
        }
        self.connections += 1;
        self.last = time.to_owned();
        self.versions
            .insert(text(&event["telltale"]["tool"]["version"]).to_owned());
    }

    fn evidence(&self) -> String {
        let versions: Vec<_> = self.versions.iter().map(String::as_str).collect();
        format!(
            "{} connections from {} to {}, versions {}, name by {}, first in event {}",
            self.connections,
            self.first,
            self.last,
            versions.join(" "),
            self.source,
            self.event,
        )
    }

    /// A resolver's answer ties the name to the address.
    fn is_backed(&self) -> bool {
        let source = NameSource::ALL
            .into_iter()
            .find(|it| it.name() == self.source);
        source.is_some_and(NameSource::is_backed)
    }
}

fn tool_in_words(
    catalog: &Catalog,
    tool: &str,
    hosts: &BTreeMap<&str, Seen>,
    unnamed: u64,
) -> String {
    let Some(facts) = catalog.facts_of(tool) else {
        return format!("# {tool}: not in this catalog\n\n");
    };
    let mut declared: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut patch = String::new();
    for (host, seen) in hosts {
        let versions: Vec<_> = seen
            .versions
            .iter()
            .map(|it| Some(&**it).filter(|it| *it != "unknown"))
            .collect();
        let found = versions
            .iter()
            .find_map(|version| catalog.endpoint(&facts.tool, host, *version));
        match found {
            Some(endpoint) => declared
                .entry(endpoint.host.to_string())
                .or_default()
                .push(host),
            None if seen.is_backed() => patch += &proposal(catalog, host, seen),
            None => {
                patch += &format!(
                    "\n# {host}: only claimed by the client, so not proposed; {}\n",
                    seen.evidence()
                )
            }
        }
    }
    let mut out = format!(
        "# {tool}: {} of {} declared endpoints seen",
        declared.len(),
        facts.endpoints.len()
    );
    if unnamed > 0 {
        out += &format!(", {unnamed} connections to addresses without a name");
    }
    out.push('\n');
    for endpoint in &facts.endpoints {
        let pattern = endpoint.host.to_string();
        let purpose = &endpoint.purpose;
        out += &match declared.get(&pattern) {
            Some(hosts) => format!("#   seen      {pattern} ({purpose}): {}\n", hosts.join(" ")),
            None => format!("#   not seen  {pattern} ({purpose})\n"),
        };
    }
    if patch.is_empty() {
        return out + "#   nothing undeclared\n\n";
    }
    out + &format!(
        "#   undeclared, to be added to tools/{tool}.toml of a catalog of your own:\n{patch}\n"
    )
}

/// An entry for the manifest, as it was seen. What it is for is a guess at best.
fn proposal(catalog: &Catalog, host: &str, seen: &Seen) -> String {
    let guess = catalog
        .service(host)
        .map_or("other", |service| match &*service.class {
            "llm-api" => "api",
            "telemetry" => "telemetry",
            "encrypted-dns" => "encrypted-dns",
            _ => "other",
        });
    let day = seen.last.split('T').next().unwrap_or_default();
    format!(
        "\n# {}\n[[endpoint]]\nhost = {host:?}\npurpose = {guess:?}\n\
         source = \"observed by Telltale, event {}\"\ndate = {day}\nconfidence = \"measured\"\n",
        seen.evidence(),
        seen.event,
    )
}

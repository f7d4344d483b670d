//! The catalog for people: the text of `telltale catalog list` and `telltale catalog show TOOL`.
//!
//! In: a [`Catalog`]. Out: plain text, ending in a newline; whoever calls prints it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::catalog::facts::{Advisory, Helper, Recognisers, ToolFacts};
use crate::core::catalog::path::PathGlob;
use crate::core::catalog::version::VersionRange;
use crate::core::catalog::{Catalog, ManifestEndpoint, PURPOSES};

/// Between two columns of a table.
const GAP: &str = "  ";

/// The catalog has no tool of this id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalog has no tool `{id}`{}", remedy(near))]
pub struct UnknownTool {
    /// What was asked for.
    pub id: String,
    /// Ids that look like it, the most alike first.
    pub near: Vec<Arc<str>>,
}

fn remedy(near: &[Arc<str>]) -> String {
    if near.is_empty() {
        return "; `telltale catalog list` shows all".to_owned();
    }
    format!("; did you mean `{}`?", near.join("`, `"))
}

/// All tools, one line each, by id.
#[must_use]
pub fn list(catalog: &Catalog) -> String {
    let heading = ["ID", "NAME", "VENDOR", "HOME", "KIND", "ENDPOINTS"].map(str::to_owned);
    let row = |facts: &ToolFacts| {
        let tool = &facts.tool;
        let texts = [
            &tool.id,
            &tool.name,
            &tool.vendor,
            &tool.jurisdiction,
            &facts.kind,
        ];
        let [id, name, vendor, home, kind] = texts.map(|text| text.to_string());
        [
            id,
            name,
            vendor,
            home,
            kind,
            facts.endpoints.len().to_string(),
        ]
    };
    table([heading].into_iter().chain(catalog.facts().map(row)))
}

/// All that the catalog says of one tool.
///
/// # Errors
///
/// [`UnknownTool`], with the ids that one may have meant.
pub fn show(catalog: &Catalog, id: &str) -> Result<String, UnknownTool> {
    let unknown = || UnknownTool {
        id: id.to_owned(),
        near: catalog.near(id),
    };
    let facts = catalog.facts_of(id).ok_or_else(unknown)?;
    let mut sources = Sources::default();
    let sections = [
        heading(facts, &mut sources),
        recognition(facts),
        helpers(facts),
        endpoints(facts, &mut sources),
        advisories(&facts.advisories, &mut sources),
        notes(&facts.notes),
        sources.section(),
    ];
    let shown: Vec<_> = sections
        .into_iter()
        .filter(|section| !section.is_empty())
        .collect();
    Ok(shown.join("\n"))
}

/// Sources that were referred to, each with its number, from 1.
#[derive(Default)]
struct Sources {
    numbers: BTreeMap<String, usize>,
}

impl Sources {
    /// The reference to a source.
    fn refer(&mut self, source: &str, date: &str, confidence: &str) -> String {
        let next = self.numbers.len() + 1;
        let text = format!("{source} ({confidence}, {date})");
        format!("[{}]", self.numbers.entry(text).or_insert(next))
    }

    fn section(self) -> String {
        let mut by_number: Vec<_> = self
            .numbers
            .into_iter()
            .map(|(text, number)| (number, text))
            .collect();
        by_number.sort();
        let line = |(number, text): (usize, String)| format!("{GAP}[{number}] {text}\n");
        section(
            "Sources (confidence, date)",
            by_number.into_iter().map(line),
        )
    }
}

fn heading(facts: &ToolFacts, sources: &mut Sources) -> String {
    let tool = &facts.tool;
    let reference = sources.refer(&facts.source, &facts.date, &facts.confidence);
    let mut text = format!("{} ({})\n", tool.name, tool.id);
    text += &format!(
        "{GAP}{}, {}; {} {reference}\n",
        tool.vendor, tool.jurisdiction, facts.kind
    );
    if !facts.aliases.is_empty() {
        text += &format!("{GAP}also called {}\n", facts.aliases.join(", "));
    }
    text
}

fn recognition(facts: &ToolFacts) -> String {
    let Recognisers {
        exe,
        script,
        launcher,
        names,
        ide,
        ..
    } = &facts.recognisers;
    let globs = |globs: &[PathGlob]| globs.iter().map(PathGlob::to_string).collect::<Vec<_>>();
    let named: Vec<_> = names
        .iter()
        .map(|name| name.file_name().to_owned())
        .collect();
    let known = &facts.recognisers;
    let rows = [
        ("executable", globs(exe)),
        ("script", globs(script)),
        ("launcher, not trusted", globs(launcher)),
        ("name, not trusted", named),
        ("held by, its endpoints decide", globs(ide)),
        ("argv[0] of built-in programs", known.applets.clone()),
        ("runs its scripts", known.runtimes.clone()),
        ("shared names, no evidence", known.collisions.clone()),
        ("thread names", known.comm.clone()),
        ("npm", known.npm.clone()),
        ("Python", known.pypi.clone()),
        ("environment of children", known.environment.clone()),
    ];
    section(
        "Recognised by",
        rows.into_iter()
            .filter_map(|(what, values)| rows_of(what, &values)),
    )
}

/// One line for each value; what they are stands before the first.
fn rows_of(what: &str, values: &[String]) -> Option<String> {
    let first = values.first()?;
    let mut text = format!("{GAP}{what:<28}{GAP}{first}\n");
    text.extend(
        values
            .iter()
            .skip(1)
            .map(|value| format!("{GAP}{:<28}{GAP}{value}\n", "")),
    );
    Some(text)
}

fn helpers(facts: &ToolFacts) -> String {
    let line = |helper: &Helper| {
        format!(
            "{GAP}{}{GAP}{}: {}\n",
            helper.glob, helper.role, helper.what
        )
    };
    section("Helpers", facts.helpers.iter().map(line))
}

fn endpoints(facts: &ToolFacts, sources: &mut Sources) -> String {
    let mut lines = Vec::new();
    for purpose in PURPOSES {
        let of_purpose: Vec<_> = facts
            .endpoints
            .iter()
            .filter(|it| *it.purpose == *purpose)
            .collect();
        if !of_purpose.is_empty() {
            lines.push(format!("{GAP}{purpose}\n"));
        }
        lines.extend(
            of_purpose
                .into_iter()
                .map(|endpoint| line_of(endpoint, sources)),
        );
    }
    section("Endpoints, by purpose", lines.into_iter())
}

fn line_of(endpoint: &ManifestEndpoint, sources: &mut Sources) -> String {
    let mut remarks = Vec::new();
    if endpoint.optional {
        let off = endpoint
            .switch
            .as_ref()
            .map(|switch| format!("optional: {switch} turns it off"));
        remarks.push(off.unwrap_or_else(|| "optional".to_owned()));
    }
    if endpoint.versions != VersionRange::default() {
        remarks.push(format!("versions {}", endpoint.versions));
    }
    if endpoint.shared {
        remarks.push("shared with other programs".to_owned());
    }
    remarks.extend(
        endpoint
            .operator
            .iter()
            .map(|operator| format!("run by {operator}")),
    );
    remarks.extend(endpoint.note.clone());
    remarks.push(sources.refer(&endpoint.source, &endpoint.date, &endpoint.confidence));
    format!(
        "{GAP}{GAP}{:<40}{GAP}{}\n",
        endpoint.host.to_string(),
        remarks.join("; ")
    )
}

fn advisories(advisories: &[Advisory], sources: &mut Sources) -> String {
    let mut text = |advisory: &Advisory| {
        let reference = sources.refer(&advisory.source, &advisory.date, &advisory.confidence);
        let Advisory {
            id,
            title,
            summary,
            versions,
            ..
        } = advisory;
        format!("{GAP}{title} ({id}; versions {versions}) {reference}\n{GAP}{GAP}{summary}\n")
    };
    section("Advisories", advisories.iter().map(&mut text))
}

fn notes(notes: &[String]) -> String {
    section("Notes", notes.iter().map(|note| format!("{GAP}- {note}\n")))
}

/// A title over lines; nothing if there are no lines.
fn section(title: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.collect();
    if lines.is_empty() {
        lines
    } else {
        format!("{title}\n{lines}")
    }
}

/// Rows of which each column starts at the same place.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join(GAP);
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::CatalogFile;

    const TOOL: &str = r#"schema_version = 1
id = "tool-a"
name = "Tool A"
vendor = "Vendor"
jurisdiction = "FR"
kind = "cli-agent"
aliases = ["ta"]
source = "package 1.0"
date = 2026-11-20
confidence = "package"
notes = ["Seen once."]
[recognise]
exe = ["/opt/a/{version}/a"]
names = ["tool-a", "tool-a2"]
collisions = ["a"]
[[helper]]
glob = "/opt/a/h"
role = "updater"
what = "Fetches updates"
[[endpoint]]
host = "t.example.com"
purpose = "telemetry"
since = "1.5"
optional = true
switch = "A_QUIET=1"
source = "manual"
date = 2026-10-01
confidence = "official"
note = "Daily"
[[endpoint]]
host = "api.example.com"
purpose = "api"
shared = true
operator = "Other"
source = "package 1.0"
date = 2026-11-20
confidence = "package"
[[advisory]]
id = "a-1"
title = "A title"
summary = "What was seen."
until = "1.2"
source = "manual"
date = 2026-10-01
confidence = "official"
"#;

    const PAGE: &str = "\
Tool A (tool-a)
  Vendor, FR; cli-agent [1]
  also called ta

Recognised by
  executable                    /opt/a/{version}/a
  name, not trusted             tool-a
                                tool-a2
  shared names, no evidence     a

Helpers
  /opt/a/h  updater: Fetches updates

Endpoints, by purpose
  api
    api.example.com                           shared with other programs; run by Other; [1]
  telemetry
    t.example.com                             optional: A_QUIET=1 turns it off; versions from 1.5; Daily; [2]

Advisories
  A title (a-1; versions before 1.2) [2]
    What was seen.

Notes
  - Seen once.

Sources (confidence, date)
  [1] package 1.0 (package, 2026-11-20)
  [2] manual (official, 2026-10-01)
";

    fn catalog() -> Catalog {
        let short = TOOL
            .replace("tool-a", "b")
            .replace("/opt/a", "/opt/b")
            .replace("\"ta\"", "\"tb\"")
            .replace("Vendor", "V");
        let file = |name: &str, text: &str| CatalogFile {
            name: name.into(),
            text: text.into(),
        };
        Catalog::parse(&[file("tools/a.toml", TOOL), file("tools/b.toml", &short)]).unwrap()
    }

    #[test]
    fn the_list_is_aligned_and_by_id() {
        let expect = "\
ID      NAME    VENDOR  HOME  KIND       ENDPOINTS
b       Tool A  V       FR    cli-agent  2
tool-a  Tool A  Vendor  FR    cli-agent  2
";
        assert_eq!(list(&catalog()), expect);
    }

    #[test]
    fn a_page_says_everything() {
        assert_eq!(show(&catalog(), "tool-a").unwrap(), PAGE);
    }

    #[test]
    fn every_tool_of_the_catalog_has_its_page() {
        let catalog = Catalog::embedded().unwrap();
        for facts in catalog.facts() {
            let page = show(&catalog, &facts.tool.id).unwrap();
            for endpoint in &facts.endpoints {
                assert!(
                    page.contains(&endpoint.host.to_string()),
                    "{}: {}",
                    facts.tool.id,
                    endpoint.host
                );
            }
        }
        assert_eq!(list(&catalog).lines().count(), 56);
    }

    #[test]
    fn an_unknown_id_is_told_its_neighbours() {
        #[track_caller]
        fn check(id: &str, expect: &str) {
            assert_eq!(show(&catalog(), id).unwrap_err().to_string(), expect);
        }
        check(
            "tool-b",
            "the catalog has no tool `tool-b`; did you mean `tool-a`?",
        );
        check("ta", "the catalog has no tool `ta`; did you mean `tool-a`?");
        check(
            "zzz",
            "the catalog has no tool `zzz`; `telltale catalog list` shows all",
        );
    }
}

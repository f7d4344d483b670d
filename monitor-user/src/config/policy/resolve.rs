//! What was written → what is matched, by the catalog and the host's users.
//!
//! In: single items of policy files. Out: typed values, or why not and what to write instead.

use std::path::PathBuf;
use std::sync::Arc;

use super::World;
use crate::config::error::Problem;
use crate::config::key::{Key, Text};
use crate::config::keys;
use crate::config::vocabulary::did_you_mean;
use crate::config::{BannedTool, values};
use crate::core::attribute::Role;
use crate::core::catalog::host::HostPattern;
use crate::core::catalog::version::{Version, VersionRange};
use crate::core::catalog::{Catalog, PURPOSES, is_jurisdiction};
use crate::core::names::NameSource;
use crate::core::policy::facts::as_name;
use crate::core::policy::judgement::Verdict;
use crate::core::policy::rule::{NONE, Word, matches_glob};

/// Purposes that flows have besides those of manifests.
const MORE_PURPOSES: [&str; 3] = ["dns", "loopback", "ip-geolocation"];

/// Banned tools that the catalog does not know: a ban with a typing mistake is none.
pub(super) fn unknown_bans(banned: &[BannedTool], catalog: &Catalog) -> Vec<Problem> {
    let unknown = banned
        .iter()
        .filter(|banned| catalog.tool(&banned.tool).is_none());
    let problem = |banned: &BannedTool| Problem {
        place: banned.place.clone(),
        subject: format!("banned tool {:?}", banned.tool),
        fault: unknown_tool(&banned.tool, catalog),
    };
    unknown.map(problem).collect()
}

fn unknown_tool(written: &str, catalog: &Catalog) -> String {
    match catalog.near(written).first() {
        Some(tool) => format!("not in the catalog; did you mean {tool:?}?"),
        None => "not in the catalog; `telltale catalog list` shows what is".to_owned(),
    }
}

/// Whether a pack can take this value.
pub(super) fn pack_value(name: &str, text: &str, world: &World<'_>) -> Result<(), String> {
    match name {
        "banned" | "prescribed" | "tools" => tool(text, world.catalog),
        "purposes" => word(Word::Purpose, text, world).map(drop),
        "jurisdictions" => jurisdiction(text),
        _ => endpoint(text).map(drop),
    }
}

/// The texts that an item stands for.
pub(super) fn word(word: Word, text: &str, world: &World<'_>) -> Result<Vec<Arc<str>>, String> {
    let catalog = world.catalog;
    let as_written = || vec![Arc::from(text)];
    match word {
        Word::Tool if text == NONE => Ok(as_written()),
        Word::Tool if text.contains('*') => tools(text, catalog).map(|()| as_written()),
        Word::Tool => tool(text, catalog).map(|()| as_written()),
        Word::Vendor => vendor(text, catalog).map(|vendor| vec![vendor]),
        Word::Jurisdiction | Word::Country => jurisdiction(text).map(|()| as_written()),
        Word::AddressCountry if world.addresses.country.is_none() => Err(no_database(
            "where an address is",
            &keys::POLICY_COUNTRY_DATABASE,
        )),
        Word::AddressCountry => jurisdiction(text).map(|()| as_written()),
        Word::Asn if world.addresses.asn.is_none() => Err(no_database(
            "which autonomous system an address is in",
            &keys::POLICY_ASN_DATABASE,
        )),
        Word::Asn if text == NONE => Ok(as_written()),
        Word::Asn => autonomous_system(text).map(|name| vec![name.into()]),
        Word::Provider if text == NONE || text == "*" => Ok(as_written()),
        Word::Provider => provider(text, catalog),
        Word::Role => {
            let roles = Role::ALL.map(Role::name);
            one_of("role", text, &roles).map(|()| as_written())
        }
        Word::Purpose => {
            let purposes = [&PURPOSES[..], &MORE_PURPOSES].concat();
            one_of("purpose", text, &purposes).map(|()| as_written())
        }
        Word::NameSource => {
            let sources = NameSource::ALL.map(NameSource::name);
            let sources = [&["backed", "claimed"], &sources[..]].concat();
            one_of("source", text, &sources).map(|()| as_written())
        }
        Word::Protocol => one_of("protocol", text, &["tcp", "udp", "other"]).map(|()| as_written()),
        Word::Verdict => {
            let decided = [Verdict::Allowed, Verdict::Denied];
            let verdicts = Verdict::ALL.into_iter().filter(|it| !decided.contains(it));
            let verdicts: Vec<_> = verdicts.map(Verdict::name).collect();
            one_of("verdict", text, &verdicts).map(|()| as_written())
        }
        Word::Cgroup | Word::Container | Word::Unit | Word::Job => Ok(as_written()),
    }
}

/// Rules about addresses must not rest on nothing: they would never fit.
fn no_database(what: &str, key: &Key<Text<PathBuf>>) -> String {
    format!(
        "no database says {what}; name one in the configuration: {} = {:?} in section [{}]",
        key.name, key.shape.example, key.section.name
    )
}

/// `AS64496` or `64496`.
fn autonomous_system(text: &str) -> Result<String, String> {
    let number = text.strip_prefix("AS").unwrap_or(text).parse().ok();
    let number = number.filter(|number| *number > 0);
    number
        .map(as_name)
        .ok_or_else(|| "no autonomous system; write its number, as \"AS64496\"".to_owned())
}

fn one_of(what: &str, text: &str, known: &[&str]) -> Result<(), String> {
    if text == NONE || known.contains(&text) {
        return Ok(());
    }
    Err(did_you_mean(
        text,
        known.iter().copied(),
        &format!("no such {what}"),
    ))
}

fn tool(text: &str, catalog: &Catalog) -> Result<(), String> {
    match catalog.tool(text) {
        Some(_) => Ok(()),
        None => Err(unknown_tool(text, catalog)),
    }
}

fn tools(glob: &str, catalog: &Catalog) -> Result<(), String> {
    match catalog.tools().any(|tool| matches_glob(glob, &tool.id)) {
        true => Ok(()),
        false => Err("fits no tool of the catalog; `telltale catalog list` shows them".to_owned()),
    }
}

/// The vendor in the catalog's own spelling.
fn vendor(text: &str, catalog: &Catalog) -> Result<Arc<str>, String> {
    let known = || catalog.tools().map(|tool| &tool.vendor);
    let vendor = known().find(|vendor| vendor.eq_ignore_ascii_case(text));
    let unknown = || did_you_mean(text, known().map(|vendor| &**vendor), "no such vendor");
    vendor.cloned().ok_or_else(unknown)
}

fn jurisdiction(text: &str) -> Result<(), String> {
    match is_jurisdiction(text) {
        true => Ok(()),
        false => Err(
            "no ISO 3166 alpha-2 code; write one such as \"US\" or \"CN\", or \"XX\" for unknown"
                .to_owned(),
        ),
    }
}

/// A tool stands for itself and its vendor; a service for itself, a vendor for all that is its.
fn provider(text: &str, catalog: &Catalog) -> Result<Vec<Arc<str>>, String> {
    if let Some(tool) = catalog.tool(text) {
        return Ok(vec![Arc::clone(&tool.id), Arc::clone(&tool.vendor)]);
    }
    if let Some(service) = catalog
        .services()
        .iter()
        .find(|service| *service.id == *text)
    {
        return Ok(vec![Arc::clone(&service.id)]);
    }
    let vendors = || {
        let services = catalog.services().iter().map(|service| &service.vendor);
        services.chain(catalog.tools().map(|tool| &tool.vendor))
    };
    let vendor = vendors().find(|vendor| vendor.eq_ignore_ascii_case(text));
    let unknown = || {
        let ids = catalog.tools().map(|tool| &tool.id);
        let known = vendors().chain(ids).map(|known| &**known);
        did_you_mean(text, known, "no such provider")
    };
    vendor
        .map(|vendor| vec![Arc::clone(vendor)])
        .ok_or_else(unknown)
}

/// Hosts; here also whole top-level domains, which companies have of their own.
pub(super) fn endpoint(text: &str) -> Result<HostPattern, String> {
    HostPattern::parse_broad(text).map_err(str::to_owned)
}

/// `443`, `8000-8999`.
pub(super) fn ports(text: &str) -> Result<(u16, u16), String> {
    let wanted = || "no port; write \"443\" or \"8000-8999\"".to_owned();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().map_err(|_| wanted());
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        Err(wanted())
    } else {
        Ok((first, last))
    }
}

/// A user id.
pub(super) fn user(text: &str, world: &World<'_>) -> Result<u32, String> {
    let unknown = "no user of this host's /etc/passwd; write the uid";
    let id = text.parse().ok().or_else(|| (world.users)(text));
    id.ok_or_else(|| unknown.to_owned())
}

/// `>=2.1.91 <2.1.198`.
pub(super) fn versions(text: &str) -> Result<VersionRange, String> {
    let wanted = "no range of versions; write \">=2.1.91\", \"<2.1.198\" or \">=2.1.91 <2.1.198\"";
    let mut range = VersionRange::default();
    for part in text.split_whitespace() {
        let end = |text: &str| Version::parse(text).ok_or_else(|| wanted.to_owned());
        if let Some(since) = part.strip_prefix(">=") {
            range.since = Some(end(since)?);
        } else if let Some(until) = part.strip_prefix('<') {
            range.until = Some(end(until)?);
        } else {
            return Err(wanted.to_owned());
        }
    }
    if range == VersionRange::default() || range.is_empty() {
        return Err(wanted.to_owned());
    }
    Ok(range)
}

/// The first second after a day, since 1970 in UTC. A text that is no day was refused before.
pub(super) fn end_of_day(day: &str) -> i64 {
    const DAY_SECONDS: i64 = 24 * 60 * 60;
    values::day_seconds(day).unwrap_or_default() + DAY_SECONDS
}

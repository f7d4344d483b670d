//! Policy files: what the operator wrote → rules and exceptions, in the order of the file.
//!
//! In: a TOML file, the tools banned elsewhere, and the [`World`] that they are about. Out: a
//! [`Loaded`] policy, or every mistake with its place and its remedy.
//!
//! - [`keys`]: the one table of keys.
//! - [`read`]: takes rules, packs and exceptions out of a file.
//! - [`resolve`]: what was written → what is matched, by the catalog.
//! - [`packs`]: ready sets of rules.

#[cfg(test)]
mod document;
pub mod keys;
pub mod packs;
mod read;
mod resolve;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::error::{self, ConfigError, Place, Problem};
use super::fields::Reader;
use super::{BannedTool, file};
use crate::core::addresses::Addresses;
use crate::core::catalog::Catalog;
use crate::core::policy::PolicyConfig;
use crate::core::policy::review::{Oddity, review};
use crate::core::policy::rule::{Action, Exception, Rule};
use packs::Pack;

/// Longest policy file: as many rules as there may be, of 800 bytes each.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// The user id of a name; `None` if this host knows no such user.
pub type Users<'a> = &'a dyn Fn(&str) -> Option<u32>;

/// A policy, and where it was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub policy: PolicyConfig,
    /// Where each rule and exception is, by its id.
    places: BTreeMap<Arc<str>, Place>,
}

impl Loaded {
    /// What is odd about it, each with its place: the policy can be used all the same.
    #[must_use]
    pub fn oddities(&self, wall_seconds: i64) -> Vec<String> {
        let oddities = review(&self.policy, wall_seconds);
        oddities
            .iter()
            .map(|oddity| self.in_place(oddity))
            .collect()
    }

    fn in_place(&self, oddity: &Oddity) -> String {
        match self.places.get(oddity.of()) {
            Some(place) => format!("{place}: {oddity}"),
            None => oddity.to_string(),
        }
    }
}

/// What rules are about.
pub struct World<'a> {
    /// Tools, services, vendors.
    pub catalog: &'a Catalog,
    /// Users of this host.
    pub users: Users<'a>,
    /// What is known of addresses.
    pub addresses: Arc<Addresses>,
}

/// The policy of `path`, if one is given, behind a ban of the tools `banned`.
///
/// # Errors
///
/// [`ConfigError`] if the file cannot be trusted or read, or anything holds mistakes: all of them.
pub fn load(
    path: Option<&Path>,
    banned: &[BannedTool],
    world: &World<'_>,
) -> Result<Loaded, ConfigError> {
    let text = path
        .map(|path| file::read(path, FILE_BYTES_MAX))
        .transpose()?;
    let path = path.unwrap_or_else(|| Path::new(""));
    parse(path, text.as_deref().unwrap_or_default(), banned, world)
}

/// As [`load`], from the text of the file; its path is for messages only.
///
/// # Errors
///
/// [`ConfigError::Invalid`] with every mistake.
pub fn parse(
    path: &Path,
    text: &str,
    banned: &[BannedTool],
    world: &World<'_>,
) -> Result<Loaded, ConfigError> {
    let mut problems = resolve::unknown_bans(banned, world.catalog);
    let mut written = Written::default();
    if problems.is_empty() {
        written.extend_with_bans(banned, world);
    }
    let mut reader = Reader::new(path, text, &keys::VOCABULARY);
    let file = reader.document(|fields| read::file(fields, world));
    let more = reader.take_problems(&mut problems);
    problems.extend(written.extend_with_file(file));
    problems.extend(written.check_ids());
    error::none_or(problems, more)?;
    let mut loaded = written.finish();
    loaded.policy.addresses = Arc::clone(&world.addresses);
    Ok(loaded)
}

/// A rule and where it was written.
pub(super) struct Placed<T> {
    pub(super) place: Place,
    pub(super) value: T,
}

/// An exception, where it was written, and where each of its rules is named.
pub(super) struct PlacedException {
    pub(super) place: Place,
    pub(super) rules: Vec<Place>,
    pub(super) value: Exception,
}

/// What a file holds.
#[derive(Default)]
pub(super) struct FileContent {
    pub(super) packs: Vec<(Pack, Vec<Placed<Rule>>)>,
    pub(super) rules: Vec<Placed<Rule>>,
    pub(super) exceptions: Vec<PlacedException>,
}

#[derive(Default)]
struct Written {
    rules: Vec<Placed<Rule>>,
    /// What packs allow: it comes last, so that it opens nothing that the file forbids.
    allowed_by_packs: Vec<Placed<Rule>>,
    exceptions: Vec<PlacedException>,
    /// How many rules come from bans outside of the file, which may bear the ids of the pack's.
    bans: usize,
}

impl Written {
    /// `banned` is short for the pack `ban-and-replace`, in front of everything else.
    fn extend_with_bans(&mut self, banned: &[BannedTool], world: &World<'_>) {
        let Some(first) = banned.first() else { return };
        let tools = banned.iter().map(|banned| banned.tool.clone()).collect();
        let values = BTreeMap::from([("banned", tools)]);
        if let Some(pack) = packs::find(packs::BAN) {
            self.rules = pack.rules(&values, &first.place, world);
            self.bans = self.rules.len();
        }
    }

    /// Rules and packs in the order in which they were written.
    fn extend_with_file(&mut self, file: FileContent) -> Vec<Problem> {
        let mut parts: Vec<Placed<Rule>> = file.rules;
        let mut problems = Vec::new();
        let mut seen: Vec<(String, Place)> = Vec::new();
        for (pack, rules) in file.packs {
            if let Some(rule) = rules.first() {
                if let Some((_, other)) = seen.iter().find(|(name, _)| *name == pack.name) {
                    problems.push(Problem {
                        place: rule.place.clone(),
                        subject: format!("pack.name = {:?}", pack.name),
                        fault: format!("the pack is there already, at {other}; merge the two"),
                    });
                    continue;
                }
                seen.push((pack.name.clone(), rule.place.clone()));
            }
            let (allowing, others): (Vec<_>, Vec<_>) = rules
                .into_iter()
                .partition(|rule| rule.value.action == Action::Allow);
            self.allowed_by_packs.extend(allowing);
            parts.extend(others);
        }
        // The sort is stable: rules of one pack keep their order.
        parts.sort_by(|a, b| a.place.cmp(&b.place));
        self.rules.extend(parts);
        self.exceptions = file.exceptions;
        problems
    }

    fn check_ids(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let of_file = self
            .rules
            .iter()
            .skip(self.bans)
            .chain(&self.allowed_by_packs);
        let rules = of_file.map(|rule| (&rule.value.id, &rule.place, "rule"));
        let exceptions = self.exceptions.iter();
        let exceptions = exceptions.map(|it| (&it.value.id, &it.place, "exception"));
        let mut places: BTreeMap<(&str, &Arc<str>), &Place> = BTreeMap::new();
        for (id, place, what) in rules.chain(exceptions) {
            if let Some(other) = places.insert((what, id), place) {
                problems.push(Problem {
                    place: place.clone(),
                    subject: format!("{what}.id = {id:?}"),
                    fault: format!("the id of another {what}, at {other}; give each its own"),
                });
            }
        }
        let known: BTreeMap<&str, &Rule> = self
            .rules
            .iter()
            .chain(&self.allowed_by_packs)
            .map(|rule| (&*rule.value.id, &rule.value))
            .collect();
        for exception in &self.exceptions {
            for (id, place) in exception.value.rules.iter().zip(&exception.rules) {
                let fault = match known.get(&**id) {
                    None => super::vocabulary::did_you_mean(
                        id,
                        known.keys().copied(),
                        "the policy has no such rule",
                    ),
                    Some(rule) if rule.action == Action::Allow => {
                        "the rule allows, so there is nothing to lift; remove it here".to_owned()
                    }
                    Some(_) => continue,
                };
                problems.push(Problem {
                    place: place.clone(),
                    subject: format!("exception.rules = [{id:?}]"),
                    fault,
                });
            }
        }
        problems
    }

    fn finish(self) -> Loaded {
        let mut loaded = Loaded::default();
        for Placed { place, value } in self.rules.into_iter().chain(self.allowed_by_packs) {
            loaded.places.insert(Arc::clone(&value.id), place);
            loaded.policy.rules.push(value);
        }
        for PlacedException { place, value, .. } in self.exceptions {
            loaded.places.insert(Arc::clone(&value.id), place);
            loaded.policy.exceptions.push(value);
        }
        loaded
    }
}

#[cfg(test)]
mod tests;

//! Takes rules, packs and exceptions out of a policy file.
//!
//! In: the tables of the file. Out: rules and exceptions, checked by themselves; what is wrong is
//! noted with the file's reader.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keys;
use super::packs::{self, Pack, Values};
use super::{FileContent, Placed, PlacedException, World, resolve};
use crate::config::error::Place;
use crate::config::fields::Fields;
use crate::config::key::{Key, List};
use crate::config::vocabulary::did_you_mean;
use crate::core::policy::judgement::Severity;
use crate::core::policy::rule::{Action, Exception, Matcher, Rule, Word};

/// A whole policy file.
pub(super) fn file(file: &mut Fields, world: &World<'_>) -> FileContent {
    FileContent {
        packs: file.sections(&keys::PACK, |fields| pack(fields, world)),
        rules: rules(file, world),
        exceptions: file.sections(&keys::EXCEPTION, |fields| exception(fields, world)),
    }
}

/// All `[[rule]]`.
pub(super) fn rules(file: &mut Fields, world: &World<'_>) -> Vec<Placed<Rule>> {
    file.sections(&keys::RULE, |fields| rule(fields, world))
}

fn pack(fields: &mut Fields, world: &World<'_>) -> Option<(Pack, Vec<Placed<Rule>>)> {
    let place = fields.place();
    let name_place = fields.place_of(keys::PACK_NAME.name);
    let name = fields.text(&keys::PACK_NAME);
    let given = values_with_places(fields);
    let name = name?;
    let Some(pack) = packs::find(&name) else {
        let known = packs::PACKS.iter().map(|(name, _)| *name);
        let fault = did_you_mean(&name, known, "no such pack");
        fields.mistake(&name_place, format!("pack.name = {name:?}"), fault);
        return None;
    };
    let mut values = Values::new();
    let mut sound = true;
    for (value, items) in given {
        if !pack.takes(value) {
            let takes = [&pack.required[..], &pack.optional].concat().join(", ");
            let fault = format!("the pack {name} takes no such value; it takes {takes}");
            fields.mistake(&items[0].0, format!("pack.{value}"), fault);
            sound = false;
            continue;
        }
        for (place, item) in &items {
            if let Err(fault) = resolve::pack_value(value, item, world) {
                fields.mistake(place, format!("pack.{value} = {item:?}"), fault);
                sound = false;
            }
        }
        values.insert(value, items.into_iter().map(|(_, item)| item).collect());
    }
    for value in &pack.required {
        if !values.contains_key(value.as_str()) {
            let example = keys::PACK_VALUES.iter().find(|key| key.name == value);
            let example = example.map_or(&[][..], |key| key.shape.example);
            let fault = format!("missing; write for example {value} = {example:?}");
            fields.mistake(&place, format!("pack.{value}"), fault);
            sound = false;
        }
    }
    sound &= one_side(fields, &values, &place);
    let rules = if sound {
        pack.rules(&values, &place, world)
    } else {
        Vec::new()
    };
    Some((pack, rules))
}

/// A tool cannot be banned and prescribed.
fn one_side(fields: &mut Fields, values: &Values, place: &Place) -> bool {
    let of = |name: &str| values.get(name).map_or(&[][..], |items| items);
    let both = of("banned")
        .iter()
        .find(|tool| of("prescribed").contains(tool));
    if let Some(tool) = both {
        let fault = "the tool is banned as well; choose".to_owned();
        fields.mistake(place, format!("pack.prescribed = [{tool:?}]"), fault);
    }
    both.is_none()
}

fn values_with_places(fields: &mut Fields) -> BTreeMap<&'static str, Vec<(Place, String)>> {
    let values = keys::PACK_VALUES.iter();
    let values = values.map(|key| (key.name, fields.list(key)));
    values.filter(|(_, items)| !items.is_empty()).collect()
}

/// The values that a section gives, by their names.
pub(super) fn pack_values(fields: &mut Fields) -> Values {
    let values = values_with_places(fields).into_iter();
    values
        .map(|(name, items)| (name, items.into_iter().map(|(_, item)| item).collect()))
        .collect()
}

fn rule(fields: &mut Fields, world: &World<'_>) -> Option<Placed<Rule>> {
    let (place, mistakes) = (fields.place(), fields.mistakes());
    let id = fields.text(&keys::RULE_ID);
    let what = fields.text(&keys::RULE_WHAT);
    let action = action(fields);
    let when = matcher(fields, world);
    let unless = fields.section(&keys::UNLESS, |fields| matcher(fields, world));
    let (id, action) = (id?, action?);
    let subject = format!("rule {id:?}");
    // What is wrong with its items was told; without them it may seem to be about nothing.
    if fields.mistakes() > mistakes {
        return None;
    }
    if !when.is_selective() {
        let fault = "it would fit every process of the host; add for example tool = [\"*\"]";
        fields.mistake(&place, subject, fault.to_owned());
        return None;
    }
    if action == Action::Allow && !when.words(Word::Job).is_empty() {
        fields.mistake(&place, subject, JOB_ALLOWS.to_owned());
        return None;
    }
    let rule = Rule {
        id: id.into(),
        what: what.map(Arc::from),
        pack: None,
        when,
        unless,
        action,
    };
    Some(Placed { place, value: rule })
}

const JOB_ALLOWS: &str = "nothing can be allowed by `job`: whoever starts a process chooses its \
    environment; use `user`, `unit` or `container`";

fn action(fields: &mut Fields) -> Option<Action> {
    let action_place = fields.place_of(keys::RULE_ACTION.name);
    let severity_place = fields.place_of(keys::RULE_SEVERITY.name);
    let action = fields.text(&keys::RULE_ACTION);
    let severity = fields.text(&keys::RULE_SEVERITY);
    let severity = match severity.as_deref() {
        None => None,
        Some("info") => Some(Severity::Info),
        Some("warning") => Some(Severity::Warning),
        Some("critical") => Some(Severity::Critical),
        Some(other) => {
            let fault = "no severity; write \"info\", \"warning\" or \"critical\"".to_owned();
            fields.mistake(&severity_place, format!("rule.severity = {other:?}"), fault);
            None
        }
    };
    match action.as_deref()? {
        "allow" if severity.is_some() => {
            let fault = "what is allowed raises no alert; remove it".to_owned();
            fields.mistake(&severity_place, "rule.severity".to_owned(), fault);
            None
        }
        "allow" => Some(Action::Allow),
        "alert" => Some(Action::Alert(severity.unwrap_or(Severity::Warning))),
        "deny" => Some(Action::Deny(severity.unwrap_or(Severity::Critical))),
        other => {
            let fault = "no action; write \"allow\", \"alert\" or \"deny\"".to_owned();
            fields.mistake(&action_place, format!("rule.action = {other:?}"), fault);
            None
        }
    }
}

fn matcher(fields: &mut Fields, world: &World<'_>) -> Matcher {
    let mut matcher = Matcher::default();
    for (word, key) in &keys::WORDS {
        let texts = resolved(fields, key, |text| resolve::word(*word, text, world));
        matcher.words[*word as usize] = texts.into_iter().flatten().collect();
    }
    let place = fields.place_of(keys::VERSION.name);
    if let Some(text) = fields.text(&keys::VERSION) {
        match resolve::versions(&text) {
            Ok(range) => matcher.versions = Some(range),
            Err(fault) => fields.mistake(&place, format!("rule.version = {text:?}"), fault),
        }
    }
    matcher.endpoints = resolved(fields, &keys::ENDPOINT, resolve::endpoint);
    matcher.ports = resolved(fields, &keys::PORT, resolve::ports);
    matcher.users = resolved(fields, &keys::USER, |text| resolve::user(text, world));
    let during = fields.list(&keys::DURING);
    matcher.during = during.into_iter().map(|(_, window)| window).collect();
    matcher
}

/// The items of a key, each as what it stands for.
fn resolved<T>(
    fields: &mut Fields,
    key: &Key<List<String>>,
    resolve: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let mut values = Vec::new();
    for (place, text) in fields.list_of_words(key) {
        match resolve(&text) {
            Ok(value) => values.push(value),
            Err(fault) => {
                let subject = fields.path(key.name);
                fields.mistake(&place, format!("{subject} = {text:?}"), fault);
            }
        }
    }
    values
}

fn exception(fields: &mut Fields, world: &World<'_>) -> Option<PlacedException> {
    let place = fields.place();
    let id = fields.text(&keys::EXCEPTION_ID);
    let rules = fields.list(&keys::EXCEPTION_RULES);
    let when = matcher(fields, world);
    let owner = fields.text(&keys::EXCEPTION_OWNER);
    let reason = fields.text(&keys::EXCEPTION_REASON);
    let ticket = fields.text(&keys::EXCEPTION_TICKET);
    let expires = fields.date(&keys::EXCEPTION_EXPIRES);
    if rules.is_empty() {
        let fault = "missing; write for example rules = [\"banned-tool\"]".to_owned();
        fields.mistake(&place, "exception.rules".to_owned(), fault);
    }
    let (id, expires) = (id?, expires?);
    if !when.words(Word::Job).is_empty() {
        fields.mistake(&place, format!("exception {id:?}"), JOB_ALLOWS.to_owned());
    }
    let exception = Exception {
        id: id.into(),
        rules: rules.iter().map(|(_, rule)| rule.as_str().into()).collect(),
        when,
        owner: owner?.into(),
        reason: reason?.into(),
        ticket: ticket.map(Arc::from),
        ends_seconds: resolve::end_of_day(&expires),
        expires: expires.into(),
    };
    Some(PlacedException {
        place,
        rules: rules.into_iter().map(|(place, _)| place).collect(),
        value: exception,
    })
}

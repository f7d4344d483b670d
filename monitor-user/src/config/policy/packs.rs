//! Packs: ready sets of rules, as policy files with places for the operator's values.
//!
//! In: the files `policy/packs/*.toml`, compiled in, and values. Out: rules.

use std::collections::BTreeMap;
use std::path::Path;

use super::keys;
use super::{Placed, World, read};
use crate::config::error::Place;
use crate::config::fields::Reader;
use crate::core::policy::rule::Rule;

/// The pack that `banned` is short for.
pub const BAN: &str = "ban-and-replace";

/// Name and text of each.
pub const PACKS: [(&str, &str); 5] = [
    (
        BAN,
        include_str!("../../../../policy/packs/ban-and-replace.toml"),
    ),
    (
        "no-telemetry",
        include_str!("../../../../policy/packs/no-telemetry.toml"),
    ),
    (
        "data-sovereignty",
        include_str!("../../../../policy/packs/data-sovereignty.toml"),
    ),
    (
        "known-tools-only",
        include_str!("../../../../policy/packs/known-tools-only.toml"),
    ),
    (
        "proxy-only",
        include_str!("../../../../policy/packs/proxy-only.toml"),
    ),
];

/// The values of a pack, by their names.
pub type Values = BTreeMap<&'static str, Vec<String>>;

/// A pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// Its name.
    pub name: String,
    /// What it does.
    pub what: String,
    /// Values that must be given.
    pub required: Vec<String>,
    /// Values that may be given.
    pub optional: Vec<String>,
    /// Values that hold if none are given.
    pub defaults: Values,
    text: &'static str,
}

/// The pack of this name.
#[must_use]
pub fn find(name: &str) -> Option<Pack> {
    let (_, text) = PACKS.iter().find(|(known, _)| *known == name)?;
    let mut reader = Reader::new(Path::new(name), text, &keys::VOCABULARY);
    let names = |items: Vec<(Place, String)>| items.into_iter().map(|(_, name)| name).collect();
    Some(reader.document(|file| Pack {
        name: name.to_owned(),
        what: file.text(&keys::PACK_WHAT).unwrap_or_default(),
        required: names(file.list(&keys::PACK_REQUIRED)),
        optional: names(file.list(&keys::PACK_OPTIONAL)),
        defaults: file.section(&keys::DEFAULTS, read::pack_values),
        text,
    }))
}

impl Pack {
    /// Whether it takes a value of this name.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        self.required
            .iter()
            .chain(&self.optional)
            .any(|known| known == name)
    }

    /// Its rules with these values, which were checked: they hold no quotes. A rule for which a
    /// value is missing is left out.
    pub(super) fn rules(
        &self,
        values: &Values,
        place: &Place,
        world: &World<'_>,
    ) -> Vec<Placed<Rule>> {
        let text = self.with(values);
        let mut reader = Reader::new(Path::new(&self.name), &text, &keys::VOCABULARY);
        let rules = reader.document(|file| {
            // The head was read by `find`.
            file.text(&keys::PACK_WHAT);
            file.list(&keys::PACK_REQUIRED);
            file.list(&keys::PACK_OPTIONAL);
            file.section(&keys::DEFAULTS, read::pack_values);
            read::rules(file, world)
        });
        debug_assert!(
            reader.finish().is_ok(),
            "pack {} with {values:?}",
            self.name
        );
        let of_pack = |rule: Placed<Rule>| Placed {
            place: place.clone(),
            value: Rule {
                pack: Some(self.name.as_str().into()),
                ..rule.value
            },
        };
        rules.into_iter().map(of_pack).collect()
    }

    /// Its text with `"$name"` replaced by the values.
    fn with(&self, values: &Values) -> String {
        let mut blocks = self.text.split("\n[[rule]]");
        let mut text = blocks.next().unwrap_or_default().to_owned();
        for block in blocks {
            let mut block = format!("\n[[rule]]{block}");
            for name in self.required.iter().chain(&self.optional) {
                let given = values
                    .get(name.as_str())
                    .or_else(|| self.defaults.get(name.as_str()));
                let items = given
                    .into_iter()
                    .flatten()
                    .map(|value| format!("{value:?}"));
                let items = items.collect::<Vec<_>>().join(", ");
                if !items.is_empty() {
                    block = block.replace(&format!("\"${name}\""), &items);
                }
            }
            if !block.contains("\"$") {
                text += &block;
            }
        }
        text
    }
}

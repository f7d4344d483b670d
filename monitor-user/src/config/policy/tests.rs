//! Policy files, good and bad.
//!
//! In: texts. Out: rules and exceptions in their order, or messages with places and remedies.

use std::fs;
use std::sync::LazyLock;

use super::document::EXAMPLE;
use super::*;
use crate::config::{AddressFiles, Place, addresses};
use crate::core::policy::Policy;
use crate::core::policy::rule::Word;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::embedded().unwrap());

/// 20 November 2026.
const NOW: i64 = 1_795_132_800;

fn users(name: &str) -> Option<u32> {
    (name == "builder").then_some(1000)
}

fn parse_with(name: &str, text: &str, banned: &[&str]) -> Result<Loaded, ConfigError> {
    let place = Place::Flag("--banned");
    let banned: Vec<_> = banned
        .iter()
        .map(|&tool| BannedTool {
            tool: tool.to_owned(),
            place: place.clone(),
        })
        .collect();
    parse_in(name, text, &banned, Addresses::default())
}

fn parse_in(
    name: &str,
    text: &str,
    banned: &[BannedTool],
    addresses: Addresses,
) -> Result<Loaded, ConfigError> {
    let world = World {
        catalog: &CATALOG,
        users: &users,
        addresses: Arc::new(addresses),
    };
    parse(Path::new(name), text, banned, &world)
}

#[track_caller]
fn loaded(text: &str) -> Loaded {
    match parse_with("policy.toml", text, &[]) {
        Ok(loaded) => loaded,
        Err(error) => panic!("{error}"),
    }
}

fn ids(loaded: &Loaded) -> Vec<&str> {
    loaded.policy.rules.iter().map(|rule| &*rule.id).collect()
}

#[test]
fn the_example_is_good_and_in_order() {
    let loaded = loaded(EXAMPLE);
    assert_eq!(
        ids(&loaded),
        [
            "banned-tool",
            "banned-vendor",
            "prescribed-tool-fingerprint",
            "no-telemetry",
            "data-leaves-for-unknown",
            "data-leaves",
            "data-leaves-by-program",
            "no-agents-at-night",
            "internal-mirror",
            "prescribed-tool",
        ]
    );
    assert_eq!(loaded.oddities(NOW), [""; 0]);
    assert_eq!(Policy::new(loaded.policy).banned(), ["claude-code".into()]);
}

#[test]
fn every_pack_works_with_the_examples_of_its_values() {
    for (name, _) in packs::PACKS {
        let pack = packs::find(name).unwrap();
        let values = keys::PACK_VALUES.iter().filter(|key| pack.takes(key.name));
        let values: String = values
            .map(|key| format!("{} = {:?}\n", key.name, key.shape.example))
            .collect();
        let loaded = loaded(&format!("[[pack]]\nname = {name:?}\n{values}"));
        assert!(!loaded.policy.rules.is_empty(), "{name}");
        assert!(
            loaded.policy.rules.iter().all(|rule| rule.what.is_some()),
            "{name}"
        );
    }
}

#[test]
fn a_ban_of_the_configuration_comes_first_and_is_the_pack() {
    let text = "[[rule]]\nid = \"mine\"\naction = \"allow\"\ntool = [\"claude-code\"]\n\
                [[exception]]\nid = \"x\"\nrules = [\"banned-tool\"]\nowner = \"o\"\nreason = \"r\"\nexpires = 2036-12-31\n";
    let banned = parse_with("p", text, &["claude-code"]).unwrap();
    assert_eq!(ids(&banned), ["banned-tool", "banned-vendor", "mine"]);
    let pack = loaded("[[pack]]\nname = \"ban-and-replace\"\nbanned = [\"claude-code\"]\n");
    assert_eq!(banned.policy.rules[..2], pack.policy.rules);
    let both = parse_with(
        "p",
        "[[pack]]\nname = \"ban-and-replace\"\nbanned = [\"codex-cli\"]\n",
        &["claude-code"],
    );
    assert_eq!(
        ids(&both.unwrap()),
        [
            "banned-tool",
            "banned-vendor",
            "banned-tool",
            "banned-vendor"
        ]
    );
}

#[test]
fn the_digest_is_of_what_the_policy_says() {
    let digest = |text: &str| Policy::new(loaded(text).policy).digest().to_string();
    let written = digest("[[rule]]\nid = \"a\"\naction = \"deny\"\ntool = [\"claude-code\"]\n");
    let otherwise = "# A comment\nrule = [{ tool = [\"claude-code\"], action = \"deny\", id = \"a\", what = \"w\" }]\n";
    assert_eq!(written, digest(otherwise));
    assert_ne!(written, digest(&otherwise.replace("deny", "alert")));
    assert_ne!(
        written,
        digest(&otherwise.replace("claude-code", "codex-cli"))
    );
}

#[test]
fn what_is_odd_is_told_with_its_place() {
    let text = "[[rule]]\nid = \"wide\"\naction = \"deny\"\ntool = [\"*\"]\n\
                [[rule]]\nid = \"narrow\"\naction = \"alert\"\ntool = [\"claude-code\"]\nport = [443]\n\
                [[exception]]\nid = \"old\"\nrules = [\"wide\"]\nowner = \"me\"\nreason = \"r\"\nexpires = 2026-11-19\n";
    assert_eq!(
        loaded(text).oddities(NOW),
        [
            "policy.toml:5:1: rule `narrow` never decides: whatever fits it fits `wide`, which \
             comes earlier; move it up, narrow the other, or remove it",
            "policy.toml:10:1: exception `old` of me ended with 2026-11-19, and lifts nothing any \
             more; renew it or remove it",
        ]
    );
    assert_eq!(
        loaded(&text.replace("11-19", "11-20")).oddities(NOW).len(),
        1
    );
}

#[test]
fn packs_that_overlap_are_told_with_their_places() {
    let packs = "[[pack]]\nname = \"ban-and-replace\"\nbanned = [\"codex-cli\", \"claude-code\"]\n";
    let loaded = parse_with("policy.toml", packs, &["claude-code", "codex-cli"]).unwrap();
    assert_eq!(
        loaded.oddities(NOW),
        [
            "policy.toml:1:1: packs ban-and-replace and ban-and-replace overlap: rule `banned-tool` \
             never decides: whatever fits it fits `banned-tool`, which comes earlier; move it up, \
             narrow the other, or remove it",
            "policy.toml:1:1: packs ban-and-replace and ban-and-replace overlap: rule \
             `banned-vendor` never decides: whatever fits it fits `banned-vendor`, which comes \
             earlier; move it up, narrow the other, or remove it",
        ]
    );
}

/// Pairs of rules, the second of which the first covers or not.
#[test]
fn a_rule_is_unreachable_only_if_an_earlier_one_always_fits() {
    #[track_caller]
    fn check(first: &str, second: &str, odd: bool) {
        let rule = |id: &str, text: &str| format!("[[rule]]\nid = \"{id}\"\n{text}\n");
        let text = rule("a", &first.replace("; ", "\n")) + &rule("b", &second.replace("; ", "\n"));
        assert_eq!(
            loaded(&text).oddities(NOW).len(),
            usize::from(odd),
            "{first} | {second}"
        );
    }
    let deny = |more: &str| format!("action = \"deny\"; {more}");
    let allow = |more: &str| format!("action = \"allow\"; {more}");
    let claude = "tool = [\"claude-code\"]";
    check(&deny(claude), &deny(claude), true);
    check(&deny(claude), &allow(claude), true);
    // An impostor is not allowed, so the ban behind it still decides.
    check(&allow(claude), &deny(claude), false);
    check(&allow(claude), &allow(claude), true);
    check(&deny("tool = [\"claude-*\"]"), &deny(claude), true);
    check(&deny(claude), &deny("tool = [\"claude-*\"]"), false);
    check(
        &deny("endpoint = [\"*.example.com\"]"),
        &deny("endpoint = [\"a.example.com\"]"),
        true,
    );
    check(
        &deny("endpoint = [\"192.0.2.0/24\"]"),
        &deny("endpoint = [\"192.0.2.7\"]"),
        true,
    );
    check(
        &deny("endpoint = [\"192.0.2.0/25\"]"),
        &deny("endpoint = [\"192.0.2.0/24\"]"),
        false,
    );
    check(&deny("port = [\"1-100\"]"), &deny("port = [\"50\"]"), true);
    check(
        &deny("port = [\"1-100\"]"),
        &deny("port = [\"50\", \"101\"]"),
        false,
    );
    check(
        &deny(claude),
        &deny("tool = [\"claude-code\"]; user = [\"1\"]"),
        true,
    );
    check(
        &deny("tool = [\"claude-code\"]; user = [\"1\"]"),
        &deny(claude),
        false,
    );
    check(
        &deny("tool = [\"claude-code\"]; unless = { user = [\"1\"] }"),
        &deny(claude),
        false,
    );
    // Of presence, the first says nothing.
    check(
        &deny("tool = [\"claude-code\"]; protocol = [\"tcp\", \"udp\", \"other\"]"),
        &deny(claude),
        false,
    );
}

fn databases(asn: &str, country: &str) -> Addresses {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/addresses");
    let files = AddressFiles {
        asn: Some(folder.join(asn)),
        country: Some(folder.join(country)),
    };
    addresses::load(&files).unwrap()
}

fn with_databases(text: &str) -> Result<Loaded, ConfigError> {
    parse_in("p", text, &[], databases("asn.mmdb", "country.mmdb"))
}

#[test]
fn rules_about_addresses_are_read_where_there_are_databases() {
    let head = "[[rule]]\nid = \"r\"\naction = \"deny\"\n";
    let loaded = with_databases(&format!(
        "{head}asn = [\"AS64496\", \"65551\", \"none\"]\naddress_country = [\"CN\", \"XX\"]\n"
    ));
    let when = &loaded.unwrap().policy.rules[0].when;
    let words = |word| when.words(word).iter().map(|it| &**it).collect::<Vec<_>>();
    assert_eq!(words(Word::Asn), ["AS64496", "AS65551", "none"]);
    assert_eq!(words(Word::AddressCountry), ["CN", "XX"]);

    let asn = "no autonomous system; write its number, as \"AS64496\"";
    for wrong in ["AS", "0", "AS0", "as1", "AS-1", "AS4294967296", "*"] {
        let error = with_databases(&format!("{head}asn = [{wrong:?}]\n")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("p:4:8: rule.asn = {wrong:?}: {asn}")
        );
    }
    let error = with_databases(&format!("{head}address_country = [\"China\"]\n")).unwrap_err();
    let expect = "p:4:20: rule.address_country = \"China\": no ISO 3166 alpha-2 code; write one";
    assert!(error.to_string().starts_with(expect), "{error}");
}

#[test]
fn the_digest_covers_the_databases_that_rules_ask() {
    let digest = |rule: &str, addresses| {
        let text = format!("[[rule]]\nid = \"r\"\naction = \"deny\"\n{rule}");
        let loaded = parse_in("p", &text, &[], addresses).unwrap();
        Policy::new(loaded.policy).digest().to_string()
    };
    let right = || databases("asn.mmdb", "country.mmdb");
    let other = || databases("country.mmdb", "country.mmdb");
    let (by_asn, by_tool) = ("asn = [\"1\"]", "tool = [\"*\"]");
    assert_eq!(digest(by_asn, right()), digest(by_asn, right()));
    assert_ne!(digest(by_asn, right()), digest(by_asn, other()));
    assert_eq!(digest(by_tool, right()), digest(by_tool, other()));
}

#[test]
fn a_database_of_another_kind_is_odd() {
    let loaded = parse_in("p", "", &[], databases("country.mmdb", "country.mmdb")).unwrap();
    assert_eq!(
        loaded.oddities(NOW),
        [
            "the database for `asn` (it calls itself \"Test-Country\") knows none of the public \
          resolvers 1.1.1.1, 8.8.8.8 and others; is it the right file?"
        ]
    );
}

/// Every `tests/policy/invalid-*.toml` is refused, in the words of `tests/policy/messages.txt`.
#[test]
fn every_mistake_has_its_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
    let files = fs::read_dir(&folder).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("invalid-")).collect();
    names.sort();
    let mut messages = String::new();
    for name in names {
        let text = fs::read_to_string(folder.join(&name)).unwrap();
        match parse_with(&name, &text, &[]) {
            Ok(_) => panic!("{name} is accepted"),
            Err(error) => messages += &format!("{error}\n\n"),
        }
    }
    let golden = folder.join("messages.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&golden, &messages).unwrap();
    }
    assert_eq!(messages, fs::read_to_string(&golden).unwrap_or_default());
}

/// A policy as long as one can be is read at once: its places are not searched for from the top.
#[test]
fn ten_thousand_rules_and_not_one_more() {
    let rules = |count: usize| -> String {
        let rule = |it: usize| {
            format!(
                "[[rule]]\nid = \"r{it}\"\naction = \"deny\"\nendpoint = [\"h{it}.example.org\"]\n"
            )
        };
        (0..count).map(rule).collect()
    };
    assert_eq!(loaded(&rules(10_000)).policy.rules.len(), 10_000);
    let error = parse_with("p", &rules(10_001), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "p:1:1: [[rule]]: 10001 of them; at most 10000 are allowed"
    );
}

#[test]
fn no_text_makes_it_panic() {
    for end in (0..EXAMPLE.len()).filter(|&end| EXAMPLE.is_char_boundary(end)) {
        let _ = parse_with("cut", &EXAMPLE[..end], &[]);
    }
}

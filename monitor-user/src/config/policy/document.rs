//! `docs/policy.md`, written from the table of keys, the packs and the example.
//!
//! In: [`keys::rows`], `policy/packs/*.toml`, `policy/example.toml`. Out: the text of the file. The
//! test here fails when the committed file differs; `UPDATE=1 cargo test -p telltale config`
//! writes it again.

use super::keys;
use super::packs::{self, PACKS};
use crate::config::document::markdown_section;

/// The example, which a test checks as well.
pub(super) const EXAMPLE: &str = include_str!("../../../../policy/example.toml");

const HEAD: &str = "\
# Policy

<!-- Written from monitor-user/src/config/policy, policy/packs and policy/example.toml:
     UPDATE=1 cargo test -p telltale config -->

A policy says which AI tools may run here, what they may contact, and what deserves a person's attention.
It is a TOML file, named by `--policy FILE` or by `file` in the section `[policy]` of the configuration.

```toml
EXAMPLE```

`telltale check --policy FILE` reports every mistake with its line, column and remedy, and ends with status 2.
What it can use and its author cannot have meant, it reports with status 1: a rule that never decides because an earlier one fits whenever it does, packs that overlap, an exception that is over, a database of addresses that knows no public resolver.
`telltale replay RECORDING --policy NEW --against OLD` shows what a change would have meant for the past.

## How it decides

First the tool's manifest in the catalog is asked: is the endpoint listed, optional, undeclared?
Then the rules, in the order of the file; a pack's rules stand where the pack stands.
The first rule that fits decides, and an exception may lift it.
Where no rule fits, the manifest's word stands: an undeclared endpoint of a tool raises `unexpected-endpoint`.

- A rule fits if every key that it has fits, and a key fits if one of its items does. `unless` turns that around.
- A rule with no key about where a connection goes is about the process: it fits as soon as the process starts, even one that stays silent, and everything that it does.
- What a pack allows comes after all other rules, so that it opens nothing that the file forbids.
- A rule about countries, purposes or providers is not about what stays on the host, goes to its resolver, or answers a peer. A rule with `endpoint` or `verdict` is, where those fit.

## What counts as evidence

Whatever forbids takes every hint, and whatever allows takes proof only.

- A program that merely bears a tool's name counts as the tool in what forbids, and never in what allows: not in a rule with `action = \"allow\"`, not in the `unless` of other rules, not in an exception.
- A name that only the client claims (in its TLS hello, say) counts in the same way. A *backed* name is one that a resolver's answer ties to the address.
- The build job comes from environment variables, which whoever starts a process chooses: `job` is refused in what allows.

So nobody gets around a ban with a copy under another name, and nobody borrows the prescribed tool's allowance.

## Whose it is, and where it stands

`country` is the home of who runs the endpoint, by the catalog. It needs no address, and it is what a rule about data and laws is about.
`address_country` and `asn` are about the address alone: where a database says that it stands, and who announces it to the Internet.
A content network answers from next door, so a service of one country often has an address of another; and databases are wrong of a part of all addresses.

Telltale brings no such database. Name your own in the configuration, and keep it fresh by the tools of who makes it:

```toml
[policy]
asn_database = \"/var/lib/GeoIP/GeoLite2-ASN.mmdb\"
address_country_database = \"/var/lib/GeoIP/GeoLite2-Country.mmdb\"
```

Any file in the MaxMind DB format will do that has the fields of GeoLite2, as those of MaxMind and DB-IP: `autonomous_system_number`, and `country.iso_code` or else `registered_country.iso_code`.
It is held in memory, at most 256 MiB of it, must not be writable by others, and is read again with the policy; `telltale_address_database_build_timestamp_seconds` shows its age.
A rule with one of the two keys, but no database for it, is a mistake.
No database has the addresses of your own networks (`XX`, `none`): let a rule with their `endpoint` come before one that forbids all countries but some.
With a database, events have `destination.as.number` and `destination.geo.country_iso_code`, whatever the rules are, and the policy's digest covers the databases that rules ask.
Of a connection through a proxy, the address is the proxy's, unless the client asks it for an address.

## What it does

Telltale tells and does not block yet: `deny` is evaluated at every connection and shows as `would-deny` in events.
Events hold the rule (`rule.name`), what it asks for (`telltale.action`), why (`telltale.why`), and the exception that lifted it (`telltale.exception`).
`telltale_policy_decisions_total` counts by rule; every rule is there at 0 from the start, up to 256 of them.
`telltale_policy_info` has the digest of what judges, and so have `/status` and the alerts of rules: two hosts with one digest judge alike, however their files are written.

The file is refused when others than its owner can write it, or can replace it.
It is read again on SIGHUP and when it changes; what cannot be used is told by the alert `config-rejected` and in `/status`, and the last good policy stays in force.

Judging by 10 000 rules costs microseconds: rules are compiled into tables, and none is looked at one by one.

Names of users are looked up in this host's `/etc/passwd`; write the uid of others.
";

fn markdown() -> String {
    let mut out = HEAD.replace("EXAMPLE", EXAMPLE);
    for section in keys::SECTIONS {
        let rows = keys::rows().into_iter();
        out += &markdown_section(section, rows.filter(|row| row.section == section.name));
    }
    out += "\n## Packs\n\n`banned` in the configuration's `[policy]`, and `--banned`, are short for `ban-and-replace`.\n";
    for (name, text) in PACKS {
        let Some(pack) = packs::find(name) else {
            continue;
        };
        out += &format!("\n### `{name}`\n\n{}\n", pack.what);
        for (values, whether) in [(&pack.required, "required"), (&pack.optional, "optional")] {
            for value in values {
                let meaning = keys::PACK_VALUES.iter().find(|key| key.name == value);
                let meaning = meaning.map_or("", |key| key.meaning);
                out += &format!("\n- `{value}` ({whether}): {meaning}");
            }
        }
        out += &format!("\n\n```toml\n{text}```\n");
    }
    out
}

#[test]
fn the_reference_is_the_committed_one() {
    crate::config::document::tests::check_committed("docs/policy.md", &markdown());
}

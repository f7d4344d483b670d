//! The table of keys of policy files and packs: what there is, what it may be, what it means.
//!
//! In: nothing. Out: a constant per key, which [`super::read`] reads files by and which
//! `docs/policy.md` is written from.

use crate::config::key::{Absent, Key, List, Row, Section, Text};
use crate::config::values;
use crate::config::vocabulary::Vocabulary;
use crate::core::policy::rule::Word;
use crate::core::policy::window::Window;

/// More than any host needs, and little enough to be judged by at every connection.
const RULES_MAX: usize = 10_000;
/// Exceptions are few, or they are the rule.
const EXCEPTIONS_MAX: usize = 1_000;
/// Items of one key.
const ITEMS_MAX: usize = 1_000;

/// The file itself; of packs.
pub const FILE: Section = Section {
    name: "",
    most: None,
    meaning: "",
};
/// `[[pack]]`.
pub const PACK: Section = Section {
    name: "pack",
    most: Some(16),
    meaning: "A ready set of rules, with your values put in. Each pack at most once; the packs and their values are listed below.",
};
/// `[[rule]]`.
pub const RULE: Section = Section {
    name: "rule",
    most: Some(RULES_MAX),
    meaning: "A rule fits if each key that it has fits; a key fits if one of its items does. \
              It must have at least one of `tool`, `vendor`, `jurisdiction`, `role`, or a key about where a connection goes.",
};
/// `[rule.unless]`.
pub const UNLESS: Section = Section {
    name: "rule.unless",
    most: None,
    meaning: "What the rule is not about: it does not fit where all keys in here do. Any key of a rule that is matched, as in `unless = { country = [\"CN\"] }`.",
};
/// `[[exception]]`.
pub const EXCEPTION: Section = Section {
    name: "exception",
    most: Some(EXCEPTIONS_MAX),
    meaning: "Something that a rule forbids and that is accepted for a while, for what fits the same keys as in rules. \
              An exception that is over lifts nothing any more and raises the alert `policy-exception-expired` until it is removed.",
};
/// `[defaults]` of packs.
pub const DEFAULTS: Section = Section {
    name: "defaults",
    most: None,
    meaning: "Values of the pack that hold if none are given.",
};

/// Sections of a policy file, in the order of the documentation.
pub const SECTIONS: [&Section; 4] = [&PACK, &RULE, &UNLESS, &EXCEPTION];

const fn list(
    section: &'static Section,
    name: &'static str,
    of: &'static str,
    example: &'static [&'static str],
    meaning: &'static str,
) -> Key<List<String>> {
    Key {
        section,
        name,
        shape: List {
            of,
            default: &[],
            example,
            fewest: 1,
            most: ITEMS_MAX,
            parse: values::word,
        },
        meaning,
    }
}

const fn text(
    section: &'static Section,
    name: &'static str,
    of: &'static str,
    default: Absent,
    example: &'static str,
    meaning: &'static str,
) -> Key<Text<String>> {
    Key {
        section,
        name,
        shape: Text {
            of,
            default,
            example,
            parse: values::line,
        },
        meaning,
    }
}

const fn id(
    section: &'static Section,
    example: &'static str,
    meaning: &'static str,
) -> Key<Text<String>> {
    Key {
        section,
        name: "id",
        shape: Text {
            of: "`[a-z0-9-]+`",
            default: Absent::Mistake,
            example,
            parse: values::rule_id,
        },
        meaning,
    }
}

/// `pack.name`.
pub const PACK_NAME: Key<Text<String>> = text(
    &PACK,
    "name",
    "name of a pack",
    Absent::Mistake,
    "no-telemetry",
    "Which pack.",
);
/// The values that packs take, each with its name.
pub const PACK_VALUES: [Key<List<String>>; 6] = [
    list(
        &PACK,
        "banned",
        "tool",
        &["claude-code"],
        "Tools that are banned.",
    ),
    list(
        &PACK,
        "prescribed",
        "tool",
        &["qoder-cli"],
        "Tools that take their place.",
    ),
    list(
        &PACK,
        "purposes",
        "purpose",
        &["telemetry"],
        "Purposes that count as telemetry.",
    ),
    list(
        &PACK,
        "jurisdictions",
        "ISO 3166 code",
        &["CN", "SG"],
        "Where data may go; `XX` among them: also to operators that nobody knows.",
    ),
    list(
        &PACK,
        "tools",
        "tool",
        &["qoder-cli"],
        "The tools that may run.",
    ),
    list(
        &PACK,
        "proxies",
        "host or network",
        &["192.0.2.8"],
        "The proxies.",
    ),
];

/// `rule.id`.
pub const RULE_ID: Key<Text<String>> = id(
    &RULE,
    "no-agents-at-night",
    "Name of the rule, one of a kind: in events, in the `rule` label of metrics, and in exceptions.",
);
/// `rule.what`.
pub const RULE_WHAT: Key<Text<String>> = text(
    &RULE,
    "what",
    "text",
    Absent::Nothing,
    "nobody reviews at night",
    "What the rule is for, in a clause: it begins the `why` of events and alerts.",
);
/// `rule.action`.
pub const RULE_ACTION: Key<Text<String>> = text(
    &RULE,
    "action",
    "`allow`, `alert` or `deny`",
    Absent::Mistake,
    "deny",
    "`allow`: it is fine, whatever the manifest says. `alert`: a person should look. `deny`: it must not be; told as \"would deny\", nothing is blocked yet.",
);
/// `rule.severity`.
pub const RULE_SEVERITY: Key<Text<String>> = text(
    &RULE,
    "severity",
    "`info`, `warning` or `critical`",
    Absent::Nothing,
    "warning",
    "Of the alert. Without it, `critical` for `deny` and `warning` for `alert`.",
);

/// What can be matched in words.
pub const WORDS: [(Word, Key<List<String>>); 16] = [
    (
        Word::Tool,
        list(
            &RULE,
            "tool",
            "tool",
            &["claude-code"],
            "The AI tool that the process belongs to, by its id; `*` for any, `none` for a program of no known tool. In what forbids, a process that only bears the tool's name counts too.",
        ),
    ),
    (
        Word::Vendor,
        list(
            &RULE,
            "vendor",
            "vendor",
            &["Anthropic"],
            "Who makes the tool.",
        ),
    ),
    (
        Word::Jurisdiction,
        list(
            &RULE,
            "jurisdiction",
            "ISO 3166 code",
            &["US"],
            "Home of the tool's vendor; `XX` if unknown or several.",
        ),
    ),
    (
        Word::Role,
        list(
            &RULE,
            "role",
            "role",
            &["helper"],
            "What the process does for the tool: `main`, `helper`, `mcp-server`, `shell-child`, `package-manager`, `git`, `other-child`; `unidentified` for a program of no tool that reaches an AI; `none` for others.",
        ),
    ),
    (
        Word::Purpose,
        list(
            &RULE,
            "purpose",
            "purpose",
            &["telemetry"],
            "What the endpoint is for, by the tool's manifest or the catalog's services; `none` if neither says.",
        ),
    ),
    (
        Word::Provider,
        list(
            &RULE,
            "provider",
            "tool, service or vendor",
            &["Anthropic"],
            "Whose AI endpoint it is: a vendor, a service's id, or a tool's id, which stands for its vendor; `*` for any, `none` for what is no AI endpoint.",
        ),
    ),
    (
        Word::Country,
        list(
            &RULE,
            "country",
            "ISO 3166 code",
            &["CN"],
            "Home of who runs the endpoint, by the catalog; not where the server stands, which is `address_country`. `XX` if nobody is known to run it.",
        ),
    ),
    (
        Word::AddressCountry,
        list(
            &RULE,
            "address_country",
            "ISO 3166 code",
            &["CN"],
            "Where the address is, by the database that `address_country_database` in the configuration names, and only with one; not whose the endpoint is, which is `country`. `XX` for an address that the database does not have, private ones among them.",
        ),
    ),
    (
        Word::Asn,
        list(
            &RULE,
            "asn",
            "number of an autonomous system",
            &["AS64496"],
            "Which autonomous system announces the address, by the database that `asn_database` in the configuration names, and only with one; `none` for an address that the database does not have, private ones among them.",
        ),
    ),
    (
        Word::NameSource,
        list(
            &RULE,
            "name_source",
            "source",
            &["backed"],
            "How the endpoint's name is known: `backed` by a resolver's answer, `claimed` by the client alone, or a source by its name in events; `none` without a name.",
        ),
    ),
    (
        Word::Protocol,
        list(
            &RULE,
            "protocol",
            "`tcp`, `udp` or `other`",
            &["udp"],
            "Transport.",
        ),
    ),
    (
        Word::Verdict,
        list(
            &RULE,
            "verdict",
            "verdict",
            &["undeclared"],
            "What the manifest alone says: `expected`, `expected-unverified`, `optional`, `undeclared`, `unknown`, `local`, `served`, `not-judged`.",
        ),
    ),
    (
        Word::Cgroup,
        list(
            &RULE,
            "cgroup",
            "path, with `*`",
            &["/system.slice/*"],
            "Path of the process's cgroup.",
        ),
    ),
    (
        Word::Container,
        list(
            &RULE,
            "container",
            "name, id or image, with `*`",
            &["build-*"],
            "The container that the process is in; `none` for outside of any.",
        ),
    ),
    (
        Word::Unit,
        list(
            &RULE,
            "unit",
            "unit, with `*`",
            &["runner@*.service"],
            "The systemd unit that the process is in.",
        ),
    ),
    (
        Word::Job,
        list(
            &RULE,
            "job",
            "text, with `*`",
            &["nightly-*"],
            "The build job, by its provider, pipeline, name or repository. Anybody can set it, so it is refused in what allows.",
        ),
    ),
];

/// `rule.version`.
pub const VERSION: Key<Text<String>> = text(
    &RULE,
    "version",
    "`>=A`, `<B` or `>=A <B`",
    Absent::Nothing,
    ">=2.1.91 <2.1.198",
    "Versions of the tool. A tool of unknown version may be any.",
);
/// `rule.endpoint`.
pub const ENDPOINT: Key<List<String>> = list(
    &RULE,
    "endpoint",
    "host, `*.domain`, address or network",
    &["*.example.com", "192.0.2.0/24"],
    "Where the connection goes: `*.example.com` is the domain and all below it; a `*` elsewhere stands for characters of one label. An IPv4 network is meant behind a NAT64, too (`64:ff9b::/96`).",
);
/// `rule.port`.
pub const PORT: Key<List<String>> = list(
    &RULE,
    "port",
    "port, or `FIRST-LAST`",
    &["443", "8000-8999"],
    "The remote's port.",
);
/// `rule.user`.
pub const USER: Key<List<String>> = list(
    &RULE,
    "user",
    "uid, or name in `/etc/passwd`",
    &["1000", "builder"],
    "Whose process it is, by its real user id.",
);
/// `rule.during`.
pub const DURING: Key<List<Window>> = Key {
    section: &RULE,
    name: "during",
    shape: List {
        of: "days, times, offset from UTC",
        default: &[],
        example: &["Mon-Fri 08:00-18:00 +08:00"],
        fewest: 1,
        most: ITEMS_MAX,
        parse: Window::parse,
    },
    meaning: "When; without an offset the times are UTC.",
};

/// `exception.id`.
pub const EXCEPTION_ID: Key<Text<String>> = id(
    &EXCEPTION,
    "migration",
    "Name of the exception, one of a kind: in events and alerts.",
);
/// `exception.rules`.
pub const EXCEPTION_RULES: Key<List<String>> = list(
    &EXCEPTION,
    "rules",
    "rule",
    &["banned-tool"],
    "Ids of the rules that it lifts; those of packs are listed below.",
);
/// `exception.owner`.
pub const EXCEPTION_OWNER: Key<Text<String>> = text(
    &EXCEPTION,
    "owner",
    "text",
    Absent::Mistake,
    "platform-team@example.com",
    "Who answers for it.",
);
/// `exception.reason`.
pub const EXCEPTION_REASON: Key<Text<String>> = text(
    &EXCEPTION,
    "reason",
    "text",
    Absent::Mistake,
    "moves old sessions over",
    "Why.",
);
/// `exception.ticket`.
pub const EXCEPTION_TICKET: Key<Text<String>> = text(
    &EXCEPTION,
    "ticket",
    "text",
    Absent::Nothing,
    "SEC-123",
    "Where it was agreed.",
);
/// `exception.expires`.
pub const EXCEPTION_EXPIRES: Key<Text<String>> = Key {
    section: &EXCEPTION,
    name: "expires",
    shape: Text {
        of: "date",
        default: Absent::Mistake,
        example: "2036-12-31",
        parse: values::date,
    },
    meaning: "Its last day, in UTC.",
};

/// `what` of packs.
pub const PACK_WHAT: Key<Text<String>> = text(
    &FILE,
    "what",
    "text",
    Absent::Mistake,
    "",
    "What the pack does.",
);
/// `required` of packs.
pub const PACK_REQUIRED: Key<List<String>> = names("required");
/// `optional` of packs.
pub const PACK_OPTIONAL: Key<List<String>> = names("optional");

const fn names(name: &'static str) -> Key<List<String>> {
    let mut key = list(
        &FILE,
        name,
        "name of a value",
        &[],
        "Values that the pack takes.",
    );
    key.shape.fewest = 0;
    key
}

/// All keys of policy files, in the order of the documentation.
#[must_use]
pub fn rows() -> Vec<Row> {
    let mut rows = vec![PACK_NAME.text_row()];
    rows.extend(PACK_VALUES.iter().map(Key::list_row));
    rows.extend(
        [RULE_ID, RULE_WHAT, RULE_ACTION, RULE_SEVERITY]
            .iter()
            .map(Key::text_row),
    );
    rows.extend(WORDS.iter().take(1).map(|(_, key)| key.list_row()));
    rows.push(VERSION.text_row());
    rows.extend(WORDS.iter().skip(1).map(|(_, key)| key.list_row()));
    rows.extend([ENDPOINT, PORT, USER].iter().map(Key::list_row));
    rows.push(DURING.list_row());
    rows.push(EXCEPTION_ID.text_row());
    rows.push(EXCEPTION_RULES.list_row());
    let words = [
        EXCEPTION_OWNER,
        EXCEPTION_REASON,
        EXCEPTION_TICKET,
        EXCEPTION_EXPIRES,
    ];
    rows.extend(words.iter().map(Key::text_row));
    rows
}

/// What messages about policy files know.
pub const VOCABULARY: Vocabulary = Vocabulary {
    sections: &SECTIONS,
    rows,
    reference: "docs/policy.md",
};

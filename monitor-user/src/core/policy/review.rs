//! What is odd about a policy, though it can be used.
//!
//! In: the rules and exceptions, and the time. Out: [`Oddity`]s.

use std::fmt;
use std::sync::Arc;

use super::PolicyConfig;
use super::rule::{Action, Matcher, Rule, Word, matches_glob};
use crate::core::addresses::{Addresses, Database};
use crate::core::catalog::host::HostPattern;

/// Something that its author cannot have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Whatever fits a rule fits an earlier one, so it never decides.
    Unreachable {
        /// The rule.
        rule: Arc<str>,
        /// Its pack.
        pack: Option<Arc<str>>,
        /// The earlier one.
        by: Arc<str>,
        /// The pack of that.
        by_pack: Option<Arc<str>>,
    },
    /// The last day of an exception is over.
    Expired {
        /// The exception.
        exception: Arc<str>,
        /// Who answers for it.
        owner: Arc<str>,
        /// Its last day.
        expires: Arc<str>,
    },
    /// A database has none of the addresses that all have.
    WrongDatabase {
        /// The key of rules that it is for.
        key: Arc<str>,
        /// What it calls itself.
        kind: String,
    },
}

impl Oddity {
    /// The rule, exception or key that is odd.
    #[must_use]
    pub fn of(&self) -> &Arc<str> {
        match self {
            Oddity::Unreachable { rule, .. } => rule,
            Oddity::Expired { exception, .. } => exception,
            Oddity::WrongDatabase { key, .. } => key,
        }
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Oddity::Unreachable {
                rule,
                pack,
                by,
                by_pack,
            } => {
                if let (Some(pack), Some(by_pack)) = (pack, by_pack) {
                    write!(f, "packs {pack} and {by_pack} overlap: ")?;
                }
                write!(
                    f,
                    "rule `{rule}` never decides: whatever fits it fits `{by}`, which comes earlier; \
                     move it up, narrow the other, or remove it"
                )
            }
            Oddity::Expired {
                exception,
                owner,
                expires,
            } => write!(
                f,
                "exception `{exception}` of {owner} ended with {expires}, and lifts nothing any \
                 more; renew it or remove it"
            ),
            Oddity::WrongDatabase { key, kind } => write!(
                f,
                "the database for `{key}` (it calls itself {kind:?}) knows none of the public \
                 resolvers 1.1.1.1, 8.8.8.8 and others; is it the right file?"
            ),
        }
    }
}

/// Everything odd, rules first.
#[must_use]
pub fn review(config: &PolicyConfig, wall_seconds: i64) -> Vec<Oddity> {
    let mut oddities = Vec::new();
    let scopes: Vec<_> = config.rules.iter().map(Scope::of).collect();
    for (place, rule) in scopes.iter().enumerate() {
        let mut earlier = scopes.iter().take(place);
        if let Some(by) = earlier.find(|earlier| covers(earlier, rule)) {
            let (rule, by) = (rule.rule, by.rule);
            oddities.push(Oddity::Unreachable {
                rule: Arc::clone(&rule.id),
                pack: rule.pack.clone(),
                by: Arc::clone(&by.id),
                by_pack: by.pack.clone(),
            });
        }
    }
    let expired = config
        .exceptions
        .iter()
        .filter(|it| it.is_expired(wall_seconds));
    oddities.extend(wrong_databases(&config.addresses));
    oddities.extend(expired.map(|it| Oddity::Expired {
        exception: Arc::clone(&it.id),
        owner: Arc::clone(&it.owner),
        expires: Arc::clone(&it.expires),
    }));
    oddities
}

fn wrong_databases(addresses: &Addresses) -> impl Iterator<Item = Oddity> {
    let wrong = |word: Word, database: &Option<Database>, is_wrong: bool| {
        let database = database.as_ref().filter(|_| is_wrong)?;
        Some(Oddity::WrongDatabase {
            key: word.key().into(),
            kind: database.kind().to_owned(),
        })
    };
    let asn = wrong(Word::Asn, &addresses.asn, addresses.lacks_asn());
    let (country, lacks) = (&addresses.country, addresses.lacks_country());
    let country = wrong(Word::AddressCountry, country, lacks);
    asn.into_iter().chain(country)
}

/// A rule, and what it is about at a glance: each is compared with each.
struct Scope<'a> {
    rule: &'a Rule,
    is_of_flow: bool,
    is_of_remotes: bool,
    /// A bit for each part that asks.
    parts: u32,
}

impl Scope<'_> {
    fn of(rule: &Rule) -> Scope<'_> {
        let when = &rule.when;
        let words = Word::ALL.map(|word| !when.words(word).is_empty());
        let others = [
            when.versions.is_some(),
            !when.endpoints.is_empty(),
            !when.ports.is_empty(),
            !when.users.is_empty(),
            !when.during.is_empty(),
        ];
        let asks = words.into_iter().chain(others);
        Scope {
            rule,
            is_of_flow: rule.is_of_flow(),
            is_of_remotes: rule.is_of_remotes(),
            parts: asks.fold(0, |parts, asks| parts << 1 | u32::from(asks)),
        }
    }
}

/// Whatever fits `rule` surely fits `earlier`. May be wrong only in saying no.
fn covers(earlier: &Scope<'_>, rule: &Scope<'_>) -> bool {
    let of_more = (!earlier.is_of_flow || rule.is_of_flow)
        && (!earlier.is_of_remotes || rule.is_of_remotes)
        && earlier.parts & !rule.parts == 0;
    if !of_more {
        return false;
    }
    let (earlier, rule) = (earlier.rule, rule.rule);
    // What allows fits less: the same words, but on sure evidence only.
    let as_often = earlier.action != Action::Allow || rule.action == Action::Allow;
    let excludes_less =
        earlier.unless.is_empty() || earlier.unless == rule.unless && earlier.action == rule.action;
    as_often && excludes_less && covers_matcher(&earlier.when, &rule.when)
}

fn covers_matcher(wide: &Matcher, narrow: &Matcher) -> bool {
    let words = |word: Word| {
        all_within(wide.words(word), narrow.words(word), |wide, item| {
            wide == item || !item.contains('*') && matches_glob(wide, item)
        })
    };
    // In long policies it is the endpoint that tells rules apart.
    all_within(&wide.endpoints, &narrow.endpoints, covers_host)
        && Word::ALL.into_iter().all(words)
        && (wide.versions.is_none() || wide.versions == narrow.versions)
        && all_within(&wide.ports, &narrow.ports, |wide, it| {
            wide.0 <= it.0 && it.1 <= wide.1
        })
        && all_within(&wide.users, &narrow.users, |wide, it| wide == it)
        && all_within(&wide.during, &narrow.during, |wide, it| wide == it)
}

/// A part that does not ask holds everything; one that asks holds what each item of the other is
/// within.
fn all_within<T>(wide: &[T], narrow: &[T], within: impl Fn(&T, &T) -> bool) -> bool {
    wide.is_empty()
        || !narrow.is_empty()
            && narrow
                .iter()
                .all(|item| wide.iter().any(|wide| within(wide, item)))
}

fn covers_host(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (HostPattern::Network(wide), HostPattern::Network(narrow)) => wide.contains(narrow),
        (HostPattern::Suffix(_), HostPattern::Exact(host) | HostPattern::Suffix(host)) => {
            wide.matches(host)
        }
        _ => wide == narrow,
    }
}

//! Rules as the operator means them: what each is about, what it then asks for, what is excepted.
//!
//! In: made by the readers of policy files. Out: [`Rule`]s and [`Exception`]s, and whether a
//! [`Matcher`] fits some [`Facts`], one by one. [`super::index`] answers the same for thousands.

use std::fmt;
use std::sync::Arc;

use super::facts::{Facts, Texts};
use super::judgement::Severity;
use super::window::Window;
use crate::core::catalog::host::HostPattern;
use crate::core::catalog::version::VersionRange;

/// What a rule can be about, of which facts have words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// Id of the AI tool.
    Tool,
    /// Who makes the tool.
    Vendor,
    /// Home of the tool's vendor.
    Jurisdiction,
    /// What the process does for the tool.
    Role,
    /// What the endpoint is for.
    Purpose,
    /// Whose AI endpoint it is.
    Provider,
    /// Home of who runs the endpoint.
    Country,
    /// Where the address is, by the operator's database.
    AddressCountry,
    /// The autonomous system of the address, by the operator's database.
    Asn,
    /// How the endpoint's name is known.
    NameSource,
    /// Transport protocol.
    Protocol,
    /// What the catalog alone says of the flow.
    Verdict,
    /// Path of the cgroup.
    Cgroup,
    /// Container.
    Container,
    /// systemd unit.
    Unit,
    /// Build job.
    Job,
}

impl Word {
    /// All of them, in the order of the variants.
    pub const ALL: [Word; 16] = [
        Word::Tool,
        Word::Vendor,
        Word::Jurisdiction,
        Word::Role,
        Word::Purpose,
        Word::Provider,
        Word::Country,
        Word::AddressCountry,
        Word::Asn,
        Word::NameSource,
        Word::Protocol,
        Word::Verdict,
        Word::Cgroup,
        Word::Container,
        Word::Unit,
        Word::Job,
    ];

    /// Key in policy files.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Word::Tool => "tool",
            Word::Vendor => "vendor",
            Word::Jurisdiction => "jurisdiction",
            Word::Role => "role",
            Word::Purpose => "purpose",
            Word::Provider => "provider",
            Word::Country => "country",
            Word::AddressCountry => "address_country",
            Word::Asn => "asn",
            Word::NameSource => "name_source",
            Word::Protocol => "protocol",
            Word::Verdict => "verdict",
            Word::Cgroup => "cgroup",
            Word::Container => "container",
            Word::Unit => "unit",
            Word::Job => "job",
        }
    }

    /// It is known of flows only, and not of a process that merely runs.
    #[must_use]
    pub fn is_of_flow(self) -> bool {
        matches!(
            self,
            Word::Purpose
                | Word::Provider
                | Word::Country
                | Word::AddressCountry
                | Word::Asn
                | Word::NameSource
                | Word::Protocol
                | Word::Verdict
        )
    }
}

/// A word in a rule that stands for "there is none".
pub const NONE: &str = "none";

/// What a rule is about: every part that is not empty must fit; of the items of a part, one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matcher {
    /// Words, each part in the order of [`Word`]'s variants. `*` stands for any characters;
    /// [`NONE`], for there being none.
    pub words: [Vec<Arc<str>>; Word::ALL.len()],
    /// Versions of the tool. An unknown version may be any.
    pub versions: Option<VersionRange>,
    /// The remote's name or address.
    pub endpoints: Vec<HostPattern>,
    /// The remote's port, first to last.
    pub ports: Vec<(u16, u16)>,
    /// User ids.
    pub users: Vec<u32>,
    /// When.
    pub during: Vec<Window>,
}

impl Matcher {
    /// The items of a part.
    #[must_use]
    pub fn words(&self, word: Word) -> &[Arc<str>] {
        &self.words[word as usize]
    }

    /// It is about nothing in particular.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Matcher::default()
    }

    /// It is about where a flow goes, so that it says nothing of a process that merely runs.
    #[must_use]
    pub fn is_of_flow(&self) -> bool {
        let words = |word: &Word| word.is_of_flow() && !self.words(*word).is_empty();
        !self.endpoints.is_empty() || !self.ports.is_empty() || Word::ALL.iter().any(words)
    }

    /// It is about which tool it is, or which endpoint: not about the whole host.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        let of_tool = [Word::Tool, Word::Vendor, Word::Jurisdiction, Word::Role];
        self.is_of_flow() || of_tool.iter().any(|word| !self.words(*word).is_empty())
    }

    /// The first part that does not fit; `None` if all do.
    #[must_use]
    pub fn misfit(&self, facts: &Facts<'_>) -> Option<&'static str> {
        for word in Word::ALL {
            let items = self.words(word);
            if !items.is_empty() && !fits_words(items, facts.texts(word)) {
                return Some(word.key());
            }
        }
        let fits = |empty: bool, fits: bool| empty || fits;
        let parts = [
            ("versions", self.fits_version(facts)),
            (
                "endpoint",
                fits(self.endpoints.is_empty(), self.fits_endpoint(facts)),
            ),
            ("port", fits(self.ports.is_empty(), self.fits_port(facts))),
            (
                "user",
                fits(
                    self.users.is_empty(),
                    facts.user.is_some_and(|it| self.users.contains(&it)),
                ),
            ),
            (
                "during",
                fits(
                    self.during.is_empty(),
                    self.during.iter().any(|it| it.holds(facts.wall_seconds)),
                ),
            ),
        ];
        parts
            .into_iter()
            .find(|(_, fits)| !fits)
            .map(|(key, _)| key)
    }

    fn fits_version(&self, facts: &Facts<'_>) -> bool {
        let Some(range) = &self.versions else {
            return true;
        };
        facts.has_tool && range.contains(facts.version.as_ref())
    }

    fn fits_endpoint(&self, facts: &Facts<'_>) -> bool {
        let by_name = |pattern: &HostPattern| facts.host.is_some_and(|host| pattern.matches(host));
        let by_address = |pattern: &HostPattern| facts.ip.is_some_and(|ip| pattern.holds(ip));
        self.endpoints
            .iter()
            .any(|pattern| by_name(pattern) || by_address(pattern))
    }

    fn fits_port(&self, facts: &Facts<'_>) -> bool {
        let holds = |port: u16| {
            self.ports
                .iter()
                .any(|&(first, last)| (first..=last).contains(&port))
        };
        facts.port.is_some_and(holds)
    }
}

fn fits_words(items: &[Arc<str>], texts: &Texts<'_>) -> bool {
    if !texts.known {
        return false;
    }
    if texts.is_none() {
        return items.iter().any(|item| **item == *NONE);
    }
    texts
        .iter()
        .any(|text| items.iter().any(|item| matches_glob(item, text)))
}

/// Whether a text is of this form: `*` stands for any characters, none included.
#[must_use]
pub fn matches_glob(glob: &str, text: &str) -> bool {
    let Some((head, mut rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    while let Some((part, more)) = rest.split_once('*') {
        let Some(place) = text.find(part) else {
            return false;
        };
        text = text.get(place + part.len()..).unwrap_or_default();
        rest = more;
    }
    text.ends_with(rest)
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is fine. Never on the word of a process that may be another, nor of a claimed name.
    Allow,
    /// A person should look at it.
    Alert(Severity),
    /// It must not be. Told, not yet enforced.
    Deny(Severity),
}

impl Action {
    /// Name in events, metrics and policy files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Alert(_) => "alert",
            Action::Deny(_) => "deny",
        }
    }

    /// How bad it is; `None` if it is not.
    #[must_use]
    pub fn severity(self) -> Option<Severity> {
        match self {
            Action::Allow => None,
            Action::Alert(severity) | Action::Deny(severity) => Some(severity),
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `[a-z0-9-]+`, one of a kind in its policy.
    pub id: Arc<str>,
    /// What it is for, in a clause for people.
    pub what: Option<Arc<str>>,
    /// The pack that it comes from.
    pub pack: Option<Arc<str>>,
    /// What it is about.
    pub when: Matcher,
    /// What it is not about, if that is not empty.
    pub unless: Matcher,
    /// What it asks for.
    pub action: Action,
}

impl Rule {
    /// It says nothing of a process that merely runs.
    #[must_use]
    pub fn is_of_flow(&self) -> bool {
        self.when.is_of_flow() || self.unless.is_of_flow()
    }

    /// It says nothing of what stays on this host, unless it names addresses or verdicts itself:
    /// a rule about countries does not mean `127.0.0.1`.
    #[must_use]
    pub fn is_of_remotes(&self) -> bool {
        let names_local =
            !self.when.endpoints.is_empty() || !self.when.words(Word::Verdict).is_empty();
        self.is_of_flow() && !names_local
    }

    /// Why it does not apply, as the key that does not fit; `None` if it does.
    ///
    /// Whatever widens what is allowed must fit on `strict` facts, and whatever narrows it on
    /// `generous` ones: an impostor counts towards a ban, never towards an allowance.
    #[must_use]
    pub fn misfit(&self, generous: &Facts<'_>, strict: Option<&Facts<'_>>) -> Option<Misfit> {
        if self.is_of_flow() && !generous.is_flow {
            return Some(Misfit::OfFlows);
        }
        if self.is_of_remotes() && generous.is_local {
            return Some(Misfit::OfRemotes);
        }
        let (when, unless) = match self.action {
            Action::Allow => (strict, Some(generous)),
            Action::Alert(_) | Action::Deny(_) => (Some(generous), strict),
        };
        let Some(when) = when else {
            return Some(Misfit::Untrusted);
        };
        if let Some(key) = self.when.misfit(when) {
            let doubted = self.action == Action::Allow && self.when.misfit(generous).is_none();
            return Some(if doubted {
                Misfit::Untrusted
            } else {
                Misfit::When(key)
            });
        }
        let excluded = !self.unless.is_empty()
            && unless.is_some_and(|facts| self.unless.misfit(facts).is_none());
        excluded.then_some(Misfit::Unless)
    }
}

/// Why a rule does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// This key does not fit.
    When(&'static str),
    /// Its `unless` fits.
    Unless,
    /// It would allow, and rests on evidence that anybody can make.
    Untrusted,
    /// It is about connections, and this is a process that merely runs.
    OfFlows,
    /// It is about remotes, and this stays on the host.
    OfRemotes,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::When(key) => write!(f, "its `{key}` does not fit"),
            Misfit::Unless => f.write_str("its `unless` fits"),
            Misfit::Untrusted => f.write_str(
                "it would fit, but only on the word of a name that anybody can take: no allowance",
            ),
            Misfit::OfFlows => f.write_str("it is about connections, not about presence"),
            Misfit::OfRemotes => f.write_str("it is about other hosts, and this stays here"),
        }
    }
}

/// Something that a rule forbids and that is accepted all the same, for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Exception {
    /// `[a-z0-9-]+`, one of a kind in its policy.
    pub id: Arc<str>,
    /// Ids of the rules that it lifts; never empty.
    pub rules: Vec<Arc<str>>,
    /// For what it lifts them; empty means for everything.
    pub when: Matcher,
    /// Who answers for it.
    pub owner: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// Where it was agreed.
    pub ticket: Option<Arc<str>>,
    /// The last day, `2026-12-31`.
    pub expires: Arc<str>,
    /// The first second after that day, in UTC, since 1970.
    pub ends_seconds: i64,
}

impl Exception {
    /// Its last day is over.
    #[must_use]
    pub fn is_expired(&self, wall_seconds: i64) -> bool {
        wall_seconds >= self.ends_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        #[track_caller]
        fn check(glob: &str, text: &str, expect: bool) {
            assert_eq!(matches_glob(glob, text), expect, "{glob} {text}");
        }
        check("abc", "abc", true);
        check("abc", "abcd", false);
        check("*", "", true);
        check("a*", "abc", true);
        check("*c", "abc", true);
        check("a*c", "abc", true);
        check("a*b*c", "axxbyyc", true);
        check("a*b*c", "axxcyyb", false);
        check("ab*ba", "aba", false);
        check("*b*", "abc", true);
        check("*b*", "ac", false);
    }

    #[test]
    fn words_are_where_their_variant_is() {
        for (place, word) in Word::ALL.into_iter().enumerate() {
            assert_eq!(word as usize, place);
        }
    }
}

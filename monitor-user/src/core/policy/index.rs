//! Thousands of rules at once: which of them fit, without looking at each.
//!
//! In: matchers, each with its number, and [`Facts`]. Out: the [`Bits`] of those that fit, which
//! are the same that [`Matcher::misfit`] finds one by one.
//!
//! For each part there is a table from an item to the rules that have it, and the set of rules
//! that do not ask. What the facts say of a part leaves the union of those; what all parts leave
//! fits. The sets are bits, 64 rules to a word, so the cost is (rules ÷ 64) × parts in use, and
//! not rules × parts. Ports, versions, times and globs are looked up by [`Intervals`] and
//! [`Globs`]: however many there are, none is looked at one by one.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::facts::{Facts, Texts};
use super::intervals::{Globs, Intervals};
use super::rule::{Matcher, NONE, Word};
use super::window::{Window, minute_of_week};
use crate::core::catalog::host::{HostPattern, forms};
use crate::core::catalog::version::{Version, VersionRange};

/// Above this share of all rules a set is cheaper as bits: one word of bits or one number.
const RULES_PER_WORD: usize = 64;

/// A set of rules, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// None of `rules` rules.
    #[must_use]
    pub fn none(rules: usize) -> Bits {
        Bits(vec![0; rules.div_ceil(RULES_PER_WORD)])
    }

    /// Adds a rule.
    pub fn insert(&mut self, rule: usize) {
        if let Some(word) = self.0.get_mut(rule / RULES_PER_WORD) {
            *word |= 1 << (rule % RULES_PER_WORD);
        }
    }

    /// Adds every rule.
    pub fn fill(&mut self) {
        self.0.fill(u64::MAX);
    }

    /// Whether it holds the rule.
    #[must_use]
    pub fn has(&self, rule: usize) -> bool {
        let word = self.0.get(rule / RULES_PER_WORD);
        word.is_some_and(|word| word & (1 << (rule % RULES_PER_WORD)) != 0)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Leaves those that `other` holds too.
    pub fn keep(&mut self, other: &Bits) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
    }

    /// Takes those out that `other` holds.
    pub fn remove(&mut self, other: &Bits) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
    }

    /// Adds those that `other` holds.
    pub fn add(&mut self, other: &Bits) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    /// The lowest number.
    #[must_use]
    pub fn first(&self) -> Option<usize> {
        let place = self.0.iter().position(|word| *word != 0)?;
        let word = self.0.get(place)?;
        Some(place * RULES_PER_WORD + word.trailing_zeros() as usize)
    }

    /// All numbers, upwards.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(place, word)| {
            (0..RULES_PER_WORD)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| place * RULES_PER_WORD + bit)
        })
    }
}

/// The rules that have an item: few as a list, many as bits.
#[derive(Clone, Debug)]
enum Members {
    Few(Vec<usize>),
    Many(Bits),
}

impl Members {
    fn add_to(&self, found: &mut Bits) {
        match self {
            Members::Few(rules) => rules.iter().for_each(|rule| found.insert(*rule)),
            Members::Many(bits) => found.add(bits),
        }
    }
}

/// One part of all matchers.
#[derive(Clone, Debug)]
struct Part<K> {
    /// The rules that do not ask.
    silent: Bits,
    items: HashMap<K, Members>,
}

impl<K: Eq + Hash> Part<K> {
    /// `None` if no rule asks.
    fn new<I>(
        matchers: &[(usize, &Matcher)],
        rules: usize,
        items: impl Fn(&Matcher) -> I,
    ) -> Option<Part<K>>
    where
        I: IntoIterator<Item = K>,
    {
        let mut silent = Bits::none(rules);
        let mut lists: HashMap<K, Vec<usize>> = HashMap::new();
        for (rule, matcher) in matchers {
            let mut asks = false;
            for item in items(matcher) {
                asks = true;
                lists.entry(item).or_default().push(*rule);
            }
            if !asks {
                silent.insert(*rule);
            }
        }
        let members = |list: Vec<usize>| {
            if list.len() * RULES_PER_WORD < rules {
                return Members::Few(list);
            }
            let mut bits = Bits::none(rules);
            list.into_iter().for_each(|rule| bits.insert(rule));
            Members::Many(bits)
        };
        let items: HashMap<K, Members> = lists
            .into_iter()
            .map(|(item, list)| (item, members(list)))
            .collect();
        (!items.is_empty()).then_some(Part { silent, items })
    }

    /// Adds the rules that have this item.
    fn add<Q>(&self, item: &Q, found: &mut Bits)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(members) = self.items.get(item) {
            members.add_to(found);
        }
    }

    /// Leaves in `left` those that do not ask, and those that `find` adds.
    fn narrow(this: Option<&Self>, left: &mut Bits, find: impl FnOnce(&Self, &mut Bits)) {
        let Some(part) = this else { return };
        if left.is_empty() {
            return;
        }
        let mut found = part.silent.clone();
        find(part, &mut found);
        left.keep(&found);
    }
}

/// The part of endpoints: names by the labels that they end in, networks by their lengths.
#[derive(Clone, Debug)]
struct Hosts {
    patterns: Part<HostPattern>,
    by_tail: HashMap<Box<str>, Vec<HostPattern>>,
    /// Lengths of the prefixes of IPv4 and IPv6 networks that there are.
    lengths: [BTreeSet<u8>; 2],
}

impl Hosts {
    fn new(patterns: Part<HostPattern>) -> Hosts {
        let mut hosts = Hosts {
            patterns,
            by_tail: HashMap::new(),
            lengths: Default::default(),
        };
        for pattern in hosts.patterns.items.keys() {
            match pattern {
                HostPattern::Network(network) => {
                    hosts.lengths[usize::from(network.addr().is_ipv6())]
                        .insert(network.prefix_len());
                }
                name => {
                    let tail = name.tail().unwrap_or_default();
                    hosts
                        .by_tail
                        .entry(tail.into())
                        .or_default()
                        .push(name.clone());
                }
            }
        }
        hosts
    }

    fn add_host(&self, host: &str, found: &mut Bits) {
        let tails = std::iter::successors(Some(host), |tail| {
            tail.split_once('.').map(|(_, rest)| rest)
        });
        let patterns = tails.filter_map(|tail| self.by_tail.get(tail)).flatten();
        for pattern in patterns.filter(|pattern| pattern.matches(host)) {
            self.add(pattern, found);
        }
    }

    fn add_ip(&self, ip: IpAddr, found: &mut Bits) {
        for ip in forms(ip) {
            for length in &self.lengths[usize::from(ip.is_ipv6())] {
                if let Ok(network) = IpNet::new(ip, *length) {
                    self.add(&HostPattern::Network(network.trunc()), found);
                }
            }
        }
    }

    fn add(&self, pattern: &HostPattern, found: &mut Bits) {
        self.patterns.add(pattern, found);
    }
}

/// The part of ports, from a first to a last.
#[derive(Clone, Debug)]
struct Ports {
    part: Part<(u16, u16)>,
    ranges: Intervals<u32, (u16, u16)>,
}

impl Ports {
    fn new(part: Part<(u16, u16)>) -> Ports {
        let range = |&(first, last): &(u16, u16)| {
            let end = u32::from(last) + 1;
            (Some(u32::from(first)), Some(end), (first, last))
        };
        let ranges: Vec<_> = part.items.keys().map(range).collect();
        Ports {
            ranges: Intervals::new(&ranges),
            part,
        }
    }

    fn add(&self, port: u16, found: &mut Bits) {
        let holding = self.ranges.at(&port.into());
        holding.for_each(|range| self.part.add(range, found));
    }
}

/// The part of versions.
#[derive(Clone, Debug)]
struct Versions {
    part: Part<VersionText>,
    ranges: Intervals<Version, VersionText>,
}

impl Versions {
    fn new(part: Part<VersionText>) -> Versions {
        let range = |item: &VersionText| (item.1.since.clone(), item.1.until.clone(), item.clone());
        let ranges: Vec<_> = part.items.keys().map(range).collect();
        Versions {
            ranges: Intervals::new(&ranges),
            part,
        }
    }

    /// A tool of unknown version may be of any.
    fn add(&self, version: Option<&Version>, found: &mut Bits) {
        match version {
            Some(version) => {
                let holding = self.ranges.at(version);
                holding.for_each(|range| self.part.add(range, found));
            }
            None => found.fill(),
        }
    }
}

/// The part of times.
#[derive(Clone, Debug)]
struct During {
    part: Part<Window>,
    minutes: Intervals<i64, Window>,
}

impl During {
    fn new(part: Part<Window>) -> During {
        let mut spans = Vec::new();
        for window in part.items.keys() {
            let of_it = window.minutes().into_iter();
            spans.extend(of_it.map(|(from, until)| (Some(from), Some(until), window.clone())));
        }
        During {
            minutes: Intervals::new(&spans),
            part,
        }
    }

    fn add(&self, wall_seconds: i64, found: &mut Bits) {
        let holding = self.minutes.at(&minute_of_week(wall_seconds));
        holding.for_each(|window| self.part.add(window, found));
    }
}

/// Matchers, ready to be asked.
#[derive(Clone, Debug)]
pub struct Index {
    /// All numbers that are in the index.
    all: Bits,
    words: BTreeMap<Word, Words>,
    hosts: Option<Hosts>,
    ports: Option<Ports>,
    users: Option<Part<u32>>,
    versions: Option<Versions>,
    during: Option<During>,
}

/// One of the parts in words, and those of its items that hold a `*`.
#[derive(Clone, Debug)]
struct Words {
    part: Part<Arc<str>>,
    globs: Globs,
}

/// A range of versions, told from others by its text.
#[derive(Clone, Debug)]
struct VersionText(String, VersionRange);

impl PartialEq for VersionText {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for VersionText {}

impl Hash for VersionText {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Index {
    /// An index of these matchers, whose numbers are below `rules`.
    #[must_use]
    pub fn new(matchers: &[(usize, &Matcher)], rules: usize) -> Index {
        let mut all = Bits::none(rules);
        matchers.iter().for_each(|(rule, _)| all.insert(*rule));
        let words = Word::ALL.into_iter().filter_map(|word| {
            let part = Part::new(matchers, rules, |matcher| matcher.words(word).to_vec())?;
            let globs = Globs::new(part.items.keys());
            Some((word, Words { part, globs }))
        });
        let version = |matcher: &Matcher| {
            matcher
                .versions
                .clone()
                .map(|range| VersionText(range.to_string(), range))
        };
        Index {
            words: words.collect(),
            hosts: Part::new(matchers, rules, |matcher| matcher.endpoints.clone()).map(Hosts::new),
            ports: Part::new(matchers, rules, |matcher| matcher.ports.clone()).map(Ports::new),
            users: Part::new(matchers, rules, |matcher| matcher.users.clone()),
            versions: Part::new(matchers, rules, version).map(Versions::new),
            during: Part::new(matchers, rules, |matcher| matcher.during.clone()).map(During::new),
            all,
        }
    }

    /// The numbers of the matchers that fit.
    #[must_use]
    pub fn fitting(&self, facts: &Facts<'_>) -> Bits {
        let mut left = self.all.clone();
        for (word, Words { part, globs }) in &self.words {
            let texts = facts.texts(*word);
            Part::narrow(Some(part), &mut left, |part, found| {
                add_words(part, globs, texts, found)
            });
        }
        Part::narrow(
            self.hosts.as_ref().map(|hosts| &hosts.patterns),
            &mut left,
            |_, found| {
                let Some(hosts) = &self.hosts else { return };
                facts
                    .host
                    .into_iter()
                    .for_each(|host| hosts.add_host(host, found));
                facts.ip.into_iter().for_each(|ip| hosts.add_ip(ip, found));
            },
        );
        Part::narrow(
            self.ports.as_ref().map(|ports| &ports.part),
            &mut left,
            |_, found| {
                let (Some(ports), Some(port)) = (&self.ports, facts.port) else {
                    return;
                };
                ports.add(port, found);
            },
        );
        Part::narrow(self.users.as_ref(), &mut left, |users, found| {
            let user = facts.user.into_iter();
            user.for_each(|user| users.add(&user, found));
        });
        let versions = self.versions.as_ref();
        Part::narrow(versions.map(|it| &it.part), &mut left, |_, found| {
            let versions = versions.filter(|_| facts.has_tool);
            versions
                .into_iter()
                .for_each(|it| it.add(facts.version.as_ref(), found));
        });
        let during = self.during.as_ref();
        Part::narrow(during.map(|it| &it.part), &mut left, |_, found| {
            during
                .into_iter()
                .for_each(|it| it.add(facts.wall_seconds, found));
        });
        left
    }
}

fn add_words(part: &Part<Arc<str>>, globs: &Globs, texts: &Texts<'_>, found: &mut Bits) {
    if !texts.known {
        return;
    }
    if texts.is_none() {
        return part.add(NONE, found);
    }
    for text in texts.iter() {
        part.add(text, found);
        for glob in globs.fitting(text) {
            part.add(&**glob, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::attribute::Role;
    use crate::core::fixture::{addresses, catalog, member, own, rule, shared, stranger, tcp};
    use crate::core::policy::facts::{self, Known, Subject};
    use crate::core::policy::judgement::Severity;
    use crate::core::policy::rule::{Action, Rule};
    use crate::core::policy::{FlowFacts, Policy, PolicyConfig};
    use crate::core::report::ProcessView;

    /// xorshift64: the same numbers in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 20).unwrap() % bound
        }

        fn pick<T: Clone>(&mut self, items: &[T]) -> T {
            items[self.below(items.len())].clone()
        }

        fn some<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
            let count = if self.below(3) == 0 {
                1 + self.below(3)
            } else {
                0
            };
            (0..count).map(|_| self.pick(items)).collect()
        }

        fn matcher(&mut self) -> Matcher {
            let texts = [
                "claude-code",
                "codex-cli",
                "c*",
                "*",
                "none",
                "Anthropic",
                "OpenAI",
                "openai",
                "US",
                "XX",
                "main",
                "git",
                "api",
                "telemetry",
                "tcp",
                "expected",
                "undeclared",
                "local",
                "backed",
                "dns-own",
                "AS64496",
                "CN",
            ];
            let hosts = [
                "api.anthropic.com",
                "*.anthropic.com",
                "*.com",
                "api.*.com",
                "203.0.113.0/24",
                "203.0.113.9",
                "0.0.0.0/0",
            ];
            let ports = [(443, 443), (80, 90), (1, 65_535), (81, 8080), (440, 450)];
            let mut matcher = Matcher::default();
            let word = self.pick(&Word::ALL);
            matcher.words[word as usize] = self.some(&texts.map(Arc::from));
            matcher.words[Word::Tool as usize] = self.some(
                &texts[..5]
                    .iter()
                    .map(|&it| Arc::from(it))
                    .collect::<Vec<_>>(),
            );
            let hosts = self.some(&hosts);
            matcher.endpoints = hosts
                .into_iter()
                .map(|it| HostPattern::parse_broad(it).unwrap())
                .collect();
            matcher.ports = self.some(&ports);
            matcher.users = self.some(&[0, 1000, 1001]);
            if self.below(8) == 0 {
                let versions = ["", "1.0", "2.1", "2.1.9", "3"];
                matcher.versions = Some(VersionRange {
                    since: Version::parse(self.pick(&versions)),
                    until: Version::parse(self.pick(&versions)),
                });
            }
            if self.below(8) == 0 {
                let windows = [
                    "Thu 00:00-01:00",
                    "Wed 23:00-12:00",
                    "Mon-Sun 10:00-20:00 -11:30",
                ];
                matcher.during = self.some(&windows.map(|it| Window::parse(it).unwrap()));
            }
            matcher
        }

        fn rule(&mut self) -> Rule {
            let actions = [
                Action::Allow,
                Action::Alert(Severity::Info),
                Action::Deny(Severity::Critical),
            ];
            let action = self.pick(&actions);
            let unless = if self.below(3) == 0 {
                self.matcher()
            } else {
                Matcher::default()
            };
            Rule {
                when: self.matcher(),
                unless,
                ..rule("r", action)
            }
        }

        fn process(&mut self) -> ProcessView {
            let mut process = match self.below(4) {
                0 => stranger("/bin/curl"),
                id => member(
                    ["claude-code", "codex-cli"][id % 2],
                    self.pick(&Role::ALL),
                    self.below(2) == 0,
                ),
            };
            if let Some(member) = &mut process.tool {
                let member = Arc::make_mut(member);
                member.version = self.pick(&[None, Some("2.1.9".into()), Some("1.0".into())]);
                if self.below(4) == 0 {
                    member
                        .namesakes
                        .push(Arc::clone(catalog().tool("claude-code").unwrap()));
                }
            }
            process.uid = self.pick(&[0, 1000, 7]);
            process
        }
    }

    #[test]
    fn thousands_of_rules_at_once_say_the_same_as_one_by_one() {
        let (catalog, addresses) = (catalog(), addresses());
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut decided, mut allowed) = (0, 0);
        for _ in 0..300 {
            let count = 1 + random.below(150);
            let rules = (0..count).map(|_| random.rule()).collect();
            let policy = Policy::new(PolicyConfig {
                rules,
                ..PolicyConfig::default()
            });
            for _ in 0..40 {
                let process = random.process();
                let hosts = [
                    "api.anthropic.com",
                    "statsig.anthropic.com",
                    "api.openai.com",
                    "evil.test",
                ];
                let host = random.pick(&hosts);
                let name = if random.below(2) == 0 {
                    own(host)
                } else {
                    shared(host)
                };
                let remote = tcp(random.pick(&[
                    "203.0.113.9:443",
                    "127.0.0.1:80",
                    "[2001:db8::1]:8080",
                    "192.0.2.1:443",
                ]));
                let facts = FlowFacts {
                    process: &process,
                    exact: random.below(4) > 0,
                    remote,
                    address: addresses.origin(remote.addr.ip()),
                    to_resolver: false,
                    served: random.below(8) == 0,
                    name: Some(&name).filter(|_| random.below(4) > 0),
                    also: None,
                    vouched: false,
                    wall_seconds: random.pick(&[0, 40_000]),
                };
                let known = Known::of(&catalog, &facts);
                let assessment = policy.assess(&catalog, &facts, &known);
                let subject = match &assessment {
                    Some(assessment) => facts::of_flow(&facts, &known, assessment),
                    None => Subject::of_presence(&process, 0),
                };
                let fits = |rule: &Rule| {
                    rule.misfit(&subject.generous, subject.strict.as_ref())
                        .is_none()
                };
                let one_by_one: Vec<_> =
                    (0..count).filter(|&it| fits(&policy.rules()[it])).collect();
                let at_once: Vec<_> = policy.fitting(&subject).iter().collect();
                assert_eq!(at_once, one_by_one, "{subject:#?}");
                decided += at_once.len();
                allowed += at_once
                    .iter()
                    .filter(|&&it| policy.rules()[it].action == Action::Allow)
                    .count();
            }
        }
        // The rules and flows are such that both outcomes are common.
        assert!(decided > 10_000 && allowed > 2_000, "{decided} {allowed}");
    }
}

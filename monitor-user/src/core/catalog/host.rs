//! Patterns of hosts, and the table that finds the best one for a host.
//!
//! In: patterns as catalog files write them, then host names and addresses. Out: which pattern
//! matches best: exact before suffix before glob, then the longest.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::{fmt, iter};

use ipnet::IpNet;

/// Longest host name of the DNS, in bytes (RFC 1035, without the final dot).
const HOST_BYTES_MAX: usize = 253;

/// The prefix of IPv4 addresses that a NAT64 translates, as /96 (RFC 6052 section 2.1).
const NAT64: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

/// The addresses that networks are compared with: the canonical one and, where a NAT64 stands in
/// between, the IPv4 address that it will translate it to.
pub fn forms(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let ip = ip.to_canonical();
    let behind_nat64 = match ip {
        IpAddr::V6(v6) if v6.octets().starts_with(&NAT64) => {
            let [.., a, b, c, d] = v6.octets();
            Some(IpAddr::from([a, b, c, d]))
        }
        _ => None,
    };
    iter::once(ip).chain(behind_nat64)
}

/// Which hosts an entry of the catalog means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host: `api.anthropic.com`.
    Exact(Arc<str>),
    /// This domain and all below it: `*.cursor.sh`, held as `cursor.sh`.
    Suffix(Arc<str>),
    /// Hosts of this form. `*` stands for any characters inside one label, and a leading `*.` for
    /// any labels: `q.*.amazonaws.com`.
    Glob(Arc<str>),
    /// This address, or the addresses of this network: `203.107.1.1`, `160.79.104.0/23`.
    Network(IpNet),
}

impl HostPattern {
    /// The pattern that `text` writes.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to write, to follow after ``the host `text` ``.
    pub(super) fn parse(text: &str) -> Result<HostPattern, &'static str> {
        let pattern = HostPattern::parse_broad(text)?;
        match pattern.tail() {
            Some(tail) if tail.split('.').count() < 2 => Err(TOO_BROAD),
            _ => Ok(pattern),
        }
    }

    /// The same; a whole top-level domain will do, for those that know their own network.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn parse_broad(text: &str) -> Result<HostPattern, &'static str> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(HostPattern::Network(ip.into()));
        }
        if text.contains('/') {
            let network: IpNet = text.parse().map_err(|_| NOT_A_NETWORK)?;
            let exact = network.trunc() == network;
            return if exact {
                Ok(HostPattern::Network(network))
            } else {
                Err(HOST_BITS_SET)
            };
        }
        if text.len() > HOST_BYTES_MAX || !text.split('.').all(is_label_pattern) {
            return Err(NOT_A_HOST);
        }
        if literal_tail(text).is_empty() {
            return Err(EVERY_HOST);
        }
        Ok(match text.strip_prefix("*.") {
            _ if !text.contains('*') => HostPattern::Exact(text.into()),
            Some(domain) if !domain.contains('*') => HostPattern::Suffix(domain.into()),
            _ => HostPattern::Glob(text.into()),
        })
    }

    /// Whether it means the host of this canonical name.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let below = |tail: &str| {
            let before = host.strip_suffix(tail);
            before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        self.tail().is_some_and(below) && self.matches_before_tail(host)
    }

    /// Whether it means this address, in one of its [`forms`].
    #[must_use]
    pub fn holds(&self, ip: IpAddr) -> bool {
        let HostPattern::Network(network) = self else {
            return false;
        };
        forms(ip).any(|ip| network.contains(&ip))
    }

    /// Every host that matches ends in these labels; `None` for networks.
    #[must_use]
    pub fn tail(&self) -> Option<&str> {
        match self {
            HostPattern::Exact(text) | HostPattern::Suffix(text) => Some(text),
            HostPattern::Glob(text) => Some(literal_tail(text)),
            HostPattern::Network(_) => None,
        }
    }

    /// Whether a host matches that is known to end in [`Self::tail`].
    fn matches_before_tail(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => **name == *host,
            HostPattern::Suffix(_) => true,
            HostPattern::Glob(glob) => glob_matches(glob, host),
            HostPattern::Network(_) => false,
        }
    }

    /// Greater is the better match.
    fn rank(&self) -> (u8, usize) {
        match self {
            HostPattern::Exact(text) => (3, text.len()),
            HostPattern::Suffix(text) => (2, text.len()),
            HostPattern::Glob(text) => (1, text.len()),
            HostPattern::Network(network) => (0, usize::from(network.prefix_len())),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(text) | HostPattern::Glob(text) => f.write_str(text),
            HostPattern::Suffix(domain) => write!(f, "*.{domain}"),
            HostPattern::Network(net) if net.prefix_len() == net.max_prefix_len() => {
                write!(f, "{}", net.addr())
            }
            HostPattern::Network(network) => write!(f, "{network}"),
        }
    }
}

const NOT_A_HOST: &str = "is no host; write a lower-case name such as `api.example.com`, \
    `*.example.com`, `api.*.example.com`, an address or a network";
const NOT_A_NETWORK: &str = "is no network; write it as `192.0.2.0/24` or `2001:db8::/32`";
const HOST_BITS_SET: &str = "has bits set after its prefix; write the network's first address";
const EVERY_HOST: &str = "is any host at all; it must end in a label without `*`";
const TOO_BROAD: &str = "covers a whole top-level domain; it must end in two labels without `*`";

fn is_label_pattern(label: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'*');
    !label.is_empty() && label.bytes().all(allowed) && label.matches('*').count() <= 1
}

/// The labels after the last one with a `*`.
fn literal_tail(pattern: &str) -> &str {
    let Some(star) = pattern.rfind('*') else {
        return pattern;
    };
    pattern[star..].split_once('.').map_or("", |(_, tail)| tail)
}

fn glob_matches(glob: &str, host: &str) -> bool {
    let (any_labels, glob) = match glob.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, glob),
    };
    let mut labels = host.rsplit('.');
    let all = glob.rsplit('.').all(|part| {
        labels
            .next()
            .is_some_and(|label| label_matches(part, label))
    });
    all && (any_labels || labels.next().is_none())
}

fn label_matches(part: &str, label: &str) -> bool {
    match part.split_once('*') {
        None => part == label,
        Some((head, tail)) => {
            label.len() >= head.len() + tail.len()
                && label.starts_with(head)
                && label.ends_with(tail)
        }
    }
}

/// Patterns, found by host without looking at each.
#[derive(Clone, Debug, Default)]
pub(super) struct HostIndex {
    patterns: Vec<HostPattern>,
    by_tail: HashMap<Box<str>, Vec<usize>>,
    /// Places of the networks: few, so they are looked at one by one.
    networks: Vec<usize>,
}

impl HostIndex {
    pub(super) fn new(patterns: impl IntoIterator<Item = HostPattern>) -> Self {
        let patterns: Vec<_> = patterns.into_iter().collect();
        let mut by_tail: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut networks = Vec::new();
        for (place, pattern) in patterns.iter().enumerate() {
            match pattern.tail() {
                Some(tail) => by_tail.entry(tail.into()).or_default().push(place),
                None => networks.push(place),
            }
        }
        HostIndex {
            patterns,
            by_tail,
            networks,
        }
    }

    /// Place of the best pattern for a canonical host name among those that `accept` takes; of
    /// equals the first.
    pub(super) fn find(&self, host: &str, accept: impl Fn(usize) -> bool) -> Option<usize> {
        let tails = iter::successors(Some(host), |tail| {
            tail.split_once('.').map(|(_, rest)| rest)
        });
        tails
            .filter_map(|tail| self.by_tail.get(tail))
            .flatten()
            .copied()
            .filter(|&place| self.patterns[place].matches_before_tail(host) && accept(place))
            .max_by_key(|&place| (self.patterns[place].rank(), Reverse(place)))
    }

    /// The same for an address.
    pub(super) fn find_ip(&self, ip: IpAddr, accept: impl Fn(usize) -> bool) -> Option<usize> {
        self.networks
            .iter()
            .copied()
            .filter(|&place| self.patterns[place].holds(ip) && accept(place))
            .max_by_key(|&place| (self.patterns[place].rank(), Reverse(place)))
    }
}

/// A value for each pattern.
#[derive(Clone, Debug)]
pub(super) struct HostTable<T> {
    index: HostIndex,
    values: Vec<T>,
}

impl<T> HostTable<T> {
    pub(super) fn new(entries: impl IntoIterator<Item = (HostPattern, T)>) -> Self {
        let (patterns, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        HostTable {
            index: HostIndex::new(patterns),
            values,
        }
    }

    /// All patterns and their values.
    #[cfg(test)]
    pub(super) fn entries(&self) -> impl Iterator<Item = (&HostPattern, &T)> {
        self.index.patterns.iter().zip(&self.values)
    }

    /// The value of the best pattern for a canonical host name.
    pub(super) fn find(&self, host: &str) -> Option<&T> {
        self.values.get(self.index.find(host, |_| true)?)
    }

    /// The same for an address.
    pub(super) fn find_ip(&self, ip: IpAddr) -> Option<&T> {
        self.values.get(self.index.find_ip(ip, |_| true)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(patterns: &[&str]) -> HostIndex {
        HostIndex::new(
            patterns
                .iter()
                .map(|text| HostPattern::parse(text).unwrap()),
        )
    }

    #[test]
    fn the_best_pattern_wins() {
        #[track_caller]
        fn check(patterns: &[&str], host: &str, expect: Option<&str>) {
            let index = index(patterns);
            let found = index.find(host, |_| true).map(|place| patterns[place]);
            assert_eq!(found, expect);
        }
        let all = [
            "q.*.amazonaws.com",
            "*.amazonaws.com",
            "*.eu.amazonaws.com",
            "q.us.amazonaws.com",
        ];
        check(&all, "q.us.amazonaws.com", Some("q.us.amazonaws.com"));
        check(&all, "q.eu.amazonaws.com", Some("*.eu.amazonaws.com"));
        check(&all, "q.jp.amazonaws.com", Some("*.amazonaws.com"));
        check(&all[..1], "q.jp.amazonaws.com", Some("q.*.amazonaws.com"));
        check(&all, "amazonaws.com", Some("*.amazonaws.com"));
        check(&all, "evilamazonaws.com", None);
        check(&["api.example.com"], "x.api.example.com", None);
        check(&["api.example.com"], "example.com", None);
        check(
            &["*.example.com", "*.example.com"],
            "a.example.com",
            Some("*.example.com"),
        );
    }

    #[test]
    fn globs_match_label_by_label() {
        #[track_caller]
        fn check(glob: &str, host: &str, expect: bool) {
            assert_eq!(
                index(&[glob]).find(host, |_| true).is_some(),
                expect,
                "{glob} {host}"
            );
        }
        check(
            "*-aiplatform.googleapis.com",
            "us-east1-aiplatform.googleapis.com",
            true,
        );
        check(
            "*-aiplatform.googleapis.com",
            "a.b-aiplatform.googleapis.com",
            false,
        );
        check(
            "aiplatform.*.rep.googleapis.com",
            "aiplatform.us.rep.googleapis.com",
            true,
        );
        check(
            "aiplatform.*.rep.googleapis.com",
            "aiplatform.a.b.rep.googleapis.com",
            false,
        );
        check(
            "*.sso.*.amazonaws.com",
            "x.sso.us-east-1.amazonaws.com",
            true,
        );
        check("*.sso.*.amazonaws.com", "sso.us-east-1.amazonaws.com", true);
        check(
            "*.sso.*.amazonaws.com",
            "y.x.sso.us-east-1.amazonaws.com",
            true,
        );
        check("mon*.bytedance.com", "mon-va.bytedance.com", true);
        check("mon*.bytedance.com", "mo.bytedance.com", false);
        check("ab*ba.example.com", "aba.example.com", false);
    }

    #[test]
    fn the_longest_prefix_wins() {
        let patterns = [
            "2607:6bc0::/48",
            "160.79.104.0/23",
            "160.79.105.7",
            "example.com",
        ];
        let index = index(&patterns);
        let find = |ip: &str| {
            index
                .find_ip(ip.parse().unwrap(), |_| true)
                .map(|place| patterns[place])
        };
        assert_eq!(find("160.79.105.6"), Some("160.79.104.0/23"));
        assert_eq!(find("160.79.105.7"), Some("160.79.105.7"));
        assert_eq!(find("::ffff:160.79.105.7"), Some("160.79.105.7"));
        assert_eq!(find("64:ff9b::160.79.105.7"), Some("160.79.105.7"));
        assert_eq!(find("64:ff9b:1::160.79.105.7"), None);
        assert_eq!(find("160.79.106.0"), None);
        assert_eq!(find("2607:6bc0::1"), Some("2607:6bc0::/48"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        #[track_caller]
        fn check(text: &str, expect: &'static str) {
            assert_eq!(HostPattern::parse(text), Err(expect));
        }
        check("", NOT_A_HOST);
        check("API.example.com", NOT_A_HOST);
        check("api..example.com", NOT_A_HOST);
        check("api.example.com.", NOT_A_HOST);
        check("https://example.com", NOT_A_NETWORK);
        check("192.0.2.0/33", NOT_A_NETWORK);
        check("192.0.2.1/24", HOST_BITS_SET);
        check("*.com", TOO_BROAD);
        check("api.*", EVERY_HOST);
        check("*", EVERY_HOST);
        check("localhost", TOO_BROAD);
        check("a**.example.com", NOT_A_HOST);
    }

    #[test]
    fn a_pattern_is_shown_as_it_was_written() {
        for text in [
            "api.example.com",
            "*.example.com",
            "q.*.example.com",
            "203.107.1.1",
            "160.79.104.0/23",
        ] {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), text);
        }
    }
}

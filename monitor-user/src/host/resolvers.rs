//! The DNS resolvers that this host's programs are told to ask.
//!
//! In: `/etc/resolv.conf`, and systemd-resolved's own. Out: addresses. Traffic to them is the host's own, whoever asks; the
//! monitor itself never asks them.

use std::net::{IpAddr, SocketAddr};

use super::{HostError, HostRoot};

/// Resolvers kept. glibc and musl ask 3 at most; other resolver libraries ask more.
pub const RESOLVERS_MAX: usize = 16;

/// Where the resolvers are asked.
const PORT: u16 = 53;

/// What programs are told, and whom systemd-resolved asks behind its stub.
const FILES: [&str; 2] = ["etc/resolv.conf", "run/systemd/resolve/resolv.conf"];

/// Longest `resolv.conf`: far above what any resolver library reads.
const RESOLV_CONF_BYTES_MAX: usize = 64 << 10;

impl HostRoot {
    /// Addresses of the `nameserver` lines, in order, without repetitions, at most
    /// [`RESOLVERS_MAX`]; more are warned of in the log. Scopes (`%eth0`) are left out.
    ///
    /// Empty if the files are absent or name none: the library then asks this host itself.
    ///
    /// # Errors
    ///
    /// [`HostError`] if a file is there but cannot be read.
    pub fn resolvers(&self) -> Result<Vec<SocketAddr>, HostError> {
        let mut resolvers = Vec::new();
        for file in FILES {
            match self.read(file, RESOLV_CONF_BYTES_MAX) {
                Ok(content) => parse(&String::from_utf8_lossy(&content), &mut resolvers),
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        if resolvers.len() > RESOLVERS_MAX {
            tracing::warn!(
                found = resolvers.len(),
                kept = RESOLVERS_MAX,
                "/etc/resolv.conf names more resolvers than are kept"
            );
            resolvers.truncate(RESOLVERS_MAX);
        }
        Ok(resolvers)
    }
}

/// See resolv.conf(5): one keyword per line, comments start with `#` or `;`.
fn parse(content: &str, resolvers: &mut Vec<SocketAddr>) {
    for line in content.lines() {
        let mut words = line.split_whitespace();
        let (Some("nameserver"), Some(address)) = (words.next(), words.next()) else {
            continue;
        };
        let address = address
            .split_once('%')
            .map_or(address, |(address, _scope)| address);
        let Ok(address) = address.parse::<IpAddr>() else {
            continue;
        };
        let address = SocketAddr::new(address.to_canonical(), PORT);
        if !resolvers.contains(&address) {
            resolvers.push(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::root;
    use super::*;

    #[track_caller]
    fn check(content: &str, expect: &[&str]) {
        let (_folder, root) = root(&[("etc/resolv.conf", content.as_bytes())]);
        let address = |address: &&str| SocketAddr::new(address.parse().unwrap(), PORT);
        let expect: Vec<_> = expect.iter().map(address).collect();
        assert_eq!(root.resolvers().unwrap(), expect);
    }

    #[test]
    fn nameserver_lines_in_order() {
        check(
            "# made by hand\nsearch example.org\nnameserver 192.0.2.53\n  nameserver\t2001:db8::53\n\
             options edns0\n",
            &["192.0.2.53", "2001:db8::53"],
        );
    }

    #[test]
    fn those_behind_a_stub_count_too() {
        let (_folder, root) = root(&[
            ("etc/resolv.conf", b"nameserver 127.0.0.53\n"),
            (
                "run/systemd/resolve/resolv.conf",
                b"nameserver 127.0.0.53\nnameserver 192.0.2.53\n",
            ),
        ]);
        let expect = ["127.0.0.53:53", "192.0.2.53:53"].map(|at| at.parse().unwrap());
        assert_eq!(root.resolvers().unwrap(), expect);
    }

    #[test]
    fn scopes_and_trailing_words_are_left_out() {
        check("nameserver fe80::1%eth0 # router\n", &["fe80::1"]);
    }

    #[test]
    fn mapped_addresses_are_ipv4_and_repetitions_are_one() {
        check(
            "nameserver ::ffff:127.0.0.53\nnameserver 127.0.0.53\n",
            &["127.0.0.53"],
        );
    }

    #[test]
    fn everything_else_is_ignored() {
        check(
            "#nameserver 192.0.2.1\n;nameserver 192.0.2.2\nnameserver\nnameserver dns.example\n\
             nameservers 192.0.2.3\nNAMESERVER 192.0.2.4\n\u{0}\u{fffd}\n",
            &[],
        );
        let (_folder, bare) = root(&[]);
        assert_eq!(bare.resolvers().unwrap(), Vec::<SocketAddr>::new());
    }

    #[test]
    fn no_more_than_the_limit_are_kept() {
        let lines: String = (0..40)
            .map(|last| format!("nameserver 192.0.2.{last}\n"))
            .collect();
        let (_folder, root) = root(&[("etc/resolv.conf", lines.as_bytes())]);
        assert_eq!(root.resolvers().unwrap().len(), RESOLVERS_MAX);
    }
}

//! Linux capabilities: which of those the monitor may need does this process have.
//!
//! In: `/proc/self/status`. Out: [`Capabilities`], the effective set, and names for messages.

use super::{HostError, HostRoot};

/// Longest `/proc/self/status`; it has about 1.5 KiB, more on hosts with many CPUs.
const STATUS_BYTES_MAX: usize = 64 << 10;

/// One capability, by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Bit in the sets of `/proc/PID/status`.
    pub bit: u32,
    /// Name as `capabilities(7)` spells it.
    pub name: &'static str,
}

/// Attach programs to cgroups.
pub const CAP_NET_ADMIN: Capability = Capability {
    bit: 12,
    name: "CAP_NET_ADMIN",
};
/// Read `/proc/PID` of other users' processes.
pub const CAP_SYS_PTRACE: Capability = Capability {
    bit: 19,
    name: "CAP_SYS_PTRACE",
};
/// Mount a cgroup-v2 tree where there is none; before Linux 5.8 also everything of BPF.
pub const CAP_SYS_ADMIN: Capability = Capability {
    bit: 21,
    name: "CAP_SYS_ADMIN",
};
/// Raise the locked-memory limit, which bounds BPF maps before Linux 5.11.
pub const CAP_SYS_RESOURCE: Capability = Capability {
    bit: 24,
    name: "CAP_SYS_RESOURCE",
};
/// Load tracing programs and read kernel memory from them.
pub const CAP_PERFMON: Capability = Capability {
    bit: 38,
    name: "CAP_PERFMON",
};
/// Create maps and load programs.
pub const CAP_BPF: Capability = Capability {
    bit: 39,
    name: "CAP_BPF",
};

/// Look into folders of other users.
pub const CAP_DAC_READ_SEARCH: Capability = Capability {
    bit: 2,
    name: "CAP_DAC_READ_SEARCH",
};
/// Those that the monitor can make use of.
const KNOWN: [Capability; 7] = [
    CAP_DAC_READ_SEARCH,
    CAP_NET_ADMIN,
    CAP_SYS_PTRACE,
    CAP_SYS_ADMIN,
    CAP_SYS_RESOURCE,
    CAP_PERFMON,
    CAP_BPF,
];

/// A set of capabilities, as a bit mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// The set holds this capability.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.0 >> capability.bit & 1 == 1
    }

    /// Names of those that the monitor can make use of, and the number of others.
    #[must_use]
    pub fn in_words(self) -> String {
        let mut words: Vec<String> = KNOWN
            .iter()
            .filter(|capability| self.has(**capability))
            .map(|capability| capability.name.to_owned())
            .collect();
        let known = KNOWN.iter().fold(0, |set, it| set | 1 << it.bit);
        let others = (self.0 & !known).count_ones();
        if others > 0 {
            words.push(format!("{others} others"));
        }
        if words.is_empty() {
            "no capability".to_owned()
        } else {
            words.join(", ")
        }
    }

    /// Those of `wanted` that the set does not hold, in their order.
    #[must_use]
    pub fn missing(self, wanted: &[Capability]) -> Vec<Capability> {
        wanted
            .iter()
            .copied()
            .filter(|&capability| !self.has(capability))
            .collect()
    }
}

impl HostRoot {
    /// Effective capabilities of this process.
    ///
    /// # Errors
    ///
    /// [`HostError`] if `/proc` is not mounted.
    pub fn capabilities(&self) -> Result<Capabilities, HostError> {
        let path = "proc/self/status";
        let status = self.read(path, STATUS_BYTES_MAX)?;
        String::from_utf8_lossy(&status)
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
            .map(Capabilities)
            .ok_or_else(|| HostError::Unexpected {
                path: self.0.join(path),
                wanted: "effective capabilities (CapEff)",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::root;
    use super::*;

    const NEEDED: [Capability; 3] = [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN];

    #[track_caller]
    fn check(cap_eff: &str, missing: &[Capability]) {
        let status = format!("Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t{cap_eff}\nTail:\t1\n");
        let (_folder, root) = root(&[("proc/self/status", status.as_bytes())]);
        assert_eq!(root.capabilities().unwrap().missing(&NEEDED), missing);
    }

    #[test]
    fn missing_ones_are_named_in_order() {
        check("0000000000000000", &NEEDED);
        check("000001ffffffffff", &[]);
        check("000000c000001000", &[]);
        check("0000008000001000", &[CAP_PERFMON]);
        check("0000000000001000", &[CAP_BPF, CAP_PERFMON]);
    }

    #[test]
    fn a_set_is_told_in_words() {
        assert_eq!(Capabilities(0).in_words(), "no capability");
        let own = Capabilities(1 << 12 | 1 << 39);
        assert_eq!(own.in_words(), "CAP_NET_ADMIN, CAP_BPF");
        assert_eq!(Capabilities(3 << 12).in_words(), "CAP_NET_ADMIN, 1 others");
    }

    #[test]
    fn a_status_without_the_set_is_an_error() {
        for status in ["Name:\tx\n", "CapEff:\tzz\n", ""] {
            let (_folder, root) = root(&[("proc/self/status", status.as_bytes())]);
            let error = root.capabilities().unwrap_err().to_string();
            assert!(
                error.ends_with("holds no effective capabilities (CapEff)"),
                "{error}"
            );
        }
    }
}

//! Single variables of processes' environments, as they were at exec.
//!
//! In: processes, nearest first, and the list of variables that may be read. Out: those of the
//! list that are there, from the first process that is part of a build job. Nothing else of an
//! environment leaves this file: environments hold secrets.

use std::collections::BTreeMap;

use monitor_common::flow::ProcessKey;

use super::HostRoot;
use crate::core::job::{SWITCH, Take, is_mark, sets};

/// Bytes read of one environment. Build systems set about 200 variables, in 20 KiB; what comes
/// after this much of anything else is not looked at.
const ENVIRONMENT_BYTES_MAX: usize = 256 << 10;
/// Bytes of a value that are taken; the core shows fewer.
const VALUE_BYTES_MAX: usize = 512;
/// Nanoseconds in a tick of `/proc/PID/stat`.
const TICK_NS: u64 = 10_000_000;

/// Variables and what to take of each.
pub type Wanted = BTreeMap<String, Take>;

impl HostRoot {
    /// The wanted variables of the first process of `ancestry` that has one which marks a build
    /// job, or one that the operator added. Empty if none has.
    #[must_use]
    pub fn job_variables(&self, ancestry: &[ProcessKey], wanted: &Wanted) -> Vec<(String, String)> {
        let environments = ancestry.iter().filter_map(|key| self.environment(*key));
        let known = crate::core::job::variables();
        let speaks = |(name, value): (&str, &str)| {
            is_mark(name, value) || (wanted.contains_key(name) && !known.contains_key(name))
        };
        for environment in environments {
            let variables = || environment.split(|&byte| byte == 0).filter_map(variable);
            if variables().any(speaks) {
                return taken(variables(), wanted);
            }
        }
        Vec::new()
    }

    /// The switches that the environment of a process sets, each as `switch:NAME` and `on`. No
    /// value leaves this file.
    #[must_use]
    pub fn set_switches(&self, process: ProcessKey, switches: &[String]) -> Vec<(String, String)> {
        let environment = self.environment(process).unwrap_or_default();
        let variables = environment.split(|&byte| byte == 0).filter_map(variable);
        let mut first: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in variables {
            first.entry(name).or_insert(value); // As getenv(3).
        }
        let set = switches.iter().filter_map(|switch| {
            let (name, _) = switch.split_once('=').unwrap_or((switch, ""));
            let value = first.get(name)?;
            sets(switch, name, value).then(|| (format!("{SWITCH}{name}"), "on".to_owned()))
        });
        set.collect()
    }

    /// The environment of a process at its exec; `None` if it is gone or may not be read.
    fn environment(&self, key: ProcessKey) -> Option<Vec<u8>> {
        let path = format!("proc/{}/environ", key.tgid);
        let bytes = self.read_prefix(&path, ENVIRONMENT_BYTES_MAX).ok()?;
        // Looked at last: the pid was the process's all the time.
        let is_it = self.stat(key.tgid).ok()?.start_ticks == key.start_ns / TICK_NS;
        (is_it && !bytes.is_empty()).then_some(bytes)
    }
}

/// `b"NAME=value"`; what is not UTF-8 is no name or id of a build system.
fn variable(bytes: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(bytes).ok()?.split_once('=')
}

/// The wanted ones, each once, in the order of their names.
fn taken<'a>(
    variables: impl Iterator<Item = (&'a str, &'a str)>,
    wanted: &Wanted,
) -> Vec<(String, String)> {
    let mut found = BTreeMap::new();
    for (name, value) in variables {
        let value = match wanted.get(name) {
            None => continue,
            Some(Take::Presence) => "",
            Some(Take::Value) => value
                .get(..value.floor_char_boundary(VALUE_BYTES_MAX))
                .unwrap_or_default(),
        };
        // As getenv(3): the first counts.
        found.entry(name).or_insert(value);
    }
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    found.into_iter().map(owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::root;
    use super::*;
    use crate::core::job::variables;

    fn wanted(more: &[&str]) -> Wanted {
        let known = variables().into_iter();
        let known = known.map(|(name, take)| (name.to_owned(), take));
        let more = more.iter().map(|name| ((*name).to_owned(), Take::Value));
        known.chain(more).collect()
    }

    fn key(tgid: u32, ticks: u64) -> ProcessKey {
        ProcessKey {
            start_ns: ticks * TICK_NS + 1_234,
            tgid,
            exec_id: 1,
        }
    }

    /// Three processes, each with a start in ticks that is its pid; the first is looked at first.
    #[track_caller]
    fn check(environments: [&str; 3], more: &[&str], expect: &[(&str, &str)]) {
        let mut files = Vec::new();
        for (pid, environment) in (1u32..).zip(environments) {
            let stat =
                format!("{pid} (x) S 0 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 7 0 {pid} 1 2\n");
            files.push((format!("proc/{pid}/stat"), stat));
            files.push((
                format!("proc/{pid}/environ"),
                environment.replace(' ', "\0"),
            ));
        }
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (&**path, text.as_bytes()))
            .collect();
        let (_folder, root) = root(&files);
        let ancestry = [key(1, 1), key(2, 2), key(3, 3)];
        let found = root.job_variables(&ancestry, &wanted(more));
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn only_what_is_wanted_leaves() {
        check(
            [
                "PATH=/bin GITHUB_TOKEN=s3cret GITHUB_RUN_ID=7 GITHUB_ACTIONS=true RUNNER=x",
                "",
                "",
            ],
            &[],
            &[("GITHUB_ACTIONS", "true"), ("GITHUB_RUN_ID", "7")],
        );
        // The URL of a server may hold a password: that there is one is enough.
        check(
            ["JENKINS_URL=https://u:p@ci/ JOB_NAME=app", "", ""],
            &[],
            &[("JENKINS_URL", ""), ("JOB_NAME", "app")],
        );
    }

    #[test]
    fn the_nearest_process_that_is_part_of_a_job_counts() {
        check(
            [
                "CI=true BUILD_NUMBER=9",
                "GITLAB_CI=true CI_JOB_ID=2",
                "GITLAB_CI=true CI_JOB_ID=3",
            ],
            &[],
            &[("CI_JOB_ID", "2"), ("GITLAB_CI", "true")],
        );
        check(["CI=true", "", "X=1"], &[], &[]);
        check(
            ["A=1", "ACME_BUILD=7 A=2", ""],
            &["ACME_BUILD"],
            &[("ACME_BUILD", "7")],
        );
    }

    #[test]
    fn odd_environments_are_read_as_far_as_they_go() {
        check(
            ["=x TF_BUILD TF_BUILD=True = TF_BUILD=False", "", ""],
            &[],
            &[("TF_BUILD", "True")],
        );
        let long = format!(
            "BUILDKITE=true BUILDKITE_LABEL={}",
            "ä".repeat(VALUE_BYTES_MAX)
        );
        let cut = "ä".repeat(VALUE_BYTES_MAX / 2);
        check(
            [&long, "", ""],
            &[],
            &[("BUILDKITE", "true"), ("BUILDKITE_LABEL", &cut)],
        );
        let late = format!("X={} TF_BUILD=True", "x".repeat(ENVIRONMENT_BYTES_MAX));
        check([&late, "", ""], &[], &[]);
    }

    #[test]
    fn a_successor_under_the_same_pid_is_not_asked() {
        let stat = b"1 (x) S 0 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 7 0 500 1 2\n";
        let (_folder, root) = root(&[
            ("proc/1/stat", stat),
            ("proc/1/environ", b"TF_BUILD=True\0"),
        ]);
        assert!(root.job_variables(&[key(1, 499)], &wanted(&[])).is_empty());
        assert_eq!(root.job_variables(&[key(1, 500)], &wanted(&[])).len(), 1);
        assert!(root.job_variables(&[key(2, 500)], &wanted(&[])).is_empty());
    }

    #[test]
    fn this_process_can_be_read() {
        let host = HostRoot::default();
        let stat = host.stat(std::process::id()).unwrap();
        let own = key(std::process::id(), stat.start_ticks);
        let path = Wanted::from([("PATH".to_owned(), Take::Value)]);
        let found = host.job_variables(&[own], &path);
        assert_eq!(found, [("PATH".to_owned(), std::env::var("PATH").unwrap())]);
    }
}

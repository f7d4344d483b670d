//! Applies the layer rules to one file.
//!
//! In: a file's path and what it uses. Out: the uses that its layer forbids.

use super::rules::{RULES, Rule, TEST_MODULES};
use super::source::{Source, UsedPath};
use super::{Finding, core_order};

/// The user-space crate; its folders are the layers.
const USER: &str = "monitor-user/src/";

/// What cannot do without `unsafe`: the kernel programs, what copies memory, the program that
/// leaves the host in every odd way, and the allocator that counts.
const UNSAFE_FOLDERS: [&str; 4] = [
    "monitor-ebpf/",
    "monitor-copy/",
    "tests/evasion/evade/",
    "tests/fuzz/memory.rs",
];

/// Every use in the file at `path` that its layer forbids.
pub fn check(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !UNSAFE_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        findings.extend(source.unsafe_lines.iter().map(|&line| Finding {
            line,
            what: "`unsafe` is for monitor-ebpf alone".to_owned(),
        }));
    }
    let Some(module) = path
        .strip_prefix(USER)
        .and_then(|it| it.strip_suffix(".rs"))
    else {
        return findings;
    };
    findings.extend(
        source
            .modules
            .iter()
            .filter(|it| is_test(&it.name))
            .map(|it| Finding {
                line: it.line,
                what: format!("`mod {}` without `#[cfg(test)]`", it.name),
            }),
    );
    if module.split('/').any(is_test) {
        return findings;
    }
    for rule in RULES.iter().filter(|rule| rule.is_for(module)) {
        findings.extend(source.paths.iter().filter_map(|used| rule.breach(used)));
    }
    if let Some(inside) = module.strip_prefix("core/") {
        findings.extend(core_order::check(inside, source));
    }
    findings
}

impl Rule {
    fn is_for(&self, module: &str) -> bool {
        let covers = |name: &&str| module == *name || module.starts_with(&format!("{name}/"));
        (self.modules.is_empty() || self.modules.iter().any(covers))
            && !self.except.iter().any(covers)
    }

    fn breach(&self, used: &UsedPath) -> Option<Finding> {
        let name = self.forbidden.iter().find(|name| used.is_in(name))?;
        Some(Finding {
            line: used.line,
            what: format!("must not use {name}: {}", self.why),
        })
    }
}

fn is_test(module: &str) -> bool {
    TEST_MODULES.contains(&module)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::paths;

    /// Each line: a file of monitor-user, its text, and a part of what tidy says of it.
    #[track_caller]
    fn check_lines(lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let [module, text, expect] = line.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("not three columns: {line}");
            };
            let path = format!("{USER}{}.rs", module.trim());
            let findings = check(&path, &paths::read(&path, text).unwrap());
            match findings.as_slice() {
                [] => assert_eq!(expect, "allowed", "{line}"),
                [finding] => assert!(finding.what.contains(expect), "{line}: {finding:?}"),
                more => panic!("{line}: {more:?}"),
            }
        }
    }

    #[test]
    fn the_core_is_pure() {
        check_lines(
            "core/names    | use std::net::IpAddr; use std::time::Duration;  | allowed
             pipeline      | use tokio::sync::mpsc; use std::time::Instant;  | allowed
             core/names    | use std::fs::read;                              | the core is pure
             core/names    | use std::{env, sync::Arc};                      | the core is pure
             core/names    | fn f() { std::process::id(); }                  | the core is pure
             core/names    | use std::net::{IpAddr, UdpSocket};              | the core is pure
             core/wire/dns | fn f() { std::time::Instant::now(); }           | the core is pure
             core/names    | use std::time; fn f() -> time::SystemTime {}    | the core is pure
             core/names    | fn f() { tracing::warn!(x) }                    | the core is pure
             core/names    | use tokio::sync::mpsc;                          | the core is pure",
        );
    }

    #[test]
    fn the_core_does_not_look_up() {
        check_lines(
            "sink/http     | use crate::core::report::Effect;       | allowed
             core/names    | use crate::config::Config;             | layers above
             core/wire/dns | use super::super::super::sink::Sink;   | layers above",
        );
    }

    #[test]
    fn outer_layers_do_not_meet() {
        check_lines(
            "pipeline      | use crate::{sink, source};     | allowed
             sink/http     | use crate::source::bpf;        | events come from
             source/replay | use crate::sink::http;         | effects go
             host/procfs   | use crate::cli;                | imports run one way",
        );
    }

    #[test]
    fn one_place_for_the_kernel_for_metrics_and_for_the_exit() {
        check_lines(
            "source/bpf/load | use aya::Ebpf;                                | allowed
             source/replay   | use aya::Ebpf;                                | speak to the kernel
             metrics         | use prometheus::IntCounter;                   | allowed
             sink/http       | use prometheus::IntCounter;                   | registers metrics
             main            | fn main() { std::process::exit(2) }           | allowed
             cli/run         | use std::process; fn f() { process::exit() }  | only main.rs
             cli/run         | use std::process::ExitCode;                   | allowed",
        );
    }

    #[test]
    fn test_code_is_free_and_marked() {
        check_lines(
            "core/fixture | use std::fs; use super::collector::Collector;  | allowed
             core         | #[cfg(test)] mod fixture;                      | allowed
             core         | mod fixture;                                   | without `#[cfg(test)]`",
        );
    }

    #[test]
    fn unsafe_is_for_the_kernel_crate_alone() {
        check_lines("metrics | fn f() { unsafe { g() } } | monitor-ebpf alone");
        let source = paths::read("monitor-ebpf/src/kernel.rs", "unsafe fn f() {}").unwrap();
        assert_eq!(check("monitor-ebpf/src/kernel.rs", &source), []);
    }
}

//! Applies the order of the core's modules to one file.
//!
//! In: a file of the core and what it uses. Out: its uses of modules that are not below it.

use super::Finding;
use super::rules::{CORE_ORDER, VOCABULARY};
use super::source::{Source, UsedPath};

/// Uses, inside the core, of a module that is not below this one.
pub fn check(module: &str, source: &Source) -> Vec<Finding> {
    let own = module.split('/').next().unwrap_or(module);
    let Some(own_rank) = rank(own) else {
        let what = format!("core/{own} has no place in CORE_ORDER");
        return vec![Finding { line: 1, what }];
    };
    let breach = |used: &UsedPath| {
        let other = used.segments.get(2).filter(|_| used.is_in("crate::core"))?;
        let below = *other == own || may_use(own_rank, rank(other)?);
        let what = || format!("core::{own} must not use core::{other}: it is not below it");
        (!below).then(|| Finding {
            line: used.line,
            what: what(),
        })
    };
    source.paths.iter().filter_map(breach).collect()
}

/// Where a module of the core stands.
#[derive(Clone, Copy)]
enum Rank {
    Row(usize),
    Vocabulary,
}

fn rank(module: &str) -> Option<Rank> {
    if module == VOCABULARY {
        return Some(Rank::Vocabulary);
    }
    CORE_ORDER
        .iter()
        .position(|row| row.contains(&module))
        .map(Rank::Row)
}

fn may_use(own: Rank, other: Rank) -> bool {
    /// The rows up to `event` do not speak the vocabulary, which is made from them.
    const SILENT_ROWS: usize = 3;
    match (own, other) {
        (Rank::Row(own), Rank::Row(other)) => other < own,
        (Rank::Row(own), Rank::Vocabulary) => own >= SILENT_ROWS,
        (Rank::Vocabulary, Rank::Row(other)) => other < CORE_ORDER.len() - 1,
        (Rank::Vocabulary, Rank::Vocabulary) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::paths;

    /// Each line: a file of the core, its text, and a part of what tidy says of it.
    #[track_caller]
    fn check_lines(lines: &str) {
        for line in lines.lines().map(str::trim) {
            let [module, text, expect] = line.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("not three columns: {line}");
            };
            let module = module.trim();
            let source = paths::read(&format!("monitor-user/src/core/{module}.rs"), text).unwrap();
            let found: Vec<String> = check(module, &source)
                .into_iter()
                .map(|it| it.what)
                .collect();
            match found.as_slice() {
                [] => assert_eq!(expect, "allowed", "{line}"),
                [what] => assert!(what.contains(expect), "{line}: {what}"),
                more => panic!("{line}: {more:?}"),
            }
        }
    }

    #[test]
    fn the_core_is_in_order() {
        check_lines(
            "collector | use super::{alert, policy, wire::dns};         | allowed
             wire/dns  | use super::Error; use crate::core::wire::tls;  | allowed
             names     | use super::event::BootNs;                      | allowed
             names     | use super::catalog::Catalog;                   | not below
             event     | use crate::core::names::Name;                  | not below
             policy    | fn f() { crate::core::alert::g() }             | not below
             flow      | use super::policy::Judgement;                  | allowed
             policy    | use super::report::ProcessView;                | allowed
             report    | use super::alert::Alert;                       | allowed
             report    | use super::collector::Collector;               | not below
             event     | use super::report::Limit;                      | not below
             brand_new | use std::sync::Arc;                            | no place",
        );
    }
}

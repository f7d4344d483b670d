//! From a path as it is written to the full path that it means.
//!
//! In: a path, the module it stands in, and what that module imports. Out: a path that starts with
//! `crate` or with the name of another crate.

use std::collections::BTreeMap;

/// `monitor-user/src/core/wire/dns.rs` is `crate::core::wire::dns`.
pub fn module_of(path: &str) -> Vec<String> {
    let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
    let modules = inside.trim_end_matches(".rs").split('/');
    let modules = modules.filter(|it| !["lib", "main", "mod"].contains(it));
    std::iter::once("crate")
        .chain(modules)
        .map(String::from)
        .collect()
}

/// An alias may stand for another one; a chain longer than this is a circle.
const LONGEST_ALIAS_CHAIN: usize = 8;

/// Follows `self`, `super`, imports and child modules to a path from a crate's root.
pub fn resolve(
    path: &[String],
    module: &[String],
    aliases: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let mut path = path.to_vec();
    for _ in 0..LONGEST_ALIAS_CHAIN {
        let Some((first, mut rest)) = path.split_first() else {
            break;
        };
        let mut start = match first.as_str() {
            "crate" => break,
            // How the binary calls its library.
            "telltale" => vec!["crate".to_owned()],
            "self" => module.to_vec(),
            "super" => parent(module),
            name => match aliases.get(name) {
                Some(full) if full.first() != Some(first) => full.clone(),
                _ => break,
            },
        };
        while let Some(("super", after)) =
            rest.split_first().map(|(it, after)| (it.as_str(), after))
        {
            start = parent(&start);
            rest = after;
        }
        path = [start.as_slice(), rest].concat();
    }
    path
}

fn parent(module: &[String]) -> Vec<String> {
    module
        .split_last()
        .map(|(_, above)| above.to_vec())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(path: &str) -> Vec<String> {
        path.split("::").map(String::from).collect()
    }

    /// `path` as it stands in `core::wire::dns`, which imports `std::time` and, in a circle, `a`.
    #[track_caller]
    fn check(path: &str, expect: &str) {
        let alias = |name: &str, full: &str| (name.to_owned(), split(full));
        let aliases = [alias("time", "std::time"), alias("a", "b"), alias("b", "a")];
        let module = module_of("monitor-user/src/core/wire/dns.rs");
        assert_eq!(
            resolve(&split(path), &module, &BTreeMap::from(aliases)),
            split(expect)
        );
    }

    #[test]
    fn paths_are_made_full() {
        check("crate::x", "crate::x");
        check("telltale::core::x", "crate::core::x");
        check("self::x", "crate::core::wire::dns::x");
        check("super::x", "crate::core::wire::x");
        check("super::super::x", "crate::core::x");
        check("time::Instant", "std::time::Instant");
        check("std::time", "std::time");
    }

    #[test]
    fn a_circle_ends() {
        check("a::x", "a::x");
    }

    #[test]
    fn files_are_modules() {
        for (path, expect) in [("lib.rs", "crate"), ("core.rs", "crate::core")] {
            assert_eq!(
                module_of(&format!("monitor-user/src/{path}")),
                split(expect)
            );
        }
    }
}

//! What the kernel-side crates may depend on.
//!
//! In: a manifest's text. Out: the dependencies it must not have.

use toml::{Table, Value};

use super::Finding;

/// The ABI is integers and arrays; the kernel program is the ABI and the kernel's helpers.
const ALLOWED: [(&str, &[&str]); 2] = [
    ("monitor-common/Cargo.toml", &["zerocopy"]),
    ("monitor-ebpf/Cargo.toml", &["aya-ebpf", "monitor-common"]),
];

/// Tables of a manifest that name dependencies.
const TABLES: [&str; 2] = ["dependencies", "build-dependencies"];

/// Checks the manifest at `path`; other files have nothing to say here.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(manifest, _)| *manifest == path) else {
        return Vec::new();
    };
    let finding = |what: String| Finding { line: 1, what };
    let manifest: Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![finding(format!("{error}"))],
    };
    let tables = TABLES
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table());
    let names = tables.flat_map(|table: &toml::map::Map<String, Value>| table.keys());
    names
        .filter(|name| !allowed.contains(&name.as_str()))
        .map(|name| {
            finding(format!(
                "must not depend on {name}, only on {}",
                allowed.join(", ")
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_common(text: &str, expect: usize) {
        assert_eq!(
            check("monitor-common/Cargo.toml", text).len(),
            expect,
            "{text}"
        );
    }

    #[test]
    fn the_abi_depends_on_zerocopy_alone() {
        check_common("[dependencies]\nzerocopy.workspace = true", 0);
        check_common("[dependencies]\nzerocopy = \"1\"\naya = \"1\"", 1);
        check_common("[build-dependencies]\ncc = \"1\"", 1);
        check_common("not toml", 1);
    }

    #[test]
    fn other_manifests_are_free() {
        assert_eq!(
            check("monitor-user/Cargo.toml", "[dependencies]\naya = \"1\""),
            []
        );
    }
}

//! One digest over everything in this repository that the kernel object is made from.
//!
//! In: the workspace. Out: the SHA-256 of a list with one line `DIGEST  NAME` for each of
//! - the manifest and every file under `src` of `monitor-ebpf` and `monitor-common`;
//! - the parts of the root manifest that reach the compiler: the profiles `bpf` and `release`,
//!   `workspace.package`, and the `workspace.dependencies` that the two crates name;
//! - each package of `Cargo.lock` that `monitor-ebpf` depends on, build scripts included.
//!
//! Compiler, linker and flags are not in it: the provenance file records them by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::digest;

const CRATES: [&str; 2] = ["monitor-ebpf", "monitor-common"];

/// The digest of the workspace at `root`, in hexadecimal.
///
/// # Errors
/// When a file cannot be read, or a manifest or the lock file is not as cargo writes it.
pub fn sources_digest(root: &Path) -> Result<String> {
    let mut inputs = BTreeMap::new();
    let workspace = read_toml(&root.join("Cargo.toml"))?;
    for table in ["profile.bpf", "profile.release", "workspace.package"] {
        inputs.insert(
            format!("Cargo.toml {table}"),
            text_of(lookup(&workspace, table)),
        );
    }
    for name in CRATES {
        let manifest = root.join(name).join("Cargo.toml");
        for dependency in dependencies(&read_toml(&manifest)?) {
            let key = format!("workspace.dependencies.{dependency}");
            inputs.insert(
                format!("Cargo.toml {key}"),
                text_of(lookup(&workspace, &key)),
            );
        }
        inputs.insert(format!("{name}/Cargo.toml"), read(&manifest)?);
        add_files(
            &root.join(name).join("src"),
            &format!("{name}/src"),
            &mut inputs,
        )?;
    }
    let lock = read_toml(&root.join("Cargo.lock"))?;
    for package in closure(&lock, CRATES[0]).context("Cargo.lock")? {
        inputs.insert(format!("Cargo.lock {package}"), package.into_bytes());
    }
    let lines = inputs
        .iter()
        .map(|(name, bytes)| format!("{}  {name}\n", digest(bytes)));
    Ok(digest(lines.collect::<String>().as_bytes()))
}

fn add_files(folder: &Path, name: &str, inputs: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let file = path
            .file_name()
            .and_then(|it| it.to_str())
            .unwrap_or_default();
        let name = format!("{name}/{file}");
        if path.is_dir() {
            add_files(&path, &name, inputs)?;
        } else {
            inputs.insert(name, read(&path)?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_toml(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    text.parse().with_context(|| format!("{}", path.display()))
}

/// The value at a dotted key.
fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let value = table.get(first)?;
    if rest.is_empty() {
        Some(value)
    } else {
        lookup(value.as_table()?, rest)
    }
}

/// The value as TOML; keys come out sorted, so order and comments in the file do not matter.
fn text_of(value: Option<&Value>) -> Vec<u8> {
    value.map(Value::to_string).unwrap_or_default().into_bytes()
}

fn dependencies(manifest: &Table) -> Vec<String> {
    let table = lookup(manifest, "dependencies").and_then(Value::as_table);
    table
        .map(|it| it.keys().cloned().collect())
        .unwrap_or_default()
}

/// `name version checksum` of every package that `start` leads to, itself excepted.
fn closure(lock: &Table, start: &str) -> Option<BTreeSet<String>> {
    let packages = lock.get("package")?.as_array()?;
    let mut seen = BTreeSet::new();
    let mut waiting = vec![start.to_owned()];
    while let Some(wanted) = waiting.pop() {
        // A dependency is written `name`, or `name version` where the name alone is ambiguous.
        let (name, version) = wanted.split_once(' ').unwrap_or((&wanted, ""));
        let package = packages
            .iter()
            .filter_map(Value::as_table)
            .find(|package| {
                let is = |key, want: &str| package.get(key).and_then(Value::as_str) == Some(want);
                is("name", name) && (version.is_empty() || is("version", version))
            })?;
        let text = |key| package.get(key).and_then(Value::as_str).unwrap_or("-");
        let line = format!("{name} {} {}", text("version"), text("checksum"));
        if seen.insert(line) {
            let next = package.get("dependencies").and_then(Value::as_array);
            waiting.extend(
                next.into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(String::from),
            );
        }
    }
    seen.retain(|line| !line.starts_with(&format!("{start} ")));
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
        [[package]]
        name = "start"
        version = "0.1.0"
        dependencies = ["plain", "twice 2.0.0"]
        [[package]]
        name = "plain"
        version = "1.0.0"
        checksum = "aa"
        [[package]]
        name = "twice"
        version = "1.0.0"
        checksum = "bb"
        [[package]]
        name = "twice"
        version = "2.0.0"
        checksum = "cc"
        dependencies = ["plain"]
        [[package]]
        name = "stranger"
        version = "1.0.0"
    "#;

    #[test]
    fn follows_the_lock_file_to_the_right_versions() {
        let lock: Table = LOCK.parse().unwrap();
        let expect = ["plain 1.0.0 aa", "twice 2.0.0 cc"].map(String::from);
        assert_eq!(closure(&lock, "start").unwrap(), BTreeSet::from(expect));
        assert_eq!(closure(&lock, "absent"), None);
    }

    #[test]
    fn a_value_is_found_by_its_dotted_key() {
        let table: Table = "[profile.bpf]\nopt-level = 3".parse().unwrap();
        assert_eq!(text_of(lookup(&table, "profile.bpf.opt-level")), b"3");
        assert_eq!(lookup(&table, "profile.release"), None);
    }
}

//! The bill of materials: which crates are in the program, from where, under which licence.
//!
//! In: `cargo metadata` and Cargo.lock. Out: JSON in CycloneDX 1.5. The kernel programs are part of
//! it, as the program carries them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Release;
use crate::shell;

/// What the program is made of: itself, and the kernel programs.
const ROOTS: [&str; 2] = ["telltale", "monitor-ebpf"];

/// The workspace's version.
///
/// # Errors
/// When its Cargo.toml says none.
pub fn version(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join("Cargo.toml"))?;
    let manifest: toml::Table = toml::from_str(&text)?;
    let version = manifest["workspace"]["package"]["version"].as_str();
    Ok(version.context("the workspace has no version")?.to_owned())
}

/// The bill of materials of a release.
///
/// # Errors
/// When cargo fails.
pub fn text(release: &Release) -> Result<String> {
    let mut cargo = shell::cargo();
    cargo.current_dir(&release.root).args([
        "metadata",
        "--locked",
        "--format-version=1",
        "--filter-platform=x86_64-unknown-linux-musl",
    ]);
    let metadata = serde_json::from_str(&shell::output(&mut cargo)?)?;
    let lock = toml::from_str(&fs::read_to_string(release.root.join("Cargo.lock"))?)?;
    let mut date = release.command("date");
    date.args(["--utc", &format!("--date=@{}", release.epoch), "+%FT%TZ"]);
    let date = shell::output(&mut date)?;
    let bill = bill(&metadata, &checksums(&lock), &release.version, date.trim());
    Ok(format!(
        "{:#}\n",
        bill.context("cargo metadata has another form")?
    ))
}

/// Digests of packages by name and version.
fn checksums(lock: &toml::Table) -> BTreeMap<(String, String), String> {
    let packages = lock["package"].as_array().into_iter().flatten();
    let field = |package: &toml::Value, name| Some(package.get(name)?.as_str()?.to_owned());
    packages
        .filter_map(|it| {
            Some((
                (field(it, "name")?, field(it, "version")?),
                field(it, "checksum")?,
            ))
        })
        .collect()
}

fn bill(
    metadata: &Value,
    checksums: &BTreeMap<(String, String), String>,
    version: &str,
    date: &str,
) -> Option<Value> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let packages: BTreeMap<String, &Value> = metadata["packages"]
        .as_array()?
        .iter()
        .filter_map(|package| Some((text(&package["id"])?, package)))
        .collect();
    let edges: BTreeMap<String, Vec<String>> = metadata["resolve"]["nodes"]
        .as_array()?
        .iter()
        .filter_map(|node| Some((text(&node["id"])?, needed(node))))
        .collect();
    let roots = ROOTS.map(|name| packages.iter().find(|(_, it)| it["name"] == name));
    let mut waiting: Vec<&String> = roots.into_iter().flatten().map(|(id, _)| id).collect();
    let mut used: BTreeSet<&String> = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if used.insert(id) {
            waiting.extend(edges.get(id)?);
        }
    }
    let url = |id: &String| {
        let package = packages.get(id)?;
        Some(format!(
            "pkg:cargo/{}@{}",
            package["name"].as_str()?,
            package["version"].as_str()?
        ))
    };
    let mut components = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    for id in used {
        let (package, name) = (packages.get(id)?, url(id)?);
        let key = (text(&package["name"])?, text(&package["version"])?);
        let digest = checksums.get(&key);
        let hashes = digest.map(|it| json!({"alg": "SHA-256", "content": it}));
        components.insert(
            name.clone(),
            json!({
                "type": "library", "bom-ref": name, "purl": name,
                "name": key.0, "version": key.1,
                "licenses": [{"expression": package["license"]}],
                "hashes": hashes.into_iter().collect::<Vec<_>>(),
            }),
        );
        let on: BTreeSet<_> = edges.get(id)?.iter().filter_map(url).collect();
        dependencies.insert(name.clone(), json!({"ref": name, "dependsOn": on}));
    }
    Some(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "timestamp": date,
            "component": {"type": "application", "name": "telltale", "version": version},
        },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>(),
    }))
}

/// What a package needs to be built; not what only its tests need.
fn needed(node: &Value) -> Vec<String> {
    let deps = node["deps"].as_array().into_iter().flatten();
    let is_shipped = |dep: &&Value| {
        let kinds = dep["dep_kinds"].as_array().into_iter().flatten();
        kinds.into_iter().any(|kind| kind["kind"] != "dev")
    };
    let ids = deps
        .filter(is_shipped)
        .filter_map(|dep| dep["pkg"].as_str());
    ids.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_tests_need_is_no_part() {
        let package =
            |name: &str| json!({"id": name, "name": name, "version": "1", "license": "MIT"});
        let dep = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("telltale"), package("a"), package("b"), package("c")],
            "resolve": {"nodes": [
                {"id": "telltale", "deps": [dep("a", Value::Null), dep("b", json!("dev"))]},
                {"id": "a", "deps": [dep("c", json!("build"))]},
                {"id": "b", "deps": []},
                {"id": "c", "deps": []},
            ]},
        });
        let sums = BTreeMap::from([(("a".to_owned(), "1".to_owned()), "f00".to_owned())]);
        let bill = bill(&metadata, &sums, "0.1.0", "2026-01-31T00:00:00Z").unwrap();
        let names: Vec<_> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["name"])
            .collect();
        assert_eq!(names, ["a", "c", "telltale"]);
        assert_eq!(bill["components"][0]["hashes"][0]["content"], "f00");
        assert_eq!(
            bill["dependencies"][0]["dependsOn"],
            json!(["pkg:cargo/c@1"])
        );
    }
}

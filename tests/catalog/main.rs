//! Every tool of the catalog, played: programs that its recognisers describe and their children,
//! the hosts of its manifest, one host that no manifest lists; then the same under a ban.
//!
//! In: the catalog that is compiled in. Out: `tools/<id>.txt`, one fact in a line. `UPDATE=1`
//! writes them anew; read the diff before you commit. What must hold for every tool is asserted
//! besides, so that no golden can accept it.
//!
//! No program runs here: the collector is given what the kernel would say. That the kernel does
//! say it, for every kind of layout, is for `tests/kernel`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

mod play;
mod script;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::{env, fs};

use telltale::core::catalog::Catalog;

static CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| Arc::new(Catalog::embedded().unwrap()));

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog/tools")
}

#[test]
fn every_tool_gives_its_golden() {
    let mut changed = Vec::new();
    for facts in CATALOG.facts() {
        let found = script::play(&CATALOG, facts);
        let golden = folder().join(format!("{}.txt", facts.tool.id));
        if env::var_os("UPDATE").is_some() {
            fs::write(&golden, &found).unwrap();
            continue;
        }
        let expect = fs::read_to_string(&golden).unwrap_or_default();
        if let Some(difference) = difference(&expect, &found) {
            changed.push(format!("{}: {difference}", facts.tool.id));
        }
    }
    let hint = "set UPDATE=1 to accept what was found";
    assert!(changed.is_empty(), "{}\n{hint}", changed.join("\n"));
}

/// No golden is left of a tool that is gone.
#[test]
fn every_golden_has_its_tool() {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let files = fs::read_dir(folder()).unwrap();
    let files: BTreeSet<String> = files.map(|entry| name(entry.unwrap())).collect();
    let tools = CATALOG.tools().map(|tool| format!("{}.txt", tool.id));
    assert_eq!(files, tools.collect::<BTreeSet<_>>());
}

/// The first line that differs.
fn difference(expect: &str, found: &str) -> Option<String> {
    let mut found = found.lines();
    let mut pairs = expect.lines().map(|line| (Some(line), found.next()));
    let other = pairs.find(|(expect, found)| expect != found);
    let (expect, found) = other.or_else(|| found.next().map(|line| (None, Some(line))))?;
    let show = |line: Option<&str>| line.unwrap_or("nothing more").to_owned();
    Some(format!(
        "\n  expected {}\n  found    {}",
        show(expect),
        show(found)
    ))
}

#[test]
fn a_difference_is_found() {
    assert_eq!(difference("a\nb\n", "a\nb\n"), None);
    for (expect, found) in [("a\nb\n", "a\nc\n"), ("a\nb\n", "a\n"), ("a\n", "a\nb\n")] {
        assert!(difference(expect, found).is_some(), "{expect:?} {found:?}");
    }
}

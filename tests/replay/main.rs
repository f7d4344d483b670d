//! Golden cases: a recording of a real run, and what must be said of it, to the byte.
//!
//! In: `cases/<name>/recording`, and `telltale.toml` where the case has one.
//! Out: `cases/<name>/events.ndjson`. `UPDATE=1` writes it anew; read the diff before you commit.
//!
//! The cheapest way to pin behaviour: no privilege, no kernel, no clock.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use monitor_tests::scene::temp_dir;
use monitor_tests::telltale::telltale;

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("replay/cases");
    let mut cases: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

fn replay(case: &Path) -> String {
    let recording = case.join("recording").display().to_string();
    let config = case.join("telltale.toml");
    let mut args = vec![
        "replay".to_owned(),
        recording,
        "--events".to_owned(),
        "-".to_owned(),
    ];
    if config.exists() {
        args.extend(["--config".to_owned(), config.display().to_string()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let dir = temp_dir();
    let ended = telltale(dir.path(), &args);
    ended.expect(0, &[]);
    ended.stdout
}

#[test]
fn every_case_gives_its_golden_events() {
    let cases = cases();
    assert!(!cases.is_empty());
    let mut changed = Vec::new();
    for case in cases {
        let (golden, found) = (case.join("events.ndjson"), replay(&case));
        if env::var_os("UPDATE").is_some() {
            fs::write(&golden, found).unwrap();
        } else if let Some(difference) = difference(&fs::read_to_string(&golden).unwrap(), &found) {
            changed.push(format!("{}: {difference}", golden.display()));
        }
    }
    let hint = "set UPDATE=1 to accept what was found";
    assert!(changed.is_empty(), "{}\n{hint}", changed.join("\n"));
}

/// The first line that differs.
fn difference(expect: &str, found: &str) -> Option<String> {
    if expect == found {
        return None;
    }
    let (mut expect, mut found) = (expect.lines(), found.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expect.next(), found.next()) {
            (None, None) => return Some("the end of the last line".to_owned()),
            (a, b) if a == b => {}
            (a, b) => {
                let show = |line: Option<&str>| line.unwrap_or("nothing more").to_owned();
                return Some(format!(
                    "line {number}\n  expected {}\n  found    {}",
                    show(a),
                    show(b)
                ));
            }
        }
    }
}

#[test]
fn a_difference_is_found() {
    assert_eq!(difference("a\nb\n", "a\nb\n"), None);
    assert!(
        difference("a\nb\n", "a\nc\n")
            .unwrap()
            .starts_with("line 2\n")
    );
    assert!(
        difference("a\nb\n", "a\n")
            .unwrap()
            .contains("nothing more")
    );
    assert!(difference("a\n", "a").is_some());
}

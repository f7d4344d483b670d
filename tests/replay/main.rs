//! Golden cases: a recording of a real run, and what must be said of it, to the byte.
//!
//! In: `cases/<name>/recording`, and `telltale.toml` where the case has one.
//! Out: `cases/<name>/events.ndjson` and `metrics.txt`. `UPDATE=1` writes them anew; read the
//! diff before you commit. `src/bin/record_cases.rs` records the cases, and says what happens in
//! each.
//!
//! The cheapest way to pin behaviour: no privilege, no kernel, no clock. A golden that holds run
//! after run is also the proof that a replay always says the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use monitor_tests::scene::temp_dir;
use monitor_tests::telltale::{telltale, write_config};

/// What a golden holds for the version, which changes with each release.
const VERSION: &str = "\"version\":\"V\",\"type\":\"host-monitor\"";

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("replay/cases");
    let mut cases: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

/// What is said of a case.
struct Said {
    events: String,
    metrics: String,
}

fn replay(case: &Path) -> Said {
    let dir = temp_dir();
    let sections = fs::read_to_string(case.join("telltale.toml")).unwrap_or_default();
    let config = write_config(dir.path(), &sections).display().to_string();
    let metrics = dir.path().join("metrics");
    let recording = case.join("recording").display().to_string();
    let ended = telltale(
        dir.path(),
        &[
            "replay",
            &recording,
            "--config",
            &config,
            "--events",
            "-",
            "--events-arguments",
            "redacted",
            "--metrics",
            &metrics.display().to_string(),
        ],
    );
    ended.expect(0, &[]);
    assert_eq!(ended.stderr, "", "{}", case.display());
    let version = VERSION.replace('V', env!("CARGO_PKG_VERSION"));
    Said {
        events: ended.stdout.replace(&version, VERSION),
        metrics: what_happened(&fs::read_to_string(metrics).unwrap()),
    }
}

/// The series that tell what happened: not what could have, how large tables are, or who counted.
fn what_happened(scrape: &str) -> String {
    let of_this_build = [
        "telltale_build_info",
        "telltale_policy_info",
        "telltale_table_",
    ];
    let tells = |line: &&str| {
        line.starts_with("telltale_")
            && !line.ends_with(" 0")
            && !of_this_build.iter().any(|name| line.starts_with(name))
    };
    scrape
        .lines()
        .filter(tells)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn every_case_gives_its_golden() {
    let cases = cases();
    assert!(!cases.is_empty());
    let mut changed = Vec::new();
    for case in cases {
        let said = replay(&case);
        for (file, found) in [
            ("events.ndjson", said.events),
            ("metrics.txt", said.metrics),
        ] {
            let golden = case.join(file);
            if env::var_os("UPDATE").is_some() {
                fs::write(&golden, found).unwrap();
            } else if let Some(difference) =
                difference(&fs::read_to_string(&golden).unwrap(), &found)
            {
                changed.push(format!("{}: {difference}", golden.display()));
            }
        }
    }
    let hint = "set UPDATE=1 to accept what was found";
    assert!(changed.is_empty(), "{}\n{hint}", changed.join("\n"));
}

/// A case is a gift to whoever reads it: small, and of no particular machine.
#[test]
fn cases_are_small_and_neutral() {
    const BYTES_MAX: u64 = 10 << 10;
    for case in cases() {
        let recording = case.join("recording");
        let bytes = fs::metadata(&recording).unwrap().len();
        assert!(bytes <= BYTES_MAX, "{}: {bytes} bytes", case.display());
        let text = fs::read_to_string(&recording).unwrap();
        assert!(text.contains("\"host\":\"build-7\""), "{}", case.display());
        let events = fs::read_to_string(case.join("events.ndjson")).unwrap();
        let this_checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(
            !events.contains(this_checkout.to_str().unwrap()),
            "{}",
            case.display()
        );
    }
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

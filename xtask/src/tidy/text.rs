//! Rules for the text of any file.
//!
//! In: a file's path and text. Out: what does not belong in it.

use std::env;
use std::path::Path;

use super::Finding;

/// Files that are not written by hand, or not by us.
const FOREIGN: [&str; 2] = ["Cargo.lock", "LICENSE-"];
/// Folders of recorded data, which is kept as it came.
const RECORDED: [&str; 2] = ["/cases/", "/fixtures/"];

/// Words for work that is not done. Split here, so that this file passes its own check.
const UNFINISHED: [&str; 4] = [
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
];

/// Package registries. A catalog names a suffix (`*.example.org`) and a recipe uses the client's
/// own default, so that an operator's mirror works and no registry is singled out.
const REGISTRIES: [&str; 9] = [
    concat!("registry.", "npmjs"),
    concat!("registry.", "yarnpkg"),
    concat!("npmjs.", "org"),
    concat!("crates.", "io"),
    concat!("pypi.", "org"),
    concat!("python", "hosted.org"),
    concat!("deb.", "debian.org"),
    concat!("security.", "debian.org"),
    concat!("proxy.", "golang.org"),
];

/// Words that must not be in any file, each with the reason.
pub struct ForbiddenWords(Vec<(String, &'static str)>);

impl ForbiddenWords {
    /// The fixed ones, and the folders of this machine.
    pub fn of_this_machine(root: &Path) -> Self {
        let home = env::home_dir().map(|home| home.display().to_string());
        let of_home = |part| home.as_ref().map(|home| format!("{home}{part}"));
        let folders = [
            Some(root.display().to_string()),
            of_home("/.cargo"),
            of_home("/.rustup"),
        ];
        Self::new(
            folders
                .into_iter()
                .flatten()
                .chain([concat!("/wo", "rk/").to_owned()]),
        )
    }

    fn new(folders: impl IntoIterator<Item = String>) -> Self {
        let folders = folders
            .into_iter()
            .map(|it| (it, "a folder of one machine"));
        let unfinished = UNFINISHED
            .iter()
            .map(|it| (it.to_string(), "unfinished work"));
        let registries = REGISTRIES
            .iter()
            .map(|it| (it.to_string(), "a package registry's host"));
        Self(folders.chain(unfinished).chain(registries).collect())
    }
}

/// Checks the file at `path`, which is relative to the workspace's root.
pub fn check(path: &str, text: &str, words: &ForbiddenWords) -> Vec<Finding> {
    if FOREIGN.iter().any(|name| path.starts_with(name)) {
        return Vec::new();
    }
    let recorded = RECORDED.iter().any(|folder| path.contains(folder));
    let mut findings = Vec::new();
    let mut find = |line: usize, what: String| {
        findings.push(Finding {
            line: line + 1,
            what,
        })
    };
    if path.ends_with(".rs") && !text.starts_with("//! ") {
        find(
            0,
            "starts without a `//!` that says what flows in and out".into(),
        );
    }
    for (number, line) in text.lines().enumerate() {
        if !recorded && line.contains('\t') {
            find(number, "tab".into());
        }
        if !recorded && line.ends_with(char::is_whitespace) {
            find(number, "trailing whitespace".into());
        }
        for (word, why) in &words.0 {
            if holds(line, word) {
                find(number, format!("{word}: {why}"));
            }
        }
    }
    if !recorded && !text.is_empty() && !text.ends_with('\n') {
        find(text.lines().count() - 1, "no newline at the end".into());
    }
    findings
}

/// Whether `word` stands in `line` by itself: not inside a longer word, nor as the suffix `*.word`.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let joined = |side: Option<char>, edge: Option<char>| {
            edge.is_some_and(char::is_alphanumeric) && side.is_some_and(char::is_alphanumeric)
        };
        !joined(before.chars().next_back(), word.chars().next())
            && !joined(after.chars().next(), word.chars().next_back())
            && !before.ends_with("*.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(path: &str, text: &str, expect: &[&str]) {
        let words = ForbiddenWords::new(["/srv/me/telltale".to_owned()]);
        let found: Vec<String> = check(path, text, &words)
            .into_iter()
            .map(|it| {
                format!(
                    "{}:{}",
                    it.line,
                    it.what.split(':').next_back().unwrap().trim()
                )
            })
            .collect();
        assert_eq!(found, expect, "{path}: {text}");
    }

    #[test]
    fn a_source_file_says_what_it_is() {
        check_text("a.rs", "//! A.\n", &[]);
        check_text(
            "a.rs",
            "fn f() {}\n",
            &["1:starts without a `//!` that says what flows in and out"],
        );
    }

    #[test]
    fn whitespace_is_plain() {
        check_text("a.md", "a\n\tb\nc \n", &["2:tab", "3:trailing whitespace"]);
        check_text("a.md", "a", &["1:no newline at the end"]);
        check_text("tests/replay/cases/x/expect.txt", "a\t \nb", &[]);
    }

    #[test]
    fn unfinished_work_shows() {
        for word in UNFINISHED {
            check_text("a.md", &format!("a {word} b\n"), &["1:unfinished work"]);
        }
        check_text("a.sh", concat!("mktemp a.XX", "XXXX\n"), &[]);
    }

    #[test]
    fn registries_are_not_named() {
        for host in REGISTRIES.iter().filter(|it| it.starts_with("pypi")) {
            check_text(
                "a.md",
                &format!("see {host}/x\n"),
                &["1:a package registry's host"],
            );
            check_text(
                "a.md",
                &format!("see files.{host}\n"),
                &["1:a package registry's host"],
            );
            check_text("a.toml", &format!("suffix = \"*.{host}\"\n"), &[]);
            check_text("Cargo.lock", &format!("{host}\n"), &[]);
        }
    }

    #[test]
    fn folders_of_one_machine_are_not_named() {
        check_text(
            "a.md",
            "in /srv/me/telltale/x\n",
            &["1:a folder of one machine"],
        );
        check_text(
            "tests/replay/cases/x/e.json",
            "/srv/me/telltale",
            &["1:a folder of one machine"],
        );
        check_text("a.md", "in /srv/me/telltales\n", &[]);
    }
}

//! The commands that the documents show.
//!
//! In: every block of shell words in README.md and in docs. Out: each word of Telltale's own command
//! line in them is one that it takes; what can be run without a service or the network is run.

use std::fs;
use std::path::{Path, PathBuf};

use monitor_tests::scene::temp_dir;
use monitor_tests::telltale::telltale;

fn documents() -> Vec<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut paths = vec![root.join("README.md"), root.join("catalog/README.md")];
    for folder in ["docs", "docs/runbooks"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "md") {
                paths.push(path);
            }
        }
    }
    paths
}

/// Lines of the blocks of shell words that start Telltale, without comments.
fn shown(text: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| {
        block
            .strip_prefix("sh\n")
            .or_else(|| block.strip_prefix("\n"))
    });
    let lines = shell.flat_map(str::lines);
    let own = lines.filter(|line| line.starts_with("telltale "));
    own.map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned())
        .collect()
}

/// A command line is taken if its command takes each of its flags, as `--help` lists them.
#[test]
fn every_command_that_is_shown_is_taken() {
    let dir = temp_dir();
    let mut count = 0;
    for path in documents() {
        for line in shown(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            let words: Vec<&str> = line
                .split(['|', '>', ';', '&'])
                .next()
                .unwrap()
                .split_whitespace()
                .collect();
            let is_command =
                |word: &&&str| !word.starts_with('-') && word.chars().all(char::is_lowercase);
            let mut command: Vec<&str> = words
                .iter()
                .skip(1)
                .take_while(is_command)
                .copied()
                .collect();
            command.truncate(if command.first() == Some(&"catalog") {
                2
            } else {
                1
            });
            command.push("--help");
            let help = telltale(dir.path(), &command);
            assert!(
                help.status.success(),
                "{}: {line}: {}",
                path.display(),
                help.stderr
            );
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                assert!(
                    help.stdout.contains(flag),
                    "{}: {line}: no {flag}",
                    path.display()
                );
            }
        }
    }
    assert!(count > 8, "only {count} commands are shown");
}

/// What needs neither a service nor an installation is run as it stands there.
#[test]
fn commands_that_need_nothing_succeed() {
    let dir = temp_dir();
    for path in documents() {
        for line in shown(&fs::read_to_string(&path).unwrap()) {
            let words: Vec<&str> = line
                .split('|')
                .next()
                .unwrap()
                .split_whitespace()
                .skip(1)
                .collect();
            let is_free = ["catalog list", "catalog show"]
                .iter()
                .any(|free| line.contains(free))
                || words.contains(&"--help");
            if is_free && !words.contains(&"--catalog") && !line.contains('…') {
                let ended = telltale(dir.path(), &words);
                assert!(
                    ended.status.success(),
                    "{}: {line}: {}",
                    path.display(),
                    ended.stderr
                );
            }
        }
    }
}

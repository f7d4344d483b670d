//! `cargo xtask tidy`: what the compiler and clippy cannot check.
//!
//! In: the text of every file that git would commit. Out: one line per breach, `FILE:LINE: WHAT`;
//! warnings; the number of unsafe blocks. No breach is excused by a comment: a rule that is wrong
//! is changed here.

mod core_order;
mod layers;
mod manifest;
mod paths;
mod resolve;
mod rules;
mod source;
mod text;
mod tokens;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Files longer than this are asked why, not refused.
const LONG_FILE_LINES: usize = 600;

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// Counted from 1.
    line: usize,
    what: String,
}

/// Checks every file of the workspace.
///
/// # Errors
/// When a file breaks a rule or cannot be read.
pub fn run() -> Result<()> {
    let root = shell::workspace_root()?;
    let words = text::ForbiddenWords::of_this_machine(&root);
    let (mut breaches, mut unsafe_blocks) = (0, 0);
    for path in files(&root)? {
        let bytes = fs::read(root.join(&path)).with_context(|| format!("cannot read {path}"))?;
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        let mut findings = text::check(&path, &text, &words);
        findings.extend(manifest::check(&path, &text));
        if path.ends_with(".rs") {
            let source = paths::read(&path, &text).with_context(|| path.clone())?;
            findings.extend(layers::check(&path, &source));
            unsafe_blocks += source.unsafe_blocks;
            warn_if_long(&path, &text);
        }
        for Finding { line, what } in &findings {
            println!("{path}:{line}: {what}");
        }
        breaches += findings.len();
    }
    println!("tidy: {breaches} breaches, {unsafe_blocks} unsafe blocks");
    if breaches > 0 {
        bail!("tidy found {breaches} breaches");
    }
    Ok(())
}

/// Paths, relative to the root, of the files in git and of those not ignored by it.
fn files(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let mut files: Vec<String> = shell::output(&mut git)?
        .split_terminator('\0')
        // A file that was deleted but not yet committed is still listed.
        .filter(|path| root.join(path).is_file())
        .map(String::from)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn warn_if_long(path: &str, text: &str) {
    let lines = text.lines().count();
    if lines > LONG_FILE_LINES {
        println!("{path}: warning: {lines} lines; above {LONG_FILE_LINES}, consider two files");
    }
}

//! Stand-in tools, laid out on disk where the real ones are installed.
//!
//! In: a home directory and a path below it, as the catalog's globs describe it. Out: a
//! [`Program`] that can be started: a native executable, or Node.js with a script.
//!
//! What a program then does is said by its arguments: see `src/bin/standin.rs` for the words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;

/// Claude Code, native: the executable is named after the version.
pub const CLAUDE_NATIVE: &str = ".local/share/claude/versions/2.1.328";
/// Claude Code up to 2.1.112 from npm: a Node.js script that renames its process.
pub const CLAUDE_SCRIPT: &str = "lib/node_modules/@anthropic-ai/claude-code/cli.js";
/// Claude Code from 2.1.113 from npm: a native executable with a foreign suffix.
pub const CLAUDE_NPM_NATIVE: &str = "lib/node_modules/@anthropic-ai/claude-code/bin/claude.exe";
/// Qoder CLI from npm.
pub const QODER_SCRIPT: &str = "lib/node_modules/@qoder-ai/qodercli/bundle/qodercli.js";
/// The native helper that Qoder CLI unpacks and starts.
pub const QODER_HELPER: &str = ".qoder/.bin/runtime-info-linux-x64-0123456789abcdef";
/// Codex CLI's launcher from npm.
pub const CODEX_SCRIPT: &str = "lib/node_modules/@openai/codex/bin/codex.js";
/// Codex CLI itself.
pub const CODEX_NATIVE: &str =
    "lib/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex";
/// Gemini CLI from npm.
pub const GEMINI_SCRIPT: &str = "lib/node_modules/@google/gemini-cli/bundle/gemini.js";
/// Copilot CLI's launcher from npm.
pub const COPILOT_SCRIPT: &str = "lib/node_modules/@github/copilot/npm-loader.js";
/// Copilot CLI itself.
pub const COPILOT_NATIVE: &str = "lib/node_modules/@github/copilot-linux-x64/copilot";
/// The Node.js that comes with Cursor CLI.
pub const CURSOR_NODE: &str = ".local/share/cursor-agent/versions/2026.11.12-abcdef0/node";
/// Cursor CLI's script.
pub const CURSOR_SCRIPT: &str = ".local/share/cursor-agent/versions/2026.11.12-abcdef0/index.js";

/// The stand-in's words for Node.js.
const SCRIPT: &str = include_str!("standin.js");

/// Something that can be started: an executable and its first arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Executable, absolute and free of symbolic links.
    pub exe: PathBuf,
    /// The script, for an interpreter.
    pub script: Option<PathBuf>,
}

impl Program {
    /// A native executable at `path` below `home`.
    ///
    /// # Panics
    ///
    /// If it cannot be laid out.
    #[must_use]
    pub fn native(home: &Path, path: &str) -> Program {
        let exe = home.join(path);
        place(binary::standin(), &exe);
        Program { exe, script: None }
    }

    /// A script at `path` below `home`, run by the system's Node.js.
    ///
    /// # Panics
    ///
    /// If it cannot be laid out, or there is no Node.js.
    #[must_use]
    pub fn script(home: &Path, path: &str) -> Program {
        Program {
            exe: binary::node().to_owned(),
            script: Some(write_script(home, path, "")),
        }
    }

    /// As [`Program::script`], but the first thing it does is to rename its process, as Claude
    /// Code does: its comm changes, and the script's path is gone from `/proc/PID/cmdline`.
    ///
    /// # Panics
    ///
    /// As [`Program::script`].
    #[must_use]
    pub fn script_titled(home: &Path, path: &str, title: &str) -> Program {
        let first = format!("process.title = {title:?};\n");
        Program {
            exe: binary::node().to_owned(),
            script: Some(write_script(home, path, &first)),
        }
    }

    /// A script run by a Node.js of its own.
    ///
    /// # Panics
    ///
    /// As [`Program::script`].
    #[must_use]
    pub fn script_with_node(home: &Path, node: &str, path: &str) -> Program {
        let exe = home.join(node);
        place(binary::node(), &exe);
        Program {
            exe,
            script: Some(write_script(home, path, "")),
        }
    }

    /// Executable, script, and these arguments.
    #[must_use]
    pub fn argv(&self, words: &[&str]) -> Vec<String> {
        let own = std::iter::once(&self.exe).chain(&self.script);
        let own = own.map(|path| path.display().to_string());
        own.chain(words.iter().map(|&word| word.to_owned()))
            .collect()
    }
}

/// Puts a copy of an executable in its place.
///
/// `cp` does it in a process of its own. Were this process to write the file, another test could
/// start a child at that moment, which would inherit the open file, and executing it would fail
/// with "text file busy".
fn place(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a path in a directory")).expect("directories");
    let status = Command::new("cp").arg("--link").arg(from).arg(to).output();
    if !status.is_ok_and(|output| output.status.success()) {
        let output = Command::new("cp")
            .arg(from)
            .arg(to)
            .output()
            .expect("cp starts");
        assert!(
            output.status.success(),
            "cp {} {}",
            from.display(),
            to.display()
        );
    }
}

fn write_script(home: &Path, path: &str, first: &str) -> PathBuf {
    let script = home.join(path);
    fs::create_dir_all(script.parent().expect("a path in a directory")).expect("directories");
    fs::write(&script, format!("{first}{SCRIPT}")).expect("script");
    script
}

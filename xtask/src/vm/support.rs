//! docs/kernel-support.md: which program does what on which kernel, as a run saw it.
//!
//! In: the console of each kernel's program check. Out: a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::guest::Boot;
use super::kernel::Kernel;
use crate::shell;

const DOCUMENT: &str = "docs/kernel-support.md";

/// Row of the books in [`Column::steps`].
const BOOKS: &str = "books";

const HEAD: &str = "\
# Kernel support

<!-- Written by `cargo xtask vm`; edits are lost. -->

Telltale needs Linux 5.10 or newer with BTF (`CONFIG_DEBUG_INFO_BTF`), cgroup v2 and BPF.
Each kernel below was booted in an emulator of an x86-64 machine, and every program loaded and attached there.
Then one process forked, executed, connected, sent and asked a name server,
and what each program said of it was compared with what was done.

- `fired`: loaded, attached, and what it said was true, field by field.
- `not there in this kernel`: the kernel is older than what the program needs.
  Telltale does without it, and reports the gap in its coverage.
- Anything else is a failure: how far the program came, and why not further.
- `balanced`: for every hook, attempts = delivered + aggregated + dropped.
";

const FOOT: &str = "\
Telltale does not start if a kernel refuses any other program; it says which, and why.
Where the kernel keeps what the programs read is found by name in its BTF, so another distribution's build of it is no obstacle.
";

/// What was seen on all kernels so far.
#[derive(Default)]
pub struct Report {
    columns: Vec<Column>,
}

struct Column {
    kernel: String,
    package: String,
    /// By program, and the books.
    steps: BTreeMap<String, String>,
}

impl Report {
    /// Takes what the test `programs` printed.
    pub fn add(&mut self, kernel: &Kernel, boot: &Boot) {
        self.columns.push(Column {
            kernel: boot.release().unwrap_or(&kernel.name).to_owned(),
            package: kernel.package_version.clone(),
            steps: steps(&boot.console),
        });
    }

    /// Writes the document under `root`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, root: &Path) -> Result<()> {
        let date = shell::output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
        let path = root.join(DOCUMENT);
        let folder = path.parent().context("a document without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        fs::write(&path, self.text(date.trim()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {DOCUMENT}");
        Ok(())
    }

    fn text(&self, date: &str) -> String {
        let programs: BTreeSet<&str> = self
            .columns
            .iter()
            .flat_map(|column| column.steps.keys().map(String::as_str))
            .filter(|name| *name != BOOKS)
            .collect();
        let mut text = format!("{HEAD}\nRun on {date}.\n\n");
        text += &self.row("program", |column| &column.kernel);
        text += &self.row("---", |_| "---");
        text += &self.row("Debian package", |column| &column.package);
        for program in programs {
            text += &self.row(&format!("`{program}`"), |column| column.step(program));
        }
        text += &self.row(BOOKS, |column| column.step(BOOKS));
        text + "\n" + FOOT
    }

    fn row<'a>(&'a self, name: &str, cell: impl Fn(&'a Column) -> &'a str) -> String {
        let cells = self
            .columns
            .iter()
            .map(|column| cell(column).replace('|', "\\|"));
        let cells: Vec<String> = [name.to_owned()].into_iter().chain(cells).collect();
        format!("| {} |\n", cells.join(" | "))
    }
}

impl Column {
    fn step(&self, name: &str) -> &str {
        self.steps.get(name).map_or("not reached", String::as_str)
    }
}

/// `PROGRAM name: step` and `BOOKS: step`, each on a line of its own.
fn steps(console: &str) -> BTreeMap<String, String> {
    let pairs = console
        .lines()
        .filter_map(|line| match line.strip_prefix("PROGRAM ") {
            Some(rest) => rest.split_once(": "),
            None => Some((BOOKS, line.strip_prefix("BOOKS: ")?)),
        });
    pairs
        .map(|(name, step)| (name.to_owned(), step.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_program_of_every_kernel() {
        let column = |kernel: &str, console: &str| Column {
            kernel: kernel.to_owned(),
            package: format!("{kernel}-1"),
            steps: steps(console),
        };
        let good = "noise\nPROGRAM a: fired\nPROGRAM b: fired\nBOOKS: balanced\n";
        let bad = "PROGRAM a: refused: x | y\nBOOKS: connect4: 2 attempts, 1 outcomes\n";
        let report = Report {
            columns: vec![column("5.10", good), column("6.1", bad)],
        };
        let text = report.text("2026-01-31");
        let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(
            table,
            [
                "| program | 5.10 | 6.1 |",
                "| --- | --- | --- |",
                "| Debian package | 5.10-1 | 6.1-1 |",
                "| `a` | fired | refused: x \\| y |",
                "| `b` | fired | not reached |",
                "| books | balanced | connect4: 2 attempts, 1 outcomes |",
            ]
        );
        assert!(text.contains("Run on 2026-01-31."));
    }
}

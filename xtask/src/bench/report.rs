//! Tables as Markdown, and `docs/performance.md` with a place for each part.
//!
//! In: rows, and the document as it is. Out: text, and the document with parts replaced. What is
//! between the marks of a part is written here; everything else in the document is a person's.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

const PATH: &str = "docs/performance.md";

/// A Markdown table.
pub struct Table(String);

impl Table {
    /// A table with these columns; all but the first hold figures.
    pub fn new<const N: usize>(columns: [&str; N]) -> Self {
        let marks: Vec<_> = (0..N)
            .map(|column| if column == 0 { "---" } else { "--:" })
            .collect();
        Table(format!(
            "| {} |\n| {} |\n",
            columns.join(" | "),
            marks.join(" | ")
        ))
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let _ = writeln!(self.0, "| {} |", cells.join(" | ")); // A string takes everything.
    }

    /// The table as text.
    pub fn text(self) -> String {
        self.0
    }
}

/// Where, when and of what the figures are.
pub fn circumstances(rounds: u32) -> Result<String> {
    let say = |program: &str, arguments: &[&str]| {
        let text = shell::output(Command::new(program).args(arguments))?;
        anyhow::Ok(text.trim().to_owned())
    };
    let commit = say("git", &["describe", "--always", "--dirty", "--abbrev=12"])?;
    let model = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(format!(
        "Measured {} at commit {commit}, Linux {}, {} × {}; {rounds} rounds; \
         the machine's load average was {} at the start.\n",
        say("date", &["-u", "+%F %R UTC"])?,
        say("uname", &["-r"])?,
        say("nproc", &[])?,
        model.map_or("?", |(_, name)| name),
        load_average()?,
    ))
}

/// Processes that ran or wanted to, on average over the last minute.
pub fn load_average() -> Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    Ok(load.split_whitespace().next().unwrap_or("?").to_owned())
}

/// The document that the figures are written to.
pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads the document.
    pub fn open() -> Result<Self> {
        let path = shell::workspace_root()?.join(PATH);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Document { path, text })
    }

    /// Puts `text` in the place of a part.
    pub fn set(&mut self, part: &str, text: &str) {
        self.text = with_part(&self.text, part, text);
    }

    /// Writes the document.
    pub fn save(&self) -> Result<()> {
        std::fs::write(&self.path, &self.text).with_context(|| self.path.display().to_string())
    }
}

/// `document` with a part replaced, or added at its end.
fn with_part(document: &str, part: &str, text: &str) -> String {
    let (begin, end) = (
        format!("<!-- bench {part} -->\n"),
        format!("<!-- end of {part} -->\n"),
    );
    let whole = format!("{begin}{}\n{end}", text.trim_end());
    let (before, rest) = document.split_once(&begin).unwrap_or((document, ""));
    match rest.split_once(&end) {
        Some((_, after)) => format!("{before}{whole}{after}"),
        None => format!("{before}\n{whole}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(document: &str, expect: &str) {
        assert_eq!(with_part(document, "a", "new\n\n"), expect);
    }

    #[test]
    fn a_part_is_replaced_where_it_stands() {
        let whole = "<!-- bench a -->\nnew\n<!-- end of a -->\n";
        check("x\n", &format!("x\n\n{whole}"));
        check(
            "x\n<!-- bench a -->\nold\n<!-- end of a -->\ny\n",
            &format!("x\n{whole}y\n"),
        );
    }

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(["what", "ns"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        assert_eq!(table.text(), "| what | ns |\n| --- | --: |\n| a | 1 |\n");
    }
}

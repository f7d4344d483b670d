//! What came of the cases.
//!
//! In: a line per case. Out: text for `cargo xtask evasion`, and whether all is well.

/// A case's result.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// In words.
    pub what: String,
    /// The verdict owed.
    pub owed: String,
    /// The verdict got, or `unsupported`, or `broken`.
    pub got: String,
    /// What a tracer of `connect` calls would have got; empty if it was not asked.
    pub tracer: String,
    /// What is wrong, or why it is not supported.
    pub notes: String,
    /// Whether Telltale paid what it owed, or could not be asked to.
    pub passes: bool,
}

/// All results.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of play.
    pub lines: Vec<Line>,
}

impl Report {
    /// Adds a line, and shows it at once.
    pub fn add(&mut self, line: Line) {
        let mark = if line.passes { "ok  " } else { "FAIL" };
        println!(
            "{mark} {:28} {:9} {:12} {:9} {}",
            line.name, line.owed, line.got, line.tracer, line.notes
        );
        self.lines.push(line);
    }

    /// Whether every line passes.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.lines.iter().all(|line| line.passes)
    }

    /// For the caller.
    pub fn print(&self) {
        println!();
        for line in &self.lines {
            let notes = line.notes.replace(['\t', '\n'], " ");
            let mark = if line.passes { "" } else { "!" };
            println!(
                "RESULT\t{}\t{}\t{}\t{mark}{}\t{}\t{notes}",
                line.name, line.what, line.owed, line.got, line.tracer
            );
        }
        let failed = self.lines.iter().filter(|line| !line.passes).count();
        println!("{} cases, {failed} owed", self.lines.len());
    }
}

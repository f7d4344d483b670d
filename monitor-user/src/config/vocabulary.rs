//! What to write instead: remedies for sections, keys and words that there are not.
//!
//! In: the tables of keys. Out: the second half of a message.

use super::key::{Row, Section};

/// The sections and keys of one kind of file, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary {
    /// All sections.
    pub sections: &'static [&'static Section],
    /// All keys.
    pub rows: fn() -> Vec<Row>,
    /// Where they are documented.
    pub reference: &'static str,
}

impl Vocabulary {
    /// What to write instead of a section that there is not.
    pub(super) fn section_remedy(&self, written: &str) -> String {
        let names = self.sections.iter().map(|section| section.name);
        if let Some(name) = most_similar(written, names.clone()) {
            return format!("did you mean [{name}]?");
        }
        let known: Vec<String> = names.map(|name| format!("[{name}]")).collect();
        format!("there are {}", known.join(", "))
    }

    /// What to write instead of a key that the section does not have; `written` is its whole path.
    pub(super) fn key_remedy(&self, section: &str, written: &str) -> String {
        let rows = (self.rows)();
        let paths: Vec<String> = rows.iter().map(Row::path).collect();
        if let Some(path) = most_similar(written, paths.iter().map(String::as_str)) {
            return format!("did you mean {path}?");
        }
        let here: Vec<&str> = rows
            .iter()
            .filter(|row| row.section == section)
            .map(|row| row.name)
            .collect();
        if here.is_empty() {
            let reference = self.reference;
            return format!("every key is in a section; {reference} lists them");
        }
        format!("[{section}] has {}", here.join(", "))
    }
}

/// `fault`, and what to write instead: the most similar of `known`, or else all of a few.
pub(super) fn did_you_mean<'a>(
    written: &str,
    known: impl Iterator<Item = &'a str>,
    fault: &str,
) -> String {
    /// More than these say no more than a look at the documentation.
    const LISTED_MAX: usize = 20;
    let known: Vec<&str> = known.collect();
    if let Some(similar) = most_similar(written, known.iter().copied()) {
        return format!("{fault}; did you mean {similar:?}?");
    }
    if known.is_empty() || known.len() > LISTED_MAX {
        return format!("{fault}; docs/policy.md says what there is");
    }
    format!("{fault}; there are {}", known.join(", "))
}

/// Below this similarity a suggestion puzzles more than it helps.
const SIMILAR: f64 = 0.8;

/// The candidate most similar to what was written, if any is similar at all.
pub(super) fn most_similar<'a>(
    written: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // Names are compared as they are and without their sections: a key may only be misplaced.
    let last = |name: &'a str| name.rsplit('.').next().unwrap_or(name);
    let written_last = written.rsplit('.').next().unwrap_or(written);
    candidates
        .map(|name| {
            let whole = strsim::jaro_winkler(written, name);
            let end = strsim::jaro_winkler(written_last, last(name));
            (name, whole, end)
        })
        .filter(|&(_, whole, end)| whole.max(end) >= SIMILAR)
        .max_by(|(_, a_whole, a_end), (_, b_whole, b_end)| {
            (a_whole + a_end).total_cmp(&(b_whole + b_end))
        })
        .map(|(name, ..)| name)
}

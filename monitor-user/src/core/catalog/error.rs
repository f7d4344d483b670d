//! What can be wrong with a catalog, said so that one can mend it.
//!
//! In: problems found by `check`. Out: [`CatalogError`]s.

use std::fmt;
use std::sync::Arc;

/// One problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogError {
    /// Where.
    pub place: Place,
    /// The key, with those above it: `endpoint.purpose`. Empty if the file itself is meant.
    pub key: String,
    /// What, and what to do.
    pub problem: Problem,
}

/// A place in a catalog file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's name.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not TOML, an unknown or missing key, or a value of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// The file is in no folder that tells its kind.
    #[error("is it a tool or a list of services? move it into a folder `tools` or `services`")]
    Misplaced,
    /// Written for another build.
    #[error("schema version {found} is not known; this build reads version {known}")]
    SchemaVersion {
        /// What the file says.
        found: u32,
        /// What this build reads.
        known: u32,
    },
    /// An id with other characters.
    #[error("`{0}` is no id; use lower-case letters, digits and hyphens, as in `claude-code`")]
    BadId(String),
    /// Two files of one folder, or two entries, have one id.
    #[error("`{id}` is the id of another entry, at {other}; give each its own")]
    DuplicateId {
        /// The id.
        id: String,
        /// The other entry.
        other: Place,
    },
    /// A required text is empty.
    #[error("is empty; write {0}")]
    Empty(&'static str),
    /// A word outside a closed list.
    #[error("`{found}` is no {what}; use one of: {known}")]
    NotOneOf {
        /// What the file says.
        found: String,
        /// What it should be.
        what: &'static str,
        /// The list.
        known: String,
    },
    /// Not a country.
    #[error("`{0}` is no ISO 3166 alpha-2 code; use one such as `US` or `CN`, or `XX` if unknown")]
    BadJurisdiction(String),
    /// Not a day.
    #[error("`{0}` is no day; write it as 2026-11-20, without quotes or a time")]
    BadDate(String),
    /// A glob that cannot be used.
    #[error("the glob `{glob}` {reason}")]
    BadGlob {
        /// The glob.
        glob: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A host pattern that cannot be used.
    #[error("the host `{host}` {reason}")]
    BadHost {
        /// The pattern.
        host: String,
        /// What is wrong and what to do.
        reason: &'static str,
    },
    /// Not a version.
    #[error("`{0}` is no version; write numbers with dots between, as in \"2.1.90\"")]
    BadVersion(String),
    /// `since` is not before `until`.
    #[error("no version is {0}; `since` is the first version, `until` the first one past the last")]
    EmptyRange(String),
    /// Not an environment variable.
    #[error("`{0}` is no environment variable; write `NAME` or `NAME=value`")]
    BadSwitch(String),
    /// A switch of something that is not optional.
    #[error("what a switch turns off is optional; add `optional = true`")]
    SwitchOfRequired,
    /// The tool can never be recognised.
    #[error(
        "nothing recognises the tool; give at least one of `exe`, `script`, `launcher`, `names`, `ide`"
    )]
    NoRecogniser,
    /// Something recognises two tools.
    #[error(
        "`{text}` recognises `{other}` too, at {place}; only one can have it (a name that both bear goes under `collisions` of both)"
    )]
    Ambiguous {
        /// The glob or name.
        text: String,
        /// The other tool.
        other: Arc<str>,
        /// Where the other says so.
        place: Place,
    },
    /// A host is listed twice for one version.
    #[error("`{0}` is listed twice for some version; merge the entries or part their versions")]
    DuplicateEndpoint(String),
    /// The file should be called after the id.
    #[error("the file is not called after it; call it `{0}.toml`")]
    OtherFileName(String),
    /// A vendor that is written in two ways.
    #[error("is spelled `{other}` at {place}; spell it one way")]
    OtherSpelling {
        /// The other way.
        other: String,
        /// Where.
        place: Place,
    },
    /// A vendor that has two homes.
    #[error("is at home in `{other}` by {place}; one of the two is wrong")]
    OtherHome {
        /// The other home.
        other: String,
        /// Where it is stated.
        place: Place,
    },
    /// An alias that means another tool.
    #[error("`{0}` is another tool's id; whoever types it means that one")]
    AliasIsId(String),
    /// A statement that may be out of date.
    #[error("{0} is more than a year ago; look whether it still holds, and date it anew")]
    Stale(String),
    /// A day that is yet to come.
    #[error("{0} is in the future")]
    FromTheFuture(String),
    /// `shared` names something that is not in `hosts`.
    #[error("`{0}` is not in `hosts`; `shared` repeats those of them that other programs use too")]
    SharedUnlisted(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.problem)
    }
}

impl CatalogError {
    /// Each glob is sound, but together they are more than can be compiled.
    pub(super) fn of_all_globs(error: &globset::Error) -> Self {
        CatalogError {
            place: Place {
                file: "catalog".into(),
                line: 1,
                column: 1,
            },
            key: "recognise".to_owned(),
            problem: Problem::Syntax(format!("{error}; use fewer or shorter globs")),
        }
    }
}

impl std::error::Error for CatalogError {}

//! What can be wrong with a configuration: each with its place, its reason and its remedy.
//!
//! In: built by the other files of this folder. Out: text for the operator.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}; {}", file.display(), unreadable_remedy(source))]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is a pipe, a device, a folder: something without a fixed content.
    #[error("{} is {kind}; it must be a regular file", file.display())]
    NotRegular {
        /// Which file.
        file: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// It is longer than any configuration.
    #[error("{} has more than {limit} bytes; is it the right file?", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
        /// Bytes allowed.
        limit: u64,
    },
    /// It is no database of addresses.
    #[error(
        "{}: no database of addresses: {fault}; name a file in the MaxMind DB format, such as \
         GeoLite2-ASN.mmdb", file.display()
    )]
    NoDatabase {
        /// Which file.
        file: PathBuf,
        /// What its reader says.
        fault: String,
    },
    /// It is not text.
    #[error("{}:{line}: not UTF-8; save the file in that encoding", file.display())]
    NotUtf8 {
        /// Which file.
        file: PathBuf,
        /// First line that is not, from 1.
        line: usize,
    },
    /// Others could change the policy.
    #[error(
        "{} can be written by others than its owner (mode {mode:04o}), who could lift a ban; \
         mend it with: chmod go-w {0}", file.display()
    )]
    WritableFile {
        /// Which file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others could replace the file.
    #[error(
        "{} can be written by everyone (mode {mode:04o}), who could replace {}; \
         mend it with: chmod o-w {0}", folder.display(), file.display()
    )]
    WritableFolder {
        /// The folder.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The file in it.
        file: PathBuf,
    },
    /// What it holds is wrong.
    #[error("{}", lines(problems, *more))]
    Invalid {
        /// At least one, in order of their places.
        problems: Vec<Problem>,
        /// How many there are besides.
        more: usize,
    },
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What it is about: `web.telemetry_path = "metrics"`.
    pub subject: String,
    /// What is wrong with it, and what to write instead.
    pub fault: String,
}

/// Where the operator wrote something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file; line and column count from 1, columns in characters.
    File {
        /// Which file.
        file: PathBuf,
        /// Which line.
        line: usize,
        /// Which column.
        column: usize,
    },
    /// As this flag.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Place::File { file, line, column } => {
                write!(out, "{}:{line}:{column}", file.display())
            }
            Place::Flag(flag) => out.write_str(flag),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}: {}: {}", self.place, self.subject, self.fault)
    }
}

/// An error, if there are problems.
pub(super) fn none_or(mut problems: Vec<Problem>, more: usize) -> Result<(), ConfigError> {
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    Err(ConfigError::Invalid { problems, more })
}

fn lines(problems: &[Problem], more: usize) -> String {
    let mut lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
    lines.join("\n")
}

fn unreadable_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "let the user that telltale runs as read it",
        _ => "check the path that was given",
    }
}

//! What the committed object was made from, as recorded beside it.
//!
//! In and out: `monitor-ebpf/bpf/telltale.bpf.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Who wants to repeat the build needs these five to agree; then the sixth, the object's digest,
/// must agree as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// SHA-256 of the object, in hexadecimal.
    pub object_sha256: String,
    /// See `sources.rs`.
    pub sources_sha256: String,
    /// First line of `rustc -V`.
    pub compiler: String,
    /// LLVM's version, and the digest of the library that generated the code.
    pub llvm: String,
    /// What `bpf-linker --version` prints.
    pub linker: String,
    /// Arguments of cargo and rustc, with this machine's folders replaced by names.
    pub flags: Vec<String>,
}

/// How a machine compares with the one that made the object.
#[derive(Debug, PartialEq, Eq)]
pub enum Machine {
    /// Same compiler, same linker: the bytes must be the same.
    Same,
    /// Something differs, in these words: the bytes prove nothing.
    Other(String),
}

impl Provenance {
    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or is not of this form.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{}", path.display()))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether the recorded object was made from `now`'s sources and flags.
    pub fn is_older_than(&self, now: &Self) -> bool {
        self.sources_sha256 != now.sources_sha256 || self.flags != now.flags
    }

    /// Compares the recorded machine with `now`'s.
    pub fn machine(&self, now: &Self) -> Machine {
        let differences: Vec<String> = [
            ("compiler", &self.compiler, &now.compiler),
            ("LLVM", &self.llvm, &now.llvm),
            ("linker", &self.linker, &now.linker),
        ]
        .into_iter()
        .filter(|(_, recorded, here)| recorded != here)
        .map(|(what, recorded, here)| format!("{what}: recorded {recorded}, here {here}"))
        .collect();
        if differences.is_empty() {
            Machine::Same
        } else {
            Machine::Other(differences.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Provenance {
        Provenance {
            object_sha256: "aa".into(),
            sources_sha256: "bb".into(),
            compiler: "rustc 1".into(),
            llvm: "22".into(),
            linker: "bpf-linker 1".into(),
            flags: vec!["--x".into()],
        }
    }

    #[test]
    fn a_changed_source_or_flag_makes_the_object_old() {
        let old = recorded();
        assert!(!old.is_older_than(&recorded()));
        assert!(old.is_older_than(&Provenance {
            sources_sha256: "cc".into(),
            ..recorded()
        }));
        assert!(old.is_older_than(&Provenance {
            flags: vec![],
            ..recorded()
        }));
    }

    #[test]
    fn another_compiler_or_linker_is_another_machine() {
        let old = recorded();
        assert_eq!(old.machine(&recorded()), Machine::Same);
        let here = Provenance {
            llvm: "23".into(),
            ..recorded()
        };
        assert_eq!(
            old.machine(&here),
            Machine::Other("LLVM: recorded 22, here 23".into())
        );
        assert_ne!(
            old.machine(&Provenance {
                linker: "2".into(),
                ..recorded()
            }),
            Machine::Same
        );
        assert_ne!(
            old.machine(&Provenance {
                compiler: "2".into(),
                ..recorded()
            }),
            Machine::Same
        );
    }
}

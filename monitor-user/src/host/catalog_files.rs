//! The operator's own catalog files, which add to the built-in ones.
//!
//! In: a folder. Out: the text of every `.toml` file in it and in its folders `tools` and
//! `services`, by name, for the catalog to parse.

use std::path::Path;

use anyhow::{Context, bail};

use crate::core::catalog::CatalogFile;

/// Longest catalog file: the largest built-in one has some ten kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the folder's files, sorted by name.
///
/// # Errors
///
/// If the folder or a file cannot be read, or there is none; the text names it.
pub fn read(folder: &Path) -> anyhow::Result<Vec<CatalogFile>> {
    let mut files = Vec::new();
    read_into(folder, &mut files)?;
    for part in ["tools", "services"] {
        let inner = folder.join(part);
        if inner.is_dir() {
            read_into(&inner, &mut files)?;
        }
    }
    if files.is_empty() {
        bail!("{} holds no catalog file (*.toml)", folder.display());
    }
    Ok(files)
}

fn read_into(folder: &Path, files: &mut Vec<CatalogFile>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the catalog folder {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(|| format!("cannot list {}", folder.display()))?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    paths.sort();
    for path in paths {
        let name = path.display().to_string();
        let text = read_text(&path).with_context(|| format!("cannot read {name}"))?;
        files.push(CatalogFile { name, text });
    }
    Ok(())
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        bail!("it is not a regular file");
    }
    if metadata.len() > FILE_BYTES_MAX {
        bail!(
            "it has {} bytes; at most {FILE_BYTES_MAX} are read",
            metadata.len()
        );
    }
    Ok(std::fs::read_to_string(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_folder_and_its_parts_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tools")).unwrap();
        for name in ["b.toml", "a.toml", "tools/c.toml", "note.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let texts: Vec<_> = read(folder.path())
            .unwrap()
            .into_iter()
            .map(|f| f.text)
            .collect();
        assert_eq!(texts, ["a.toml", "b.toml", "tools/c.toml"]);
    }

    #[test]
    fn a_folder_without_files_and_one_that_is_not_there_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("holds no catalog file (*.toml)"), "{error}");
        let error = read(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read the catalog folder"),
            "{error}"
        );
    }
}

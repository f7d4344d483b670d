//! Places the catalog where the library can include it.
//!
//! In: `catalog/tools/*.toml` and `catalog/services/*.toml`. Out: `catalog_files.rs` in
//! `OUT_DIR`, a list of their names and texts in the order of the names.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    embed_catalog(&manifest.join("../catalog"), &out)?;
    Ok(())
}

/// Writes the list of the catalog's files. Their texts are included by the compiler, so the
/// library holds them and never this machine's paths.
fn embed_catalog(catalog: &Path, out: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", catalog.display());
    let mut list = String::from("const EMBEDDED: &[(&str, &str)] = &[\n");
    for folder in ["services", "tools"] {
        let entries = fs::read_dir(catalog.join(folder))?;
        let mut paths: Vec<_> = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?;
        paths.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        });
        paths.sort();
        for path in paths {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("catalog/{folder}/{file}");
            list += &format!(
                "    ({name:?}, include_str!({:?})),\n",
                fs::canonicalize(&path)?
            );
        }
    }
    list += "];\n";
    fs::write(out.join("catalog_files.rs"), list)
}

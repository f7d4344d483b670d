//! Places the kernel object and the catalog where the library can include them.
//!
//! In: the committed `monitor-ebpf/bpf/telltale.bpf.o`, or the file that `TELLTALE_EBPF_OBJECT`
//! names (a rebuilt object, where the committed one cannot be reproduced); `catalog/tools/*.toml`
//! and `catalog/services/*.toml`. Out, in `OUT_DIR`: a copy of the object, and
//! `catalog_files.rs`, a list of names and texts in the order of the names. Also the object's
//! digest, as `TELLTALE_EBPF_DIGEST`, and that of the sources that lay out what it leaves in the
//! kernel, as `TELLTALE_LAYOUT_DIGEST`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    embed_object(&manifest, &out)?;
    digest_layout(&manifest)?;
    embed_catalog(&manifest.join("../catalog"), &out)?;
    Ok(())
}

fn embed_object(manifest: &Path, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=TELLTALE_EBPF_OBJECT");
    let object = match env::var_os("TELLTALE_EBPF_OBJECT") {
        Some(path) => absolute(manifest, Path::new(&path)),
        None => manifest.join("../monitor-ebpf/bpf/telltale.bpf.o"),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).map_err(|error| {
        format!(
            "{}: {error}; `cargo xtask build-ebpf` makes it",
            object.display()
        )
    })?;
    fs::write(out.join("telltale.bpf.o"), &bytes)?;
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    println!("cargo::rustc-env=TELLTALE_EBPF_DIGEST={digest}");
    Ok(())
}

/// The sources that say how maps and records are laid out and what their fields mean.
const LAYOUT: [&str; 6] = [
    "monitor-common/src/counter.rs",
    "monitor-common/src/flow.rs",
    "monitor-common/src/limits.rs",
    "monitor-common/src/record.rs",
    "monitor-common/src/resume.rs",
    "monitor-ebpf/src/maps.rs",
];

/// What an earlier build left in the kernel can be used if this digest is the same. Comments
/// change nothing.
fn digest_layout(manifest: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut digest = Sha256::new();
    for name in LAYOUT {
        let path = manifest.join("..").join(name);
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path)?;
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with("//")) {
            digest.update(line);
            digest.update("\n");
        }
    }
    let digest: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    println!("cargo::rustc-env=TELLTALE_LAYOUT_DIGEST={digest}");
    Ok(())
}

/// A relative path is meant from the workspace's root, where cargo was called.
fn absolute(manifest: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() {
        path.to_owned()
    } else {
        manifest.join("..").join(path)
    }
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

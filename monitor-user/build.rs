//! Places the kernel object where the library can include it.
//!
//! In: the committed `monitor-ebpf/bpf/telltale.bpf.o`, or the file that `TELLTALE_EBPF_OBJECT`
//! names (a rebuilt object, where the committed one cannot be reproduced). Out: a copy in
//! `OUT_DIR`, aligned as ELF needs it by the including side, and its digest.

use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-env-changed=TELLTALE_EBPF_OBJECT");
    let object = match env::var_os("TELLTALE_EBPF_OBJECT") {
        Some(path) => absolute(&manifest, Path::new(&path)),
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

/// A relative path is meant from the workspace's root, where cargo was called.
fn absolute(manifest: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() {
        path.to_owned()
    } else {
        manifest.join("..").join(path)
    }
}

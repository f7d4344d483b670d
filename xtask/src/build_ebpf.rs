//! `cargo xtask build-ebpf`: the kernel object, from its source.
//!
//! In: `monitor-ebpf`, `monitor-common`, a Rust compiler with the sources of `core`, bpf-linker.
//! Out: `monitor-ebpf/bpf/telltale.bpf.o`, which is committed so that everything else builds with
//! stable Rust alone, and `telltale.bpf.json`, which says what it was made from.
//! With `--check` it proves that the committed object comes from the source beside it.

mod compile;
mod linker;
mod provenance;
mod sources;
mod strip;
mod toolchain;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::shell;
use provenance::{Machine, Provenance};
use toolchain::Toolchain;

const OBJECT: &str = "monitor-ebpf/bpf/telltale.bpf.o";
const PROVENANCE: &str = "monitor-ebpf/bpf/telltale.bpf.json";
/// Where `--check` leaves the object when the committed one cannot be judged on this machine.
const REBUILT: &str = "target/bpf/telltale.bpf.o";

/// What was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// Change nothing: rebuild, and fail if the committed object differs by one byte.
    #[arg(long)]
    check: bool,
    /// Install bpf-linker into target/tools if there is none.
    #[arg(long)]
    install_tools: bool,
}

/// Builds the object and writes or compares it.
///
/// # Errors
/// When a tool is missing, the build fails, or the committed object is not the source's.
pub fn run(args: &Args) -> Result<()> {
    let root = shell::workspace_root()?;
    let recorded = Provenance::read(&root.join(PROVENANCE))?;
    let linker = linker::find(&root, args.install_tools)?;
    let toolchain = Toolchain::find(recorded.as_ref().map(|it| it.compiler.as_str()))?;
    let mut now = Provenance {
        object_sha256: String::new(),
        sources_sha256: sources::sources_digest(&root)?,
        compiler: toolchain.compiler.clone(),
        llvm: toolchain.llvm()?,
        linker: linker.version.clone(),
        flags: compile::flags(),
    };
    if args.check {
        let recorded = recorded.with_context(|| format!("{PROVENANCE} is missing"))?;
        judge_record(&root, &recorded, &now)?;
        let object = compile::compile(&root, &toolchain, &linker)?;
        now.object_sha256 = digest(&object);
        return judge_object(&root, &recorded, &now, &object);
    }
    let object = compile::compile(&root, &toolchain, &linker)?;
    now.object_sha256 = digest(&object);
    write(&root.join(OBJECT), &object)?;
    now.write(&root.join(PROVENANCE))?;
    println!(
        "{OBJECT}: {} bytes, sha256 {}",
        object.len(),
        now.object_sha256
    );
    Ok(())
}

/// Checks that need no build: the object is the recorded one, and no older than its sources.
fn judge_record(root: &Path, recorded: &Provenance, now: &Provenance) -> Result<()> {
    // Whatever an earlier check left here must not be taken for this one's result.
    if root.join(REBUILT).exists() {
        fs::remove_file(root.join(REBUILT)).with_context(|| format!("cannot remove {REBUILT}"))?;
    }
    let committed = fs::read(root.join(OBJECT)).with_context(|| format!("cannot read {OBJECT}"))?;
    let committed = digest(&committed);
    if committed != recorded.object_sha256 {
        bail!(
            "{OBJECT} has sha256 {committed}, {PROVENANCE} says {}",
            recorded.object_sha256
        );
    }
    if recorded.is_older_than(now) {
        bail!("object is older than its sources: run cargo xtask build-ebpf");
    }
    Ok(())
}

/// Compares the rebuilt object with the recorded one, where this machine can tell.
fn judge_object(root: &Path, recorded: &Provenance, now: &Provenance, object: &[u8]) -> Result<()> {
    if recorded.object_sha256 == now.object_sha256 {
        println!(
            "{OBJECT} is what its source builds: sha256 {}",
            now.object_sha256
        );
        return Ok(());
    }
    match recorded.machine(now) {
        Machine::Same => bail!(
            "same compiler, other bytes: {OBJECT} has sha256 {}, its source builds {}",
            recorded.object_sha256,
            now.object_sha256
        ),
        Machine::Other(differences) => {
            write(&root.join(REBUILT), object)?;
            println!(
                "NOT COMPARED: this machine builds with other tools than {PROVENANCE} records\n\
                 {differences}\n\
                 the rebuilt object has sha256 {}; run the tests with it:\n\
                 TELLTALE_EBPF_OBJECT={REBUILT}",
                now.object_sha256
            );
            Ok(())
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// SHA-256 in hexadecimal.
fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

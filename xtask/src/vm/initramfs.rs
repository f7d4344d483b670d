//! A root filesystem for the guest, as the kernel takes it: an uncompressed cpio archive.
//!
//! In: BusyBox, programs and kernel modules of this machine's folders. Out: one archive. Format:
//! Documentation/driver-api/early-userspace/buffer-format.rst (Linux 6.1), "newc".

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::programs::Program;
use crate::shell;

const INIT: &str = include_str!("init.sh");

/// What the tests need beyond what is built into the kernels; the second half is for odd ways out.
const MODULES: [&str; 20] = [
    "virtio_pci",
    "virtio_blk",
    "crc32c_generic",
    "ext4",
    "dummy",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "veth",
    "af_packet",
    "dccp_ipv4",
    "nf_nat",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "sctp",
    "smc",
    "tun",
    "vsock_loopback",
    "vxlan",
];

/// Folders that are mount points, or expected by programs.
const FOLDERS: [&str; 7] = ["dev", "etc", "proc", "root", "run", "sys", "tmp"];

/// Folders of which the one in /usr is the real one, as Debian has them.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Files that programs read; `ip netns exec` puts others over them.
const ETC: [(&str, &str); 5] = [
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
    ("etc/resolv.conf", ""),
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

const FOLDER_MODE: u32 = 0o040_755;
const PROGRAM_MODE: u32 = 0o100_755;
const FILE_MODE: u32 = 0o100_644;
const LINK_MODE: u32 = 0o120_777;

/// The files of the guest, by path without the leading slash.
#[derive(Default)]
pub struct Initramfs {
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Initramfs {
    /// Adds what every guest needs, and the command that it runs.
    ///
    /// # Errors
    /// When BusyBox is not on this machine, or is not static.
    pub fn add_base(&mut self, command: &str) -> Result<()> {
        for folder in FOLDERS {
            self.add(folder, FOLDER_MODE, Vec::new());
        }
        for folder in MERGED {
            self.add(&format!("usr/{folder}"), FOLDER_MODE, Vec::new());
            self.add(folder, LINK_MODE, format!("usr/{folder}").into());
        }
        for (path, text) in ETC {
            self.add(path, FILE_MODE, text.into());
        }
        self.add("var/run", LINK_MODE, b"/run".to_vec());
        self.add("init", PROGRAM_MODE, INIT.into());
        self.add("payload.sh", FILE_MODE, format!("{command}\n").into());
        let busybox = shell::find_on_path("busybox")
            .context("the guest's shell is BusyBox: apt-get install busybox-static")?;
        if !libraries(&busybox)?.is_empty() {
            bail!(
                "{} is not static: apt-get install busybox-static",
                busybox.display()
            );
        }
        self.add("usr/bin/busybox", PROGRAM_MODE, read(&busybox)?);
        // BusyBox's own shell would take its `ip` for the real one.
        self.add_program(&Program::of_this_machine("/bin/sh")?)
    }

    /// Adds a program with its shared libraries.
    ///
    /// # Errors
    /// When it cannot be read, or lacks a library.
    pub fn add_program(&mut self, program: &Program) -> Result<()> {
        self.add(&guest_path(&program.to), PROGRAM_MODE, read(&program.from)?);
        for library in libraries(&program.from)? {
            self.add(&guest_path(&library), PROGRAM_MODE, read(&library)?);
        }
        Ok(())
    }

    /// Adds the [`MODULES`] that are not built into the kernel, and the order to load them in.
    ///
    /// # Errors
    /// When a module cannot be read or decompressed.
    pub fn add_modules(&mut self, kernel: &Kernel) -> Result<()> {
        let mut paths = BTreeMap::new();
        index_modules(&kernel.modules, &mut paths)?;
        let mut order = Vec::new();
        for name in MODULES {
            self.add_module(name, &paths, &mut order)?;
        }
        self.add("modules/order", FILE_MODE, order.join("\n").into());
        Ok(())
    }

    /// Adds a module after those that it depends on.
    fn add_module(
        &mut self,
        name: &str,
        paths: &BTreeMap<String, PathBuf>,
        order: &mut Vec<String>,
    ) -> Result<()> {
        let Some(path) = paths.get(name) else {
            return Ok(()); // Built in, or the guest's test will miss it.
        };
        if order.iter().any(|done| done == name) {
            return Ok(());
        }
        let bytes = decompressed(path)?;
        for dependency in dependencies(&bytes) {
            self.add_module(&dependency, paths, order)?;
        }
        self.add(&format!("modules/{name}"), FILE_MODE, bytes);
        order.push(name.to_owned());
        Ok(())
    }

    /// Adds a file, by its path without the leading slash.
    pub fn add_file(&mut self, path: &str, is_program: bool, content: Vec<u8>) {
        let mode = if is_program { PROGRAM_MODE } else { FILE_MODE };
        self.add(path, mode, content);
    }

    /// Adds a symbolic link.
    pub fn add_link(&mut self, path: &str, to: &str) {
        self.add(path, LINK_MODE, to.into());
    }

    /// Adds a file and the folders above it.
    fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        for (at, _) in path.match_indices('/') {
            self.files
                .entry(path[..at].to_owned())
                .or_insert((FOLDER_MODE, Vec::new()));
        }
        self.files.insert(path.to_owned(), (mode, content));
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, to: &Path) -> Result<()> {
        let mut archive = Vec::new();
        // A folder's name sorts before the names of what is in it.
        for (inode, (path, (mode, content))) in (1u32..).zip(&self.files) {
            append(&mut archive, inode, path, *mode, content)?;
        }
        append(&mut archive, 0, "TRAILER!!!", 0, &[])?;
        fs::write(to, archive).with_context(|| format!("cannot write {}", to.display()))
    }
}

/// Appends one entry: header, name and content, each padded to four bytes.
fn append(archive: &mut Vec<u8>, inode: u32, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let size = u32::try_from(content.len()).with_context(|| format!("{path} is too large"))?;
    let name_size = u32::try_from(path.len() + 1)?;
    // inode, mode, uid, gid, links, mtime, size, device ×2, device of a node ×2, name size, check
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(path.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
    Ok(())
}

/// The files that the loader maps for a program; none for a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), line.trim());
    }
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

/// Collects the paths of all modules by their names, in which `-` is `_`.
fn index_modules(folder: &Path, paths: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index_modules(&path, paths)?;
            continue;
        }
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some((name, _)) = file.split_once(".ko") {
            paths.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn decompressed(module: &Path) -> Result<Vec<u8>> {
    let tool = match module.extension().and_then(|it| it.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return read(module),
    };
    let output = Command::new(tool).args(["-dc", "--"]).arg(module).output();
    let output = output.with_context(|| format!("cannot start {tool}"))?;
    if !output.status.success() {
        bail!("{tool} cannot decompress {}", module.display());
    }
    Ok(output.stdout)
}

/// Names in `depends=` of a module's `.modinfo` section, which is a list of NUL-terminated texts.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// Path in the archive of an absolute path, past the links of [`MERGED`].
fn guest_path(path: &Path) -> String {
    let path = path.to_string_lossy();
    let path = path.trim_start_matches('/');
    match path.split_once('/') {
        Some((folder, _)) if MERGED.contains(&folder) => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_read_back_by_cpio() {
        let mut initramfs = Initramfs::default();
        initramfs.add("a/b/file", FILE_MODE, b"hello".to_vec());
        initramfs.add("a/link", LINK_MODE, b"b/file".to_vec());
        let folder = std::env::temp_dir().join(format!("xtask-cpio-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let archive = folder.join("archive");
        initramfs.write(&archive).unwrap();
        let mut cpio = Command::new("busybox");
        cpio.args(["cpio", "-id", "-F", "archive"])
            .current_dir(&folder);
        assert!(cpio.output().unwrap().status.success());
        let through_link = fs::read_to_string(folder.join("a/link"));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(through_link.unwrap(), "hello");
    }

    #[test]
    fn a_module_names_what_it_needs() {
        assert_eq!(
            dependencies(b"x\0depends=inet-diag,tcp\0y"),
            ["inet_diag", "tcp"]
        );
        assert!(dependencies(b"x\0depends=\0y").is_empty());
        assert!(dependencies(b"x").is_empty());
    }
}

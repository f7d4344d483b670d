//! Programs under another path, or under none.
//!
//! In: a target; the working directory is the act's own. Out: a connection by this program under
//! the path that the `doer` line says; `-` for one that cannot be said.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::{self, Outcome, check, owned, say};
use crate::{Act, Target};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("copied", copied),
    ("renamed", renamed),
    ("hard-linked", hard_linked),
    ("symlinked", symlinked),
    ("script", script),
    ("memfd", memfd),
    ("deleted", deleted),
    ("deleted-while-running", deleted_while_running),
    ("replaced-while-running", replaced_while_running),
    ("chrooted", chrooted),
    ("bind-mounted", bind_mounted),
    ("proc-hidden", proc_hidden),
    ("deep-path", deep_path),
];

fn here(name: &str) -> io::Result<PathBuf> {
    Ok(std::env::current_dir()?.join(name))
}

fn this() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Tells what this process is about to run, and runs it.
fn run(target: &Target, told: &Path, path: &Path) -> Outcome {
    tell(target, told);
    let argv = target.argv("tcp4");
    let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
    Err(sys::exec(path, &args).into())
}

fn tell(target: &Target, path: &Path) {
    say(&format!(
        "doer {} {} {}",
        sys::pid(),
        target.v4.ip(),
        path.display()
    ));
}

/// Named after a tool, in another place.
fn copied(target: &Target) -> Outcome {
    let path = here("claude")?;
    fs::copy(this()?, &path)?;
    run(target, &path, &path)
}

/// Renamed as soon as it runs: what was executed is what counts.
fn renamed(target: &Target) -> Outcome {
    let (before, after) = (here("before")?, here("after")?);
    fs::copy(this()?, &before)?;
    fs::rename(&before, &after)?;
    run(target, &after, &after)
}

/// Another name of the same file.
fn hard_linked(target: &Target) -> Outcome {
    let (first, second) = (here("first-name")?, here("second-name")?);
    fs::copy(this()?, &first)?;
    fs::hard_link(&first, &second)?;
    run(target, &second, &second)
}

/// A symbolic link is no name: the file behind it is.
fn symlinked(target: &Target) -> Outcome {
    let link = here("link")?;
    std::os::unix::fs::symlink(this()?, &link)?;
    run(target, &this()?, &link)
}

/// A script whose interpreter is this program.
fn script(target: &Target) -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let path = here("script")?;
    fs::write(&path, format!("#!{}\n", this()?.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    tell(target, &this()?);
    let argv = target.argv("tcp4");
    // The kernel puts interpreter and script in the place of the first argument.
    let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
    Err(sys::exec(&path, &args).into())
}

/// A program that never was a file.
fn memfd(target: &Target) -> Outcome {
    let name = CString::new("claude")?;
    // SAFETY: the name is NUL-terminated.
    let fd = owned(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    let mut file = fs::File::from(fd);
    io::copy(&mut fs::File::open(this()?)?, &mut file)?;
    say(&format!("doer {} {} ?", sys::pid(), target.v4.ip()));
    Err(execute(&OwnedFd::from(file), target).into())
}

/// Executes an open file (`execveat` with an empty path).
fn execute(file: &OwnedFd, target: &Target) -> io::Error {
    let argv = target.argv("tcp4");
    let strings: Vec<CString> = argv.into_iter().flat_map(CString::new).collect();
    let mut args: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
    args.push(std::ptr::null());
    let environment = [std::ptr::null::<libc::c_char>()];
    let call = [
        usize::try_from(file.as_raw_fd()).unwrap_or_default(),
        c"".as_ptr() as usize,
        args.as_ptr() as usize,
        environment.as_ptr() as usize,
        libc::AT_EMPTY_PATH.unsigned_abs() as usize,
    ];
    // SAFETY: strings and arrays are NUL-terminated and live until the call.
    match unsafe { sys::call(libc::SYS_execveat, call) } {
        Err(error) => error,
        Ok(_) => io::Error::other("execveat came back"),
    }
}

/// A file that is gone by the time it is executed.
fn deleted(target: &Target) -> Outcome {
    let path = here("gone")?;
    fs::copy(this()?, &path)?;
    let file = fs::File::open(&path)?;
    fs::remove_file(&path)?;
    say(&format!("doer {} {} ?", sys::pid(), target.v4.ip()));
    Err(execute(&OwnedFd::from(file), target).into())
}

/// Removes its own file, then connects.
fn deleted_while_running(target: &Target) -> Outcome {
    let path = here("removes-itself")?;
    if this()? != path {
        fs::copy(this()?, &path)?;
        tell(target, &path);
        let argv = target.argv("deleted-while-running");
        let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
        return Err(sys::exec(&path, &args).into());
    }
    fs::remove_file(&path)?;
    crate::tcp::plain(target.v4)
}

/// Puts another file in the place of its own, then connects.
fn replaced_while_running(target: &Target) -> Outcome {
    let (path, other) = (here("replaces-itself")?, here("innocent")?);
    if this()? != path {
        fs::copy(this()?, &path)?;
        tell(target, &path);
        let argv = target.argv("replaced-while-running");
        let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
        return Err(sys::exec(&path, &args).into());
    }
    fs::write(&other, "innocent")?;
    fs::rename(&other, &path)?;
    crate::tcp::plain(target.v4)
}

/// In another root directory: its path there is short, its real path is not.
fn chrooted(target: &Target) -> Outcome {
    let root = here("root")?;
    let path = root.join("evade");
    fs::create_dir_all(&root)?;
    fs::copy(this()?, &path)?;
    copy_libraries(&root)?;
    std::os::unix::fs::chroot(&root)?;
    std::env::set_current_dir("/")?;
    run(target, &path, Path::new("/evade"))
}

/// What this program is linked with, as its memory map tells.
fn copy_libraries(root: &Path) -> io::Result<()> {
    for line in fs::read_to_string("/proc/self/maps")?.lines() {
        let Some(path) = line.split_whitespace().nth(5) else {
            continue;
        };
        if path.contains(".so") {
            let to = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap_or(root))?;
            fs::copy(path, &to)?;
        }
    }
    // The loader is asked for by this name.
    for loader in ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"] {
        let from = Path::new("/").join(loader);
        if from.exists() {
            let to = root.join(loader);
            fs::create_dir_all(to.parent().unwrap_or(root))?;
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// Mounted over a path that everybody trusts, in a mount namespace of its own.
fn bind_mounted(target: &Target) -> Outcome {
    let trusted = fs::canonicalize("/bin/sh")?;
    let copy = here("mounted")?;
    fs::copy(this()?, &copy)?;
    private_mounts()?;
    bind(&copy, &trusted)?;
    // It shows the trusted path; which file it is, the inode tells.
    say(&format!("inode {}", fs::metadata(&copy)?.ino()));
    run(target, &trusted, &trusted)
}

fn private_mounts() -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(None, Path::new("/"), libc::MS_REC | libc::MS_PRIVATE)
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    mount(Some(from), to, libc::MS_BIND)
}

fn mount(from: Option<&Path>, to: &Path, flags: libc::c_ulong) -> io::Result<()> {
    let from = CString::new(from.unwrap_or(to).as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    let none = std::ptr::null();
    // SAFETY: both paths are NUL-terminated; no data is passed.
    check(unsafe { libc::mount(from.as_ptr(), to.as_ptr(), none, flags, none.cast()) }).map(drop)
}

/// Puts another process's folder over its own in `/proc`, where readers of `/proc` look.
fn proc_hidden(target: &Target) -> Outcome {
    let own = PathBuf::from(format!("/proc/{}", sys::pid()));
    let other = PathBuf::from(format!("/proc/{}", std::os::unix::process::parent_id()));
    bind(&other, &own)?;
    let connected = crate::tcp::plain(target.v4);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let path = CString::new(own.as_os_str().as_bytes())?;
    // SAFETY: the path is NUL-terminated.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })?;
    connected
}

/// Deeper than anybody looks; only the end of the path can be told.
fn deep_path(target: &Target) -> Outcome {
    let mut path = std::env::current_dir()?;
    for _ in 0..60 {
        path.push("d");
    }
    fs::create_dir_all(&path)?;
    path.push("deep-program");
    fs::copy(this()?, &path)?;
    run(target, Path::new("*/d/d/d/deep-program"), &path)
}

//! Text that lies: names of threads, arguments and files.
//!
//! In: a target; the working directory is the act's own. Out: a connection, under a false name.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use crate::sys::{self, Outcome, say};
use crate::{Act, Target, tcp};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("thread-named-claude", |t| {
        rename(b"claude")?;
        tcp::plain(t.v4)
    }),
    ("argv-says-claude", argv_says_claude),
    ("argv-overwritten", argv_overwritten),
    ("hostile-names", hostile),
    ("long-arguments", long_arguments),
];

/// Ends lines, clears screens, closes quotes, turns the direction of text, and is no UTF-8.
pub const HOSTILE: &[u8] =
    b"x\n{\"event\":{\"action\":\"forged\"}}\n\x1b[2J\x1b]0;t\x07\"'\\\r\xe2\x80\xae\xff\xfe,a=\"b\" 1";

/// `PR_SET_NAME`.
fn rename(name: &[u8]) -> Outcome {
    let name = CString::new(name)?;
    // SAFETY: the name is NUL-terminated.
    sys::check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) })?;
    Ok(())
}

/// The first argument is whatever the caller says.
fn argv_says_claude(target: &Target) -> Outcome {
    let argv = target.argv("tcp4");
    let mut args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
    args[0] = b"/root/.local/share/claude/versions/2.1.328";
    Err(sys::exec(&std::env::current_exe()?, &args).into())
}

/// Overwrites what `/proc/PID/cmdline` shows, then connects.
fn argv_overwritten(target: &Target) -> Outcome {
    // Fields 48 and 49 of /proc/self/stat: arg_start and arg_end, see proc(5). The name before
    // them, in parentheses, may hold blanks.
    let stat = fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let field = |number: usize| -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        let text = rest.split_whitespace().nth(number - 3);
        Ok(text.ok_or("no such field")?.parse()?)
    };
    let (start, end) = (field(48)?, field(49)?);
    let memory = fs::OpenOptions::new().write(true).open("/proc/self/mem")?;
    let length = usize::try_from(end - start)?;
    std::os::unix::fs::FileExt::write_all_at(&memory, &vec![b'k'; length], start)?;
    tcp::plain(target.v4)
}

/// Everything that it can name is hostile.
fn hostile(target: &Target) -> Outcome {
    let path = std::env::current_dir()?.join(OsStr::from_bytes(&without_slash(HOSTILE)));
    fs::copy(std::env::current_exe()?, &path)?;
    rename(HOSTILE)?;
    say(&format!("doer {} {} ?", sys::pid(), target.v4.ip()));
    let argv = target.argv("tcp4");
    let mut args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
    args[0] = HOSTILE;
    args.push(HOSTILE);
    Err(sys::exec(&path, &args).into())
}

fn without_slash(name: &[u8]) -> Vec<u8> {
    name.iter().copied().filter(|byte| *byte != b'/').collect()
}

/// 64 KiB of arguments.
fn long_arguments(target: &Target) -> Outcome {
    let argv = target.argv("tcp4");
    let long = vec![b'x'; 65_536];
    let mut args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
    args.push(&long);
    let error: io::Error = sys::exec(&std::env::current_exe()?, &args);
    Err(error.into())
}

//! Processes that are hard to name: short-lived, reparented, threads, reused pids.
//!
//! In: a target. Out: one connection, and who made it.

use std::ffi::{c_int, c_void};
use std::process::Command;
use std::thread;
use std::time::Duration;

use libc::{AF_INET, SOCK_STREAM};

use crate::sys::{self, Address, Outcome, say, unsupported};
use crate::{Act, Target, tcp};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("fork", fork),
    ("spawn", spawn),
    ("vfork", vfork),
    ("daemon", daemon),
    ("thread", thread_connects),
    ("thread-executes", thread_executes),
    ("leader-exits", leader_exits),
    ("exec-chain", exec_chain),
    ("exec-after", exec_after),
    ("setuid", setuid),
    ("pid-reuse", pid_reuse),
    ("int80", int80),
    ("killed", killed),
];

/// Tells the runner that this process reaches an address.
pub fn i_do_it(target: &Target) {
    say(&format!("doer {} {} -", sys::pid(), target.v4.ip()));
}

/// A child that does not execute anything.
fn fork(target: &Target) -> Outcome {
    sys::wait(sys::fork(|| {
        i_do_it(target);
        tcp::plain(target.v4)
    })?)
}

/// A child that does.
fn spawn(target: &Target) -> Outcome {
    let argv = target.argv("tcp4");
    let mut child = Command::new(std::env::current_exe()?)
        .args(&argv[1..])
        .spawn()?;
    say(&format!("doer {} {} -", child.id(), target.v4.ip()));
    child.wait()?;
    Ok(())
}

/// A child on borrowed memory, before it executes anything.
fn vfork(target: &Target) -> Outcome {
    extern "C" fn child(address: *mut c_void) -> c_int {
        // SAFETY: the parent passes an address, and waits until this process has ended.
        let address = unsafe { &*address.cast::<Address>() };
        let done = sys::socket(AF_INET, SOCK_STREAM, 0).and_then(|fd| sys::connect(&fd, address));
        c_int::from(done.is_err())
    }
    let address = Address::new(target.v4);
    let mut stack = vec![0u64; 16_384];
    // SAFETY: one past the end of the stack, which grows down; aligned as u64 twice over.
    let top = unsafe { stack.as_mut_ptr().add(stack.len()) };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument = (&raw const address).cast_mut().cast();
    // SAFETY: the child runs on its own stack while this thread is suspended.
    let pid = sys::check(unsafe { libc::clone(child, top.cast(), flags, argument) })?;
    say(&format!("doer {pid} {} -", target.v4.ip()));
    sys::wait(pid)
}

/// Twice forked, in a session of its own, adopted by somebody else.
fn daemon(target: &Target) -> Outcome {
    sys::wait(sys::fork(|| {
        // SAFETY: it takes nothing and touches no memory.
        sys::check(unsafe { libc::setsid() })?;
        sys::fork(|| {
            thread::sleep(Duration::from_millis(300)); // The parent is gone by then.
            i_do_it(target);
            tcp::plain(target.v4)?;
            say("done");
            Ok(())
        })?;
        Ok(())
    })?)
}

/// A thread with a name of its own.
fn thread_connects(target: &Target) -> Outcome {
    let address = target.v4;
    let thread = thread::Builder::new()
        .name("kworker/0:1".to_owned())
        .spawn(move || tcp::plain(address))?;
    thread.join().map_err(|_| "the thread panicked")?
}

/// A thread executes another program: it becomes the process.
fn thread_executes(target: &Target) -> Outcome {
    let argv = target.argv("tcp4");
    let exe = std::env::current_exe()?;
    let thread = thread::spawn(move || {
        let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
        sys::exec(&exe, &args)
    });
    let error = thread.join().map_err(|_| "the thread panicked")?;
    Err(error.into())
}

/// The first thread ends; another one lives on, and connects much later.
fn leader_exits(target: &Target) -> Outcome {
    let address = target.v4;
    let pause = Duration::from_secs(target.number(0)?);
    thread::spawn(move || {
        thread::sleep(pause);
        sys::finish(tcp::plain(address));
    });
    // SAFETY: ends this thread only, without what would end the others.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Err("still here".into())
}

/// One program after the other in one process; the last one connects.
fn exec_chain(target: &Target) -> Outcome {
    let left: u32 = target.number(0)?;
    let mut argv = if left == 0 {
        target.argv("tcp4")
    } else {
        target.argv("exec-chain")
    };
    if left > 0 {
        argv.push((left - 1).to_string());
    }
    execute(&argv)
}

/// Connects, and becomes another program at once, which goes elsewhere.
fn exec_after(target: &Target) -> Outcome {
    let pid = sys::pid();
    say(&format!("doer {pid} {} -", target.v4.ip()));
    tcp::plain(target.v4)?;
    let copy = std::env::current_dir()?.join("another-program");
    std::fs::copy(std::env::current_exe()?, &copy)?;
    say(&format!(
        "doer {pid} {} {}",
        target.other4.ip(),
        copy.display()
    ));
    let next = Target {
        v4: target.other4,
        ..target.clone()
    };
    let argv = next.argv("tcp4");
    let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
    Err(sys::exec(&copy, &args).into())
}

/// Becomes this program again.
fn execute(argv: &[String]) -> Outcome {
    let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
    Err(sys::exec(&std::env::current_exe()?, &args).into())
}

/// Gives up its rights first.
fn setuid(target: &Target) -> Outcome {
    const NOBODY: u32 = 65_534;
    // SAFETY: no pointer is passed.
    sys::check(unsafe { libc::setgid(NOBODY) })?;
    // SAFETY: no pointer is passed.
    sys::check(unsafe { libc::setuid(NOBODY) })?;
    tcp::plain(target.v4)
}

/// Two processes of one pid, one after the other, of two programs.
fn pid_reuse(target: &Target) -> Outcome {
    let copy = std::env::current_dir()?.join("second-of-that-pid");
    std::fs::copy(std::env::current_exe()?, &copy)?;
    let first = sys::fork(|| tcp::plain(target.v4))?;
    sys::wait(first)?;
    say(&format!("doer {first} {} -", target.v4.ip()));
    let next = Target {
        v4: target.other4,
        ..target.clone()
    };
    let argv = next.argv("tcp4");
    let args: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
    let pid = clone_with_pid(first)?;
    if pid == 0 {
        sys::finish(Err(sys::exec(&copy, &args).into()));
    }
    say(&format!(
        "doer {pid} {} {}",
        target.other4.ip(),
        copy.display()
    ));
    sys::wait(pid)
}

/// A child with a pid of the caller's choice (Linux 5.5).
fn clone_with_pid(wanted: c_int) -> std::io::Result<c_int> {
    // struct clone_args, of which only the signal and the list of pids are set.
    let mut args = [0u64; 11];
    args[4] = u64::from(libc::SIGCHLD.unsigned_abs());
    args[8] = (&raw const wanted) as u64;
    args[9] = 1;
    let pointer = args.as_ptr() as usize;
    // SAFETY: the structure has the size that is passed, and its list lives until the call is
    // done; the child has a copy of all memory, as after fork.
    let pid = unsafe { sys::call(libc::SYS_clone3, [pointer, size_of_val(&args), 0, 0, 0]) };
    match pid {
        Ok(pid) => c_int::try_from(pid).map_err(std::io::Error::other),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
            unsupported("somebody else has the pid already")
        }
        Err(error) => Err(error),
    }
}

/// As a 32-bit program would, which tracers of 64-bit system calls do not see.
#[cfg(target_arch = "x86_64")]
fn int80(target: &Target) -> Outcome {
    const CONNECT_32: u32 = 362;
    let address = Address::new(target.v4);
    let low = sys::low_memory(&address.bytes)?;
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let result: i32;
    // SAFETY: a system call of the 32-bit interface; the address lies below 4 GiB. The kernel
    // clobbers r8 to r11; rbx is LLVM's own and is swapped in and out.
    unsafe {
        std::arch::asm!(
            "xchg {fd:r}, rbx",
            "int 0x80",
            "xchg {fd:r}, rbx",
            fd = inout(reg) i64::from(number) => _,
            inlateout("eax") CONNECT_32 => result,
            in("ecx") low,
            in("edx") address.length,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if result == -libc::ENOSYS {
        unsupported("32-bit system calls (CONFIG_IA32_EMULATION)");
    }
    if result < 0 {
        return Err(std::io::Error::from_raw_os_error(-result).into());
    }
    sys::send(&fd, b"hello")?;
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn int80(_: &Target) -> Outcome {
    unsupported("32-bit system calls on this machine")
}

/// Connects, and is killed at once.
fn killed(target: &Target) -> Outcome {
    let child = sys::fork(|| {
        i_do_it(target);
        let _stream = tcp::open(target.v4)?;
        // SAFETY: it sends a signal to this very process.
        unsafe { libc::raise(libc::SIGKILL) };
        Ok(())
    })?;
    // Its status says that it was killed.
    let _ = sys::wait(child);
    Ok(())
}

//! What each thread may do once the kernel side is attached, and nothing else.
//!
//! In: the role of a thread. Out: the thread without the capabilities and system calls that its
//! role does not need. Both are properties of a thread; threads that it starts inherit them.
//!
//! Bytes that others wrote (packets, argv, HTTP requests, `package.json`) are parsed by threads
//! that may neither use `bpf`, execute a program, look into another process, mount, nor enter a
//! namespace. The one thread that speaks to the kernel parses nothing of that.
//! What is refused fails with `EPERM`: the monitor goes on, and says so.

use std::collections::BTreeMap;

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads the kernel's maps, lists processes and sockets, attaches what someone detached.
    Kernel,
    /// Looks up what only the host knows: scripts in the file systems of other processes, their
    /// environment, cgroups, containers.
    Files,
    /// Listens to systemd-resolved.
    Resolved,
    /// Everything else: parsers, the collector, HTTP, the receivers of alerts.
    Line,
}

impl Role {
    /// What the role needs, of what the process was given.
    fn capabilities(self) -> CapsHashSet {
        let needed: &[Capability] = match self {
            Role::Kernel => &[
                // Maps before Linux 5.19, walks over processes and sockets; CAP_SYS_ADMIN stands
                // for it where root has been given that alone.
                Capability::CAP_BPF,
                // The programs of those walks read kernel memory.
                Capability::CAP_PERFMON,
                // Attaching a program again that someone detached.
                Capability::CAP_NET_ADMIN,
                // The folder of the pins, below one that only root may enter.
                Capability::CAP_DAC_READ_SEARCH,
            ],
            Role::Files => &[
                // `/proc/PID/root`, `cwd` and `environ` of other users' processes.
                Capability::CAP_SYS_PTRACE,
                // Folders that only their owner may enter.
                Capability::CAP_DAC_READ_SEARCH,
            ],
            // Before systemd 256 the socket is for its owner and root alone. Without a call that
            // opens a file, there is nothing else to do with it.
            Role::Resolved => &[Capability::CAP_DAC_OVERRIDE],
            Role::Line => &[],
        };
        needed.iter().copied().collect()
    }

    /// The system calls of the role, beside [`BASIC`].
    fn calls(self) -> impl Iterator<Item = i64> {
        let calls: [&[i64]; 3] = match self {
            Role::Kernel => [FILES, OLD_FILES, KERNEL],
            Role::Files => [FILES, OLD_FILES, &[]],
            Role::Line => [FILES, OLD_FILES, NETWORK],
            Role::Resolved => [&[], &[], CONNECT],
        };
        calls.into_iter().flatten().copied()
    }
}

/// Memory, threads, time: what any thread of a Rust program needs.
const BASIC: &[i64] = &[
    libc::SYS_brk,
    // To enter the same role again, as a thread that a thread of the role starts does.
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrlimit,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Files.
const FILES: &[i64] = &[
    libc::SYS_copy_file_range,
    libc::SYS_faccessat,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// The same that only older architectures have.
#[cfg(target_arch = "x86_64")]
const OLD_BASIC: &[i64] = &[
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_time,
];
#[cfg(target_arch = "x86_64")]
const OLD_FILES: &[i64] = &[
    libc::SYS_access,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_stat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_BASIC: &[i64] = &[];
#[cfg(not(target_arch = "x86_64"))]
const OLD_FILES: &[i64] = &[];

/// HTTP, both ways.
const NETWORK: &[i64] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    // Files of the configuration that change.
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendfile,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
    libc::SYS_socketpair,
];

/// One connection to a socket of this host.
const CONNECT: &[i64] = &[
    libc::SYS_connect,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_socket,
];

/// The canary's sockets, and waking the line. `bpf` itself is in [`BPF_COMMANDS`].
const KERNEL: &[i64] = &[
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_epoll_ctl,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_socket,
];

/// What the kernel thread may ask of `bpf`, by its first argument (`enum bpf_cmd` of
/// include/uapi/linux/bpf.h): look up, update, delete and list entries of a map, pin an object,
/// describe one, and attach a program that is loaded. No new program, no new map.
const BPF_COMMANDS: [u64; 9] = [1, 2, 3, 4, 6, 15, 17, 28, 33];

/// Gives up what the role does not need, for this thread and those that it starts. For good.
///
/// # Errors
///
/// The kernel's words.
pub fn enter(role: Role) -> anyhow::Result<()> {
    drop_capabilities(role).context("capabilities cannot be dropped")?;
    let program = filter(role).context("the list of system calls is wrong")?;
    // Sets no_new_privs as well.
    seccompiler::apply_filter(&program).context("the kernel takes no seccomp filter")?;
    Ok(())
}

fn drop_capabilities(role: Role) -> Result<(), caps::errors::CapsError> {
    let given = caps::read(None, CapSet::Permitted)?;
    let mut keep: CapsHashSet = given.intersection(&role.capabilities()).copied().collect();
    // Before CAP_BPF there was only this: and where a container gives it instead.
    if role == Role::Kernel
        && !given.contains(&Capability::CAP_BPF)
        && given.contains(&Capability::CAP_SYS_ADMIN)
    {
        keep.insert(Capability::CAP_SYS_ADMIN);
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &keep)?;
    caps::set(None, CapSet::Permitted, &keep)
}

fn filter(role: Role) -> anyhow::Result<BpfProgram> {
    let calls = BASIC.iter().chain(OLD_BASIC).copied().chain(role.calls());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.map(|call| (call, Vec::new())).collect();
    if role == Role::Kernel {
        let commands = BPF_COMMANDS.map(|command| {
            let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)?;
            SeccompRule::new(vec![is])
        });
        let commands: Result<Vec<_>, _> = commands.into_iter().collect();
        rules.insert(libc::SYS_bpf, commands?);
    }
    let refused = SeccompAction::Errno(u32::try_from(libc::EPERM)?);
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::process::Command;
    use std::{fs, thread};

    use rustix::mount::{MountFlags, mount};

    use super::*;

    /// What a thread of this role is told when it tries what no role needs.
    #[track_caller]
    fn check(role: Role) {
        let tried = thread::spawn(move || {
            let before = fs::read_to_string("/proc/thread-self/status").unwrap();
            enter(role).unwrap();
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let field = |status: &str, name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap().trim().to_owned()
            };
            assert_eq!(field(&status, "Seccomp:"), "2");
            assert_eq!(field(&status, "NoNewPrivs:"), "1");
            let set = |status: &str, name| u64::from_str_radix(&field(status, name), 16).unwrap();
            let kept: u64 = role.capabilities().iter().map(|it| 1 << it.index()).sum();
            let given = set(&before, "CapPrm:");
            assert_eq!(set(&status, "CapEff:"), given & kept);
            assert_eq!(set(&status, "CapPrm:"), given & kept);
            enter(role).unwrap(); // Once more changes nothing.
            let executed = Command::new("true").status().map(drop);
            let mounted = mount("none", "/mnt", "tmpfs", MountFlags::empty(), None);
            let moved = rustix::process::chroot("/");
            [
                executed,
                mounted.map_err(Into::into),
                moved.map_err(Into::into),
            ]
            .map(|tried| tried.map_err(|error| error.kind()))
        });
        let refused = Err(ErrorKind::PermissionDenied);
        assert_eq!(tried.join().unwrap(), [refused; 3], "{role:?}");
    }

    #[test]
    fn no_role_may_execute_mount_or_change_its_root() {
        check(Role::Line);
        check(Role::Files);
        check(Role::Kernel);
    }

    #[test]
    fn no_role_has_what_reaches_into_other_processes_or_the_kernel() {
        let forbidden = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_mount,
            libc::SYS_fsopen,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_perf_event_open,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_bpf,
        ];
        for role in [Role::Line, Role::Files, Role::Kernel, Role::Resolved] {
            let all: Vec<i64> = BASIC.iter().chain(OLD_BASIC).copied().collect();
            let all: Vec<i64> = all.into_iter().chain(role.calls()).collect();
            let found: Vec<_> = forbidden.iter().filter(|call| all.contains(call)).collect();
            assert!(found.is_empty(), "{role:?}: {found:?}");
        }
    }

    /// It keeps a capability to connect to a socket that is not its own.
    #[test]
    fn who_listens_to_the_resolver_may_connect_and_open_no_file() {
        use std::io::{Read, Write};
        use std::os::unix::net::{UnixListener, UnixStream};

        let folder = tempfile::tempdir().unwrap();
        let (path, file) = (folder.path().join("socket"), folder.path().join("file"));
        let server = UnixListener::bind(&path).unwrap();
        let tried = thread::spawn(move || {
            enter(Role::Resolved).unwrap();
            enter(Role::Resolved).unwrap();
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(b"?").unwrap();
            let mut answer = [0];
            stream.read_exact(&mut answer).unwrap();
            let kind = |tried: std::io::Result<()>| tried.map_err(|error| error.kind());
            let refused = [
                kind(fs::read("/proc/self/status").map(drop)),
                kind(fs::write(file, "x")),
                kind(fs::remove_file("/nonexistent")),
                kind(Command::new("true").status().map(drop)),
            ];
            (answer, refused)
        });
        let (mut client, _) = server.accept().unwrap();
        client.write_all(b"!").unwrap();
        let refused = Err(ErrorKind::PermissionDenied);
        assert_eq!(tried.join().unwrap(), ([b'!'], [refused; 4]));
    }

    #[test]
    fn only_the_kernel_thread_may_use_bpf_and_then_load_nothing() {
        let programs = |role| {
            thread::spawn(move || {
                enter(role).unwrap();
                // BPF_PROG_GET_NEXT_ID, which no thread needs.
                aya::programs::loaded_programs().next().map(|it| it.is_ok())
            })
        };
        for role in [Role::Line, Role::Files, Role::Kernel, Role::Resolved] {
            assert_ne!(programs(role).join().unwrap(), Some(true), "{role:?}");
        }
        assert!(!BPF_COMMANDS.contains(&0), "BPF_MAP_CREATE");
        assert!(!BPF_COMMANDS.contains(&5), "BPF_PROG_LOAD");
    }
}

//! Processes: fork, exec, exit, and the ones that were there before.
//!
//! In: `sched_process_fork`, `sched_process_exec`, `sched_process_exit` (BTF tracepoints; stable
//! arguments 5.10 … 7.2) and the task iterator. Out: process records in the control ring, or,
//! from the iterator, in the reader's file.
//!
//! Everything is read here, in the kernel, at the moment it is true: a process that lives for a
//! millisecond is gone from `/proc` before user space could look.
//!
//! Missed: nothing of these three hooks; a tracepoint program that interrupts itself on one CPU
//! is skipped by the kernel and counted by it (`recursion_misses`).

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{
        bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_ringbuf_output, bpf_seq_write,
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use monitor_common::{
    counter::{
        DELIVERED, DROPPED_RING_FULL, DROPPED_UNREADABLE, GAP_WATCHED_FULL, HOOK_EXEC, HOOK_EXIT,
        HOOK_FORK,
    },
    flow::ProcessKey,
    limits::{ARGS_BYTES, NAME_BYTES, PATH_BYTES, PATH_DEPTH},
    record::{
        self, EXEC_ARGS_TRUNCATED, EXEC_ARGS_UNREADABLE, EXEC_FOUND, EXEC_KERNEL_THREAD,
        EXEC_PATH_ROOM, EXEC_PATH_TRUNCATED, ProcessExecuted, ProcessExited, ProcessForked,
    },
};

use crate::{
    budget, emit, generation,
    kernel::{self, Address},
    maps::{CONTROL, ExecScratch, SCRATCH, WATCHED, watched},
    offsets,
};

/// `TP_PROTO(struct task_struct *parent, struct task_struct *child)`, kernel/fork.c
/// `kernel_clone`; runs as the parent.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    if !generation::is_current() {
        return 0;
    }
    let (parent, child) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1));
    if let (Some(parent), Some(child)) = (Address::new(parent), Address::new(child)) {
        forked(parent, child);
    }
    0
}

#[inline(always)]
fn forked(parent: Address, child: Address) {
    let pid = child.read::<u32>(&offsets::TASK_PID);
    if pid != child.read::<u32>(&offsets::TASK_TGID) {
        return; // A thread: its process is known.
    }
    emit::attempted(HOOK_FORK);
    let (Some(parent), Some(process)) = (kernel::process_key(parent), kernel::process_key(child))
    else {
        return emit::outcome(HOOK_FORK, DROPPED_UNREADABLE);
    };
    if watched(&parent) {
        let key = ProcessKey {
            exec_id: 0,
            ..process
        };
        if WATCHED.insert(key, 1u32, 0).is_err() {
            emit::count(GAP_WATCHED_FULL);
        }
    }
    let header = emit::header::<ProcessForked>(record::KIND_PROCESS_FORKED);
    emit::record(
        &CONTROL,
        HOOK_FORK,
        &ProcessForked {
            header,
            process,
            parent,
        },
    );
}

/// `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`, fs/exec.c
/// `exec_binprm`; runs as the new image, after its memory is in place and before its first
/// instruction, so before any connection it can make.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    if !generation::is_current() {
        return 0;
    }
    emit::attempted(HOOK_EXEC);
    let delivered = Address::new(ctx.arg::<u64>(0)).and_then(executed);
    emit::outcome(HOOK_EXEC, delivered.unwrap_or(DROPPED_UNREADABLE));
    0
}

#[inline(always)]
fn executed(task: Address) -> Option<u32> {
    // SAFETY: slot 0 is this hook's alone, and tracepoints run with preemption off.
    let scratch = unsafe { SCRATCH.get_ptr_mut(0)?.as_mut() }?;
    scratch.record.flags = 0;
    describe(task, scratch)?;
    let mm = task.follow(&offsets::TASK_MM)?;
    append_args(mm, scratch);
    let used = usize::from(scratch.record.path_bytes) + usize::from(scratch.record.args_bytes);
    let bytes = record_bytes(used)?;
    scratch.record.header.bytes = bytes as u32;
    // SAFETY: `bytes` lies within the scratch slot.
    let result = unsafe {
        bpf_ringbuf_output(
            (&raw const CONTROL).cast_mut().cast(),
            core::ptr::from_mut(scratch).cast(),
            bytes,
            emit::NO_WAKEUP,
        )
    };
    Some(if result == 0 {
        DELIVERED
    } else {
        DROPPED_RING_FULL
    })
}

/// Length of a record with `used` bytes of tail. Never `None`, as the parts of the tail are
/// bounded, but the verifier wants to see it.
#[inline(always)]
fn record_bytes(used: usize) -> Option<u64> {
    let bytes = size_of::<ProcessExecuted>() + used;
    kernel::within(bytes as u64, 0, size_of::<ExecScratch>() as u64)
}

/// Fills in everything about a program image but its argv.
#[inline(always)]
fn describe(task: Address, scratch: &mut ExecScratch) -> Option<()> {
    let process = kernel::process_key(task)?;
    let parent = task
        .follow(&offsets::TASK_REAL_PARENT)
        .and_then(kernel::process_key)
        .unwrap_or_default();
    let cred = task.follow(&offsets::TASK_CRED)?;
    let record = &mut scratch.record;
    record.header = emit::header::<ProcessExecuted>(record::KIND_PROCESS_EXECUTED);
    record.process = process;
    record.parent = parent;
    record.uid = cred.read(&offsets::CRED_UID)?;
    record.gid = cred.read(&offsets::CRED_GID)?;
    record.cgroup_id = kernel::cgroup_id(task).unwrap_or(0);
    (record.mount_ns, record.net_ns) = namespaces(task).unwrap_or((0, 0));
    (record.exe_inode, record.exe_device, record.exe_links) = (0, 0, 0);
    (record.path_bytes, record.args_bytes) = (0, 0);
    let file = task
        .follow(&offsets::TASK_MM)
        .and_then(|mm| mm.follow(&offsets::MM_EXE_FILE));
    match file {
        Some(file) => describe_file(file, scratch),
        None => {
            scratch.record.flags |= EXEC_KERNEL_THREAD;
            Some(())
        }
    }
}

/// Inode numbers of the mount and network namespaces of a task.
#[inline(always)]
fn namespaces(task: Address) -> Option<(u32, u32)> {
    let nsproxy = task.follow(&offsets::TASK_NSPROXY)?;
    let mount = nsproxy
        .follow(&offsets::NSPROXY_MNT_NS)?
        .read(&offsets::MNT_NS_INUM)?;
    let net = nsproxy
        .follow(&offsets::NSPROXY_NET_NS)?
        .read(&offsets::NET_NS_INUM)?;
    Some((mount, net))
}

/// Identity and path of an executable file.
#[inline(always)]
fn describe_file(file: Address, scratch: &mut ExecScratch) -> Option<()> {
    let dentry = file.follow(&offsets::FILE_DENTRY)?;
    let mount = file
        .follow(&offsets::FILE_MNT)?
        .container(&offsets::MOUNT_MNT);
    let inode = dentry.follow(&offsets::DENTRY_INODE)?;
    let record = &mut scratch.record;
    record.exe_inode = inode.read(&offsets::INODE_INO)?;
    record.exe_links = inode.read(&offsets::INODE_NLINK)?;
    record.exe_device = inode
        .follow(&offsets::INODE_SB)?
        .read(&offsets::SUPER_BLOCK_DEV)?;
    let (bytes, complete) = append_path(dentry, mount, &mut scratch.tail);
    scratch.record.path_bytes = bytes as u16;
    if !complete {
        scratch.record.flags |= EXEC_PATH_TRUNCATED;
    }
    Some(())
}

/// Writes the path's components, leaf first, each NUL-terminated. Returns the bytes written and
/// whether the walk reached the root.
///
/// The same walk as fs/d_path.c `prepend_path`, but up to the root of the mount tree and not to
/// the process's own root, so that a chroot cannot shorten it. `bpf_d_path` is not allowed here.
#[inline(always)]
fn append_path(mut dentry: Address, mut mount: Address, tail: &mut [u8]) -> (usize, bool) {
    let mut used = 0usize;
    for _ in 0..PATH_DEPTH {
        let Some(root) = mount
            .field(&offsets::MOUNT_MNT)
            .follow(&offsets::VFSMOUNT_ROOT)
        else {
            return (used, false);
        };
        if dentry.raw() == root.raw() {
            let (Some(parent), Some(mountpoint)) = (
                mount.follow(&offsets::MOUNT_PARENT),
                mount.follow(&offsets::MOUNT_MOUNTPOINT),
            ) else {
                return (used, false);
            };
            if parent.raw() == mount.raw() {
                return (used, true);
            }
            (dentry, mount) = (mountpoint, parent);
            continue;
        }
        let Some(parent) = dentry.follow(&offsets::DENTRY_PARENT) else {
            return (used, false);
        };
        let Some(name) = dentry.follow(&offsets::DENTRY_NAME) else {
            return (used, false);
        };
        let Some(end) = kernel::within(used as u64, 0, PATH_BYTES as u64 - 1) else {
            return (used, false);
        };
        // SAFETY: `end` < PATH_BYTES and the tail has NAME_BYTES beyond that; the helper checks
        // the address that it reads from.
        let copied = unsafe {
            bpf_probe_read_kernel_str(
                tail.as_mut_ptr().add(end as usize).cast(),
                NAME_BYTES as u32,
                name.raw() as *const _,
            )
        };
        if copied <= 0 {
            return (used, false);
        }
        used += (copied as usize) & 0x1ff;
        if parent.raw() == dentry.raw() {
            return (used, true); // A file system without a mount: memfd, say.
        }
        dentry = parent;
    }
    (used, false)
}

/// Appends argv as it lies in the new image's memory.
#[inline(always)]
fn append_args(mm: Address, scratch: &mut ExecScratch) {
    let start = mm.read::<u64>(&offsets::MM_ARG_START).unwrap_or(0);
    let end = mm.read::<u64>(&offsets::MM_ARG_END).unwrap_or(0);
    let length = end.saturating_sub(start);
    let wanted = if length > ARGS_BYTES as u64 {
        scratch.record.flags |= EXEC_ARGS_TRUNCATED;
        ARGS_BYTES
    } else {
        length as usize
    };
    let offset = usize::from(scratch.record.path_bytes);
    if offset > EXEC_PATH_ROOM || wanted > ARGS_BYTES {
        return;
    }
    // SAFETY: `offset` + `wanted` lies within the tail; the helper checks the user address. The
    // pages were written by the exec itself a moment ago, so they are there.
    let result = unsafe {
        bpf_probe_read_user(
            scratch.tail.as_mut_ptr().add(offset).cast(),
            wanted as u32,
            start as *const _,
        )
    };
    if result == 0 {
        scratch.record.args_bytes = wanted as u16;
    } else {
        scratch.record.flags |= EXEC_ARGS_UNREADABLE;
    }
}

/// `TP_PROTO(struct task_struct *p)` (7.x adds `bool group_dead`), kernel/exit.c `do_exit`; runs
/// as each thread that ends; a process ends with its last one, whose leader is still there as a
/// zombie. Two that end at the same moment may both be told: the second changes nothing.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    if !generation::is_current() {
        return 0;
    }
    if let Some(task) = Address::new(ctx.arg::<u64>(0)) {
        exited(task);
    }
    0
}

#[inline(always)]
fn exited(task: Address) {
    let live = task
        .follow(&offsets::TASK_SIGNAL)
        .and_then(|signal| signal.read::<u32>(&offsets::SIGNAL_LIVE));
    if live != Some(0) {
        return; // Other threads go on.
    }
    emit::attempted(HOOK_EXIT);
    let (Some(process), Some(exit_code)) = (
        kernel::process_key(task),
        task.read::<i32>(&offsets::TASK_EXIT_CODE),
    ) else {
        return emit::outcome(HOOK_EXIT, DROPPED_UNREADABLE);
    };
    // A process that was not watched has no entry: nothing to do about the error.
    let _ = WATCHED.remove(ProcessKey {
        exec_id: 0,
        ..process
    });
    budget::close(&process);
    let header = emit::header::<ProcessExited>(record::KIND_PROCESS_EXITED);
    let record = ProcessExited {
        header,
        process,
        exit_code,
        reserved: 0,
    };
    emit::record(&CONTROL, HOOK_EXIT, &record);
}

/// What the task iterator hands over: `struct bpf_iter__task`, kernel/bpf/task_iter.c (since 5.8).
#[repr(C)]
pub struct TaskIterContext {
    /// `struct bpf_iter_meta`, whose first field is the `seq_file` to write to.
    meta: *const *mut seq_file,
    /// `struct task_struct`; null at the end of the walk.
    task: *const u8,
}

/// One exec record per process, written to the reader's file. Runs as the reader, once per task.
/// argv is left to `/proc`: another process's memory may have to be paged in, which cannot be
/// done here.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn task_iter(ctx: *const TaskIterContext) -> i32 {
    // SAFETY: the kernel passes a valid context; the verifier knows the types of both fields.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    let Some(address) = Address::new(task as u64) else {
        return 0; // The end of the walk.
    };
    // SAFETY: as above.
    found(unsafe { *meta }, address);
    0
}

#[inline(always)]
fn found(seq: *mut seq_file, task: Address) -> Option<()> {
    if task.read::<u32>(&offsets::TASK_PID) != task.read::<u32>(&offsets::TASK_TGID) {
        return None;
    }
    // SAFETY: slot 1 is the iterator's alone, and only one reader walks at a time.
    let scratch = unsafe { SCRATCH.get_ptr_mut(1)?.as_mut() }?;
    scratch.record.flags = EXEC_FOUND;
    describe(task, scratch)?;
    let bytes = record_bytes(usize::from(scratch.record.path_bytes))?;
    scratch.record.header.bytes = bytes as u32;
    // SAFETY: `bytes` lies within the scratch slot.
    unsafe { bpf_seq_write(seq, core::ptr::from_mut(scratch).cast(), bytes as u32) };
    Some(())
}

//! The few things that only `unsafe` can ask of the kernel, each in a safe wrapper.
//!
//! In: addresses of kernel structures and [`crate::offsets`]. Out: plain values.
//! A failed read yields `None` or zero; the caller counts it.

use core::intrinsics::AtomicOrdering;

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_probe_read_kernel,
    generated::{bpf_get_current_cgroup_id, bpf_get_current_task, bpf_ktime_get_boot_ns},
};
use monitor_common::flow::ProcessKey;

use crate::offsets;

/// A number that the loader writes before the programs are loaded; constant for the verifier.
#[repr(transparent)]
pub struct Setting(u32);

impl Setting {
    /// With the value that it has if the loader does not write it.
    pub const fn new(value: u32) -> Self {
        Setting(value)
    }

    /// The value. Volatile, or the compiler would take it from the source.
    #[inline(always)]
    pub fn load(&self) -> u32 {
        // SAFETY: a reference is always valid to read.
        unsafe { core::ptr::read_volatile(&raw const self.0) }
    }
}

/// Address of a kernel structure. Reading through it is checked by the kernel.
#[derive(Clone, Copy)]
pub struct Address(u64);

impl Address {
    /// An address, if it is not null.
    #[inline(always)]
    pub fn new(address: u64) -> Option<Self> {
        (address != 0).then_some(Address(address))
    }

    /// As a number, to compare.
    #[inline(always)]
    pub fn raw(self) -> u64 {
        self.0
    }

    /// Address of a field.
    #[inline(always)]
    pub fn field(self, offset: &Setting) -> Address {
        Address(self.0 + u64::from(offset.load()))
    }

    /// Address of the structure that holds this one as a field (`container_of`).
    #[inline(always)]
    pub fn container(self, offset: &Setting) -> Address {
        Address(self.0 - u64::from(offset.load()))
    }

    /// The value of a field; `None` if the memory cannot be read.
    #[inline(always)]
    pub fn read<T: Copy>(self, offset: &Setting) -> Option<T> {
        // SAFETY: the helper checks the address and copies; `T` is plain data.
        unsafe { bpf_probe_read_kernel(self.field(offset).0 as *const T) }.ok()
    }

    /// The structure that a pointer field points to.
    #[inline(always)]
    pub fn follow(self, offset: &Setting) -> Option<Address> {
        Address::new(self.read::<u64>(offset)?)
    }
}

/// Adds to a number that other CPUs, or another task on this CPU, may add to at the same time.
///
/// # Safety
///
/// `number` is an aligned number in a map value that was checked for null.
#[inline(always)]
pub unsafe fn add(number: *mut u64, increment: u64) {
    // An addition of a constant zero would be compiled to a `lock or`, which needs Linux 5.12.
    if increment == 0 {
        return;
    }
    // SAFETY: the caller vouches for the address. The result is not used, so this is the plain
    // `lock add` that every kernel from 5.10 on accepts.
    unsafe {
        core::intrinsics::atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(number, increment);
    }
}

/// The number, if it lies within `least..=most`.
///
/// For lengths and offsets that the verifier must see bounded. The compiler may leave out a check
/// that it can prove superfluous, join two checks into one on a difference, or check one copy and
/// use another; the verifier of Linux 6.1 and older follows none of that.
#[inline(always)]
pub fn within(number: u64, least: u64, most: u64) -> Option<u64> {
    let number = opaque(number);
    // Signed: a check for less than 1 would be compiled to one for 0, of which the verifier of
    // Linux 5.10 learns nothing.
    if (number as i64) < least as i64 {
        return None;
    }
    let number = opaque(number);
    (number <= most).then_some(number)
}

/// The same number in the same register, but the compiler forgets what it knows of it.
#[inline(always)]
fn opaque(mut number: u64) -> u64 {
    // A real instruction: an empty one makes two source lines of one instruction, which the
    // kernel's check of the line table refuses.
    // SAFETY: a register is moved onto itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack));
    }
    number
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: no argument, no side effect.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The running task.
#[inline(always)]
pub fn current_task() -> Option<Address> {
    // SAFETY: no argument, no side effect.
    Address::new(unsafe { bpf_get_current_task() })
}

/// Real user id of the running task, in the initial user namespace.
#[inline(always)]
pub fn current_uid() -> u32 {
    bpf_get_current_uid_gid() as u32
}

/// Thread id of the running task, in the initial pid namespace.
#[inline(always)]
pub fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// Cgroup-v2 id of the running task.
#[inline(always)]
pub fn current_cgroup_id() -> u64 {
    // SAFETY: no argument, no side effect.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Key of the process (not the thread) that a task belongs to.
#[inline(always)]
pub fn process_key(task: Address) -> Option<ProcessKey> {
    let leader = task.follow(&offsets::TASK_GROUP_LEADER)?;
    Some(ProcessKey {
        start_ns: leader.read(&offsets::TASK_START_BOOTTIME)?,
        tgid: leader.read(&offsets::TASK_TGID)?,
        exec_id: leader.read::<u64>(&offsets::TASK_SELF_EXEC_ID)? as u32,
    })
}

/// Whether a task is the kernel's own: `PF_KTHREAD` of include/linux/sched.h.
#[inline(always)]
pub fn is_kernel_thread(task: Address) -> bool {
    const PF_KTHREAD: u32 = 0x0020_0000;
    task.read::<u32>(&offsets::TASK_FLAGS)
        .is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// Key of the running process.
#[inline(always)]
pub fn current_process() -> Option<ProcessKey> {
    process_key(current_task()?)
}

/// Cgroup-v2 id of a task: `task->cgroups->dfl_cgrp->kn->id`.
#[inline(always)]
pub fn cgroup_id(task: Address) -> Option<u64> {
    task.follow(&offsets::TASK_CGROUPS)?
        .follow(&offsets::CSS_SET_DFL_CGRP)?
        .follow(&offsets::CGROUP_KN)?
        .read(&offsets::KERNFS_NODE_ID)
}

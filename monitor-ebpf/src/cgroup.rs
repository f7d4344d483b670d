//! Cgroups, of which processes only carry the number: which path each has.
//!
//! In: `cgroup_mkdir` (a BTF tracepoint; `TP_PROTO(struct cgroup *cgrp, const char *path)`,
//! 5.10 … 7.2), which runs as whoever makes the directory, before any process can be in it.
//! Out: a [`CgroupMade`] record in the control ring, so before the exec of a container's first
//! program, however short the container lives.
//!
//! Not booked: what finds no room in the ring is looked up by user space when a process is first
//! seen in it. Missed: nothing; a cgroup of version 2 cannot be renamed.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use monitor_common::{
    limits::CGROUP_BYTES,
    record::{CgroupHead, CgroupMade, KIND_CGROUP_MADE},
};

use crate::{
    emit,
    kernel::{self, Address},
    maps::CONTROL,
    offsets,
};

/// `TRACE_CGROUP_PATH`, kernel/cgroup/cgroup-internal.h: the path is in a buffer of the kernel's
/// that is locked meanwhile.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    let (cgroup, path) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1));
    if let (Some(cgroup), Some(path)) = (Address::new(cgroup), Address::new(path)) {
        made(cgroup, path);
    }
    0
}

#[inline(always)]
fn made(cgroup: Address, path: Address) -> Option<()> {
    /// `cgrp_dfl_root` is registered first, and numbers start at 0 (kernel/cgroup/cgroup.c
    /// `cgroup_init`); the hierarchies of version 1 have others.
    const VERSION_2: u32 = 0;
    let hierarchy = cgroup
        .follow(&offsets::CGROUP_ROOT)?
        .read::<u32>(&offsets::CGROUP_ROOT_HIERARCHY_ID)?;
    if hierarchy != VERSION_2 {
        return None;
    }
    let cgroup_id = cgroup
        .follow(&offsets::CGROUP_KN)?
        .read(&offsets::KERNFS_NODE_ID)?;
    let mut entry = CONTROL.reserve::<CgroupMade>(0)?;
    let record = entry.as_mut_ptr();
    // SAFETY: `entry` is memory of a `CgroupMade`; the helper writes at most the path's size and
    // checks the address that it reads from.
    let copied = unsafe {
        bpf_probe_read_kernel_str(
            (&raw mut (*record).path).cast(),
            CGROUP_BYTES as u32,
            path.raw() as *const _,
        )
    };
    // At least one character and the NUL; of anything else user space looks for itself.
    let Some(copied) = kernel::within(copied as u64, 2, CGROUP_BYTES as u64) else {
        entry.discard(emit::NO_WAKEUP);
        return None;
    };
    let path_bytes = copied - 1;
    let mut header = emit::header::<CgroupHead>(KIND_CGROUP_MADE);
    header.bytes += path_bytes as u32;
    // SAFETY: as above; all of the head is written before the record is submitted.
    unsafe {
        (*record).head = CgroupHead {
            header,
            cgroup_id,
            path_bytes: path_bytes as u16,
            reserved: [0; 3],
        };
    }
    entry.submit(emit::NO_WAKEUP);
    Some(())
}

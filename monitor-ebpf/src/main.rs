//! Telltale's kernel programs: facts about processes and their outbound flows, nothing more.
//!
//! In: kernel hooks. Out: records (see `monitor_common::record`) in three rings, the flow map,
//! and the counters that prove the books balance. This crate knows no tool, no name, no rule.
//!
//! One file is one hook family: [`process`] (fork, exec, exit, and the iterator over what was
//! there before), [`connect`] (connect and datagrams with an address), [`socket`] (who opens
//! sockets, how flows end), [`packet`] (where packets go) with [`sample`] (first bytes and DNS
//! messages), [`cgroup`] (paths of cgroups). [`kernel`] wraps what needs `unsafe`, [`maps`] holds
//! every map, [`emit`] keeps the books, [`offsets`] is filled in by the loader from the kernel's
//! BTF.
#![no_std]
#![no_main]
#![allow(
    internal_features,
    reason = "atomic additions: the target has the instruction but not `AtomicU64::fetch_add`"
)]
#![feature(core_intrinsics)]
// `kernel::opaque`: the BPF target's `asm!` is not stable yet.
#![feature(asm_experimental_arch)]

mod budget;
mod cgroup;
mod connect;
mod emit;
mod files;
mod flows;
mod generation;
mod join;
mod kernel;
mod maps;
mod offsets;
mod packet;
mod process;
mod sample;
mod send;
mod socket;

/// `Dual MIT/GPL`: some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Never reached: the verifier rejects a program from which this loop can be entered.
    loop {}
}

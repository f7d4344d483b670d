//! Where records come from: the kernel, or a recording. Nothing behind this knows which.
//!
//! In: kernel rings and maps, or a file. Out: raw records, each with the time it is applied at.
//! [`live`] joins the kernel's side: [`bpf`] loads and attaches, [`order`] merges the rings,
//! [`drain`] reads the flow map; [`btf`] and [`offsets`] tell the programs this kernel's layout.
//! [`facts`] and [`resolved`] hear from the host what no kernel record holds.
//! [`bpf::pins`] and [`bpf::handover`] are what outlives the monitor.

pub mod arguments;
pub mod asker;
pub mod bpf;
pub mod btf;
pub mod canary;
pub mod cgroup2;
pub mod drain;
pub mod facts;
pub mod feed;
pub mod links;
pub mod live;
pub mod offsets;
pub mod order;
pub mod passage;
pub mod recording;
pub mod resolved;
pub mod scripts;

//! placeholder
pub mod bpf;
pub mod btf;
pub mod drain;
pub mod offsets;
pub mod order;

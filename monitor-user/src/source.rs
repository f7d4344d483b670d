//! Where records come from: the kernel, or a recording. Nothing behind this knows which.
//!
//! In: kernel rings and maps, or a file. Out: raw records, each with the time it is applied at.

pub mod recording;

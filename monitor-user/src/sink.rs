//! stub
pub mod lines;

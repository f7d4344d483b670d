//! Parsers of hostile bytes: names come out, payload never does.
//!
//! In: bytes that a process sent or received. Out: typed values, or an error without content.

pub mod dns;

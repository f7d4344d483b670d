//! What tidy knows of one source file.
//!
//! In: filled by `paths.rs`. Out: read by `layers.rs` and `core_order.rs`.

/// What a file uses.
#[derive(Debug, Default)]
pub struct Source {
    /// Every path, in order of appearance.
    pub paths: Vec<UsedPath>,
    /// Every `mod NAME`.
    pub modules: Vec<Module>,
    /// Lines, counted from 1, that hold the word `unsafe`.
    pub unsafe_lines: Vec<usize>,
    /// Number of `unsafe { … }`.
    pub unsafe_blocks: usize,
}

/// One path, as far as it is written.
#[derive(Debug)]
pub struct UsedPath {
    /// `["crate", "core", "names", "NameTable"]`.
    pub segments: Vec<String>,
    /// Counted from 1.
    pub line: usize,
}

/// One child module.
#[derive(Debug)]
pub struct Module {
    pub name: String,
    /// Counted from 1.
    pub line: usize,
}

impl UsedPath {
    /// Whether this is `prefix` or something inside it.
    pub fn is_in(&self, prefix: &str) -> bool {
        let mut segments = self.segments.iter();
        prefix
            .split("::")
            .all(|wanted| segments.next().is_some_and(|it| it == wanted))
    }
}

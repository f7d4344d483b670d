//! Which paths a source file uses.
//!
//! In: a file's text. Out: every `a::b::c` in it, whether imported or written out, inside macros
//! too, as a full path. Tests (`#[cfg(test)]`), comments and strings do not count.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

use super::resolve::{module_of, resolve};
use super::source::{Module, Source, UsedPath};
use super::tokens::{is_angle, is_block, is_cfg_test, segments, skip_item};

/// Reads the file at `path`, which is relative to the workspace's root.
///
/// # Errors
/// When the text is not made of Rust tokens.
pub fn read(path: &str, text: &str) -> Result<Source> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{error}"))?;
    let mut reader = Reader {
        module: module_of(path),
        ..Reader::default()
    };
    reader.walk(tokens);
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader {
    module: Vec<String>,
    /// What a first segment stands for: imports and child modules.
    aliases: BTreeMap<String, Vec<String>>,
    source: Source,
}

impl Reader {
    fn walk(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        while let Some((first, after)) = rest.split_first() {
            rest = match first {
                TokenTree::Punct(_) if is_cfg_test(rest) => skip_item(after),
                TokenTree::Group(group) => {
                    self.walk(group.stream());
                    after
                }
                TokenTree::Ident(word) if word == "use" && !is_angle(after) => {
                    self.import(after, &[])
                }
                TokenTree::Ident(_) => self.path(rest),
                _ => after,
            };
        }
    }

    /// Reads a word or a path at the start of `tokens`; returns what follows it.
    fn path<'a>(&mut self, tokens: &'a [TokenTree]) -> &'a [TokenTree] {
        let (segments, line, rest) = segments(tokens);
        match (segments.as_slice(), rest.first()) {
            ([word], next) if word == "unsafe" => {
                self.source.unsafe_lines.push(line);
                self.source.unsafe_blocks += usize::from(is_block(next));
            }
            ([word], Some(TokenTree::Ident(name))) if word == "mod" => {
                let name = name.to_string();
                let mut full = self.module.clone();
                full.push(name.clone());
                self.aliases.insert(name.clone(), full);
                self.source.modules.push(Module { name, line });
            }
            ([_, _, ..], _) => self.source.paths.push(UsedPath { segments, line }),
            _ => {}
        }
        rest
    }

    /// Reads one tree of a `use`, which lies below `prefix`; returns what follows its `,` or `;`.
    fn import<'a>(&mut self, tokens: &'a [TokenTree], prefix: &[String]) -> &'a [TokenTree] {
        let (mut written, line, mut rest) = segments(tokens);
        if written == ["self"] && !prefix.is_empty() {
            written.clear();
        }
        let segments = [prefix, written.as_slice()].concat();
        let mut alias = segments.last().cloned().unwrap_or_default();
        match rest {
            [TokenTree::Group(group), after @ ..] => {
                let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut branches = branches.as_slice();
                while !branches.is_empty() {
                    branches = self.import(branches, &segments);
                }
                return after.get(1..).unwrap_or_default();
            }
            [TokenTree::Ident(word), TokenTree::Ident(name), after @ ..] if word == "as" => {
                alias = name.to_string();
                rest = after;
            }
            [TokenTree::Punct(star), after @ ..] if star.as_char() == '*' => rest = after,
            _ => {}
        }
        self.aliases.insert(alias, segments.clone());
        self.source.paths.push(UsedPath { segments, line });
        rest.get(1..).unwrap_or_default()
    }

    /// Makes every path a full one.
    fn finish(mut self) -> Source {
        for path in &mut self.source.paths {
            path.segments = resolve(&path.segments, &self.module, &self.aliases);
        }
        self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line: the text of `core/wire/dns.rs`, and the paths to be found in it.
    #[track_caller]
    fn check_lines(lines: &str) {
        for line in lines.lines().map(str::trim) {
            let (text, expect) = line.split_once("=>").unwrap();
            let source = read("monitor-user/src/core/wire/dns.rs", text).unwrap();
            let found = source.paths.iter().map(|it| it.segments.join("::"));
            let expect: Vec<&str> = expect.split_whitespace().collect();
            assert_eq!(found.collect::<Vec<_>>(), expect, "{text}");
        }
    }

    #[test]
    fn imports_are_spelled_out() {
        check_lines(
            "use std::fs;                           => std::fs
             use std::{fs, io::{self, Read as R}};  => std::fs std::io std::io::Read
             pub(crate) use crate::sink::*;         => crate::sink
             use super::super::event::BootNs;       => crate::core::event::BootNs
             use self::rdata::A;                    => crate::core::wire::dns::rdata::A",
        );
    }

    #[test]
    fn written_out_paths_count_in_macros_too() {
        check_lines(
            "fn f() { std::env::var(x); }                  => std::env::var
             fn f() { println!(x, ::std::process::id()) }  => std::process::id
             fn f(x: Vec<std::fs::File>) {}                => std::fs::File
             fn f() -> impl Copy + use<'_> { a::b() }      => a::b",
        );
    }

    #[test]
    fn aliases_are_followed() {
        check_lines(
            "use std::time; fn f() { time::Instant::now() }  => std::time std::time::Instant::now
             use std::time; use time::Instant;               => std::time std::time::Instant
             use std::fs as files; type T = files::File;     => std::fs std::fs::File
             mod rdata; use rdata::A;                        => crate::core::wire::dns::rdata::A",
        );
    }

    #[test]
    fn tests_comments_and_strings_do_not_count() {
        check_lines(
            "#[cfg(test)] mod tests { use std::fs; } use a::b;       => a::b
             #[cfg(test)] use std::fs; use a::b;                     => a::b
             /* std::env::x */ const S: &str = \"std::fs\"; // a::b  =>",
        );
    }

    #[test]
    fn unsafe_is_counted() {
        let text = "unsafe fn f() {}\nfn g() { unsafe { f() } }";
        let source = read("x/src/lib.rs", text).unwrap();
        assert_eq!((source.unsafe_blocks, source.unsafe_lines), (1, vec![1, 2]));
    }

    #[test]
    fn what_is_not_rust_is_an_error() {
        assert!(read("x/src/lib.rs", "fn f( {").is_err());
    }
}

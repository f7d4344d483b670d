//! Globs of paths, and the table that finds the best one for a path.
//!
//! In: globs as catalog files write them, then paths. Out: which glob matches best (the one with
//! the most literal characters), and the version that the path states.

use std::fmt;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Stands in a glob for one path component, or a part of one, that is the tool's version.
const VERSION: &str = "{version}";

/// Starts a glob that holds in any folder.
pub(super) const ANY_FOLDER: &str = "**/";

/// Longer than any known version; what is longer is not passed on as one.
const VERSION_BYTES_MAX: usize = 48;

/// Paths that very many programs share. A glob that matches one of them recognises nothing.
const EVERYBODYS: [&str; 4] = [
    "/usr/bin/node",
    "/usr/bin/python3",
    "/bin/sh",
    "/usr/local/bin/bun",
];

/// A glob over absolute paths. `*` stays inside one component, `**` does not.
#[derive(Clone, Debug)]
pub struct PathGlob {
    /// As the catalog writes it.
    pub text: Arc<str>,
    glob: globset::Glob,
    version: Option<VersionPlace>,
    /// Characters that are no wildcards: the more, the more the glob says.
    literals: usize,
}

/// Where a path that matches states the version.
#[derive(Clone, Debug)]
struct VersionPlace {
    /// Which component, counted from the end, from 0.
    from_end: usize,
    /// What stands before it in its component.
    before: Arc<str>,
    /// What stands after it in its component.
    after: Arc<str>,
}

impl PathGlob {
    /// The glob that `text` writes.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to write, to follow after ``the glob `text` ``.
    pub(super) fn parse(text: &str) -> Result<PathGlob, String> {
        if !text.starts_with('/') && !text.starts_with(ANY_FOLDER) {
            return Err("has no start; begin it with `/`, or with `**/` for any folder".to_owned());
        }
        let version = VersionPlace::find(text)?;
        let glob = GlobBuilder::new(&text.replace(VERSION, "*"))
            .literal_separator(true)
            .build()
            .map_err(|error| format!("cannot be read: {}", error.kind()))?;
        let matcher = glob.compile_matcher();
        if let Some(path) = EVERYBODYS.into_iter().find(|path| matcher.is_match(path)) {
            return Err(format!(
                "matches {path}, which is no tool's own; write what is this tool's alone"
            ));
        }
        let wildcard = |c: char| matches!(c, '*' | '?');
        let literals = text
            .replace(VERSION, "")
            .chars()
            .filter(|&c| !wildcard(c))
            .count();
        Ok(PathGlob {
            text: text.into(),
            glob,
            version,
            literals,
        })
    }

    /// Its last component.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }

    fn version_in(&self, path: &str) -> Option<Arc<str>> {
        self.version.as_ref()?.read(path)
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl VersionPlace {
    fn find(glob: &str) -> Result<Option<VersionPlace>, String> {
        let Some((before, after)) = glob.split_once(VERSION) else {
            return Ok(None);
        };
        let start = before.rfind('/').map_or(0, |slash| slash + 1);
        let end = after.find('/').unwrap_or(after.len());
        let (before, after, below) = (&before[start..], &after[..end], &after[end..]);
        let wild = |text: &str| text.contains(['*', '?', '[', '{']);
        if wild(before) || wild(after) || below.contains("**") || below.contains(VERSION) {
            return Err(format!(
                "leaves open what is the version; write `{VERSION}` once, with no wildcard in its \
                 path component and no `**` after it"
            ));
        }
        let from_end = below.matches('/').count();
        Ok(Some(VersionPlace {
            from_end,
            before: before.into(),
            after: after.into(),
        }))
    }

    /// `None` unless it looks like a version: a digit first, then what versions are written with.
    fn read(&self, path: &str) -> Option<Arc<str>> {
        let component = path.rsplit('/').nth(self.from_end)?;
        let text = component
            .strip_prefix(&*self.before)?
            .strip_suffix(&*self.after)?;
        let usual =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'_');
        let looks_like_one = text.len() <= VERSION_BYTES_MAX
            && text.starts_with(|first: char| first.is_ascii_digit())
            && text.bytes().all(usual);
        looks_like_one.then(|| text.into())
    }
}

/// Globs, each with what it stands for, matched against a path all at once.
#[derive(Clone, Debug)]
pub(super) struct PathTable<T> {
    set: GlobSet,
    entries: Vec<(PathGlob, T)>,
}

/// The best glob for a path.
pub(super) struct PathMatch<'a, T> {
    pub(super) glob: &'a PathGlob,
    pub(super) value: &'a T,
    pub(super) version: Option<Arc<str>>,
}

impl<T> PathTable<T> {
    /// # Errors
    ///
    /// All globs together are more than can be compiled.
    pub(super) fn new(entries: Vec<(PathGlob, T)>) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for (glob, _) in &entries {
            set.add(glob.glob.clone());
        }
        Ok(PathTable {
            set: set.build()?,
            entries,
        })
    }

    /// The glob with the most literal characters; of equals the first.
    pub(super) fn find(&self, path: &str) -> Option<PathMatch<'_, T>> {
        let matches = self.set.matches(path);
        let best = matches.iter().map(|&place| &self.entries[place]);
        let (glob, value) = best.rev().max_by_key(|(glob, _)| glob.literals)?;
        Some(PathMatch {
            glob,
            value,
            version: glob.version_in(path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(globs: &[&str], path: &str, expect: Option<(&str, Option<&str>)>) {
        let entries = globs
            .iter()
            .map(|text| (PathGlob::parse(text).unwrap(), ()))
            .collect();
        let table = PathTable::new(entries).unwrap();
        let found = table.find(path);
        let found = found
            .as_ref()
            .map(|found| (&*found.glob.text, found.version.as_deref()));
        assert_eq!(found, expect);
    }

    #[test]
    fn a_star_stays_inside_one_component() {
        let glob = "**/.local/share/claude/versions/*";
        check(
            &[glob],
            "/home/u/.local/share/claude/versions/2.1.328",
            Some((glob, None)),
        );
        check(
            &[glob],
            "/home/u/.local/share/claude/versions/2.1.328/x",
            None,
        );
        check(
            &[glob],
            "…/.local/share/claude/versions/2.1.328",
            Some((glob, None)),
        );
        check(
            &["/opt/Qoder/**"],
            "/opt/Qoder/a/b",
            Some(("/opt/Qoder/**", None)),
        );
        check(&["/opt/Qoder/**"], "/srv/opt/Qoder/a", None);
    }

    #[test]
    fn the_glob_that_says_most_wins() {
        let globs = [
            "**/.vscode-server/**",
            "**/extensions/anthropic.claude-code-*/native/claude",
        ];
        let path = "/home/u/.vscode-server/extensions/anthropic.claude-code-2.1/native/claude";
        check(&globs, path, Some((globs[1], None)));
        check(
            &globs,
            "/home/u/.vscode-server/bin/x/node",
            Some((globs[0], None)),
        );
        check(
            &["**/a/?.js", "**/?/a.js"],
            "/a/a.js",
            Some(("**/a/?.js", None)),
        );
        check(
            &["**/?/a.js", "**/a/?.js"],
            "/a/a.js",
            Some(("**/?/a.js", None)),
        );
    }

    #[test]
    fn the_version_is_read_off_the_path() {
        #[track_caller]
        fn version(glob: &str, path: &str, expect: Option<&str>) {
            check(&[glob], path, Some((glob, expect)));
        }
        version(
            "**/versions/{version}",
            "/u/versions/2.1.328",
            Some("2.1.328"),
        );
        version("**/versions/{version}", "/u/versions/current", None);
        version("**/versions/{version}", "/u/versions/2 1", None);
        version(
            "**/versions/{version}",
            &format!("/u/versions/{}", "1".repeat(49)),
            None,
        );
        version(
            "**/bin/qodercli-{version}",
            "/u/bin/qodercli-0.1.47",
            Some("0.1.47"),
        );
        version(
            "**/versions/{version}/*/node",
            "/u/versions/2025.10.02-ab/x/node",
            Some("2025.10.02-ab"),
        );
    }

    #[test]
    fn what_is_no_useful_glob_is_refused() {
        #[track_caller]
        fn refuse(text: &str, expect: &str) {
            let refused = PathGlob::parse(text).unwrap_err();
            assert!(refused.starts_with(expect), "{refused}");
        }
        refuse("claude", "has no start; begin it with `/`");
        refuse("*/claude", "has no start");
        refuse("/opt/[a", "cannot be read: unclosed character class");
        refuse("**/node", "matches /usr/bin/node, which is no tool's own");
        refuse("/**", "matches /usr/bin/node");
        refuse("**/bin/*", "matches /usr/bin/node");
        refuse("/v/{version}/{version}", "leaves open what is the version");
        refuse("/v/{version}*/x", "leaves open");
        refuse("/v/{version}/**", "leaves open");
    }
}

//! Versions of tools, and ranges of them.
//!
//! In: texts such as `2.1.328` from catalog files and paths. Out: [`Version`]s that compare,
//! [`VersionRange`]s that contain.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// More numbers than any known tool's version has.
const NUMBERS_MAX: usize = 6;

/// Numbers with dots between, and a suffix that does not count: `2.1.328`, `0.225.2-beta`.
/// Missing numbers are zeros: `2.1` equals `2.1.0`.
#[derive(Clone, Debug)]
pub struct Version {
    numbers: [u64; NUMBERS_MAX],
    text: Arc<str>,
}

impl Version {
    /// The version that `text` writes; `None` if it writes none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Version> {
        let counted = text.split(['-', '+']).next().unwrap_or_default();
        let mut numbers = [0; NUMBERS_MAX];
        for (place, part) in counted.split('.').enumerate() {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            *numbers.get_mut(place)? = part.parse().ok().filter(|_| digits)?;
        }
        Some(Version {
            numbers,
            text: text.into(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.numbers == other.numbers
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers)
    }
}

/// The versions from `since` on and before `until`. A missing end is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionRange {
    /// The first version in the range.
    pub since: Option<Version>,
    /// The first version after the range.
    pub until: Option<Version>,
}

impl VersionRange {
    /// Whether `version` is in the range. An unknown version may be any, so it is in every range.
    #[must_use]
    pub fn contains(&self, version: Option<&Version>) -> bool {
        let Some(version) = version else { return true };
        self.since.as_ref().is_none_or(|since| since <= version)
            && self.until.as_ref().is_none_or(|until| version < until)
    }

    /// No version is in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!((&self.since, &self.until), (Some(since), Some(until)) if since >= until)
    }

    /// Some version is in both ranges.
    #[must_use]
    pub fn overlaps(&self, other: &VersionRange) -> bool {
        let since = self.since.as_ref().max(other.since.as_ref());
        let untils = [self.until.as_ref(), other.until.as_ref()];
        let until = untils.into_iter().flatten().min();
        !matches!((since, until), (Some(since), Some(until)) if since >= until)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.since, &self.until) {
            (None, None) => f.write_str("all versions"),
            (Some(since), None) => write!(f, "from {since}"),
            (None, Some(until)) => write!(f, "before {until}"),
            (Some(since), Some(until)) => write!(f, "from {since}, before {until}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(since: &str, until: &str) -> VersionRange {
        VersionRange {
            since: Version::parse(since),
            until: Version::parse(until),
        }
    }

    #[test]
    fn versions_compare_by_number() {
        #[track_caller]
        fn check(left: &str, expect: Ordering, right: &str) {
            assert_eq!(
                Version::parse(left)
                    .unwrap()
                    .cmp(&Version::parse(right).unwrap()),
                expect
            );
        }
        check("2.1.90", Ordering::Less, "2.1.328");
        check("2.1", Ordering::Equal, "2.1.0");
        check("3110.7.0", Ordering::Greater, "3110.6.9");
        check("0.0.1790142911-g7618fb", Ordering::Equal, "0.0.1790142911");
        check("10.0", Ordering::Greater, "9.9.9");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            "v2",
            "2..1",
            "2.1.x",
            "latest",
            "+1",
            "1.2.3.4.5.6.7",
            "2.99999999999999999999",
        ] {
            assert!(Version::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_range_holds_its_start_and_not_its_end() {
        #[track_caller]
        fn check(since: &str, until: &str, version: Option<&str>, expect: bool) {
            let version = version.map(|text| Version::parse(text).unwrap());
            assert_eq!(range(since, until).contains(version.as_ref()), expect);
        }
        check("2.1.91", "2.1.198", Some("2.1.91"), true);
        check("2.1.91", "2.1.198", Some("2.1.197"), true);
        check("2.1.91", "2.1.198", Some("2.1.198"), false);
        check("2.1.91", "2.1.198", Some("2.1.90"), false);
        check("", "2.1.90", Some("0.1"), true);
        check("2.1.198", "", Some("3"), true);
        check("2.1.91", "2.1.198", None, true);
    }

    #[test]
    fn ranges_overlap_or_are_empty() {
        assert!(range("1", "3").overlaps(&range("2", "4")));
        assert!(!range("1", "2").overlaps(&range("2", "4")));
        assert!(range("", "").overlaps(&range("2", "4")));
        assert!(range("", "3").overlaps(&range("2", "")));
        assert!(!range("3", "").overlaps(&range("", "3")));
        assert!(range("2", "2").is_empty());
        assert!(!range("2", "2.0.1").is_empty());
    }
}

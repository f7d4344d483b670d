//! Where cgroup v2 is mounted: programs attach to the root of that tree.
//!
//! In: `/proc/self/mountinfo`. Out: [`Cgroup2Mount`]s, the best first.
//! Hybrid hosts mount it beside v1 (`/sys/fs/cgroup/unified`), containers often below a root of
//! their own; so it is looked up, never assumed.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, PathBuf};

use super::{HostError, HostRoot};

/// Longest `mountinfo`: about 300 bytes per mount, on a host with tens of thousands of them.
const MOUNTINFO_BYTES_MAX: usize = 16 << 20;

/// One mount of a cgroup-v2 tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup2Mount {
    /// Where it is mounted.
    pub path: PathBuf,
    /// The folder of the tree that shows there; `/` is the root of this cgroup namespace, and
    /// `/..` the one above it: a container that is given the host's tree sees that.
    pub root: PathBuf,
}

impl Cgroup2Mount {
    /// It shows the whole tree, as far as this cgroup namespace tells, not one folder of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let mut parts = self.root.components();
        parts.all(|part| matches!(part, Component::RootDir | Component::ParentDir))
    }

    /// How far up it goes.
    fn height(&self) -> usize {
        self.root.components().count()
    }
}

impl HostRoot {
    /// The cgroup-v2 mounts of this mount namespace: whole trees first, of these the one that goes
    /// up farthest, else in mount order.
    /// Empty if there is none. A mount that another one covers at the same path is left out.
    ///
    /// # Errors
    ///
    /// [`HostError`] if `/proc` is not mounted.
    pub fn cgroup2_mounts(&self) -> Result<Vec<Cgroup2Mount>, HostError> {
        let mountinfo = self.read("proc/self/mountinfo", MOUNTINFO_BYTES_MAX)?;
        let mut found: Vec<Cgroup2Mount> = Vec::new();
        for line in mountinfo.split(|&byte| byte == b'\n') {
            let Some((mount, file_system)) = parse_line(line) else {
                continue;
            };
            found.retain(|earlier| earlier.path != mount.path);
            if file_system == b"cgroup2" {
                found.push(mount);
            }
        }
        found.sort_by_key(|mount| (!mount.is_whole(), Reverse(mount.height())));
        Ok(found)
    }
}

/// Mount and file system type of one line, as proc(5) lays it out:
/// `36 35 98:0 /root /mount/point rw,noatime master:1 - type source options`, where any number
/// of optional fields precedes the hyphen.
fn parse_line(line: &[u8]) -> Option<(Cgroup2Mount, &[u8])> {
    let mut fields = line.split(|&byte| byte == b' ');
    let root = unescape(fields.nth(3)?);
    let path = unescape(fields.next()?);
    let file_system = fields.skip_while(|&field| field != b"-").nth(1)?;
    Some((Cgroup2Mount { path, root }, file_system))
}

/// Decodes `\040` and the like: the kernel writes space, tab, newline and backslash in octal.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = match (first, octal(tail)) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                tail.get(3..).unwrap_or_default()
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The byte that three octal digits at the front stand for.
fn octal(bytes: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(bytes.get(..3)?).ok()?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::root;

    #[track_caller]
    fn check(mountinfo: &str, expect: &[(&str, &str)]) {
        let (_folder, root) = root(&[("proc/self/mountinfo", mountinfo.as_bytes())]);
        let found = root.cgroup2_mounts().unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|mount| (mount.path.to_str().unwrap(), mount.root.to_str().unwrap()))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn unified_host() {
        check(
            "22 27 0:21 / /proc rw,nosuid shared:13 - proc proc rw\n\
             29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
            &[("/sys/fs/cgroup", "/")],
        );
    }

    #[test]
    fn hybrid_host_without_optional_fields() {
        check(
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
            &[("/sys/fs/cgroup/unified", "/")],
        );
    }

    #[test]
    fn whole_tree_comes_before_a_folder_of_it() {
        check(
            "50 31 0:38 /user.slice /srv/part rw shared:1 master:2 - cgroup2 cgroup2 rw\n\
             51 31 0:38 / /srv/whole rw - cgroup2 cgroup2 rw\n\
             52 31 0:38 / /srv/again rw - cgroup2 cgroup2 rw\n",
            &[
                ("/srv/whole", "/"),
                ("/srv/again", "/"),
                ("/srv/part", "/user.slice"),
            ],
        );
    }

    #[test]
    fn a_container_that_is_given_the_hosts_tree_sees_it_above_its_own() {
        check(
            "50 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n\
             51 31 0:38 /../../.. /host/cgroup rw - cgroup2 cgroup2 rw\n\
             52 31 0:38 /../x /srv/part rw - cgroup2 cgroup2 rw\n",
            &[
                ("/host/cgroup", "/../../.."),
                ("/sys/fs/cgroup", "/"),
                ("/srv/part", "/../x"),
            ],
        );
    }

    #[test]
    fn octal_escapes_are_decoded() {
        check(
            "50 31 0:38 /a\\134b /srv/with\\040space\\011tab rw - cgroup2 cgroup2 rw\n",
            &[("/srv/with space\ttab", "/a\\b")],
        );
        check(
            "50 31 0:38 / /odd\\04 rw - cgroup2 cgroup2 rw\n",
            &[("/odd\\04", "/")],
        );
        check(
            "50 31 0:38 / /big\\777 rw - cgroup2 cgroup2 rw\n",
            &[("/big\\777", "/")],
        );
    }

    #[test]
    fn covered_mounts_are_left_out() {
        check(
            "50 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
             51 50 0:39 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n",
            &[],
        );
    }

    #[test]
    fn a_mount_point_called_like_the_type_is_no_match() {
        check("50 31 0:38 / /cgroup2 rw - ext4 cgroup2 rw\n", &[]);
    }

    #[test]
    fn cut_lines_are_skipped() {
        check(
            "50 31 0:38 / /a rw - cgroup2 cgroup2 rw\n51 31 0:38 /\n\n-\n",
            &[("/a", "/")],
        );
        check("50 31 0:38 / /a rw shared:1 -", &[]);
    }
}

//! Where a process runs: its cgroup, and what the path of that tells of container, Kubernetes pod
//! and systemd unit.
//!
//! In: cgroups with their paths as the host's root sees them, and what the host knows of single
//! containers. Out: a [`Place`] for a cgroup's id.
//!
//! A path is made by whoever may make cgroups, which is root, or a user below the folder that
//! systemd gave to it: names there are what they are called, not proof of what they are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::event::{BootNs, CgroupId};

/// Cgroups that are remembered: some times those of a large host. A path and what follows from it
/// take about 0.5 kB.
const PLACES_MAX: usize = 8_192;

/// The root of the hierarchy, whose id is fixed: the first inode of its file system.
const ROOT: CgroupId = CgroupId(1);

/// Hexadecimal digits of a container's id: SHA-256, as Docker began it and the others follow.
const ID_DIGITS: usize = 64;

/// Characters of the id that `BuildKit` gives to a step of an image build.
const BUILD_STEP_DIGITS: usize = 25;

/// Where a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path of the cgroup from the root of the hierarchy on, whatever cgroup namespace the
    /// process is in.
    pub path: Arc<str>,
    /// The systemd unit.
    pub unit: Option<Unit>,
    /// The container.
    pub container: Option<Container>,
    /// The Kubernetes pod.
    pub pod: Option<Pod>,
}

/// A systemd unit: the innermost `.service` or `.scope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name, escaped as `systemctl` takes it.
    pub name: Arc<str>,
    /// The slice that it is in.
    pub slice: Option<Arc<str>>,
    /// The user whose own systemd runs it.
    pub user: Option<u32>,
}

/// A container: the innermost one that the path shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits; of systemd-nspawn and LXC, the name.
    pub id: Arc<str>,
    /// What runs it; `None` if neither the path nor the host tells.
    pub runtime: Option<Arc<str>>,
    /// Its name.
    pub name: Option<Arc<str>>,
    /// The image that it was made from, as it was called then.
    pub image: Option<Arc<str>>,
}

/// A Kubernetes pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its uid.
    pub uid: Option<Arc<str>>,
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Its namespace.
    pub namespace: Option<Arc<str>>,
}

impl Place {
    /// What a path says.
    #[must_use]
    pub fn at(path: &str) -> Place {
        let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
        Place {
            path: path.into(),
            unit: unit(&steps),
            container: container(&steps),
            pod: steps.iter().rev().find_map(|step| pod(step)),
        }
    }

    /// The same with what the host says of its container, by the names of [`Fact`].
    #[must_use]
    pub fn with(&self, facts: &[(String, String)]) -> Place {
        let mut place = self.clone();
        let Some(container) = &mut place.container else {
            return place;
        };
        let mut pod = place.pod.take().unwrap_or_default();
        for (name, value) in facts {
            let field = match Fact::of(name) {
                Some(Fact::Runtime) => &mut container.runtime,
                Some(Fact::Name) => &mut container.name,
                Some(Fact::Image) => &mut container.image,
                Some(Fact::PodUid) => &mut pod.uid,
                Some(Fact::PodName) => &mut pod.name,
                Some(Fact::PodNamespace) => &mut pod.namespace,
                None => continue,
            };
            *field = Some(value.as_str().into());
        }
        place.pod = (pod != Pod::default()).then_some(pod);
        place
    }
}

/// What the host may say of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// [`Container::runtime`].
    Runtime,
    /// [`Container::name`].
    Name,
    /// [`Container::image`].
    Image,
    /// [`Pod::uid`].
    PodUid,
    /// [`Pod::name`].
    PodName,
    /// [`Pod::namespace`].
    PodNamespace,
}

impl Fact {
    const ALL: [Fact; 6] = [
        Fact::Runtime,
        Fact::Name,
        Fact::Image,
        Fact::PodUid,
        Fact::PodName,
        Fact::PodNamespace,
    ];

    /// Name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fact::Runtime => "runtime",
            Fact::Name => "name",
            Fact::Image => "image",
            Fact::PodUid => "pod_uid",
            Fact::PodName => "pod_name",
            Fact::PodNamespace => "pod_namespace",
        }
    }

    fn of(name: &str) -> Option<Fact> {
        Fact::ALL.into_iter().find(|fact| fact.name() == name)
    }
}

/// `docker web-1 (nginx:1)`; by its id if it has no name.
impl fmt::Display for Container {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(runtime) = &self.runtime {
            write!(text, "{runtime} ")?;
        }
        text.write_str(self.name.as_ref().unwrap_or(&self.id))?;
        match &self.image {
            Some(image) => write!(text, " ({image})"),
            None => Ok(()),
        }
    }
}

/// `ci/job-7`; by its uid if its name is unknown.
impl fmt::Display for Pod {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(text, "{namespace}/")?;
        }
        let name = self.name.as_ref().or(self.uid.as_ref());
        text.write_str(name.map_or("", |name| name))
    }
}

/// The innermost unit, and in which slice and whose systemd it is.
fn unit(steps: &[&str]) -> Option<Unit> {
    let is_unit = |step: &&str| step.ends_with(".service") || step.ends_with(".scope");
    let last = steps.iter().rposition(is_unit)?;
    let (above, rest) = steps.split_at(last);
    let slice = above.iter().rfind(|step| step.ends_with(".slice"));
    let user = above.iter().find_map(|step| {
        let uid = step.strip_prefix("user@")?.strip_suffix(".service")?;
        uid.parse().ok()
    });
    Some(Unit {
        name: (*rest.first()?).into(),
        slice: slice.map(|slice| (*slice).into()),
        user,
    })
}

/// The innermost container.
fn container(steps: &[&str]) -> Option<Container> {
    let found = (0..steps.len()).rev().find_map(|at| {
        let above = steps.get(..at).unwrap_or_default();
        container_at(above, steps.get(at)?)
    });
    found.map(|(id, runtime)| Container {
        id: id.as_str().into(),
        runtime: runtime.map(Into::into),
        name: None,
        image: None,
    })
}

/// Id and runtime of the container whose folder `step` is, below `above`.
fn container_at(above: &[&str], step: &str) -> Option<(String, Option<&'static str>)> {
    /// What precedes an id, with and without systemd. The monitors of containers, `libpod-conmon-`
    /// and `crio-conmon-`, are not in them.
    const PREFIXES: [(&str, &str); 7] = [
        ("docker-", "docker"),
        ("libpod-payload-", "podman"),
        ("libpod-", "podman"),
        ("crio-", "cri-o"),
        ("cri-containerd-", "containerd"),
        ("nerdctl-", "containerd"),
        ("containerd-", "containerd"),
    ];
    let parent = above.last().copied().unwrap_or_default();
    let name = step.strip_suffix(".scope").unwrap_or(step);
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = name.strip_prefix(prefix).filter(|id| is_id(id)) {
            return Some((id.to_owned(), Some(runtime)));
        }
    }
    if is_id(step) {
        let runtime = match parent {
            "docker" => Some("docker"),
            "libpod_parent" => Some("podman"),
            _ => None,
        };
        return Some((step.to_owned(), runtime));
    }
    if parent == "buildkit" && is_build_step(step) {
        return Some((step.to_owned(), Some("buildkit")));
    }
    named_container(parent, step, name)
}

/// A container that is called by a name: `name` is `step` without `.scope`.
fn named_container(parent: &str, step: &str, name: &str) -> Option<(String, Option<&'static str>)> {
    let is_scope = name.len() < step.len();
    let nspawn = step
        .strip_prefix("systemd-nspawn@")
        .and_then(|rest| rest.strip_suffix(".service"));
    if let Some(machine) = nspawn {
        return Some((unescaped(machine), Some("systemd-nspawn")));
    }
    if let Some(machine) = name.strip_prefix("machine-").filter(|_| is_scope) {
        let machine = unescaped(machine);
        return match libvirt_name(&machine) {
            None => Some((machine, Some("systemd-nspawn"))),
            Some(("lxc", name)) => Some((name.to_owned(), Some("libvirt-lxc"))),
            Some(_) => None, // A virtual machine: what runs here is the emulator.
        };
    }
    for (prefix, runtime) in [("runc-", "runc"), ("crun-", "crun")] {
        if let Some(id) = name
            .strip_prefix(prefix)
            .filter(|id| is_scope && !id.is_empty())
        {
            return Some((unescaped(id), Some(runtime)));
        }
    }
    let lxc = match step.strip_prefix("lxc.payload.") {
        Some(name) => Some(name),
        None => matches!(parent, "lxc" | "lxc.payload").then_some(step),
    };
    lxc.map(|name| (name.to_owned(), Some("lxc")))
}

/// Driver and name in libvirt's `qemu-3-web` and `lxc-4-web`.
fn libvirt_name(machine: &str) -> Option<(&str, &str)> {
    let (driver, rest) = machine.split_once('-')?;
    let (number, name) = rest.split_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && matches!(driver, "qemu" | "lxc" | "ch")).then_some((driver, name))
}

fn is_id(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == ID_DIGITS && text.bytes().all(is_digit)
}

fn is_build_step(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z');
    text.len() == BUILD_STEP_DIGITS && text.bytes().all(is_digit)
}

/// The pod whose folder `step` is: `pod<uid>`, or with systemd
/// `kubepods-burstable-pod<uid, _ for ->.slice`.
fn pod(step: &str) -> Option<Pod> {
    let uid = match step.strip_suffix(".slice") {
        Some(slice) => {
            let (above, uid) = slice.rsplit_once("-pod")?;
            above.contains("kubepods").then(|| uid.replace('_', "-"))?
        }
        None => step.strip_prefix("pod")?.to_owned(),
    };
    // A pod from a file of the node has a digest for its uid: 32 digits without hyphens.
    let is_uid = matches!(uid.len(), 32 | 36)
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then(|| Pod {
        uid: Some(uid.as_str().into()),
        ..Pod::default()
    })
}

/// `my\x2dbox` → `my-box`, as `systemd-escape --unescape` does it, but for `/`, which no name has.
fn unescaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("\\x") {
        let (before, escape) = rest.split_at(at);
        let code = escape
            .get(2..4)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        text.push_str(before);
        rest = match code.filter(u8::is_ascii_graphic) {
            Some(byte) => {
                text.push(char::from(byte));
                escape.get(4..).unwrap_or_default()
            }
            None => {
                text.push_str("\\x");
                escape.get(2..).unwrap_or_default()
            }
        };
    }
    text.push_str(rest);
    text
}

/// The places of all cgroups in which processes were met lately.
#[derive(Debug)]
pub struct Places {
    capacity: usize,
    known: BTreeMap<CgroupId, Known>,
}

#[derive(Debug)]
struct Known {
    /// `None`: it was looked for and not found.
    place: Option<Arc<Place>>,
    /// The host was asked about its container, or it is none.
    told: bool,
    /// When a process was last met there.
    met: BootNs,
}

impl Places {
    /// Knows the root alone.
    #[must_use]
    pub fn new() -> Self {
        Places::with_capacity(PLACES_MAX)
    }

    fn with_capacity(capacity: usize) -> Self {
        let mut places = Places {
            capacity,
            known: BTreeMap::new(),
        };
        places.made(ROOT, Some("/"), BootNs(0));
        places
    }

    /// A cgroup has this path, or (`None`) is not to be found. Returns how many others were
    /// forgotten for it.
    pub fn made(&mut self, cgroup: CgroupId, path: Option<&str>, now: BootNs) -> usize {
        let forgotten = self.make_room(cgroup);
        let place = path.map(|path| Arc::new(Place::at(path)));
        let is_container = place
            .as_ref()
            .is_some_and(|place| place.container.is_some());
        let known = Known {
            place,
            told: !is_container,
            met: now,
        };
        self.known.insert(cgroup, known);
        forgotten
    }

    /// The host was asked about a cgroup's container. Returns its place if that is another now.
    pub fn told(&mut self, cgroup: CgroupId, facts: &[(String, String)]) -> Option<Arc<Place>> {
        let known = self.known.get_mut(&cgroup)?;
        known.told = true;
        let place = known.place.as_mut()?;
        let new = place.with(facts);
        if new == **place {
            return None;
        }
        *place = Arc::new(new);
        Some(Arc::clone(place))
    }

    /// Where a process is that was met in this cgroup.
    pub fn meet(&mut self, cgroup: CgroupId, now: BootNs) -> Option<Arc<Place>> {
        let known = self.known.get_mut(&cgroup)?;
        known.met = now;
        known.place.clone()
    }

    /// Whether a cgroup is to be looked for.
    #[must_use]
    pub fn is_unknown(&self, cgroup: CgroupId) -> bool {
        cgroup != CgroupId(0) && !self.known.contains_key(&cgroup)
    }

    /// The place whose container the host is to be asked about. It is not named again.
    pub fn to_ask(&mut self, cgroup: CgroupId) -> Option<Arc<Place>> {
        let known = self.known.get_mut(&cgroup)?;
        if std::mem::replace(&mut known.told, true) {
            return None;
        }
        known.place.clone()
    }

    /// Number of cgroups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known; the root always is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets the eighth in which no process was met for longest: seldom, as it looks at all.
    fn make_room(&mut self, cgroup: CgroupId) -> usize {
        if self.known.len() < self.capacity || self.known.contains_key(&cgroup) {
            return 0;
        }
        let others = self.known.iter().filter(|(id, _)| **id != ROOT);
        let mut oldest: Vec<_> = others.map(|(id, known)| (known.met, *id)).collect();
        oldest.sort_unstable();
        oldest.truncate(self.capacity / 8 + 1);
        for (_, id) in &oldest {
            self.known.remove(id);
        }
        oldest.len()
    }
}

impl Default for Places {
    fn default() -> Self {
        Places::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::at;

    const ID: &str = "9f3c1e0b7a52d4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f";

    /// `RUNTIME ID`, with the id of the tests cut short.
    #[track_caller]
    fn check_container(path: &str, expect: &str) {
        let path = path.replace("<id>", ID);
        let container = Place::at(&path).container;
        let said = container.map_or_else(String::new, |container| {
            let runtime = container.runtime.as_deref().unwrap_or("?");
            format!("{runtime} {}", container.id.replace(ID, "<id>"))
        });
        assert_eq!(said, expect, "{path}");
    }

    #[test]
    fn containers_of_docker_and_podman() {
        check_container("/system.slice/docker-<id>.scope", "docker <id>");
        check_container("/docker/<id>", "docker <id>");
        check_container("/actions_job/<id>", "? <id>");
        check_container(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-<id>.scope",
            "docker <id>",
        );
        check_container(
            "/docker/buildkit/k8r2mgyj3v6f0n1x9c4w7q5zt",
            "buildkit k8r2mgyj3v6f0n1x9c4w7q5zt",
        );
        check_container("/docker/buildkit/short", "");
        check_container("/machine.slice/libpod-<id>.scope", "podman <id>");
        check_container("/machine.slice/libpod-<id>.scope/container", "podman <id>");
        check_container("/libpod_parent/libpod-<id>", "podman <id>");
        check_container(
            "/system.slice/web.service/libpod-payload-<id>",
            "podman <id>",
        );
        check_container(
            "/machine.slice/machine-libpod_pod_<id>.slice/libpod-<id>.scope",
            "podman <id>",
        );
        check_container(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<id>.scope/container",
            "podman <id>",
        );
        check_container("/machine.slice/libpod-conmon-<id>.scope", "");
        check_container("/libpod_parent/conmon", "");
    }

    #[test]
    fn containers_of_kubernetes() {
        let burstable = "/kubepods.slice/kubepods-burstable.slice/\
             kubepods-burstable-pod11111111_2222_3333_4444_555555555555.slice";
        check_container(
            &format!("{burstable}/cri-containerd-<id>.scope"),
            "containerd <id>",
        );
        check_container(&format!("{burstable}/crio-<id>.scope"), "cri-o <id>");
        check_container(
            &format!("{burstable}/crio-<id>.scope/container"),
            "cri-o <id>",
        );
        check_container(&format!("{burstable}/crio-conmon-<id>.scope"), "");
        check_container(&format!("{burstable}/docker-<id>.scope"), "docker <id>");
        let group = "/kubepods/besteffort/pod11111111-2222-3333-4444-555555555555";
        check_container(&format!("{group}/<id>"), "? <id>");
        check_container(&format!("{group}/crio-<id>"), "cri-o <id>");
        // A cluster whose nodes are containers: the pod's own container counts.
        check_container(
            &format!(
                "/docker/{}/kubelet{group}/cri-containerd-<id>.scope",
                "a".repeat(64)
            ),
            "containerd <id>",
        );
    }

    #[test]
    fn containers_that_have_names() {
        check_container(
            "/machine.slice/systemd-nspawn@build\\x2d1.service/payload/init.scope",
            "systemd-nspawn build-1",
        );
        check_container(
            "/machine.slice/machine-build\\x2d1.scope/payload",
            "systemd-nspawn build-1",
        );
        check_container(
            "/machine.slice/machine-qemu\\x2d3\\x2dweb.scope/libvirt/emulator",
            "",
        );
        check_container(
            "/machine.slice/machine-lxc\\x2d4\\x2dweb.scope",
            "libvirt-lxc web",
        );
        check_container("/lxc.payload.web/system.slice/ssh.service", "lxc web");
        check_container("/lxc.payload/web", "lxc web");
        check_container("/lxc/web/init.scope", "lxc web");
        check_container("/lxc.monitor.web", "");
        check_container("/user.slice/runc-job\\x2d7.scope", "runc job-7");
        check_container("/crun-job7.scope", "crun job7");
        check_container("/system.slice/nerdctl-<id>.scope", "containerd <id>");
        check_container("/default/<id>", "? <id>");
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for path in [
            "/",
            "",
            "/system.slice/docker.service",
            "/system.slice/docker-.scope",
            "/system.slice/docker-9f3c1e0b7a52.scope",
            "/system.slice/machine-x.service",
            "/user.slice/user-1000.slice/session-2.scope",
            "/runc-x",
        ] {
            check_container(path, "");
        }
        check_container(&format!("/docker/{}", "G".repeat(64)), "");
    }

    #[track_caller]
    fn check_unit(path: &str, expect: Option<(&str, Option<&str>, Option<u32>)>) {
        let unit = Place::at(path).unit;
        let said = unit
            .as_ref()
            .map(|unit| (&*unit.name, unit.slice.as_deref(), unit.user));
        assert_eq!(said, expect, "{path}");
    }

    #[test]
    fn the_unit_is_the_innermost() {
        let runner = Some(("gitlab-runner.service", Some("system.slice"), None));
        check_unit("/system.slice/gitlab-runner.service", runner);
        check_unit("/system.slice/gitlab-runner.service/jobs/7", runner);
        check_unit("/init.scope", Some(("init.scope", None, None)));
        check_unit(
            "/user.slice/user-1000.slice/session-2.scope",
            Some(("session-2.scope", Some("user-1000.slice"), None)),
        );
        check_unit(
            "/user.slice/user-1000.slice/user@1000.service/app.slice/run-r7.scope",
            Some(("run-r7.scope", Some("app.slice"), Some(1000))),
        );
        check_unit(
            "/machine.slice/systemd-nspawn@a.service/payload/system.slice/cron.service",
            Some(("cron.service", Some("system.slice"), None)),
        );
        check_unit("/kubepods/besteffort", None);
        check_unit("/system.slice", None);
    }

    #[track_caller]
    fn check_pod(path: &str, expect: Option<&str>) {
        let pod = Place::at(path).pod;
        assert_eq!(pod.and_then(|pod| pod.uid).as_deref(), expect, "{path}");
    }

    #[test]
    fn the_pod_is_in_the_path() {
        let uid = Some("11111111-2222-3333-4444-555555555555");
        check_pod(
            "/kubepods.slice/kubepods-pod11111111_2222_3333_4444_555555555555.slice/x.scope",
            uid,
        );
        check_pod("/kubepods/pod11111111-2222-3333-4444-555555555555/x", uid);
        check_pod(
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
             kubelet-kubepods-besteffort-pod11111111_2222_3333_4444_555555555555.slice",
            uid,
        );
        let digest = "0123456789abcdef0123456789abcdef";
        check_pod(&format!("/kubepods/burstable/pod{digest}"), Some(digest));
        check_pod("/kubepods/podium", None);
        check_pod(
            "/x.slice/x-pod11111111_2222_3333_4444_555555555555.slice",
            None,
        );
    }

    #[test]
    fn escapes_that_are_none_stay() {
        for (name, expect) in [
            ("a\\x2db", "a-b"),
            ("\\x41\\x42", "AB"),
            ("a\\x", "a\\x"),
            ("a\\x2", "a\\x2"),
            ("a\\xzz", "a\\xzz"),
            ("a\\x00", "a\\x00"),
            ("\\xé1", "\\xé1"),
        ] {
            assert_eq!(unescaped(name), expect);
        }
    }

    fn facts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn what_the_host_says_is_added() {
        let path = format!("/kubepods/besteffort/pod11111111-2222-3333-4444-555555555555/{ID}");
        let place = Place::at(&path).with(&facts(&[
            ("runtime", "containerd"),
            ("name", "step-build"),
            ("image", "example/build:1"),
            ("pod_name", "job-7-abcde"),
            ("pod_namespace", "ci"),
            ("other", "ignored"),
        ]));
        let container = place.container.unwrap();
        assert_eq!(container.runtime.as_deref(), Some("containerd"));
        assert_eq!(container.name.as_deref(), Some("step-build"));
        assert_eq!(container.image.as_deref(), Some("example/build:1"));
        let pod = place.pod.unwrap();
        assert_eq!(
            pod.uid.as_deref(),
            Some("11111111-2222-3333-4444-555555555555")
        );
        assert_eq!(
            (pod.name.as_deref(), pod.namespace.as_deref()),
            (Some("job-7-abcde"), Some("ci"))
        );
        // What is in no container has no names.
        let outside = Place::at("/system.slice/x.service");
        assert_eq!(outside.with(&facts(&[("name", "x")])), outside);
    }

    #[test]
    fn a_place_is_asked_about_once_and_told_anew_when_more_is_known() {
        let mut places = Places::new();
        let (web, job) = (CgroupId(7), CgroupId(8));
        assert!(!places.is_unknown(ROOT) && !places.is_unknown(CgroupId(0)));
        assert!(places.is_unknown(web));
        places.made(web, Some(&format!("/docker/{ID}")), at(1));
        places.made(job, Some("/system.slice/job.service"), at(1));
        assert!(!places.is_unknown(web));
        assert!(places.to_ask(web).is_some() && places.to_ask(web).is_none());
        assert!(places.to_ask(job).is_none(), "it is no container");
        let before = places.meet(web, at(2)).unwrap();
        assert!(places.told(web, &[]).is_none(), "nothing new");
        let after = places.told(web, &facts(&[("name", "web")])).unwrap();
        assert_eq!(before.container.as_ref().unwrap().name, None);
        assert_eq!(places.meet(web, at(3)), Some(after));
        // What was not found is not looked for again.
        places.made(CgroupId(9), None, at(4));
        assert!(!places.is_unknown(CgroupId(9)) && places.meet(CgroupId(9), at(5)).is_none());
    }

    #[test]
    fn a_full_table_forgets_where_nothing_runs_any_more() {
        let mut places = Places::with_capacity(9);
        for id in 10..18 {
            assert_eq!(places.made(CgroupId(id), Some("/x"), at(id)), 0);
        }
        places.meet(CgroupId(10), at(30));
        assert_eq!(places.made(CgroupId(40), Some("/y"), at(31)), 2);
        assert!(places.is_unknown(CgroupId(11)) && places.is_unknown(CgroupId(12)));
        assert!(!places.is_unknown(CgroupId(10)) && !places.is_unknown(ROOT));
        assert_eq!(places.len(), 8);
        // One that is known needs no room.
        assert_eq!(places.made(CgroupId(40), Some("/z"), at(32)), 0);
    }
}

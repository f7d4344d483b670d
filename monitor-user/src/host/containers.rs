//! What files of the host say of a container: its name, its image, its pod. No daemon is asked.
//!
//! In: a container's id, as its cgroup's path tells it, below an injectable root. Out: facts by the
//! names of [`Fact`]. Each runtime writes its files before it makes the cgroup, so they are there
//! when the container's first program executes:
//!
//! | runtime | file |
//! |---|---|
//! | Docker | `/var/lib/docker/containers/ID/config.v2.json` |
//! | Podman | `/var/lib/containers/storage/DRIVER-containers/containers.json`, `volatile-containers.json` |
//! | CRI-O | `/var/lib/containers/storage/DRIVER-containers/ID/userdata/config.json`, or below `/run` |
//! | containerd | `/run/containerd/io.containerd.runtime.v2.task/NAMESPACE/ID/config.json`, or below `/run/k3s` |
//!
//! These files hold environments and commands as well; nothing but the named fields is taken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::HostRoot;
use super::tree::Tree;
use crate::core::place::Fact;

/// Longest file of one container: with a thousand mounts and variables, some 100 KiB.
const CONTAINER_BYTES_MAX: usize = 1 << 20;
/// Longest list of containers: about 1 KiB each.
const LIST_BYTES_MAX: usize = 8 << 20;
/// Folders looked into, of storage drivers and of containerd's namespaces: some three each.
const FOLDERS_MAX: usize = 16;
/// Bytes of a fact: longer than any name or image that a registry takes.
const FACT_BYTES_MAX: usize = 512;

/// What was found of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Facts and their values; empty if no file tells of it.
    pub facts: Vec<(Fact, String)>,
    /// A file is there and does not hold what it should.
    pub malformed: bool,
}

/// Docker's `config.v2.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerContainer {
    /// `/web`.
    name: String,
    config: DockerConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    /// As it was asked for: `nginx:1`.
    image: String,
    labels: Option<BTreeMap<String, String>>,
}

/// One of `containers.json`, of containers/storage.
#[derive(Deserialize)]
struct StoredContainer {
    id: String,
    names: Option<Vec<String>>,
    /// JSON in JSON.
    metadata: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct StoredMetadata {
    image_name: String,
    name: String,
}

/// A bundle's `config.json`, of the OCI runtime specification.
#[derive(Deserialize)]
struct Bundle {
    annotations: Option<BTreeMap<String, String>>,
}

/// Annotations of containerd's CRI plugin, of nerdctl and of CRI-O, and Docker's labels of pods.
const ANNOTATIONS: [(&str, Fact); 11] = [
    ("io.kubernetes.cri.container-name", Fact::Name),
    ("io.kubernetes.cri.image-name", Fact::Image),
    ("io.kubernetes.cri.sandbox-uid", Fact::PodUid),
    ("io.kubernetes.cri.sandbox-name", Fact::PodName),
    ("io.kubernetes.cri.sandbox-namespace", Fact::PodNamespace),
    ("nerdctl/name", Fact::Name),
    ("io.kubernetes.container.name", Fact::Name),
    ("io.kubernetes.cri-o.ImageName", Fact::Image),
    ("io.kubernetes.pod.uid", Fact::PodUid),
    ("io.kubernetes.pod.name", Fact::PodName),
    ("io.kubernetes.pod.namespace", Fact::PodNamespace),
];

impl HostRoot {
    /// What the host's files say of the container with this id.
    #[must_use]
    pub fn container(&self, id: &str) -> Found {
        let mut reader = Reader {
            root: self,
            found: Found::default(),
        };
        // An id that is a name may be any: it is no part of a path here.
        if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let known = reader.docker(id) || reader.bundle(id);
            if !known || reader.found.facts.is_empty() {
                reader.stored(id);
            }
        }
        reader.found
    }
}

/// Collects what files say.
struct Reader<'a> {
    root: &'a HostRoot,
    found: Found,
}

impl Reader<'_> {
    /// Whether Docker knows it.
    fn docker(&mut self, id: &str) -> bool {
        let path = format!("var/lib/docker/containers/{id}/config.v2.json");
        let Some(container) = self.read::<DockerContainer>(Path::new(&path), CONTAINER_BYTES_MAX)
        else {
            return false;
        };
        self.tell(Fact::Runtime, "docker");
        self.tell(Fact::Name, container.name.trim_start_matches('/'));
        self.tell(Fact::Image, &container.config.image);
        self.annotations(&container.config.labels.unwrap_or_default());
        true
    }

    /// Whether there is a bundle of it that containerd or CRI-O made.
    fn bundle(&mut self, id: &str) -> bool {
        let containerd = ["run/containerd", "run/k3s/containerd"].map(|state| {
            (
                format!("{state}/io.containerd.runtime.v2.task"),
                "config.json",
            )
        });
        for (folder, file) in containerd {
            for namespace in self.folders(Path::new(&folder), "") {
                // Docker's own, of which Docker says more.
                let is_docker = namespace.ends_with("moby");
                if !is_docker && self.annotated(&namespace.join(id).join(file), "containerd") {
                    return true;
                }
            }
        }
        for storage in ["var/lib/containers/storage", "run/containers/storage"] {
            for folder in self.folders(Path::new(storage), "-containers") {
                let file = folder.join(id).join("userdata/config.json");
                let manager = "io.container.manager";
                let Some(bundle) = self.read::<Bundle>(&file, CONTAINER_BYTES_MAX) else {
                    continue;
                };
                let annotations = bundle.annotations.unwrap_or_default();
                if annotations.get(manager).is_some_and(|name| name == "cri-o") {
                    self.tell(Fact::Runtime, "cri-o");
                    self.annotations(&annotations);
                    return true;
                }
            }
        }
        false
    }

    fn annotated(&mut self, file: &Path, runtime: &str) -> bool {
        let Some(bundle) = self.read::<Bundle>(file, CONTAINER_BYTES_MAX) else {
            return false;
        };
        self.tell(Fact::Runtime, runtime);
        self.annotations(&bundle.annotations.unwrap_or_default());
        true
    }

    /// What Podman's list says.
    fn stored(&mut self, id: &str) {
        for folder in self.folders(Path::new("var/lib/containers/storage"), "-containers") {
            for list in ["containers.json", "volatile-containers.json"] {
                let list = self.read::<Vec<StoredContainer>>(&folder.join(list), LIST_BYTES_MAX);
                let mut list = list.unwrap_or_default().into_iter();
                let Some(container) = list.find(|container| container.id == id) else {
                    continue;
                };
                let metadata = container.metadata.unwrap_or_default();
                let metadata: StoredMetadata = serde_json::from_str(&metadata).unwrap_or_default();
                let first = container.names.unwrap_or_default().into_iter().next();
                self.tell(Fact::Runtime, "podman");
                self.tell(Fact::Name, &first.unwrap_or(metadata.name));
                self.tell(Fact::Image, &metadata.image_name);
                return;
            }
        }
    }

    fn annotations(&mut self, annotations: &BTreeMap<String, String>) {
        for (annotation, fact) in ANNOTATIONS {
            if let Some(value) = annotations.get(annotation) {
                // Docker's own name of a pod's container is longer and says the same.
                self.found.facts.retain(|(known, _)| *known != fact);
                self.tell(fact, value);
            }
        }
    }

    fn tell(&mut self, fact: Fact, value: &str) {
        let is_plain = !value.contains(char::is_control);
        if !value.is_empty() && value.len() <= FACT_BYTES_MAX && is_plain {
            self.found.facts.push((fact, value.to_owned()));
        }
    }

    /// The content of a JSON file; `None` if there is none, or (noted) it is of another kind.
    fn read<T: DeserializeOwned>(&mut self, path: &Path, limit: usize) -> Option<T> {
        let tree = Tree::open(&self.root.0).ok()?;
        let text = match tree.read(path, limit) {
            Ok(text) => text,
            Err(error) => {
                self.found.malformed |= error.kind() != std::io::ErrorKind::NotFound;
                return None;
            }
        };
        let parsed = serde_json::from_slice(&text).ok();
        self.found.malformed |= parsed.is_none();
        parsed
    }

    /// The folders in one whose names end so, in order of their names, as paths below the root.
    fn folders(&self, folder: &Path, end: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.root.0.join(folder)) else {
            return Vec::new();
        };
        let names = entries.take(FOLDERS_MAX).filter_map(Result::ok);
        let mut names: Vec<_> = names
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().ends_with(end))
            .collect();
        names.sort();
        names.into_iter().map(|name| folder.join(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::root;
    use super::*;

    const ID: &str = "9f3c1e0b7a52d4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f";

    /// Files in which `ID` stands for the id, and `fact=value` of what is found.
    #[track_caller]
    fn check(files: &[(&str, &str)], expect: &[&str], malformed: bool) {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.replace("ID", ID), text.replace("ID", ID)))
            .collect();
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (&**path, text.as_bytes()))
            .collect();
        let (_folder, root) = root(&files);
        let found = root.container(ID);
        let facts = found.facts.iter();
        let said: Vec<_> = facts
            .map(|(fact, value)| format!("{}={value}", fact.name()))
            .collect();
        assert_eq!(
            (&*said, found.malformed),
            (
                &*expect.iter().map(ToString::to_string).collect::<Vec<_>>(),
                malformed
            )
        );
    }

    #[test]
    fn docker() {
        let file = "var/lib/docker/containers/ID/config.v2.json";
        let web = r#"{"ID":"ID","Name":"/web-1","Image":"sha256:0a","Config":{"Image":"nginx:1",
            "Env":["PASSWORD=hunter2"],"Labels":{"com.docker.compose.project":"shop"}}}"#;
        check(
            &[(file, web)],
            &["runtime=docker", "name=web-1", "image=nginx:1"],
            false,
        );
        // cri-dockerd.
        let pod = r#"{"Name":"/k8s_app_job-7_ci_1111_0","Config":{"Image":"sha256:0a","Labels":{
            "io.kubernetes.container.name":"app","io.kubernetes.pod.name":"job-7",
            "io.kubernetes.pod.namespace":"ci","io.kubernetes.pod.uid":"1111"}}}"#;
        check(
            &[(file, pod)],
            &[
                "runtime=docker",
                "image=sha256:0a",
                "name=app",
                "pod_uid=1111",
                "pod_name=job-7",
                "pod_namespace=ci",
            ],
            false,
        );
    }

    #[test]
    fn podman() {
        let list = r#"[{"id":"other","names":["x"]},{"id":"ID","names":["build-box"],"image":"",
            "metadata":"{\"image-name\":\"registry.example/debian:12\",\"name\":\"build-box\"}"}]"#;
        let expect = [
            "runtime=podman",
            "name=build-box",
            "image=registry.example/debian:12",
        ];
        let storage = "var/lib/containers/storage";
        for file in [
            "overlay-containers/containers.json",
            "vfs-containers/volatile-containers.json",
        ] {
            check(&[(&format!("{storage}/{file}"), list)], &expect, false);
        }
        // Its bundle has annotations too, of which none says more.
        let bundle = format!("{storage}/overlay-containers/ID/userdata/config.json");
        let annotations = r#"{"annotations":{"io.container.manager":"libpod"}}"#;
        let lists = format!("{storage}/overlay-containers/containers.json");
        check(&[(&bundle, annotations), (&lists, list)], &expect, false);
        let nameless = r#"[{"id":"ID","metadata":"no JSON"}]"#;
        check(&[(&lists, nameless)], &["runtime=podman"], false);
    }

    #[test]
    fn containerd_and_cri_o() {
        let pod = r#"{"ociVersion":"1.1.0","process":{"env":["TOKEN=s3cret"]},"annotations":{
            "io.kubernetes.cri.container-name":"build","io.kubernetes.cri.image-name":"example/b:1",
            "io.kubernetes.cri.sandbox-name":"job-7","io.kubernetes.cri.sandbox-namespace":"ci"}}"#;
        let expect = [
            "runtime=containerd",
            "name=build",
            "image=example/b:1",
            "pod_name=job-7",
            "pod_namespace=ci",
        ];
        for state in ["run/containerd", "run/k3s/containerd"] {
            let file = format!("{state}/io.containerd.runtime.v2.task/k8s.io/ID/config.json");
            check(&[(&file, pod)], &expect, false);
        }
        let plain = "run/containerd/io.containerd.runtime.v2.task/default/ID/config.json";
        check(&[(plain, "{}")], &["runtime=containerd"], false);
        let crio = r#"{"annotations":{"io.container.manager":"cri-o",
            "io.kubernetes.container.name":"build","io.kubernetes.pod.name":"job-7",
            "io.kubernetes.pod.namespace":"ci","io.kubernetes.cri-o.ImageName":"example/b:1"}}"#;
        for storage in ["var/lib", "run"] {
            let file =
                format!("{storage}/containers/storage/overlay-containers/ID/userdata/config.json");
            check(
                &[(&file, crio)],
                &[
                    "runtime=cri-o",
                    "name=build",
                    "image=example/b:1",
                    "pod_name=job-7",
                    "pod_namespace=ci",
                ],
                false,
            );
        }
    }

    #[test]
    fn files_that_are_not_as_they_should_be_are_noted() {
        let file = "var/lib/docker/containers/ID/config.v2.json";
        check(&[], &[], false);
        for text in ["", "{", "[]", "{\"Name\":7}", "\u{0}", r#"{"Name":"/x"}"#] {
            check(&[(file, text)], &[], true);
        }
        let long = format!(
            r#"{{"Name":"/{}","Config":{{"Image":"a\nb"}}}}"#,
            "x".repeat(600)
        );
        check(&[(file, &long)], &["runtime=docker"], false);
        let longer = " ".repeat(CONTAINER_BYTES_MAX + 1);
        check(&[(file, &longer)], &[], true);
        let (_folder, root) = root(&[("etc/x", b"{}")]);
        for id in ["", "..", "../../../etc/x", "web"] {
            assert_eq!(root.container(id), Found::default());
        }
    }
}

//! A real container of a real runtime: what the monitor on the host says of a tool in it.
//!
//! In: Podman with runc, a root folder of the host's own programs, no registry and no daemon. Out:
//! the container's id, runtime and name in the event log, while it lives and when it is gone.
//!
//! Needs root, cgroup v2, the kernel's BTF and Debian's `podman` and `runc`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use monitor_tests::binary;
use monitor_tests::cgroup::Cgroup;
use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::running::Running;
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::wait;

/// A container in which Claude Code connects and ends. It is removed with the value.
struct Container<'a> {
    scene: &'a Scene,
    name: String,
    claude: Program,
    root: PathBuf,
    /// Above the container's own.
    cgroup: Cgroup,
    cgroup_path: String,
}

impl<'a> Container<'a> {
    fn new(scene: &'a Scene) -> Container<'a> {
        binary::require("podman", "podman");
        binary::require("runc", "runc");
        let root = scene.dir().join("root");
        lay_out(&root);
        let cgroup_path = format!("/{}", scene.ns.name());
        Container {
            scene,
            name: scene.ns.name().to_owned(),
            claude: Program::native(scene.dir(), program::CLAUDE_NATIVE),
            root,
            cgroup: Cgroup::make(&cgroup_path),
            cgroup_path,
        }
    }

    /// Runs it to its end.
    fn run(&self, words: &[&str]) {
        let home = self.scene.dir().display();
        // As on a host with cgroup v2 alone, whatever this one mounts there.
        let script = "mount -t cgroup2 none /sys/fs/cgroup && exec podman \"$@\"";
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.scene.ns.name()))
            .args(["unshare", "--mount", "sh", "-c", script, "podman"])
            .args(["--cgroup-manager=cgroupfs", "--runtime=runc", "run"])
            .args(["--rm", "--network=host", "--pids-limit=0"])
            // Without CAP_SYS_RESOURCE, Podman's own limits cannot be set.
            .args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"])
            .arg(format!("--name={}", self.name))
            .arg(format!("--cgroup-parent={}", self.cgroup_path))
            .arg("--volume=/usr:/usr:ro")
            .arg(format!("--volume={home}:{home}:ro"))
            .arg("--rootfs")
            .arg(&self.root)
            .arg(&self.claude.exe)
            .args(words);
        let mut podman = Running::start("podman", self.scene.dir(), command);
        podman.succeed(wait::START);
    }

    /// Whether an event is of the tool in it.
    fn is_of(&self, event: &Event) -> bool {
        event.text("process.executable") == self.claude.exe.display().to_string()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // It is gone by itself, unless the test failed.
        let mut podman = Command::new("podman");
        let _ = podman
            .args(["--cgroup-manager=cgroupfs", "rm", "--force", "--ignore"])
            .arg(&self.name)
            .output();
    }
}

/// A root folder that gets its programs from the host's.
fn lay_out(root: &Path) {
    for folder in ["usr", "proc", "sys", "dev", "etc", "tmp", "run"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for folder in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{folder}"), root.join(folder)).unwrap();
    }
}

#[track_caller]
fn check(container: &Container<'_>, event: &Event) {
    let id = event.text("container.id");
    assert!(id.len() == 64, "{event:?}");
    let path = format!("{}/libpod-{id}", container.cgroup_path);
    event.expect(&[
        ("container.runtime", "podman"),
        ("container.name", &container.name),
        ("telltale.cgroup.path", &path),
        ("telltale.tool.id", "claude-code"),
    ]);
}

#[test]
fn a_tool_in_a_container_is_told_with_its_id_and_name() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let container = Container::new(&scene);
    let telltale = scene.telltale().start();
    container.run(&["connect", &format!("{SERVER_V4}:443")]);
    for action in ["process-started", "connection-opened", "process-ended"] {
        let event = telltale.wait_for(action, |event| {
            container.is_of(event) && event.action() == action
        });
        check(&container, &event);
    }
    assert!(
        container.cgroup.procs().exists(),
        "the runtime's cgroup is below the test's"
    );
}

//! A real systemd-resolved, and clients that ask it without a packet.
//!
//! In: a scene. Out: the daemon in the scene's network, with a mount namespace of its own in which
//! glibc asks it (`hosts: resolve`), and the socket at which it tells its answers.
//!
//! Its programs and libraries are Debian's, unpacked into `target` by `cargo xtask test`:
//! installed, they would change which resolver this host asks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::netns::RESOLVER;
use crate::running::Running;
use crate::scene::Scene;
use crate::{binary, wait};

/// Where the packages are unpacked.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/systemd-resolved");

/// The same in its mount namespace, where every user may enter it.
const MOUNTED: &str = "/run/unpacked";

/// The daemon, there.
const DAEMON: &str = "lib/systemd/systemd-resolved";

/// A running systemd-resolved. Dropping it kills it.
#[derive(Debug)]
pub struct SystemdResolved<'a> {
    daemon: Running,
    scene: &'a Scene,
    libraries: PathBuf,
}

impl<'a> SystemdResolved<'a> {
    /// Starts it as its unit would: an unprivileged user with three capabilities. It asks the
    /// scene's resolver, and listens at 127.0.0.53.
    ///
    /// # Panics
    ///
    /// If it is not there, or does not start.
    #[must_use]
    #[track_caller]
    pub fn start(scene: &'a Scene) -> SystemdResolved<'a> {
        binary::require("nsenter", "util-linux");
        binary::require("systemctl", "systemd");
        let daemon = Path::new(UNPACKED).join(DAEMON);
        assert!(
            daemon.is_file(),
            "{} is not there: `cargo xtask test` unpacks it",
            daemon.display()
        );
        // Without a device beside loopback there is no network for it.
        scene.ns.add_link("198.51.100.1/24");
        let run = scene.dir().join("resolve");
        fs::create_dir(&run).expect("folder of its sockets");
        let write = |name: &str, text: &str| {
            fs::write(scene.dir().join(name), text).expect("a file of its configuration");
        };
        fs::create_dir(scene.dir().join("systemd")).expect("folder of its configuration");
        write(
            "systemd/resolved.conf",
            &format!("[Resolve]\nDNS={RESOLVER}\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\n"),
        );
        write("nsswitch-resolve.conf", "hosts: resolve\n");
        let libraries = Path::new(MOUNTED).join(libraries());
        let home = scene.dir().display();
        let script = format!(
            "set -e\n\
             mount --make-rprivate /\n\
             mount -t tmpfs tmpfs /run\n\
             mkdir -p /run/systemd/resolve /run/systemd/netif/links {MOUNTED}\n\
             mount --bind {UNPACKED} {MOUNTED}\n\
             chown 65534 {home}/resolve\n\
             mount --bind {home}/resolve /run/systemd/resolve\n\
             mount --bind {home}/systemd /etc/systemd\n\
             mount --bind {home}/nsswitch-resolve.conf /etc/nsswitch.conf\n\
             export LD_LIBRARY_PATH={}/systemd\n\
             keep=+setpcap,+net_raw,+net_bind_service\n\
             exec setpriv --reuid 65534 --regid 65534 --clear-groups \
             --inh-caps=$keep --ambient-caps=$keep {MOUNTED}/{DAEMON}\n",
            libraries.display(),
        );
        let mut command = scene.ns.command("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        let started = SystemdResolved {
            daemon: Running::start("systemd-resolved", scene.dir(), command),
            scene,
            libraries,
        };
        wait::until(&started.daemon.describe(), wait::START, || {
            started.socket().exists().then_some(())
        });
        started
    }

    /// Where it tells its answers.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scene.dir().join("resolve/io.systemd.Resolve.Monitor")
    }

    /// A command that runs beside it, in whose names glibc asks it. `nsenter` executes: the
    /// child's pid is the program's.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", "--mount", "--net"]);
        command.args(["--target", &self.daemon.pid().to_string(), program]);
        command.env("LD_LIBRARY_PATH", &self.libraries);
        command
    }

    /// Ends it, as its unit would be stopped.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn stop(mut self) {
        self.daemon.terminate();
        self.daemon.end(wait::START);
    }
}

/// The folder with `libnss_resolve.so.2`, which is named after the architecture.
fn libraries() -> PathBuf {
    let all = Path::new("usr/lib");
    let entries = fs::read_dir(Path::new(UNPACKED).join(all)).expect("unpacked libraries");
    let mut folders = entries.flatten().map(|entry| entry.path());
    let found = folders.find(|folder| folder.join("libnss_resolve.so.2").is_file());
    let found = found.expect("libnss_resolve.so.2 among the unpacked libraries");
    all.join(found.file_name().unwrap_or_default())
}

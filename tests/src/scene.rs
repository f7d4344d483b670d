//! A scene: a home directory with tools in it, a network around it, and a monitor to watch.
//!
//! In: what the test wants to be there. Out: processes started in the scene's namespace.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::dns::DnsServer;
use crate::netns::NetNs;
use crate::program::{OwnTool, Program};
use crate::running::Running;
use crate::tcp::TcpServer;
use crate::telltale::Options;
use crate::turn::Turn;

/// A stand-in's whole life, load tests apart.
const LIFE: Duration = Duration::from_secs(15);

/// IPv4 address of the servers that most tests connect to: not the host, not private.
pub const SERVER_V4: &str = "203.0.113.10";
/// The same for IPv6.
pub const SERVER_V6: &str = "2001:db8::10";

/// Where a test takes place. Everything in it ends with it.
#[derive(Debug)]
pub struct Scene {
    /// The resolver of the namespace.
    pub dns: DnsServer,
    /// The network.
    pub ns: NetNs,
    dir: TempDir,
    started: AtomicU32,
    _turn: Turn,
}

impl Scene {
    /// A scene that shares the host with others: look at its own processes, and at totals of its
    /// [`OwnTool`] only.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "it has effects that nobody expects of default"
    )]
    pub fn new() -> Scene {
        Scene::with(Turn::shared())
    }

    /// A scene that has the host for itself, to flood it: every monitor there has to look.
    #[must_use]
    pub fn alone() -> Scene {
        Scene::with(Turn::alone())
    }

    fn with(turn: Turn) -> Scene {
        let ns = NetNs::new();
        let dns = DnsServer::start(&ns);
        let dir = temp_dir();
        Scene {
            dns,
            ns,
            dir,
            started: AtomicU32::new(0),
            _turn: turn,
        }
    }

    /// The temporary directory; also the home directory that tools are laid out in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A tool that no other scene has. Monitors that are started later know it.
    #[must_use]
    pub fn own_tool(&self) -> OwnTool {
        OwnTool::lay_out(self.dir())
    }

    /// A monitor, to be started by the test.
    #[must_use]
    pub fn telltale(&self) -> Options<'_> {
        Options::new(self.dir())
    }

    /// A TCP server in the scene.
    #[must_use]
    pub fn serve(&self, address: &str) -> TcpServer {
        TcpServer::start(&self.ns, address)
    }

    /// TCP servers at port 443 of [`SERVER_V4`] and [`SERVER_V6`].
    #[must_use]
    pub fn serve_https(&self) -> [TcpServer; 2] {
        [format!("{SERVER_V4}:443"), format!("[{SERVER_V6}]:443")].map(|at| self.serve(&at))
    }

    /// Starts a program in the scene; see `src/bin/standin.rs` for the words.
    #[must_use]
    pub fn start(&self, program: &Program, words: &[&str]) -> Running {
        let argv = program.argv(words);
        let (exe, args) = argv.split_first().expect("a program");
        let mut command = self.ns.command(exe);
        command.args(args).env("HOME", self.dir());
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Running::start(&format!("process-{number}"), self.dir(), command)
    }

    /// Runs a program in the scene to its successful end, and returns the pid it had.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn run(&self, program: &Program, words: &[&str]) -> u32 {
        let mut process = self.start(program, words);
        process.succeed(LIFE);
        process.pid()
    }
}

/// A temporary directory whose path no tool of the catalog can match by accident, and which
/// users other than root can enter.
///
/// # Panics
///
/// If it cannot be made.
#[must_use]
pub fn temp_dir() -> TempDir {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::Builder::new()
        .prefix("scene-")
        .tempdir()
        .expect("a temporary directory");
    set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("its permissions");
    dir
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program;

    /// Plays a program in a scene that knows one name, and looks at what the servers saw.
    #[track_caller]
    fn check(lay_out: impl Fn(&Path) -> Program) {
        let scene = Scene::new();
        let [v4, v6] = scene.serve_https();
        scene.dns.answer("api.example", &[SERVER_V4, SERVER_V6]);
        let program = lay_out(scene.dir());
        scene.run(
            &program,
            &[
                "connect",
                "203.0.113.10:443",
                "connect",
                "[2001:db8::10]:443",
            ],
        );
        assert_eq!((v4.accepted(), v6.accepted()), (1, 1));
        scene.run(&program, &["connect", "api.example:443"]);
        assert_eq!(v4.accepted() + v6.accepted(), 3);
        assert!(scene.dns.asked().contains(&"api.example".to_owned()));
    }

    #[test]
    fn native_programs_and_scripts_reach_the_servers() {
        check(|home| Program::native(home, program::CLAUDE_NATIVE));
        check(|home| Program::script(home, program::GEMINI_SCRIPT));
        check(|home| Program::script_titled(home, program::CLAUDE_SCRIPT, "claude"));
        check(|home| Program::script_with_node(home, program::CURSOR_NODE, program::CURSOR_SCRIPT));
    }

    #[test]
    fn a_titled_script_hides_its_path_as_the_real_one_does() {
        let scene = Scene::new();
        let program = Program::script_titled(scene.dir(), program::CLAUDE_SCRIPT, "claude");
        let mut process = scene.start(&program, &["wait"]);
        process.wait_for_output("waiting");
        let read =
            |file| std::fs::read_to_string(format!("/proc/{}/{file}", process.pid())).unwrap();
        assert_eq!(read("comm"), "claude\n");
        assert!(!read("cmdline").contains("cli.js"));
        process.say("go on");
        process.succeed(LIFE);
    }

    #[test]
    fn a_stand_in_fails_when_its_words_do() {
        let scene = Scene::new();
        let program = Program::native(scene.dir(), "tool");
        let mut process = scene.start(&program, &["connect", "203.0.113.10:444"]);
        assert!(!process.end(LIFE).success());
        scene.run(&program, &["connect-fails", "203.0.113.10:444"]);
    }
}

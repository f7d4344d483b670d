//! A scene with servers, a monitor that tells all, and clients that are real programs.
//!
//! In: command lines. Out: what was said of the flows that each process opened.

use std::cell::Cell;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use monitor_tests::event::Event;
use monitor_tests::running::Running;
use monitor_tests::scene::Scene;
use monitor_tests::tcp::{TcpServer, udp_sink};
use monitor_tests::telltale::{Options, Telltale};
use monitor_tests::{binary, wait};

/// A client's whole life: it gets no answer that it could use, and gives up by itself.
const LIFE: Duration = Duration::from_secs(30);

/// What there is around the clients.
pub struct Stage<'a> {
    pub telltale: Telltale<'a>,
    scene: &'a Scene,
    server: &'a str,
    started: Cell<u32>,
    _servers: Vec<TcpServer>,
    _sink: UdpSocket,
}

impl<'a> Stage<'a> {
    /// Servers at ports 80 and 443 of an address, which no other test has: what is resolved in one
    /// scene is known on the whole host. And a monitor.
    pub fn new(scene: &'a Scene, server: &'a str) -> Stage<'a> {
        Stage::with(scene, server, |options| options)
    }

    /// The same with a monitor that is told more.
    pub fn with(
        scene: &'a Scene,
        server: &'a str,
        more: impl FnOnce(Options<'a>) -> Options<'a>,
    ) -> Stage<'a> {
        let servers = [80, 443].map(|port| scene.serve(&format!("{server}:{port}")));
        Stage {
            telltale: more(scene.telltale().scope("all")).start(),
            scene,
            server,
            started: Cell::new(0),
            _servers: servers.into(),
            _sink: udp_sink(&scene.ns, &format!("{server}:443")),
        }
    }

    /// Starts a program in the scene.
    pub fn start(&self, words: &[&str]) -> Running {
        let (program, arguments) = words.split_first().unwrap();
        let program = match *program {
            "speak" => binary::speak().to_owned(),
            "node" => binary::node().to_owned(),
            other => PathBuf::from(other),
        };
        let mut command = self.scene.ns.command(&program.display().to_string());
        command.args(arguments).env("HOME", self.scene.dir());
        for variable in [
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "HTTPS_PROXY",
            "ALL_PROXY",
        ] {
            command.env_remove(variable);
        }
        let number = self.started.replace(self.started.get() + 1);
        Running::start(&format!("client-{number}"), self.scene.dir(), command)
    }

    /// Starts a server that is a program, and waits until somebody can connect to it.
    pub fn serve(&self, words: &[&str], address: &str) -> Running {
        let server = self.start(words);
        wait::until(&server.describe(), wait::START, || {
            let address: std::net::SocketAddr = address.parse().unwrap();
            self.scene
                .ns
                .enter(|| std::net::TcpStream::connect(address).ok())
        });
        server
    }

    /// Runs a program to its end, however that is, and returns the pid it had.
    pub fn run(&self, words: &[&str]) -> u32 {
        let mut process = self.start(words);
        process.say(""); // Some wait for a line.
        process.end(LIFE);
        process.pid()
    }

    /// Waits for the opening of the process's flow to `address`, and looks at it.
    #[track_caller]
    pub fn expect(&self, pid: u32, address: &str, expect: &[(&str, &str)]) {
        let is_meant = |event: &Event| {
            event.pid() == Some(pid)
                && event.action() == "connection-opened"
                && event.text("destination.ip") == address
        };
        let what = format!("connection of {pid} to {address}");
        self.telltale.wait_for(&what, is_meant).expect(expect);
    }

    /// A program runs, and this is said of its flow to the server.
    #[track_caller]
    pub fn check(&self, words: &[&str], expect: &[(&str, &str)]) {
        let pid = self.run(words);
        self.expect(pid, self.server, expect);
    }

    /// Writes a file into the scene.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path: &Path = &self.scene.dir().join(name);
        fs::write(path, text).unwrap();
        path.display().to_string()
    }
}

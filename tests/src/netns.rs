//! A network namespace per test, with addresses of its own.
//!
//! In: nothing. Out: a [`NetNs`] in which servers can listen and commands can run; it is removed
//! when dropped. Namespaces that a killed test run left behind are removed by the next one.
//!
//! Every address is local to the namespace, so a stand-in can reach "the internet" there, and
//! nothing that a test does leaves the machine.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::binary;

/// The resolver in every namespace: where [`crate::dns::DnsServer`] listens.
pub const RESOLVER: &str = "203.0.113.53";

/// Start of the names, followed by the pid of the test and a number.
const PREFIX: &str = "telltale-test-";

/// A network namespace.
#[derive(Debug)]
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes a namespace in which the whole IPv4 and IPv6 address space is local.
    ///
    /// # Panics
    ///
    /// If the test is not run as root, or `ip` fails.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "it has effects that nobody expects of default"
    )]
    pub fn new() -> NetNs {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        binary::require_root();
        binary::require("ip", "iproute2");
        SWEEP.call_once(remove_abandoned);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let ns = NetNs {
            name: format!("{PREFIX}{}-{number}", process::id()),
        };
        ip(&["netns", "add", &ns.name]);
        ns.ip(&["link", "set", "lo", "up"]);
        for family in ["-4", "-6"] {
            ns.ip(&[family, "route", "add", "local", "default", "dev", "lo"]);
        }
        // Servers bind addresses that exist only by that route; IPv6 wants to be told.
        ns.enter(|| fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").expect("sysctl"));
        // Source addresses that look like a host's, not like loopback.
        ns.ip(&["addr", "add", "203.0.113.1/24", "dev", "lo"]);
        ns.ip(&["addr", "add", "2001:db8::1/64", "dev", "lo", "nodad"]);
        ns.write_etc("resolv.conf", &format!("nameserver {RESOLVER}\n"));
        ns.write_etc("nsswitch.conf", "hosts: files dns\n");
        ns.write_etc("hosts", "127.0.0.1 localhost\n::1 localhost\n");
        ns
    }

    /// Adds a network device beside loopback, with an address such as `198.51.100.1/24`.
    ///
    /// # Panics
    ///
    /// If `ip` fails.
    pub fn add_link(&self, address: &str) {
        let pair = ["type", "veth", "peer", "name", "veth1"];
        self.ip(&[&["link", "add", "veth0"][..], &pair].concat());
        for device in ["veth0", "veth1"] {
            self.ip(&["link", "set", device, "up"]);
        }
        self.ip(&["addr", "add", address, "dev", "veth0"]);
    }

    /// Name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a closure in the namespace. Sockets that it opens stay there, whoever uses them.
    ///
    /// # Panics
    ///
    /// If the closure does, or the namespace cannot be entered.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let file = File::open(PathBuf::from("/run/netns").join(&self.name)).expect("namespace");
        // A thread of its own: entering cannot be undone without privilege to go back.
        let entered = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), kind).expect("setns");
            action()
        };
        thread::scope(|scope| {
            scope
                .spawn(entered)
                .join()
                .expect("closure in the namespace")
        })
    }

    /// A command that runs in the namespace and uses its resolver. It dies with this thread.
    ///
    /// `setpriv` and `ip` execute, they do not fork: the child's pid is the program's.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "ip",
            "netns",
            "exec",
            &self.name,
            program,
        ]);
        command
    }

    fn ip(&self, args: &[&str]) {
        ip(&[&["-n", &self.name], args].concat());
    }

    /// Writes a file that `ip netns exec` puts over the one in /etc.
    fn write_etc(&self, file: &str, text: &str) {
        let dir = PathBuf::from("/etc/netns").join(&self.name);
        fs::create_dir_all(&dir).expect("directory in /etc/netns");
        fs::write(dir.join(file), text).expect("file in /etc/netns");
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("ip starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ip {}: {}",
        args.join(" "),
        stderr.trim()
    );
}

/// Removes a namespace as far as it is there.
fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = fs::remove_dir_all(PathBuf::from("/etc/netns").join(name));
}

/// Removes the namespaces of test processes that are no more.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return;
    };
    for name in entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
    {
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_belong_to_the_namespace() {
        let (here, there) = (NetNs::new(), NetNs::new());
        let listener = here.enter(|| TcpListener::bind("203.0.113.10:443").unwrap());
        assert!(here.enter(|| TcpStream::connect("203.0.113.10:443").is_ok()));
        assert!(!there.enter(|| TcpStream::connect("203.0.113.10:443").is_ok()));
        drop(listener);
    }

    #[test]
    fn commands_run_inside_with_its_resolver() {
        let ns = NetNs::new();
        let output = ns.command("cat").arg("/etc/resolv.conf").output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "nameserver 203.0.113.53\n"
        );
    }

    #[test]
    fn nothing_is_left_of_it_even_after_a_panic() {
        let name = thread::spawn(|| {
            let ns = NetNs::new();
            std::panic::panic_any(ns.name().to_owned());
        })
        .join()
        .unwrap_err();
        let name = name.downcast_ref::<String>().unwrap();
        assert!(!PathBuf::from("/run/netns").join(name).exists());
        assert!(!PathBuf::from("/etc/netns").join(name).exists());
    }
}

//! What a plain tracer of the `connect` system call would have seen, for comparison.
//!
//! In: bpftrace, if it is installed. Out: the calls of every process, as it wrote them down: the
//! address as it lay in the caller's memory when the call began.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use monitor_tests::wait;

use crate::network;

/// A line per call: pid, then the address structure in words.
const PROGRAM: &str = r#"
BEGIN { printf("begin\n"); }
tracepoint:syscalls:sys_enter_connect /args->addrlen >= 16/ {
  $p = (uint32*)uptr(args->uservaddr);
  printf("%d %x %x %x %x %x %x\n", pid, *$p, *($p + 1), *($p + 2), *($p + 3), *($p + 4), *($p + 5));
}
"#;

/// tracefs may not be mounted here; the tracer gets its own.
const START: &str = "mount -t tracefs tracefs /sys/kernel/tracing && \
                     mount -t debugfs debugfs /sys/kernel/debug && \
                     exec bpftrace -B line \"$0\"";

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who.
    pub pid: u32,
    /// To where, v4-mapped addresses as IPv4.
    pub address: IpAddr,
}

/// A running tracer; killed when dropped.
pub struct Tracer {
    child: Child,
    output: PathBuf,
    read: u64,
    calls: Vec<Call>,
}

impl Tracer {
    /// Starts it; `None` if this machine has none, or it does not work here.
    pub fn start(dir: &Path) -> Option<Tracer> {
        let (program, output) = (dir.join("connect.bt"), dir.join("connect.calls"));
        fs::write(&program, PROGRAM).expect("the tracer's program");
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "sh",
            "-c",
            START,
        ]);
        command.arg(&program).stdin(Stdio::null());
        command.stdout(File::create(&output).expect("a file"));
        command.stderr(File::create(dir.join("tracer.stderr")).expect("a file"));
        let child = command.spawn().ok()?;
        let mut tracer = Tracer {
            child,
            output,
            read: 0,
            calls: Vec::new(),
        };
        let began = wait::try_until(wait::START, || {
            let ended = tracer.child.try_wait().ok().flatten().is_some();
            let text = fs::read_to_string(&tracer.output).unwrap_or_default();
            let begins = text.contains("begin");
            (begins || ended).then_some(begins)
        });
        (began == Some(true)).then_some(tracer)
    }

    /// The calls so far, to the suite's addresses.
    pub fn calls(&mut self) -> &[Call] {
        let mut text = String::new();
        let mut file = File::open(&self.output).expect("the tracer's output");
        file.seek(SeekFrom::Start(self.read))
            .expect("the tracer's output");
        file.read_to_string(&mut text).expect("the tracer's output");
        // The last line may still be being written.
        let ended = text.rfind('\n').map_or(0, |at| at + 1);
        let calls = text[..ended].lines().filter_map(parse);
        self.calls
            .extend(calls.filter(|call| network::is_of_suite(call.address)));
        self.read += ended as u64;
        &self.calls
    }
}

fn parse(line: &str) -> Option<Call> {
    let mut words = line.split(' ');
    let pid = words.next()?.parse().ok()?;
    let words: Vec<u32> = words
        .filter_map(|word| u32::from_str_radix(word, 16).ok())
        .collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    const IPV4: u8 = 2;
    const IPV6: u8 = 10;
    let address = match *bytes.first()? {
        IPV4 => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            IpAddr::from(octets)
        }
        IPV6 => {
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            IpAddr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some(Call { pid, address })
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

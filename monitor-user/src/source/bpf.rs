//! Loads the kernel programs, attaches them, and hands out what they record.
//!
//! In: the embedded object, the kernel's BTF, the cgroup-v2 root. Out: a [`Kernel`] that is
//! drained on a timer. Dropping it detaches everything.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{HashMap as BpfHashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr,
    Iter, Program, ProgramError, SockOps,
};
use aya::{Ebpf, EbpfLoader};
use monitor_common::flow::{FlowCounters, FlowKey, ProcessKey};
use monitor_common::program;
use monitor_common::record::{Header, KernelCounters};
use zerocopy::{FromBytes, IntoBytes};

use super::btf::{Btf, BtfError};
use super::{links, offsets};
use crate::core::event::BootNs;
use crate::host::HostRoot;

/// The object that is built in.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/telltale.bpf.o"));

/// SHA-256 of the built-in object, hex.
pub const OBJECT_DIGEST: &str = env!("TELLTALE_EBPF_DIGEST");

/// Where the kernel tells its types.
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// What a program is and where it is attached.
#[derive(Clone, Copy)]
enum Hook {
    Tracepoint(&'static str),
    Iterator(&'static str),
    SockAddr,
    Sock,
    SockOps,
    Skb(CgroupSkbAttachType),
}

/// Whether the monitor can do without a program.
#[derive(Clone, Copy, PartialEq)]
enum Need {
    Required,
    /// Kernels before this version (major, minor) lack what the program needs, and the coverage
    /// has a gap there.
    Since(u32, u32),
}

/// What each program of [`program::PROGRAMS`] is, in its order. The iterators are attached anew for
/// each run.
const HOOKS: [(Hook, Need); program::PROGRAMS.len()] = [
    (Hook::Tracepoint("sched_process_fork"), Need::Required),
    (Hook::Tracepoint("sched_process_exec"), Need::Required),
    (Hook::Tracepoint("sched_process_exit"), Need::Required),
    (Hook::Sock, Need::Required),
    (Hook::Sock, Need::Required),
    (Hook::SockOps, Need::Required),
    (Hook::SockAddr, Need::Required),
    (Hook::SockAddr, Need::Required),
    (Hook::SockAddr, Need::Required),
    (Hook::SockAddr, Need::Required),
    (Hook::Skb(CgroupSkbAttachType::Egress), Need::Required),
    (Hook::Skb(CgroupSkbAttachType::Ingress), Need::Required),
    (Hook::Tracepoint("sock_send_length"), Need::Since(6, 3)),
    (Hook::Iterator("task"), Need::Required),
    (Hook::Iterator("task_file"), Need::Since(5, 11)),
];

/// Name, hook and need of every program.
fn programs() -> impl Iterator<Item = (&'static str, Hook, Need)> {
    program::PROGRAMS
        .iter()
        .zip(HOOKS)
        .map(|(name, (hook, need))| (*name, hook, need))
}

/// Why the kernel side could not be started. The text holds the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No BTF.
    #[error(
        "the kernel does not tell its types ({BTF_PATH}: {0}): Telltale needs a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y, as Debian 11+, Ubuntu 20.10+, RHEL 8.2+ and SLES 15 SP3+ ship it"
    )]
    NoBtf(std::io::Error),
    /// BTF without something that the programs read.
    #[error("{0}: this kernel's layout is not supported; please report `uname -r` with this line")]
    Layout(#[from] BtfError),
    /// The object does not fit this build.
    #[error("the built-in kernel object is damaged or of another build ({0}); reinstall Telltale")]
    Object(String),
    /// Not allowed.
    #[error(
        "not allowed to {what}: run as root, or give CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN \
         (`telltale doctor` shows what is missing{detail})"
    )]
    Denied {
        /// What was refused.
        what: String,
        /// What else is known.
        detail: String,
    },
    /// A program was refused.
    #[error("the kernel refused the program {program}: {error}")]
    Program {
        /// Which.
        program: &'static str,
        /// The kernel's words, with the verifier's log where there is one.
        error: String,
    },
    /// A program could not be attached.
    #[error(
        "cannot attach {program} to the cgroup-v2 root: {error}; if another program is attached \
         there without BPF_F_ALLOW_MULTI (`bpftool cgroup show`), it must be detached first"
    )]
    Attach {
        /// Which.
        program: &'static str,
        /// The kernel's words.
        error: String,
    },
}

/// What the operator chose that the kernel side must know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Every flow of every process is wanted as a record, not only first sightings.
    pub report_all: bool,
    /// The first bytes of flows are looked at for names.
    pub sample_flows: bool,
    /// Ports of resolvers; the first [`DNS_PORTS_MAX`] count.
    pub dns_ports: Vec<u16>,
}

/// Ports that resolvers may be asked at.
pub const DNS_PORTS_MAX: usize = 4;

impl Default for Options {
    fn default() -> Self {
        Options {
            report_all: false,
            sample_flows: true,
            dns_ports: vec![53],
        }
    }
}

/// The attached programs and their maps.
pub struct Kernel {
    control: RingBuf<MapData>,
    detail: RingBuf<MapData>,
    payload: RingBuf<MapData>,
    counters: PerCpuArray<MapData, u64>,
    pub(super) flows: BpfHashMap<MapData, [u8; 40], [u8; 72]>,
    watched: BpfHashMap<MapData, [u8; 16], u32>,
    missing: Vec<&'static str>,
    // Holds programs and links: dropping it detaches them.
    ebpf: Ebpf,
    cgroup: OwnedFd,
}

impl Kernel {
    /// Loads and attaches all programs.
    ///
    /// # Errors
    ///
    /// [`LoadError`], whose text says what to do.
    pub fn load(cgroup_root: OwnedFd, options: &Options) -> Result<Kernel, LoadError> {
        let mut ebpf = create(options)?;
        let btf = kernel_btf()?;
        let mut missing = Vec::new();
        for (name, hook, need) in programs() {
            let program = program_of(&mut ebpf, name)?;
            match (
                load_and_attach(program, name, &btf, hook, &cgroup_root),
                need,
            ) {
                (Ok(()), _) => {}
                (Err(error), Need::Since(..)) => {
                    tracing::warn!("done without: {error}");
                    missing.push(name);
                }
                (Err(error), Need::Required) => return Err(error),
            }
        }
        Ok(Kernel {
            control: map(&mut ebpf, "CONTROL")?,
            detail: map(&mut ebpf, "DETAIL")?,
            payload: map(&mut ebpf, "PAYLOAD")?,
            counters: map(&mut ebpf, "COUNTERS")?,
            flows: map(&mut ebpf, "FLOWS")?,
            watched: map(&mut ebpf, "WATCHED")?,
            missing,
            ebpf,
            cgroup: cgroup_root,
        })
    }

    /// Hands out every record that is in the rings, ring by ring.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        // The rings that are named later go first: what a record in them refers to is then
        // already in the rings that are read after it.
        for ring in [&mut self.payload, &mut self.detail, &mut self.control] {
            while let Some(record) = ring.next() {
                each(whole(&record));
            }
        }
    }

    /// The processes that are running now, as exec records without argv.
    ///
    /// # Errors
    ///
    /// What the iterator or its file says.
    pub fn found_processes(&mut self) -> anyhow::Result<Vec<u8>> {
        self.iterate("task_iter")
    }

    /// Sockets that are open and that no hook has seen: flow and socket records. None where the
    /// kernel does not allow the iterator.
    ///
    /// # Errors
    ///
    /// What the iterator or its file says.
    pub fn found_sockets(&mut self) -> anyhow::Result<Vec<u8>> {
        if self.missing.contains(&"file_iter") {
            return Ok(Vec::new());
        }
        self.iterate("file_iter")
    }

    fn iterate(&mut self, name: &str) -> anyhow::Result<Vec<u8>> {
        let iterator: &mut Iter = program_of(&mut self.ebpf, name)?.try_into()?;
        let link = iterator.attach()?;
        let mut file: File = iterator.take_link(link)?.into_file()?;
        let mut records = Vec::new();
        file.read_to_end(&mut records)?;
        Ok(records)
    }

    /// What of [`program::PROGRAMS`] is attached now, and what this kernel does not allow, as masks.
    /// An iterator that is loaded counts as attached.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn attached(&self, host: &HostRoot) -> anyhow::Result<(u64, u64)> {
        let linked = links::attached_programs(host)?;
        let (mut attached, mut missing) = (0, 0);
        for (place, (name, hook, _)) in programs().enumerate() {
            let info = self
                .ebpf
                .program(name)
                .and_then(|program| program.info().ok());
            let iterates = matches!(hook, Hook::Iterator(_));
            if self.missing.contains(&name) {
                missing |= 1 << place;
            } else if info.is_some_and(|info| iterates || linked.contains(&info.id())) {
                attached |= 1 << place;
            }
        }
        Ok((attached, missing))
    }

    /// Attaches a program again that someone else detached.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn attach_again(&mut self, name: &'static str) -> Result<(), LoadError> {
        let Some((_, hook, _)) = programs().find(|(program, ..)| *program == name) else {
            return Err(LoadError::Object(format!("no program {name}")));
        };
        let program = program_of(&mut self.ebpf, name)?;
        attach_program(program, hook, &self.cgroup).map_err(|error| LoadError::Attach {
            program: name,
            error: chain(&error),
        })
    }

    /// What the flow map holds of one flow.
    #[must_use]
    pub fn flow(&self, key: &FlowKey) -> FlowCounters {
        let bytes: Result<[u8; 40], _> = key.as_bytes().try_into();
        let value = bytes.ok().and_then(|bytes| self.flows.get(&bytes, 0).ok());
        value
            .and_then(|value| FlowCounters::read_from_bytes(&value).ok())
            .unwrap_or_default()
    }

    /// The kernel's books, as a record.
    ///
    /// # Errors
    ///
    /// What the map says.
    pub fn counters(&self, now: BootNs) -> anyhow::Result<KernelCounters> {
        let mut values = [0u64; monitor_common::counter::COUNTERS as usize];
        for (index, value) in (0u32..).zip(values.iter_mut()) {
            *value = self.counters.get(&index, 0)?.iter().sum();
        }
        let header = monitor_common::record::Header {
            time_ns: now.0,
            kind: monitor_common::record::KIND_KERNEL_COUNTERS,
            bytes: u32::try_from(size_of::<KernelCounters>()).unwrap_or_default(),
        };
        Ok(KernelCounters { header, values })
    }

    /// Asks for every flow of a process as a record. Its future children are included.
    ///
    /// # Errors
    ///
    /// What the map says: it may be full.
    pub fn watch(&mut self, process: ProcessKey) -> anyhow::Result<()> {
        let key = ProcessKey {
            exec_id: 0,
            ..process
        };
        let bytes: [u8; 16] = key.as_bytes().try_into()?;
        Ok(self.watched.insert(bytes, 1, 0)?)
    }
}

/// A record without the room behind it that was reserved and not used.
fn whole(reserved: &[u8]) -> &[u8] {
    let header = Header::read_from_prefix(reserved);
    let bytes = header.map_or(usize::MAX, |(header, _)| {
        usize::try_from(header.bytes).unwrap_or(usize::MAX)
    });
    reserved.get(..bytes).unwrap_or(reserved)
}

fn map<T>(ebpf: &mut Ebpf, name: &str) -> Result<T, LoadError>
where
    T: TryFrom<Map>,
    T::Error: std::fmt::Display,
{
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| LoadError::Object(format!("no map {name}")))?;
    T::try_from(map).map_err(|error| LoadError::Object(format!("map {name}: {error}")))
}

/// Creates the maps, with the offsets of this kernel written in.
fn create(options: &Options) -> Result<Ebpf, LoadError> {
    let btf_bytes = std::fs::read(BTF_PATH).map_err(LoadError::NoBtf)?;
    let offsets = offsets::resolve(&Btf::parse(btf_bytes)?)?;
    let report_all = u32::from(options.report_all);
    let sample_flows = u32::from(options.sample_flows);
    // Two ports in each number.
    let mut ports = [0_u32; DNS_PORTS_MAX / 2];
    for (place, port) in options.dns_ports.iter().take(DNS_PORTS_MAX).enumerate() {
        ports[place / 2] |= u32::from(*port) << (place % 2 * 16);
    }
    let mut loader = EbpfLoader::new();
    loader.override_global("REPORT_ALL", &report_all, true);
    loader.override_global("SAMPLE_FLOWS", &sample_flows, true);
    loader.override_global("DNS_PORTS_A", &ports[0], true);
    loader.override_global("DNS_PORTS_B", &ports[1], true);
    for (global, offset) in &offsets {
        loader.override_global(global, offset, true);
    }
    loader.load(OBJECT).map_err(object_error)
}

fn kernel_btf() -> Result<aya::Btf, LoadError> {
    aya::Btf::from_sys_fs().map_err(|error| LoadError::Object(error.to_string()))
}

fn program_of<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, LoadError> {
    ebpf.program_mut(name)
        .ok_or_else(|| LoadError::Object(format!("no program {name}")))
}

/// What the kernel said to one program.
pub struct Probed {
    /// Which.
    pub program: &'static str,
    /// Whether it loads.
    pub loaded: Result<(), LoadError>,
    /// The monitor can do without it; kernels from this version on (major, minor) have what it
    /// needs.
    pub optional_before: Option<(u32, u32)>,
}

/// Loads every program without attaching any, to see what this kernel and these privileges allow.
///
/// # Errors
///
/// What prevents even the maps.
pub fn probe() -> Result<Vec<Probed>, LoadError> {
    let mut ebpf = create(&Options::default())?;
    let btf = kernel_btf()?;
    let mut results = Vec::new();
    for (name, hook, need) in programs() {
        let program = program_of(&mut ebpf, name)?;
        let loaded = load_program(program, &btf, hook).map_err(|error| program_error(name, &error));
        results.push(Probed {
            program: name,
            loaded,
            optional_before: match need {
                Need::Required => None,
                Need::Since(major, minor) => Some((major, minor)),
            },
        });
    }
    Ok(results)
}

fn load_and_attach(
    program: &mut Program,
    name: &'static str,
    btf: &aya::Btf,
    hook: Hook,
    cgroup: &OwnedFd,
) -> Result<(), LoadError> {
    load_program(program, btf, hook).map_err(|error| program_error(name, &error))?;
    attach_program(program, hook, cgroup).map_err(|error| LoadError::Attach {
        program: name,
        error: chain(&error),
    })
}

fn load_program(program: &mut Program, btf: &aya::Btf, hook: Hook) -> Result<(), ProgramError> {
    match hook {
        Hook::Tracepoint(point) => <&mut BtfTracePoint>::try_from(program)?.load(point, btf),
        Hook::Iterator(target) => <&mut Iter>::try_from(program)?.load(target, btf),
        Hook::SockAddr => <&mut CgroupSockAddr>::try_from(program)?.load(),
        Hook::Sock => <&mut CgroupSock>::try_from(program)?.load(),
        Hook::SockOps => <&mut SockOps>::try_from(program)?.load(),
        Hook::Skb(_) => <&mut CgroupSkb>::try_from(program)?.load(),
    }
}

/// `Single` is the only mode that works on links (aya passes modes as link flags, and the kernel
/// refuses any); a link is multi-attach by nature.
fn attach_program(program: &mut Program, hook: Hook, cgroup: &OwnedFd) -> Result<(), ProgramError> {
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    let cgroup = cgroup.as_fd();
    match hook {
        Hook::Tracepoint(_) => <&mut BtfTracePoint>::try_from(program)?.attach().map(drop),
        Hook::Iterator(_) => Ok(()), // Attached anew for each walk.
        Hook::SockAddr => <&mut CgroupSockAddr>::try_from(program)?
            .attach(cgroup, MODE)
            .map(drop),
        Hook::Sock => <&mut CgroupSock>::try_from(program)?
            .attach(cgroup, MODE)
            .map(drop),
        Hook::SockOps => <&mut SockOps>::try_from(program)?
            .attach(cgroup, MODE)
            .map(drop),
        Hook::Skb(kind) => <&mut CgroupSkb>::try_from(program)?
            .attach(cgroup, kind, MODE)
            .map(drop),
    }
}

/// An error with all its causes, once each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            // Not EACCES: that is the verifier's word for a program that it does not accept.
            return io.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error());
        }
        source = cause.source();
    }
    false
}

fn object_error(error: aya::EbpfError) -> LoadError {
    if is_denied(&error) {
        LoadError::Denied {
            what: "create BPF maps".to_owned(),
            detail: String::new(),
        }
    } else {
        LoadError::Object(chain(&error))
    }
}

fn program_error(program: &'static str, error: &ProgramError) -> LoadError {
    if is_denied(error) {
        let what = format!("load the kernel program {program}");
        LoadError::Denied {
            what,
            detail: "; kernel lockdown may forbid it".to_owned(),
        }
    } else {
        LoadError::Program {
            program,
            error: chain(error),
        }
    }
}

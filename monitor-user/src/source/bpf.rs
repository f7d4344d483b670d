//! Loads the kernel programs, attaches them, and hands out what they record.
//!
//! In: the embedded object, the kernel's BTF, the cgroup-v2 root. Out: a [`Kernel`] that is
//! drained on a timer. Dropping it detaches everything that is not pinned ([`pins`]).

pub mod attach;
pub mod figures;
pub mod handover;
pub mod load_error;
pub mod pins;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{
    Array, HashMap as BpfHashMap, Map, MapData, MapInfo, MapType, PerCpuArray, RingBuf,
};
use aya::programs::links::FdLink;
use aya::programs::{Iter, Program};
use aya::{Ebpf, EbpfLoader};
use monitor_common::counter;
use monitor_common::flow::{FlowCounters, FlowKey, ProcessKey};
use monitor_common::record::{Header, MISSING_PINS};
use zerocopy::{FromBytes, IntoBytes};

use self::attach::{Hook, Need, programs};
use self::figures::Fill;
use self::handover::{CHECKPOINT_BYTES, Handover};
use self::load_error::{LoadError, chain, object_error, program_error};
use self::pins::{Pins, PinsError};
use super::btf::{BTF_PATH, Btf};
use super::order::Ring;
use super::{links, offsets};
use crate::host::HostRoot;

/// The object that is built in.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/telltale.bpf.o"));

/// SHA-256 of the built-in object, hex.
pub const OBJECT_DIGEST: &str = env!("TELLTALE_EBPF_DIGEST");

/// The maps that outlive the monitor, with the sizes of keys and values that it reads; 0 for those
/// of which only the programs know. All but the programs' scratch space.
const LASTING: [(&str, MapType, usize, usize); 13] = [
    ("GENERATION", MapType::Array, 4, 4),
    ("CONTROL", MapType::RingBuf, 0, 0),
    ("DETAIL", MapType::RingBuf, 0, 0),
    ("PAYLOAD", MapType::RingBuf, 0, 0),
    ("COUNTERS", MapType::PerCpuArray, 4, 8),
    ("FLOWS", MapType::Hash, 40, 72),
    ("TOLD", MapType::Hash, 40, 72),
    ("CHECKPOINT", MapType::Array, 4, CHECKPOINT_BYTES),
    ("WATCHED", MapType::Hash, 16, 4),
    ("BUDGETS", MapType::Hash, 0, 0),
    ("SOCKETS", MapType::SkStorage, 0, 0),
    ("JOINED", MapType::LruHash, 0, 0),
    ("MPTCP_OPENERS", MapType::Hash, 0, 0),
];
/// The rings among them.
const RINGS: [&str; 3] = ["CONTROL", "DETAIL", "PAYLOAD"];

/// How long new programs are attached before they take over: no run of the old ones that does not
/// know of them lasts so long.
const SETTLING: Duration = Duration::from_millis(20);

/// What the operator chose that the kernel side must know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Every flow of every process is wanted as a record, not only first sightings.
    pub report_all: bool,
    /// The first bytes of flows are looked at for names.
    pub sample_flows: bool,
    /// Where the kernel side outlives the monitor; `None`: it does not.
    pub pin: Option<PathBuf>,
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
            pin: None,
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
    pub(super) handover: Handover,
    watched: BpfHashMap<MapData, [u8; 16], u32>,
    missing: Vec<&'static str>,
    /// Programs that have a stand-in in this kernel.
    replaced: Vec<&'static str>,
    /// A program is attached as long as its link is here, or pinned.
    links: BTreeMap<&'static str, FdLink>,
    /// By row of the books: runs that the kernel left out, at the last look.
    skipped: BTreeMap<u32, u64>,
    pins: Option<Pins>,
    /// It was to be pinned, and cannot.
    unpinned: bool,
    /// Records and flows of another layout that were found and thrown away.
    discarded: u64,
    /// How full the rings were.
    fill: Fill,
    // Holds the programs.
    ebpf: Ebpf,
    cgroup: OwnedFd,
}

/// Tracing programs, and their rows in the books: a run that the kernel leaves out is an operation
/// that is lost. `send_length` is none of them: it runs at every send, and needs one per socket.
const TRACED: [(&str, u32); 3] = [
    ("process_fork", counter::HOOK_FORK),
    ("process_exec", counter::HOOK_EXEC),
    ("process_exit", counter::HOOK_EXIT),
];

impl Kernel {
    /// Loads and attaches all programs. If there are some already that an earlier monitor pinned,
    /// takes over from them.
    ///
    /// # Errors
    ///
    /// [`LoadError`], whose text says what to do.
    pub fn load(cgroup_root: OwnedFd, options: &Options) -> Result<Kernel, LoadError> {
        let btf = kernel_btf()?;
        let pins = open_pins(options)?;
        let mut ebpf = create(options, pins.as_ref(), &btf)?;
        let (mut missing, mut replaced) = (Vec::new(), Vec::new());
        for (name, hook, need) in programs() {
            match (load_one(&mut ebpf, &btf, name, hook)?, need) {
                (Loaded::Itself, _) => {}
                (Loaded::StandIn, _) => replaced.push(name),
                (Loaded::Not(error), Need::Since(..)) => {
                    tracing::warn!("done without: {error}");
                    missing.push(name);
                }
                (Loaded::Not(error), Need::Required) => return Err(error),
            }
        }
        let handover = Handover::new(
            map(&mut ebpf, "TOLD")?,
            map(&mut ebpf, "CHECKPOINT")?,
            pins.is_some(),
        );
        let mut kernel = Kernel {
            control: map(&mut ebpf, "CONTROL")?,
            detail: map(&mut ebpf, "DETAIL")?,
            payload: map(&mut ebpf, "PAYLOAD")?,
            counters: map(&mut ebpf, "COUNTERS")?,
            flows: map(&mut ebpf, "FLOWS")?,
            watched: map(&mut ebpf, "WATCHED")?,
            handover,
            missing,
            replaced,
            links: BTreeMap::new(),
            skipped: BTreeMap::new(),
            unpinned: options.pin.is_some() && pins.is_none(),
            pins,
            discarded: 0,
            fill: Fill::default(),
            ebpf,
            cgroup: cgroup_root,
        };
        for (name, ..) in programs() {
            if !kernel.missing.contains(&name) {
                kernel.attach(name)?;
            }
        }
        kernel.take_over()?;
        Ok(kernel)
    }

    /// Attaches a program.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn attach(&mut self, name: &'static str) -> Result<(), LoadError> {
        let Some((own_name, hook)) = self.in_object(name) else {
            return Err(LoadError::Object(format!("no program {name}")));
        };
        let program = program_of(&mut self.ebpf, own_name)?;
        let refused = |error: &dyn std::error::Error| LoadError::Attach {
            program: name,
            error: chain(error),
        };
        let attached = attach::attach(program, hook, &self.cgroup);
        let Some(link) = attached.map_err(|error| refused(&error))? else {
            return Ok(());
        };
        let link = match &self.pins {
            None => link,
            Some(pins) => {
                let path = pins.link(name);
                let _ = std::fs::remove_file(&path); // Of a link that someone detached.
                let pinned = link.pin(&path).map_err(|error| refused(&error))?;
                FdLink::from(pinned)
            }
        };
        self.links.insert(name, link);
        Ok(())
    }

    /// Which program of the object is, or stands in for, this one of [`program::PROGRAMS`].
    fn in_object(&self, name: &'static str) -> Option<(&'static str, Hook)> {
        if self.replaced.contains(&name) {
            return attach::stand_in(name);
        }
        let (_, hook, _) = programs().find(|(program, ..)| *program == name)?;
        Some((name, hook))
    }

    /// Lets these programs work instead of those that an earlier monitor left, which are removed.
    fn take_over(&mut self) -> Result<(), LoadError> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        std::thread::sleep(SETTLING);
        let mut generation: Array<MapData, u32> = map(&mut self.ebpf, pins::GENERATION)?;
        generation
            .set(0, pins.generation(), 0)
            .map_err(|error| pins.foreign(&pins.map(pins::GENERATION), error.to_string()))?;
        std::thread::sleep(SETTLING); // The old ones finish what they began.
        let failed = |error: std::io::Error| pins.foreign(pins.folder(), error.to_string());
        pins.remove_other_links().map_err(failed)?;
        for folder in pins.other_layouts().map_err(failed)? {
            self.discarded += left_in(&folder);
            std::fs::remove_dir_all(&folder).map_err(failed)?;
        }
        Ok(())
    }

    /// Whether every map and link is pinned: someone may have removed a pin.
    fn is_whole(&self, pins: &Pins) -> bool {
        let maps = LASTING.iter().map(|(name, ..)| pins.map(name));
        let links = self.links.keys().map(|name| pins.link(name));
        maps.chain(links).all(|path| path.exists())
    }

    /// Whether the kernel side outlives the monitor.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// Records and flows of another layout that were found and thrown away.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// The flow map, and where what was told of it is noted.
    pub(super) fn flows_and_handover(
        &mut self,
    ) -> (&BpfHashMap<MapData, [u8; 40], [u8; 72]>, &mut Handover) {
        (&self.flows, &mut self.handover)
    }

    /// Hands out every record that is in the rings, ring by ring.
    pub fn drain(&mut self, mut each: impl FnMut(Ring, &[u8])) {
        // The rings that are named later go first: what a record in them refers to is then
        // already in the rings that are read after it.
        let rings = [
            (Ring::Payload, &mut self.payload),
            (Ring::Detail, &mut self.detail),
            (Ring::Control, &mut self.control),
        ];
        for (ring, records) in rings {
            let mut taken = 0;
            while let Some(record) = records.next() {
                taken += figures::room(record.len());
                each(ring, whole(&record));
            }
            self.fill.note(ring, taken);
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
    pub fn attached(&mut self, host: &HostRoot) -> anyhow::Result<(u64, u64)> {
        let linked = links::programs(host)?;
        let (mut attached, mut missing) = (0, 0);
        if self.unpinned || self.pins.as_ref().is_some_and(|pins| !self.is_whole(pins)) {
            missing |= MISSING_PINS;
        }
        for (place, (name, hook, _)) in programs().enumerate() {
            let program = self.in_object(name);
            let info = program
                .and_then(|(name, _)| self.ebpf.program(name))
                .and_then(|program| program.info().ok());
            let iterates = matches!(hook, Hook::Iterator(_));
            let id = info.map(|info| info.id());
            if let Some((_, hook)) = TRACED.iter().find(|(traced, _)| *traced == name)
                && let Some(skipped) = id.and_then(|id| linked.skipped.get(&id))
            {
                self.skipped.insert(*hook, *skipped);
            }
            if self.missing.contains(&name) {
                missing |= 1 << place;
            } else if id.is_some_and(|id| iterates || linked.attached.contains(&id)) {
                attached |= 1 << place;
            }
        }
        Ok((attached, missing))
    }

    /// The number of these programs: 1 if no monitor left any before.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.pins.as_ref().map_or(1, Pins::generation)
    }

    /// The flows that are in the flow map.
    #[must_use]
    pub fn flow_keys(&self) -> HashSet<FlowKey> {
        let keys = self.flows.keys().filter_map(Result::ok);
        keys.filter_map(|key| FlowKey::read_from_bytes(&key).ok())
            .collect()
    }

    /// Records that the hooks booked as delivered so far.
    ///
    /// # Errors
    ///
    /// What the map says.
    pub fn delivered(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for hook in 0..counter::HOOKS {
            let index = counter::index(hook, counter::DELIVERED);
            sum += self.counters.get(&index, 0)?.iter().sum::<u64>();
        }
        Ok(sum)
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

    /// The kernel's books, indexed as [`counter`] says.
    ///
    /// # Errors
    ///
    /// What the map says.
    pub fn books(&self) -> anyhow::Result<[u64; counter::COUNTERS as usize]> {
        let mut books = [0; counter::COUNTERS as usize];
        for (index, value) in (0u32..).zip(books.iter_mut()) {
            *value = self.counters.get(&index, 0)?.iter().sum();
        }
        Ok(books)
    }

    /// Books the runs that the kernel left out, as if the hook had seen the operation and could not
    /// read it. They are those of this copy of the programs, and so in no checkpoint.
    pub fn book_skipped(&self, books: &mut [u64; counter::COUNTERS as usize]) {
        for (hook, skipped) in &self.skipped {
            for outcome in [counter::ATTEMPTED, counter::DROPPED_UNREADABLE] {
                let index = counter::index(*hook, outcome) as usize;
                if let Some(value) = books.get_mut(index) {
                    *value += skipped;
                }
            }
        }
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

/// The folder of the pins, if the kernel side is to be pinned and can be.
fn open_pins(options: &Options) -> Result<Option<Pins>, LoadError> {
    let Some(folder) = &options.pin else {
        return Ok(None);
    };
    match Pins::open(folder) {
        Ok(pins) => {
            check_maps(&pins)?;
            Ok(Some(pins))
        }
        Err(error @ PinsError::NotThere { .. }) => {
            tracing::warn!("what happens after this monitor's end will not be seen: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The maps that are pinned are what they are taken for.
fn check_maps(pins: &Pins) -> Result<(), PinsError> {
    for (name, kind, key, value) in LASTING {
        let path = pins.map(name);
        if !path.exists() {
            continue;
        }
        let found = MapInfo::from_pin(&path)
            .and_then(|info| Ok((info.map_type()?, info.key_size(), info.value_size())));
        let wanted = match found {
            Ok((is, its_key, its_value)) => {
                let sizes = (its_key as usize, its_value as usize);
                is == kind && (key == 0 || sizes == (key, value))
            }
            Err(_) => false,
        };
        if !wanted {
            return Err(pins.foreign(&path, format!("it is not the map {name}")));
        }
    }
    Ok(())
}

/// Records and flows in the maps of another layout, of which no more is known.
fn left_in(folder: &Path) -> u64 {
    let mut left = 0;
    for name in RINGS {
        let ring = MapData::from_pin(folder.join(name))
            .and_then(Map::from_map_data)
            .and_then(RingBuf::try_from);
        if let Ok(mut ring) = ring {
            while ring.next().is_some() {
                left += 1;
            }
        }
    }
    left
}

/// Creates the maps, or takes those that are pinned, with the offsets of this kernel written in.
fn create(options: &Options, pins: Option<&Pins>, btf: &aya::Btf) -> Result<Ebpf, LoadError> {
    let btf_bytes = std::fs::read(BTF_PATH).map_err(LoadError::NoBtf)?;
    let offsets = offsets::resolve(&Btf::parse(btf_bytes)?)?;
    let report_all = u32::from(options.report_all);
    let sample_flows = u32::from(options.sample_flows);
    // Two ports in each number.
    let mut ports = [0_u32; DNS_PORTS_MAX / 2];
    for (place, port) in options.dns_ports.iter().take(DNS_PORTS_MAX).enumerate() {
        ports[place / 2] |= u32::from(*port) << (place % 2 * 16);
    }
    let generation = pins.map_or(0, Pins::generation);
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf)); // Instead of a copy of its own.
    loader.override_global("REPORT_ALL", &report_all, true);
    loader.override_global("OWN_GENERATION", &generation, true);
    loader.override_global("SAMPLE_FLOWS", &sample_flows, true);
    loader.override_global("DNS_PORTS_A", &ports[0], true);
    loader.override_global("DNS_PORTS_B", &ports[1], true);
    for (global, offset) in &offsets {
        loader.override_global(global, offset, true);
    }
    if let Some(pins) = pins {
        for (name, ..) in LASTING {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    loader.load(OBJECT).map_err(object_error)
}

fn kernel_btf() -> Result<aya::Btf, LoadError> {
    std::fs::metadata(BTF_PATH).map_err(LoadError::NoBtf)?;
    aya::Btf::from_sys_fs().map_err(|error| LoadError::Object(error.to_string()))
}

fn program_of<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, LoadError> {
    ebpf.program_mut(name)
        .ok_or_else(|| LoadError::Object(format!("no program {name}")))
}

/// What became of a program.
enum Loaded {
    Itself,
    StandIn,
    Not(LoadError),
}

/// Loads a program or, where the kernel cannot have it, its stand-in.
fn load_one(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    name: &'static str,
    hook: Hook,
) -> Result<Loaded, LoadError> {
    let Err(error) = attach::load(program_of(ebpf, name)?, btf, hook) else {
        return Ok(Loaded::Itself);
    };
    if let Some((stand_in, hook)) = attach::stand_in(name)
        && attach::load(program_of(ebpf, stand_in)?, btf, hook).is_ok()
    {
        return Ok(Loaded::StandIn);
    }
    Ok(Loaded::Not(program_error(name, &error)))
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
    let btf = kernel_btf()?;
    let mut ebpf = create(&Options::default(), None, &btf)?;
    let mut results = Vec::new();
    for (name, hook, need) in programs() {
        let loaded = match load_one(&mut ebpf, &btf, name, hook)? {
            Loaded::Itself | Loaded::StandIn => Ok(()),
            Loaded::Not(error) => Err(error),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_lasts_but_the_scratch_space() {
        let source = include_str!("../../../monitor-ebpf/src/maps.rs");
        let mut declared: Vec<&str> = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub static ")?.split(':').next())
            .filter(|name| *name != "SCRATCH")
            .collect();
        let mut lasting = LASTING.map(|(name, ..)| name).to_vec();
        declared.sort_unstable();
        lasting.sort_unstable();
        assert_eq!(lasting, declared);
    }
}

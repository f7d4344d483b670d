//! What the kernel side costs, and how full its tables are.
//!
//! In: the loaded programs and maps. Out: numbers for the metrics; no record depends on them.

use std::time::Duration;

use aya::maps::{HashMap, MapData};
use monitor_common::limits::{BUDGETS_MAX, WATCHED_MAX};

use super::Kernel;
use crate::host::HostRoot;

/// What the kernel side says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The kernel measures how long programs run.
    pub measured: bool,
    /// Each program that is loaded.
    pub programs: Vec<ProgramFigures>,
    /// Tables: name, entries, and the most it can hold.
    pub maps: Vec<(&'static str, u64, u64)>,
}

/// What one program cost since it was loaded, while the kernel measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramFigures {
    /// Its name.
    pub name: &'static str,
    /// Runs.
    pub runs: u64,
    /// Time that they took together.
    pub run_time: Duration,
}

impl Kernel {
    /// Asks the kernel. Counting entries takes a call for each: once a minute is often enough.
    #[must_use]
    pub fn figures(&self, host: &HostRoot) -> Figures {
        let programs = super::programs().filter_map(|(name, ..)| {
            let (object_name, _) = self.in_object(name)?;
            let info = self.ebpf.program(object_name)?.info().ok()?;
            Some(ProgramFigures {
                name,
                runs: info.run_count(),
                run_time: info.run_time(),
            })
        });
        let mut maps = vec![(
            "watched",
            self.watched.keys().count() as u64,
            u64::from(WATCHED_MAX),
        )];
        if let Some(entries) = self.budgets() {
            maps.push(("budgets", entries, u64::from(BUDGETS_MAX)));
        }
        Figures {
            measured: host.measures_programs(),
            programs: programs.collect(),
            maps,
        }
    }

    fn budgets(&self) -> Option<u64> {
        let map = self.ebpf.map("BUDGETS")?;
        let map: HashMap<&MapData, [u8; 16], [u8; 32]> = map.try_into().ok()?;
        Some(map.keys().count() as u64)
    }
}

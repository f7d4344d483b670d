//! Which program image each process is, was, and came from.
//!
//! In: forks, execs, exits and the time. Out: the [`ProcessView`] of the image that a record
//! names, and the [`Lineage`] that the attribution of a new image starts from.
//!
//! One entry is one image: a process that executes twice has two. An image that is over stays
//! for [`GRACE`], because flow records and drained counters come after the exit record. A view
//! refers to its parent by value ([`ParentView`]) and never to another entry, so that nothing
//! keeps a chain of dead ancestors alive.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use monitor_common::flow::ProcessKey;
use sha2::{Digest, Sha256};

use super::attribute::Attribution;
use super::event::{BootNs, CgroupId, ExeFile, ProcessExecuted, ProcessExited, ProcessForked};
use super::job::JobOf;
use super::place::Place;
use super::report::{Limit, Origin, ParentView, ProcessView};

/// How long an image stays after its end. Flow counters are drained every few seconds and the
/// rings more often; a minute leaves room for a collector that was held up.
pub const GRACE: Duration = Duration::from_secs(60);

/// Stands for a user or group id that no record told: the kernel's own "no such id".
pub const UNKNOWN_ID: u32 = u32::MAX;

/// Ancestors that are asked about: a job's step is below a runner, a shell, some build tools.
const ANCESTRY_MAX: usize = 32;

/// Bytes of the digest that an entity id shows: 64 bits tell apart all processes of a fleet.
const ENTITY_BYTES: usize = 8;

/// All program images that run, and those that ended a moment ago.
#[derive(Debug)]
pub struct ProcessTable {
    boot_id: String,
    capacity: usize,
    images: BTreeMap<Slot, Image>,
    /// What is over, in the order in which it is forgotten.
    ended: BTreeSet<(BootNs, Slot)>,
}

/// One program image.
#[derive(Debug)]
struct Image {
    view: Arc<ProcessView>,
    /// When the process exited or became another image.
    ended: Option<BootNs>,
}

/// Where an image stands: by pid, then start, then exec, so that one range of the table holds
/// everything that a pid ever was, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    tgid: u32,
    start_ns: u64,
    exec_id: u32,
}

impl Slot {
    fn of(key: ProcessKey) -> Slot {
        Slot {
            tgid: key.tgid,
            start_ns: key.start_ns,
            exec_id: key.exec_id,
        }
    }

    /// Before anything that has this pid.
    fn first_of_pid(self) -> Slot {
        Slot {
            start_ns: 0,
            exec_id: 0,
            ..self
        }
    }

    /// The process before its first exec.
    fn first_of_process(self) -> Slot {
        Slot { exec_id: 0, ..self }
    }

    /// The process after its last possible exec.
    fn last_of_process(self) -> Slot {
        Slot {
            exec_id: u32::MAX,
            ..self
        }
    }
}

/// What a new image comes from, as far as it is known.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// The program whose process this was before, or else its parent: what the new image
    /// inherits its tool from.
    pub ancestor: Option<Arc<ProcessView>>,
    /// The pid under which the ancestor runs, or ran.
    pub ancestor_pid: u32,
    /// The process that forked the one that executes.
    pub parent: Option<Arc<ParentView>>,
}

/// What is known of a new image besides its own record.
#[derive(Clone, Debug)]
pub struct Origination {
    /// What it comes from.
    pub lineage: Lineage,
    /// The tool that it belongs to.
    pub tool: Option<Attribution>,
    /// Where it runs.
    pub place: Option<Arc<Place>>,
    /// The build job that it is part of; `None`: its ancestor's.
    pub job: Option<JobOf>,
    /// Switches that its environment sets; `None`: its ancestor's.
    pub opted_out: Option<Arc<[Arc<str>]>>,
}

/// A view that was made, and the bound that was met when it was put into the table.
#[derive(Clone, Debug)]
pub struct Inserted {
    /// The view; valid also where the table had no room for it.
    pub view: Arc<ProcessView>,
    /// [`Limit::Processes`] if another image was evicted for it, or it was refused.
    pub limited: Option<Limit>,
}

impl ProcessTable {
    /// An empty table for the boot `boot_id` that holds at most `capacity` images.
    #[must_use]
    pub fn new(boot_id: String, capacity: usize) -> Self {
        ProcessTable {
            boot_id,
            capacity,
            images: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    /// Number of images, the ones in [`GRACE`] included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether the table holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The images that run now, by pid.
    pub fn live(&self) -> impl Iterator<Item = &Arc<ProcessView>> {
        self.images
            .values()
            .filter(|image| image.ended.is_none())
            .map(|image| &image.view)
    }

    /// The image that `key` names. Where the record of that image was lost, the newest known
    /// one of the same process: its view's `key` then differs from `key`.
    #[must_use]
    pub fn find(&self, key: ProcessKey) -> Option<&Arc<ProcessView>> {
        let place = Slot::of(key);
        let newest = || self.newest_in(place.first_of_process()..=place.last_of_process());
        self.images
            .get(&place)
            .or_else(newest)
            .map(|image| &image.view)
    }

    /// Whether the process of `key`, whatever program it runs, is known to have ended.
    #[must_use]
    pub fn is_gone(&self, key: ProcessKey) -> bool {
        let place = Slot::of(key);
        self.newest_in(place.first_of_process()..=place.last_of_process())
            .is_some_and(|newest| newest.ended.is_some())
    }

    /// A view of a process of which only `key` is known, or of the kernel if `key` is zero. It is
    /// not put into the table: nothing would tell when to remove it.
    #[must_use]
    pub fn unknown(&self, key: ProcessKey, uid: u32, cgroup: CgroupId) -> ProcessView {
        ProcessView {
            key,
            entity_id: self.entity_id(key),
            parent: None,
            exe: "".into(),
            exe_file: ExeFile::default(),
            args: [].into(),
            args_truncated: true,
            started: BootNs(key.start_ns),
            uid,
            gid: UNKNOWN_ID,
            cgroup,
            place: None,
            job: JobOf::NotAsked,
            opted_out: Arc::default(),
            origin: if key == ProcessKey::default() {
                Origin::Kernel
            } else {
                Origin::Unknown
            },
            tool: None,
        }
    }

    /// A known process forked: until it executes, the child is its parent's program, and belongs
    /// to its parent's tool for the same reasons. `None` if the parent is unknown or the child
    /// was found running before its fork was told.
    pub fn forked(&mut self, event: &ProcessForked, now: BootNs) -> Option<Inserted> {
        if self.images.contains_key(&Slot::of(event.process)) {
            return None;
        }
        let parent = self.find(event.parent)?;
        let child = ProcessView {
            key: event.process,
            entity_id: self.entity_id(event.process),
            parent: Some(ParentView::of(parent)),
            started: event.time,
            origin: Origin::Forked,
            ..ProcessView::clone(parent)
        };
        Some(self.insert(child, now))
    }

    /// Whether `found` tells nothing new: the table has this image of the process or a later one.
    #[must_use]
    pub fn outdates(&self, found: &ProcessExecuted) -> bool {
        self.find(found.process)
            .is_some_and(|known| known.key.exec_id >= found.process.exec_id)
    }

    /// Where the image that `event` tells of comes from: the fork record and the image before
    /// it, or else, where those are unknown, the parent that the kernel names now.
    #[must_use]
    pub fn lineage(&self, event: &ProcessExecuted) -> Lineage {
        let place = Slot::of(event.process);
        if let Some(before) = self.newest_in(place.first_of_process()..place) {
            let parent = before.view.parent.clone();
            let forker = parent
                .as_ref()
                .filter(|_| before.view.origin == Origin::Forked);
            let ancestor_pid = forker.map_or(event.process.tgid, |parent| parent.key.tgid);
            return Lineage {
                ancestor: Some(Arc::clone(&before.view)),
                ancestor_pid,
                parent,
            };
        }
        let ancestor = self.find(event.parent).cloned();
        let parent = match &ancestor {
            Some(view) => Some(ParentView::of(view)),
            None if event.parent.tgid == 0 => None,
            None => Some(ParentView::of(&self.unknown(
                event.parent,
                UNKNOWN_ID,
                CgroupId(0),
            ))),
        };
        Lineage {
            ancestor,
            ancestor_pid: event.parent.tgid,
            parent,
        }
    }

    /// A process became a new program image, or was found running one.
    pub fn executed(&mut self, event: ProcessExecuted, from: Origination, now: BootNs) -> Inserted {
        let Origination {
            lineage,
            tool,
            place,
            job,
            opted_out,
        } = from;
        let inherited = lineage.ancestor.as_ref();
        let inherited_out = inherited.map(|ancestor| Arc::clone(&ancestor.opted_out));
        let inherited = inherited.map(|ancestor| ancestor.job.clone());
        let view = ProcessView {
            key: event.process,
            entity_id: self.entity_id(event.process),
            parent: lineage.parent,
            exe: event.exe.into(),
            exe_file: event.exe_file,
            args: event.args.into(),
            args_truncated: event.args_truncated,
            started: event.time,
            uid: event.uid,
            gid: event.gid,
            cgroup: event.cgroup,
            place,
            job: job.or(inherited).unwrap_or_default(),
            opted_out: opted_out.or(inherited_out).unwrap_or_default(),
            origin: if event.found {
                Origin::Found
            } else {
                Origin::Executed
            },
            tool: tool.map(Arc::new),
        };
        self.insert(view, now)
    }

    /// A process exited. Its last image, if any is known.
    pub fn exited(&mut self, event: &ProcessExited, now: BootNs) -> Option<Arc<ProcessView>> {
        let last = self.find(event.process).cloned();
        let place = Slot::of(event.process);
        self.end(place.first_of_process()..=place.last_of_process(), now);
        last
    }

    /// The image that `key` names and its ancestors, nearest first, as far as they are known.
    #[must_use]
    pub fn ancestry(&self, key: ProcessKey, parent: Option<ProcessKey>) -> Vec<ProcessKey> {
        let mut ancestry = vec![key];
        let mut next = parent;
        while let Some(key) = next.filter(|_| ancestry.len() < ANCESTRY_MAX) {
            ancestry.push(key);
            let view = self.find(key);
            next = view
                .and_then(|view| view.parent.as_ref())
                .map(|parent| parent.key);
        }
        ancestry
    }

    /// Changes what is known of an image. Views that were handed out stay as they are.
    pub fn amend(&mut self, key: ProcessKey, change: impl FnOnce(&mut ProcessView)) {
        if let Some(image) = self.images.get_mut(&Slot::of(key)) {
            change(Arc::make_mut(&mut image.view));
        }
    }

    /// More is known of a cgroup: tells it to all that are in it.
    pub fn place_known(&mut self, cgroup: CgroupId, place: &Arc<Place>) {
        for image in self.images.values_mut() {
            if image.view.cgroup == cgroup && image.view.place.as_ref() != Some(place) {
                Arc::make_mut(&mut image.view).place = Some(Arc::clone(place));
            }
        }
    }

    /// Forgets what ended longer than [`GRACE`] ago.
    pub fn sweep(&mut self, now: BootNs) {
        while self
            .ended
            .first()
            .is_some_and(|(ended, _)| now.since(*ended) >= GRACE)
        {
            self.forget_oldest_ended();
        }
    }

    fn newest_in(&self, places: impl RangeBounds<Slot>) -> Option<&Image> {
        self.images
            .range(places)
            .next_back()
            .map(|(_, image)| image)
    }

    fn insert(&mut self, view: ProcessView, now: BootNs) -> Inserted {
        let place = Slot::of(view.key);
        let view = Arc::new(view);
        // A pid has one process at a time and a process one image: what stood here before is
        // over, even if the record that said so was lost.
        self.end(place.first_of_pid()..place, now);
        let full = self.images.len() >= self.capacity && !self.images.contains_key(&place);
        if !full || self.forget_oldest_ended() {
            self.images.insert(
                place,
                Image {
                    view: Arc::clone(&view),
                    ended: None,
                },
            );
        }
        Inserted {
            view,
            limited: full.then_some(Limit::Processes),
        }
    }

    fn end(&mut self, places: impl RangeBounds<Slot>, now: BootNs) {
        for (place, image) in self.images.range_mut(places) {
            if image.ended.is_none() {
                image.ended = Some(now);
                self.ended.insert((now, *place));
            }
        }
    }

    /// `false` if every image runs still.
    fn forget_oldest_ended(&mut self) -> bool {
        let oldest = self.ended.pop_first();
        oldest.is_some_and(|(_, place)| self.images.remove(&place).is_some())
    }

    /// SHA-256 over the boot id and the key's fields (little-endian), cut and in hex.
    fn entity_id(&self, key: ProcessKey) -> Arc<str> {
        let digest = Sha256::new()
            .chain_update(&self.boot_id)
            .chain_update(key.start_ns.to_le_bytes())
            .chain_update(key.tgid.to_le_bytes())
            .chain_update(key.exec_id.to_le_bytes())
            .finalize();
        digest
            .iter()
            .take(ENTITY_BYTES)
            .fold(String::new(), |mut hex, byte| {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::attribute::Role;
    use crate::core::fixture::{at, executed, exited, forked, image, member, next};

    fn table() -> ProcessTable {
        ProcessTable::new("a boot".to_owned(), 100)
    }

    impl From<Lineage> for Origination {
        fn from(lineage: Lineage) -> Self {
            let (tool, place, job, opted_out) = (None, None, None, None);
            Origination {
                lineage,
                tool,
                place,
                job,
                opted_out,
            }
        }
    }

    impl ProcessTable {
        /// A process executes, attributed to no tool.
        fn exec(&mut self, key: ProcessKey, parent: ProcessKey, exe: &str, now: u64) -> Inserted {
            let event = executed(key, parent, &[exe]);
            let lineage = self.lineage(&event);
            self.executed(event, Origination::from(lineage), at(now))
        }
    }

    #[track_caller]
    fn check_exe(table: &ProcessTable, key: ProcessKey, exe: Option<&str>) {
        assert_eq!(table.find(key).map(|view| &*view.exe), exe);
    }

    #[test]
    fn a_fork_is_its_parents_program_until_it_executes() {
        let mut table = table();
        let event = executed(image(1), image(0), &["/bin/claude", "-p"]);
        let lineage = table.lineage(&event);
        let claude = (*member("claude-code", Role::Main, true).tool.unwrap()).clone();
        let parent = {
            let from = Origination {
                tool: Some(claude),
                ..Origination::from(lineage)
            };
            table.executed(event, from, at(1)).view
        };

        let child = table
            .forked(&forked(image(2), image(1)), at(2))
            .unwrap()
            .view;
        assert_eq!(child.origin, Origin::Forked);
        assert!(Arc::ptr_eq(&child.args, &parent.args));
        assert!(Arc::ptr_eq(
            child.tool.as_ref().unwrap(),
            parent.tool.as_ref().unwrap()
        ));
        assert_eq!(child.parent.as_ref().unwrap().entity_id, parent.entity_id);
        assert_ne!(child.entity_id, parent.entity_id);
    }

    #[test]
    fn ancestors_are_told_nearest_first_and_an_endless_line_is_cut() {
        let mut table = ProcessTable::new("a boot".to_owned(), 300);
        table.exec(image(1), ProcessKey::default(), "/1", 0);
        for pid in 2..200 {
            table.exec(image(pid), image(pid - 1), &format!("/{pid}"), 0);
        }
        let exes = |pid| -> Vec<String> {
            let view = table.find(image(pid)).unwrap();
            view.ancestors().map(|it| it.exe.to_string()).collect()
        };
        assert_eq!(exes(4), ["/3", "/2", "/1"]);
        let nearest: Vec<_> = (191..199).rev().map(|pid| format!("/{pid}")).collect();
        assert_eq!(exes(199), nearest);
        let held = |pid| {
            let view = table.find(image(pid)).unwrap();
            std::iter::successors(view.parent.as_deref(), |it| it.parent.as_deref()).count()
        };
        assert!((2..200).all(|pid| held(pid) <= 65), "{}", held(199));
    }

    #[test]
    fn an_exec_descends_from_the_forker_whatever_the_kernel_calls_its_parent() {
        let mut table = table();
        table.exec(image(10), image(1), "/bin/bash", 1);
        table.forked(&forked(image(11), image(10)), at(1));

        let event = executed(next(image(11)), image(1), &["/bin/curl"]);
        let lineage = table.lineage(&event);
        assert_eq!(&*lineage.ancestor.as_ref().unwrap().exe, "/bin/bash");
        assert_eq!(lineage.ancestor_pid, 10);
        assert_eq!(lineage.parent.as_ref().unwrap().key, image(10));

        // The image before the exec is the ancestor of the next one, under the same pid.
        table.executed(event, Origination::from(lineage), at(2));
        let event = executed(next(next(image(11))), image(1), &["/bin/true"]);
        let lineage = table.lineage(&event);
        assert_eq!(&*lineage.ancestor.unwrap().exe, "/bin/curl");
        assert_eq!(lineage.ancestor_pid, 11);
        assert_eq!(lineage.parent.unwrap().key, image(10));
    }

    #[test]
    fn an_exec_of_an_unknown_process_takes_the_parent_that_the_kernel_names() {
        let mut table = table();
        table.exec(image(10), image(1), "/bin/bash", 1);
        let lineage = table.lineage(&executed(next(image(11)), image(10), &["/bin/curl"]));
        assert_eq!(&*lineage.ancestor.unwrap().exe, "/bin/bash");
        assert_eq!(lineage.ancestor_pid, 10);

        let lineage = table.lineage(&executed(next(image(12)), image(99), &["/bin/curl"]));
        assert!(lineage.ancestor.is_none());
        assert_eq!(lineage.parent.unwrap().key, image(99));
        assert!(
            table
                .lineage(&executed(image(1), image(0), &["/init"]))
                .parent
                .is_none()
        );
    }

    #[test]
    fn an_image_is_found_until_the_grace_after_its_end_is_over() {
        let mut table = table();
        table.exec(image(1), image(0), "/bin/sh", 1);
        table.exec(next(image(1)), image(0), "/bin/curl", 100);
        table.sweep(at(100 + GRACE.as_secs() - 1));
        check_exe(&table, image(1), Some("/bin/sh"));
        table.sweep(at(100 + GRACE.as_secs()));
        check_exe(&table, image(1), Some("/bin/curl"));

        assert_eq!(
            &*table.exited(&exited(next(image(1))), at(200)).unwrap().exe,
            "/bin/curl"
        );
        assert_eq!(table.live().count(), 0);
        table.sweep(at(199 + GRACE.as_secs()));
        check_exe(&table, next(image(1)), Some("/bin/curl"));
        table.sweep(at(200 + GRACE.as_secs()));
        check_exe(&table, next(image(1)), None);
        assert!(table.is_empty() && table.ended.is_empty());
    }

    #[test]
    fn a_lost_exec_shows_the_image_before_it() {
        let mut table = table();
        table.exec(image(1), image(0), "/bin/sh", 1);
        let view = table.find(next(image(1))).unwrap();
        assert_eq!((&*view.exe, view.key), ("/bin/sh", image(1)));
        check_exe(&table, image(2), None);
    }

    #[test]
    fn no_process_is_the_kernel_and_one_without_records_is_unknown() {
        let origin = |key| table().unknown(key, UNKNOWN_ID, CgroupId(0)).origin;
        assert_eq!(origin(ProcessKey::default()), Origin::Kernel);
        assert_eq!(origin(image(1)), Origin::Unknown);
    }

    #[test]
    fn a_pid_in_use_again_is_another_process_and_ends_the_one_before() {
        let mut table = table();
        let reused = ProcessKey {
            start_ns: 5,
            ..image(1)
        };
        table.exec(image(1), image(0), "/bin/old", 1);
        table.exec(reused, image(0), "/bin/new", 2);
        check_exe(&table, image(1), Some("/bin/old"));
        check_exe(&table, reused, Some("/bin/new"));
        // The exit record of the old one was lost; it is not kept for ever.
        assert_eq!(table.live().count(), 1);
        table.sweep(at(2 + GRACE.as_secs()));
        check_exe(&table, image(1), None);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_exit_and_never_a_live_image() {
        let mut table = ProcessTable::new(String::new(), 3);
        for pid in 1..=3 {
            assert_eq!(table.exec(image(pid), image(0), "/bin/x", 1).limited, None);
        }
        table.exited(&exited(image(2)), at(2));
        table.exited(&exited(image(1)), at(3));
        assert_eq!(
            table.exec(image(4), image(0), "/bin/x", 4).limited,
            Some(Limit::Processes)
        );
        check_exe(&table, image(2), None);
        check_exe(&table, image(1), Some("/bin/x"));
        assert_eq!(
            table.exec(image(5), image(0), "/bin/x", 4).limited,
            Some(Limit::Processes)
        );
        // Pids 3, 4 and 5 run: the next one is refused, yet told.
        let refused = table.exec(image(6), image(0), "/bin/y", 4);
        assert_eq!(
            (refused.limited, &*refused.view.exe),
            (Some(Limit::Processes), "/bin/y")
        );
        check_exe(&table, image(6), None);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn what_was_found_running_never_replaces_what_was_seen() {
        let mut table = table();
        table.exec(next(image(1)), image(0), "/bin/seen", 1);
        assert!(table.outdates(&executed(next(image(1)), image(0), &["/bin/seen"])));
        assert!(table.outdates(&executed(image(1), image(0), &["/bin/before"])));
        assert!(!table.outdates(&executed(next(next(image(1))), image(0), &["/bin/after"])));
        assert!(!table.outdates(&executed(image(2), image(0), &["/bin/other"])));
        assert!(
            table
                .forked(&forked(next(image(1)), next(image(1))), at(1))
                .is_none()
        );
    }

    #[test]
    fn entity_ids_differ_by_boot_process_and_image_and_never_else() {
        let id = |boot: &str, key| {
            let table = ProcessTable::new(boot.to_owned(), 1);
            table.unknown(key, 0, CgroupId(0)).entity_id.to_string()
        };
        let started_later = ProcessKey {
            start_ns: 1,
            ..image(1)
        };
        let ids = [
            id("a", image(1)),
            id("b", image(1)),
            id("a", image(2)),
            id("a", next(image(1))),
            id("a", started_later),
        ];
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        // Pinned: other tools join on it.
        assert_eq!(id("a", image(1)), "37b92239a4759ad1");
    }
}

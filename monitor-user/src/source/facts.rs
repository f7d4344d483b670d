//! Facts of the host that no kernel record holds: paths of cgroups that are older than the
//! monitor, names of containers, build jobs.
//!
//! In: the collector's [`Question`]s. Out: answers as records, so that a recording holds them and a
//! replay needs no host. An answer that comes late is handed out by the next [`Facts::late`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use monitor_common::flow::ProcessKey;
use monitor_common::limits::{CGROUP_BYTES, FACTS_BYTES};
use monitor_common::record::{
    CgroupHead, ContainerTold, Header, JobTold, KIND_CGROUP_MADE, KIND_CONTAINER_TOLD,
    KIND_JOB_TOLD,
};
use zerocopy::{Immutable, IntoBytes};

use super::asker::Asker;
use crate::core::event::{BootNs, CgroupId};
use crate::core::report::{FactCounts, Question};
use crate::host::HostRoot;
use crate::host::environment::Wanted;

/// How long a record waits for what it asks about, at most. A look takes less than a millisecond,
/// and seldom comes up; on a busy host the thread may have to wait for its turn. The rings hold more
/// than that.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often the cgroup tree is walked, at most: one that is unknown after a walk was removed.
const WALK_INTERVAL: Duration = Duration::from_secs(1);

/// Answers the collector's questions.
pub struct Facts {
    /// Cgroups and containers.
    places: Asker<Question, Answer>,
    /// Environments: a thread of their own, as a process can make them hang.
    jobs: Asker<Question, Answer>,
    /// Variables may be read.
    reads_jobs: bool,
    counts: FactCounts,
}

/// What was found out.
enum Answer {
    Cgroup {
        cgroup: CgroupId,
        path: Option<String>,
    },
    Container {
        cgroup: CgroupId,
        facts: Vec<(String, String)>,
        malformed: bool,
    },
    Job {
        process: ProcessKey,
        variables: Vec<(String, String)>,
    },
}

impl Facts {
    /// Starts the threads. `wanted`: the variables that may be read; `None` reads none.
    /// `switches`: those of the catalog, of which is read whether they are set.
    ///
    /// # Errors
    ///
    /// There can be no further thread.
    pub fn start(
        host: &HostRoot,
        wanted: Option<Wanted>,
        switches: Vec<String>,
    ) -> std::io::Result<Facts> {
        let reads_jobs = wanted.is_some();
        let mut places = Reader::new(host, Wanted::default(), Vec::new());
        let mut jobs = Reader::new(host, wanted.unwrap_or_default(), switches);
        Ok(Facts {
            places: Asker::start("places", move |question| places.answer(question))?,
            jobs: Asker::start("jobs", move |question| jobs.answer(question))?,
            reads_jobs,
            counts: FactCounts::default(),
        })
    }

    /// The answers to a question, as records of this time, if they come in time.
    pub fn ask(&mut self, question: Question, now: BootNs) -> Vec<Vec<u8>> {
        let asker = match question {
            Question::Job { .. } if !self.reads_jobs => return Vec::new(),
            Question::Job { .. } => &mut self.jobs,
            Question::Cgroup(_) | Question::Container { .. } => &mut self.places,
        };
        if !asker.ask(question) {
            self.counts.skipped += 1;
            return Vec::new();
        }
        let mut answers = Vec::new();
        asker.wait(PATIENCE, |answer| answers.push(answer));
        self.records(answers, now)
    }

    /// Answers that did not come in time and are there now.
    pub fn late(&mut self, now: BootNs) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        for asker in [&mut self.places, &mut self.jobs] {
            asker.wait(Duration::ZERO, |answer| answers.push(answer));
        }
        self.records(answers, now)
    }

    /// What became of questions since the last call.
    pub fn take_counts(&mut self) -> FactCounts {
        std::mem::take(&mut self.counts)
    }

    fn records(&mut self, answers: Vec<Answer>, now: BootNs) -> Vec<Vec<u8>> {
        for answer in &answers {
            let (is_empty, malformed) = match answer {
                Answer::Cgroup { path, .. } => (path.is_none(), false),
                Answer::Container {
                    facts, malformed, ..
                } => (facts.is_empty(), *malformed),
                Answer::Job { variables, .. } => (variables.is_empty(), false),
            };
            let count = match (malformed, is_empty) {
                (true, _) => &mut self.counts.malformed,
                (false, true) => &mut self.counts.none,
                (false, false) => &mut self.counts.found,
            };
            *count += 1;
        }
        answers.iter().map(|answer| record(answer, now)).collect()
    }
}

/// What a thread reads with.
struct Reader {
    host: HostRoot,
    wanted: Wanted,
    switches: Vec<String>,
    walk: Option<Walk>,
}

/// The cgroup tree as it was when it was last walked.
struct Walk {
    at: Instant,
    paths: HashMap<u64, String>,
}

impl Reader {
    fn new(host: &HostRoot, wanted: Wanted, switches: Vec<String>) -> Self {
        Reader {
            host: host.clone(),
            wanted,
            switches,
            walk: None,
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Cgroup(cgroup) => Answer::Cgroup {
                cgroup,
                path: self.path(cgroup),
            },
            Question::Container { cgroup, id } => {
                let found = self.host.container(&id);
                let facts = found.facts.into_iter();
                Answer::Container {
                    cgroup,
                    facts: facts
                        .map(|(fact, value)| (fact.name().to_owned(), value))
                        .collect(),
                    malformed: found.malformed,
                }
            }
            Question::Job { process, ancestry } => {
                // First what an answer too long would be cut after.
                let mut variables = self.host.set_switches(process, &self.switches);
                variables.extend(self.host.job_variables(&ancestry, &self.wanted));
                Answer::Job { process, variables }
            }
        }
    }

    fn path(&mut self, cgroup: CgroupId) -> Option<String> {
        let is_recent = |walk: &Walk| walk.at.elapsed() < WALK_INTERVAL;
        match &self.walk {
            Some(walk) if is_recent(walk) || walk.paths.contains_key(&cgroup.0) => {
                walk.paths.get(&cgroup.0).cloned()
            }
            _ => {
                let paths = self.host.cgroup_paths();
                let path = paths.get(&cgroup.0).cloned();
                let at = Instant::now();
                self.walk = Some(Walk { at, paths });
                path
            }
        }
    }
}

fn record(answer: &Answer, now: BootNs) -> Vec<u8> {
    let header = |kind, bytes: usize| Header {
        time_ns: now.0,
        kind,
        bytes: u32::try_from(bytes).unwrap_or_default(),
    };
    match answer {
        Answer::Cgroup { cgroup, path } => {
            let path = path.as_deref().unwrap_or_default().as_bytes();
            let path = path.get(..CGROUP_BYTES - 1).unwrap_or(path);
            let head = CgroupHead {
                header: header(KIND_CGROUP_MADE, size_of::<CgroupHead>() + path.len()),
                cgroup_id: cgroup.0,
                path_bytes: length(path),
                reserved: [0; 3],
            };
            joined(&head, path)
        }
        Answer::Container { cgroup, facts, .. } => {
            let facts = pairs(facts);
            let head = ContainerTold {
                header: header(
                    KIND_CONTAINER_TOLD,
                    size_of::<ContainerTold>() + facts.len(),
                ),
                cgroup_id: cgroup.0,
                facts_bytes: length(&facts),
                reserved: [0; 3],
            };
            joined(&head, &facts)
        }
        Answer::Job { process, variables } => {
            let variables = pairs(variables);
            let head = JobTold {
                header: header(KIND_JOB_TOLD, size_of::<JobTold>() + variables.len()),
                process: *process,
                facts_bytes: length(&variables),
                reserved: [0; 3],
            };
            joined(&head, &variables)
        }
    }
}

/// All of these are bounded far below what the field can hold.
fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or_default()
}

fn joined(head: &(impl IntoBytes + Immutable), tail: &[u8]) -> Vec<u8> {
    [head.as_bytes(), tail].concat()
}

/// `b"name=web\0image=example:1\0"`, as many whole ones as there is room for.
fn pairs(pairs: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in pairs {
        if bytes.len() + name.len() + value.len() + 2 > FACTS_BYTES {
            break;
        }
        bytes.extend_from_slice(format!("{name}={value}\0").as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::core::event::Event;

    /// Answers one question on a host of these files, where `wanted` may be read.
    #[track_caller]
    fn ask(
        files: &[(&str, &str)],
        wanted: Option<&str>,
        question: impl Fn(&HostRoot) -> Question,
    ) -> (Vec<Event>, FactCounts) {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let host = HostRoot(folder.path().to_owned());
        let wanted =
            wanted.map(|name| Wanted::from([(name.to_owned(), crate::core::job::Take::Value)]));
        let mut facts = Facts::start(&host, wanted, vec!["OUT=1".to_owned()]).unwrap();
        let mut records = facts.ask(question(&host), BootNs(7));
        while facts.places.open() + facts.jobs.open() > 0 {
            records.extend(facts.late(BootNs(7)));
        }
        let events = records.iter().map(|record| Event::decode(record).unwrap());
        (events.collect(), facts.take_counts())
    }

    const FOUND: FactCounts = FactCounts {
        found: 1,
        none: 0,
        malformed: 0,
        skipped: 0,
    };
    const NONE: FactCounts = FactCounts {
        found: 0,
        none: 1,
        malformed: 0,
        skipped: 0,
    };

    #[test]
    fn a_cgroup_that_is_there_has_a_path() {
        let files = [
            (
                "proc/self/mountinfo",
                "29 23 0:26 / /cgroup rw - cgroup2 cgroup2 rw\n",
            ),
            ("cgroup/web.service/cgroup.procs", ""),
        ];
        let id = |host: &HostRoot| host.0.join("cgroup/web.service").metadata().unwrap().ino();
        let (events, counts) = ask(&files, None, |host| Question::Cgroup(CgroupId(id(host))));
        let [Event::CgroupMade(made)] = &*events else {
            panic!("{events:?}")
        };
        assert_eq!(
            (made.time, made.path.as_deref(), counts),
            (BootNs(7), Some("/web.service"), FOUND)
        );
        let (events, counts) = ask(&files, None, |_| Question::Cgroup(CgroupId(u64::MAX)));
        let [Event::CgroupMade(made)] = &*events else {
            panic!("{events:?}")
        };
        assert_eq!(
            (made.cgroup, made.path.as_deref(), counts),
            (CgroupId(u64::MAX), None, NONE)
        );
    }

    #[test]
    fn a_container_is_told_by_its_facts() {
        let id = "a".repeat(64);
        let file = format!("var/lib/docker/containers/{id}/config.v2.json");
        let question = |_: &HostRoot| Question::Container {
            cgroup: CgroupId(9),
            id: "a".repeat(64).into(),
        };
        let (events, counts) = ask(
            &[(&file, r#"{"Name":"/web","Config":{"Image":"nginx"}}"#)],
            None,
            question,
        );
        let [Event::ContainerTold(told)] = &*events else {
            panic!("{events:?}")
        };
        let pairs: Vec<_> = told
            .facts
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!((told.cgroup, counts), (CgroupId(9), FOUND));
        assert_eq!(pairs, ["runtime=docker", "name=web", "image=nginx"]);
        let (events, counts) = ask(&[(&file, "{")], None, question);
        assert!(matches!(&*events, [Event::ContainerTold(told)] if told.facts.is_empty()));
        assert_eq!(
            counts,
            FactCounts {
                malformed: 1,
                none: 0,
                ..NONE
            }
        );
    }

    #[test]
    fn a_job_is_told_by_the_variables_that_may_be_read() {
        let files = [
            (
                "proc/5/stat",
                "5 (x) S 0 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 7 0 3 1 2\n",
            ),
            ("proc/5/environ", "SECRET=x\0ACME=7\0"),
        ];
        let process = ProcessKey {
            start_ns: 30_000_000,
            tgid: 5,
            exec_id: 2,
        };
        let question = |_: &HostRoot| Question::Job {
            process,
            ancestry: vec![process],
        };
        let (events, counts) = ask(&files, Some("ACME"), question);
        let [Event::JobTold(told)] = &*events else {
            panic!("{events:?}")
        };
        assert_eq!((told.process, counts), (process, FOUND));
        assert_eq!(told.variables, [("ACME".to_owned(), "7".to_owned())]);
        assert_eq!(ask(&files, Some("OTHER"), question).1, NONE);
        assert_eq!(
            ask(&files, None, question),
            (Vec::new(), FactCounts::default())
        );
    }

    #[test]
    fn a_record_holds_as_many_whole_facts_as_there_is_room_for() {
        let fact = ("name".to_owned(), "x".repeat(1_000));
        let bytes = pairs(&vec![fact; 10]);
        assert_eq!(bytes.len(), 4 * (4 + 1 + 1_000 + 1));
    }
}

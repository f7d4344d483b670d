//! What the collector asks of the host, and what it does with the answers: where processes run,
//! and which build job they are part of.
//!
//! In: events that are about to be applied, then answers as events. Out: [`Question`]s, at most
//! one at a time, and each once.

use std::sync::Arc;

use monitor_common::flow::ProcessKey;

use super::Collector;
use crate::core::attribute::Attribution;
use crate::core::event::{
    BootNs, CgroupId, CgroupMade, ContainerTold, Event, FlowOpened, Hook, JobTold, ProcessExecuted,
};
use crate::core::job::{Job, JobOf};
use crate::core::policy::judgement::Verdict;
use crate::core::report::{Effect, Limit, Question};

/// What was found out about the image that is about to start.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The tool that it belongs to, so that it need not be found out twice.
    pub(super) tool: Option<(ProcessKey, Option<Attribution>)>,
    /// Its build job.
    job: Option<(ProcessKey, JobOf)>,
}

impl Ahead {
    /// The job of this image, if that is the one that was asked about.
    pub(super) fn job_of(&mut self, image: ProcessKey) -> Option<JobOf> {
        let (asked, job) = self.job.take()?;
        (asked == image).then_some(job)
    }
}

impl Collector {
    /// What the collector would like to know before it is given `event`: `None` if nothing more.
    /// After the answer, which is an event, or without one, there may be a further question.
    pub fn question(&mut self, event: &Event) -> Option<Question> {
        let cgroup = match event {
            Event::ProcessExecuted(event) => event.cgroup,
            Event::FlowOpened(event) if is_of_caller(event) => event.cgroup,
            _ => return None,
        };
        if self.places.is_unknown(cgroup) {
            // Whatever comes of it: it is not asked again.
            let _ = self.places.made(cgroup, None, event.time());
            return Some(Question::Cgroup(cgroup));
        }
        if let Some(place) = self.places.to_ask(cgroup)
            && let Some(container) = &place.container
        {
            let id = Arc::clone(&container.id);
            return Some(Question::Container { cgroup, id });
        }
        match event {
            Event::ProcessExecuted(event) => self.job_of_exec(event),
            Event::FlowOpened(event) => self.job_of_stranger(event),
            _ => None,
        }
    }

    /// A new member of a tool is asked about, unless its ancestor was.
    fn job_of_exec(&mut self, event: &ProcessExecuted) -> Option<Question> {
        let key = event.process;
        if self
            .ahead
            .tool
            .as_ref()
            .is_some_and(|(image, _)| *image == key)
        {
            return None; // Asked about a moment ago.
        }
        let lineage = self.processes.lineage(event);
        let asked = |job: &JobOf| *job != JobOf::NotAsked;
        if lineage
            .ancestor
            .as_ref()
            .is_some_and(|from| asked(&from.job))
        {
            return None;
        }
        let tool = self.attribute(event, &lineage);
        let wanted = tool.is_some();
        self.ahead.tool = Some((key, tool));
        let parent = lineage.parent.map(|parent| parent.key);
        wanted.then(|| Question::Job {
            process: key,
            ancestry: self.processes.ancestry(key, parent),
        })
    }

    /// A stranger is asked about when it first reaches something that is judged.
    fn job_of_stranger(&mut self, event: &FlowOpened) -> Option<Question> {
        let view = self.processes.find(event.process)?;
        let (key, parent) = (view.key, view.parent.as_ref().map(|parent| parent.key));
        if !event.first || view.tool.is_some() || view.job != JobOf::NotAsked {
            return None;
        }
        let view = Arc::clone(view);
        let flow = self.judge(event.process, view, event.remote, false, event.time);
        if flow.judgement.verdict == Verdict::NotJudged {
            return None;
        }
        self.processes.amend(key, |view| view.job = JobOf::NoJob);
        Some(Question::Job {
            process: key,
            ancestry: self.processes.ancestry(key, parent),
        })
    }

    pub(super) fn cgroup_made(&mut self, event: &CgroupMade, now: BootNs) -> Vec<Effect> {
        let was_met = !self.places.is_unknown(event.cgroup);
        let forgotten = self.places.made(event.cgroup, event.path.as_deref(), now);
        if was_met && let Some(place) = self.places.meet(event.cgroup, now) {
            self.processes.place_known(event.cgroup, &place);
        }
        let limited = (forgotten > 0).then_some(Effect::Limited(Limit::Places));
        limited.into_iter().collect()
    }

    pub(super) fn container_told(&mut self, event: &ContainerTold) -> Vec<Effect> {
        if let Some(place) = self.places.told(event.cgroup, &event.facts) {
            self.processes.place_known(event.cgroup, &place);
        }
        Vec::new()
    }

    pub(super) fn job_told(&mut self, event: &JobTold) -> Vec<Effect> {
        let job = match Job::of(&event.variables) {
            Some(job) => JobOf::Job(Arc::new(job)),
            None => JobOf::NoJob,
        };
        let is_known = self
            .processes
            .find(event.process)
            .is_some_and(|view| view.key == event.process);
        if is_known {
            self.processes.amend(event.process, |view| view.job = job);
        } else {
            self.ahead.job = Some((event.process, job));
        }
        Vec::new()
    }

    /// A process that was moved to another cgroup since its exec is where its call came from.
    pub(super) fn notice_move(&mut self, event: &FlowOpened, now: BootNs) {
        if event.cgroup == CgroupId(0) || !is_of_caller(event) {
            return;
        }
        let view = self.processes.find(event.process);
        let Some(view) = view.filter(|view| view.cgroup != event.cgroup) else {
            return;
        };
        let key = view.key;
        let place = self.places.meet(event.cgroup, now);
        self.processes.amend(key, |view| {
            view.cgroup = event.cgroup;
            view.place = place;
        });
    }
}

/// Whether the record's cgroup is the one that the process itself called in.
fn is_of_caller(event: &FlowOpened) -> bool {
    matches!(event.hook, Hook::Connect | Hook::Sendmsg)
}

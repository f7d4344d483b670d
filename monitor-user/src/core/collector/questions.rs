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
use crate::core::job::{self, Job, JobOf};
use crate::core::policy::judgement::Verdict;
use crate::core::report::{Effect, Limit, Question};

/// What was found out about the image that is about to start.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The tool that it belongs to, so that it need not be found out twice.
    pub(super) tool: Option<(ProcessKey, Option<Attribution>)>,
    /// Its build job.
    job: Option<(ProcessKey, JobOf)>,
    /// The switches that its environment sets.
    opted_out: Option<(ProcessKey, Arc<[Arc<str>]>)>,
}

impl Ahead {
    /// The switches of this image, if that is the one that was asked about.
    pub(super) fn opted_out_of(&mut self, image: ProcessKey) -> Option<Arc<[Arc<str>]>> {
        let (asked, switches) = self.opted_out.take()?;
        (asked == image).then_some(switches)
    }

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
        let flow = self.judge(event.process, view, event.remote, false, None, event.time);
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
        let switches = job::switches(&event.variables);
        let is_known = self
            .processes
            .find(event.process)
            .is_some_and(|view| view.key == event.process);
        if is_known {
            self.processes.amend(event.process, |view| {
                view.job = job;
                view.opted_out = switches;
            });
        } else {
            self.ahead.job = Some((event.process, job));
            self.ahead.opted_out = Some((event.process, switches));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{
        at, catalog, config, executed, exited, forked, image, next, opened, resolved,
    };
    use crate::core::report::ProcessView;

    const NODE: &str = "/usr/bin/node";
    const CLI_JS: &str = "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js";
    const CLAUDE: [&str; 2] = [NODE, CLI_JS];
    const API: &str = "160.79.104.10:443";
    /// The cgroup of every event of the fixture.
    const CGROUP: CgroupId = CgroupId(7);

    fn collector() -> Collector {
        Collector::new(config(), Arc::new(catalog()))
    }

    /// All questions about an event, without answers, in short.
    fn questions(collector: &mut Collector, event: &Event) -> Vec<String> {
        let in_short = |question| match question {
            Question::Cgroup(cgroup) => format!("cgroup {}", cgroup.0),
            Question::Container { cgroup, id } => format!("container {} {id}", cgroup.0),
            Question::Job { process, ancestry } => {
                let pids: Vec<_> = ancestry.iter().map(|key| key.tgid).collect();
                format!("job {} {pids:?}", process.tgid)
            }
        };
        let ask = || collector.question(event);
        std::iter::from_fn(ask).map(in_short).collect()
    }

    fn exec(process: ProcessKey, command: &[&str]) -> Event {
        Event::ProcessExecuted(Box::new(executed(process, image(1), command)))
    }

    fn made(cgroup: CgroupId, path: Option<&str>) -> Event {
        let path = path.map(str::to_owned);
        let time = at(1);
        Event::CgroupMade(CgroupMade { time, cgroup, path })
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn job(process: ProcessKey, variables: &[(&str, &str)]) -> Event {
        Event::JobTold(JobTold {
            time: at(1),
            process,
            variables: pairs(variables),
        })
    }

    const GITLAB: [(&str, &str); 2] = [("GITLAB_CI", "true"), ("CI_JOB_ID", "7")];

    fn view(collector: &Collector, process: ProcessKey) -> &Arc<ProcessView> {
        collector.processes.find(process).unwrap()
    }

    /// The job as the process is told with it.
    fn job_of(collector: &Collector, process: ProcessKey) -> Option<String> {
        view(collector, process).job.job().map(ToString::to_string)
    }

    #[test]
    fn a_cgroup_is_asked_about_once_and_its_container_too() {
        let mut collector = collector();
        let event = exec(image(10), &["/bin/sh"]);
        assert_eq!(questions(&mut collector, &event), ["cgroup 7"]);
        assert_eq!(
            questions(&mut collector, &event),
            [""; 0],
            "without an answer"
        );
        collector.apply(event, at(1));
        assert_eq!(view(&collector, image(10)).place, None);

        // The answer comes late: what runs there is told with it from now on.
        let id = "a".repeat(64);
        let path = format!("/docker/{id}");
        collector.apply(made(CGROUP, Some(&path)), at(2));
        let place = |collector: &Collector| view(collector, image(10)).place.clone().unwrap();
        assert_eq!(&*place(&collector).path, path);
        let event = exec(image(11), &["/bin/sh"]);
        let container = format!("container 7 {id}");
        assert_eq!(questions(&mut collector, &event), [container]);
        collector.apply(
            Event::ContainerTold(ContainerTold {
                time: at(2),
                cgroup: CGROUP,
                facts: pairs(&[("name", "web")]),
            }),
            at(2),
        );
        let name = place(&collector).container.as_ref().unwrap().name.clone();
        assert_eq!(name.as_deref(), Some("web"));
        assert_eq!(questions(&mut collector, &event), [""; 0]);
    }

    #[test]
    fn what_the_kernel_told_is_not_asked() {
        let mut collector = collector();
        collector.apply(made(CGROUP, Some("/system.slice/x.service")), at(1));
        let event = exec(image(10), &["/bin/sh"]);
        assert_eq!(questions(&mut collector, &event), [""; 0]);
        collector.apply(event, at(1));
        let child = Event::ProcessForked(forked(image(11), image(10)));
        collector.apply(child, at(1));
        let unit = |process| view(&collector, process).place.as_ref()?.unit.clone();
        assert_eq!(&*unit(image(10)).unwrap().name, "x.service");
        assert_eq!(unit(image(11)), unit(image(10)));
    }

    #[test]
    fn a_process_that_was_moved_is_where_it_calls_from() {
        let mut collector = collector();
        collector.apply(made(CGROUP, Some("/a")), at(1));
        collector.apply(made(CgroupId(8), Some("/b")), at(1));
        collector.apply(exec(image(10), &["/bin/sh"]), at(1));
        let call = |cgroup, hook| {
            Event::FlowOpened(FlowOpened {
                cgroup,
                hook,
                ..opened(image(10), API, 1)
            })
        };
        let path = |collector: &Collector| {
            let view = view(collector, image(10));
            (
                view.cgroup.0,
                view.place.as_ref().map(|place| place.path.to_string()),
            )
        };
        // A packet's cgroup is its socket's, which may be of another time.
        collector.apply(call(CgroupId(8), Hook::Packet), at(1));
        assert_eq!(path(&collector), (7, Some("/a".to_owned())));
        collector.apply(call(CgroupId(0), Hook::Connect), at(1));
        assert_eq!(path(&collector), (7, Some("/a".to_owned())));
        collector.apply(call(CgroupId(8), Hook::Connect), at(1));
        assert_eq!(path(&collector), (8, Some("/b".to_owned())));
        assert_eq!(
            questions(&mut collector, &call(CgroupId(9), Hook::Connect)),
            ["cgroup 9"]
        );
    }

    /// A collector that knows the cgroup, a shell (10) and its child (11).
    fn with_shell() -> Collector {
        let mut collector = collector();
        collector.apply(made(CGROUP, Some("/")), at(1));
        collector.apply(exec(next(image(10)), &["/bin/bash"]), at(1));
        let child = ProcessKey {
            exec_id: 1,
            ..image(11)
        };
        collector.apply(Event::ProcessForked(forked(child, next(image(10)))), at(1));
        collector
    }

    #[test]
    fn a_tools_job_is_asked_once_for_it_and_its_children() {
        let mut collector = with_shell();
        let claude = next(next(image(11)));
        let event = exec(claude, &CLAUDE);
        assert_eq!(questions(&mut collector, &event), ["job 11 [11, 10, 1]"]);
        // Told before the image is there.
        collector.apply(job(claude, &GITLAB), at(1));
        collector.apply(event, at(1));
        let gitlab = Some("gitlab, job 7".to_owned());
        assert_eq!(job_of(&collector, claude), gitlab);

        let child = ProcessKey { tgid: 12, ..claude };
        collector.apply(Event::ProcessForked(forked(child, claude)), at(1));
        assert_eq!(job_of(&collector, child), gitlab);
        let event = exec(next(child), &["/usr/bin/git"]);
        assert_eq!(questions(&mut collector, &event), [""; 0]);
        collector.apply(event, at(1));
        assert_eq!(job_of(&collector, next(child)), gitlab);
    }

    #[test]
    fn an_answer_is_for_the_image_that_was_asked_about() {
        let mut collector = with_shell();
        let claude = next(next(image(11)));
        collector.apply(job(claude, &GITLAB), at(1));
        // Something else comes between, as when the record of the exec is lost.
        collector.apply(exec(next(image(20)), &CLAUDE), at(1));
        assert_eq!(job_of(&collector, next(image(20))), None);
        // One that comes late is for what runs already; no job is an answer as well.
        collector.apply(exec(claude, &CLAUDE), at(1));
        collector.apply(job(claude, &GITLAB), at(1));
        assert!(job_of(&collector, claude).is_some());
        collector.apply(job(claude, &[]), at(1));
        assert_eq!(view(&collector, claude).job, JobOf::NoJob);
        collector.apply(Event::ProcessExited(exited(claude)), at(1));
        collector.apply(job(claude, &GITLAB), at(1));
    }

    #[test]
    fn who_belongs_to_no_tool_is_asked_when_it_reaches_a_provider() {
        let mut collector = with_shell();
        let script = next(next(image(11)));
        let event = exec(script, &["/opt/script"]);
        assert_eq!(questions(&mut collector, &event), [""; 0]);
        collector.apply(event, at(1));
        let [query, answer] = resolved(script, "api.anthropic.com", "160.79.104.10");
        let other = Event::FlowOpened(opened(script, "203.0.113.9:443", 1));
        assert_eq!(questions(&mut collector, &other), [""; 0]);
        for message in [query, answer] {
            collector.apply(Event::DnsMessage(Box::new(message)), at(1));
        }
        let call = |first| {
            let opened = opened(script, API, 2);
            Event::FlowOpened(FlowOpened { first, ..opened })
        };
        assert_eq!(questions(&mut collector, &call(false)), [""; 0], "a repeat");
        assert_eq!(
            questions(&mut collector, &call(true)),
            ["job 11 [11, 10, 1]"]
        );
        collector.apply(job(script, &GITLAB), at(1));
        assert_eq!(job_of(&collector, script).as_deref(), Some("gitlab, job 7"));
        assert_eq!(questions(&mut collector, &call(true)), [""; 0]);
    }

    #[test]
    fn questions_change_nothing_that_is_told() {
        let mut asked = with_shell();
        let mut silent = with_shell();
        let claude = next(next(image(11)));
        for event in [
            exec(claude, &CLAUDE),
            Event::FlowOpened(opened(claude, API, 1)),
            Event::ProcessExited(exited(claude)),
        ] {
            questions(&mut asked, &event);
            assert_eq!(
                asked.apply(event.clone(), at(2)),
                silent.apply(event, at(2))
            );
        }
    }
}

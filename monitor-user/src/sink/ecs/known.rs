//! What lines have in common, rendered once: what all of them say, and what all about one program
//! image say of it.
//!
//! In: the host, and views of processes. Out: JSON that lines take over as it is: two thirds of a
//! line, and a process that opens one connection opens many.

use std::collections::HashMap;
use std::sync::Arc;

use monitor_common::flow::ProcessKey;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{fill, place};
use crate::clock::WallClock;
use crate::core::report::ProcessView;
use crate::sink::{HostInfo, json};

/// Images kept at one time, each with its view 1 to 5 kB: more than connect within a second on a
/// busy build host. When there are more, all are forgotten; to render one anew takes microseconds.
const IMAGES_MAX: usize = 512;

/// What every line of a run says.
pub struct Frame {
    pub(super) session: String,
    pub(super) ecs: Box<RawValue>,
    pub(super) host: Box<RawValue>,
    pub(super) observer: Box<RawValue>,
}

impl Frame {
    /// The frame of the lines of this host and run.
    pub fn new(host: &HostInfo) -> Self {
        Frame {
            session: host.session.clone(),
            ecs: rendered(&fill::ecs()),
            host: rendered(&fill::host(host)),
            observer: rendered(&fill::observer()),
        }
    }
}

/// The images that had a line lately.
#[derive(Default)]
pub struct KnownProcesses {
    images: HashMap<ProcessKey, Known>,
}

struct Known {
    view: Arc<ProcessView>,
    rendered: Rendered,
}

/// The parts of a line that one image decides.
pub struct Rendered {
    pub(super) process: Box<RawValue>,
    pub(super) user: Box<RawValue>,
    pub(super) extras: Box<RawValue>,
    pub(super) ancestry: Option<Box<RawValue>>,
    pub(super) tool: Option<RenderedTool>,
    pub(super) container: Option<Box<RawValue>>,
    pub(super) orchestrator: Option<Box<RawValue>>,
    pub(super) cgroup: Option<Box<RawValue>>,
    pub(super) unit: Option<Box<RawValue>>,
    pub(super) job: Option<Box<RawValue>>,
}

/// The parts of a line that the image's tool decides.
pub struct RenderedTool {
    pub(super) gen_ai: Box<RawValue>,
    pub(super) tool: Box<RawValue>,
    pub(super) attribution: Box<RawValue>,
}

impl KnownProcesses {
    /// What lines say of this image.
    pub fn of(&mut self, view: &Arc<ProcessView>, clock: &WallClock) -> &Rendered {
        let is_known = |known: &Known| Arc::ptr_eq(&known.view, view);
        if self.images.len() >= IMAGES_MAX && !self.images.get(&view.key).is_some_and(is_known) {
            self.images.clear();
        }
        let fresh = || Known {
            view: Arc::clone(view),
            rendered: Rendered::new(view, clock),
        };
        let known = self.images.entry(view.key).or_insert_with(fresh);
        if !is_known(known) {
            *known = fresh(); // Another view of the same image, of which more is known by now.
        }
        &known.rendered
    }
}

impl Rendered {
    fn new(view: &ProcessView, clock: &WallClock) -> Self {
        let place = view.place.as_deref();
        let ancestry = fill::ancestry(view);
        Rendered {
            container: place
                .and_then(|place| place.container.as_ref())
                .map(|container| rendered(&place::container(container))),
            orchestrator: place
                .and_then(|place| place.pod.as_ref())
                .map(|pod| rendered(&place::orchestrator(pod))),
            cgroup: place.map(|place| rendered(&place::cgroup(place))),
            unit: place
                .and_then(|place| place.unit.as_ref())
                .map(|unit| rendered(&place::unit(unit))),
            job: view.job.job().map(|job| rendered(&place::job(job))),
            process: rendered(&fill::process(view, clock)),
            user: rendered(&fill::user(view)),
            extras: rendered(&fill::extras(view)),
            ancestry: (!ancestry.is_empty()).then(|| rendered(&ancestry)),
            tool: view.tool.as_deref().map(|attribution| RenderedTool {
                gen_ai: rendered(&fill::gen_ai(attribution)),
                tool: rendered(&fill::tool(attribution)),
                attribution: rendered(&fill::attribution(attribution)),
            }),
        }
    }
}

fn rendered(value: &impl Serialize) -> Box<RawValue> {
    let mut buffer = Vec::new();
    let text = json::write(value, &mut buffer).then(|| String::from_utf8(buffer));
    let value = text.and_then(Result::ok).map(RawValue::from_string);
    // The types rule out what cannot be written.
    value
        .and_then(Result::ok)
        .unwrap_or_else(|| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixture::{self, CLOCK};

    #[track_caller]
    fn check(known: &mut KnownProcesses, view: &Arc<ProcessView>) {
        let expect = serde_json::to_string(&fill::process(view, &CLOCK)).unwrap();
        assert_eq!(known.of(view, &CLOCK).process.get(), expect);
    }

    #[test]
    fn each_view_is_rendered_as_it_is() {
        let mut known = KnownProcesses::default();
        let first = Arc::new(fixture::process(1));
        let changed = Arc::new(ProcessView {
            exe: "/bin/other".into(),
            ..fixture::process(1)
        });
        for view in [
            &first,
            &Arc::new(fixture::stranger(2)),
            &first,
            &changed,
            &first,
        ] {
            check(&mut known, view);
        }
        assert_eq!(known.images.len(), 2);
    }

    #[test]
    fn no_more_are_kept_than_the_bound() {
        let mut known = KnownProcesses::default();
        for pid in 0..=u32::try_from(IMAGES_MAX).unwrap() {
            check(&mut known, &Arc::new(fixture::process(pid)));
            assert!(known.images.len() <= IMAGES_MAX);
        }
        assert_eq!(known.images.len(), 1);
    }
}

//! Where a process runs, in the fields of the event log.
//!
//! In: the core's places and jobs. Out: `container`, `orchestrator`, `telltale.cgroup`,
//! `telltale.unit` and `telltale.job`.

use super::{
    CgroupFields, ContainerFields, Id, IdOf, ImageFields, JobFields, Orchestrator, Resource,
    UnitFields,
};
use crate::core::job::Job;
use crate::core::place::{Container, Place, Pod, Unit};
use crate::sink::plain;

/// `container`.
pub fn container(container: &Container) -> ContainerFields<'_> {
    ContainerFields {
        id: &container.id,
        name: container.name.as_deref(),
        runtime: container.runtime.as_deref(),
        image: container.image.as_deref().map(|name| ImageFields { name }),
    }
}

/// `orchestrator`, of a pod.
pub fn orchestrator(pod: &Pod) -> Orchestrator<'_> {
    Orchestrator {
        kind: "kubernetes",
        namespace: pod.namespace.as_deref(),
        resource: Resource {
            kind: "pod",
            id: pod.uid.as_deref(),
            name: pod.name.as_deref(),
        },
    }
}

/// `telltale.cgroup`.
pub fn cgroup(place: &Place) -> CgroupFields<'_> {
    CgroupFields { path: &place.path }
}

/// `telltale.unit`.
pub fn unit(unit: &Unit) -> UnitFields<'_> {
    UnitFields {
        name: &unit.name,
        slice: unit.slice.as_deref(),
        user: unit.user.map(|uid| Id {
            id: uid.to_string(),
        }),
    }
}

/// `telltale.job`.
pub fn job(job: &Job) -> JobFields<'_> {
    JobFields {
        provider: job.provider,
        repository: job.repository.as_deref(),
        pipeline: job.pipeline.as_deref(),
        run: job.run_id.as_deref().map(|id| IdOf { id }),
        name: job.name.as_deref(),
        id: job.id.as_deref(),
        variables: plain(&job.others),
    }
}

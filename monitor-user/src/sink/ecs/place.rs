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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;
    use serde_json::{Value, json, to_value};

    use super::*;

    #[track_caller]
    fn check(fields: &impl Serialize, expect: &Value) {
        assert_eq!(to_value(fields).unwrap(), *expect);
    }

    #[test]
    fn a_container_and_its_pod() {
        let id = "0a".repeat(32);
        let uid = "11111111-2222-3333-4444-555555555555";
        let place = Place::at(&format!("/kubepods/burstable/pod{uid}/crio-{id}"));
        check(&cgroup(&place), &json!({ "path": &*place.path }));
        let bare = place.container.as_ref().unwrap();
        check(&container(bare), &json!({ "id": id, "runtime": "cri-o" }));
        let facts = [
            ("name", "build"),
            ("image", "example/b:1"),
            ("pod_name", "job-7"),
            ("pod_namespace", "ci"),
        ];
        let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let named = place.with(&facts);
        check(
            &container(named.container.as_ref().unwrap()),
            &json!({ "id": id, "name": "build", "runtime": "cri-o", "image": { "name": "example/b:1" } }),
        );
        check(
            &orchestrator(named.pod.as_ref().unwrap()),
            &json!({
                "type": "kubernetes",
                "namespace": "ci",
                "resource": { "type": "pod", "id": uid, "name": "job-7" },
            }),
        );
    }

    #[test]
    fn a_unit_of_the_system_and_of_a_user() {
        let of = |path: &str| to_value(unit(&Place::at(path).unit.unwrap())).unwrap();
        let runner = json!({ "name": "runner.service", "slice": "system.slice" });
        assert_eq!(of("/system.slice/runner.service"), runner);
        let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope";
        let own = json!({ "name": "x.scope", "slice": "app.slice", "user": { "id": "1000" } });
        assert_eq!(of(path), own);
    }

    #[test]
    fn a_job_with_and_without_its_parts() {
        let bare = Job {
            provider: "jenkins",
            ..Job::default()
        };
        check(&job(&bare), &json!({ "provider": "jenkins" }));
        let whole = Job {
            provider: "gitlab",
            pipeline: Some("nightly".into()),
            run_id: Some("77".into()),
            name: Some("test".into()),
            id: Some("4711".into()),
            repository: Some("acme/app".into()),
            others: BTreeMap::from([("ACME_BUILD".into(), "7".into())]),
        };
        check(
            &job(&whole),
            &json!({
                "provider": "gitlab",
                "repository": "acme/app",
                "pipeline": "nightly",
                "run": { "id": "77" },
                "name": "test",
                "id": "4711",
                "variables": { "ACME_BUILD": "7" },
            }),
        );
    }
}

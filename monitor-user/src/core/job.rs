//! Which build job a process is part of, by the variables that build systems set.
//!
//! In: the allow-listed variables of an environment. Out: a [`Job`], or none.
//!
//! Whoever starts a process chooses its environment, so this says what the process was told, and
//! proves nothing. Only names and ids are taken: never a value that may hold a secret, as the URLs
//! of repositories and servers may. [`variables`] is the whole list.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Characters kept of a value: names and ids are shorter; the event log is no place for prose.
const VALUE_CHARS_MAX: usize = 128;

/// The provider of a job that only variables of the operator's choice speak for.
const OTHER: &str = "other";

/// A build job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The build system: `github-actions`.
    pub provider: &'static str,
    /// Name of the pipeline, workflow, project.
    pub pipeline: Option<Arc<str>>,
    /// Id or number of this run of it.
    pub run_id: Option<Arc<str>>,
    /// Name of the job, or of its step.
    pub name: Option<Arc<str>>,
    /// Id of the job.
    pub id: Option<Arc<str>>,
    /// The repository, without its host.
    pub repository: Option<Arc<str>>,
    /// Variables that the operator added, by name.
    pub others: BTreeMap<Arc<str>, Arc<str>>,
}

/// How the name begins of what tells that a switch of the catalog is set in a process's
/// environment. No variable has such a name.
pub const SWITCH: &str = "switch:";

/// The switches that are set, by the names of their variables.
#[must_use]
pub fn switches(told: &[(String, String)]) -> Arc<[Arc<str>]> {
    let names = told
        .iter()
        .filter_map(|(name, _)| name.strip_prefix(SWITCH));
    names.map(Arc::from).collect()
}

/// Whether a variable with this value sets a switch, which the catalog writes as `NAME` or as
/// `NAME=value`. Programs take more than one spelling for yes and no, so these do as well.
#[must_use]
pub fn sets(switch: &str, name: &str, value: &str) -> bool {
    const NO: [&str; 5] = ["", "0", "false", "off", "no"];
    let (wanted, says) = switch.split_once('=').unwrap_or((switch, "1"));
    let no = |text: &str| NO.iter().any(|no| text.eq_ignore_ascii_case(no));
    wanted == name
        && match says {
            "1" => !no(value),
            "0" => !value.is_empty() && no(value),
            other => value == other,
        }
}

/// What is known of a process's job.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum JobOf {
    /// Nobody asked: the process belongs to no tool, and reached no AI provider.
    #[default]
    NotAsked,
    /// It is part of no job that its environment, or an ancestor's, tells of.
    NoJob,
    /// It is part of this one.
    Job(Arc<Job>),
}

impl JobOf {
    /// The job, if there is one.
    #[must_use]
    pub fn job(&self) -> Option<&Arc<Job>> {
        match self {
            JobOf::Job(job) => Some(job),
            JobOf::NotAsked | JobOf::NoJob => None,
        }
    }
}

/// The build system of this id, if there is one.
#[must_use]
pub fn provider(id: &str) -> Option<&'static str> {
    let ids = PROVIDERS.iter().map(|provider| provider.id);
    ids.chain([OTHER]).find(|known| *known == id)
}

/// What a variable says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Pipeline,
    RunId,
    Name,
    Id,
    Repository,
}

/// A build system and its variables.
struct Provider {
    id: &'static str,
    /// The variable that is there in its jobs alone, and the value that it then has; `None`: any,
    /// which is never taken.
    mark: (&'static str, Option<&'static str>),
    fields: &'static [(&'static str, Field)],
}

/// The build systems, each with the documentation that its variables are from (read in November
/// 2026). The first whose mark is there counts.
///
/// Left out on purpose: `BUILDKITE_REPO`, `GIT_URL`, `CI_REPO_CLONE_URL` and other URLs, which may
/// hold credentials; messages, branches and authors, which are somebody's words.
const PROVIDERS: [Provider; 7] = [
    // woodpecker-ci.org/docs/usage/environment, "Built-in environment variables".
    Provider {
        id: "woodpecker",
        mark: ("CI", Some("woodpecker")),
        fields: &[
            ("CI_WORKFLOW_NAME", Field::Pipeline),
            ("CI_PIPELINE_NUMBER", Field::RunId),
            ("CI_STEP_NAME", Field::Name),
            ("CI_REPO", Field::Repository),
        ],
    },
    // docs.github.com/en/actions/reference/variables-reference, "Default environment variables".
    Provider {
        id: "github-actions",
        mark: ("GITHUB_ACTIONS", Some("true")),
        fields: &[
            ("GITHUB_WORKFLOW", Field::Pipeline),
            ("GITHUB_RUN_ID", Field::RunId),
            ("GITHUB_JOB", Field::Name),
            ("GITHUB_REPOSITORY", Field::Repository),
        ],
    },
    // docs.gitlab.com/ci/variables/predefined_variables.
    Provider {
        id: "gitlab",
        mark: ("GITLAB_CI", Some("true")),
        fields: &[
            ("CI_PIPELINE_NAME", Field::Pipeline),
            ("CI_PIPELINE_ID", Field::RunId),
            ("CI_JOB_NAME", Field::Name),
            ("CI_JOB_ID", Field::Id),
            ("CI_PROJECT_PATH", Field::Repository),
        ],
    },
    // learn.microsoft.com/azure/devops/pipelines/build/variables, "Use predefined variables".
    Provider {
        id: "azure-pipelines",
        mark: ("TF_BUILD", Some("True")),
        fields: &[
            ("BUILD_DEFINITIONNAME", Field::Pipeline),
            ("BUILD_BUILDID", Field::RunId),
            ("SYSTEM_JOBDISPLAYNAME", Field::Name),
            ("SYSTEM_JOBID", Field::Id),
            ("BUILD_REPOSITORY_NAME", Field::Repository),
        ],
    },
    // buildkite.com/docs/pipelines/environment-variables.
    Provider {
        id: "buildkite",
        mark: ("BUILDKITE", Some("true")),
        fields: &[
            ("BUILDKITE_PIPELINE_SLUG", Field::Pipeline),
            ("BUILDKITE_BUILD_ID", Field::RunId),
            ("BUILDKITE_LABEL", Field::Name),
            ("BUILDKITE_JOB_ID", Field::Id),
        ],
    },
    // jetbrains.com/help/teamcity, "List of Predefined Build Parameters".
    Provider {
        id: "teamcity",
        mark: ("TEAMCITY_VERSION", None),
        fields: &[
            ("TEAMCITY_PROJECT_NAME", Field::Pipeline),
            ("BUILD_NUMBER", Field::RunId),
            ("TEAMCITY_BUILDCONF_NAME", Field::Name),
        ],
    },
    // jenkins.io/doc/book/pipeline/jenkinsfile, "Using environment variables".
    Provider {
        id: "jenkins",
        mark: ("JENKINS_URL", None),
        fields: &[
            ("JOB_NAME", Field::Pipeline),
            ("BUILD_NUMBER", Field::RunId),
        ],
    },
];

/// What to take of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// That it is there.
    Presence,
    /// Its value.
    Value,
}

/// Every variable that may be read, each once.
#[must_use]
pub fn variables() -> BTreeMap<&'static str, Take> {
    let marks = PROVIDERS.iter().map(|provider| match provider.mark {
        (name, Some(_)) => (name, Take::Value),
        (name, None) => (name, Take::Presence),
    });
    let fields = PROVIDERS.iter().flat_map(|provider| provider.fields);
    marks
        .chain(fields.map(|(name, _)| (*name, Take::Value)))
        .collect()
}

/// Whether an environment with this variable is one of a build job. The value matters, as `CI`
/// says less.
#[must_use]
pub fn is_mark(name: &str, value: &str) -> bool {
    PROVIDERS.iter().any(|provider| {
        let (mark, expect) = provider.mark;
        mark == name && expect.is_none_or(|expect| expect == value)
    })
}

impl Job {
    /// The job that these variables tell of.
    #[must_use]
    pub fn of(variables: &[(String, String)]) -> Option<Job> {
        let known = self::variables();
        let others = variables
            .iter()
            .filter(|(name, _)| !known.contains_key(&**name) && !name.starts_with(SWITCH))
            .map(|(name, value)| (cleaned(name), cleaned(value)));
        let mut job = Job {
            provider: OTHER,
            others: others.collect(),
            ..Job::default()
        };
        let provider = PROVIDERS.iter().find(|provider| {
            let (mark, expect) = provider.mark;
            let is = |value: &str| expect.is_none_or(|expect| expect == value);
            variables
                .iter()
                .any(|(name, value)| name == mark && is(value))
        });
        let Some(provider) = provider else {
            return (!job.others.is_empty()).then_some(job);
        };
        job.provider = provider.id;
        for (variable, field) in provider.fields {
            let value = variables.iter().find(|(name, _)| name == variable);
            let value = value.filter(|(_, value)| !value.is_empty());
            *job.field(*field) = value.map(|(_, value)| cleaned(value));
        }
        Some(job)
    }

    fn field(&mut self, field: Field) -> &mut Option<Arc<str>> {
        match field {
            Field::Pipeline => &mut self.pipeline,
            Field::RunId => &mut self.run_id,
            Field::Name => &mut self.name,
            Field::Id => &mut self.id,
            Field::Repository => &mut self.repository,
        }
    }
}

/// `github-actions acme/app, pipeline CI, run 4711, job test`.
impl fmt::Display for Job {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str(self.provider)?;
        if let Some(repository) = &self.repository {
            write!(text, " {repository}")?;
        }
        let name = self.name.as_ref().or(self.id.as_ref());
        let parts = [
            ("pipeline", self.pipeline.as_ref()),
            ("run", self.run_id.as_ref()),
            ("job", name),
        ];
        for (what, value) in parts {
            if let Some(value) = value {
                write!(text, ", {what} {value}")?;
            }
        }
        self.others
            .iter()
            .try_for_each(|(name, value)| write!(text, ", {name}={value}"))
    }
}

/// A value without control characters, and cut if it is long.
fn cleaned(value: &str) -> Arc<str> {
    let printable = |character: char| match character.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => character,
    };
    let mut text: String = value.chars().take(VALUE_CHARS_MAX).map(printable).collect();
    if text.len() < value.len() && value.chars().nth(VALUE_CHARS_MAX).is_some() {
        text.push('…');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(variables: &[(&str, &str)]) -> Option<Job> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Job::of(&variables.iter().map(owned).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check(variables: &[(&str, &str)], expect: &str) {
        let said = job(variables).map_or_else(String::new, |job| job.to_string());
        assert_eq!(said, expect);
    }

    #[test]
    fn each_build_system_is_known_by_its_mark() {
        check(
            &[
                ("CI", "true"),
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_WORKFLOW", "CI"),
                ("GITHUB_RUN_ID", "1658821493"),
                ("GITHUB_JOB", "greet"),
                ("GITHUB_REPOSITORY", "acme/app"),
            ],
            "github-actions acme/app, pipeline CI, run 1658821493, job greet",
        );
        check(
            &[
                ("CI", "true"),
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_ID", "77"),
                ("CI_JOB_ID", "4711"),
                ("CI_JOB_NAME", "test: [1]"),
                ("CI_PROJECT_PATH", "acme/group/app"),
            ],
            "gitlab acme/group/app, run 77, job test: [1]",
        );
        check(
            &[
                ("JENKINS_URL", ""),
                ("JOB_NAME", "app/main"),
                ("BUILD_NUMBER", "12"),
            ],
            "jenkins, pipeline app/main, run 12",
        );
        check(
            &[
                ("BUILDKITE", "true"),
                ("BUILDKITE_PIPELINE_SLUG", "app"),
                ("BUILDKITE_BUILD_ID", "9e08"),
                ("BUILDKITE_JOB_ID", "e44f"),
            ],
            "buildkite, pipeline app, run 9e08, job e44f",
        );
        check(
            &[
                ("CI", "woodpecker"),
                ("CI_REPO", "john/app"),
                ("CI_PIPELINE_NUMBER", "8"),
                ("CI_STEP_NAME", "build"),
                ("CI_WORKFLOW_NAME", "release"),
            ],
            "woodpecker john/app, pipeline release, run 8, job build",
        );
        check(
            &[
                ("TEAMCITY_VERSION", ""),
                ("TEAMCITY_PROJECT_NAME", "App"),
                ("TEAMCITY_BUILDCONF_NAME", "Build"),
                ("BUILD_NUMBER", "3"),
            ],
            "teamcity, pipeline App, run 3, job Build",
        );
        check(
            &[
                ("TF_BUILD", "True"),
                ("BUILD_DEFINITIONNAME", "app-ci"),
                ("BUILD_BUILDID", "5"),
                ("SYSTEM_JOBDISPLAYNAME", "Linux"),
                ("BUILD_REPOSITORY_NAME", "app"),
            ],
            "azure-pipelines app, pipeline app-ci, run 5, job Linux",
        );
    }

    #[test]
    fn without_a_mark_it_is_no_build() {
        check(&[], "");
        check(&[("CI", "true")], "");
        check(&[("GITHUB_RUN_ID", "1"), ("BUILD_NUMBER", "2")], "");
        check(&[("GITHUB_ACTIONS", "false"), ("GITHUB_RUN_ID", "1")], "");
        check(&[("GITHUB_ACTIONS", "true")], "github-actions");
        check(
            &[("GITHUB_ACTIONS", "true"), ("GITHUB_JOB", "")],
            "github-actions",
        );
    }

    #[test]
    fn the_operators_own_variables_are_told_with_or_without_a_mark() {
        check(&[("ACME_BUILD", "7")], "other, ACME_BUILD=7");
        check(
            &[("ACME_BUILD", "7"), ("TEAMCITY_VERSION", "")],
            "teamcity, ACME_BUILD=7",
        );
    }

    #[test]
    fn values_are_cut_and_hold_no_control_characters() {
        let long = "ä".repeat(VALUE_CHARS_MAX);
        let name = |value: &str| {
            let job = job(&[("GITHUB_ACTIONS", "true"), ("GITHUB_JOB", value)]);
            job.unwrap().name.unwrap().to_string()
        };
        assert_eq!(name(&long), long);
        assert_eq!(name(&format!("{long}x")), format!("{long}…"));
        assert_eq!(name("a\x1b[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
    }

    #[test]
    fn a_switch_is_set_in_more_than_one_spelling() {
        #[track_caller]
        fn check(switch: &str, value: &str, expect: bool) {
            let name = switch.split('=').next().unwrap();
            assert_eq!(sets(switch, name, value), expect, "{switch} {value}");
            assert!(!sets(switch, "OTHER", value));
        }
        for yes in ["1", "true", "YES"] {
            check("A", yes, true);
            check("A=1", yes, true);
            check("A=0", yes, false);
        }
        for no in ["0", "false", "OFF"] {
            check("A", no, false);
            check("A=1", no, false);
            check("A=0", no, true);
        }
        check("A", "", false);
        check("A=0", "", false);
        check("A=minimal", "minimal", true);
        check("A=minimal", "1", false);
    }

    #[test]
    fn a_switch_is_no_job() {
        let told = [("switch:A".to_owned(), "on".to_owned())];
        assert_eq!(Job::of(&told), None);
        assert_eq!(*switches(&told), ["A".into()]);
    }

    #[test]
    fn nothing_that_may_hold_a_secret_is_on_the_list() {
        let variables = variables();
        for part in ["TOKEN", "SECRET", "PASSWORD", "KEY", "AUTH"] {
            assert!(!variables.keys().any(|name| name.contains(part)), "{part}");
        }
        let may_hold_credentials = |name: &str| name.contains("URL") || name.ends_with("_REPO");
        for (name, take) in &variables {
            let is_name_of_one = *name == "CI_REPO"; // `owner/name`.
            assert!(
                *take == Take::Presence || is_name_of_one || !may_hold_credentials(name),
                "{name}"
            );
        }
        assert_eq!(variables["JENKINS_URL"], Take::Presence);
        assert!(is_mark("CI", "woodpecker") && !is_mark("CI", "true"));
        assert!(is_mark("JENKINS_URL", "https://ci.example/"));
    }
}

//! Where a process runs, and for which build job.
//!
//! In: tools in cgroups that the test made, and in environments of build jobs. Out: what the event
//! log, alerts, metrics and a recording say of place and job, and what they do not say.

use std::fs;

use monitor_tests::cgroup::Cgroup;
use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::running::Running;
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::telltale::{Telltale, recording, telltale, write_config};

const TARGET: &str = "203.0.113.10:443";

/// A path that no other test uses.
fn path(scene: &Scene, end: &str) -> String {
    format!("/telltale-{}.slice/{end}", scene.ns.name())
}

/// Claude Code connects, executed by a shell that was put into this cgroup.
fn run_in(scene: &Scene, cgroup: &Cgroup) -> u32 {
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let script = format!("read go && exec {} connect {TARGET}", claude.exe.display());
    let mut shell = scene.start(&shell(), &["-c", &script]);
    cgroup.take(shell.pid());
    shell.say("go");
    shell.succeed(monitor_tests::wait::SOON);
    shell.pid()
}

fn shell() -> Program {
    Program {
        exe: "/bin/sh".into(),
        script: None,
    }
}

#[track_caller]
fn connection(telltale: &Telltale<'_>, pid: u32) -> Event {
    telltale.wait_for_action(pid, "connection-opened")
}

/// A runtime makes the cgroup, and the program in it may be gone before anyone looks.
#[test]
fn a_cgroup_that_is_made_later_is_named() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let telltale = scene.telltale().start();
    let (unit, pid) = {
        let cgroup = Cgroup::make(&path(&scene, "job.service"));
        (path(&scene, "job.service"), run_in(&scene, &cgroup))
    };
    connection(&telltale, pid).expect(&[
        ("telltale.cgroup.path", &unit),
        ("telltale.unit.name", "job.service"),
        (
            "telltale.unit.slice",
            &format!("telltale-{}.slice", scene.ns.name()),
        ),
    ]);
}

#[test]
fn a_cgroup_that_is_older_than_the_monitor_is_found() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let cgroup = Cgroup::make(&path(&scene, "older.scope"));
    let telltale = scene.telltale().start();
    let pid = run_in(&scene, &cgroup);
    let started = telltale.wait_for("start of the tool", |event| {
        event.pid() == Some(pid) && event.text("telltale.tool.id") == "claude-code"
    });
    for event in [started, connection(&telltale, pid)] {
        event.expect(&[
            ("telltale.cgroup.path", &path(&scene, "older.scope")),
            ("telltale.unit.name", "older.scope"),
        ]);
    }
}

/// Where a process was at its exec is not where it is for ever.
#[test]
fn a_process_that_is_moved_is_where_it_calls_from() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let mut process = scene.start(&claude, &["wait", "connect", TARGET]);
    process.wait_for_output("waiting");
    let cgroup = Cgroup::make(&path(&scene, "moved.scope"));
    cgroup.take(process.pid());
    process.say("go on");
    process.succeed(monitor_tests::wait::SOON);
    let moved = path(&scene, "moved.scope");
    connection(&telltale, process.pid()).expect(&[("telltale.cgroup.path", &moved)]);
    let ended = telltale.wait_for_action(process.pid(), "process-ended");
    ended.expect(&[("telltale.cgroup.path", &moved)]);
}

/// Containers' layouts, whoever made them: the path alone says id and runtime.
#[test]
fn a_containers_cgroup_names_it() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let telltale = scene
        .telltale()
        .config("[policy]\nbanned = [\"claude-code\"]\n")
        .start();
    let id = "0123456789abcdef".repeat(4);
    let cgroup = Cgroup::make(&path(&scene, &format!("docker-{id}.scope")));
    let pid = run_in(&scene, &cgroup);
    connection(&telltale, pid).expect(&[("container.id", &id), ("container.runtime", "docker")]);
    let alert = telltale.wait_for("alert", |event| event.action() == "alert");
    alert.expect(&[(
        "telltale.alert.annotations.container",
        &format!("docker {id}"),
    )]);
}

const GITHUB: [(&str, &str); 7] = [
    ("CI", "true"),
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_WORKFLOW", "nightly"),
    ("GITHUB_RUN_ID", "1658821493"),
    ("GITHUB_JOB", "build"),
    ("GITHUB_REPOSITORY", "acme/app"),
    ("GITHUB_TOKEN", SECRET),
];
const SECRET: &str = "ghs_Zq7xSecretThatNobodyMayRead";

/// A step of a build job: a shell that has these variables in its environment, and in nobody's
/// argv, runs the script and lives on, as a runner does.
fn step(scene: &Scene, variables: &[(&str, &str)], script: &str) -> Running {
    let exports = variables
        .iter()
        .map(|(name, value)| format!("export {name}='{value}'\n"));
    let file = scene.dir().join("environment");
    fs::write(&file, exports.collect::<String>()).unwrap();
    let script = format!(
        ". {}; exec sh -c '{script} && echo done; read end'",
        file.display()
    );
    let mut shell = scene.start(&shell(), &["-c", &script]);
    shell.wait_for_output("done");
    shell
}

/// The connection of the program at this path.
#[track_caller]
fn connection_of(telltale: &Telltale<'_>, exe: &str) -> Event {
    telltale.wait_for("connection", |event| {
        event.text("process.executable") == exe
            && event.action() == "connection-opened"
            && event.text("destination.ip") == SERVER_V4
    })
}

#[track_caller]
fn check_github(event: &Event) {
    event.expect(&[
        ("telltale.job.provider", "github-actions"),
        ("telltale.job.pipeline", "nightly"),
        ("telltale.job.run.id", "1658821493"),
        ("telltale.job.name", "build"),
        ("telltale.job.repository", "acme/app"),
    ]);
}

#[test]
fn a_tools_build_job_is_named_and_its_secrets_are_not() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let exe = claude.exe.display().to_string();
    let ban = "[policy]\nbanned = [\"claude-code\"]\n";
    let monitor = scene.telltale().config(ban).record().start();
    let _step = step(&scene, &GITHUB, &format!("{exe} connect {TARGET}"));
    let started = monitor.wait_for("start of the tool", |event| {
        event.text("process.executable") == exe && event.action() == "process-started"
    });
    check_github(&started);
    check_github(&connection_of(&monitor, &exe));
    let alert = monitor.wait_for("alert", |event| event.action() == "alert");
    alert.expect(&[(
        "telltale.alert.annotations.job",
        "github-actions acme/app, pipeline nightly, run 1658821493, job build",
    )]);
    let metrics = monitor.get("/metrics").unwrap().body;
    let events = monitor.stop();

    // Whatever the monitor writes: the log, the metrics, a recording, and what that replays to.
    let file = recording(scene.dir());
    let config = write_config(scene.dir(), ban).display().to_string();
    let path = file.display().to_string();
    let replayed = telltale(
        scene.dir(),
        &[
            "replay",
            &path,
            "--config",
            &config,
            "--events",
            "-",
            "--events-arguments",
            "redacted",
        ],
    );
    replayed.expect(0, &[]);
    let of_tool = |event: &&Event| event.text("process.executable") == exe;
    let again = Event::parse_log(&replayed.stdout);
    check_github(again.iter().find(of_tool).expect("the tool, replayed"));
    let log = format!("{events:?}");
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let recorded = fs::read_to_string(file).unwrap();
    for (what, text) in [
        ("log", &log),
        ("metrics", &metrics),
        ("recording", &recorded),
        ("replay", &replayed.stdout),
        ("messages", &replayed.stderr),
    ] {
        assert!(
            !text.contains(SECRET) && !text.contains(&hex),
            "the secret is in the {what}"
        );
    }
    assert!(log.contains("nightly") && recorded.len() > 1_000);
}

/// The runner lives on, whatever a step does with its own environment.
#[test]
fn an_ancestors_environment_tells_the_job() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let exe = claude.exe.display().to_string();
    let telltale = scene.telltale().start();
    let _step = step(&scene, &GITHUB, &format!("env -i {exe} connect {TARGET}"));
    let opened = connection_of(&telltale, &exe);
    check_github(&opened);
}

/// What reaches an AI provider is asked about, whatever it is.
#[test]
fn a_strangers_job_is_named() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer("api.anthropic.com", &[SERVER_V4]);
    let script = Program::native(scene.dir(), "bin/script");
    let exe = script.exe.display().to_string();
    let telltale = scene.telltale().start();
    let script = format!("{exe} connect api.anthropic.com:443");
    let _step = step(&scene, &GITHUB, &script);
    let opened = connection_of(&telltale, &exe);
    opened.expect(&[("telltale.tool.id", "unidentified")]);
    check_github(&opened);
}

#[test]
fn the_operator_decides_what_is_read() {
    let check = |config: &str, expect: Option<&str>| {
        let scene = Scene::new();
        let _servers = scene.serve_https();
        let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
        let exe = claude.exe.display().to_string();
        let telltale = scene.telltale().config(config).start();
        let variables = [("ACME_BUILD", "77"), GITHUB[1], GITHUB[6]];
        let _step = step(&scene, &variables, &format!("{exe} connect {TARGET}"));
        let job = connection_of(&telltale, &exe).get("telltale.job").clone();
        let build = job.get("variables").and_then(|own| own.get("ACME_BUILD"));
        assert_eq!(build.and_then(|value| value.as_str()), expect, "{job}");
        assert_eq!(job.is_null(), config.contains("off"), "{config:?}: {job}");
    };
    check("", None);
    check("[jobs]\nvariables = [\"ACME_BUILD\"]\n", Some("77"));
    check(
        "[jobs]\ndetect = \"off\"\nvariables = [\"ACME_BUILD\"]\n",
        None,
    );
}

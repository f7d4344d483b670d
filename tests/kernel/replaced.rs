//! One tool banned, another in its place: the policy of `policy/example.toml`, on a real kernel.
//!
//! In: stand-ins for Claude Code, Qoder and its helper, and what they contact. Out: what is denied,
//! allowed or told, and by which rule.

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::wait;

const POLICY: &str = "[[pack]]\nname = \"ban-and-replace\"\nbanned = [\"claude-code\"]\n\
                      prescribed = [\"qoder-cli\"]\n";

/// A scene with this policy, in which every one of these hosts is served.
fn scene(policy: &str, hosts: &[&str]) -> (Scene, String) {
    let scene = Scene::new();
    for host in hosts {
        scene.dns.answer(host, &[SERVER_V4]);
    }
    let file = scene.dir().join("policy.toml");
    std::fs::write(&file, policy).unwrap();
    let config = format!("[policy]\nfile = {file:?}\n");
    (scene, config)
}

/// What is said of the connection of `program` to `host`, which is served.
#[track_caller]
fn connection(policy: &str, program: impl FnOnce(&Scene) -> Program, host: &str) -> Event {
    let (scene, config) = scene(policy, &[host]);
    let _servers = scene.serve_https();
    let program = program(&scene);
    let telltale = scene.telltale().config(&config).start();
    let pid = scene.run(&program, &["connect", &format!("{host}:443")]);
    telltale.wait_for_action(pid, "connection-opened")
}

fn at(path: &'static str) -> impl FnOnce(&Scene) -> Program {
    move |scene| Program::native(scene.dir(), path)
}

#[test]
fn the_banned_tool_must_not_even_run() {
    let (scene, config) = scene(POLICY, &[]);
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().config(&config).start();
    let pid = scene.run(&claude, &[]);
    telltale.wait_for_action(pid, "process-started").expect(&[
        ("telltale.verdict", "denied"),
        ("telltale.action", "would-deny"),
        ("telltale.rule", "banned-tool"),
    ]);
    let decided = [("rule", "banned-tool"), ("action", "deny")];
    assert!(
        telltale
            .metrics()
            .get("telltale_policy_decisions_total", &decided)
            >= 1.0
    );
}

#[test]
fn the_banned_vendor_must_not_be_reached_by_any_program() {
    let curl = at("bin/my-own-client");
    connection(POLICY, curl, "api.anthropic.com").expect(&[
        ("telltale.verdict", "denied"),
        ("telltale.rule", "banned-vendor"),
        ("telltale.tool.id", "unidentified"),
    ]);
}

#[test]
fn the_prescribed_tool_may_do_what_its_manifest_lists() {
    let qoder = |scene: &Scene| Program::script(scene.dir(), program::QODER_SCRIPT);
    connection(POLICY, qoder, "api2.qoder.sh").expect(&[
        ("telltale.verdict", "expected"),
        ("telltale.action", "allow"),
        ("telltale.rule", "prescribed-tool"),
    ]);
}

/// Nor may it reach the banned vendor, whoever it is.
#[test]
fn the_prescribed_tool_must_not_reach_the_banned_vendor() {
    let qoder = |scene: &Scene| Program::script(scene.dir(), program::QODER_SCRIPT);
    connection(POLICY, qoder, "api.anthropic.com").expect(&[
        ("telltale.verdict", "denied"),
        ("telltale.rule", "banned-vendor"),
    ]);
}

/// Its name alone gives no allowance.
#[test]
fn who_only_bears_the_prescribed_tools_name_is_not_allowed() {
    connection(POLICY, at("bin/qodercli"), "paste.example").expect(&[
        ("telltale.tool.id", "qoder-cli"),
        ("telltale.verdict", "undeclared"),
        ("telltale.rule", "unexpected-endpoint"),
    ]);
}

/// Another executable below the tool, which goes to another family of domains: it stands out,
/// though the manifest knows it.
#[test]
fn the_prescribed_tools_fingerprint_helper_stands_out() {
    let host = "sg-pum.alibabachengdun.com";
    let (scene, config) = scene(POLICY, &[host]);
    let _servers = scene.serve_https();
    let qoder = Program::script(scene.dir(), program::QODER_SCRIPT);
    let helper = Program::native(scene.dir(), program::QODER_HELPER);
    let telltale = scene.telltale().config(&config).start();
    let exe = helper.exe.display().to_string();
    scene.run(&qoder, &["run", &exe, "connect", &format!("{host}:443")]);
    let opened = telltale.wait_for("the helper's connection", |event| {
        event.action() == "connection-opened"
            && event.text("process.executable") == exe
            && event.get("destination.port").as_u64() == Some(443)
    });
    opened.expect(&[
        ("telltale.tool.id", "qoder-cli"),
        ("telltale.tool.role", "helper"),
        ("telltale.endpoint.purpose", "device-fingerprint"),
        ("telltale.action", "alert"),
        ("telltale.rule", "prescribed-tool-fingerprint"),
    ]);
    telltale.wait_for("its alert", |event| {
        event.action() == "alert" && event.text("telltale.rule") == "prescribed-tool-fingerprint"
    });
}

#[test]
fn an_exception_lifts_the_ban_for_one_user() {
    let exception = "[[exception]]\nid = \"migration\"\nrules = [\"banned-tool\"]\nuser = [0]\n\
                     owner = \"me\"\nreason = \"moves sessions\"\nexpires = 2099-12-31\n";
    let policy = format!("{POLICY}{exception}");
    connection(&policy, at(program::CLAUDE_NATIVE), "api.anthropic.com").expect(&[
        ("telltale.verdict", "expected"),
        ("telltale.action", "allow"),
        ("telltale.exception", "migration"),
        ("telltale.rule", "banned-tool"),
    ]);
}

#[test]
fn telemetry_of_any_tool_is_denied_where_it_must_be_off() {
    let policy = "[[pack]]\nname = \"no-telemetry\"\n";
    let host = "http-intake.logs.us5.datadoghq.com";
    connection(policy, at(program::CLAUDE_NATIVE), host).expect(&[
        ("telltale.verdict", "denied"),
        ("telltale.rule", "no-telemetry"),
        ("telltale.endpoint.purpose", "telemetry"),
    ]);
}

/// Telemetry though the tool's environment says no; and nothing of the kind where it does not.
#[test]
fn telemetry_after_an_opt_out() {
    let host = "http-intake.logs.us5.datadoghq.com";
    let (scene, config) = scene("# Nothing is forbidden.\n", &[host]);
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let exe = claude.exe.display().to_string();
    let telltale = scene.telltale().config(&config).start();
    let to = format!("{host}:443");
    // It waits until its environment was read: that is there only as long as the process is.
    let run = |switch: &str| {
        let env = Program {
            exe: "/usr/bin/env".into(),
            script: None,
        };
        let mut process = scene.start(&env, &[switch, &exe, "wait", "connect", &to]);
        telltale.wait_for("start of the tool", |event| {
            event.action() == "process-started"
                && event.pid() == Some(process.pid())
                && event.text("process.executable") == exe
        });
        process.say("go on");
        process.succeed(wait::SOON);
        telltale.wait_for_action(process.pid(), "process-ended");
    };
    run("DISABLE_TELEMETRY=0");
    let after_optout = |event: &Event| {
        event.action() == "alert" && event.text("telltale.rule") == "telemetry-after-optout"
    };
    assert!(!telltale.events().iter().any(after_optout));
    run("DISABLE_TELEMETRY=1");
    let alert = telltale.wait_for("alert", after_optout);
    alert.expect(&[
        ("telltale.alert.labels.switch", "DISABLE_TELEMETRY"),
        ("telltale.alert.labels.endpoint", host),
    ]);
}

//! A recording replayed gives the same judgements, and always the same bytes.
//!
//! In: a live run with `--record`. Out: the live log, and the logs of two replays.

use std::collections::BTreeSet;

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::telltale::{recording, telltale, write_config};

/// What was said of a connection, without when.
fn judgement(event: &Event) -> String {
    let fields = [
        "event.action",
        "process.pid",
        "process.entity_id",
        "process.executable",
        "process.args",
        "destination.ip",
        "destination.port",
        "destination.domain",
        "network.transport",
        "telltale.tool.id",
        "telltale.tool.role",
        "telltale.endpoint.purpose",
        "telltale.verdict",
        "telltale.rule",
    ];
    fields.map(|field| event.get(field).to_string()).join(" ")
}

#[test]
fn is_judged_as_the_live_run_was() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer("api.anthropic.com", &[SERVER_V4]);
    scene.dns.answer("paste.example", &[SERVER_V4]);
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let monitor = scene.telltale().record().start();
    scene.run(&claude, &["connect", "api.anthropic.com:443"]);
    scene.run(
        &claude,
        &[
            "connect",
            "paste.example:443",
            "datagram",
            "[2001:db8::10]:4433",
        ],
    );
    let live = monitor.stop();

    let file = recording(scene.dir()).display().to_string();
    let config = write_config(scene.dir(), "").display().to_string();
    let replay = || {
        telltale(
            scene.dir(),
            &[
                "replay",
                &file,
                "--config",
                &config,
                "--events",
                "-",
                "--events-arguments",
                "redacted",
            ],
        )
    };
    let (first, second) = (replay(), replay());
    first.expect(0, &[]);
    assert_eq!(first.stdout, second.stdout, "two replays of one recording");
    let judgements = |events: &[Event]| events.iter().map(judgement).collect::<BTreeSet<_>>();
    let (live, replayed) = (
        judgements(&live),
        judgements(&Event::parse_log(&first.stdout)),
    );
    assert!(!live.is_empty());
    assert_eq!(live, replayed);
}

//! Names that `dig` resolves, over UDP and TCP, are known of the address.
//!
//! In: dig beside a resolver that cuts long answers off. Out: the name of a flow by address.

use monitor_tests::scene::Scene;

use crate::stage::Stage;

/// dig resolves a name as it is told; then somebody connects to its address.
#[track_caller]
fn check(server: &str, prepare: impl Fn(&Scene), arguments: &[&str]) {
    let name = "api.telltale.example";
    let scene = Scene::new();
    scene.dns.answer(name, &[server]);
    prepare(&scene);
    let stage = Stage::new(&scene, server);
    let mut dig = stage.start(&[&["dig", name, "A"], arguments].concat());
    dig.succeed(std::time::Duration::from_secs(20));
    assert!(dig.stdout().contains(server), "{}", dig.describe());
    // Says nothing that names a host.
    let connect = format!("import socket; socket.create_connection(('{server}', 443))");
    let expect = [
        ("destination.domain", name),
        ("telltale.name.source", "dns-shared"),
    ];
    stage.check(&["python3", "-c", &connect], &expect);
}

#[test]
fn over_udp() {
    check("203.0.113.31", |_| {}, &[]);
}

#[test]
fn over_udp_without_extensions() {
    check("203.0.113.32", |_| {}, &["+noedns"]);
}

#[test]
fn over_tcp() {
    check("203.0.113.33", |_| {}, &["+tcp"]);
}

/// The answer over UDP says that there is more, and dig asks again over TCP.
#[test]
fn over_tcp_behind_a_truncated_answer() {
    check("203.0.113.34", |scene| scene.dns.truncate(), &[]);
}

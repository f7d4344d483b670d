//! Names that `dig` resolves, over UDP and TCP, are known of the address.
//!
//! In: dig beside a resolver that cuts long answers off. Out: the name of a flow by address.

use monitor_tests::scene::{SERVER_V4, Scene};

use crate::stage::Stage;

/// dig resolves a name as it is told; then somebody connects to its address.
#[track_caller]
fn check(prepare: impl Fn(&Scene), arguments: &[&str]) {
    let name = "api.telltale.example";
    let scene = Scene::new();
    scene.dns.answer(name, &[SERVER_V4]);
    prepare(&scene);
    let stage = Stage::new(&scene, "");
    let mut dig = stage.start(&[&["dig", name, "A"], arguments].concat());
    dig.succeed(std::time::Duration::from_secs(20));
    assert!(dig.stdout().contains(SERVER_V4), "{}", dig.describe());
    // Says nothing that names a host.
    let connect = format!("import socket; socket.create_connection(('{SERVER_V4}', 443))");
    let expect = [
        ("destination.domain", name),
        ("telltale.name.source", "dns-shared"),
    ];
    stage.check(&["python3", "-c", &connect], &expect);
}

#[test]
fn over_udp() {
    check(|_| {}, &[]);
}

#[test]
fn over_udp_without_extensions() {
    check(|_| {}, &["+noedns"]);
}

#[test]
fn over_tcp() {
    check(|_| {}, &["+tcp"]);
}

/// The answer over UDP says that there is more, and dig asks again over TCP.
#[test]
fn over_tcp_behind_a_truncated_answer() {
    check(|scene| scene.dns.truncate(), &[]);
}

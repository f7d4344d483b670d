//! Whom clients ask proxies for: tinyproxy for HTTP, microsocks for SOCKS 5.
//!
//! In: curl through a real proxy that passes on to a real server. Out: the target, told of the
//! client's flow to the proxy; and the proxy's own flow, under the name that it resolved.

use monitor_tests::binary;
use monitor_tests::scene::Scene;

use crate::stage::Stage;

const NAME: &str = "api.telltale.example";

/// Where the proxies listen.
const PROXY: &str = "203.0.113.80";

#[test]
fn targets_of_an_http_proxy() {
    const SERVER: &str = "203.0.113.25";
    binary::require("tinyproxy", "tinyproxy-bin");
    let scene = Scene::new();
    scene.dns.answer(NAME, &[SERVER]);
    let stage = Stage::new(&scene, SERVER);
    let config = format!("Port 8888\nListen {PROXY}\nTimeout 10\nMaxClients 10\n");
    let config = stage.write("tinyproxy.conf", &config);
    let address = format!("{PROXY}:8888");
    let proxy = stage.serve(&["tinyproxy", "-d", "-c", &config], &address);
    let through = format!("http://user:secret@{address}");

    let pid = stage.run(&["curl", "-sk", "-x", &through, &format!("https://{NAME}/")]);
    let target = format!("{NAME}:443");
    let expect = [("destination.domain", NAME), ("telltale.proxied", &target)];
    stage.expect(pid, PROXY, &expect);
    stage.expect(proxy.pid(), SERVER, &[("destination.domain", NAME)]);

    let pid = stage.run(&["curl", "-s", "-x", &through, &format!("http://{NAME}/")]);
    stage.expect(pid, PROXY, &[("destination.domain", NAME)]);
}

/// What is sent besides names is in no event, metric or recording, nor is a password.
#[test]
fn what_is_sent_shows_nowhere() {
    const SERVER: &str = "203.0.113.26";
    binary::require("tinyproxy", "tinyproxy-bin");
    let scene = Scene::new();
    scene.dns.answer(NAME, &[SERVER]);
    let stage = Stage::new(&scene, SERVER);
    let config = format!("Port 8888\nListen {PROXY}\nTimeout 10\nMaxClients 10\n");
    let config = stage.write("tinyproxy.conf", &config);
    let address = format!("{PROXY}:8888");
    let _proxy = stage.serve(&["tinyproxy", "-d", "-c", &config], &address);
    // In a file: arguments are told.
    let marker = "4d61726b6572";
    let options = format!(
        "proxy = http://user:{marker}@{address}\nheader = X-Marker: {marker}\n\
         data = {marker}\nuser = {marker}:{marker}\nsilent\ninsecure\n"
    );
    let options = stage.write("curlrc", &options);
    for url in [
        format!("http://{NAME}/{marker}"),
        format!("https://{NAME}/"),
    ] {
        let url = stage.write("url", &format!("url = {url}\n"));
        let pid = stage.run(&["curl", "-K", &options, "-K", &url]);
        stage.expect(pid, PROXY, &[("destination.domain", NAME)]);
    }
    let metrics = stage.telltale.get("/metrics").unwrap().body;
    assert!(!metrics.contains(marker));
    let log = std::fs::read_to_string(scene.dir().join("events.ndjson")).unwrap();
    assert!(log.contains(NAME) && !log.contains(marker));
}

#[test]
fn targets_of_a_socks_proxy() {
    const SERVER: &str = "203.0.113.27";
    binary::require("microsocks", "microsocks");
    let scene = Scene::new();
    scene.dns.answer(NAME, &[SERVER]);
    let stage = Stage::new(&scene, SERVER);
    let address = format!("{PROXY}:1080");
    let words = [
        "microsocks",
        "-i",
        PROXY,
        "-p",
        "1080",
        "-u",
        "user",
        "-P",
        "secret",
    ];
    let proxy = stage.serve(&words, &address);

    let through = format!("socks5h://user:secret@{address}");
    let pid = stage.run(&["curl", "-sk", "-x", &through, &format!("https://{NAME}/")]);
    let target = format!("{NAME}:443");
    let expect = [("destination.domain", NAME), ("telltale.proxied", &target)];
    stage.expect(pid, PROXY, &expect);
    stage.expect(proxy.pid(), SERVER, &[("destination.domain", NAME)]);
}

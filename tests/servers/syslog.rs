//! A real rsyslog receives alerts.
//!
//! In: Debian's `rsyslogd`, on loopback ports and a socket. Out: what it parsed, as it wrote it.

use std::fs;
use std::process::Command;

use monitor_tests::running::Running;
use monitor_tests::scene::Scene;
use monitor_tests::telltale::free_address;
use monitor_tests::{binary, wait};

#[test]
fn rsyslog_understands_each_way_to_send() {
    binary::require("rsyslogd", "rsyslog");
    let scene = Scene::new();
    let dir = scene.dir();
    let (tcp, udp) = (free_address(), free_address());
    let (socket, out) = (dir.join("log.sock"), dir.join("syslog.out"));
    let config = dir.join("rsyslog.conf");
    let text = format!(
        "global(workDirectory=\"{dir}\")\n\
         module(load=\"imtcp\")\nmodule(load=\"imudp\")\n\
         module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         template(name=\"parsed\" type=\"string\" \
         string=\"%inputname%|%app-name%|%msgid%|%syslogseverity%|%structured-data%|%msg%\\n\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{tcp}\")\n\
         input(type=\"imudp\" address=\"127.0.0.1\" port=\"{udp}\")\n\
         input(type=\"imuxsock\" Socket=\"{socket}\" useSpecialParser=\"off\")\n\
         action(type=\"omfile\" file=\"{out}\" template=\"parsed\")\n",
        dir = dir.display(),
        tcp = tcp.port(),
        udp = udp.port(),
        socket = socket.display(),
        out = out.display(),
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "rsyslogd", "-n", "-iNONE", "-f"]);
    command.arg(&config);
    let mut rsyslog = Running::start("rsyslogd", dir, command);
    wait::until("rsyslog's socket", wait::START, || {
        assert!(rsyslog.status().is_none(), "{}", rsyslog.describe());
        socket.exists().then_some(())
    });
    let tool = scene.own_tool();
    let config = format!(
        "[policy]\nbanned = [\"{}\"]\n\n\
         [[alerts.syslog]]\naddress = \"tcp:{tcp}\"\n\n\
         [[alerts.syslog]]\naddress = \"udp:{udp}\"\nformat = \"cef\"\n\n\
         [[alerts.syslog]]\naddress = \"unix:{}\"\n",
        tool.id,
        socket.display()
    );
    let _telltale = scene.telltale().config(&config).start();
    scene.run(&tool.program, &[]);
    let structured = "[telltale@32473 id=";
    for (input, word) in [
        ("imtcp|telltale|banned-tool|2|", structured),
        (
            "imudp|telltale|banned-tool|2|-|",
            "CEF:0|Telltale|Telltale|",
        ),
        ("imuxsock|telltale|banned-tool|2|", structured),
    ] {
        wait::until(input, wait::SOON, || {
            let text = fs::read_to_string(&out).unwrap_or_default();
            let mut lines = text.lines();
            let found = lines.any(|line| line.starts_with(input) && line.contains(word));
            found.then_some(())
        });
    }
}

//! Records the golden cases of the replay rung anew: `cargo run -p monitor-tests --bin
//! record-cases [NAME…]`, then `UPDATE=1 cargo test -p monitor-tests --test replay`.
//!
//! In: the cases below, played on the running kernel; needs root. Out: `replay/cases/<name>/
//! recording`, and `telltale.toml` where the case has a configuration. Needed when the records'
//! layout changes, or the kernel side tells something new.
//!
//! Each case is a build job: a shell script that starts stand-in tools.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "it reports to whoever runs it, by printing and by panicking"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use monitor_tests::program::{self, Program};
use monitor_tests::scene::{SERVER_V4, SERVER_V6, Scene};
use monitor_tests::telltale::recording;
use monitor_tests::trim::{SHELL, trim};

/// What quinn says first, in two datagrams: a name in a hello with a post-quantum key share.
const QUIC: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../fuzz/corpus/quic/quinn-post-quantum"
);
/// Where the cases are.
const CASES_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/replay/cases");

/// One case.
struct Case {
    name: &'static str,
    /// Sections of the configuration.
    config: &'static str,
    /// Lays out programs and names.
    prepare: fn(&Scene),
    /// What the build job does. `$HOME` is where the programs are.
    job: &'static str,
}

const CASES: [Case; 18] = [
    Case {
        name: "claude-native-expected",
        config: "",
        prepare: claude,
        job: "$HOME/.local/share/claude/versions/2.1.328 connect api.anthropic.com:443",
    },
    Case {
        name: "claude-npm-expected",
        config: "",
        prepare: |scene| {
            names(scene);
            let _ = Program::script_titled(scene.dir(), program::CLAUDE_SCRIPT, "claude");
        },
        job: "node $HOME/lib/node_modules/@anthropic-ai/claude-code/cli.js \
              connect api.anthropic.com:443",
    },
    Case {
        name: "banned-tool",
        config: "[policy]\nbanned = [\"claude-code\"]\n",
        prepare: claude,
        job: "$HOME/.local/share/claude/versions/2.1.328 connect api.anthropic.com:443",
    },
    Case {
        name: "undeclared-endpoint",
        config: "",
        prepare: claude,
        job: "$HOME/.local/share/claude/versions/2.1.328 connect paste.example:443",
    },
    Case {
        name: "unnamed-ip",
        config: "",
        prepare: claude,
        job: "$HOME/.local/share/claude/versions/2.1.328 connect 203.0.113.10:443 \
              connect [2001:db8::10]:443 connect-fails 203.0.113.10:444",
    },
    Case {
        name: "child-of-tool",
        config: "",
        prepare: |scene| {
            claude(scene);
            let _ = Program::native(scene.dir(), "bin/git");
        },
        job: "$HOME/.local/share/claude/versions/2.1.328 \
              run bash -c \"$HOME/bin/git connect code.example:443; exit 0\"",
    },
    Case {
        name: "plain-process-unlogged",
        config: "",
        prepare: |scene| {
            names(scene);
            let _ = Program::native(scene.dir(), "bin/fetcher");
        },
        job: "$HOME/bin/fetcher connect paste.example:443",
    },
    Case {
        name: "dns-shared-name",
        config: "",
        prepare: |scene| {
            claude(scene);
            let _ = Program::native(scene.dir(), "bin/asker");
        },
        job: "$HOME/bin/asker connect paste.example:443\n\
              $HOME/.local/share/claude/versions/2.1.328 connect 203.0.113.10:443",
    },
    Case {
        name: "qoder-helper",
        config: "",
        prepare: |scene| {
            names(scene);
            let _ = Program::script(scene.dir(), program::QODER_SCRIPT);
            let _ = Program::native(scene.dir(), program::QODER_HELPER);
        },
        job: "node $HOME/lib/node_modules/@qoder-ai/qodercli/bundle/qodercli.js \
              connect api2.qoder.sh:443 \
              run $HOME/.qoder/.bin/runtime-info-linux-x64-0123456789abcdef \
              connect 203.0.113.10:443",
    },
    Case {
        name: "unidentified-program",
        config: "",
        prepare: |scene| {
            names(scene);
            let _ = Program::native(scene.dir(), "bin/own-script");
        },
        job: "$HOME/bin/own-script connect api.anthropic.com:443",
    },
    Case {
        name: "image-replaced",
        config: "",
        prepare: claude,
        job: "exec 3<>/dev/tcp/203.0.113.10/443\n\
              exec $HOME/.local/share/claude/versions/2.1.328 connect [2001:db8::10]:443",
    },
    Case {
        name: "alert-resolved",
        config: "[policy]\nbanned = [\"claude-code\"]\n\n[alerts]\nresolve_after_seconds = 1\n",
        prepare: claude,
        // Nobody keeps the alert alive in a replay, whatever else this host does.
        job: "$HOME/.local/share/claude/versions/2.1.328 number 1\nsleep 4",
    },
    Case {
        name: "sni-only",
        config: "",
        prepare: claude,
        job: "$HOME/.local/share/claude/versions/2.1.328 run curl -sk -m 1 \
              --resolve api.anthropic.com:443:203.0.113.10 https://api.anthropic.com/ || true",
    },
    Case {
        name: "encrypted-dns-client",
        config: "",
        prepare: claude,
        job: "$HOME/.local/share/claude/versions/2.1.328 run curl -sk -m 1 \
              --resolve dns.alidns.com:443:203.0.113.10 https://dns.alidns.com/dns-query || true",
    },
    Case {
        name: "false-sni",
        config: "",
        prepare: |scene| {
            claude(scene);
            scene.dns.answer("api.anthropic.com", &[SERVER_V6]);
        },
        job: "$HOME/.local/share/claude/versions/2.1.328 connect api.anthropic.com:443 \
              connect paste.example:443 run curl -sk -m 1 \
              --resolve api.anthropic.com:443:203.0.113.10 https://api.anthropic.com/ || true",
    },
    Case {
        name: "shared-address",
        config: "",
        prepare: |scene| {
            claude(scene);
            let _ = Program::native(scene.dir(), "bin/other");
        },
        job: "$HOME/bin/other connect paste.example:443\n\
              $HOME/.local/share/claude/versions/2.1.328 connect api.anthropic.com:443 run curl -sk \
              -m 1 --resolve code.example:443:203.0.113.10 https://code.example/ || true",
    },
    Case {
        name: "proxy-connect",
        config: "[proxy]\nmandatory = [\"203.0.113.10:443\"]\n",
        prepare: claude,
        job: "C=$HOME/.local/share/claude/versions/2.1.328\n\
              $C run curl -sk -m 1 -x http://203.0.113.10:443 https://api.anthropic.com/ || true\n\
              $C connect [2001:db8::10]:443",
    },
    Case {
        name: "quic-sni",
        config: "",
        prepare: |scene| {
            claude(scene);
            fs::copy(QUIC, scene.dir().join("quic")).expect("recorded datagrams");
        },
        job: "$HOME/.local/share/claude/versions/2.1.328 run bash -c '\
              exec 3<>/dev/udp/203.0.113.10/443\n\
              tail -c +3 $HOME/quic | head -c 1200 >&3\n\
              tail -c +1205 $HOME/quic >&3 || tail -c +1205 $HOME/quic >&3; true'",
    },
];

fn names(scene: &Scene) {
    for name in [
        "api.anthropic.com",
        "api2.qoder.sh",
        "paste.example",
        "code.example",
    ] {
        scene.dns.answer(name, &[SERVER_V4]);
    }
}

fn claude(scene: &Scene) {
    names(scene);
    let _ = Program::native(scene.dir(), program::CLAUDE_NATIVE);
}

fn main() {
    let wanted: Vec<String> = env::args().skip(1).collect();
    for case in &CASES {
        if wanted.is_empty() || wanted.iter().any(|name| name == case.name) {
            record(case);
        }
    }
}

fn record(case: &Case) {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    (case.prepare)(&scene);
    let script = scene.dir().join("job.sh");
    fs::write(&script, format!("{}\n", case.job)).expect("job");
    let job = Program {
        exe: PathBuf::from(SHELL),
        script: Some(script),
    };
    let monitor = scene.telltale().config(case.config).record().start();
    let pid = scene.run(&job, &[]);
    monitor.stop();
    let whole = fs::read_to_string(recording(scene.dir())).expect("recording");
    let trimmed = trim(&whole, pid);

    let dir = Path::new(CASES_DIR).join(case.name);
    fs::create_dir_all(&dir).expect("case directory");
    fs::write(dir.join("recording"), &trimmed).expect("recording");
    if !case.config.is_empty() {
        fs::write(dir.join("telltale.toml"), case.config).expect("configuration");
    }
    println!("{}: {} bytes", case.name, trimmed.len());
}

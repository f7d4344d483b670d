//! Files that are not as they should be: configuration, catalog, recordings.
//!
//! In: their text. Out: `file:line:column`, the key, what to write instead; exit status 2.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use monitor_tests::metrics::Metrics;
use monitor_tests::scene::temp_dir;
use monitor_tests::telltale::telltale;

fn write(path: &Path, text: &[u8]) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// `telltale check` and `telltale run` must both refuse this configuration, in these words.
#[track_caller]
fn check_config(text: &[u8], words: &[&str]) {
    let dir = temp_dir();
    let file = write(&dir.path().join("telltale.toml"), text);
    for command in ["check", "run"] {
        let ended = telltale(dir.path(), &[command, "--config", &file]);
        ended.expect(2, words);
        assert!(
            ended.stderr.contains(&file),
            "the file is named: {ended:#?}"
        );
    }
}

#[test]
fn a_good_configuration() {
    let dir = temp_dir();
    let text = b"[policy]\nbanned = [\"claude-code\"]\n\n[events]\nscope = \"all\"\n";
    let file = write(&dir.path().join("telltale.toml"), text);
    telltale(dir.path(), &["check", "--config", &file]).expect(0, &[]);
}

#[test]
fn an_unknown_key() {
    check_config(
        b"[policy]\nbaned = [\"claude-code\"]\n",
        &["telltale.toml:2:1", "baned"],
    );
}

#[test]
fn an_unknown_section() {
    check_config(b"\n[polcy]\nbanned = []\n", &["telltale.toml:2:", "polcy"]);
}

#[test]
fn a_wrong_type() {
    check_config(
        b"[policy]\nbanned = \"claude-code\"\n",
        &["telltale.toml:2:", "banned"],
    );
}

#[test]
fn a_value_out_of_range() {
    check_config(
        b"[alerts]\nresend_seconds = -1\n",
        &["telltale.toml:2:", "resend_seconds"],
    );
}

#[test]
fn a_tool_that_the_catalog_does_not_know() {
    let text = b"[policy]\nbanned = [\"claude-coed\"]\n";
    check_config(text, &["telltale.toml:2:", "claude-coed"]);
}

#[test]
fn not_toml() {
    check_config(b"[policy\n", &["telltale.toml:1:"]);
}

#[test]
fn not_text() {
    check_config(b"[policy]\n# \xff\n", &["telltale.toml:2", "UTF-8"]);
}

/// Every mistake is told at once, so that one run is enough to mend them.
#[test]
fn several_mistakes() {
    check_config(
        b"[policy]\nbaned = []\n\n[events]\nscope = \"some\"\n",
        &["telltale.toml:2:", "baned", "telltale.toml:5:", "some"],
    );
}

#[test]
fn a_configuration_that_cannot_be_read() {
    let dir = temp_dir();
    let none = dir.path().join("none.toml").display().to_string();
    telltale(dir.path(), &["check", "--config", &none]).expect(2, &[&none, "No such file"]);
    let folder = dir.path().display().to_string();
    telltale(dir.path(), &["check", "--config", &folder]).expect(2, &[&folder]);
}

/// Who can write the file could lift a ban.
#[test]
fn a_configuration_that_anyone_can_write() {
    let dir = temp_dir();
    let path = dir.path().join("telltale.toml");
    let file = write(&path, b"");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    telltale(dir.path(), &["check", "--config", &file]).expect(2, &[&file, "chmod"]);
}

/// A catalog of the operator's own with a mistake in one file.
#[test]
fn a_broken_catalog_file() {
    let dir = temp_dir();
    let tools = dir.path().join("catalog/tools");
    fs::create_dir_all(&tools).unwrap();
    let broken = write(
        &tools.join("mine.toml"),
        b"id = \"mine\"\nnmae = \"Mine\"\n",
    );
    let catalog = dir.path().join("catalog").display().to_string();
    let text = format!("[catalog]\ndirectory = {catalog:?}\n");
    let file = write(&dir.path().join("telltale.toml"), text.as_bytes());
    let ended = telltale(dir.path(), &["check", "--config", &file]);
    ended.expect(2, &[&format!("{broken}:2:"), "nmae", "expected one of"]);
    for command in [
        &["run"][..],
        &["check"],
        &["catalog", "list"],
        &["catalog", "show", "claude-code"],
    ] {
        let words = [command, &["--catalog", &catalog]].concat();
        telltale(dir.path(), &words).expect(2, &[&broken, "nmae"]);
    }
}

/// What recognises two tools would attribute one's deeds to the other.
#[test]
fn a_catalog_file_that_claims_anothers_program() {
    let dir = temp_dir();
    let tools = dir.path().join("tools");
    fs::create_dir_all(&tools).unwrap();
    let text = "schema_version = 1\nid = \"mine\"\nname = \"Mine\"\nvendor = \"Me\"\n\
                jurisdiction = \"XX\"\nkind = \"cli-agent\"\nsource = \"me\"\n\
                date = 2026-11-20\nconfidence = \"guess\"\n[recognise]\nnames = [\"claude\"]\n";
    let mine = write(&tools.join("mine.toml"), text.as_bytes());
    let folder = dir.path().display().to_string();
    let words = [&format!("{mine}:11:"), "`claude`", "claude-code"];
    telltale(dir.path(), &["check", "--catalog", &folder]).expect(2, &words);
}

#[test]
fn a_catalog_folder_without_files() {
    let dir = temp_dir();
    let folder = dir.path().display().to_string();
    telltale(dir.path(), &["check", "--catalog", &folder]).expect(2, &[&folder, "*.toml"]);
    let none = dir.path().join("none").display().to_string();
    telltale(dir.path(), &["check", "--catalog", &none]).expect(2, &[&none, "No such file"]);
}

/// `telltale replay` of something that is no recording, or no longer one.
#[track_caller]
fn check_recording(text: &[u8], words: &[&str]) {
    let dir = temp_dir();
    let file = write(&dir.path().join("recording"), text);
    let ended = telltale(dir.path(), &["replay", &file, "--events", "-"]);
    ended.expect(2, words);
    assert!(
        ended.stderr.contains(&file),
        "the file is named: {ended:#?}"
    );
}

#[test]
fn an_empty_recording() {
    check_recording(b"", &[]);
}

#[test]
fn not_a_recording() {
    check_recording(b"\x7fELF\0\0\0\0\n", &[]);
}

#[test]
fn a_recording_of_another_version() {
    let header = b"{\"telltale_recording\":999,\"abi\":1}\n";
    check_recording(header, &["999", "the version that recorded it"]);
}

#[test]
fn a_recording_that_is_not_there() {
    let dir = temp_dir();
    let none = dir.path().join("none").display().to_string();
    telltale(dir.path(), &["replay", &none]).expect(2, &[&none, "No such file"]);
}

/// The recording of a golden case, line by line.
fn golden() -> Vec<String> {
    let case = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/replay/cases/claude-native-expected/recording"
    );
    let text = fs::read_to_string(case).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_recording_that_was_cut_off() {
    let mut lines = golden();
    lines.truncate(3);
    lines[2].truncate(40);
    check_recording(
        lines.join("\n").as_bytes(),
        &[":3: ", "cut off", "remove it"],
    );
}

/// A run that was killed leaves no end line: what is there is replayed, and it is said.
#[test]
fn a_recording_without_an_end() {
    let dir = temp_dir();
    let mut lines = golden();
    lines.pop();
    let text = lines.join("\n") + "\n";
    let file = write(&dir.path().join("recording"), text.as_bytes());
    let ended = telltale(dir.path(), &["replay", &file, "--events", "-"]);
    ended.expect(0, &[&file, "no end line"]);
    assert!(ended.stdout.contains("connection-closed"), "{ended:#?}");
}

/// Records that nobody can read are counted by reason, and the line goes on.
#[test]
fn malformed_records() {
    let dir = temp_dir();
    let mut lines = golden();
    let now = lines[1].split(',').next().unwrap().to_owned();
    let unknown_kind = "00000000000000004d00000010000000";
    let cut_fork = "00000000000000000100000010000000";
    for hex in [unknown_kind, cut_fork, "00", ""] {
        lines.insert(1, format!("{now},\"hex\":\"{hex}\"}}"));
    }
    let text = lines.join("\n") + "\n";
    let file = write(&dir.path().join("recording"), text.as_bytes());
    let args = ["replay", &file, "--events", "/dev/null", "--metrics", "-"];
    let ended = telltale(dir.path(), &args);
    ended.expect(0, &[]);
    let metrics = Metrics::parse(&ended.stdout);
    let errors = |reason| metrics.get("telltale_decode_errors_total", &[("reason", reason)]);
    assert_eq!((errors("unknown_kind"), errors("too_short")), (1.0, 3.0));
    let claude = [("tool", "claude-code"), ("transport", "tcp")];
    assert_eq!(metrics.get("telltale_connections_total", &claude), 1.0);
}

/// Two texts in one stream would be neither.
#[test]
fn a_replay_that_writes_all_to_standard_output() {
    let dir = temp_dir();
    let file = write(
        &dir.path().join("recording"),
        golden().join("\n").as_bytes(),
    );
    let args = ["replay", &file, "--events", "-", "--metrics", "-"];
    telltale(dir.path(), &args).expect(2, &["standard output", "name a file"]);
}

#[test]
fn words_that_are_no_command() {
    let dir = temp_dir();
    telltale(dir.path(), &["rnu"]).expect(2, &["rnu"]);
    telltale(dir.path(), &["run", "--web.listen-address", "nowhere"]).expect(2, &["nowhere"]);
    telltale(dir.path(), &["run", "--events-scope", "some"]).expect(2, &["some"]);
}

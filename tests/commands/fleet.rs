//! The files that put Telltale on many hosts, as their tools' own linters judge them.
//!
//! In: deploy/ansible and deploy/kubernetes. Out: no complaint.

use std::process::Command;

use monitor_tests::python;

#[track_caller]
fn check(mut linter: Command, folder: &str, words: &str) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/");
    let ended = linter.current_dir(format!("{root}{folder}")).output();
    let ended = ended.unwrap();
    let text = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success(), "{text}");
    assert!(text.contains(words), "no {words:?} in {text}");
}

/// By the strictest rules that ansible-lint has.
#[test]
fn the_ansible_role_is_clean() {
    let mut lint = python::program("ansible-lint");
    lint.args(["--offline", "--nocolor", "--profile", "production", "."]);
    check(
        lint,
        "ansible",
        "Profile 'production' was required, and it passed",
    );
}

#[test]
fn the_kubernetes_manifest_is_valid() {
    let mut validate = python::program("kubernetes-validate");
    validate.args(["--strict", "telltale.yaml"]);
    check(validate, "kubernetes", "daemonset/telltale");
}

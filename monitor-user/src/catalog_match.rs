//! What the catalog makes of a host, an address or a command line: `telltale catalog match`.
//!
//! In: words. Out: plain text, and whether there is anything to say.

use std::net::IpAddr;

use crate::core::catalog::program::Image;
use crate::core::catalog::recogniser::{Part, Recognition, Sign};
use crate::core::catalog::{Catalog, ManifestEndpoint, Tool};

/// What the catalog makes of `words`: a command line if they begin with an absolute path, else one
/// host or address. `None`: it does not know.
#[must_use]
pub fn in_words(catalog: &Catalog, words: &[String]) -> Option<String> {
    match words {
        [exe, ..] if exe.starts_with('/') => of_program(catalog, exe, words),
        [host] => of_host(catalog, host),
        _ => None,
    }
}

/// A program that is started like this.
fn of_program(catalog: &Catalog, exe: &str, args: &[String]) -> Option<String> {
    let image = Image {
        exe,
        args,
        ..Image::default()
    };
    if let Some(found) = catalog.recognise(image) {
        return Some(recognised(&found));
    }
    let held: Vec<_> = catalog.held_by(exe).map(|tool| &*tool.id).collect();
    let held = (!held.is_empty()).then(|| held.join(" or "))?;
    Some(format!(
        "{held} in flows to hosts that are the tool's alone, and else nobody's\n"
    ))
}

fn recognised(found: &Recognition) -> String {
    let part = match found.part {
        Part::Main => "main",
        Part::Helper => "helper",
    };
    let (how, by) = match &found.sign {
        Sign::Exe { glob } => ("executable", glob),
        Sign::Script { glob, .. } => ("script", glob),
        Sign::Helper { glob } => ("helper", glob),
        Sign::Name { name } => ("name", name),
    };
    let trust = match found.trusted {
        true => "a known layout",
        false => "no more than a name: counts towards a ban, and never towards an allowance",
    };
    let version = found.version.as_deref().unwrap_or("unknown");
    let Tool { id, name, .. } = &*found.tool;
    format!("{name} ({id}), {part}, version {version}\n  by its {how} {by}: {trust}\n")
}

/// Whose a host is, and who is expected there.
fn of_host(catalog: &Catalog, host: &str) -> Option<String> {
    let ip: Option<IpAddr> = host.parse().ok();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let mut out = String::new();
    if let Some(provider) = catalog.provider(&host) {
        let (name, home) = (&provider.vendor, &provider.jurisdiction);
        out += &format!("AI of {name}, {home}\n");
    }
    if let Some(service) = catalog.service(&host) {
        let (name, class) = (&service.name, &service.class);
        out += &format!("{class}: {name}\n");
    }
    let operator = match ip {
        Some(ip) => catalog.operator_ip(ip),
        None => catalog.operator(&host),
    };
    if let Some(operator) = operator {
        let (name, home) = (&operator.vendor, &operator.jurisdiction);
        out += &format!("run by {name}, {home}\n");
    }
    for tool in catalog.tools() {
        let endpoint = match ip {
            Some(ip) => catalog.endpoint_ip(tool, ip, None),
            None => catalog.endpoint(tool, &host, None),
        };
        out += &endpoint.map_or_else(String::new, |endpoint| expected(tool, endpoint));
    }
    (!out.is_empty()).then_some(out)
}

fn expected(tool: &Tool, endpoint: &ManifestEndpoint) -> String {
    let (host, purpose, versions) = (&endpoint.host, &endpoint.purpose, &endpoint.versions);
    let optional = if endpoint.optional { ", optional" } else { "" };
    let shared = if endpoint.shared { ", shared" } else { "" };
    let id = &tool.id;
    format!("expected of {id}: {purpose}{optional}{shared}, {versions}, as {host}\n")
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::embedded().unwrap());

    #[track_caller]
    fn check(words: &str, expect: Option<&str>) {
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        assert_eq!(in_words(&CATALOG, &words).as_deref(), expect);
    }

    #[test]
    fn programs_are_told_with_how_they_show() {
        check(
            "/home/u/.local/share/claude/versions/2.1.328 --resume",
            Some(
                "Claude Code (claude-code), main, version 2.1.328\n  by its executable \
                 **/.local/share/claude/versions/{version}: a known layout\n",
            ),
        );
        check(
            "/usr/bin/node /usr/local/bin/qodercli",
            Some(
                "Qoder CLI (qoder-cli), main, version unknown\n  by its script **/{bin,.bin}/qodercli: \
                 no more than a name: counts towards a ban, and never towards an allowance\n",
            ),
        );
        check(
            "/usr/share/code/code",
            Some("vscode-copilot in flows to hosts that are the tool's alone, and else nobody's\n"),
        );
        check("/usr/bin/vim", None);
    }

    #[test]
    fn hosts_are_told_with_whose_they_are() {
        check(
            "statsig.anthropic.com",
            Some(
                "run by Anthropic, US\nexpected of claude-code: feature-flags, before 2.1.90, as \
                 statsig.anthropic.com\n",
            ),
        );
        check("paste.example", None);
        check("two words", None);
        let api = in_words(&CATALOG, &["API.Anthropic.com.".to_owned()]).unwrap();
        assert!(
            api.starts_with("AI of Anthropic, US\nllm-api: Anthropic\n"),
            "{api}"
        );
        let address = in_words(&CATALOG, &["203.107.1.1".to_owned()]).unwrap();
        assert!(
            address.contains("encrypted-dns: Alibaba HTTPDNS\n"),
            "{address}"
        );
        assert!(
            address.contains("expected of qoder-cli: encrypted-dns, optional"),
            "{address}"
        );
    }
}

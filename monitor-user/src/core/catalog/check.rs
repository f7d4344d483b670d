//! Catalog files as written → facts that can be relied on.
//!
//! In: files. Out: [`Drafts`], or everything that is wrong with the files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::checker::{Checker, Entry, Mark};
use super::error::{CatalogError, Place, Problem};
use super::facts::ToolFacts;
use super::schema::{ServiceFile, ToolFile};
use super::{CatalogFile, Service};

/// What the files say, checked; where a later folder replaces an entry, only the later one.
/// Both by id.
pub(super) struct Drafts {
    pub(super) tools: Vec<ToolFacts>,
    pub(super) services: Vec<Service>,
}

/// # Errors
///
/// Everything that is wrong with the files.
pub(super) fn read(files: &[CatalogFile]) -> Result<Drafts, Vec<CatalogError>> {
    let mut layers = Layers::default();
    for file in files {
        read_file(file, &mut layers);
    }
    let Layers {
        tools,
        services,
        mut errors,
    } = layers;
    errors.extend(ambiguities(tools.values()));
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Drafts {
        tools: tools.into_values().map(|entry| entry.value).collect(),
        services: services.into_values().map(|entry| entry.value).collect(),
    })
}

/// Entries by id, and what is wrong so far.
#[derive(Default)]
struct Layers {
    tools: BTreeMap<Arc<str>, Entry<ToolFacts>>,
    services: BTreeMap<Arc<str>, Entry<Service>>,
    errors: Vec<CatalogError>,
}

fn read_file(file: &CatalogFile, layers: &mut Layers) {
    let folder = file.name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut checker = Checker::new(file, folder, &mut layers.errors);
    match folder.rsplit('/').next() {
        Some("tools") => {
            let Some(written) = checker.parse::<ToolFile>() else {
                return;
            };
            let entry = checker.tool(written);
            add(
                &mut layers.tools,
                entry,
                |facts| Arc::clone(&facts.tool.id),
                &mut layers.errors,
            );
        }
        Some("services") => {
            let Some(written) = checker.parse::<ServiceFile>() else {
                return;
            };
            for entry in checker.services(written) {
                add(
                    &mut layers.services,
                    entry,
                    |service| Arc::clone(&service.id),
                    &mut layers.errors,
                );
            }
        }
        _ => checker.fail("", 0..0, Problem::Misplaced),
    }
}

fn add<T>(
    entries: &mut BTreeMap<Arc<str>, Entry<T>>,
    entry: Entry<T>,
    id: impl Fn(&T) -> Arc<str>,
    errors: &mut Vec<CatalogError>,
) {
    let id = id(&entry.value);
    if let Some(other) = entries
        .get(&id)
        .filter(|other| other.folder == entry.folder)
    {
        let problem = Problem::DuplicateId {
            id: id.to_string(),
            other: other.place.clone(),
        };
        errors.push(CatalogError {
            place: entry.place.clone(),
            key: "id".to_owned(),
            problem,
        });
    }
    entries.insert(id, entry);
}

/// Globs and names that would recognise two tools.
fn ambiguities<'a>(tools: impl Iterator<Item = &'a Entry<ToolFacts>>) -> Vec<CatalogError> {
    let mut owners: HashMap<(&str, &str), (&Arc<str>, &Place)> = HashMap::new();
    let mut errors = Vec::new();
    for entry in tools {
        let id = &entry.value.tool.id;
        for Mark { key, text, place } in &entry.marks {
            let (owner, first) = *owners.entry((key, text)).or_insert((id, place));
            if owner != id {
                let (text, other, first) = (text.to_string(), Arc::clone(owner), first.clone());
                let problem = Problem::Ambiguous {
                    text,
                    other,
                    place: first,
                };
                errors.push(CatalogError {
                    place: place.clone(),
                    key: (*key).to_owned(),
                    problem,
                });
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: &str = r#"schema_version = 1
id = "t"
name = "T"
vendor = "V"
jurisdiction = "US"
kind = "sdk"
source = "s"
date = 2026-11-20
confidence = "guess"
[recognise]
exe = ["/opt/t/t"]
names = ["t"]
[[helper]]
glob = "/opt/t/h"
role = "runner"
what = "w"
[[endpoint]]
host = "api.t.example"
purpose = "api"
since = "1.0"
until = "2.0"
optional = true
switch = "T_OFF=1"
source = "s"
date = 2026-11-20
confidence = "guess"
[[advisory]]
id = "a"
title = "t"
summary = "s"
source = "s"
date = 2026-11-20
confidence = "guess"
"#;

    const SERVICES: &str = r#"schema_version = 1
class = "llm-api"
[[service]]
id = "s"
name = "S"
vendor = "V"
jurisdiction = "XX"
hosts = ["api.s.example", "*.t.example"]
shared = ["*.t.example"]
source = "s"
date = 2026-11-20
confidence = "guess"
"#;

    fn file(name: &str, text: &str) -> CatalogFile {
        CatalogFile {
            name: name.to_owned(),
            text: text.to_owned(),
        }
    }

    #[track_caller]
    fn wrong(files: &[CatalogFile]) -> String {
        let errors = read(files).err().unwrap_or_default();
        let lines: Vec<_> = errors.iter().map(CatalogError::to_string).collect();
        lines.join("\n")
    }

    /// What is said of the sound tool file with one text replaced.
    #[track_caller]
    fn check(from: &str, to: &str, expect: &str) {
        assert!(TOOL.contains(from), "{from}");
        assert_eq!(
            wrong(&[file("tools/t.toml", &TOOL.replacen(from, to, 1))]),
            expect
        );
    }

    /// The same for the sound list of services.
    #[track_caller]
    fn check_services(from: &str, to: &str, expect: &str) {
        assert!(SERVICES.contains(from), "{from}");
        assert_eq!(
            wrong(&[file("services/s.toml", &SERVICES.replacen(from, to, 1))]),
            expect
        );
    }

    #[test]
    fn sound_files_are_read() {
        let files = [
            file("tools/t.toml", TOOL),
            file("services/s.toml", SERVICES),
        ];
        assert_eq!(wrong(&files), "");
        let drafts = read(&files).ok().unwrap();
        assert_eq!((drafts.tools.len(), drafts.services.len()), (1, 1));
    }

    #[test]
    fn what_is_not_the_format_is_named() {
        check(
            "id = \"t\"",
            "id = ",
            "tools/t.toml:2:6: id: string values must be quoted, expected literal string",
        );
        check(
            "vendor",
            "vendr",
            "tools/t.toml:4:1: vendr: unknown field `vendr`, expected one of `schema_version`, `id`, `name`, `vendor`, `jurisdiction`, `kind`, `aliases`, `source`, `date`, `confidence`, `notes`, `recognise`, `helper`, `endpoint`, `advisory`",
        );
        check(
            "purpose = \"api\"\n",
            "",
            "tools/t.toml:17:1: endpoint.purpose: missing field `purpose`",
        );
        check(
            "source = \"s\"\ndate = 2026-11-20\nconfidence = \"guess\"\n[[adv",
            "date = 2026-11-20\nconfidence = \"guess\"\n[[adv",
            "tools/t.toml:17:1: endpoint.source: missing field `source`",
        );
        check(
            "optional = true",
            "optional = \"yes\"",
            r#"tools/t.toml:22:12: endpoint.optional: invalid type: string "yes", expected a boolean"#,
        );
        check(
            "schema_version = 1",
            "schema_version = 2",
            "tools/t.toml:1:18: schema_version: schema version 2 is not known; this build reads version 1",
        );
        assert_eq!(
            wrong(&[file("catalog/t.toml", TOOL)]),
            "catalog/t.toml:1:1: is it a tool or a list of services? move it into a folder `tools` or `services`"
        );
    }

    #[test]
    fn what_is_said_badly_is_named() {
        check(
            "id = \"t\"",
            "id = \"T 1\"",
            "tools/t.toml:2:6: id: `T 1` is no id; use lower-case letters, digits and hyphens, as in `claude-code`",
        );
        check(
            "name = \"T\"",
            "name = \" \"",
            "tools/t.toml:3:8: name: is empty; write what people call it",
        );
        check(
            "\"US\"",
            "\"UK\"",
            "tools/t.toml:5:16: jurisdiction: `UK` is no ISO 3166 alpha-2 code; use one such as `US` or `CN`, or `XX` if unknown",
        );
        check(
            "\"sdk\"",
            "\"robot\"",
            "tools/t.toml:6:8: kind: `robot` is no kind; use one of: cli-agent, ide, ide-extension-server, local-model-server, sdk",
        );
        check(
            "\"guess\"",
            "\"sure\"",
            "tools/t.toml:9:14: confidence: `sure` is no confidence; use one of: official+package, package, official, measured, secondary, guess",
        );
        check(
            "2026-11-20",
            "2026-11-20T10:00:00Z",
            "tools/t.toml:8:8: date: `2026-11-20T10:00:00Z` is no day; write it as 2026-11-20, without quotes or a time",
        );
        check(
            "\"api\"",
            "\"inference\"",
            "tools/t.toml:19:11: endpoint.purpose: `inference` is no purpose; use one of: api, auth, mcp, web-search, model-download, update, extensions-marketplace, assets, docs, feature-flags, telemetry, error-reporting, device-fingerprint, encrypted-dns, geolocation-probe, other",
        );
    }

    #[test]
    fn a_sign_host_version_or_switch_that_cannot_be_is_named() {
        check(
            "\"/opt/t/t\"",
            "\"opt/t\"",
            "tools/t.toml:11:8: recognise.exe: the glob `opt/t` has no start; begin it with `/`, or with `**/` for any folder",
        );
        check(
            "names = [\"t\"]",
            "names = [\"node\"]",
            "tools/t.toml:12:10: recognise.names: the glob `node` matches /usr/bin/node, which is no tool's own; write what is this tool's alone",
        );
        check(
            "names = [\"t\"]",
            "names = [\"bin/t\"]",
            "tools/t.toml:12:10: recognise.names: the glob `bin/t` is no file name; a path belongs under `exe`, `script` or `launcher`",
        );
        check(
            "\"api.t.example\"",
            "\"*.example\"",
            "tools/t.toml:18:8: endpoint.host: the host `*.example` covers a whole top-level domain; it must end in two labels without `*`",
        );
        check(
            "since = \"1.0\"",
            "since = \"v1\"",
            r#"tools/t.toml:20:9: endpoint.since: `v1` is no version; write numbers with dots between, as in "2.1.90""#,
        );
        check(
            "until = \"2.0\"",
            "until = \"1.0\"",
            "tools/t.toml:21:9: endpoint.until: no version is from 1.0, before 1.0; `since` is the first version, `until` the first one past the last",
        );
        check(
            "\"T_OFF=1\"",
            "\"t-off\"",
            "tools/t.toml:23:10: endpoint.switch: `t-off` is no environment variable; write `NAME` or `NAME=value`",
        );
        check(
            "optional = true\n",
            "",
            "tools/t.toml:22:10: endpoint.switch: what a switch turns off is optional; add `optional = true`",
        );
        check(
            "source = \"s\"",
            "source = \"\"",
            "tools/t.toml:7:10: source: is empty; write where it comes from, so that others can check it",
        );
        check(
            "exe = [\"/opt/t/t\"]\nnames = [\"t\"]\n",
            "",
            "tools/t.toml:10:1: recognise: nothing recognises the tool; give at least one of `exe`, `script`, `launcher`, `names`, `ide`",
        );
    }

    #[test]
    fn what_is_said_badly_of_services_is_named() {
        check_services(
            "\"llm-api\"",
            "\"llm\"",
            "services/s.toml:2:9: class: `llm` is no class; use one of: encrypted-dns, llm-api, telemetry, ip-geolocation",
        );
        check_services(
            "shared = [\"*.t.example\"]",
            "shared = [\"u.example\"]",
            "services/s.toml:9:11: service.shared: `u.example` is not in `hosts`; `shared` repeats those of them that other programs use too",
        );
        check_services(
            "\"XX\"",
            "\"EU\"",
            "services/s.toml:7:16: service.jurisdiction: `EU` is no ISO 3166 alpha-2 code; use one such as `US` or `CN`, or `XX` if unknown",
        );
    }

    #[test]
    fn what_is_said_twice_is_named() {
        let again = "[[endpoint]]\nhost = \"api.t.example\"\npurpose = \"auth\"\nsince = \"1.5\"\n\
            source = \"s\"\ndate = 2026-11-20\nconfidence = \"guess\"\n[[advisory]]";
        check(
            "[[advisory]]",
            again,
            "tools/t.toml:28:8: endpoint.host: `api.t.example` is listed twice for some version; merge the entries or part their versions",
        );
        let parted = again.replace("1.5", "2.0");
        check("[[advisory]]", &parted, "");
        let twice = [file("a/tools/t.toml", TOOL), file("a/tools/u.toml", TOOL)];
        assert_eq!(
            wrong(&twice),
            "a/tools/u.toml:2:6: id: `t` is the id of another entry, at a/tools/t.toml:2:6; give each its own"
        );
        let layers = [file("a/tools/t.toml", TOOL), file("b/tools/u.toml", TOOL)];
        assert_eq!(wrong(&layers), "");
        let other = TOOL
            .replace("id = \"t\"", "id = \"u\"")
            .replace("/opt/t/h", "/opt/u/h");
        assert_eq!(
            wrong(&[file("tools/t.toml", TOOL), file("tools/u.toml", &other)]),
            "tools/u.toml:11:8: recognise.exe: `/opt/t/t` recognises `t` too, at tools/t.toml:11:8; only one can have it (a name that both bear goes under `collisions` of both)\n\
             tools/u.toml:12:10: recognise.names: `t` recognises `t` too, at tools/t.toml:12:10; only one can have it (a name that both bear goes under `collisions` of both)"
        );
    }

    #[test]
    fn everything_is_said_at_once() {
        let bad = TOOL
            .replace("\"US\"", "\"UK\"")
            .replace("\"api\"", "\"inference\"");
        let files = [
            file("tools/t.toml", &bad),
            file("services/s.toml", "class = 1"),
        ];
        assert_eq!(
            wrong(&files),
            "tools/t.toml:5:16: jurisdiction: `UK` is no ISO 3166 alpha-2 code; use one such as `US` or `CN`, or `XX` if unknown\n\
             tools/t.toml:19:11: endpoint.purpose: `inference` is no purpose; use one of: api, auth, mcp, web-search, model-download, update, extensions-marketplace, assets, docs, feature-flags, telemetry, error-reporting, device-fingerprint, encrypted-dns, geolocation-probe, other\n\
             services/s.toml:1:9: class: invalid type: integer `1`, expected a string"
        );
    }
}

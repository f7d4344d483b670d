//! What is readable in catalog files, and may be meant otherwise.
//!
//! In: files in which nothing is wrong, and the day. Out: remarks, each with its place.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::value::Datetime;

use super::CatalogFile;
use super::checker::Checker;
use super::error::{CatalogError, Place, Problem};
use super::schema::{ServiceFile, ToolFile};

/// What there is to say of `files`, in their order. `today`: `2026-11-20`.
#[must_use]
pub fn lint(files: &[CatalogFile], today: &str) -> Vec<CatalogError> {
    let mut remarks = Vec::new();
    let tools = ids(files);
    let mut vendors = HashMap::new();
    for file in files {
        let folder = file.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut linter = Linter {
            checker: Checker::new(file, folder, &mut remarks),
            today,
            tools: &tools,
            vendors: &mut vendors,
        };
        match folder.rsplit('/').next() {
            Some("tools") => linter.tool(&file.name),
            _ => linter.services(),
        }
    }
    remarks
}

/// Ids of all tools.
fn ids(files: &[CatalogFile]) -> Vec<String> {
    let tools = files
        .iter()
        .filter_map(|file| toml::from_str::<ToolFile>(&file.text).ok());
    tools.map(|tool| tool.id.into_inner()).collect()
}

/// The vendor of an entry that stands for several.
const SEVERAL: &str = "various";

/// How a vendor was written first.
struct Vendor {
    name: String,
    jurisdiction: String,
    place: Place,
}

struct Linter<'a> {
    checker: Checker<'a>,
    today: &'a str,
    tools: &'a [String],
    /// By their names without case, spaces and signs.
    vendors: &'a mut HashMap<String, Vendor>,
}

impl Linter<'_> {
    fn tool(&mut self, file: &str) {
        let Some(tool) = self.checker.parse::<ToolFile>() else {
            return;
        };
        let id = tool.id.get_ref();
        let stem = file.rsplit('/').next().unwrap_or_default();
        if stem != format!("{id}.toml") {
            self.remark("id", tool.id.span(), Problem::OtherFileName(id.clone()));
        }
        self.vendor("", &tool.vendor, &tool.jurisdiction);
        self.date("", &tool.date);
        for alias in tool.aliases.iter().filter(|alias| *alias != id) {
            if self.tools.contains(alias) {
                self.remark("aliases", tool.id.span(), Problem::AliasIsId(alias.clone()));
            }
        }
        for endpoint in &tool.endpoint {
            self.date("endpoint.", &endpoint.date);
        }
        for advisory in &tool.advisory {
            self.date("advisory.", &advisory.date);
        }
    }

    fn services(&mut self) {
        let Some(file) = self.checker.parse::<ServiceFile>() else {
            return;
        };
        for service in &file.service {
            self.vendor("service.", &service.vendor, &service.jurisdiction);
            self.date("service.", &service.date);
        }
    }

    /// A vendor has one spelling and one home.
    fn vendor(&mut self, prefix: &str, name: &Spanned<String>, home: &Spanned<String>) {
        if name.get_ref() == SEVERAL {
            return;
        }
        let kept = |c: &char| c.is_alphanumeric();
        let plain: String = name.get_ref().to_lowercase().chars().filter(kept).collect();
        let Some(first) = self.vendors.get(&plain) else {
            let vendor = Vendor {
                name: name.get_ref().clone(),
                jurisdiction: home.get_ref().clone(),
                place: self.checker.place(name.span()),
            };
            self.vendors.insert(plain, vendor);
            return;
        };
        let place = first.place.clone();
        let problem = if first.name != *name.get_ref() {
            let other = first.name.clone();
            Problem::OtherSpelling { other, place }
        } else if first.jurisdiction != *home.get_ref() {
            let other = first.jurisdiction.clone();
            Problem::OtherHome { other, place }
        } else {
            return;
        };
        self.remark(&format!("{prefix}vendor"), name.span(), problem);
    }

    fn date(&mut self, prefix: &str, date: &Spanned<Datetime>) {
        let written = date.get_ref().to_string();
        let key = format!("{prefix}date");
        if *written > *self.today {
            self.remark(&key, date.span(), Problem::FromTheFuture(written));
        } else if *written < *a_year_before(self.today) {
            self.remark(&key, date.span(), Problem::Stale(written));
        }
    }

    fn remark(&mut self, key: &str, span: Range<usize>, problem: Problem) {
        self.checker.fail(key, span, problem);
    }
}

/// Days are written so that their texts compare as they do.
fn a_year_before(today: &str) -> String {
    let (year, rest) = today.split_at_checked(4).unwrap_or((today, ""));
    let year: u32 = year.parse().unwrap_or_default();
    format!("{:04}{rest}", year.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::Catalog;

    const TODAY: &str = "2026-11-20";

    fn tool(name: &str, id: &str, more: &str, endpoint: &str) -> CatalogFile {
        let text = format!(
            "schema_version = 1\nid = \"{id}\"\nname = \"T\"\nkind = \"sdk\"\nsource = \"s\"\n\
             confidence = \"guess\"\n{more}\n[recognise]\nnames = [\"{id}\"]\n{endpoint}"
        );
        CatalogFile {
            name: format!("x/tools/{name}.toml"),
            text,
        }
    }

    const SOUND: &str = "vendor = \"Vendor Inc\"\njurisdiction = \"US\"\ndate = 2026-11-20";
    const ENDPOINT: &str = "[[endpoint]]\nhost = \"a.example\"\npurpose = \"api\"\nsource = \"s\"\n\
                            date = 2025-11-20\nconfidence = \"guess\"\n";

    #[track_caller]
    fn check(files: &[CatalogFile], expect: &str) {
        assert!(Catalog::parse(files).is_ok());
        let remarks: Vec<_> = lint(files, TODAY).iter().map(ToString::to_string).collect();
        assert_eq!(remarks.join("\n"), expect);
    }

    #[test]
    fn what_may_be_meant_otherwise_is_told_with_its_place() {
        check(&[tool("t", "t", SOUND, ENDPOINT)], "");
        check(
            &[tool("t", "u", SOUND, ENDPOINT)],
            "x/tools/t.toml:2:6: id: the file is not called after it; call it `u.toml`",
        );
        let old = ENDPOINT.replace("2025-11-20", "2025-11-19");
        check(
            &[tool(
                "t",
                "t",
                &SOUND.replace("2026-11-20", "2026-11-21"),
                &old,
            )],
            "x/tools/t.toml:9:8: date: 2026-11-21 is in the future\n\
             x/tools/t.toml:16:8: endpoint.date: 2025-11-19 is more than a year ago; look whether it still holds, and date it anew",
        );
    }

    #[test]
    fn tools_are_compared_with_each_other() {
        let first = tool("t", "t", SOUND, ENDPOINT);
        let with = |more: &str| [first.clone(), tool("u", "u", more, ENDPOINT)];
        check(
            &with(&SOUND.replace("Vendor Inc", "vendor-inc")),
            "x/tools/u.toml:7:10: vendor: is spelled `Vendor Inc` at x/tools/t.toml:7:10; spell it one way",
        );
        check(
            &with(&SOUND.replace("US", "FR")),
            "x/tools/u.toml:7:10: vendor: is at home in `US` by x/tools/t.toml:7:10; one of the two is wrong",
        );
        check(
            &with(&format!("aliases = [\"t\", \"u\"]\n{SOUND}")),
            "x/tools/u.toml:2:6: aliases: `t` is another tool's id; whoever types it means that one",
        );
    }

    #[test]
    fn of_the_embedded_catalog_there_is_nothing_to_say() {
        let remarks = lint(&Catalog::embedded_files(), TODAY);
        let remarks: Vec<_> = remarks.iter().map(ToString::to_string).collect();
        assert_eq!(remarks, [""; 0]);
    }
}

//! One catalog file: each value as written → what it means, or what is wrong with it.
//!
//! In: a file. Out: [`Entry`]s; errors are added to the list that `check` keeps.

use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::value::Datetime;

use super::error::{CatalogError, Place, Problem};
use super::facts::{Advisory, CONFIDENCES, Helper, KINDS, Recognisers, ToolFacts};
use super::host::HostPattern;
use super::path::{ANY_FOLDER, PathGlob};
use super::schema::{
    AdvisoryEntry, EndpointEntry, HelperEntry, RecogniseEntry, SCHEMA_VERSION, ServiceEntry,
    ServiceFile, ToolFile,
};
use super::version::{Version, VersionRange};
use super::{CLASSES, CatalogFile, ManifestEndpoint, PURPOSES, Service, Tool};

/// ISO 3166 alpha-2 codes, and `XX` for unknown or several.
pub(super) const JURISDICTIONS: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS \
    BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE \
    EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM \
    HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC \
    LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA \
    NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW \
    SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO \
    TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW XX";

/// An entry and its place.
pub(super) struct Entry<T> {
    pub(super) value: T,
    /// Where its id stands.
    pub(super) place: Place,
    /// The folder of its file: a layer.
    pub(super) folder: String,
    /// What recognises it.
    pub(super) marks: Vec<Mark>,
}

/// Something that recognises a tool, and where it stands.
pub(super) struct Mark {
    pub(super) key: &'static str,
    /// As the file writes it.
    pub(super) text: Arc<str>,
    pub(super) place: Place,
}

/// Where a statement comes from.
struct Provenance {
    source: Arc<str>,
    date: Arc<str>,
    confidence: Arc<str>,
}

/// Checks one file. What is wrong is noted, and something is made of it all the same, so that
/// the rest is checked too.
pub(super) struct Checker<'a> {
    file: &'a CatalogFile,
    folder: &'a str,
    name: Arc<str>,
    errors: &'a mut Vec<CatalogError>,
}

impl<'a> Checker<'a> {
    /// `folder` is the folder of `file`; what is wrong is added to `errors`.
    pub(super) fn new(
        file: &'a CatalogFile,
        folder: &'a str,
        errors: &'a mut Vec<CatalogError>,
    ) -> Self {
        Checker {
            file,
            folder,
            name: file.name.as_str().into(),
            errors,
        }
    }

    /// The file as written; `None` if it is not of the format.
    pub(super) fn parse<T: DeserializeOwned>(&mut self) -> Option<T> {
        let error = match toml::from_str(&self.file.text) {
            Ok(written) => return Some(written),
            Err(error) => error,
        };
        let (message, span) = (error.message(), error.span().unwrap_or(0..0));
        let key = self.key_of(message, span.start);
        self.fail(&key, span, Problem::Syntax(message.to_owned()));
        None
    }

    /// The key that the TOML parser means, which it does not tell: the one in its message or in
    /// the line, and the table above it.
    fn key_of(&self, message: &str, offset: usize) -> String {
        let text = &self.file.text;
        let end = text
            .get(offset..)
            .and_then(|rest| rest.find('\n'))
            .map_or(text.len(), |end| offset + end);
        let upto = text.get(..end).unwrap_or_default();
        let in_line = || Some(upto.lines().last()?.split_once('=')?.0.trim());
        let named = ["unknown field", "missing field"]
            .iter()
            .any(|start| message.starts_with(start));
        let key = if named {
            message.split('`').nth(1)
        } else {
            in_line()
        };
        let table = upto.lines().rev().find(|line| line.starts_with('['));
        let table = table.map(|table| table.trim_matches(['[', ']', ' ']));
        [table, key]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(".")
    }

    pub(super) fn tool(&mut self, written: ToolFile) -> Entry<ToolFacts> {
        self.schema_version(&written.schema_version);
        let place = self.place(written.id.span());
        let tool = Tool {
            id: self.id("id", &written.id),
            name: self.filled("name", &written.name, "what people call it"),
            vendor: self.filled("vendor", &written.vendor, "who makes it"),
            jurisdiction: self.jurisdiction("jurisdiction", &written.jurisdiction),
        };
        let from = self.provenance("", &written.source, &written.date, &written.confidence);
        let span = written.recognise.span();
        let mut marks = Vec::new();
        let recognisers = self.recognisers(written.recognise.into_inner(), span, &mut marks);
        let helpers = written
            .helper
            .iter()
            .filter_map(|helper| self.helper(helper, &mut marks))
            .collect();
        let value = ToolFacts {
            tool: Arc::new(tool),
            kind: self.one_of("kind", &written.kind, "kind", &KINDS),
            aliases: written.aliases,
            recognisers,
            helpers,
            endpoints: self.endpoints(written.endpoint),
            advisories: written
                .advisory
                .iter()
                .map(|advisory| self.advisory(advisory))
                .collect(),
            source: from.source,
            date: from.date,
            confidence: from.confidence,
            notes: written.notes,
        };
        Entry {
            value,
            place,
            folder: self.folder.to_owned(),
            marks,
        }
    }

    fn recognisers(
        &mut self,
        written: RecogniseEntry,
        span: Range<usize>,
        marks: &mut Vec<Mark>,
    ) -> Recognisers {
        if [
            &written.exe,
            &written.script,
            &written.launcher,
            &written.names,
            &written.ide,
        ]
        .iter()
        .all(|list| list.is_empty())
        {
            self.fail("recognise", span, Problem::NoRecogniser);
        }
        Recognisers {
            exe: self.globs("recognise.exe", &written.exe, marks),
            script: self.globs("recognise.script", &written.script, marks),
            launcher: self.globs("recognise.launcher", &written.launcher, marks),
            names: written
                .names
                .iter()
                .filter_map(|name| self.file_name(name, marks))
                .collect(),
            // Several tools may be in one editor.
            ide: self.globs("recognise.ide", &written.ide, &mut Vec::new()),
            runtimes: written.runtimes,
            applets: written.applets,
            collisions: written.collisions,
            comm: written.comm,
            npm: written.npm,
            pypi: written.pypi,
            environment: written.environment,
        }
    }

    fn helper(&mut self, written: &HelperEntry, marks: &mut Vec<Mark>) -> Option<Helper> {
        let role = self.id("helper.role", &written.role);
        let what = self.filled("helper.what", &written.what, "what it is");
        let glob = self.glob("helper.glob", &written.glob, marks)?;
        Some(Helper { glob, role, what })
    }

    fn endpoints(&mut self, written: Vec<EndpointEntry>) -> Vec<ManifestEndpoint> {
        let mut endpoints: Vec<ManifestEndpoint> = Vec::new();
        for entry in written {
            let span = entry.host.span();
            let Some(endpoint) = self.endpoint(entry) else {
                continue;
            };
            let twice = |other: &ManifestEndpoint| {
                other.host == endpoint.host && other.versions.overlaps(&endpoint.versions)
            };
            if endpoints.iter().any(twice) {
                self.fail(
                    "endpoint.host",
                    span,
                    Problem::DuplicateEndpoint(endpoint.host.to_string()),
                );
            }
            endpoints.push(endpoint);
        }
        endpoints
    }

    fn endpoint(&mut self, written: EndpointEntry) -> Option<ManifestEndpoint> {
        let purpose = self.one_of("endpoint.purpose", &written.purpose, "purpose", &PURPOSES);
        let from = self.provenance(
            "endpoint.",
            &written.source,
            &written.date,
            &written.confidence,
        );
        let versions = self.versions("endpoint.", written.since.as_ref(), written.until.as_ref());
        let switch = written
            .switch
            .as_ref()
            .map(|switch| self.switch(switch, written.optional));
        Some(ManifestEndpoint {
            host: self.host("endpoint.host", &written.host)?,
            purpose,
            versions,
            optional: written.optional,
            switch,
            shared: written.shared,
            operator: written.operator,
            source: from.source,
            date: from.date,
            confidence: from.confidence,
            note: written.note,
        })
    }

    fn advisory(&mut self, written: &AdvisoryEntry) -> Advisory {
        let from = self.provenance(
            "advisory.",
            &written.source,
            &written.date,
            &written.confidence,
        );
        Advisory {
            id: self.id("advisory.id", &written.id),
            title: self.filled("advisory.title", &written.title, "one line"),
            summary: self.filled("advisory.summary", &written.summary, "what was observed"),
            versions: self.versions("advisory.", written.since.as_ref(), written.until.as_ref()),
            source: from.source,
            date: from.date,
            confidence: from.confidence,
        }
    }

    pub(super) fn services(&mut self, written: ServiceFile) -> Vec<Entry<Service>> {
        self.schema_version(&written.schema_version);
        let class = self.one_of("class", &written.class, "class", &CLASSES);
        let entry = |entry: ServiceEntry| Entry {
            place: self.place(entry.id.span()),
            value: self.service(entry, &class),
            folder: self.folder.to_owned(),
            marks: Vec::new(),
        };
        written.service.into_iter().map(entry).collect()
    }

    fn service(&mut self, written: ServiceEntry, class: &Arc<str>) -> Service {
        let from = self.provenance(
            "service.",
            &written.source,
            &written.date,
            &written.confidence,
        );
        let hosts = self.hosts("service.hosts", &written.hosts);
        let shared = self.hosts("service.shared", &written.shared);
        for host in &written.shared {
            if !written
                .hosts
                .iter()
                .any(|known| known.get_ref() == host.get_ref())
            {
                self.fail(
                    "service.shared",
                    host.span(),
                    Problem::SharedUnlisted(host.get_ref().clone()),
                );
            }
        }
        Service {
            id: self.id("service.id", &written.id),
            name: self.filled("service.name", &written.name, "what people call it"),
            class: Arc::clone(class),
            vendor: self.filled("service.vendor", &written.vendor, "who runs it"),
            jurisdiction: self.jurisdiction("service.jurisdiction", &written.jurisdiction),
            hosts,
            shared,
            source: from.source,
            date: from.date,
            confidence: from.confidence,
            note: written.note,
        }
    }

    fn schema_version(&mut self, written: &Spanned<u32>) {
        let found = *written.get_ref();
        if found != SCHEMA_VERSION {
            let problem = Problem::SchemaVersion {
                found,
                known: SCHEMA_VERSION,
            };
            self.fail("schema_version", written.span(), problem);
        }
    }

    fn id(&mut self, key: &str, written: &Spanned<String>) -> Arc<str> {
        let text = written.get_ref();
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if text.is_empty() || !text.bytes().all(allowed) {
            self.fail(key, written.span(), Problem::BadId(text.clone()));
        }
        text.as_str().into()
    }

    fn filled(&mut self, key: &str, written: &Spanned<String>, hint: &'static str) -> Arc<str> {
        if written.get_ref().trim().is_empty() {
            self.fail(key, written.span(), Problem::Empty(hint));
        }
        written.get_ref().as_str().into()
    }

    fn one_of(
        &mut self,
        key: &str,
        written: &Spanned<String>,
        what: &'static str,
        known: &[&str],
    ) -> Arc<str> {
        let found = written.get_ref();
        if !known.contains(&found.as_str()) {
            let known = known.join(", ");
            let problem = Problem::NotOneOf {
                found: found.clone(),
                what,
                known,
            };
            self.fail(key, written.span(), problem);
        }
        found.as_str().into()
    }

    fn jurisdiction(&mut self, key: &str, written: &Spanned<String>) -> Arc<str> {
        let code = written.get_ref();
        if !super::is_jurisdiction(code) {
            self.fail(key, written.span(), Problem::BadJurisdiction(code.clone()));
        }
        code.as_str().into()
    }

    fn provenance(
        &mut self,
        prefix: &str,
        source: &Spanned<String>,
        date: &Spanned<Datetime>,
        confidence: &Spanned<String>,
    ) -> Provenance {
        let day = date.get_ref();
        if day.date.is_none() || day.time.is_some() {
            self.fail(
                &format!("{prefix}date"),
                date.span(),
                Problem::BadDate(day.to_string()),
            );
        }
        let hint = "where it comes from, so that others can check it";
        Provenance {
            source: self.filled(&format!("{prefix}source"), source, hint),
            date: day.to_string().into(),
            confidence: self.one_of(
                &format!("{prefix}confidence"),
                confidence,
                "confidence",
                &CONFIDENCES,
            ),
        }
    }

    fn versions(
        &mut self,
        prefix: &str,
        since: Option<&Spanned<String>>,
        until: Option<&Spanned<String>>,
    ) -> VersionRange {
        let mut version = |key: &str, written: Option<&Spanned<String>>| {
            let written = written?;
            let version = Version::parse(written.get_ref());
            if version.is_none() {
                let problem = Problem::BadVersion(written.get_ref().clone());
                self.fail(&format!("{prefix}{key}"), written.span(), problem);
            }
            version
        };
        let versions = VersionRange {
            since: version("since", since),
            until: version("until", until),
        };
        if let Some(until) = until.filter(|_| versions.is_empty()) {
            let problem = Problem::EmptyRange(versions.to_string());
            self.fail(&format!("{prefix}until"), until.span(), problem);
        }
        versions
    }

    fn switch(&mut self, written: &Spanned<String>, optional: bool) -> Arc<str> {
        let text = written.get_ref();
        let name = text.split('=').next().unwrap_or_default();
        let allowed = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
        if name.is_empty() || !name.bytes().all(allowed) {
            self.fail(
                "endpoint.switch",
                written.span(),
                Problem::BadSwitch(text.clone()),
            );
        } else if !optional {
            self.fail("endpoint.switch", written.span(), Problem::SwitchOfRequired);
        }
        text.as_str().into()
    }

    fn hosts(&mut self, key: &str, written: &[Spanned<String>]) -> Vec<HostPattern> {
        written
            .iter()
            .filter_map(|host| self.host(key, host))
            .collect()
    }

    fn host(&mut self, key: &str, written: &Spanned<String>) -> Option<HostPattern> {
        let host = written.get_ref();
        let refused = |reason| Problem::BadHost {
            host: host.clone(),
            reason,
        };
        HostPattern::parse(host)
            .map_err(|reason| self.fail(key, written.span(), refused(reason)))
            .ok()
    }

    fn globs(
        &mut self,
        key: &'static str,
        written: &[Spanned<String>],
        marks: &mut Vec<Mark>,
    ) -> Vec<PathGlob> {
        written
            .iter()
            .filter_map(|glob| self.glob(key, glob, marks))
            .collect()
    }

    fn glob(
        &mut self,
        key: &'static str,
        written: &Spanned<String>,
        marks: &mut Vec<Mark>,
    ) -> Option<PathGlob> {
        self.usable(key, written, PathGlob::parse(written.get_ref()), marks)
    }

    fn usable(
        &mut self,
        key: &'static str,
        written: &Spanned<String>,
        glob: Result<PathGlob, String>,
        marks: &mut Vec<Mark>,
    ) -> Option<PathGlob> {
        let refused = |reason| Problem::BadGlob {
            glob: written.get_ref().clone(),
            reason,
        };
        let glob = glob
            .map_err(|reason| self.fail(key, written.span(), refused(reason)))
            .ok()?;
        marks.push(Mark {
            key,
            text: written.get_ref().as_str().into(),
            place: self.place(written.span()),
        });
        Some(glob)
    }

    /// A file name, as a glob for it in any folder.
    fn file_name(&mut self, written: &Spanned<String>, marks: &mut Vec<Mark>) -> Option<PathGlob> {
        let name = written.get_ref();
        let glob = match name.contains('/') || name.is_empty() {
            true => Err(
                "is no file name; a path belongs under `exe`, `script` or `launcher`".to_owned(),
            ),
            false => PathGlob::parse(&format!("{ANY_FOLDER}{name}")),
        };
        self.usable("recognise.names", written, glob, marks)
    }

    pub(super) fn fail(&mut self, key: &str, span: Range<usize>, problem: Problem) {
        let place = self.place(span);
        self.errors.push(CatalogError {
            place,
            key: key.to_owned(),
            problem,
        });
    }

    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let before = self.file.text.get(..span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            file: Arc::clone(&self.name),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

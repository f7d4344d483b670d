//! What tools themselves were seen to contact, against what their manifests declare.
//!
//! In: tools that start, and where their flows go. Out: a [`ContactsReport`] of a tool and version
//! whenever its numbers are others. Children do what they were asked to, and a mere name is no
//! tool, so neither counts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::attribute::{Attribution, Role};
use super::catalog::Catalog;
use super::catalog::host::HostPattern;
use super::report::{ContactsReport, Limit};

/// Versions of one tool that are told apart. They come from paths and packages, which any user can
/// make up.
pub const VERSIONS_PER_TOOL_MAX: usize = 16;

/// Undeclared hosts that are remembered for each tool and version: whoever has a zone has any
/// number. Manifests have some tens of endpoints.
pub const UNDECLARED_MAX: usize = 256;

/// Tools by id, each by version, with what they contacted.
#[derive(Debug, Default)]
pub struct Contacts {
    tools: BTreeMap<Arc<str>, BTreeMap<Option<Arc<str>>, Contacted>>,
}

/// What one version of a tool contacted.
#[derive(Debug)]
struct Contacted {
    member: Attribution,
    /// Endpoints of its manifest.
    seen: HashSet<HostPattern>,
    /// Hosts by name, at most [`UNDECLARED_MAX`].
    undeclared: BTreeSet<Arc<str>>,
}

/// What follows from a contact.
#[derive(Debug, Default, PartialEq)]
pub struct Noted {
    /// The numbers, if they are others than before.
    pub report: Option<ContactsReport>,
    /// A bound was reached.
    pub limited: Option<Limit>,
}

impl Contacts {
    /// A program of a tool starts.
    pub fn started(&mut self, catalog: &Catalog, member: &Attribution) -> Noted {
        if !is_itself(member) || self.find(member).is_some() {
            return Noted::default();
        }
        let versions = self.tools.entry(Arc::clone(&member.tool.id)).or_default();
        if versions.len() >= VERSIONS_PER_TOOL_MAX {
            return Noted {
                report: None,
                limited: Some(Limit::Contacts),
            };
        }
        let contacted = Contacted::nothing(member);
        let report = Some(contacted.report(catalog));
        versions.insert(member.version.clone(), contacted);
        Noted {
            report,
            limited: None,
        }
    }

    /// A program of a tool goes to an address, under the best name that is known of it.
    pub fn contacted(
        &mut self,
        catalog: &Catalog,
        member: &Attribution,
        name: Option<&Arc<str>>,
        ip: IpAddr,
    ) -> Noted {
        let mut noted = self.started(catalog, member);
        let Some(contacted) = self.find(member) else {
            return noted;
        };
        let (tool, version) = (&member.tool, member.version.as_deref());
        let by_name = name.and_then(|name| catalog.endpoint(tool, name, version));
        let listed = by_name.or_else(|| catalog.endpoint_ip(tool, ip, version));
        let is_new = match (listed, name) {
            (Some(endpoint), _) if contacted.seen.contains(&endpoint.host) => false,
            (Some(endpoint), _) => contacted.seen.insert(endpoint.host.clone()),
            (None, None) => false,
            (None, Some(name)) if contacted.undeclared.contains(name) => false,
            (None, Some(_)) if contacted.undeclared.len() >= UNDECLARED_MAX => {
                noted.limited = Some(Limit::Contacts);
                false
            }
            (None, Some(name)) => contacted.undeclared.insert(Arc::clone(name)),
        };
        if is_new {
            noted.report = Some(contacted.report(catalog));
        }
        noted
    }

    /// All numbers against another catalog.
    pub fn review(&mut self, catalog: &Catalog) -> Vec<ContactsReport> {
        let contacted = self.tools.values_mut().flat_map(BTreeMap::values_mut);
        contacted.map(|it| it.review(catalog)).collect()
    }

    fn find(&mut self, member: &Attribution) -> Option<&mut Contacted> {
        if !is_itself(member) {
            return None;
        }
        let versions = self.tools.get_mut(&member.tool.id)?;
        versions.get_mut(&member.version)
    }
}

impl Contacted {
    fn nothing(member: &Attribution) -> Contacted {
        Contacted {
            member: member.clone(),
            seen: HashSet::new(),
            undeclared: BTreeSet::new(),
        }
    }

    fn report(&self, catalog: &Catalog) -> ContactsReport {
        let (tool, version) = (&self.member.tool, self.member.version.as_deref());
        let declared: HashSet<_> = catalog
            .endpoints(&tool.id, version)
            .map(|it| &it.host)
            .collect();
        let seen = declared.iter().filter(|host| self.seen.contains(**host));
        let seen = seen.count();
        ContactsReport {
            tool: Arc::clone(tool),
            version: self.member.version.clone(),
            seen,
            unseen: declared.len() - seen,
            undeclared: self.undeclared.len(),
        }
    }

    /// What was undeclared may be declared by now.
    fn review(&mut self, catalog: &Catalog) -> ContactsReport {
        let (member, seen) = (&self.member, &mut self.seen);
        self.undeclared.retain(|name| {
            let endpoint = catalog.endpoint(&member.tool, name, member.version.as_deref());
            if let Some(endpoint) = endpoint {
                seen.insert(endpoint.host.clone());
            }
            endpoint.is_none()
        });
        self.report(catalog)
    }
}

/// The tool itself or a program that ships with it, and not on the word of its name.
fn is_itself(member: &Attribution) -> bool {
    member.trusted && matches!(member.role, Role::Main | Role::Helper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::CatalogFile;
    use crate::core::fixture::{catalog, member};

    /// Claude Code declares four endpoints: three names and an address.
    const ID: &str = "claude-code";
    const API: &str = "api.anthropic.com";

    fn of(role: Role, trusted: bool, version: Option<&str>) -> Attribution {
        let member = member(ID, role, trusted).tool.unwrap();
        Attribution {
            version: version.map(Arc::from),
            ..Attribution::clone(&member)
        }
    }

    /// The numbers, if they are told: seen, unseen, undeclared.
    fn numbers(noted: &Noted) -> Option<(usize, usize, usize)> {
        let report = noted.report.as_ref()?;
        Some((report.seen, report.unseen, report.undeclared))
    }

    /// Goes to a name at an address of nobody's.
    fn contact(contacts: &mut Contacts, member: &Attribution, name: &str) -> Noted {
        let ip = "203.0.113.1".parse().unwrap();
        contacts.contacted(&catalog(), member, Some(&name.into()), ip)
    }

    #[test]
    fn numbers_are_told_when_they_change() {
        let mut contacts = Contacts::default();
        let main = of(Role::Main, true, None);
        assert_eq!(
            numbers(&contacts.started(&catalog(), &main)),
            Some((0, 4, 0))
        );
        assert_eq!(numbers(&contacts.started(&catalog(), &main)), None);
        for (name, expect) in [
            (API, Some((1, 3, 0))),
            (API, None),
            ("paste.example", Some((1, 3, 1))),
            ("paste.example", None),
            ("statsig.anthropic.com", Some((2, 2, 1))),
        ] {
            assert_eq!(
                numbers(&contact(&mut contacts, &main, name)),
                expect,
                "{name}"
            );
        }
        let listed = "192.0.2.200".parse().unwrap();
        let noted = contacts.contacted(&catalog(), &main, None, listed);
        assert_eq!(numbers(&noted), Some((3, 1, 1)));
        // An address that nobody knows a name of is no host.
        let nobodys = "203.0.113.9".parse().unwrap();
        let noted = contacts.contacted(&catalog(), &main, None, nobodys);
        assert_eq!(noted, Noted::default());
    }

    #[test]
    fn versions_are_told_apart_and_children_do_not_count() {
        let mut contacts = Contacts::default();
        let versioned = of(Role::Helper, true, Some("1.2"));
        contact(&mut contacts, &of(Role::Main, true, None), API);
        assert_eq!(
            numbers(&contact(&mut contacts, &versioned, API)),
            Some((1, 3, 0))
        );
        for member in [of(Role::Git, true, None), of(Role::Main, false, None)] {
            assert_eq!(
                contact(&mut contacts, &member, "x.example"),
                Noted::default()
            );
        }
    }

    #[test]
    fn bounds_hold_and_are_told() {
        let mut contacts = Contacts::default();
        let main = of(Role::Main, true, None);
        for number in 0..UNDECLARED_MAX {
            let noted = contact(&mut contacts, &main, &format!("{number}.example"));
            assert_eq!(noted.limited, None);
        }
        let noted = contact(&mut contacts, &main, "more.example");
        assert_eq!((noted.report, noted.limited), (None, Some(Limit::Contacts)));
        for number in 1..VERSIONS_PER_TOOL_MAX {
            let noted = contact(
                &mut contacts,
                &of(Role::Main, true, Some(&number.to_string())),
                API,
            );
            assert_eq!(noted.limited, None);
        }
        let noted = contact(&mut contacts, &of(Role::Main, true, Some("99")), API);
        assert_eq!((noted.report, noted.limited), (None, Some(Limit::Contacts)));
    }

    #[test]
    fn another_catalog_may_declare_what_was_not() {
        let mut contacts = Contacts::default();
        contact(&mut contacts, &of(Role::Main, true, None), "paste.example");
        let from = "source = \"s\"\ndate = 2026-11-20\nconfidence = \"guess\"\n";
        let text = format!(
            "schema_version = 1\nid = \"{ID}\"\nname = \"T\"\nvendor = \"V\"\njurisdiction = \"US\"\n\
             kind = \"sdk\"\n{from}[recognise]\nnames = [\"t\"]\n\
             [[endpoint]]\nhost = \"*.example.org\"\npurpose = \"other\"\n{from}\
             [[endpoint]]\nhost = \"paste.example\"\npurpose = \"other\"\n{from}"
        );
        let file = CatalogFile {
            name: "tools/t.toml".into(),
            text,
        };
        let reports = contacts.review(&Catalog::parse(&[file]).unwrap());
        let numbers: Vec<_> = reports
            .iter()
            .map(|it| (it.seen, it.unseen, it.undeclared))
            .collect();
        assert_eq!(numbers, [(1, 1, 0)]);
    }
}

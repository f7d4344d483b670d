//! The catalog: AI tools, how to recognise them, and what each is expected to contact.
//!
//! In: the texts of `catalog/tools/*.toml` and `catalog/services/*.toml`. Out: [`Catalog`], which
//! answers which tool a program is, what an endpoint is for, and whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

mod check;
mod checker;
pub mod error;
pub mod facts;
pub mod host;
pub mod keys;
pub mod lint;
pub mod path;
pub mod program;
pub mod recogniser;
mod schema;
pub mod version;

use check::Drafts;
use error::CatalogError;
use facts::{Advisory, ToolFacts};
use host::{HostIndex, HostPattern, HostTable};
use program::Image;
use recogniser::{Recogniser, Recognition};
use version::{Version, VersionRange};

/// What an endpoint can be for, in the order in which people want to see it.
pub const PURPOSES: [&str; 16] = [
    "api",
    "auth",
    "mcp",
    "web-search",
    "model-download",
    "update",
    "extensions-marketplace",
    "assets",
    "docs",
    "feature-flags",
    "telemetry",
    "error-reporting",
    "device-fingerprint",
    "encrypted-dns",
    "geolocation-probe",
    "other",
];

/// What a list of services can hold. Where two name one host, the earlier class counts.
pub const CLASSES: [&str; 4] = ["encrypted-dns", "llm-api", "telemetry", "ip-geolocation"];

/// The class of services whose hosts are AI endpoints.
const AI_CLASS: &str = "llm-api";

/// Who reaches an endpoint of these purposes uses the tool's vendor's AI.
const AI_PURPOSES: [&str; 3] = ["api", "auth", "mcp"];

/// At most this many ids are suggested for an unknown one.
const SUGGESTIONS_MAX: usize = 3;

/// How alike (Jaro-Winkler, 0 to 1) an id must be to be suggested. At 0.8, `claude` and
/// `cluade-code` find `claude-code`, and unrelated ids stay out.
const ALIKE_MIN: f64 = 0.8;

/// One AI tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Identifier, `claude-code`: `[a-z0-9-]+`.
    pub id: Arc<str>,
    /// Name for people.
    pub name: Arc<str>,
    /// Who makes it.
    pub vendor: Arc<str>,
    /// ISO 3166 alpha-2 code of the vendor's home; `XX` if unknown or several.
    pub jurisdiction: Arc<str>,
}

/// An endpoint that a tool is expected to contact.
#[derive(Clone, Debug)]
pub struct ManifestEndpoint {
    /// Which hosts.
    pub host: HostPattern,
    /// What for: one of [`PURPOSES`].
    pub purpose: Arc<str>,
    /// The versions that may contact it.
    pub versions: VersionRange,
    /// It can be switched off, or must be switched on.
    pub optional: bool,
    /// The environment variable that switches it off: `NAME` or `NAME=value`.
    pub switch: Option<Arc<str>>,
    /// Programs that are no AI tools use the host too.
    pub shared: bool,
    /// Who runs the host, if not the tool's vendor. Said where the purpose is that of an AI API.
    pub operator: Option<String>,
    /// Where this comes from.
    pub source: Arc<str>,
    /// When it was collected, or the date of the source.
    pub date: Arc<str>,
    /// One of [`facts::CONFIDENCES`].
    pub confidence: Arc<str>,
    /// An observation for people.
    pub note: Option<String>,
}

/// A service that programs of any kind use.
#[derive(Clone, Debug)]
pub struct Service {
    /// `[a-z0-9-]+`.
    pub id: Arc<str>,
    /// Name for people.
    pub name: Arc<str>,
    /// One of [`CLASSES`].
    pub class: Arc<str>,
    /// Who runs it.
    pub vendor: Arc<str>,
    /// ISO 3166 alpha-2 code of the vendor's home; `XX` if unknown or several.
    pub jurisdiction: Arc<str>,
    /// Its hosts.
    pub hosts: Vec<HostPattern>,
    /// Those of them that serve other things too.
    pub shared: Vec<HostPattern>,
    /// Where this comes from.
    pub source: Arc<str>,
    /// When it was collected.
    pub date: Arc<str>,
    /// One of [`facts::CONFIDENCES`].
    pub confidence: Arc<str>,
    /// An observation for people.
    pub note: Option<String>,
}

/// Whose AI endpoint a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Id of the service or tool that lists it.
    pub owner: Arc<str>,
    /// Name of that.
    pub name: Arc<str>,
    /// Who runs it.
    pub vendor: Arc<str>,
    /// ISO 3166 alpha-2 code of the vendor's home.
    pub jurisdiction: Arc<str>,
    /// What the endpoint is for: one of [`PURPOSES`].
    pub purpose: Arc<str>,
}

/// Who runs a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its name.
    pub vendor: Arc<str>,
    /// ISO 3166 alpha-2 code of its home; `XX` if unknown or several.
    pub jurisdiction: Arc<str>,
}

/// The text of a catalog file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogFile {
    /// Its path; the last folder is `tools` or `services`, and says which it is.
    pub name: String,
    /// TOML.
    pub text: String,
}

/// Everything that is wrong with the files of a catalog; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogErrors(pub Vec<CatalogError>);

impl fmt::Display for CatalogErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(CatalogError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for CatalogErrors {}

/// All tools and services, ready to be asked.
#[derive(Clone, Debug)]
pub struct Catalog {
    tools: BTreeMap<Arc<str>, KnownTool>,
    recogniser: Recogniser,
    services: Vec<Service>,
    /// Hosts of services, each with its place in `services`.
    service_hosts: HostTable<usize>,
    providers: HostTable<Provider>,
    operators: HostTable<Operator>,
    digest: String,
}

#[derive(Clone, Debug)]
struct KnownTool {
    facts: ToolFacts,
    /// Finds among `facts.endpoints`.
    manifest: HostIndex,
}

// The list `EMBEDDED` of (name, text), which `build.rs` makes of the folder `catalog/`.
include!(concat!(env!("OUT_DIR"), "/catalog_files.rs"));

impl Catalog {
    /// The catalog that is compiled in.
    ///
    /// # Errors
    ///
    /// What is wrong with it; a test proves that nothing is.
    pub fn embedded() -> Result<Catalog, CatalogErrors> {
        Catalog::parse(&Catalog::embedded_files())
    }

    /// The files that are compiled in, to lay others over them.
    #[must_use]
    pub fn embedded_files() -> Vec<CatalogFile> {
        let file = |&(name, text): &(&str, &str)| CatalogFile {
            name: name.into(),
            text: text.into(),
        };
        EMBEDDED.iter().map(file).collect()
    }

    /// The catalog that `files` write. A tool or service of a later file replaces the one with
    /// the same id of an earlier file in another folder.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the files.
    pub fn parse(files: &[CatalogFile]) -> Result<Catalog, CatalogErrors> {
        let Drafts {
            tools,
            mut services,
        } = check::read(files).map_err(CatalogErrors)?;
        let recogniser = Recogniser::new(&tools)
            .map_err(|error| CatalogErrors(vec![CatalogError::of_all_globs(&error)]))?;
        services.sort_by_key(|service| CLASSES.iter().position(|class| **class == *service.class));
        Ok(Catalog {
            recogniser,
            service_hosts: service_hosts(&services),
            providers: providers(&services, &tools),
            operators: operators(&services, &tools),
            services,
            tools: tools
                .into_iter()
                .map(|facts| (Arc::clone(&facts.tool.id), KnownTool::new(facts)))
                .collect(),
            digest: digest(files),
        })
    }

    /// All tools, by id.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.facts().map(|facts| &facts.tool)
    }

    /// The tool of this id.
    #[must_use]
    pub fn tool(&self, id: &str) -> Option<&Arc<Tool>> {
        self.facts_of(id).map(|facts| &facts.tool)
    }

    /// What is said of each tool, by id.
    pub fn facts(&self) -> impl Iterator<Item = &ToolFacts> {
        self.tools.values().map(|known| &known.facts)
    }

    /// What is said of the tool of this id.
    #[must_use]
    pub fn facts_of(&self, id: &str) -> Option<&ToolFacts> {
        self.tools.get(id).map(|known| &known.facts)
    }

    /// What is known of this version of the tool with this id. A version that cannot be told is
    /// none of those that it is known of.
    pub fn advisories(&self, id: &str, version: Option<&str>) -> impl Iterator<Item = &Advisory> {
        let version = version.and_then(Version::parse);
        let all = self.facts_of(id).map_or(&[][..], |facts| &facts.advisories);
        all.iter().filter(move |advisory| {
            let is_in = |version| advisory.versions.contains(Some(version));
            version.as_ref().is_some_and(is_in)
        })
    }

    /// Ids that one may have meant by `id`, the most alike first.
    #[must_use]
    pub fn near(&self, id: &str) -> Vec<Arc<str>> {
        let alike = |facts: &ToolFacts| {
            let known = facts
                .aliases
                .iter()
                .map(String::as_str)
                .chain([&*facts.tool.id]);
            known
                .map(|known| strsim::jaro_winkler(id, known))
                .fold(0.0, f64::max)
        };
        let mut near: Vec<_> = self
            .facts()
            .map(|facts| (alike(facts), Arc::clone(&facts.tool.id)))
            .filter(|(alike, _)| *alike >= ALIKE_MIN)
            .collect();
        near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        near.into_iter()
            .map(|(_, id)| id)
            .take(SUGGESTIONS_MAX)
            .collect()
    }

    /// The tool that a program is, by what it shows itself.
    #[must_use]
    pub fn recognise(&self, image: Image<'_>) -> Option<Recognition> {
        self.recogniser.recognise(image)
    }

    /// The tool that a program is in a flow to this host, given by its canonical name, because it
    /// holds the tool among other things and the host is the tool's alone; and the glob that the
    /// program matches.
    #[must_use]
    pub fn held(&self, exe: &str, host: &str) -> Option<(&Arc<Tool>, &Arc<str>)> {
        let is_its_own = |tool: &Tool| {
            let endpoint = self.endpoint(tool, host, None);
            endpoint.is_some_and(|endpoint| !endpoint.shared)
        };
        let mut held = self.recogniser.held_by(exe);
        held.find(|(tool, _)| is_its_own(tool))
    }

    /// What the tool of this id and version is expected to contact; none if there is no such tool.
    pub fn endpoints(
        &self,
        id: &str,
        version: Option<&str>,
    ) -> impl Iterator<Item = &ManifestEndpoint> {
        let version = version.and_then(Version::parse);
        let all = self.facts_of(id).map_or(&[][..], |facts| &facts.endpoints);
        all.iter()
            .filter(move |endpoint| endpoint.versions.contains(version.as_ref()))
    }

    /// Whether an executable is of a tool and its path does not tell the version, so that its
    /// package might.
    #[must_use]
    pub fn lacks_version(&self, exe: &str) -> bool {
        self.recogniser.lacks_version(exe)
    }

    /// The tools that a program holds among other things, as an editor does.
    pub fn held_by(&self, exe: &str) -> impl Iterator<Item = &Arc<Tool>> {
        self.recogniser.held_by(exe).map(|(tool, _)| tool)
    }

    /// What `tool` of this version is expected to do with a host, given by its canonical name.
    /// An unknown version may be any.
    #[must_use]
    pub fn endpoint(
        &self,
        tool: &Tool,
        host: &str,
        version: Option<&str>,
    ) -> Option<&ManifestEndpoint> {
        let known = self.tools.get(&tool.id)?;
        known.endpoint(version, |manifest, accept| manifest.find(host, accept))
    }

    /// The same for an address that the manifest lists itself, or by its network.
    #[must_use]
    pub fn endpoint_ip(
        &self,
        tool: &Tool,
        ip: IpAddr,
        version: Option<&str>,
    ) -> Option<&ManifestEndpoint> {
        let known = self.tools.get(&tool.id)?;
        known.endpoint(version, |manifest, accept| manifest.find_ip(ip, accept))
    }

    /// Whose AI endpoint a host is, given by its canonical name. Never says so of a host that
    /// other programs use too.
    #[must_use]
    pub fn provider(&self, host: &str) -> Option<&Provider> {
        self.providers.find(host)
    }

    /// Who runs a host, given by its canonical name. Never says so of a host that many share:
    /// of those nobody knows whose the data is.
    #[must_use]
    pub fn operator(&self, host: &str) -> Option<&Operator> {
        self.operators.find(host)
    }

    /// The same for an address that the catalog lists itself, or by its network.
    #[must_use]
    pub fn operator_ip(&self, ip: IpAddr) -> Option<&Operator> {
        self.operators.find_ip(ip)
    }

    /// The service that a host belongs to, given by its canonical name or as an address.
    #[must_use]
    pub fn service(&self, host: &str) -> Option<&Service> {
        let place = match host.parse() {
            Ok(ip) => self.service_hosts.find_ip(ip),
            Err(_) => self.service_hosts.find(host),
        };
        self.services.get(*place?)
    }

    /// All services, by class.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The variables that turn endpoints off, each once, as `NAME` or `NAME=value`.
    #[must_use]
    pub fn switches(&self) -> Vec<String> {
        let endpoints = self.facts().flat_map(|facts| &facts.endpoints);
        let switches = endpoints.filter_map(|endpoint| endpoint.switch.as_deref());
        let switches: BTreeSet<&str> = switches.collect();
        switches.into_iter().map(str::to_owned).collect()
    }

    /// SHA-256 over the names and texts of the files, in the order of the names; hex digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl KnownTool {
    fn new(facts: ToolFacts) -> Self {
        let manifest = HostIndex::new(facts.endpoints.iter().map(|endpoint| endpoint.host.clone()));
        KnownTool { facts, manifest }
    }

    /// The endpoint that `find` finds among those of a version.
    fn endpoint<'a>(
        &'a self,
        version: Option<&str>,
        find: impl FnOnce(&'a HostIndex, &dyn Fn(usize) -> bool) -> Option<usize>,
    ) -> Option<&'a ManifestEndpoint> {
        let version = version.and_then(Version::parse);
        let endpoints = &self.facts.endpoints;
        let place = find(&self.manifest, &|place: usize| {
            endpoints[place].versions.contains(version.as_ref())
        });
        endpoints.get(place?)
    }
}

fn service_hosts(services: &[Service]) -> HostTable<usize> {
    let hosts = |(place, service): (usize, &Service)| {
        service
            .hosts
            .iter()
            .cloned()
            .map(move |host| (host, place))
            .collect::<Vec<_>>()
    };
    HostTable::new(services.iter().enumerate().flat_map(hosts))
}

/// Providers are the services first, so that one counts where a tool lists the same host.
fn providers(services: &[Service], tools: &[ToolFacts]) -> HostTable<Provider> {
    let of_services = services
        .iter()
        .filter(|service| *service.class == *AI_CLASS)
        .flat_map(|service| service.hosts.iter().map(move |host| (service, host)))
        .filter(|(service, host)| !service.shared.contains(host))
        .map(|(service, host)| (host.clone(), Provider::of_service(service)));
    let of_tools = tools
        .iter()
        .flat_map(|facts| {
            facts
                .endpoints
                .iter()
                .map(move |endpoint| (facts, endpoint))
        })
        .filter(|(_, endpoint)| AI_PURPOSES.contains(&&*endpoint.purpose))
        .filter(|(_, endpoint)| !endpoint.shared && endpoint.operator.is_none())
        .map(|(facts, endpoint)| {
            (
                endpoint.host.clone(),
                Provider::of_tool(&facts.tool, endpoint),
            )
        });
    HostTable::new(of_services.chain(of_tools))
}

/// Operators are the services' first, as with providers.
fn operators(services: &[Service], tools: &[ToolFacts]) -> HostTable<Operator> {
    let of_services = services.iter().flat_map(|service| {
        let operator = Operator {
            vendor: Arc::clone(&service.vendor),
            jurisdiction: Arc::clone(&service.jurisdiction),
        };
        let own = service
            .hosts
            .iter()
            .filter(|host| !service.shared.contains(host));
        own.map(move |host| (host.clone(), operator.clone()))
    });
    let of_tools = tools.iter().flat_map(|facts| {
        let operator = Operator {
            vendor: Arc::clone(&facts.tool.vendor),
            jurisdiction: Arc::clone(&facts.tool.jurisdiction),
        };
        let endpoints = facts.endpoints.iter();
        let own = endpoints.filter(|endpoint| !endpoint.shared && endpoint.operator.is_none());
        own.map(move |endpoint| (endpoint.host.clone(), operator.clone()))
    });
    HostTable::new(of_services.chain(of_tools))
}

impl Provider {
    fn of_service(service: &Service) -> Provider {
        Provider {
            owner: Arc::clone(&service.id),
            name: Arc::clone(&service.name),
            vendor: Arc::clone(&service.vendor),
            jurisdiction: Arc::clone(&service.jurisdiction),
            purpose: "api".into(),
        }
    }

    fn of_tool(tool: &Tool, endpoint: &ManifestEndpoint) -> Provider {
        Provider {
            owner: Arc::clone(&tool.id),
            name: Arc::clone(&tool.name),
            vendor: Arc::clone(&tool.vendor),
            jurisdiction: Arc::clone(&tool.jurisdiction),
            purpose: Arc::clone(&endpoint.purpose),
        }
    }
}

/// Whether a text is an ISO 3166 alpha-2 code, or `XX` for unknown or several.
#[must_use]
pub fn is_jurisdiction(text: &str) -> bool {
    checker::JURISDICTIONS.split(' ').any(|known| known == text)
}

fn digest(files: &[CatalogFile]) -> String {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by_key(|file| &file.name);
    let mut hash = Sha256::new();
    for part in files.iter().flat_map(|file| [&file.name, &file.text]) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::path::PathGlob;
    use super::recogniser::Part;
    use super::*;

    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::embedded().unwrap());

    /// A tool file: what is written here, and `more` after it.
    fn tool_file(name: &str, id: &str, more: &str) -> CatalogFile {
        let text = format!(
            "schema_version = 1\nid = \"{id}\"\nname = \"T\"\nvendor = \"V\"\njurisdiction = \"US\"\n\
             kind = \"sdk\"\nsource = \"s\"\ndate = 2026-11-20\nconfidence = \"guess\"\n{more}"
        );
        CatalogFile {
            name: name.to_owned(),
            text,
        }
    }

    fn endpoint(host: &str, more: &str) -> String {
        format!(
            "[[endpoint]]\nhost = \"{host}\"\npurpose = \"api\"\nsource = \"s\"\ndate = 2026-11-20\n\
             confidence = \"guess\"\n{more}\n"
        )
    }

    /// A catalog of one tool `t` with these endpoints.
    fn manifest(endpoints: &[(&str, &str)]) -> Catalog {
        let endpoints: String = endpoints
            .iter()
            .map(|(host, more)| endpoint(host, more))
            .collect();
        let more = format!("[recognise]\nnames = [\"t\"]\n{endpoints}");
        Catalog::parse(&[tool_file("tools/t.toml", "t", &more)]).unwrap()
    }

    /// A path, and a name, that `glob` matches.
    fn instance(glob: &str) -> String {
        let mut path = glob
            .replace("{bin,.bin}", "bin")
            .replace("{version}", "1.2.3");
        path = path.replace("[Cc]", "c").replace("/**/", "/some/where/");
        if let Some(below) = path.strip_prefix("**/") {
            path = format!("/srv/{below}");
        }
        path.replace("**", "some/file").replace('*', "x1")
    }

    fn recognise(exe: &str, args: &[&str]) -> Option<Recognition> {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        CATALOG.recognise(Image {
            exe,
            args: &args,
            ..Image::default()
        })
    }

    #[test]
    fn the_embedded_catalog_is_sound() {
        assert_eq!(CATALOG.tools().count(), 55);
        assert_eq!(CATALOG.services().len(), 115);
        let ids: Vec<_> = CATALOG.tools().map(|tool| &tool.id).collect();
        assert!(ids.is_sorted());
        for facts in CATALOG.facts() {
            let file = format!("catalog/tools/{}.toml", facts.tool.id);
            assert!(EMBEDDED.iter().any(|(name, _)| *name == file), "{file}");
        }
    }

    #[test]
    fn every_recogniser_finds_its_tool() {
        let node = "/usr/bin/node";
        for facts in CATALOG.facts() {
            let check = |glob: &PathGlob, exe: &str, args: &[&str], part: Part, trusted: bool| {
                let found =
                    recognise(exe, args).map(|it| (it.tool.id.to_string(), it.part, it.trusted));
                assert_eq!(
                    found,
                    Some((facts.tool.id.to_string(), part, trusted)),
                    "{glob} {exe} {args:?}"
                );
            };
            let known = &facts.recognisers;
            for glob in &known.exe {
                let path = instance(&glob.text);
                check(glob, &path, &[&path], Part::Main, true);
            }
            for glob in &known.script {
                check(
                    glob,
                    node,
                    &["node", &instance(&glob.text)],
                    Part::Main,
                    true,
                );
            }
            for glob in &known.launcher {
                check(
                    glob,
                    node,
                    &["node", &instance(&glob.text)],
                    Part::Main,
                    false,
                );
            }
            for glob in &known.names {
                let path = instance(&glob.text);
                check(glob, &path, &[&path], Part::Main, false);
                check(glob, node, &["node", &path], Part::Main, false);
                check(glob, "/usr/bin/true", &[&path], Part::Main, false);
            }
            for helper in &facts.helpers {
                let path = instance(&helper.glob.text);
                check(&helper.glob, &path, &[&path], Part::Helper, true);
            }
        }
    }

    #[test]
    fn names_that_others_bear_too_recognise_nothing() {
        let mut names = 0;
        for name in CATALOG
            .facts()
            .flat_map(|facts| &facts.recognisers.collisions)
        {
            names += 1;
            assert_eq!(recognise(&format!("/srv/{name}"), &[name]), None, "{name}");
        }
        assert!(names >= 25, "{names}");
    }

    #[test]
    fn a_program_that_a_tool_lists_runs_its_scripts_only() {
        let recognise = |exe: &str, script: &str| {
            let found = recognise(exe, &["code", script])?;
            Some((found.tool.id.to_string(), found.sign))
        };
        let roo = "/u/extensions/rooveterinaryinc.roo-cline-3.1/dist/server.js";
        let found = recognise("/usr/lib/code/code", roo).map(|(id, _)| id);
        assert_eq!(found.as_deref(), Some("roo-code"));
        let claude = "/u/node_modules/@anthropic-ai/claude-code/cli.js";
        assert_eq!(recognise("/usr/lib/code/code", claude), None);
        let found = recognise("/usr/share/code/code", roo).map(|(id, _)| id);
        assert_eq!(found.as_deref(), Some("roo-code"));
    }

    #[test]
    fn an_editor_is_a_tool_where_it_goes_to_one_only() {
        #[track_caller]
        fn check(exe: &str, host: &str, expect: Option<&str>) {
            let held = CATALOG.held(exe, host).map(|(tool, _)| &*tool.id);
            assert_eq!(held, expect);
        }
        let (code, server) = (
            "/usr/share/code/code",
            "/home/u/.vscode-server/bin/abc/node",
        );
        let (java, copilot) = ("/home/u/idea/jbr/bin/java", "api.githubcopilot.com");
        for exe in [code, server, java] {
            assert_eq!(recognise(exe, &[exe]), None, "{exe}");
        }
        check(code, copilot, Some("vscode-copilot"));
        check(server, copilot, Some("vscode-copilot"));
        check(java, "api.jetbrains.ai", Some("jetbrains-ai"));
        // What others use too says nothing, nor what is another tool's.
        check(code, "github.com", None);
        check(code, "api.anthropic.com", None);
        check(java, copilot, None);
        check("/usr/bin/curl", copilot, None);
    }

    #[test]
    fn the_best_endpoint_of_the_version_counts() {
        #[track_caller]
        fn check(catalog: &Catalog, host: &str, version: Option<&str>, expect: Option<&str>) {
            let tool = catalog.tool("t").unwrap();
            let found = catalog.endpoint(tool, host, version);
            assert_eq!(found.and_then(|endpoint| endpoint.note.as_deref()), expect);
        }
        let catalog = manifest(&[
            ("a.x.com", "until = \"2.0\"\nnote = \"old\""),
            (
                "a.x.com",
                "since = \"2.0\"\nuntil = \"3.0\"\nnote = \"new\"",
            ),
            ("*.x.com", "note = \"any\""),
        ]);
        check(&catalog, "a.x.com", Some("1.9"), Some("old"));
        check(&catalog, "a.x.com", Some("2.0"), Some("new"));
        check(&catalog, "a.x.com", Some("3.0"), Some("any"));
        check(&catalog, "a.x.com", None, Some("old"));
        check(&catalog, "a.x.com", Some("nightly"), Some("old"));
        check(&catalog, "b.x.com", Some("1.9"), Some("any"));
        check(&catalog, "y.com", None, None);
    }

    #[test]
    fn addresses_are_endpoints_too() {
        let claude = CATALOG.tool("claude-code").unwrap();
        let find = |tool: &Tool, ip: &str| {
            let endpoint = CATALOG.endpoint_ip(tool, ip.parse().unwrap(), None)?;
            Some((endpoint.host.to_string(), endpoint.purpose.to_string()))
        };
        let range = Some(("160.79.104.0/23".to_owned(), "api".to_owned()));
        assert_eq!(find(claude, "160.79.104.10"), range);
        assert_eq!(
            find(claude, "2607:6bc0::10")
                .map(|(host, _)| host)
                .as_deref(),
            Some("2607:6bc0::/48")
        );
        assert_eq!(find(claude, "203.107.1.1"), None);
        let qoder = CATALOG.tool("qoder-cli").unwrap();
        let httpdns = Some(("203.107.1.1".to_owned(), "encrypted-dns".to_owned()));
        assert_eq!(find(qoder, "203.107.1.1"), httpdns);
    }

    #[test]
    fn manifests_say_what_the_facts_say() {
        #[track_caller]
        fn check(tool: &str, host: &str, version: Option<&str>, expect: Option<(&str, bool)>) {
            let tool = CATALOG.tool(tool).unwrap();
            let found = CATALOG.endpoint(tool, host, version);
            assert_eq!(
                found.map(|endpoint| (&*endpoint.purpose, endpoint.optional)),
                expect
            );
        }
        check(
            "claude-code",
            "api.anthropic.com",
            Some("2.1.328"),
            Some(("api", false)),
        );
        check(
            "claude-code",
            "statsig.anthropic.com",
            Some("2.1.20"),
            Some(("feature-flags", false)),
        );
        check("claude-code", "statsig.anthropic.com", Some("2.1.90"), None);
        check(
            "claude-code",
            "console.anthropic.com",
            Some("2.1.328"),
            None,
        );
        check(
            "claude-code",
            "browser-intake-us5-datadoghq.com",
            Some("2.1.197"),
            None,
        );
        check(
            "claude-code",
            "browser-intake-us5-datadoghq.com",
            Some("2.1.198"),
            Some(("error-reporting", true)),
        );
        check(
            "claude-code",
            "us-east5-aiplatform.googleapis.com",
            None,
            Some(("api", false)),
        );
        check("qoder-cli", "api2.qoder.sh", None, Some(("api", false)));
        check(
            "qoder-cli",
            "sg-pum.alibabachengdun.com",
            None,
            Some(("device-fingerprint", true)),
        );
        check("qoder-cli", "api.anthropic.com", None, None);
        check("aider", "aider.chat", None, Some(("docs", false)));
    }

    #[test]
    fn a_provider_is_whose_ai_a_host_is() {
        #[track_caller]
        fn check(host: &str, expect: Option<(&str, &str)>) {
            let found = CATALOG.provider(host).cloned();
            assert_eq!(found.as_ref().map(|it| (&*it.owner, &*it.vendor)), expect);
        }
        check("api.anthropic.com", Some(("anthropic", "Anthropic")));
        check(
            "mcp-proxy.anthropic.com",
            Some(("claude-code", "Anthropic")),
        );
        check("api2.qoder.sh", Some(("qoder-cli", "Alibaba (Qoder)")));
        check("api2.cursor.sh", Some(("cursor-agent", "Anysphere")));
        check("eu.api.openai.com", Some(("openai", "OpenAI")));
        check("openrouter.ai", Some(("openrouter", "OpenRouter")));
        check(
            "bedrock-runtime.eu-west-1.amazonaws.com",
            Some(("amazon-bedrock", "Amazon Web Services")),
        );
        for host in [
            "huggingface.co",
            "github.com",
            "api.github.com",
            "oauth2.googleapis.com",
            "api.workos.com",
        ] {
            check(host, None);
        }
        check("statsig.anthropic.com", None);
        check("example.com", None);
    }

    #[test]
    fn tools_of_two_houses_claim_no_host_both() {
        let house = |provider: &Provider| provider.vendor.split(' ').next().map(str::to_owned);
        let of_tools = || {
            let entries = CATALOG.providers.entries();
            entries.filter(|(_, provider)| CATALOG.tool(&provider.owner).is_some())
        };
        for (place, (host, provider)) in of_tools().enumerate() {
            let twin = of_tools().take(place).find(|(other, _)| *other == host);
            let twin_house = twin.map_or_else(|| house(provider), |(_, twin)| house(twin));
            assert_eq!(
                house(provider),
                twin_house,
                "{host}: say who is the `operator`"
            );
        }
    }

    #[test]
    fn no_provider_has_a_shared_host() {
        let of_tools = CATALOG.facts().flat_map(|facts| &facts.endpoints);
        let of_tools = of_tools
            .filter(|endpoint| endpoint.shared)
            .map(|endpoint| &endpoint.host);
        let of_services = CATALOG
            .services()
            .iter()
            .flat_map(|service| &service.shared);
        let mut shared = 0;
        for host in of_tools.chain(of_services) {
            shared += 1;
            assert_eq!(CATALOG.provider(&host.to_string()), None, "{host}");
        }
        assert!(shared > 100, "{shared}");
    }

    #[test]
    fn a_service_is_found_by_name_and_by_address() {
        #[track_caller]
        fn check(host: &str, expect: Option<(&str, &str)>) {
            let found = CATALOG.service(host);
            assert_eq!(found.map(|service| (&*service.id, &*service.class)), expect);
        }
        check("us.i.posthog.com", Some(("posthog", "telemetry")));
        check("o1.ingest.us.sentry.io", Some(("sentry", "telemetry")));
        check("1.1.1.1", Some(("cloudflare-doh-dot", "encrypted-dns")));
        check("203.107.1.100", Some(("alibaba-httpdns", "encrypted-dns")));
        check(
            "fd00:ec2::254",
            Some(("cloud-instance-metadata-region", "ip-geolocation")),
        );
        check("huggingface.co", Some(("hugging-face", "llm-api")));
        check("ipinfo.io", Some(("ipinfo", "ip-geolocation")));
        check("example.com", None);
    }

    #[test]
    fn a_later_folder_replaces_a_tool() {
        let mut files = Catalog::embedded_files();
        let more = format!(
            "[recognise]\nnames = [\"claude\"]\n{}",
            endpoint("ai.corp.example", "")
        );
        files.push(tool_file(
            "/etc/telltale/catalog/tools/ours.toml",
            "claude-code",
            &more,
        ));
        let catalog = Catalog::parse(&files).unwrap();
        assert_eq!(catalog.tools().count(), 55);
        let claude = catalog.tool("claude-code").unwrap();
        assert_eq!(&*claude.vendor, "V");
        assert!(catalog.endpoint(claude, "ai.corp.example", None).is_some());
        assert!(
            catalog
                .endpoint(claude, "api.anthropic.com", None)
                .is_none()
        );
        assert_ne!(catalog.digest(), CATALOG.digest());
    }

    #[test]
    fn the_digest_is_of_the_files_whatever_their_order() {
        let mut files = Catalog::embedded_files();
        files.reverse();
        assert_eq!(digest(&files), CATALOG.digest());
        assert_eq!(CATALOG.digest().len(), 64);
        files[0].text.push('#');
        assert_ne!(digest(&files), CATALOG.digest());
    }

    #[test]
    fn near_ids_are_suggested() {
        #[track_caller]
        fn check(id: &str, expect: &str) {
            assert_eq!(CATALOG.near(id).first().map(|id| &**id), Some(expect));
        }
        check("cluade-code", "claude-code");
        check("claude", "claude-code");
        check("copilot-cli", "github-copilot-cli");
        check("cursor-cli", "cursor-agent");
        assert!(CATALOG.near("zzz").is_empty());
    }
}

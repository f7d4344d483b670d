//! What is played of a tool, and in which words it is told.
//!
//! In: what the catalog says of a tool. Out: a page, one fact in a line.

use std::collections::BTreeMap;
use std::sync::Arc;

use monitor_common::flow::ProcessKey;
use telltale::core::attribute::Role;
use telltale::core::catalog::facts::ToolFacts;
use telltale::core::catalog::host::HostPattern;
use telltale::core::catalog::path::PathGlob;
use telltale::core::catalog::version::VersionRange;
use telltale::core::catalog::{Catalog, ManifestEndpoint};
use telltale::core::policy::judgement::Verdict;

use super::play::{Host, Program, Said};

/// The version of a tool where nothing asks for another.
const VERSION: &str = "1.2.3";
/// Before the first version of any tool.
const FIRST_VERSION: &str = "0.0.1";
/// A host that no manifest lists.
const UNDECLARED: &str = "undeclared.example";
const NODE: &str = "/usr/bin/node";
const PYTHON: &str = "/usr/bin/python3.11";

/// What tools start: executable, arguments, and the role that it then has.
const CHILDREN: [(&str, &str, Role); 5] = [
    ("/usr/bin/bash", "bash -c make", Role::Shell),
    ("/usr/bin/git", "git fetch", Role::Git),
    (
        NODE,
        "node /usr/lib/node_modules/npm/bin/npm-cli.js install",
        Role::PackageManager,
    ),
    (
        NODE,
        "node /srv/node_modules/@modelcontextprotocol/server-x/dist/index.js",
        Role::McpServer,
    ),
    ("/usr/bin/curl", "curl -O", Role::OtherChild),
];

/// The page of a tool.
pub fn play(catalog: &Arc<Catalog>, facts: &ToolFacts) -> String {
    let page = Page {
        catalog,
        facts,
        host: Host::new(catalog, ""),
        mains: BTreeMap::new(),
        text: String::new(),
    };
    page.write()
}

struct Page<'a> {
    catalog: &'a Arc<Catalog>,
    facts: &'a ToolFacts,
    /// Where the tool contacts its manifest's hosts.
    host: Host,
    /// It runs there in these versions.
    mains: BTreeMap<String, ProcessKey>,
    text: String,
}

impl Page<'_> {
    fn write(mut self) -> String {
        let tool = Arc::clone(&self.facts.tool);
        self.text = format!("{} ({})\n", tool.name, tool.id);
        self.title("programs: part, version, evidence; what a ban says");
        self.programs();
        if !self.facts.recognisers.ide.is_empty() {
            self.title("in an editor: whose flows are by where they go; what a ban says");
            self.in_editor();
        }
        if self.facts.recognisers.ide.len() == self.ways() {
            return self.text;
        }
        self.title("children: role, where they connect");
        self.children();
        self.title("manifest: purpose, verdict");
        self.manifest();
        self.title("elsewhere: verdict, alerts");
        self.elsewhere();
        self.text
    }

    fn title(&mut self, title: &str) {
        self.text += &format!("\n# {title}\n");
    }

    fn line(&mut self, what: &str, facts: &str) {
        self.text += &format!("{what:<72}  {facts}\n");
    }

    /// Each way to recognise the tool, with and without a ban.
    fn programs(&mut self) {
        let known = &self.facts.recognisers;
        let helpers = self.facts.helpers.iter().map(|helper| &helper.glob);
        let native = |glob: &PathGlob| executable(&instance(glob, VERSION), VERSION);
        let script = |glob: &PathGlob| self.script(glob, VERSION);
        let ways = [
            (known.exe.iter().map(native).collect(), Role::Main, true),
            (known.script.iter().map(script).collect(), Role::Main, true),
            (helpers.map(native).collect(), Role::Helper, true),
            (
                known.launcher.iter().map(script).collect(),
                Role::Main,
                false,
            ),
            (known.names.iter().map(native).collect(), Role::Main, false),
        ];
        let ways: [(Vec<Program>, Role, bool); 5] = ways;
        for (programs, role, trusted) in ways {
            for program in programs {
                self.program(&program, role, trusted);
            }
        }
        for name in self.facts.recognisers.collisions.clone() {
            let path = format!("/srv/{name}");
            let said = self.new_host("").start(None, &executable(&path, VERSION));
            assert!(said.member().is_none(), "{name}: {said:?}");
            self.line(&path, "no evidence: others bear the name too");
        }
    }

    fn program(&mut self, program: &Program, role: Role, trusted: bool) {
        let id = &self.facts.tool.id;
        let said = self.new_host("").start(None, program);
        let member = said
            .member()
            .unwrap_or_else(|| panic!("{id}: nothing is {program:?}"));
        let found = (&*member.tool.id, member.role, member.trusted);
        assert_eq!(found, (&**id, role, trusted), "{program:?}");
        let banned = self.new_host(&ban(id)).start(None, program);
        assert_eq!(banned.judgement.verdict, Verdict::Denied, "{program:?}");
        assert_eq!(banned.alerts, ["banned-tool"], "{program:?}");
        let facts = format!("{}; {}", words_of(&said), verdict(&banned));
        self.line(&program.args.join(" "), &facts);
    }

    /// Nobody's by itself, as it holds other things as well.
    fn in_editor(&mut self) {
        let tool = Arc::clone(&self.facts.tool);
        let facts = self.facts;
        let editors = facts.recognisers.ide.iter();
        let editors: Vec<_> = editors
            .map(|glob| executable(&instance(glob, VERSION), VERSION))
            .collect();
        let mut banned = self.new_host(&ban(&tool.id));
        for editor in &editors {
            let said = banned.start(None, editor);
            assert_eq!(
                (said.member(), said.judgement.verdict),
                (None, Verdict::NotJudged)
            );
            self.line(&editor.exe, &format!("nobody; {}", verdict(&said)));
        }
        let of_tool = self.host.start(None, &editors[0]).process.key;
        let of_banned = banned.start(None, &editors[0]).process.key;
        for endpoint in &facts.endpoints {
            let host = instance_of_host(&endpoint.host);
            let said = self.host.connect(of_tool, &host);
            let id = said.member().map(|member| &member.tool.id);
            assert_eq!(id, (!endpoint.shared).then_some(&tool.id), "{host}");
            let whose = match said.member() {
                Some(member) => format!("{}, {}", member.tool.id, member.evidence[0].kind()),
                None => "nobody".to_owned(),
            };
            let said_banned = verdict(&banned.connect(of_banned, &host));
            let facts = format!("{whose}: {}; {said_banned}", verdict(&said));
            self.line(&endpoint.host.to_string(), &facts);
        }
    }

    /// Which child made a call can always be told.
    fn children(&mut self) {
        let main = self.main(VERSION);
        let helper = self.facts.helpers.first();
        let helper = helper.map(|helper| instance(&helper.glob, VERSION));
        let helper = helper.map(|path| (executable(&path, VERSION), Role::Helper));
        let others = CHILDREN.map(|(exe, command, role)| (child(exe, command), role));
        for (program, role) in helper.into_iter().chain(others) {
            let mut host = self.new_host("");
            let main = host.start(None, &main).process.key;
            let started = host.start(Some(main), &program);
            let said = host.connect(started.process.key, UNDECLARED);
            let member = said.member().unwrap();
            assert_eq!((&member.tool.id, member.role), (&self.facts.tool.id, role));
            assert_eq!(said.judgement.verdict, Verdict::Undeclared);
            let facts = format!("{} -> {UNDECLARED} {}", role.name(), verdict(&said));
            self.line(&program.args.join(" "), &facts);
        }
    }

    /// Each endpoint in a version that may contact it, and in one that may not.
    fn manifest(&mut self) {
        let facts = self.facts;
        for endpoint in &facts.endpoints {
            let host = instance_of_host(&endpoint.host);
            let text = |version: &Option<_>| version.as_ref().map(ToString::to_string);
            let versions = &endpoint.versions;
            let (since, until) = (text(&versions.since), text(&versions.until));
            let inside = match (&since, &until) {
                (Some(since), _) => since,
                (None, Some(_)) => FIRST_VERSION,
                (None, None) => VERSION,
            };
            let before = since.as_deref().map(|_| FIRST_VERSION);
            let outside = [before, until.as_deref()].into_iter().flatten();
            let mut facts = self.contact(endpoint, &host, inside);
            let is_stated = self.states_version();
            for version in outside.filter(|_| is_stated) {
                let said = verdict(&self.connect(&host, version));
                facts += &format!("; {said} in {version}");
            }
            let facts = format!("{} {facts}", endpoint.purpose);
            self.line(&endpoint.host.to_string(), &facts);
        }
    }

    fn contact(&mut self, endpoint: &ManifestEndpoint, host: &str, version: &str) -> String {
        let said = self.connect(host, version);
        let listed = match said.member() {
            Some(member) if !member.trusted => Verdict::ExpectedUnverified,
            _ if endpoint.optional => Verdict::Optional,
            _ => Verdict::Expected,
        };
        assert_eq!(said.judgement.verdict, listed, "{host}: {said:?}");
        let is_of_some = endpoint.versions != VersionRange::default();
        match is_of_some && self.states_version() {
            true => format!("{} in {version}", verdict(&said)),
            false => verdict(&said),
        }
    }

    fn connect(&mut self, host: &str, version: &str) -> Said {
        let main = match self.mains.get(version) {
            Some(main) => *main,
            None => {
                let program = self.main(version);
                self.host.start(None, &program).process.key
            }
        };
        self.mains.insert(version.to_owned(), main);
        self.host.connect(main, host)
    }

    fn elsewhere(&mut self) {
        let said = self.connect(UNDECLARED, VERSION);
        assert_eq!(said.judgement.verdict, Verdict::Undeclared);
        assert_eq!(said.alerts, ["unexpected-endpoint"]);
        self.line(UNDECLARED, &verdict(&said));
        let said = self.connect("203.0.113.77", VERSION);
        assert_eq!(said.judgement.verdict, Verdict::Unknown);
        self.line("203.0.113.77", &verdict(&said));
        self.by_stranger();
    }

    /// A script of no known tool at the tool's API: whose it is is told.
    fn by_stranger(&mut self) {
        let endpoints = self.facts.endpoints.iter();
        let mut hosts = endpoints.map(|it| instance_of_host(&it.host));
        let of = |host: String| Some((self.catalog.provider(&host)?.vendor.to_string(), host));
        let Some((vendor, host)) = hosts.find_map(of) else {
            return;
        };
        let mut stage = self.new_host("");
        let script = stage.start(None, &child(PYTHON, "python3 /srv/agent.py"));
        let said = stage.connect(script.process.key, &host);
        assert_eq!(
            said.process.role_in_flow(&said.judgement),
            Some(Role::Unidentified)
        );
        assert!(said.judgement.why.contains(&vendor), "{said:?}");
        let facts = format!("unidentified, {vendor}'s: {}", verdict(&said));
        self.line(&format!("python3 /srv/agent.py -> {host}"), &facts);
    }

    fn new_host(&self, policy: &str) -> Host {
        Host::new(self.catalog, policy)
    }

    /// The tool, as it is recognised best.
    fn main(&self, version: &str) -> Program {
        let known = &self.facts.recognisers;
        let native = |glob: &PathGlob| executable(&instance(glob, version), version);
        let script = |glob: &PathGlob| self.script(glob, version);
        let ways = [
            best(&known.exe).map(native),
            best(&known.script).map(script),
            known.launcher.first().map(script),
            known.names.first().map(native),
        ];
        ways.into_iter().flatten().next().unwrap()
    }

    /// Globs and names that recognise a program of the tool, or one that holds it.
    fn ways(&self) -> usize {
        let known = &self.facts.recognisers;
        let ways = [
            &known.exe,
            &known.script,
            &known.launcher,
            &known.names,
            &known.ide,
        ];
        ways.iter().map(|globs| globs.len()).sum()
    }

    fn states_version(&self) -> bool {
        let known = &self.facts.recognisers;
        let used = best(&known.exe).or_else(|| best(&known.script));
        used.is_some_and(states_version)
    }

    fn script(&self, glob: &PathGlob, version: &str) -> Program {
        let known = &self.facts.recognisers;
        let path = instance(glob, version);
        let is_python = path.ends_with(".py") || (known.npm.is_empty() && !known.pypi.is_empty());
        let exe = if is_python { PYTHON } else { NODE };
        let name = if is_python { "python3" } else { "node" };
        Program {
            exe: exe.to_owned(),
            args: vec![name.to_owned(), path],
            package_version: Some(version.to_owned()),
        }
    }
}

/// Of these globs, the first whose matches state their version; else the first.
fn best(globs: &[PathGlob]) -> Option<&PathGlob> {
    let stating = globs.iter().find(|glob| states_version(glob));
    stating.or_else(|| globs.first())
}

fn states_version(glob: &PathGlob) -> bool {
    glob.text.contains("{version}") || glob.text.contains("/node_modules/")
}

fn executable(path: &str, version: &str) -> Program {
    Program {
        exe: path.to_owned(),
        args: vec![path.to_owned()],
        package_version: Some(version.to_owned()),
    }
}

fn child(exe: &str, command: &str) -> Program {
    Program {
        exe: exe.to_owned(),
        args: command.split(' ').map(str::to_owned).collect(),
        package_version: None,
    }
}

fn ban(id: &str) -> String {
    format!("[[pack]]\nname = \"ban-and-replace\"\nbanned = [\"{id}\"]\n")
}

/// A path that the glob matches; of a glob of names, one in some folder.
fn instance(glob: &PathGlob, version: &str) -> String {
    let fixed = [
        ("{bin,.bin}", "bin"),
        ("[Cc]", "c"),
        ("/**/", "/some/where/"),
    ];
    let text = glob.text.replace("{version}", version);
    let text = fixed
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to));
    let below = text
        .strip_prefix("**/")
        .map(|below| format!("/srv/{below}"));
    below
        .unwrap_or(text)
        .replace("**", "some/file")
        .replace('*', "x1")
}

/// A host that the pattern matches.
fn instance_of_host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Suffix(domain) => format!("any.{domain}"),
        HostPattern::Glob(glob) => glob.replace('*', "x1"),
        HostPattern::Network(network) => network.addr().to_string(),
    }
}

/// Part, version and evidence of a process.
fn words_of(said: &Said) -> String {
    let member = said.member().unwrap();
    let kinds: Vec<_> = member
        .evidence
        .iter()
        .map(|evidence| evidence.kind())
        .collect();
    let doubt = if member.trusted { "" } else { ", not trusted" };
    let version = member.version.as_deref().unwrap_or("unknown");
    format!(
        "{}, {version}, {}{doubt}",
        member.role.name(),
        kinds.join("+")
    )
}

/// Verdict and alerts.
fn verdict(said: &Said) -> String {
    let name = said.judgement.verdict.name();
    match &*said.alerts {
        [] => name.to_owned(),
        alerts => format!("{name}, alert {}", alerts.join(" ")),
    }
}

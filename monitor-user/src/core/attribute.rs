//! Which AI tool a process belongs to, and why we say so.
//!
//! In: a program image, its parent's attribution, the catalog.
//! Out: an [`Attribution`] with its evidence, strongest first, or `None`.

use std::sync::Arc;

use super::catalog::program::{Image, Interpreter, Program, Target, base_name, npm_package};
use super::catalog::recogniser::{Part, Recognition, Sign};
use super::catalog::{Catalog, Tool};

/// A process's membership in an AI tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// The tool, from the catalog.
    pub tool: Arc<Tool>,
    /// Its version where its path or its npm package says so; `None` is "unknown".
    pub version: Option<Arc<str>>,
    /// What the process does for the tool.
    pub role: Role,
    /// Why, strongest first; never empty.
    pub evidence: Vec<Evidence>,
    /// The evidence is a known layout (or descent from one). `false`: a name alone, which
    /// counts towards a ban and never towards an allowance.
    pub trusted: bool,
    /// Other tools whose names it bears, or a process between it and the tool that it descends
    /// from. They count towards a ban like its own tool, and towards nothing else. No duplicates.
    pub namesakes: Vec<Arc<Tool>>,
}

impl Attribution {
    /// It is of one flow only, by where that goes.
    #[must_use]
    pub fn is_of_flow(&self) -> bool {
        matches!(self.evidence.first(), Some(Evidence::Endpoint { .. }))
    }

    /// The path of the script that it was recognised by, if it was.
    #[must_use]
    pub fn script(&self) -> Option<&str> {
        self.evidence.iter().find_map(|evidence| match evidence {
            Evidence::Script { path, .. } => Some(&**path),
            _ => None,
        })
    }
}

/// What a process does for its tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The tool itself.
    Main,
    /// A helper program that ships with the tool.
    Helper,
    /// An MCP server that the tool started.
    McpServer,
    /// A shell that the tool started.
    Shell,
    /// A package manager below the tool.
    PackageManager,
    /// git below the tool.
    Git,
    /// Any other program below the tool.
    OtherChild,
    /// None: a program of no known tool, in a flow to an AI provider. Nothing descends from it.
    Unidentified,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 8] = [
        Role::Main,
        Role::Helper,
        Role::McpServer,
        Role::Shell,
        Role::PackageManager,
        Role::Git,
        Role::OtherChild,
        Role::Unidentified,
    ];

    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Main => "main",
            Role::Helper => "helper",
            Role::McpServer => "mcp-server",
            Role::Shell => "shell-child",
            Role::PackageManager => "package-manager",
            Role::Git => "git",
            Role::OtherChild => "other-child",
            Role::Unidentified => "unidentified",
        }
    }
}

/// One reason for an attribution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The executable's path matches a glob of the catalog.
    ExePath {
        /// The glob.
        glob: Arc<str>,
    },
    /// The path of the script that it runs matches a glob of the catalog.
    Script {
        /// The glob.
        glob: Arc<str>,
        /// Where the script lies, or what the argument says if that is not known or says more.
        path: Arc<str>,
    },
    /// The executable's path matches a helper glob of the catalog.
    Helper {
        /// The glob.
        glob: Arc<str>,
    },
    /// It descends from a process of the tool.
    Lineage {
        /// Executable of the nearest ancestor that is not itself attributed by lineage.
        ancestor_exe: Arc<str>,
        /// Its pid.
        ancestor_pid: u32,
    },
    /// It holds the tool among other things, as an editor does, and reaches a host that is the
    /// tool's alone. Of one flow only.
    Endpoint {
        /// The host.
        host: Arc<str>,
    },
    /// Only its name is that of the tool.
    Name {
        /// The name.
        name: Arc<str>,
    },
}

impl Evidence {
    /// Kind, for metrics and events.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Evidence::ExePath { .. } => "exe-path",
            Evidence::Script { .. } => "script",
            Evidence::Helper { .. } => "helper",
            Evidence::Lineage { .. } => "lineage",
            Evidence::Endpoint { .. } => "endpoint",
            Evidence::Name { .. } => "name",
        }
    }
}

/// The process that started an image.
#[derive(Clone, Copy, Debug)]
pub struct Ancestor<'a> {
    /// Its executable.
    pub exe: &'a str,
    /// Its pid.
    pub pid: u32,
    /// The tool it belongs to.
    pub attribution: Option<&'a Arc<Attribution>>,
}

/// Attribution of a new image given what it shows itself and its parent's attribution.
///
/// What the image shows itself wins: a Qoder that a Claude's shell starts is Qoder's. Else it is
/// the tool's that started it, in the role that its program has there. A mere name wins over
/// nothing: else a banned tool's children would escape the ban under the name of another tool.
#[must_use]
pub fn attribute(
    catalog: &Catalog,
    image: Image<'_>,
    parent: Option<Ancestor<'_>>,
) -> Option<Attribution> {
    let own = catalog.recognise(image);
    let inherited = parent.and_then(|parent| inherit(parent, image));
    match (own, inherited) {
        (Some(own), Some(inherited)) if own.tool.id == inherited.tool.id => {
            Some(join(own, inherited))
        }
        (Some(own), Some(inherited)) if !own.trusted => Some(add_namesake(inherited, &own)),
        (Some(own), _) => Some(Attribution::from(own)),
        (None, inherited) => inherited,
    }
}

/// Attribution of one flow of a program that holds tools among other things: an editor is nobody's
/// by itself, and neither are its terminals and other extensions, so where the flow goes decides.
#[must_use]
pub fn attribute_flow(catalog: &Catalog, exe: &str, host: &str) -> Option<Attribution> {
    let (tool, glob) = catalog.held(exe, host)?;
    let (host, glob) = (host.into(), Arc::clone(glob));
    Some(Attribution {
        tool: Arc::clone(tool),
        version: None,
        role: Role::Main,
        evidence: vec![Evidence::Endpoint { host }, Evidence::ExePath { glob }],
        trusted: true,
        namesakes: Vec::new(),
    })
}

/// The parent's tool, seen from its child.
fn inherit(parent: Ancestor<'_>, image: Image<'_>) -> Option<Attribution> {
    let of_parent = parent.attribution?;
    let lineage = match of_parent.evidence.first() {
        Some(Evidence::Lineage { .. }) => of_parent.evidence.first().cloned()?,
        _ => Evidence::Lineage {
            ancestor_exe: parent.exe.into(),
            ancestor_pid: parent.pid,
        },
    };
    Some(Attribution {
        tool: Arc::clone(&of_parent.tool),
        version: of_parent.version.clone(),
        role: role_below(image),
        evidence: vec![lineage],
        trusted: of_parent.trusted,
        namesakes: of_parent.namesakes.clone(),
    })
}

/// A part of the tool that the tool itself started. What it shows itself says which part it is;
/// if that is no more than a name, the descent is the stronger reason.
fn join(own: Recognition, inherited: Attribution) -> Attribution {
    let trusted = own.trusted || inherited.trusted;
    let own_is_stronger = own.trusted;
    let mut joined = Attribution::from(own);
    joined.version = joined.version.or(inherited.version);
    joined.trusted = trusted;
    joined.namesakes = inherited.namesakes;
    joined.evidence.extend(inherited.evidence);
    if !own_is_stronger {
        joined.evidence.reverse();
    }
    joined
}

/// A part of one tool that bears the name of another.
fn add_namesake(mut inherited: Attribution, own: &Recognition) -> Attribution {
    let name = match &own.sign {
        Sign::Name { name } => Arc::clone(name),
        Sign::Script { path, .. } => base_name(path).into(),
        Sign::Exe { glob } | Sign::Helper { glob } => base_name(glob).into(),
    };
    inherited.evidence.push(Evidence::Name { name });
    let known = |tool: &Arc<Tool>| tool.id == own.tool.id;
    if !inherited.namesakes.iter().any(known) {
        inherited.namesakes.push(Arc::clone(&own.tool));
    }
    inherited
}

impl From<Recognition> for Attribution {
    fn from(own: Recognition) -> Self {
        let evidence = match own.sign {
            Sign::Exe { glob } => Evidence::ExePath { glob },
            Sign::Script { glob, path } => Evidence::Script { glob, path },
            Sign::Helper { glob } => Evidence::Helper { glob },
            Sign::Name { name } => Evidence::Name { name },
        };
        let role = match own.part {
            Part::Main => Role::Main,
            Part::Helper => Role::Helper,
        };
        let (tool, version, trusted) = (own.tool, own.version, own.trusted);
        Attribution {
            tool,
            version,
            role,
            evidence: vec![evidence],
            trusted,
            namesakes: Vec::new(),
        }
    }
}

/// Programs that contain others, and tell which by `argv[0]`.
const MULTI_CALL: [&str; 2] = ["busybox", "toybox"];

/// Package managers, by the file name of the program or its script, without an extension.
const PACKAGE_MANAGERS: [&str; 34] = [
    "apk",
    "apt",
    "apt-cache",
    "apt-get",
    "aptitude",
    "brew",
    "bundle",
    "bunx",
    "cargo",
    "composer",
    "conda",
    "corepack",
    "dnf",
    "dpkg",
    "gem",
    "mamba",
    "npm",
    "npm-cli",
    "npx",
    "npx-cli",
    "pacman",
    "pip",
    "pip3",
    "pipx",
    "pnpm",
    "pnpx",
    "poetry",
    "rpm",
    "uv",
    "uvx",
    "yarn",
    "yarnpkg",
    "yum",
    "zypper",
];

/// apt downloads with programs of this folder, which are called `http` and `https`.
const APT_METHODS: &str = "/apt/methods/";

/// What a program does below a tool, by what it is.
fn role_below(image: Image<'_>) -> Role {
    let program = Program::of(image, |_| false);
    let name = if MULTI_CALL.contains(&program.name) {
        program.alias
    } else {
        program.name
    };
    if Interpreter::of(name) == Some(Interpreter::Shell) {
        return Role::Shell;
    }
    let run = match &program.target {
        Some(Target::Script(path)) => stem(base_name(path)),
        Some(Target::Module(module)) => module,
        // A process may have put its title into argv[0].
        None if program.interpreter.is_some() => program.alias,
        None => name,
    };
    // A link may say what a script is (`mcp-server-github`), or else what it leads to
    // (`…/npm/bin/npm-cli.js`).
    let runs = [
        Some(run),
        program.resolved.map(|path| stem(base_name(path))),
    ];
    let package = program.script().and_then(npm_package).map(|(_, name)| name);
    let is = |test: fn(&str) -> bool| runs.into_iter().flatten().any(test);
    if is(|run| run == "git" || run.starts_with("git-")) {
        Role::Git
    } else if is(|run| PACKAGE_MANAGERS.contains(&run)) || image.exe.contains(APT_METHODS) {
        Role::PackageManager
    } else if is(says_mcp) || package.is_some_and(says_mcp) {
        Role::McpServer
    } else {
        Role::OtherChild
    }
}

/// The file name without its last extension.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// One word of the name is `mcp`, or it is of the protocol's own packages.
fn says_mcp(name: &str) -> bool {
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| word.eq_ignore_ascii_case("mcp") || word == "modelcontextprotocol")
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::embedded().unwrap());

    fn words(command: &str) -> Vec<String> {
        command.split(' ').map(str::to_owned).collect()
    }

    /// What a chain of images (exe, argv), each started by the one before, is attributed to:
    /// tool, role, kinds of evidence, trust. After argv may follow ` -> ` and where the script
    /// lies, then ` @ ` and the version of its package.
    #[track_caller]
    fn check(chain: &[(&str, &str)], expect: Option<(&str, Role, &str, bool)>) {
        let last = last(chain);
        let kinds = |found: &Attribution| {
            found
                .evidence
                .iter()
                .map(Evidence::kind)
                .collect::<Vec<_>>()
                .join("+")
        };
        let found = last
            .as_ref()
            .map(|it| (&*it.tool.id, it.role, kinds(it), it.trusted));
        let expect =
            expect.map(|(tool, role, kinds, trusted)| (tool, role, kinds.to_owned(), trusted));
        assert_eq!(found, expect);
    }

    /// The role of an image that Claude Code started.
    #[track_caller]
    fn below(exe: &str, command: &str, role: Role) {
        check(
            &[CLAUDE, (exe, command)],
            Some(("claude-code", role, "lineage", true)),
        );
    }

    fn last(chain: &[(&str, &str)]) -> Option<Arc<Attribution>> {
        let mut parent: Option<(&str, u32, Option<Arc<Attribution>>)> = None;
        for (pid, (exe, command)) in (100..).zip(chain) {
            let ancestor = parent.as_ref().map(|(exe, pid, attribution)| Ancestor {
                exe,
                pid: *pid,
                attribution: attribution.as_ref(),
            });
            let (command, version) = split(command, " @ ");
            let (command, script) = split(command, " -> ");
            let image = Image {
                exe,
                args: &words(command),
                script,
                package_version: version,
            };
            let found = attribute(&CATALOG, image, ancestor);
            parent = Some((exe, pid, found.map(Arc::new)));
        }
        parent?.2
    }

    fn split<'a>(text: &'a str, at: &str) -> (&'a str, Option<&'a str>) {
        let halves = text.split_once(at);
        halves.map_or((text, None), |(before, after)| (before, Some(after)))
    }

    const CLAUDE: (&str, &str) = ("/home/u/.local/share/claude/versions/2.1.328", "claude");
    const BASH: (&str, &str) = ("/usr/bin/bash", "bash -c x");
    const QODER: (&str, &str) = (
        "/usr/bin/node",
        "node /usr/lib/node_modules/@qoder-ai/qodercli/bundle/qodercli.js",
    );

    #[test]
    fn the_layouts_of_the_main_tools_are_recognised() {
        #[track_caller]
        fn main(exe: &str, command: &str, tool: &str, evidence: &str) {
            check(&[(exe, command)], Some((tool, Role::Main, evidence, true)));
        }
        let node = "/usr/bin/node";
        main(CLAUDE.0, "claude", "claude-code", "exe-path");
        main(CLAUDE.0, "2.1.328 --resume", "claude-code", "exe-path");
        main(
            node,
            "node /u/node_modules/@anthropic-ai/claude-code/cli.js",
            "claude-code",
            "script",
        );
        let npm = "/usr/lib/node_modules/@anthropic-ai/claude-code/bin/claude.exe";
        main(npm, "claude", "claude-code", "exe-path");
        main(QODER.0, QODER.1, "qoder-cli", "script");
        main(
            "/home/u/.qoder/bin/qodercli/qodercli-0.1.47",
            "qodercli",
            "qoder-cli",
            "exe-path",
        );
        main(
            node,
            "node /u/node_modules/@openai/codex/bin/codex.js",
            "codex-cli",
            "script",
        );
        let codex =
            "/u/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex";
        main(codex, "codex", "codex-cli", "exe-path");
        main(
            node,
            "node --no-warnings /u/node_modules/@google/gemini-cli/bundle/gemini.js",
            "gemini-cli",
            "script",
        );
        main(
            node,
            "node /u/node_modules/@github/copilot/npm-loader.js",
            "github-copilot-cli",
            "script",
        );
        main(
            "/u/node_modules/@github/copilot-linux-x64/copilot",
            "copilot",
            "github-copilot-cli",
            "exe-path",
        );
        let cursor = "/home/u/.local/share/cursor-agent/versions/2026.10.01-abc";
        main(
            &format!("{cursor}/node"),
            &format!("node {cursor}/index.js"),
            "cursor-agent",
            "script",
        );
    }

    #[test]
    fn a_link_is_the_script_that_it_leads_to() {
        #[track_caller]
        fn linked(command: &str, expect: Option<(&str, &str, bool)>) {
            let expect = expect.map(|(tool, kind, trusted)| (tool, Role::Main, kind, trusted));
            check(&[("/usr/bin/node", command)], expect);
        }
        let gemini = "/usr/lib/node_modules/@google/gemini-cli/bundle/gemini.js";
        linked(
            &format!("node /usr/local/bin/gemini -> {gemini}"),
            Some(("gemini-cli", "script", true)),
        );
        linked(
            &format!("node gemini.js -> {gemini}"),
            Some(("gemini-cli", "script", true)),
        );
        // Whatever the link is called.
        linked(
            &format!("node /usr/local/bin/claude -> {gemini}"),
            Some(("gemini-cli", "script", true)),
        );
        // A path that leads out of the tool's layout is no more than a name.
        linked(
            &format!("node {gemini} -> /home/u/src/gemini.js"),
            Some(("gemini-cli", "script", false)),
        );
        linked(
            "node /usr/local/bin/gemini -> /home/u/src/main.js",
            Some(("gemini-cli", "script", false)),
        );
        linked(
            "node /srv/x -> /srv/gemini",
            Some(("gemini-cli", "name", false)),
        );
        linked("node /srv/x -> /srv/y", None);
        linked(&format!("node -e 1 -> {gemini}"), None);
        let aider = "/home/u/.local/share/pipx/venvs/aider-chat/bin/aider";
        check(
            &[(
                "/usr/bin/python3",
                &format!("python3 /usr/local/bin/ai -> {aider}"),
            )],
            Some(("aider", Role::Main, "script", false)),
        );
        let found = last(&[("/usr/bin/node", &format!("node /bin/gemini -> {gemini}"))]);
        let evidence = Evidence::Script {
            glob: "**/node_modules/@google/gemini-cli/bundle/gemini.js".into(),
            path: gemini.into(),
        };
        assert_eq!(found.unwrap().evidence, [evidence]);
    }

    #[test]
    fn a_name_alone_is_never_trusted() {
        #[track_caller]
        fn named(exe: &str, command: &str, tool: &str, evidence: &str) {
            check(&[(exe, command)], Some((tool, Role::Main, evidence, false)));
        }
        named("/tmp/claude", "./claude", "claude-code", "name");
        named("/home/u/.local/bin/claude", "claude", "claude-code", "name");
        named(
            "/usr/bin/curl",
            "claude https://example.com",
            "claude-code",
            "name",
        );
        named(
            "/usr/bin/node",
            "node /usr/local/bin/gemini -p x",
            "gemini-cli",
            "script",
        );
        named("/usr/bin/node", "node /srv/qodercli", "qoder-cli", "name");
        named("/usr/bin/node", "claude", "claude-code", "name");
        named("/usr/bin/python3.11", "python3 -m aider", "aider", "name");
        named(
            "/usr/bin/python3.11",
            "/usr/bin/python3 /home/u/.local/bin/aider",
            "aider",
            "script",
        );
    }

    #[test]
    fn what_is_no_tool_is_not_attributed() {
        #[track_caller]
        fn nothing(exe: &str, command: &str) {
            check(&[(exe, command)], None);
        }
        nothing("/usr/bin/node", "node /srv/app/server.js");
        nothing(
            "/usr/bin/vim",
            "vim /u/node_modules/@anthropic-ai/claude-code/cli.js",
        );
        nothing(
            "/usr/bin/node",
            "node lint.js /u/node_modules/@google/gemini-cli/bundle/gemini.js",
        );
        nothing("/usr/bin/python3", "python3 -c claude");
        nothing("/usr/local/bin/agent", "agent");
        nothing("/usr/sbin/zed", "zed");
        nothing("/usr/bin/copilot", "copilot");
        nothing("", "");
        check(
            &[("/usr/bin/bash", "bash"), ("/usr/bin/curl", "curl")],
            None,
        );
    }

    #[test]
    fn children_belong_to_the_tool_in_their_role() {
        below("/usr/bin/bash", "/bin/bash -c ls", Role::Shell);
        below("/usr/bin/dash", "sh script.sh", Role::Shell);
        below("/bin/busybox", "sh -c ls", Role::Shell);
        below("/usr/bin/git", "git fetch", Role::Git);
        below(
            "/usr/lib/git-core/git-remote-https",
            "git-remote-https origin",
            Role::Git,
        );
        below("/usr/bin/node", "npm", Role::PackageManager);
        below(
            "/usr/bin/node",
            "node /usr/bin/npm install x",
            Role::PackageManager,
        );
        below(
            "/usr/bin/node",
            "node /usr/lib/node_modules/npm/bin/npx-cli.js -y x",
            Role::PackageManager,
        );
        below(
            "/usr/bin/python3.11",
            "python3 -m pip install x",
            Role::PackageManager,
        );
        below(
            "/home/u/.cargo/bin/cargo",
            "cargo build",
            Role::PackageManager,
        );
        below(
            "/usr/lib/apt/methods/https",
            "/usr/lib/apt/methods/https",
            Role::PackageManager,
        );
    }

    #[test]
    fn mcp_servers_are_told_from_other_children() {
        let server =
            "node /u/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js /srv";
        below("/usr/bin/node", server, Role::McpServer);
        below(
            "/usr/bin/node",
            "node /usr/local/bin/mcp-server-github",
            Role::McpServer,
        );
        below(
            "/usr/bin/python3",
            "python3 -m mcp_server_git",
            Role::McpServer,
        );
        below(
            "/opt/github-mcp-server",
            "github-mcp-server stdio",
            Role::McpServer,
        );
        let linked = "node /r/node_modules/.bin/mcp-server-x -> /r/node_modules/x/cli.js";
        below("/usr/bin/node", linked, Role::McpServer);
        let package = "/r/node_modules/@modelcontextprotocol/server-x/dist/index.js";
        let linked = format!("node /r/node_modules/.bin/server-x -> {package}");
        below("/usr/bin/node", &linked, Role::McpServer);
        let npm = "node /opt/x/npx -> /usr/lib/node_modules/npm/bin/npx-cli.js";
        below("/usr/bin/node", npm, Role::PackageManager);
        let npm = "node /opt/y -> /usr/lib/node_modules/npm/bin/npm-cli.js";
        below("/usr/bin/node", npm, Role::PackageManager);
        below("/usr/bin/node", "node /srv/mcpherson.js", Role::OtherChild);
        below(
            "/usr/bin/curl",
            "curl https://example.com",
            Role::OtherChild,
        );
        below(
            "/usr/bin/env",
            "env node /usr/local/bin/gemini",
            Role::OtherChild,
        );
    }

    #[test]
    fn the_executable_of_claude_as_a_search_program_is_its_helper() {
        for name in ["rg", "ugrep", "bfs"] {
            let chain = [CLAUDE, BASH, (CLAUDE.0, name)];
            check(
                &chain,
                Some(("claude-code", Role::Helper, "exe-path+lineage", true)),
            );
            check(
                &chain[2..],
                Some(("claude-code", Role::Helper, "exe-path", true)),
            );
        }
    }

    #[test]
    fn what_an_image_shows_itself_wins() {
        check(
            &[CLAUDE, BASH, QODER],
            Some(("qoder-cli", Role::Main, "script", true)),
        );
        let curl = ("/usr/bin/curl", "curl x");
        check(
            &[CLAUDE, BASH, QODER, curl],
            Some(("qoder-cli", Role::OtherChild, "lineage", true)),
        );
    }

    #[test]
    fn a_name_alone_does_not_take_a_process_from_the_tool_that_started_it() {
        #[track_caller]
        fn namesakes(chain: &[(&str, &str)], tool: &str, role: Role, kinds: &str, ids: &[&str]) {
            let trusted = tool == "claude-code";
            check(chain, Some((tool, role, kinds, trusted)));
            let found = last(chain).unwrap();
            let found: Vec<_> = found.namesakes.iter().map(|tool| &*tool.id).collect();
            assert_eq!(found, ids);
        }
        let (claude, other) = ("claude-code", Role::OtherChild);
        let launcher = ("/usr/bin/node", "node /usr/local/bin/qodercli");
        let [codex, fake] = [("/tmp/codex", "codex"), ("/tmp/claude", "claude")];
        let curl = ("/usr/bin/curl", "curl x");
        namesakes(
            &[CLAUDE, codex],
            claude,
            other,
            "lineage+name",
            &["codex-cli"],
        );
        namesakes(
            &[CLAUDE, BASH, launcher],
            claude,
            other,
            "lineage+name",
            &["qoder-cli"],
        );
        // What it starts is neither of its own name nor free of it.
        namesakes(
            &[CLAUDE, codex, curl],
            claude,
            other,
            "lineage",
            &["codex-cli"],
        );
        let both = ["codex-cli", "qoder-cli"];
        namesakes(
            &[CLAUDE, codex, launcher, codex, curl],
            claude,
            other,
            "lineage",
            &both,
        );
        // Nor does one mere name hide another.
        namesakes(
            &[codex, fake],
            "codex-cli",
            other,
            "lineage+name",
            &[claude],
        );
        // A known layout is another matter, and a name that fits adds nothing.
        check(
            &[CLAUDE, codex, QODER],
            Some(("qoder-cli", Role::Main, "script", true)),
        );
        assert_eq!(last(&[CLAUDE, codex, QODER]).unwrap().namesakes, []);
        namesakes(&[CLAUDE, fake], claude, Role::Main, "lineage+name", &[]);
        let name = Evidence::Name {
            name: "qodercli".into(),
        };
        assert_eq!(
            last(&[CLAUDE, launcher]).unwrap().evidence.last(),
            Some(&name)
        );
    }

    #[test]
    fn parts_of_a_tool_that_it_started_keep_the_tool() {
        let helper = (
            "/home/u/.qoder/.bin/runtime-info-linux-x64-0123456789abcdef",
            "runtime-info",
        );
        check(&[helper], Some(("qoder-cli", Role::Helper, "helper", true)));
        check(
            &[QODER, helper],
            Some(("qoder-cli", Role::Helper, "helper+lineage", true)),
        );
        let again = ("/tmp/claude", "claude --worker");
        check(
            &[CLAUDE, again],
            Some(("claude-code", Role::Main, "lineage+name", true)),
        );
        let native = ("/home/u/.qoder/bin/qodercli/qodercli-0.1.47", "qodercli");
        assert_eq!(
            last(&[native, helper]).unwrap().version.as_deref(),
            Some("0.1.47")
        );
    }

    #[test]
    fn lineage_names_the_nearest_ancestor_that_shows_itself() {
        #[track_caller]
        fn ancestor(chain: &[(&str, &str)], expect: (&str, u32)) {
            let found = last(chain).unwrap();
            let lineage = Evidence::Lineage {
                ancestor_exe: expect.0.into(),
                ancestor_pid: expect.1,
            };
            assert!(found.evidence.contains(&lineage), "{:?}", found.evidence);
        }
        let curl = ("/usr/bin/curl", "curl x");
        ancestor(&[CLAUDE, curl], (CLAUDE.0, 100));
        ancestor(&[CLAUDE, BASH, BASH, curl], (CLAUDE.0, 100));
        ancestor(&[CLAUDE, BASH, QODER, BASH, curl], (QODER.0, 102));
        ancestor(&[CLAUDE, BASH, (CLAUDE.0, "rg"), curl], (CLAUDE.0, 102));
    }

    #[test]
    fn the_version_is_read_and_inherited() {
        #[track_caller]
        fn version(chain: &[(&str, &str)], expect: Option<&str>) {
            assert_eq!(last(chain).unwrap().version.as_deref(), expect);
        }
        version(&[CLAUDE], Some("2.1.328"));
        version(
            &[CLAUDE, BASH, ("/usr/bin/curl", "curl x")],
            Some("2.1.328"),
        );
        version(&[QODER], None);
        version(&[CLAUDE, BASH, QODER], None);
    }

    #[test]
    fn the_package_tells_the_version_of_its_own_tool_only() {
        #[track_caller]
        fn version(exe: &str, command: &str, expect: Option<&str>) {
            let found = last(&[(exe, command)]).unwrap();
            assert_eq!(found.version.as_deref(), expect);
        }
        let (node, claude) = ("/usr/bin/node", "/l/node_modules/@anthropic-ai/claude-code");
        let command = format!("node {claude}/cli.js @ 2.1.91");
        version(node, &command, Some("2.1.91"));
        let command = format!("node /usr/local/bin/claude -> {claude}/cli.js @ 2.1.91");
        version(node, &command, Some("2.1.91"));
        let native = format!("{claude}/bin/claude.exe");
        version(&native, "claude @ 2.1.328", Some("2.1.328"));
        // Of the package that an executable comes from, and not of what an interpreter runs.
        let qoder = "/usr/share/qoder/qoder";
        version(qoder, "qoder @ 0.14.1", Some("0.14.1"));
        let node = "/home/u/.local/share/cursor-agent/versions/current/node";
        version(node, "node /l/node_modules/x/y.js @ 1.2", None);
        let node = "/usr/bin/node";
        // Not in the place of a tool's package.
        version(
            node,
            "node /usr/local/bin/gemini -> /l/node_modules/x/y.js @ 1.2",
            None,
        );
        version(CLAUDE.0, "claude @ 9.9", Some("2.1.328"));
        // No version.
        for text in ["latest", "1 2", "", &"1".repeat(49)] {
            version(node, &format!("node {claude}/cli.js @ {text}"), None);
        }
    }
}

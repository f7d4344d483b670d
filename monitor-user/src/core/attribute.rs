//! Which AI tool a process belongs to, and why we say so.
//!
//! In: a program image (exe path, argv), its parent's attribution, the catalog.
//! Out: an [`Attribution`] with its evidence, strongest first, or `None`.

use std::sync::Arc;

use super::catalog::program::{Interpreter, Program, Target, base_name};
use super::catalog::recogniser::{Part, Recognition, Sign};
use super::catalog::{Catalog, Tool};

/// A process's membership in an AI tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// The tool, from the catalog.
    pub tool: Arc<Tool>,
    /// Its version where the path says so; `None` is "unknown".
    pub version: Option<Arc<str>>,
    /// What the process does for the tool.
    pub role: Role,
    /// Why, strongest first; never empty.
    pub evidence: Vec<Evidence>,
    /// The evidence is a known layout (or descent from one). `false`: a name alone, which
    /// counts towards a ban and never towards an allowance.
    pub trusted: bool,
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
    /// No tool is known: a program that reaches an AI provider.
    Unidentified,
}

impl Role {
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
    /// An argument at exec is a script path that matches a glob of the catalog.
    Script {
        /// The glob.
        glob: Arc<str>,
        /// The argument.
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
    /// Only its name is that of the tool.
    Name {
        /// The name.
        name: Arc<str>,
    },
    /// It reaches an endpoint of this provider.
    Endpoint {
        /// The host name.
        host: Arc<str>,
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
            Evidence::Name { .. } => "name",
            Evidence::Endpoint { .. } => "endpoint",
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

/// Attribution of a new image given its own path and argv and its parent's attribution.
///
/// What the image shows itself wins: a Qoder that a Claude's shell starts is Qoder's. Else it is
/// the tool's that started it, in the role that its program has there.
#[must_use]
pub fn attribute(
    catalog: &Catalog,
    exe: &str,
    args: &[String],
    parent: Option<Ancestor<'_>>,
) -> Option<Attribution> {
    let own = catalog.recognise(exe, args);
    let inherited = parent.and_then(|parent| inherit(parent, exe, args));
    match (own, inherited) {
        (Some(own), Some(inherited)) if own.tool.id == inherited.tool.id => {
            Some(join(own, inherited))
        }
        (Some(own), _) => Some(Attribution::from(own)),
        (None, inherited) => inherited,
    }
}

/// The parent's tool, seen from its child.
fn inherit(parent: Ancestor<'_>, exe: &str, args: &[String]) -> Option<Attribution> {
    let of_parent = parent
        .attribution
        .filter(|known| known.role != Role::Unidentified)?;
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
        role: role_below(exe, args),
        evidence: vec![lineage],
        trusted: of_parent.trusted,
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
    joined.evidence.extend(inherited.evidence);
    if !own_is_stronger {
        joined.evidence.reverse();
    }
    joined
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
        }
    }
}

/// Programs that contain others, and tell which by argv[0].
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
fn role_below(exe: &str, args: &[String]) -> Role {
    let program = Program::of(exe, args, |_| false);
    let name = if MULTI_CALL.contains(&program.name) {
        program.alias
    } else {
        program.name
    };
    if Interpreter::of(name) == Some(Interpreter::Shell) {
        return Role::Shell;
    }
    let (run, package) = match &program.target {
        Some(Target::Script(path)) => (stem(base_name(path)), npm_package(path)),
        Some(Target::Module(module)) => (*module, None),
        // A process may have put its title into argv[0].
        None if program.interpreter.is_some() => (program.alias, None),
        None => (name, None),
    };
    if run == "git" || run.starts_with("git-") {
        Role::Git
    } else if PACKAGE_MANAGERS.contains(&run) || exe.contains(APT_METHODS) {
        Role::PackageManager
    } else if says_mcp(run) || package.is_some_and(says_mcp) {
        Role::McpServer
    } else {
        Role::OtherChild
    }
}

/// The file name without its last extension.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The npm package that a script lies in: `@scope/name` or `name`.
fn npm_package(path: &str) -> Option<&str> {
    let (_, inside) = path.rsplit_once("node_modules/")?;
    let scope = if inside.starts_with('@') {
        inside.find('/')? + 1
    } else {
        0
    };
    let end = inside[scope..].find('/')?;
    Some(&inside[..scope + end])
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
    /// tool, role, kinds of evidence, trust.
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
            let found = attribute(&CATALOG, exe, &words(command), ancestor);
            parent = Some((exe, pid, found.map(Arc::new)));
        }
        parent?.2
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
        let named = ("/usr/bin/node", "node /usr/local/bin/qodercli");
        check(
            &[CLAUDE, BASH, named],
            Some(("qoder-cli", Role::Main, "script", false)),
        );
        check(
            &[CLAUDE, BASH, named, curl],
            Some(("qoder-cli", Role::OtherChild, "lineage", false)),
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
    fn nothing_descends_from_an_unidentified_program() {
        let tool = Arc::clone(CATALOG.tool("claude-code").unwrap());
        let parent = Arc::new(Attribution {
            tool,
            version: None,
            role: Role::Unidentified,
            evidence: vec![Evidence::Endpoint {
                host: "api.anthropic.com".into(),
            }],
            trusted: false,
        });
        let ancestor = Ancestor {
            exe: "/usr/bin/curl",
            pid: 7,
            attribution: Some(&parent),
        };
        assert_eq!(
            attribute(&CATALOG, "/usr/bin/true", &words("true"), Some(ancestor)),
            None
        );
    }
}

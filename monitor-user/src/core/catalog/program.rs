//! What a process runs, read off its executable's path and its argv.
//!
//! In: an [`Image`], as its exec showed it. Out: the program's name, and for an interpreter the
//! script or the module.

use std::borrow::Cow;

/// A program image, as its exec showed it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Image<'a> {
    /// Absolute path of the executable.
    pub exe: &'a str,
    /// argv.
    pub args: &'a [String],
    /// Where the script lies that argv names, absolute and without links, if that is not what
    /// argv says. `None` is also "unknown".
    pub script: Option<&'a str>,
    /// Version of the npm package that the script, or else the executable, lies in; of a native
    /// executable of a tool, that of whatever package it comes from.
    pub package_version: Option<&'a str>,
}

/// Whether the executable with this file name reads scripts.
#[must_use]
pub fn is_interpreter(name: &str) -> bool {
    Interpreter::of(name).is_some()
}

/// The argument that names the script that the executable `exe` runs, as it stands in `args`.
#[must_use]
pub fn script_argument<'a>(exe: &str, args: &'a [String]) -> Option<&'a str> {
    match Interpreter::of(base_name(exe))?.argument(args.get(1..)?)? {
        Argument::Script(path) => Some(path),
        Argument::Module(_) => None,
    }
}

/// The folder of the npm package that a path leads into, and the package's name: `@scope/name`
/// or `name`.
#[must_use]
pub fn npm_package(path: &str) -> Option<(&str, &str)> {
    let start = path.rfind("node_modules/")? + "node_modules/".len();
    let inside = path.get(start..)?;
    let scope = if inside.starts_with('@') {
        inside.find('/')? + 1
    } else {
        0
    };
    let end = scope + inside.get(scope..)?.find('/')?;
    Some((path.get(..start + end)?, inside.get(..end)?))
}

/// What a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::core) struct Program<'a> {
    /// File name of the executable.
    pub(in crate::core) name: &'a str,
    /// `argv[0]` without folders, and only its first word: a process may put a title there.
    pub(in crate::core) alias: &'a str,
    /// What runs scripts among the executables, and how.
    pub(in crate::core) interpreter: Option<Interpreter>,
    /// What an interpreter was told to run.
    pub(in crate::core) target: Option<Target<'a>>,
    /// Where the script really lies, if that is another path than the target.
    pub(in crate::core) resolved: Option<&'a str>,
}

/// A family of interpreters: they read their options the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Interpreter {
    /// Node, Bun, Deno, and programs that contain one.
    JavaScript,
    /// Python.
    Python,
    /// A POSIX shell or one like it.
    Shell,
}

/// What an interpreter was told to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::core) enum Target<'a> {
    /// A file, its path without `.`, `..` and empty components.
    Script(Cow<'a, str>),
    /// A Python module.
    Module(&'a str),
}

/// The argument that tells an interpreter what to run.
enum Argument<'a> {
    Script(&'a str),
    Module(&'a str),
}

/// Shells, by file name.
const SHELLS: [&str; 9] = [
    "sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "tcsh", "zsh",
];

impl<'a> Program<'a> {
    /// What `image` runs. `is_runtime` knows further programs that run JavaScript.
    pub(in crate::core) fn of(image: Image<'a>, is_runtime: impl Fn(&str) -> bool) -> Self {
        let args = image.args;
        let name = base_name(image.exe);
        let alias = args.first().map_or("", |first| base_name(first));
        let alias = alias.split_whitespace().next().unwrap_or_default();
        let interpreter =
            Interpreter::of(name).or_else(|| is_runtime(name).then_some(Interpreter::JavaScript));
        let argument = interpreter.and_then(|kind| kind.argument(args.get(1..)?));
        let target = argument.map(|argument| match argument {
            Argument::Script(path) => Target::Script(normal(path)),
            Argument::Module(module) => Target::Module(module),
        });
        let runs_script = matches!(target, Some(Target::Script(_)));
        Program {
            name,
            alias,
            interpreter,
            target,
            resolved: image.script.filter(|_| runs_script),
        }
    }

    /// The script, if it runs one: where it lies, as far as that is known, else what argv says.
    pub(in crate::core) fn script(&self) -> Option<&str> {
        self.resolved.or_else(|| self.named_script())
    }

    /// The script as argv names it.
    pub(in crate::core) fn named_script(&self) -> Option<&str> {
        match &self.target {
            Some(Target::Script(path)) => Some(path),
            _ => None,
        }
    }
}

/// The last component of a path.
pub(in crate::core) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

impl Interpreter {
    /// The family of an executable, by its file name.
    pub(in crate::core) fn of(name: &str) -> Option<Interpreter> {
        let versioned = |stem: &str| {
            let rest = name.strip_prefix(stem)?;
            rest.bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
                .then_some(())
        };
        if ["node", "nodejs", "bun", "deno"]
            .into_iter()
            .any(|stem| versioned(stem).is_some())
        {
            Some(Interpreter::JavaScript)
        } else if ["python", "pypy"]
            .into_iter()
            .any(|stem| versioned(stem).is_some())
        {
            Some(Interpreter::Python)
        } else {
            SHELLS.contains(&name).then_some(Interpreter::Shell)
        }
    }

    /// Which of the arguments after `argv[0]` tells it what to run.
    fn argument(self, args: &[String]) -> Option<Argument<'_>> {
        let mut args = args.iter().map(String::as_str).peekable();
        if self == Interpreter::JavaScript && args.peek() == Some(&"run") {
            args.next();
        }
        while let Some(arg) = args.next() {
            match self.meaning(arg) {
                Meaning::Script => return Some(Argument::Script(arg)),
                Meaning::ScriptIsNext => return args.next().map(Argument::Script),
                Meaning::ModuleIsNext => return args.next().map(Argument::Module),
                Meaning::NoScript => return None,
                Meaning::TakesNext => _ = args.next(),
                Meaning::Flag => {}
            }
        }
        None
    }

    fn meaning(self, arg: &str) -> Meaning {
        let short = arg.starts_with('-') && !arg.starts_with("--");
        match (self, arg) {
            (_, "-" | "") => Meaning::NoScript,
            (_, "--") => Meaning::ScriptIsNext,
            (Interpreter::JavaScript, "-e" | "-p" | "-pe" | "--eval" | "--print") => {
                Meaning::NoScript
            }
            (Interpreter::JavaScript, option) if JAVASCRIPT_TAKES_NEXT.contains(&option) => {
                Meaning::TakesNext
            }
            (Interpreter::Python, "-W" | "-X" | "--check-hash-based-pycs") => Meaning::TakesNext,
            (Interpreter::Python, _) if arg.starts_with("-W") || arg.starts_with("-X") => {
                Meaning::Flag
            }
            (Interpreter::Python, _) if short && arg.ends_with('m') => Meaning::ModuleIsNext,
            (Interpreter::Python, _) if short && arg.ends_with('c') => Meaning::NoScript,
            (Interpreter::Shell, "-o" | "+o" | "-O" | "+O" | "--rcfile" | "--init-file") => {
                Meaning::TakesNext
            }
            (Interpreter::Shell, _) if short && arg.contains(['c', 's']) => Meaning::NoScript,
            _ if arg.starts_with('-') || arg.starts_with('+') => Meaning::Flag,
            _ => Meaning::Script,
        }
    }
}

/// Options whose value is the next argument. Others that take one are written `--option=value`.
const JAVASCRIPT_TAKES_NEXT: [&str; 15] = [
    "-r",
    "--require",
    "--import",
    "--preload",
    "--loader",
    "--experimental-loader",
    "--env-file",
    "-C",
    "--conditions",
    "--title",
    "--stack-trace-limit",
    "--max-http-header-size",
    "--icu-data-dir",
    "--openssl-config",
    "--cwd",
];

/// What an argument means to an interpreter that has not found its script yet.
enum Meaning {
    Script,
    ScriptIsNext,
    ModuleIsNext,
    NoScript,
    TakesNext,
    Flag,
}

/// The path without `.`, `..` and empty components, as npm's and pnpm's launchers write them
/// (`…/.bin/../pkg/cli.js`). Links are not followed here: the core reads no files.
fn normal(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && !path.contains("./") {
        return Cow::Borrowed(path);
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => _ = kept.pop(),
            ".." if !root.is_empty() => {}
            _ => kept.push(part),
        }
    }
    Cow::Owned(format!("{root}{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, expect: Option<Target<'_>>) {
        let args: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let exe = format!("/usr/bin/{}", args[0]);
        let image = Image {
            exe: &exe,
            args: &args,
            ..Image::default()
        };
        assert_eq!(Program::of(image, |name| name == "code").target, expect);
    }

    fn script(path: &str) -> Option<Target<'_>> {
        Some(Target::Script(path.into()))
    }

    #[test]
    fn the_script_is_the_first_argument_that_is_no_option() {
        check("node /a/cli.js --flag /b.js", script("/a/cli.js"));
        check(
            "node --require /hook.js --max-old-space-size=4096 /a/cli.js",
            script("/a/cli.js"),
        );
        check("node -r /hook.js -- /a/cli.js", script("/a/cli.js"));
        check("bun run /a/cli.js", script("/a/cli.js"));
        check("deno run -A /a/cli.ts", script("/a/cli.ts"));
        check(
            "python3.11 -W ignore -Xdev /usr/bin/aider",
            script("/usr/bin/aider"),
        );
        check("bash -eu -o pipefail /a/junie", script("/a/junie"));
        check("code /a/ext/main.js", script("/a/ext/main.js"));
    }

    #[test]
    fn where_no_script_is_named_there_is_none() {
        check("node -e 1 /a/cli.js", None);
        check("node", None);
        check("node - /a/cli.js", None);
        check("python3 -c pass /a/cli.py", None);
        check("python3 -Sc pass /a/cli.py", None);
        check("bash -c true /a/cli.sh", None);
        check("bash -lc true", None);
        check("curl /a/cli.js", None);
        check("nodemon /a/cli.js", None);
    }

    #[test]
    fn a_python_module_is_found() {
        check("python3 -m pip install x", Some(Target::Module("pip")));
        check(
            "python3 -Im mcp_server_git",
            Some(Target::Module("mcp_server_git")),
        );
    }

    #[test]
    fn paths_are_brought_to_normal_form() {
        check(
            "node /p/node_modules/.bin/../pkg/cli.js",
            script("/p/node_modules/pkg/cli.js"),
        );
        check("node ./a//b/./cli.js", script("a/b/cli.js"));
        check("node ../../x/cli.js", script("../../x/cli.js"));
        check("node /../x/cli.js", script("/x/cli.js"));
    }

    #[test]
    fn argv0_may_be_a_title() {
        let args = ["claude daemon".to_owned()];
        let image = Image {
            exe: "/usr/bin/node",
            args: &args,
            ..Image::default()
        };
        let program = Program::of(image, |_| false);
        assert_eq!((program.name, program.alias), ("node", "claude"));
    }

    #[test]
    fn the_argument_is_given_as_it_stands() {
        #[track_caller]
        fn check(exe: &str, command: &str, expect: Option<&str>) {
            let args: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(script_argument(exe, &args), expect);
        }
        check(
            "/usr/bin/node",
            "node ../.bin//x.js /y",
            Some("../.bin//x.js"),
        );
        check("/bin/dash", "sh -e ./x", Some("./x"));
        check("/usr/bin/python3", "python3 -m pip", None);
        check("/usr/bin/cc1", "cc1 x.c", None);
        check("/usr/bin/node", "node", None);
        check("", "node x", None);
    }

    #[test]
    fn the_innermost_package_is_the_one() {
        #[track_caller]
        fn check(path: &str, expect: Option<(&str, &str)>) {
            assert_eq!(npm_package(path), expect);
        }
        check(
            "/l/node_modules/npm/bin/npm-cli.js",
            Some(("/l/node_modules/npm", "npm")),
        );
        check(
            "/l/node_modules/a/node_modules/@s/b/x/y.js",
            Some(("/l/node_modules/a/node_modules/@s/b", "@s/b")),
        );
        check("/l/node_modules/x.js", None);
        check("/l/node_modules/@s/x.js", None);
        check("/l/node_modules/", None);
        check("/l/x.js", None);
    }
}

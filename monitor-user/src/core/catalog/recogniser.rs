//! Which tool a program is, by its own path and argv.
//!
//! In: the facts of all tools, compiled once; then programs. Out: [`Recognition`]s.

use std::collections::HashSet;
use std::sync::Arc;

use super::Tool;
use super::facts::ToolFacts;
use super::path::{PathGlob, PathMatch, PathTable};
use super::program::{Interpreter, Program, Target, base_name};

/// Which tool a program is, and how that shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognition {
    /// The tool.
    pub tool: Arc<Tool>,
    /// Which part of it.
    pub part: Part,
    /// Its version where the path says so.
    pub version: Option<Arc<str>>,
    /// How it shows.
    pub sign: Sign,
    /// The sign is a known layout. `false`: a name alone.
    pub trusted: bool,
}

/// Which part of a tool a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The tool itself.
    Main,
    /// A program that ships with it.
    Helper,
}

/// How a program shows which tool it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Its executable matches a glob.
    Exe {
        /// The glob.
        glob: Arc<str>,
    },
    /// The script that it runs matches a glob.
    Script {
        /// The glob.
        glob: Arc<str>,
        /// The script.
        path: Arc<str>,
    },
    /// Its executable matches the glob of a helper.
    Helper {
        /// The glob.
        glob: Arc<str>,
    },
    /// It bears the tool's name.
    Name {
        /// The name.
        name: Arc<str>,
    },
}

/// The recognisers of all tools.
#[derive(Clone, Debug)]
pub(super) struct Recogniser {
    helpers: PathTable<Arc<Known>>,
    exes: PathTable<Arc<Known>>,
    scripts: PathTable<Arc<Known>>,
    launchers: PathTable<Arc<Known>>,
    names: PathTable<Arc<Known>>,
    runtimes: HashSet<String>,
}

/// What matters of a tool whose glob matched.
#[derive(Debug)]
struct Known {
    tool: Arc<Tool>,
    applets: Vec<String>,
    runtimes: Vec<String>,
}

type Found<'a> = PathMatch<'a, Arc<Known>>;

impl Recogniser {
    /// # Errors
    ///
    /// All globs together are more than can be compiled.
    pub(super) fn new(tools: &[ToolFacts]) -> Result<Self, globset::Error> {
        let known: Vec<_> = tools
            .iter()
            .map(|facts| (facts, Arc::new(Known::of(facts))))
            .collect();
        let table = |globs: fn(&ToolFacts) -> Vec<&PathGlob>| {
            let of_tool = |(facts, known): &(&ToolFacts, Arc<Known>)| {
                let entry = |glob: &PathGlob| (glob.clone(), Arc::clone(known));
                globs(facts).into_iter().map(entry).collect::<Vec<_>>()
            };
            PathTable::new(known.iter().flat_map(of_tool).collect())
        };
        let runtimes = |facts: &ToolFacts| facts.recognisers.runtimes.clone();
        Ok(Recogniser {
            helpers: table(|facts| facts.helpers.iter().map(|helper| &helper.glob).collect())?,
            exes: table(|facts| facts.recognisers.exe.iter().collect())?,
            scripts: table(|facts| facts.recognisers.script.iter().collect())?,
            launchers: table(|facts| facts.recognisers.launcher.iter().collect())?,
            names: table(|facts| facts.recognisers.names.iter().collect())?,
            runtimes: tools.iter().flat_map(runtimes).collect(),
        })
    }

    /// The strongest sign there is.
    pub(super) fn recognise(&self, exe: &str, args: &[String]) -> Option<Recognition> {
        let program = Program::of(exe, args, |name| self.runtimes.contains(name));
        let by_exe = || self.exes.find(exe).map(|found| of_exe(found, &program));
        let by_script = || self.by_script(&self.scripts, &program, true);
        let by_layout = || {
            // An interpreter is what it runs: its script tells more than its own place.
            match Interpreter::of(program.name) {
                Some(_) => by_script().or_else(by_exe),
                None => by_exe().or_else(by_script),
            }
        };
        let by_launcher = || self.by_script(&self.launchers, &program, false);
        let helper = self.helpers.find(exe).map(|found| of_helper(&found));
        helper
            .or_else(by_layout)
            .or_else(by_launcher)
            .or_else(|| self.by_name(&program))
    }

    fn by_script(
        &self,
        globs: &PathTable<Arc<Known>>,
        program: &Program<'_>,
        trusted: bool,
    ) -> Option<Recognition> {
        let path = program.script()?;
        let found = globs.find(path)?;
        let runs_it = Interpreter::of(program.name).is_some()
            || found
                .value
                .runtimes
                .iter()
                .any(|runtime| runtime == program.name);
        let sign = Sign::Script {
            glob: Arc::clone(&found.glob.text),
            path: path.into(),
        };
        runs_it.then(|| recognition(&found, Part::Main, sign, trusted))
    }

    /// The executable, the script or argv[0] bears a tool's name.
    fn by_name(&self, program: &Program<'_>) -> Option<Recognition> {
        let target = match &program.target {
            Some(Target::Script(path)) => base_name(path),
            Some(Target::Module(module)) => module.split('.').next().unwrap_or_default(),
            None => "",
        };
        let named = |name: &str| {
            let found = self.names.find(name)?;
            Some(recognition(
                &found,
                Part::Main,
                Sign::Name { name: name.into() },
                false,
            ))
        };
        [program.name, target, program.alias]
            .into_iter()
            .find_map(named)
    }
}

impl Known {
    fn of(facts: &ToolFacts) -> Self {
        Known {
            tool: Arc::clone(&facts.tool),
            applets: facts.recognisers.applets.clone(),
            runtimes: facts.recognisers.runtimes.clone(),
        }
    }
}

fn of_exe(found: Found<'_>, program: &Program<'_>) -> Recognition {
    let is_applet = found
        .value
        .applets
        .iter()
        .any(|applet| applet == program.alias);
    let part = if is_applet { Part::Helper } else { Part::Main };
    recognition(
        &found,
        part,
        Sign::Exe {
            glob: Arc::clone(&found.glob.text),
        },
        true,
    )
}

fn of_helper(found: &Found<'_>) -> Recognition {
    recognition(
        found,
        Part::Helper,
        Sign::Helper {
            glob: Arc::clone(&found.glob.text),
        },
        true,
    )
}

fn recognition(found: &Found<'_>, part: Part, sign: Sign, trusted: bool) -> Recognition {
    let (tool, version) = (Arc::clone(&found.value.tool), found.version.clone());
    Recognition {
        tool,
        part,
        version,
        sign,
        trusted,
    }
}

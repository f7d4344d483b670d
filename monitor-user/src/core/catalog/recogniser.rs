//! Which tool a program is, by its own path, argv and script.
//!
//! In: the facts of all tools, compiled once; then programs. Out: [`Recognition`]s.

use std::collections::HashSet;
use std::sync::Arc;

use super::Tool;
use super::facts::ToolFacts;
use super::path::{PathGlob, PathMatch, PathTable};
use super::program::{Image, Interpreter, Program, Target, base_name};
use super::version::looks_like_version;

/// Which tool a program is, and how that shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognition {
    /// The tool.
    pub tool: Arc<Tool>,
    /// Which part of it.
    pub part: Part,
    /// Its version where the path, or the npm package that the glob names, says so.
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
    /// Tools that editors hold, each with these editors.
    ides: Vec<(Arc<Tool>, PathTable<()>)>,
    runtimes: HashSet<String>,
}

/// What matters of a tool whose glob matched.
#[derive(Debug)]
struct Known {
    tool: Arc<Tool>,
    applets: Vec<String>,
    runtimes: Vec<String>,
}

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
        let ides = tools
            .iter()
            .filter(|facts| !facts.recognisers.ide.is_empty());
        let ides = ides.map(|facts| {
            let globs = facts.recognisers.ide.iter().cloned();
            let table = PathTable::new(globs.map(|glob| (glob, ())).collect())?;
            Ok((Arc::clone(&facts.tool), table))
        });
        let runtimes = |facts: &ToolFacts| facts.recognisers.runtimes.clone();
        Ok(Recogniser {
            helpers: table(|facts| facts.helpers.iter().map(|helper| &helper.glob).collect())?,
            exes: table(|facts| facts.recognisers.exe.iter().collect())?,
            scripts: table(|facts| facts.recognisers.script.iter().collect())?,
            launchers: table(|facts| facts.recognisers.launcher.iter().collect())?,
            names: table(|facts| facts.recognisers.names.iter().collect())?,
            ides: ides.collect::<Result<_, globset::Error>>()?,
            runtimes: tools.iter().flat_map(runtimes).collect(),
        })
    }

    /// The strongest sign there is.
    pub(super) fn recognise(&self, image: Image<'_>) -> Option<Recognition> {
        let program = Program::of(image, |name| self.runtimes.contains(name));
        let exe = image.exe;
        let by_exe = || self.exes.find(exe).map(|found| of_exe(found, &program));
        let by_script = || by_script(&self.scripts, &program, program.script()?, true);
        let by_layout = || {
            // An interpreter is what it runs: its script tells more than its own place.
            match Interpreter::of(program.name) {
                Some(_) => by_script().or_else(by_exe),
                None => by_exe().or_else(by_script),
            }
        };
        let helper = self.helpers.find(exe).map(|found| of_helper(&found));
        let by_layout = helper.or_else(by_layout).map(|found| Recognition {
            version: found
                .version
                .clone()
                .or_else(|| found.version_of_package(image, &program)),
            ..found
        });
        by_layout
            .or_else(|| self.by_launcher(&program))
            .or_else(|| self.by_name(&program))
    }

    /// Whether the executable's path shows the tool, or a helper of it, and no version.
    pub(super) fn lacks_version(&self, exe: &str) -> bool {
        let own = self.helpers.find(exe).or_else(|| self.exes.find(exe));
        own.is_some_and(|found| found.version.is_none())
    }

    /// The tools that the program `exe` holds among other things, each with the glob that says so.
    pub(super) fn held_by(&self, exe: &str) -> impl Iterator<Item = (&Arc<Tool>, &Arc<str>)> {
        self.ides
            .iter()
            .filter_map(move |(tool, globs)| Some((tool, &globs.find(exe)?.glob.text)))
    }

    /// The script lies where a tool's launcher does, or is called by a path that is a tool's and
    /// leads to another script.
    fn by_launcher(&self, program: &Program<'_>) -> Option<Recognition> {
        let paths = [program.resolved, program.named_script()];
        let of = |globs| {
            let mut paths = paths.into_iter().flatten();
            paths.find_map(|path| by_script(globs, program, path, false))
        };
        of(&self.scripts).or_else(|| of(&self.launchers))
    }

    /// The executable, the script or `argv[0]` bears a tool's name.
    fn by_name(&self, program: &Program<'_>) -> Option<Recognition> {
        let target = match &program.target {
            Some(Target::Script(path)) => base_name(path),
            Some(Target::Module(module)) => module.split('.').next().unwrap_or_default(),
            None => "",
        };
        let resolved = program.resolved.map_or("", base_name);
        let named = |name: &str| {
            let found = self.names.find(name)?;
            Some(recognition(
                &found,
                Part::Main,
                Sign::Name { name: name.into() },
                false,
            ))
        };
        [program.name, resolved, target, program.alias]
            .into_iter()
            .find_map(named)
    }
}

/// The tool, one of whose globs matches the script at `path`, if `program` runs its scripts.
fn by_script(
    globs: &PathTable<Arc<Known>>,
    program: &Program<'_>,
    path: &str,
    trusted: bool,
) -> Option<Recognition> {
    let found = globs.find(path)?;
    let runtimes = &found.value.runtimes;
    let runs_it = Interpreter::of(program.name).is_some()
        || runtimes.iter().any(|runtime| runtime == program.name);
    let sign = Sign::Script {
        glob: Arc::clone(&found.glob.text),
        path: path.into(),
    };
    runs_it.then(|| recognition(&found, Part::Main, sign, trusted))
}

impl Recognition {
    /// What the package says of its version, if it is the tool's own: the npm package that the glob
    /// names, or the package of an executable that runs nothing else.
    fn version_of_package(&self, image: Image<'_>, program: &Program<'_>) -> Option<Arc<str>> {
        let (glob, is_native) = match &self.sign {
            Sign::Exe { glob } | Sign::Helper { glob } => (glob, program.target.is_none()),
            Sign::Script { glob, .. } => (glob, false),
            Sign::Name { .. } => return None,
        };
        let version = image.package_version.filter(|it| looks_like_version(it))?;
        (is_native || glob.contains("/node_modules/")).then(|| version.into())
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

fn of_exe(found: PathMatch<'_, Arc<Known>>, program: &Program<'_>) -> Recognition {
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

fn of_helper(found: &PathMatch<'_, Arc<Known>>) -> Recognition {
    recognition(
        found,
        Part::Helper,
        Sign::Helper {
            glob: Arc::clone(&found.glob.text),
        },
        true,
    )
}

fn recognition(
    found: &PathMatch<'_, Arc<Known>>,
    part: Part,
    sign: Sign,
    trusted: bool,
) -> Recognition {
    let (tool, version) = (Arc::clone(&found.value.tool), found.version.clone());
    Recognition {
        tool,
        part,
        version,
        sign,
        trusted,
    }
}

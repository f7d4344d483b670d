//! What exec records cannot tell: where a script really lies, and which version its package has.
//!
//! In: exec records as the kernel wrote them. Out: the same records, completed from the file
//! system. npm's launchers are links, so `node /usr/local/bin/gemini` shows a link, and only the
//! file system knows which package it leads to.
//!
//! Only interpreters that are given a script, executables in npm packages, and executables that the
//! catalog knows without their version, are looked up: what an argument means is for the core to
//! say, and what follows from a path as well. The
//! answer is how the files are some milliseconds after the exec; a process that is gone by then
//! may leave no answer, and its record stays as it was.
//!
//! A file system may hang (a server that is away, a FUSE program that is stopped), and the monitor
//! must not. So a thread of its own asks, and records wait for it for a bounded time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use monitor_common::flow::ProcessKey;
use monitor_common::limits::{SCRIPT_BYTES, VERSION_BYTES};
use monitor_common::record::{EXEC_ARGS_TRUNCATED, KIND_PROCESS_EXECUTED, ProcessExecuted};
use serde::Deserialize;
use zerocopy::{FromBytes, IntoBytes};

use super::asker::Asker;
use crate::core::catalog::Catalog;
use crate::core::catalog::program::{is_interpreter, npm_package, script_argument};
use crate::core::event::Event;
use crate::host::tree::Tree;
use crate::host::{HostRoot, package};

/// Longest `package.json` that is read: they have a few KiB, and anyone can write a longer one.
const PACKAGE_BYTES_MAX: usize = 256 << 10;

/// The folder of npm packages.
const PACKAGES: &[u8] = b"node_modules";

/// Looks up scripts for the records of one stream.
pub struct Scripts {
    asker: Asker<Question, (ProcessKey, Found)>,
    /// Records that were asked about and not completed yet, with the answer once it is there.
    asked: HashMap<ProcessKey, Option<Found>>,
    skipped: u64,
    /// Knows of which executables the version is wanted.
    catalog: Arc<Catalog>,
}

/// What is to be found out for one record.
#[derive(Debug)]
struct Question {
    process: ProcessKey,
    mount_ns: u32,
    about: Subject,
}

#[derive(Debug, PartialEq)]
enum Subject {
    /// A script, as argv names it.
    Script(String),
    /// An executable in an npm package.
    Executable(String),
    /// An executable of a tool, from whatever package.
    Native(String),
}

/// What was found out; empty where nothing was, or nothing new.
#[derive(Debug, Default, PartialEq)]
struct Found {
    script: Vec<u8>,
    version: Vec<u8>,
}

impl Scripts {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// `/proc` or the root folder cannot be read, or there can be no further thread.
    pub fn start(host: &HostRoot, catalog: Arc<Catalog>) -> anyhow::Result<Scripts> {
        let files = Files {
            own: Tree::open(Path::new("/"))?,
            mount_ns: host.mount_namespace()?,
            host: host.clone(),
        };
        Ok(Scripts::answered_by(catalog, move |question| {
            files.look(question)
        })?)
    }

    /// From now on the catalog is this one.
    pub fn recognise_by(&mut self, catalog: Arc<Catalog>) {
        self.catalog = catalog;
    }

    fn answered_by(
        catalog: Arc<Catalog>,
        answer: impl Fn(&Question) -> Found + Send + 'static,
    ) -> io::Result<Scripts> {
        let asker = Asker::start("scripts", move |question: Question| {
            (question.process, answer(&question))
        })?;
        Ok(Scripts {
            asker,
            asked: HashMap::new(),
            skipped: 0,
            catalog,
        })
    }

    /// Asks what is to be asked about a record, if anything.
    pub fn ask(&mut self, record: &[u8]) {
        let Some(question) = Question::about(record, &self.catalog) else {
            return;
        };
        let process = question.process;
        if self.asker.ask(question) {
            self.asked.entry(process).or_default();
        } else {
            self.skipped += 1;
        }
    }

    /// Waits until everything is answered, `limit` at most. If that is not enough, the questions
    /// of later records are skipped until the thread has caught up, and this no longer waits.
    pub fn wait(&mut self, limit: Duration) {
        let asked = &mut self.asked;
        self.asker.wait(limit, |(process, found)| {
            if let Some(answer) = asked.get_mut(&process) {
                *answer = Some(found);
            }
        });
    }

    /// The record with what was found out about it.
    pub fn complete<'a>(&mut self, record: &'a [u8]) -> Cow<'a, [u8]> {
        let known = executed(record).and_then(|(head, tail)| {
            let answer = self.asked.remove(&head.process)?;
            self.skipped += u64::from(answer.is_none());
            Some(answer?.added(head, tail))
        });
        known.map_or(Cow::Borrowed(record), Cow::Owned)
    }

    /// Records since the last call that stay as they were because the thread was too late or had
    /// too much to do.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

/// An exec record's fixed fields and its tail.
fn executed(record: &[u8]) -> Option<(ProcessExecuted, &[u8])> {
    let (head, tail) = ProcessExecuted::read_from_prefix(record).ok()?;
    (head.header.kind == KIND_PROCESS_EXECUTED).then_some((head, tail))
}

impl Question {
    /// What is to be asked about a record.
    fn about(record: &[u8], catalog: &Catalog) -> Option<Question> {
        let (head, tail) = executed(record)?;
        let path = tail.get(..usize::from(head.path_bytes))?;
        let mut components = path.split(|&byte| byte == 0);
        let file_name = std::str::from_utf8(components.next()?).ok()?;
        let is_packaged =
            is_interpreter(file_name) || components.any(|component| component == PACKAGES);
        let Ok(Event::ProcessExecuted(event)) = Event::decode(record) else {
            return None;
        };
        // Most programs are neither, and cost no more than this.
        if !is_packaged && !catalog.lacks_version(&event.exe) {
            return None;
        }
        let about = match script_argument(&event.exe, &event.args) {
            Some(script) => {
                // The last argument that was kept may be the beginning of a longer one.
                let is_last = event.args.last().is_some_and(|last| last == script);
                if head.flags & EXEC_ARGS_TRUNCATED != 0 && is_last {
                    return None;
                }
                Subject::Script(script.to_owned())
            }
            None if npm_package(&event.exe).is_some() => Subject::Executable(event.exe),
            None if catalog.lacks_version(&event.exe) => Subject::Native(event.exe),
            None => return None,
        };
        Some(Question {
            process: head.process,
            mount_ns: head.mount_ns,
            about,
        })
    }
}

impl Found {
    /// What is longer than a record may hold is as good as not found.
    fn bounded(mut self) -> Found {
        if self.script.len() > SCRIPT_BYTES {
            self.script.clear();
        }
        if self.version.len() > VERSION_BYTES {
            self.version.clear();
        }
        self
    }

    /// The record of these fields and this tail, with what was found at its end.
    fn added(&self, mut head: ProcessExecuted, tail: &[u8]) -> Vec<u8> {
        let kept = usize::from(head.path_bytes) + usize::from(head.args_bytes);
        let tail = tail.get(..kept).unwrap_or(tail);
        let added = self.script.len() + self.version.len();
        let bytes = size_of::<ProcessExecuted>() + tail.len() + added;
        // All of these are bounded far below what their fields can hold.
        head.header.bytes = u32::try_from(bytes).unwrap_or_default();
        head.script_bytes = u16::try_from(self.script.len()).unwrap_or_default();
        head.version_bytes = u16::try_from(self.version.len()).unwrap_or_default();
        [head.as_bytes(), tail, &self.script, &self.version].concat()
    }
}

/// The files that processes see.
struct Files {
    host: HostRoot,
    /// Those that this process sees.
    own: Tree,
    /// Its mount namespace.
    mount_ns: u32,
}

impl Files {
    fn look(&self, question: &Question) -> Found {
        if let Subject::Native(path) = &question.about {
            let version = |tree: &Tree| Ok(package::version(tree, Path::new(path)));
            let version = self.in_namespace(question, version).ok().flatten();
            return Found {
                script: Vec::new(),
                version: version.unwrap_or_default().into_bytes(),
            }
            .bounded();
        }
        let (file, script) = match &question.about {
            Subject::Executable(path) | Subject::Native(path) => (Some(PathBuf::from(path)), None),
            Subject::Script(argument) => {
                let file = self.resolve(question, Path::new(argument)).ok();
                let differs = |file: &PathBuf| file.as_path() != Path::new(argument);
                (file.clone(), file.filter(differs))
            }
        };
        let version = file.and_then(|file| self.version(question, &file));
        let script =
            script.map_or_else(Vec::new, |path| path.into_os_string().into_encoded_bytes());
        Found {
            script,
            version: version.unwrap_or_default().into_bytes(),
        }
        .bounded()
    }

    /// Where a script lies that the process names so.
    fn resolve(&self, question: &Question, argument: &Path) -> io::Result<PathBuf> {
        let pid = question.process.tgid;
        if argument.is_relative() {
            let path = self.host.working_folder(pid)?.join(argument);
            return self.in_namespace(question, |tree| tree.resolve(&path));
        }
        match self.host.tree_of(pid) {
            Ok(tree) => tree.resolve(argument),
            // It is gone, or not to be looked at; its root was most likely the host's.
            Err(_) if question.mount_ns == self.mount_ns => {
                Tree::open(&self.host.0)?.resolve(argument)
            }
            Err(gone) => Err(gone),
        }
    }

    /// The version that the npm package states in which a file lies.
    fn version(&self, question: &Question, file: &Path) -> Option<String> {
        #[derive(Deserialize)]
        struct Package {
            version: String,
        }
        let (folder, _) = npm_package(file.to_str()?)?;
        let path = Path::new(folder).join("package.json");
        let read = |tree: &Tree| tree.read(&path, PACKAGE_BYTES_MAX);
        let text = self.in_namespace(question, read).ok()?;
        Some(serde_json::from_slice::<Package>(&text).ok()?.version)
    }

    /// Does something with the files of the process's mount namespace. There, the paths hold that
    /// the kernel tells: they ignore the root that a process has of its own.
    fn in_namespace<T>(
        &self,
        question: &Question,
        act: impl FnOnce(&Tree) -> io::Result<T>,
    ) -> io::Result<T> {
        if question.mount_ns == self.mount_ns {
            act(&self.own)
        } else {
            act(&self.host.tree_of(question.process.tgid)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::LazyLock;
    use std::sync::mpsc::sync_channel;
    use std::thread;
    use std::time::Instant;

    use super::super::asker::QUESTIONS_MAX;
    use super::*;

    /// The mount namespace of the monitor in the tests.
    const HERE: u32 = 7;
    const PATIENCE: Duration = Duration::from_secs(10);

    fn process(tgid: u32) -> ProcessKey {
        ProcessKey {
            start_ns: 1,
            tgid,
            exec_id: 1,
        }
    }

    fn catalog() -> Arc<Catalog> {
        static CATALOG: LazyLock<Arc<Catalog>> =
            LazyLock::new(|| Arc::new(Catalog::embedded().unwrap()));
        Arc::clone(&CATALOG)
    }

    /// An exec record of process `pid`.
    fn record(pid: u32, mount_ns: u32, exe: &str, args: &[&str]) -> Vec<u8> {
        let mut path: Vec<_> = exe.split('/').skip(1).collect();
        path.reverse();
        let tail = |words: &[&str]| {
            words
                .iter()
                .flat_map(|word| [word, "\0"])
                .collect::<String>()
        };
        let (path, args) = (tail(&path), tail(args));
        let mut head = ProcessExecuted {
            process: process(pid),
            mount_ns,
            path_bytes: u16::try_from(path.len()).unwrap(),
            args_bytes: u16::try_from(args.len()).unwrap(),
            ..ProcessExecuted::default()
        };
        head.header.kind = KIND_PROCESS_EXECUTED;
        [head.as_bytes(), path.as_bytes(), args.as_bytes()].concat()
    }

    /// What a record says of script and version.
    fn said(record: &[u8]) -> (String, String) {
        let Ok(Event::ProcessExecuted(event)) = Event::decode(record) else {
            panic!("no exec record: {record:?}");
        };
        (
            event.script.unwrap_or_default(),
            event.package_version.unwrap_or_default(),
        )
    }

    /// A host whose process 200 has a root of its own, and 100 has not. npm has installed a gemini
    /// below each root.
    fn host() -> (tempfile::TempDir, HostRoot) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let install = |root: &Path, version: &str| {
            let package = root.join("lib/node_modules/@google/gemini-cli");
            std::fs::create_dir_all(package.join("bundle")).unwrap();
            std::fs::create_dir_all(root.join("bin")).unwrap();
            std::fs::write(package.join("bundle/gemini.js"), "").unwrap();
            let text = format!("{{\"name\":\"x\",\"version\":\"{version}\"}}");
            std::fs::write(package.join("package.json"), text).unwrap();
            let link = "../lib/node_modules/@google/gemini-cli/bundle/gemini.js";
            symlink(link, root.join("bin/gemini")).unwrap();
        };
        let chroot = root.join("chroot");
        install(&root, "0.61.0");
        install(&chroot, "0.9.0");
        for path in ["proc/100", "proc/200", "proc/self/ns"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        symlink(format!("mnt:[{HERE}]"), root.join("proc/self/ns/mnt")).unwrap();
        symlink(&root, root.join("proc/100/cwd")).unwrap();
        symlink(&root, root.join("proc/100/root")).unwrap();
        symlink(chroot.join("bin"), root.join("proc/200/cwd")).unwrap();
        symlink(&chroot, root.join("proc/200/root")).unwrap();
        (folder, HostRoot(root))
    }

    /// What is found of an exec; the script's path is from the host's root on.
    #[track_caller]
    fn check(pid: u32, mount_ns: u32, exe: &str, args: &[&str], expect: (&str, &str)) {
        let (_folder, host) = host();
        let mut scripts = Scripts::start(&host, catalog()).unwrap();
        let before = record(pid, mount_ns, exe, args);
        scripts.ask(&before);
        scripts.wait(PATIENCE);
        let after = scripts.complete(&before);
        let (script, version) = said(&after);
        let script = script
            .strip_prefix(host.0.to_str().unwrap())
            .unwrap_or(&script);
        assert_eq!((script, &*version), expect);
        assert_eq!(scripts.take_skipped(), 0);
    }

    const NODE: &str = "/usr/bin/node";
    const GEMINI: &str = "/lib/node_modules/@google/gemini-cli/bundle/gemini.js";

    #[test]
    fn npms_link_leads_to_the_package_and_its_version() {
        check(
            100,
            HERE,
            NODE,
            &["node", "/bin/gemini", "-p"],
            (GEMINI, "0.61.0"),
        );
        check(100, HERE, NODE, &["node", "bin/gemini"], (GEMINI, "0.61.0"));
        check(
            100,
            HERE,
            "/bin/sh",
            &["sh", "-e", "./bin/gemini"],
            (GEMINI, "0.61.0"),
        );
        // Gone already.
        check(
            101,
            HERE,
            NODE,
            &["node", "/bin/gemini"],
            (GEMINI, "0.61.0"),
        );
        check(101, HERE, NODE, &["node", "bin/gemini"], ("", ""));
    }

    #[test]
    fn a_process_may_have_a_root_of_its_own() {
        let inside = format!("/chroot{GEMINI}");
        check(
            200,
            HERE,
            NODE,
            &["node", "/bin/gemini"],
            (&inside, "0.9.0"),
        );
        check(200, HERE, NODE, &["node", "gemini"], (&inside, "0.9.0"));
        // In another mount namespace, and gone already: nothing says which files it saw.
        check(201, 8, NODE, &["node", "/bin/gemini"], ("", ""));
    }

    #[test]
    fn what_argv_says_already_is_not_repeated() {
        let (_folder, host) = host();
        let files = Files {
            own: Tree::open(Path::new("/")).unwrap(),
            mount_ns: HERE,
            host: HostRoot::default(),
        };
        let look = |path: &str| {
            files.look(&Question {
                process: process(u32::MAX),
                mount_ns: HERE,
                about: Subject::Script(host.0.join(path).display().to_string()),
            })
        };
        let expect = Found {
            script: Vec::new(),
            version: b"0.61.0".to_vec(),
        };
        assert_eq!(look(&GEMINI[1..]), expect);
        assert_eq!(look("bin/gemini").version, expect.version);
        assert!(look("bin/gemini").script.ends_with(GEMINI.as_bytes()));
        assert_eq!(look("bin"), Found::default());
    }

    #[test]
    fn an_executable_in_a_package_has_its_version() {
        #[track_caller]
        fn version(path: &str, expect: &str) {
            let (_folder, host) = host();
            let mut scripts = Scripts::start(&host, catalog()).unwrap();
            let exe = host.0.join(path).display().to_string();
            let before = record(100, HERE, &exe, &["gemini", "x"]);
            scripts.ask(&before);
            scripts.wait(PATIENCE);
            let said = said(&scripts.complete(&before));
            assert_eq!(said, (String::new(), expect.to_owned()));
        }
        version("lib/node_modules/@google/gemini-cli/bin/native", "0.61.0");
        version("lib/node_modules/none/bin/native", "");
    }

    #[test]
    fn an_executable_of_a_tool_has_the_version_of_its_package() {
        let (_folder, host) = host();
        let database = host.0.join("var/lib/dpkg");
        std::fs::create_dir_all(database.join("info")).unwrap();
        std::fs::create_dir_all(host.0.join("usr/share/qoder")).unwrap();
        std::fs::write(host.0.join("usr/share/qoder/qoder"), "no ELF").unwrap();
        let status = "Package: qoder\nVersion: 0.14.1-9\n\n";
        std::fs::write(database.join("status"), status).unwrap();
        let list = "/usr/share/qoder\n/usr/share/qoder/qoder\n";
        std::fs::write(database.join("info/qoder.list"), list).unwrap();
        let files = Files {
            own: Tree::open(&host.0).unwrap(),
            mount_ns: HERE,
            host: host.clone(),
        };
        let found = files.look(&Question {
            process: process(100),
            mount_ns: HERE,
            about: Subject::Native("/usr/share/qoder/qoder".into()),
        });
        assert_eq!(found.version, b"0.14.1");
    }

    #[test]
    fn a_package_that_says_no_version_has_none() {
        #[track_caller]
        fn version(text: &[u8], expect: &str) {
            let (_folder, host) = host();
            let package = host
                .0
                .join("lib/node_modules/@google/gemini-cli/package.json");
            std::fs::write(package, text).unwrap();
            let mut scripts = Scripts::start(&host, catalog()).unwrap();
            let before = record(100, HERE, NODE, &["node", "/bin/gemini"]);
            scripts.ask(&before);
            scripts.wait(PATIENCE);
            let (script, version) = said(&scripts.complete(&before));
            assert!(script.ends_with(GEMINI), "{script}");
            assert_eq!(version, expect);
        }
        version(b"{\"version\":\"1.2.3\"}", "1.2.3");
        version(b"{\"version\":1}", "");
        version(b"{}", "");
        version(b"", "");
        version(&[b'['; 10_000], "");
        let long = |bytes: usize| format!("{{\"version\":\"{}\"}}", "1".repeat(bytes));
        version(long(VERSION_BYTES).as_bytes(), &"1".repeat(VERSION_BYTES));
        version(long(VERSION_BYTES + 1).as_bytes(), "");
        let padded = |bytes: usize| [b"{\"version\":\"1\"}", &*vec![b' '; bytes - 15]].concat();
        version(&padded(PACKAGE_BYTES_MAX), "1");
        version(&padded(PACKAGE_BYTES_MAX + 1), "");
    }

    #[track_caller]
    fn check_question(record: &[u8], expect: Option<Subject>) {
        assert_eq!(
            Question::about(record, &catalog()).map(|question| question.about),
            expect
        );
    }

    #[test]
    fn only_scripts_and_packages_are_asked_about() {
        let ask = |exe: &str, args: &[&str], expect: Option<Subject>| {
            check_question(&record(1, HERE, exe, args), expect);
        };
        let script = |path: &str| Some(Subject::Script(path.into()));
        ask(
            NODE,
            &["node", "--require", "/x.js", "/y.js"],
            script("/y.js"),
        );
        ask(
            "/usr/bin/python3.11",
            &["python3", "setup.py"],
            script("setup.py"),
        );
        ask(NODE, &["node", "-e", "1", "/y.js"], None);
        ask("/usr/bin/cc1", &["cc1", "/y.c"], None);
        let exe = "/p/node_modules/x/bin/x";
        ask(exe, &["x", "/y.js"], Some(Subject::Executable(exe.into())));
        ask("/p/node_modules/x", &["x"], None);
        // The catalog knows it, and its path does not say the version.
        let exe = "/usr/share/qoder/qoder";
        ask(exe, &["qoder"], Some(Subject::Native(exe.into())));
        ask("/u/.local/share/claude/versions/2.1.328", &["claude"], None);
        ask("/p/not_node_modules/x/x", &["x"], None);
        check_question(b"", None);
        let mut other = record(1, HERE, NODE, &["node", "/y.js"]);
        other[8] = 3;
        check_question(&other, None);
    }

    #[test]
    fn an_argument_that_may_be_cut_is_not_asked_about() {
        let cut = |args: &[&str]| {
            let whole = record(1, HERE, NODE, args);
            let (mut head, tail) = ProcessExecuted::read_from_prefix(&whole).unwrap();
            head.flags = EXEC_ARGS_TRUNCATED;
            [head.as_bytes(), tail].concat()
        };
        check_question(&cut(&["node", "/y"]), None);
        check_question(
            &cut(&["node", "/y", "/z"]),
            Some(Subject::Script("/y".into())),
        );
    }

    #[test]
    fn records_of_other_kinds_and_unasked_ones_stay_as_they_are() {
        let mut scripts = Scripts::answered_by(catalog(), |_| Found::default()).unwrap();
        let cc = record(1, HERE, "/usr/bin/cc", &["cc"]);
        scripts.ask(&cc);
        scripts.wait(PATIENCE);
        for record in [&cc[..], &cc[..20], b""] {
            assert_eq!(&*scripts.complete(record), record);
        }
        assert_eq!(scripts.take_skipped(), 0);
    }

    #[test]
    fn a_file_system_that_hangs_holds_nothing_up() {
        let (release, held) = sync_channel::<()>(QUESTIONS_MAX);
        let held = std::sync::Mutex::new(held);
        let mut scripts = Scripts::answered_by(catalog(), move |_| {
            let _ = held.lock().unwrap().recv();
            Found {
                script: b"/found".to_vec(),
                version: Vec::new(),
            }
        })
        .unwrap();
        let [first, second, third] = [1, 2, 3].map(|pid| record(pid, HERE, NODE, &["node", "/y"]));
        let asked = Instant::now();
        scripts.ask(&first);
        scripts.wait(Duration::from_millis(20));
        assert_eq!(scripts.complete(&first), first);
        // From now on nothing is asked, and nothing waits.
        for _ in 0..1000 {
            scripts.ask(&second);
            scripts.wait(PATIENCE);
            assert_eq!(scripts.complete(&second), second);
        }
        assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
        assert_eq!(scripts.take_skipped(), 1001);
        assert_eq!(scripts.take_skipped(), 0);
        // The file system is back: the late answer is of no use, the next one is.
        release.send(()).unwrap();
        while scripts.asker.is_behind() {
            thread::sleep(Duration::from_millis(1));
            scripts.wait(PATIENCE);
        }
        assert!(scripts.asked.is_empty());
        release.send(()).unwrap();
        scripts.ask(&third);
        scripts.wait(PATIENCE);
        assert_eq!(said(&scripts.complete(&third)).0, "/found");
        assert_eq!(scripts.take_skipped(), 0);
    }

    #[test]
    fn a_full_queue_skips() {
        let (release, held) = sync_channel::<()>(0);
        let held = std::sync::Mutex::new(held);
        let mut scripts = Scripts::answered_by(catalog(), move |_| {
            let _ = held.lock().unwrap().recv();
            Found::default()
        })
        .unwrap();
        // One more may be with the thread already.
        let asked = u32::try_from(QUESTIONS_MAX).unwrap() + 2;
        for pid in 0..asked {
            scripts.ask(&record(pid, HERE, NODE, &["node", "/y"]));
        }
        assert!((1..=2).contains(&scripts.take_skipped()));
        drop(release); // The rest is answered at once.
        scripts.wait(PATIENCE);
        assert_eq!(scripts.asker.open(), 0);
    }
}

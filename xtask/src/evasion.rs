//! `cargo xtask evasion`: every known way out of a host, and what Telltale says of each.
//!
//! In: names of cases, kernels. Out: what the suite prints, and the results of a whole play under
//! target/evasion; with `--document`, docs/evasion.md from those of this machine's kernel and of
//! each of the others in QEMU. The exit code is 1 if a verdict is less than owed. Playing needs
//! root.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{packages, shell, vm};

const DOCUMENT: &str = "docs/evasion.md";
/// Where the results of the last whole plays are, under the workspace's root.
const FOLDER: &str = "target/evasion";
/// This machine's kernel, among the names of kernels.
const HERE: &str = "here";

const HEAD: &str = "\
# Ways out of a host

<!-- Written by `cargo xtask evasion --document`; edits are lost. -->

Each case below is a small real program in a network namespace.
What really left the host is what the other end of its wire captured; the verdict comes from Telltale's event log and metrics alone.
After every case the kernel's books must balance.

- ATTR: told with the process that did it, by pid and executable, at the address that is on the wire.
- OPENER: told with the process that opened the socket, where another one used it.
- SEEN: told; who did it is not known, or only who has such a socket open.
- DECLARED: not seen; [coverage.md](coverage.md) says so.
- SILENT: nothing. Never enough.
- `–`: this kernel cannot do it.
- Where a kernel lacks the program that settles a case, DECLARED is enough: Telltale then names that gap in its metrics.
- **Bold**: less than owed, or with a fault that is listed below the table.

The column `connect` is what a tracer of the `connect` system call got in the same run on this machine's kernel: bpftrace at `tracepoint:syscalls:sys_enter_connect`.
";

/// What was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// Cases to play; without any, all
    cases: Vec<String>,
    /// Play them on this kernel in QEMU instead of here; may be repeated: two run at a time
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Play nothing, and write the document from the last whole plays here and on each kernel
    #[arg(long, conflicts_with_all = ["cases", "kernels"])]
    document: bool,
}

/// Plays the cases and judges.
///
/// # Errors
/// When something is missing on this machine, and when a verdict is less than owed.
pub fn run(args: &Args) -> Result<()> {
    if args.document {
        return write_document();
    }
    let mut outcomes = Vec::new();
    if args.kernels.is_empty() {
        outcomes.push((HERE.to_owned(), here(&args.cases)?));
    }
    for guest in vm::evasion(&args.kernels, &args.cases)? {
        let outcome = Outcome::new(guest.release, &guest.console, guest.is_success);
        outcomes.push((guest.name, outcome));
    }
    if args.cases.is_empty() {
        for (name, outcome) in &outcomes {
            outcome.save(name)?;
        }
    }
    let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome);
    let outcomes: Vec<Outcome> = outcomes.collect();
    let faults: Vec<String> = outcomes.iter().flat_map(Outcome::faults).collect();
    if !faults.is_empty() {
        bail!("Telltale owes something:\n{}", faults.join("\n"));
    }
    Ok(())
}

/// Writes the document from what was saved.
fn write_document() -> Result<()> {
    let names = [HERE.to_owned()].into_iter().chain(vm::default_kernels());
    let outcomes: Vec<Outcome> = names
        .map(|name| Outcome::load(&name))
        .collect::<Result<_>>()?;
    let path = shell::workspace_root()?.join(DOCUMENT);
    fs::write(&path, document(&outcomes)?).with_context(|| format!("{}", path.display()))?;
    println!("wrote {DOCUMENT}");
    Ok(())
}

/// The file of a kernel's last whole play: a line with its release, then those of the suite.
fn saved(name: &str) -> Result<PathBuf> {
    let folder = shell::workspace_root()?.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    Ok(folder.join(format!("{name}.tsv")))
}

/// What came of a run on one kernel.
struct Outcome {
    kernel: String,
    /// In the order of play.
    results: Vec<Row>,
    is_success: bool,
    /// The last lines of the console.
    ending: Vec<String>,
}

/// Lines of the console that tell why a suite did not come to its end.
const ENDING_LINES: usize = 20;

/// A line of the suite: `RESULT`, then these, separated by tabs.
struct Row {
    name: String,
    what: String,
    owed: String,
    /// Starts with `!` if it is less than owed.
    got: String,
    tracer: String,
    notes: String,
}

impl Outcome {
    fn new(kernel: String, console: &str, is_success: bool) -> Outcome {
        let results: Vec<Row> = console.lines().filter_map(row).collect();
        let backwards = console.lines().rev().take(ENDING_LINES);
        let mut ending: Vec<String> = backwards.map(str::to_owned).collect();
        ending.reverse();
        Outcome {
            kernel,
            is_success: is_success && !results.is_empty(),
            results,
            ending,
        }
    }

    /// A line for each verdict that is less than owed; if it is none of them that made the run
    /// fail, what it ended with.
    fn faults(&self) -> Vec<String> {
        if self.is_success {
            return Vec::new();
        }
        let kernel = &self.kernel;
        let owing = self.results.iter().filter_map(|row| {
            let got = row.got.strip_prefix('!')?;
            let Row {
                name, owed, notes, ..
            } = row;
            Some(format!("{kernel}: {name}: owed {owed}, got {got}: {notes}"))
        });
        let owing: Vec<String> = owing.collect();
        if owing.is_empty() {
            return vec![format!("{kernel}: ended with\n{}", self.ending.join("\n"))];
        }
        owing
    }

    fn save(&self, name: &str) -> Result<()> {
        let mut text = format!("{}\n", self.kernel);
        for row in &self.results {
            let Row {
                name,
                what,
                owed,
                got,
                tracer,
                notes,
            } = row;
            writeln!(
                text,
                "RESULT\t{name}\t{what}\t{owed}\t{got}\t{tracer}\t{notes}"
            )?;
        }
        let path = saved(name)?;
        fs::write(&path, text).with_context(|| format!("{}", path.display()))
    }

    fn load(name: &str) -> Result<Outcome> {
        let path = saved(name)?;
        let how = match name {
            HERE => "cargo xtask evasion".to_owned(),
            kernel => format!("cargo xtask evasion --kernel {kernel}"),
        };
        let text = fs::read_to_string(&path)
            .with_context(|| format!("no whole play is saved; run `{how}` first"))?;
        let kernel = text.lines().next().unwrap_or_default().to_owned();
        Ok(Outcome::new(kernel, &text, true))
    }

    /// The rows with this verdict, each with its notes.
    fn listed(&self, is_listed: impl Fn(&Row) -> bool) -> String {
        let rows = self.results.iter().filter(|row| is_listed(row));
        let texts = rows.map(|row| match row.notes.as_str() {
            "" => format!("`{}`", row.name),
            notes => format!("`{}` ({notes})", row.name),
        });
        texts.collect::<Vec<_>>().join(", ")
    }
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line
        .strip_prefix("RESULT\t")?
        .split('\t')
        .map(str::to_owned);
    Some(Row {
        name: fields.next()?,
        what: fields.next()?,
        owed: fields.next()?,
        got: fields.next()?,
        tracer: fields.next()?,
        notes: fields.next()?,
    })
}

/// On this machine's kernel.
fn here(cases: &[String]) -> Result<Outcome> {
    packages::install_missing()?;
    let mut cargo = shell::cargo();
    cargo.current_dir(shell::workspace_root()?);
    cargo.args(["test", "--package", "monitor-tests", "--test", "evasion"]);
    cargo.arg("--").args(cases).stdout(Stdio::piped());
    crate::test::become_root(&mut cargo)?;
    let mut child = cargo.spawn().with_context(|| format!("{cargo:?}"))?;
    let stdout = child.stdout.take().context("no pipe from cargo")?;
    let mut console = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if !line.starts_with("RESULT\t") {
            println!("{line}");
        }
        console.push_str(&line);
        console.push('\n');
    }
    let is_success = child.wait()?.success();
    let release = shell::output(Command::new("uname").arg("-r"))?;
    let kernel = release.trim().to_owned();
    Ok(Outcome::new(kernel, &console, is_success))
}

/// The whole of docs/evasion.md.
fn document(outcomes: &[Outcome]) -> Result<String> {
    let first = outcomes.first().context("no outcome")?;
    let table = |outcome: &'_ Outcome| -> BTreeMap<String, String> {
        let rows = outcome.results.iter();
        rows.map(|row| (row.name.clone(), cell(&row.got))).collect()
    };
    let tables: Vec<_> = outcomes.iter().map(table).collect();
    let kernels: Vec<String> = outcomes.iter().map(|it| short(&it.kernel)).collect();
    let mut text = HEAD.to_owned();
    let columns = kernels.join(" | ");
    writeln!(text, "\n| case | what | owed | {columns} | `connect` |")?;
    writeln!(text, "|---|---|---|{}---|", "---|".repeat(kernels.len()))?;
    for row in &first.results {
        let cell = |table: &BTreeMap<String, String>| {
            let cell = table.get(&row.name).map(String::as_str);
            cell.unwrap_or(NONE).to_owned()
        };
        let cells: Vec<String> = tables.iter().map(cell).collect();
        let tracer = if row.tracer.is_empty() {
            NONE
        } else {
            &row.tracer
        };
        let (name, what, owed) = (&row.name, &row.what, &row.owed);
        let cells = cells.join(" | ");
        writeln!(text, "| `{name}` | {what} | {owed} | {cells} | {tracer} |")?;
    }
    let owes = |row: &Row| row.got.starts_with('!');
    let cannot = |row: &Row| row.got == "unsupported";
    list(&mut text, "Less than owed", outcomes, owes)?;
    list(&mut text, "What a kernel cannot do", outcomes, cannot)?;
    Ok(text)
}

/// Nothing to say.
const NONE: &str = "–";

/// A section with a line per kernel.
fn list(
    text: &mut String,
    title: &str,
    outcomes: &[Outcome],
    is_listed: impl Fn(&Row) -> bool,
) -> Result<()> {
    writeln!(text, "\n## {title}\n")?;
    for outcome in outcomes {
        let listed = outcome.listed(&is_listed);
        let listed = if listed.is_empty() {
            "nothing"
        } else {
            &listed
        };
        writeln!(text, "- {}: {listed}.", outcome.kernel)?;
    }
    Ok(())
}

/// The version is enough for a column.
fn short(release: &str) -> String {
    release
        .split(['-', '+'])
        .next()
        .unwrap_or(release)
        .to_owned()
}

fn cell(got: &str) -> String {
    match got.strip_prefix('!') {
        Some(owing) => format!("**{owing}**"),
        None if got == "unsupported" => NONE.to_owned(),
        None => got.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_a_column_per_kernel_and_marks_what_is_owed() {
        let line = |name, got| format!("RESULT\t{name}\tIn words\tATTR\t{got}\tSILENT\tn\n");
        let here = line("tcp4", "ATTR") + "noise\n" + &line("sctp", "unsupported");
        let there = line("tcp4", "!SEEN") + &line("sctp", "ATTR");
        let outcomes = [
            Outcome::new("6.18.44-fc".to_owned(), &here, true),
            Outcome::new("6.1.0-56-cloud".to_owned(), &there, false),
        ];
        let text = document(&outcomes).unwrap();
        let expect = "
| case | what | owed | 6.18.44 | 6.1.0 | `connect` |
|---|---|---|---|---|---|
| `tcp4` | In words | ATTR | ATTR | **SEEN** | SILENT |
| `sctp` | In words | ATTR | – | ATTR | SILENT |

## Less than owed

- 6.18.44-fc: nothing.
- 6.1.0-56-cloud: `tcp4` (n).

## What a kernel cannot do

- 6.18.44-fc: `sctp` (n).
- 6.1.0-56-cloud: nothing.
";
        assert!(text.ends_with(expect), "{text}");
    }

    #[track_caller]
    fn check_faults(console: &str, is_success: bool, expect: &[&str]) {
        let outcome = Outcome::new("6.1.0".to_owned(), console, is_success);
        assert_eq!(outcome.faults(), expect);
    }

    #[test]
    fn faults_name_what_is_owed_or_how_it_ended() {
        let fine = "RESULT\ttcp4\tw\tATTR\tATTR\t\t";
        let owing = "RESULT\tsctp\tw\tATTR\t!SEEN\t\twhy";
        check_faults(fine, true, &[]);
        check_faults(
            &format!("{fine}\n{owing}\nend"),
            false,
            &["6.1.0: sctp: owed ATTR, got SEEN: why"],
        );
        check_faults("Kernel panic", true, &["6.1.0: ended with\nKernel panic"]);
        check_faults(fine, false, &[&format!("6.1.0: ended with\n{fine}")]);
    }
}

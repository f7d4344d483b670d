//! `telltale verify`: proves that an event log with a chain is complete and unaltered.
//!
//! In: the files of a log. Out: what was proven; or the file and line of the first break.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::de::IgnoredAny;

use crate::sink::chain::{Seal, Sealed};
use crate::sink::lines::{PENDING_BYTES_MAX, put_aside_as};

/// Longest line that is read: no log of Telltale has one.
const LINE_BYTES_MAX: u64 = PENDING_BYTES_MAX as u64;

/// What a log is.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// In words, for a person.
    pub text: String,
    /// All of it is as it was written.
    pub whole: bool,
}

/// Checks the chain over `logs`, oldest first; for a single one, with what was put aside of it.
/// With `through`, the chain must hold the line with this hash, too.
///
/// # Errors
///
/// If a file cannot be read, or no line has a seal.
pub fn verify(logs: &[PathBuf], through: Option<&str>) -> anyhow::Result<Report> {
    let files = match logs {
        [log] => with_put_aside(log),
        _ => logs.to_vec(),
    };
    let mut reader = Reader {
        wanted: through.map(str::to_ascii_lowercase),
        ..Reader::default()
    };
    for file in &files {
        let broken = reader
            .file(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        if let Some((line, why)) = broken {
            let file = file.display();
            return Ok(Report {
                text: format!("{file}:{line}: {why}\n"),
                whole: false,
            });
        }
    }
    reader.report(&files)
}

/// `FILE.N` … `FILE.1`, `FILE`, as far as they are there.
fn with_put_aside(log: &Path) -> Vec<PathBuf> {
    let aside = |number| put_aside_as(log, number);
    let there = (1..).map(aside).take_while(|file| file.exists());
    let mut files: Vec<PathBuf> = there.collect();
    files.reverse();
    files.push(log.to_owned());
    files
}

/// Follows a chain over files.
#[derive(Default)]
struct Reader {
    /// The first seal, and the last.
    first: Option<Seal>,
    last: Option<Seal>,
    /// Lines before the first seal.
    before: u64,
    /// Lines that were not written to their end, and where the last of them is.
    torn: Vec<String>,
    /// The hash that the chain must hold, until it is found.
    wanted: Option<String>,
}

impl Reader {
    /// Reads one file. The number and fault of the line at which the chain breaks.
    fn file(&mut self, path: &Path) -> std::io::Result<Option<(u64, String)>> {
        let mut file = BufReader::new(File::open(path)?);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = (&mut file)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let place = || format!("{}:{number}", path.display());
            if let Err(why) = self.line(line, place) {
                return Ok(Some((number, why)));
            }
        }
        Ok(None)
    }

    fn line(&mut self, line: &[u8], place: impl Fn() -> String) -> Result<(), String> {
        let sealed = Seal::of(line);
        let (Some(sealed), Some(last)) = (&sealed, &self.last) else {
            return match sealed {
                Some(sealed) => self.begin(sealed),
                None => self.unsealed(line, place),
            };
        };
        let (number, expect) = (sealed.seal.line, last.line + 1);
        if number > expect {
            let gap = number - expect;
            return Err(format!(
                "{gap} lines of the chain are missing before this one, {expect} to {}",
                number - 1
            ));
        }
        if number < expect {
            return Err(format!(
                "line {number} of a chain stands where line {expect} must: lines were moved or \
                 doubled, or the chain begins anew"
            ));
        }
        if !sealed.follows(last) {
            return Err(format!(
                "line {number} of the chain is not what was written, or the one before it is not"
            ));
        }
        self.accept(sealed.seal.clone());
        Ok(())
    }

    /// The first seal: of the first line there ever was, or of the oldest that is kept.
    fn begin(&mut self, sealed: Sealed) -> Result<(), String> {
        if sealed.seal.line == 1 && !sealed.follows(&Seal::default()) {
            return Err("line 1 of the chain is not what was written".to_owned());
        }
        self.first = Some(sealed.seal.clone());
        self.accept(sealed.seal);
        Ok(())
    }

    fn accept(&mut self, seal: Seal) {
        self.wanted.take_if(|wanted| *wanted == seal.hash);
        self.last = Some(seal);
    }

    /// Kills leave the start of a line, which is no JSON. What is whole and bears no seal was not
    /// written into this chain.
    fn unsealed(&mut self, line: &[u8], place: impl Fn() -> String) -> Result<(), String> {
        if self.last.is_none() {
            self.before += 1;
            return Ok(());
        }
        if serde_json::from_slice::<IgnoredAny>(line).is_ok() {
            return Err("bears no seal: it was put in, or its seal was taken away".to_owned());
        }
        self.torn.push(place());
        Ok(())
    }

    fn report(self, files: &[PathBuf]) -> anyhow::Result<Report> {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            bail!("no line has a seal; the log must be written with `events.chain = \"on\"`");
        };
        let mut text = String::new();
        if let Some(wanted) = &self.wanted {
            return Ok(Report {
                text: format!(
                    "no line has the hash {wanted}: the end of the log was cut off, or all of it \
                     was written anew\n"
                ),
                whole: false,
            });
        }
        let (from, to, count) = (first.line, last.line, last.line - first.line + 1);
        text += &format!(
            "ok: {count} lines, {from} to {to}, in {} files; the last hash is {}\n",
            files.len(),
            last.hash
        );
        if from > 1 {
            text += &format!(
                "lines 1 to {} are in files that are not here; line {from} itself can be checked \
                 with them only\n",
                from - 1
            );
        }
        if self.before > 0 {
            let before = self.before;
            text += &format!("{before} lines before the chain begins are not part of it\n");
        }
        for place in &self.torn {
            text += &format!("{place}: a line was not written to its end, as a kill leaves it\n");
        }
        Ok(Report { text, whole: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a chain, numbered from 1.
    fn chain(count: usize) -> Vec<String> {
        let mut seal = Seal::default();
        let line = |number| {
            let mut line = format!("{{\"event\":{{\"number\":{number}}}}}").into_bytes();
            seal = seal.next(&mut line).unwrap();
            String::from_utf8(line).unwrap() + "\n"
        };
        (1..=count).map(line).collect()
    }

    /// What is said of a log in these files, the first of which is the oldest.
    #[track_caller]
    fn check(files: &[String], whole: bool, expect: &str) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        for (number, text) in files.iter().rev().enumerate() {
            let path = match u32::try_from(number).unwrap() {
                0 => log.clone(),
                number => put_aside_as(&log, number),
            };
            std::fs::write(path, text).unwrap();
        }
        let report = verify(&[log], None).unwrap();
        let text = report
            .text
            .replace(&folder.path().display().to_string(), "DIR");
        assert!(text.contains(expect), "{text}");
        assert_eq!(report.whole, whole, "{text}");
    }

    #[test]
    fn what_was_written_is_proven_over_files() {
        let lines = chain(9);
        let files = [
            lines[..3].concat(),
            lines[3..5].concat(),
            lines[5..].concat(),
        ];
        check(&files, true, "ok: 9 lines, 1 to 9, in 3 files");
        let kept = &files[1..];
        check(kept, true, "lines 1 to 3 are in files that are not here");
        let after = ["{\"old\":1}\n".to_owned() + &lines.concat()];
        check(&after, true, "1 lines before the chain begins");
    }

    #[test]
    fn each_change_is_found_where_it_is() {
        let lines = chain(6);
        let with = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = lines.clone();
            change(&mut lines);
            [lines[..2].concat(), lines[2..].concat()]
        };
        let altered = with(&|lines| lines[3] = lines[3].replace("number\":4", "number\":5"));
        check(
            &altered,
            false,
            "DIR/log:2: line 4 of the chain is not what",
        );
        let removed = with(&|lines| drop(lines.remove(3)));
        check(
            &removed,
            false,
            "DIR/log:2: 1 lines of the chain are missing before this one, 4 to 4",
        );
        let first = with(&|lines| lines[0] = lines[0].replace("number\":1", "number\":0"));
        check(
            &first,
            false,
            "DIR/log.1:1: line 1 of the chain is not what",
        );
        let moved = with(&|lines| lines.swap(3, 4));
        check(&moved, false, "DIR/log:2: 1 lines of the chain are missing");
        let doubled = with(&|lines| lines.insert(3, lines[2].clone()));
        check(
            &doubled,
            false,
            "DIR/log:2: line 3 of a chain stands where line 4 must",
        );
        let put_in = with(&|lines| lines.insert(3, "{\"event\":{\"number\":4}}\n".to_owned()));
        check(&put_in, false, "DIR/log:2: bears no seal");
        let cut_short = with(&|lines| lines[3].truncate(20));
        check(
            &cut_short,
            false,
            "DIR/log:2: 1 lines of the chain are missing",
        );
        let anew = with(&|lines| lines.extend(chain(2)));
        check(
            &anew,
            false,
            "DIR/log:5: line 1 of a chain stands where line 7 must",
        );
    }

    #[test]
    fn a_line_that_a_kill_tore_is_no_break() {
        let lines = chain(4);
        let torn = |text: &str| text[..text.len() - 20].to_owned();
        let at_end = [lines[..3].concat() + &torn(&lines[3])];
        check(
            &at_end,
            true,
            "DIR/log:4: a line was not written to its end",
        );
        // The next run ends the torn line, and goes on after the last whole one.
        let within = [lines[..3].concat() + &torn(&lines[3]) + "\n" + &lines[3]];
        check(&within, true, "ok: 4 lines");
        // All of it but the newline is a whole line.
        let unended = [lines.concat().trim_end().to_owned()];
        check(&unended, true, "ok: 4 lines");
    }

    #[test]
    fn a_hash_that_was_kept_shows_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let lines = chain(4);
        let kept = Seal::of(lines[3].trim_end().as_bytes()).unwrap().seal.hash;
        let whole = |lines: &[String]| {
            std::fs::write(&log, lines.concat()).unwrap();
            verify(std::slice::from_ref(&log), Some(&kept))
                .unwrap()
                .whole
        };
        assert!(whole(&lines));
        assert!(!whole(&lines[..3]));
        std::fs::write(&log, "{}\n").unwrap();
        assert!(verify(&[log], None).is_err());
    }
}

//! Takes keys out of the config file, by the table of keys; what is left over is unknown.
//!
//! In: the text of the file. Out: a typed value per key, and all [`Problem`]s of the file at
//! once. (serde would stop at the first, and name no key for a value of the wrong type.)

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::{self, ConfigError, Place, Problem};
use super::key::{Absent, Key, List, Number, Section, Text};
use super::vocabulary::Vocabulary;

/// Characters of a value that a message shows.
const SHOWN_CHARS_MAX: usize = 60;

/// Problems that are reported; the others are counted. A file full of them is the wrong file.
const PROBLEMS_MAX: usize = 50;

/// A file being read, and what is wrong with it so far.
#[derive(Debug)]
pub struct Reader<'t> {
    file: &'t Path,
    text: &'t str,
    /// Where each line but the first starts: a policy has places by the ten thousand.
    lines: Vec<usize>,
    vocabulary: &'static Vocabulary,
    problems: Vec<Problem>,
    /// Problems beyond [`PROBLEMS_MAX`].
    more: usize,
}

/// A section being read.
#[derive(Debug)]
pub struct Fields<'r, 't> {
    reader: &'r mut Reader<'t>,
    /// Name from the top; empty for the file itself.
    name: &'static str,
    /// Where it is, for keys that are not there.
    at: Range<usize>,
    table: DeTable<'t>,
}

impl<'t> Reader<'t> {
    /// A reader of this text. The file is for messages only.
    #[must_use]
    pub fn new(file: &'t Path, text: &'t str, vocabulary: &'static Vocabulary) -> Self {
        Reader {
            file,
            text,
            lines: text.match_indices('\n').map(|(at, _)| at + 1).collect(),
            vocabulary,
            problems: Vec::new(),
            more: 0,
        }
    }

    /// Everything that is wrong with what was read.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if anything is.
    pub fn finish(self) -> Result<(), ConfigError> {
        error::none_or(self.problems, self.more)
    }

    /// Adds everything that is wrong with what was read to `problems`. Out: how many there are
    /// besides.
    pub fn take_problems(self, problems: &mut Vec<Problem>) -> usize {
        problems.extend(self.problems);
        self.more
    }

    /// Hands the whole file to `read`. A file that is not TOML is read as if it were empty.
    pub fn document<T>(&mut self, read: impl FnOnce(&mut Fields<'_, 't>) -> T) -> T {
        let table = match DeTable::parse(self.text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let at = error.span().unwrap_or_default();
                let fault = error.message().replace('\n', ", ");
                let subject = match self.shown(&at) {
                    written if written.is_empty() => "not TOML".to_owned(),
                    written => format!("not TOML near `{written}`"),
                };
                self.problem(&at, subject, fault);
                DeTable::new()
            }
        };
        self.fields("", 0..0, table, read)
    }

    /// Hands a table to `read`, and reports what it did not take.
    fn fields<T>(
        &mut self,
        name: &'static str,
        at: Range<usize>,
        table: DeTable<'t>,
        read: impl FnOnce(&mut Fields<'_, 't>) -> T,
    ) -> T {
        let mut fields = Fields {
            reader: self,
            name,
            at,
            table,
        };
        let value = read(&mut fields);
        let rest = std::mem::take(&mut fields.table);
        for (key, value) in rest {
            self.unknown(name, &key, value.get_ref());
        }
        value
    }

    fn unknown(&mut self, section: &str, key: &Spanned<impl AsRef<str>>, value: &DeValue) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let path = path_of(section, &cut(key.get_ref().as_ref()));
        let (subject, remedy) = if is_section(value) {
            let subject = format!("unknown section [{path}]");
            (subject, self.vocabulary.section_remedy(&path))
        } else {
            let subject = format!("unknown key {path}");
            (subject, self.vocabulary.key_remedy(section, &path))
        };
        self.problem(&key.span(), subject, remedy);
    }

    fn problem(&mut self, at: &Range<usize>, subject: String, fault: String) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let place = self.place(at);
        self.problems.push(Problem {
            place,
            subject,
            fault,
        });
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    fn place(&self, at: &Range<usize>) -> Place {
        let start = at.start.min(self.text.len());
        let newlines = self.lines.partition_point(|&line| line <= start);
        let line_start = match newlines {
            0 => 0,
            count => self.lines.get(count - 1).copied().unwrap_or_default(),
        };
        let before = self.text.get(line_start..start).unwrap_or_default();
        Place::File {
            file: self.file.to_owned(),
            line: 1 + newlines,
            column: 1 + before.chars().count(),
        }
    }

    /// A value as it was written, without credentials.
    fn shown(&self, at: &Range<usize>) -> String {
        let written = self.text.get(at.clone()).unwrap_or_default();
        cut(&without_credentials(written))
    }
}

impl<'t> Fields<'_, 't> {
    /// Hands a `[section]` to `read`; one that is not there is read as if it were empty.
    pub fn section<T>(
        &mut self,
        section: &'static Section,
        read: impl FnOnce(&mut Fields<'_, 't>) -> T,
    ) -> T {
        let (at, table) = match self.take(last(section.name)).map(parts) {
            None => (0..0, DeTable::new()),
            Some((at, DeValue::Table(table))) => (at, table),
            Some((at, value)) => {
                let remedy = format!("write one section [{}]", section.name);
                self.misplaced(last(section.name), &at, &value, &remedy);
                (at, DeTable::new())
            }
        };
        self.reader.fields(section.name, at, table, read)
    }

    /// Hands each `[[section]]` to `read`, in order. Those for which it gives `None` are left out.
    pub fn sections<T>(
        &mut self,
        section: &'static Section,
        mut read: impl FnMut(&mut Fields<'_, 't>) -> Option<T>,
    ) -> Vec<T> {
        let name = last(section.name);
        let Some((at, value)) = self.take(name).map(parts) else {
            return Vec::new();
        };
        let remedy = format!("write a section [[{}]] for each", section.name);
        let DeValue::Array(items) = value else {
            self.misplaced(name, &at, &value, &remedy);
            return Vec::new();
        };
        let most = section.most.unwrap_or(1);
        if items.len() > most {
            let fault = format!("{} of them; at most {most} are allowed", items.len());
            self.reader
                .problem(&at, format!("[[{}]]", section.name), fault);
            return Vec::new();
        }
        let mut values = Vec::with_capacity(items.len());
        for (at, item) in items.into_iter().map(parts) {
            match item {
                DeValue::Table(table) => {
                    values.extend(self.reader.fields(section.name, at, table, &mut read));
                }
                other => self.misplaced(name, &at, &other, &remedy),
            }
        }
        values
    }

    /// A whole number; the default if it is absent or wrong.
    pub fn number(&mut self, key: &Key<Number>) -> u32 {
        let Number {
            unit,
            default,
            min,
            max,
        } = key.shape;
        let Some((at, value)) = self.take(key.name).map(parts) else {
            return default;
        };
        let number = match &value {
            DeValue::Integer(digits) => in_range(digits, min, max),
            other => Err(kind(other).to_owned()),
        };
        let fault = match number {
            Ok(number) => return number,
            Err(fault) => fault,
        };
        let fault = format!("{fault}; write a whole number from {min} to {max} ({unit})");
        self.reader.problem(&at, self.subject(key.name, &at), fault);
        default
    }

    /// A string; the default if it is absent, `None` if it is wrong.
    pub fn text<T>(&mut self, key: &Key<Text<T>>) -> Option<T> {
        if let Some(value) = self.take(key.name) {
            let parsed = self.string(key.name, value, key.shape.parse);
            return parsed.map(|(_, value)| value);
        }
        match key.shape.default {
            Absent::Default(text) => (key.shape.parse)(text).ok(),
            Absent::Nothing => None,
            Absent::Mistake => {
                let example = key.shape.example;
                let fault = format!("missing; write for example {} = {example:?}", key.name);
                let subject = path_of(self.name, key.name);
                self.reader.problem(&self.at.clone(), subject, fault);
                None
            }
        }
    }

    /// A list of strings with their places; the default if it is absent. Wrong items are left out.
    pub fn list<T: PartialEq>(&mut self, key: &Key<List<T>>) -> Vec<(Place, T)> {
        let List {
            of,
            default,
            fewest,
            most,
            parse,
            ..
        } = key.shape;
        let Some((at, value)) = self.take(key.name).map(parts) else {
            let place = self.reader.place(&self.at);
            return default
                .iter()
                .filter_map(|&text| Some((place.clone(), parse(text).ok()?)))
                .collect();
        };
        let fault = match value {
            DeValue::Array(items) if items.len() < fewest => "empty".to_owned(),
            DeValue::Array(items) if items.len() > most => format!("{} items", items.len()),
            DeValue::Array(items) => return self.items(key.name, items, parse),
            other => kind(&other).to_owned(),
        };
        let remedy = format!("write a list of {fewest} to {most} strings, each: {of}");
        let or_none = if fewest > 0 {
            ", or leave the key out"
        } else {
            ""
        };
        let fault = format!("{fault}; {remedy}{or_none}");
        self.reader.problem(&at, self.subject(key.name, &at), fault);
        Vec::new()
    }

    /// The same, where whole numbers are items too: `port = [443]`.
    pub fn list_of_words(&mut self, key: &Key<List<String>>) -> Vec<(Place, String)> {
        if let Some(value) = self.table.get_mut(key.name)
            && let DeValue::Array(items) = value.get_mut()
        {
            for item in items.iter_mut() {
                if let DeValue::Integer(digits) = item.get_ref() {
                    let text = digits.to_string();
                    *item.get_mut() = DeValue::String(text.into());
                }
            }
        }
        self.list(key)
    }

    /// A day, with or without quotes.
    pub fn date(&mut self, key: &Key<Text<String>>) -> Option<String> {
        if let Some(value) = self.table.get_mut(key.name)
            && let DeValue::Datetime(date) = value.get_ref()
        {
            let text = date.to_string();
            *value.get_mut() = DeValue::String(text.into());
        }
        self.text(key)
    }

    /// Where this section is.
    #[must_use]
    pub fn place(&self) -> Place {
        self.reader.place(&self.at)
    }

    /// Where the value of a key is; where this section is, if the key is not there.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Place {
        match self.table.get(key) {
            Some(value) => self.reader.place(&value.span()),
            None => self.place(),
        }
    }

    /// How much is wrong with the file so far.
    #[must_use]
    pub fn mistakes(&self) -> usize {
        self.reader.problems.len() + self.reader.more
    }

    /// Name of a key of this section, from the top.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        path_of(self.name, key)
    }

    /// Notes something wrong that is found only once several values are known.
    pub fn mistake(&mut self, place: &Place, subject: String, fault: String) {
        if self.reader.is_full() {
            self.reader.more += 1;
            return;
        }
        let place = place.clone();
        self.reader.problems.push(Problem {
            place,
            subject,
            fault,
        });
    }

    fn items<T: PartialEq>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = Spanned<DeValue<'t>>>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Vec<(Place, T)> {
        let mut values: Vec<(Place, T)> = Vec::new();
        for item in items {
            let at = item.span();
            let Some((place, value)) = self.string(name, item, parse) else {
                continue;
            };
            if values.iter().any(|(_, earlier)| *earlier == value) {
                let fault = "listed twice; remove one".to_owned();
                self.reader.problem(&at, self.subject(name, &at), fault);
            } else {
                values.push((place, value));
            }
        }
        values
    }

    /// One string, parsed.
    fn string<T>(
        &mut self,
        name: &str,
        value: Spanned<DeValue<'t>>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<(Place, T)> {
        let (at, value) = parts(value);
        let parsed = match &value {
            DeValue::String(text) => parse(text),
            other => Err(format!("{}; write a string, in quotes", kind(other))),
        };
        match parsed {
            Ok(value) => Some((self.reader.place(&at), value)),
            Err(fault) => {
                self.reader.problem(&at, self.subject(name, &at), fault);
                None
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<Spanned<DeValue<'t>>> {
        self.table.remove(name)
    }

    /// Something else is where a section belongs.
    fn misplaced(&mut self, name: &str, at: &Range<usize>, value: &DeValue, remedy: &str) {
        let subject = match is_section(value) {
            true => path_of(self.name, name),
            false => self.subject(name, at),
        };
        self.reader
            .problem(at, subject, format!("{}; {remedy}", kind(value)));
    }

    /// What a problem is about: `web.telemetry_path = "metrics"`.
    fn subject(&self, name: &str, at: &Range<usize>) -> String {
        format!("{} = {}", path_of(self.name, name), self.reader.shown(at))
    }
}

fn in_range(digits: &DeInteger, min: u32, max: u32) -> Result<u32, String> {
    // Digits beyond 128 bits, too, are more or less than any bound.
    let number = i128::from_str_radix(digits.as_str(), digits.radix());
    let is_negative = digits.as_str().starts_with('-');
    let number = number.unwrap_or(if is_negative { i128::MIN } else { i128::MAX });
    if number < i128::from(min) {
        return Err(format!("less than {min}"));
    }
    match u32::try_from(number) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(format!("more than {max}")),
    }
}

fn parts<'t>(value: Spanned<DeValue<'t>>) -> (Range<usize>, DeValue<'t>) {
    (value.span(), value.into_inner())
}

fn path_of(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A table, or a list of tables: something that is written as a section.
fn is_section(value: &DeValue) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
        _ => false,
    }
}

/// What a value is, with its article.
fn kind(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) if is_section(value) => "a list of sections",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// The first line, not too long, and without control characters: they would let a file write to
/// the operator's terminal.
fn cut(text: &str) -> String {
    let mut shown = String::new();
    for (idx, char) in text.chars().enumerate() {
        if idx == SHOWN_CHARS_MAX || char == '\n' {
            shown.push('…');
            break;
        }
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// `https://user:password@host` → `https://…@host`: messages end up in logs.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((credentials, _)) => {
            format!(
                "{scheme}://…{}",
                rest.get(credentials.len()..).unwrap_or_default()
            )
        }
        None => text.to_owned(),
    }
}

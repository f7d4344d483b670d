//! What a key of a file of ours can be: its type, its bounds, its meaning.
//!
//! In: nothing. Out: the shapes that the tables of keys are made of, and how documentation shows a
//! key.

/// A `[section]` of the file.
#[derive(Debug)]
pub struct Section {
    /// Name from the top: `alerts.webhook`.
    pub name: &'static str,
    /// `Some` for a `[[section]]` that may be repeated: how often at most.
    pub most: Option<usize>,
    /// What it is about.
    pub meaning: &'static str,
}

/// A key of a section; `S` is what its value may be.
#[derive(Debug)]
pub struct Key<S> {
    /// Section that it is in.
    pub section: &'static Section,
    /// Name within the section. A number's name ends in its unit, or is what it counts.
    pub name: &'static str,
    /// What its value may be.
    pub shape: S,
    /// What it does, in whole sentences.
    pub meaning: &'static str,
}

/// A whole number.
#[derive(Debug)]
pub struct Number {
    /// Its unit.
    pub unit: &'static str,
    /// Without the key.
    pub default: u32,
    /// Smallest value.
    pub min: u32,
    /// Largest value.
    pub max: u32,
}

/// A string that stands for a `T`.
#[derive(Debug)]
pub struct Text<T> {
    /// What it is, for people: `path`.
    pub of: &'static str,
    /// Without the key.
    pub default: Absent,
    /// A value to show, if there is no default.
    pub example: &'static str,
    /// Text → `T`, or why not and what to write instead.
    pub parse: fn(&str) -> Result<T, String>,
}

/// What holds without the key.
#[derive(Clone, Copy, Debug)]
pub enum Absent {
    /// This value.
    Default(&'static str),
    /// Nothing.
    Nothing,
    /// A mistake: the section makes no sense without it.
    Mistake,
}

/// A list of strings, each of which stands for a `T`. It may be left out, but not repeat itself.
#[derive(Debug)]
pub struct List<T> {
    /// What its items are, for people: `IP address`.
    pub of: &'static str,
    /// Without the key.
    pub default: &'static [&'static str],
    /// A value to show, if there is no default.
    pub example: &'static [&'static str],
    /// Fewest items, where the key is there.
    pub fewest: usize,
    /// Most items.
    pub most: usize,
    /// Text → `T`, or why not and what to write instead.
    pub parse: fn(&str) -> Result<T, String>,
}

/// A key as documentation shows it; values are TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Section that it is in.
    pub section: &'static str,
    /// Name within the section.
    pub name: &'static str,
    /// Type.
    pub kind: &'static str,
    /// Unit of a number.
    pub unit: Option<&'static str>,
    /// Value without the key; `None` if there is none.
    pub default: Option<String>,
    /// The section makes no sense without it.
    pub required: bool,
    /// Values that are allowed.
    pub range: String,
    /// The default or, if there is none, an example.
    pub sample: String,
    /// What it does.
    pub meaning: &'static str,
}

impl Row {
    /// Name from the top: `alerts.webhook.url`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

impl<S> Key<S> {
    fn row(&self, kind: &'static str, range: String, default: Option<String>) -> Row {
        Row {
            section: self.section.name,
            name: self.name,
            kind,
            unit: None,
            sample: default.clone().unwrap_or_default(),
            default,
            required: false,
            range,
            meaning: self.meaning,
        }
    }
}

impl Key<Number> {
    pub(super) fn number_row(&self) -> Row {
        let Number {
            unit,
            default,
            min,
            max,
        } = self.shape;
        let row = self.row(
            "integer",
            format!("{min} to {max}"),
            Some(default.to_string()),
        );
        Row {
            unit: Some(unit),
            ..row
        }
    }
}

impl<T> Key<Text<T>> {
    pub(super) fn text_row(&self) -> Row {
        let row = |default| self.row("string", self.shape.of.to_owned(), default);
        let sample = format!("{:?}", self.shape.example);
        match self.shape.default {
            Absent::Default(default) => row(Some(format!("{default:?}"))),
            Absent::Nothing => Row {
                sample,
                ..row(None)
            },
            Absent::Mistake => Row {
                sample,
                required: true,
                ..row(None)
            },
        }
    }
}

impl<T> Key<List<T>> {
    pub(super) fn list_row(&self) -> Row {
        let List {
            of,
            default,
            example,
            fewest,
            most,
            ..
        } = self.shape;
        let range = format!("{fewest} to {most}, each: {of}");
        let is_absent = default.is_empty() && fewest > 0;
        let row = self.row(
            "list of strings",
            range,
            (!is_absent).then(|| format!("{default:?}")),
        );
        if default.is_empty() {
            Row {
                sample: format!("{example:?}"),
                ..row
            }
        } else {
            row
        }
    }
}

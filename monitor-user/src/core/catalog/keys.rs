//! Every key of catalog files: what it means, and how it is written.
//!
//! In: nothing. Out: [`SECTIONS`], from which `docs/catalog.md` is written. A test holds the table to
//! what `schema` reads: neither knows a key that the other does not.

/// A table of a catalog file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// How it is headed.
    pub title: &'static str,
    /// What it is, in sentences.
    pub about: &'static str,
    /// Its keys, in the order of `schema`.
    pub keys: &'static [Key],
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub of: &'static str,
    /// A value in TOML.
    pub example: &'static str,
    /// It must be there.
    pub required: bool,
    /// What it means.
    pub meaning: &'static str,
}

const fn required(
    name: &'static str,
    of: &'static str,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        of,
        example,
        required: true,
        meaning,
    }
}

const fn optional(
    name: &'static str,
    of: &'static str,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        required: false,
        ..required(name, of, example, meaning)
    }
}

const SCHEMA: Key = required(
    "schema_version",
    "integer",
    "1",
    "Version of this format: `1`.",
);
const SOURCE: Key = required(
    "source",
    "text",
    "\"npm x@1.2.3 cli.js\"",
    "Where it comes from, so that others can check it: a package and its version, a document, a measurement.",
);
const DATE: Key = required(
    "date",
    "date",
    "2026-11-20",
    "The source's own day where it has one, else the day of collection.",
);
const CONFIDENCE: Key = required(
    "confidence",
    "word",
    "\"package\"",
    "`package`: the literal was found in the published package; `official`: the vendor documents it; `official+package`: both; `measured`: seen to happen; `secondary`: third parties say so; `guess`: general knowledge, not checked.",
);
const SINCE: Key = optional(
    "since",
    "version",
    "\"1.0\"",
    "The first version of which it is so; between two that were examined the wider range is written.",
);
const UNTIL: Key = optional(
    "until",
    "version",
    "\"2.0\"",
    "The first version of which it is not so any more.",
);
const NOTE: Key = optional(
    "note",
    "text",
    "\"Seen once.\"",
    "An observation for people.",
);
const JURISDICTION: Key = required(
    "jurisdiction",
    "ISO 3166 code",
    "\"US\"",
    "The vendor's home, not a server's place; `XX` if unknown or several.",
);

/// Every table, in the order in which people read them.
pub const SECTIONS: [Section; 7] = [
    Section {
        title: "A tool: `tools/<id>.toml`",
        about: "One tool, with the tables below.",
        keys: &[
            SCHEMA,
            required(
                "id",
                "identifier",
                "\"claude-code\"",
                "Letters `a-z`, digits, hyphens; the file is called after it.",
            ),
            required("name", "text", "\"Claude Code\"", "What people call it."),
            required(
                "vendor",
                "text",
                "\"Anthropic\"",
                "Who makes it; one vendor is spelled one way in all files.",
            ),
            JURISDICTION,
            required(
                "kind",
                "word",
                "\"cli-agent\"",
                "`cli-agent`, `ide`, `ide-extension-server`, `local-model-server` or `sdk`.",
            ),
            optional(
                "aliases",
                "texts",
                "[\"claude\"]",
                "What people may type instead of the id; they are told the id.",
            ),
            SOURCE,
            DATE,
            CONFIDENCE,
            optional(
                "notes",
                "texts",
                "[\"Seen once.\"]",
                "Observations for people.",
            ),
            required(
                "recognise",
                "table",
                "{ names = [\"t\"] }",
                "How its processes are recognised: the next table.",
            ),
            optional("helper", "tables", "[]", "Programs that ship with it."),
            optional("endpoint", "tables", "[]", "The manifest."),
            optional(
                "advisory",
                "tables",
                "[]",
                "What is known of certain versions.",
            ),
        ],
    },
    Section {
        title: "`[recognise]`",
        about: "How a process of the tool is recognised by its own path and argv; at least one of `exe`, `script`, `launcher`, `names`, `ide`.\nChildren of a recognised process belong to its tool without being recognised themselves.",
        keys: &[
            optional(
                "exe",
                "globs",
                "[\"/opt/t/t\"]",
                "The executable, as the kernel resolved its path. Trusted.",
            ),
            optional(
                "script",
                "globs",
                "[\"/opt/t/t.js\"]",
                "The script that an interpreter (Node, Bun, Deno, Python, a shell) runs: where it lies, without links, or what argv says if that is not known. Trusted.",
            ),
            optional(
                "launcher",
                "globs",
                "[\"**/bin/t\"]",
                "The same, for stubs on `PATH` and links whose end is not known: the path repeats only the tool's name. Not trusted.",
            ),
            optional(
                "names",
                "file names",
                "[\"t\"]",
                "File names of the executable, of the script or in `argv[0]`, in any folder; may hold `*`. Not trusted.",
            ),
            optional(
                "ide",
                "globs",
                "[\"/opt/editor/editor\"]",
                "Programs that hold the tool among other things, such as an editor with extensions: nobody's by themselves, and the tool's in flows to hosts of its manifest that are not `shared`.",
            ),
            optional(
                "collisions",
                "names",
                "[\"t2\"]",
                "Names that other programs bear too: never evidence.",
            ),
            optional(
                "runtimes",
                "file names",
                "[\"code\"]",
                "Programs, besides those interpreters, that run this tool's scripts, such as an editor.",
            ),
            optional(
                "applets",
                "names",
                "[\"rg\"]",
                "Names in `argv[0]` under which the executable acts as another program that it contains.",
            ),
            optional(
                "comm",
                "names",
                "[\"t\"]",
                "Names of its threads: for people.",
            ),
            optional(
                "npm",
                "packages",
                "[\"@t/t\"]",
                "Its npm packages: for people.",
            ),
            optional(
                "pypi",
                "packages",
                "[\"t\"]",
                "Its Python packages: for people.",
            ),
            optional(
                "environment",
                "variables",
                "[\"T=1\"]",
                "What it sets in the environment of its children: for people.",
            ),
        ],
    },
    Section {
        title: "`[[helper]]`",
        about: "A program that ships with the tool.",
        keys: &[
            required("glob", "glob", "\"/opt/t/h\"", "Its executable. Trusted."),
            required(
                "role",
                "identifier",
                "\"device-fingerprint\"",
                "What it does, in a word.",
            ),
            required("what", "text", "\"Fetches updates\"", "What it is."),
        ],
    },
    Section {
        title: "`[[endpoint]]`",
        about: "The manifest: what the tool is expected to contact. One entry is one host.",
        keys: &[
            required(
                "host",
                "host",
                "\"*.example.com\"",
                "One host; `*.domain` for a domain and all below it; a name with `*` inside a label; an address or a network.",
            ),
            required(
                "purpose",
                "word",
                "\"api\"",
                "`api`, `auth`, `mcp`, `web-search`, `model-download`, `update`, `extensions-marketplace`, `assets`, `docs`, `feature-flags`, `telemetry`, `error-reporting`, `device-fingerprint`, `encrypted-dns`, `geolocation-probe` or `other`.",
            ),
            SINCE,
            UNTIL,
            optional(
                "optional",
                "bool",
                "true",
                "It can be switched off, or must be switched on.",
            ),
            optional(
                "switch",
                "variable",
                "\"T_OFF=1\"",
                "The environment variable that switches it off: `NAME` or `NAME=value`.",
            ),
            optional(
                "shared",
                "bool",
                "true",
                "Programs that are no AI tools use the host too, so reaching it says nothing by itself.",
            ),
            optional(
                "operator",
                "text",
                "\"Google\"",
                "Who runs the host if not the tool's vendor; said where the purpose is `api`, `auth` or `mcp`.",
            ),
            SOURCE,
            DATE,
            CONFIDENCE,
            NOTE,
        ],
    },
    Section {
        title: "`[[advisory]]`",
        about: "What is known of certain versions. A tool that runs in one of them raises `tool-advisory`; one of unknown version does not.",
        keys: &[
            required("id", "identifier", "\"t-1\"", "Names it in alerts."),
            required("title", "text", "\"It says hello\"", "One line."),
            required(
                "summary",
                "text",
                "\"It says hello. No endpoint shows it.\"",
                "What was observed, and whether the network shows it.",
            ),
            SINCE,
            UNTIL,
            SOURCE,
            DATE,
            CONFIDENCE,
        ],
    },
    Section {
        title: "Services: `services/<class>.toml`",
        about: "What programs of any kind use, by class. Where two services name one host, the class that stands earlier in the list below counts.",
        keys: &[
            SCHEMA,
            required(
                "class",
                "word",
                "\"llm-api\"",
                "`encrypted-dns`, `llm-api`, `telemetry` or `ip-geolocation`.",
            ),
            optional("service", "tables", "[]", "The services."),
        ],
    },
    Section {
        title: "`[[service]]`",
        about: "One service.",
        keys: &[
            required(
                "id",
                "identifier",
                "\"openai\"",
                "Letters `a-z`, digits, hyphens.",
            ),
            required("name", "text", "\"OpenAI API\"", "What people call it."),
            required("vendor", "text", "\"OpenAI\"", "Who runs it."),
            JURISDICTION,
            required(
                "hosts",
                "hosts",
                "[\"api.example.com\"]",
                "As in an endpoint.",
            ),
            optional(
                "shared",
                "hosts",
                "[\"api.example.com\"]",
                "Those of `hosts` that serve other things too.",
            ),
            SOURCE,
            DATE,
            CONFIDENCE,
            NOTE,
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;

    use super::super::schema::{
        AdvisoryEntry, EndpointEntry, HelperEntry, RecogniseEntry, ServiceEntry, ServiceFile,
        ToolFile,
    };
    use super::*;

    /// What serde says of a table of these keys.
    fn read<T: DeserializeOwned>(keys: &[&Key]) -> Result<(), String> {
        let line = |key: &&Key| format!("{} = {}\n", key.name, key.example);
        let text: String = keys.iter().map(line).collect();
        let read = toml::from_str::<T>(&text).map(|_| ());
        read.map_err(|error| error.message().to_owned())
    }

    /// The table has the keys that serde knows, and those are required that serde misses.
    #[track_caller]
    fn check<T: DeserializeOwned>(section: &Section) {
        let all: Vec<&Key> = section.keys.iter().collect();
        assert_eq!(read::<T>(&all), Ok(()), "{}", section.title);
        let unknown = Key {
            name: "unknown",
            ..SCHEMA
        };
        let said = read::<T>(&[&all[..], &[&unknown]].concat()).unwrap_err();
        let known: BTreeSet<&str> = said.split('`').skip(3).step_by(2).collect();
        let names: BTreeSet<&str> = all.iter().map(|key| key.name).collect();
        assert_eq!(names, known, "{said}");
        for key in &all {
            let others: Vec<&Key> = all
                .iter()
                .filter(|it| it.name != key.name)
                .copied()
                .collect();
            let missed = read::<T>(&others) == Err(format!("missing field `{}`", key.name));
            assert_eq!(missed, key.required, "{} of {}", key.name, section.title);
        }
    }

    #[test]
    fn the_table_and_the_schema_agree() {
        let [
            tool,
            recognise,
            helper,
            endpoint,
            advisory,
            services,
            service,
        ] = &SECTIONS;
        check::<ToolFile>(tool);
        check::<RecogniseEntry>(recognise);
        check::<HelperEntry>(helper);
        check::<EndpointEntry>(endpoint);
        check::<AdvisoryEntry>(advisory);
        check::<ServiceFile>(services);
        check::<ServiceEntry>(service);
    }

    /// Closed lists of words are told whole.
    #[test]
    fn every_word_is_told() {
        #[track_caller]
        fn check(section: usize, name: &str, words: &[&str]) {
            let mut keys = SECTIONS[section].keys.iter();
            let meaning = keys.find(|key| key.name == name).unwrap().meaning;
            for word in words {
                assert!(meaning.contains(&format!("`{word}`")), "{word} of {name}");
            }
        }
        check(0, "kind", &super::super::facts::KINDS);
        check(0, "confidence", &super::super::facts::CONFIDENCES);
        check(3, "purpose", &super::super::PURPOSES);
        check(5, "class", &super::super::CLASSES);
    }
}

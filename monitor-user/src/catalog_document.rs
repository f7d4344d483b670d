//! `docs/catalog.md`, written from the table of keys.
//!
//! In: [`SECTIONS`]. Out: the text of the file. The test here fails when the committed file
//! differs; `UPDATE=1 cargo test -p telltale catalog` writes it again.

use crate::core::catalog::keys::{SECTIONS, Section};

const HEAD: &str = "\
# Catalog

<!-- Written from monitor-user/src/core/catalog/keys.rs: UPDATE=1 cargo test -p telltale catalog -->

What Telltale knows of AI tools and of the services that they contact, as data: TOML files in `catalog/`, compiled into the binary.
`telltale catalog list` and `telltale catalog show TOOL` print it.
`telltale catalog match WHAT` says what it makes of a host, an address or a command line: `telltale catalog match api.openai.com`, `telltale catalog match /usr/bin/node /usr/local/bin/gemini`.

Files of your own, in a folder that `--catalog DIR` or `directory` in the section `[catalog]` of the configuration names, are laid over it: one replaces the tool, or the service, that has the same id.
In one folder, an id stands once.
They are read again on SIGHUP and when they change.
A process stays what it was taken for when it started, with the evidence of that moment: a tool that a reload adds is recognised from its next start on, and one that it removes stays named.
Whom a flow reaches, and every verdict, follow the new files from the next event on.

`telltale catalog lint --catalog DIR` reports every mistake with its file, line, column and remedy, and ends with status 2, as `telltale check` does.
What is readable and may be meant otherwise, it reports with status 1: a statement that is more than a year old or from the future, a file that is not called after its id, a vendor spelled in two ways or at home in two places, an alias that is another tool's id.
`telltale catalog diff --events LOG` compares what tools were seen to contact with their manifests, and proposes entries.

## How a program is recognised

A glob matches whole absolute paths, so it begins with `/` or with `**/`.
`*` and `?` stay inside one path component, `**` does not; `[ab]` and `{a,b}` mean a choice.
`{version}` stands where the path states the tool's version: once, alone or with fixed text in its component, and with no `**` after it.
Of several globs that match, the one with the most literal characters counts; one glob or name can recognise one tool only, but for those under `ide`.

The order is: a helper's glob, then `exe` (for an interpreter first `script`, since it is what it runs), `script`, `launcher`, `names`.
A link in argv counts as what it leads to: `node /usr/local/bin/gemini` runs the script in npm's package.
Where that could not be looked up, and where a path of `script` is a link that leads elsewhere, the argument is no more than a launcher.
What is not trusted counts towards a ban and never towards an allowance.

The version is the first of these that there is; else it is `unknown`:

VERSIONS
## How an endpoint is found

A host that is written out beats a suffix, a suffix beats a pattern, and then the longer wins.
A tool of unknown version may be any version.
A host of purpose `api`, `auth` or `mcp` that is not `shared` and has no other `operator` marks whoever reaches it as a user of the vendor's AI.
";

/// Where a version can come from.
const VERSIONS: &str = "\
- what `{version}` matches;
- what the `package.json` of the npm package says, if the glob names the package (`**/node_modules/PACKAGE/…`);
- of a native executable under `exe` or of a helper, what the note in it says (`.note.package`, as systemd's package metadata specifies it);
- what dpkg's database says, of a package that bears the name of a part of the executable's path and lists it. rpm's is not read.
";

fn markdown() -> String {
    let mut out = HEAD.replace("VERSIONS\n", &format!("{VERSIONS}\n"));
    for Section { title, about, keys } in SECTIONS {
        out += &format!(
            "\n## {title}\n\n{about}\n\n| Key | Type | Needed | Example | Meaning |\n|---|---|---|---|---|\n"
        );
        for key in keys {
            let needed = if key.required { "yes" } else { "no" };
            let (name, of, example, meaning) = (key.name, key.of, key.example, key.meaning);
            out += &format!("| `{name}` | {of} | {needed} | `{example}` | {meaning} |\n");
        }
    }
    out
}

#[test]
fn the_reference_is_the_committed_one() {
    crate::sink::fixture::check_golden("../docs/catalog.md", &markdown());
}

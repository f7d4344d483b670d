//! Arguments as the world is told of them: without what may be a secret.
//!
//! In: argv of a program image. Out: the same list, shorter in words and never in number, so that
//! its length still tells something.
//!
//! By default only the program and its script are told: what a person types after an AI tool's
//! name is a prompt, and prompts hold whatever people put into them. Where the operator asks for
//! all arguments, what looks like a secret is left out all the same: a value that follows a word
//! such as `token` or `password`, and a word that has the form of a known kind of key.

/// What stands in for what is not told.
pub const LEFT_OUT: &str = "[left out]";

/// How much of argv is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arguments {
    /// argv[0] and the path of a script.
    #[default]
    Program,
    /// All of it, except what looks like a secret.
    Redacted,
}

/// Words in the name of an option or variable whose value is a secret.
const SECRET_NAMES: [&str; 14] = [
    "apikey",
    "api-key",
    "api_key",
    "auth",
    "bearer",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "private-key",
    "private_key",
    "pwd",
    "secret",
    "token",
];

/// How keys and tokens of known kinds begin.
const SECRET_STARTS: [&str; 18] = [
    "AKIA",
    "ASIA",
    "AIza",
    "Bearer ",
    "Basic ",
    "eyJ",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "hf_",
    "npm_",
    "pypi-",
    "sk-",
    "xox",
    "ya29.",
];

/// Shortest word that is taken for a key by its start.
const KEY_BYTES_MIN: usize = 16;

/// Shortest word that is taken for a key by its letters alone.
const RANDOM_BYTES_MIN: usize = 32;

/// The arguments to tell. `script` is the path of the script that the program runs, as argv has it.
#[must_use]
pub fn told(args: &[String], script: Option<&str>, arguments: Arguments) -> Vec<String> {
    let mut secret_next = false;
    let tell = |(index, arg): (usize, &String)| {
        let is_program = index == 0 || script.is_some_and(|script| names(arg, script));
        let secret = std::mem::take(&mut secret_next);
        if is_program {
            return arg.clone();
        }
        if arguments == Arguments::Program || secret {
            return LEFT_OUT.to_owned();
        }
        secret_next = is_option(arg) && !arg.contains('=') && names_secret(arg);
        redacted(arg)
    };
    args.iter().enumerate().map(tell).collect()
}

/// Whether an argument is the script: its whole path, or the end of it.
fn names(arg: &str, script: &str) -> bool {
    let relative = arg.trim_start_matches("./");
    let end = script.strip_suffix(relative);
    !relative.is_empty() && end.is_some_and(|start| start.is_empty() || start.ends_with('/'))
}

fn is_option(arg: &str) -> bool {
    arg.starts_with('-')
}

fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|word| name.contains(word))
}

/// One argument without its secrets.
fn redacted(arg: &str) -> String {
    if let Some((name, value)) = arg.split_once('=')
        && (names_secret(name) || is_key(value))
    {
        return format!("{name}={LEFT_OUT}");
    }
    // `-H "Authorization: Bearer …"`, `-u user:password`.
    if let Some((name, _)) = arg.split_once(':')
        && names_secret(name)
        && !name.contains('/')
    {
        return format!("{name}:{LEFT_OUT}");
    }
    if let Some(url) = without_credentials(arg) {
        return url;
    }
    let keyless = |word: &str| !is_key(word);
    if arg.split_whitespace().all(keyless) && keyless(arg) {
        arg.to_owned()
    } else {
        LEFT_OUT.to_owned()
    }
}

/// A URL with credentials, without them.
fn without_credentials(arg: &str) -> Option<String> {
    let (scheme, rest) = arg.split_once("://")?;
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(authority_end)?;
    let (_, host) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://{LEFT_OUT}@{host}{path}"))
}

/// Whether a word looks like a key: by its start, or long and without any structure.
fn is_key(word: &str) -> bool {
    let known = SECRET_STARTS.iter().any(|start| word.starts_with(start));
    if known && word.len() >= KEY_BYTES_MIN {
        return true;
    }
    let plain = word
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte));
    let has = |of: fn(&u8) -> bool| word.bytes().any(|byte| of(&byte));
    // A path has its separators early; base64 has them by chance.
    let path = word.starts_with(['/', '.', '-']) || word.matches('/').count() > 2;
    word.len() >= RANDOM_BYTES_MIN
        && plain
        && !path
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && word.matches('-').count() < 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &[&str], script: Option<&str>, arguments: Arguments, expect: &[&str]) {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        assert_eq!(told(&args, script, arguments), expect);
    }

    #[test]
    fn by_default_program_and_script_alone_are_told() {
        let check = |args: &[&str], script, expect: &[&str]| {
            check(args, script, Arguments::Program, expect);
        };
        check(
            &["claude", "-p", "my secret"],
            None,
            &["claude", LEFT_OUT, LEFT_OUT],
        );
        let script = Some("/usr/lib/node_modules/@google/gemini-cli/bundle/gemini.js");
        check(
            &[
                "node",
                "--no-warnings",
                "/usr/lib/node_modules/@google/gemini-cli/bundle/gemini.js",
                "x",
            ],
            script,
            &[
                "node",
                LEFT_OUT,
                "/usr/lib/node_modules/@google/gemini-cli/bundle/gemini.js",
                LEFT_OUT,
            ],
        );
        check(
            &["node", "./bundle/gemini.js", "emini.js", ""],
            script,
            &["node", "./bundle/gemini.js", LEFT_OUT, LEFT_OUT],
        );
        check(&[], None, &[]);
    }

    #[track_caller]
    fn check_redacted(arg: &str, expect: &str) {
        check(&["x", arg], None, Arguments::Redacted, &["x", expect]);
    }

    #[test]
    fn what_looks_like_a_secret_is_left_out() {
        check_redacted("--model=opus", "--model=opus");
        check_redacted("--api-key=abc", "--api-key=[left out]");
        check_redacted("ANTHROPIC_API_KEY=abc", "ANTHROPIC_API_KEY=[left out]");
        check_redacted("Authorization: Bearer abc", "Authorization:[left out]");
        check_redacted(
            "https://u:p@h.example/x?y",
            "https://[left out]@h.example/x?y",
        );
        check_redacted("https://h.example/a/b", "https://h.example/a/b");
        check_redacted("sk-example-0123456789", LEFT_OUT);
        check_redacted("use ghp_0123456789abcdefghij now", LEFT_OUT);
        check_redacted("key=AKIAABCDEFGHIJKLMNOP", "key=[left out]");
        check_redacted("dGhpc2lzYXZlcnlsb25nc2VjcmV0MTIzNDU2Nzg5", LEFT_OUT);
        check_redacted(
            "/home/u/a-long/path/0123456789/that/is/none",
            "/home/u/a-long/path/0123456789/that/is/none",
        );
        check_redacted(
            "0b8b1c1e-7d0a-4f6e-8000-000000000001",
            "0b8b1c1e-7d0a-4f6e-8000-000000000001",
        );
        check_redacted("fix the tests", "fix the tests");
        check(
            &["curl", "--password", "x", "-s", "u", "--token=t", "v"],
            None,
            Arguments::Redacted,
            &[
                "curl",
                "--password",
                LEFT_OUT,
                "-s",
                "u",
                "--token=[left out]",
                "v",
            ],
        );
    }
}

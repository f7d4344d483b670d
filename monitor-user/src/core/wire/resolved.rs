//! What systemd-resolved tells whoever subscribed to its answers: one JSON object per message, as
//! `io.systemd.Resolve.Monitor.SubscribeQueryResults` of src/resolve/resolved-varlink.c sends them
//! (systemd 252 and later).
//!
//! In: one message, without the NUL that ends it. Out: the names in it with their addresses, or
//! why there are none to come.
//!
//! Nothing is kept but names and addresses, and of those no more than the bounds below.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::dns::ANSWERS_MAX;
use super::{Error, HostName};

/// Questions of one message that are looked at: IPv4 and IPv6, each in two spellings.
pub const QUESTIONS_MAX: usize = 4;

const CLASS_IN: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The subscription stands: answers follow.
    Ready,
    /// Somebody was answered. Empty if that names no address.
    Answer(Vec<(HostName, IpAddr)>),
    /// There will be no answers.
    Refused(Refusal),
}

/// Why systemd-resolved tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The subscriber lacks the right to.
    Denied,
    /// This version, or whoever listens there, does not know the question.
    Unsupported,
}

/// Takes one message apart.
///
/// A name is the one that was asked, whatever aliases lead to the address; where that is a single
/// label, the one that a search domain made of it. Single labels and names below `local` are left
/// out: any host on the link may answer for those (LLMNR, mDNS).
///
/// # Errors
///
/// [`Error::Malformed`] if it is no such message.
pub fn parse(bytes: &[u8]) -> Result<Message, Error> {
    let reply: Reply = serde_json::from_slice(bytes).map_err(|_| Error::Malformed)?;
    if let Some(error) = reply.error {
        return Ok(Message::Refused(refusal(&error)));
    }
    let told = reply.parameters;
    if told.ready {
        return Ok(Message::Ready);
    }
    match told.state.as_deref() {
        Some("success") => Ok(Message::Answer(pairs(&told))),
        Some(_) => Ok(Message::Answer(Vec::new())),
        None => Err(Error::Malformed),
    }
}

/// By the names of Varlink's own errors, and of those that systemd gives to missing rights.
fn refusal(error: &str) -> Refusal {
    let name = error.rsplit('.').next().unwrap_or_default();
    match name {
        "PermissionDenied" | "InteractiveAuthenticationRequired" => Refusal::Denied,
        _ => Refusal::Unsupported,
    }
}

fn pairs(told: &Told) -> Vec<(HostName, IpAddr)> {
    let asks_address = |key: &&Key| key.class == CLASS_IN && matches!(key.kind, TYPE_A | TYPE_AAAA);
    let mut asked: Vec<HostName> = Vec::new();
    for key in told.question.0.iter().filter(asks_address) {
        asked.extend(asked_name(key, &told.answer.0).filter(|name| !asked.contains(name)));
    }
    let addresses = told.answer.0.iter().filter_map(Answer::address);
    addresses
        .flat_map(|ip| asked.iter().map(move |name| (name.clone(), ip)))
        .collect()
}

fn asked_name(question: &Key, answers: &[Answer]) -> Option<HostName> {
    let name = HostName::from_text(question.name.as_bytes()).ok()?;
    let name = if name.as_str().contains('.') {
        name
    } else {
        let searched = format!("{}.", name.as_str());
        let owners = answers.iter().filter_map(|answer| answer.rr.as_ref());
        let mut owners = owners.filter_map(|rr| HostName::from_text(rr.key.name.as_bytes()).ok());
        owners.find(|owner| owner.as_str().starts_with(&searched))?
    };
    (!name.as_str().ends_with(".local")).then_some(name)
}

#[derive(serde::Deserialize)]
struct Reply {
    error: Option<String>,
    #[serde(default)]
    parameters: Told,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Told {
    ready: bool,
    state: Option<String>,
    question: First<Key, QUESTIONS_MAX>,
    answer: First<Answer, ANSWERS_MAX>,
}

#[derive(serde::Deserialize)]
struct Key {
    class: u16,
    #[serde(rename = "type")]
    kind: u16,
    name: String,
}

#[derive(serde::Deserialize)]
struct Answer {
    /// Not there for records that this version of systemd cannot spell out.
    rr: Option<Record>,
}

#[derive(serde::Deserialize)]
struct Record {
    key: Key,
    #[serde(default)]
    address: First<u8, 16>,
}

impl Answer {
    fn address(&self) -> Option<IpAddr> {
        let Record { key, address } = self.rr.as_ref()?;
        let bytes = address.0.as_slice();
        let ip = match (key.class, key.kind) {
            (CLASS_IN, TYPE_A) => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
            (CLASS_IN, TYPE_AAAA) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
            _ => return None,
        };
        Some(IpAddr::to_canonical(&ip))
    }
}

/// The first `N` items of a list; the others are passed over.
struct First<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Default for First<T, N> {
    fn default() -> Self {
        First(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for First<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FirstVisitor(PhantomData))
    }
}

struct FirstVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for FirstVisitor<T, N> {
    type Value = First<T, N>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    /// `null`.
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(First::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < N {
            match list.next_element()? {
                Some(item) => first.push(item),
                None => return Ok(First(first)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(First(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd 252 writes it.
    const BOTH: &str = r#"{"parameters":{"state":"success","question":[
        {"class":1,"type":1,"name":"www.telltale.example"},
        {"class":1,"type":28,"name":"www.telltale.example"}],"answer":[
        {"rr":{"key":{"class":1,"type":1,"name":"www.telltale.example"},"address":[203,0,113,9]},
         "raw":"A3d3dwh0ZWxsdGFsZQdleGFtcGxlAAABAAEAAAA8AATLAHEJ","ifindex":2},
        {"rr":{"key":{"class":1,"type":28,"name":"www.telltale.example"},
         "address":[32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,9]},"raw":"A3d3"}]},"continues":true}"#;

    #[track_caller]
    fn check(message: &str, expect: Result<&[(&str, &str)], Error>) {
        let pairs = match parse(message.as_bytes()) {
            Ok(Message::Answer(pairs)) => Ok(pairs),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        let texts = pairs.as_ref().map(|pairs| {
            let text = |(name, ip): &(HostName, IpAddr)| (name.as_str().to_owned(), ip.to_string());
            pairs.iter().map(text).collect::<Vec<_>>()
        });
        let texts: Result<Vec<(&str, &str)>, Error> = match &texts {
            Ok(texts) => Ok(texts.iter().map(|(name, ip)| (&**name, &**ip)).collect()),
            Err(error) => Err(**error),
        };
        assert_eq!(
            texts.as_deref().map_err(|error| *error),
            expect,
            "{message}"
        );
    }

    fn answer(asked: &str, owner: &str, address: &str) -> String {
        format!(
            r#"{{"parameters":{{"state":"success",
            "question":[{{"class":1,"type":1,"name":"{asked}"}}],"answer":[{{"rr":{{
            "key":{{"class":1,"type":1,"name":"{owner}"}},"address":{address}}}}}]}}}}"#
        )
    }

    #[test]
    fn each_address_has_the_name_that_was_asked() {
        let name = "www.telltale.example";
        check(BOTH, Ok(&[(name, "203.0.113.9"), (name, "2001:db8::9")]));
        let alias = answer("Alias.example", "target.example", "[192,0,2,1]");
        check(&alias, Ok(&[("alias.example", "192.0.2.1")]));
        let mapped = "[0,0,0,0,0,0,0,0,0,0,255,255,192,0,2,1]";
        let mapped = answer("a.example", "a.example", mapped);
        check(
            &mapped.replace("\"type\":1", "\"type\":28"),
            Ok(&[("a.example", "192.0.2.1")]),
        );
    }

    #[test]
    fn a_single_label_has_the_name_that_was_found_for_it() {
        let searched = answer("build", "build.corp.example", "[192,0,2,1]");
        check(&searched, Ok(&[("build.corp.example", "192.0.2.1")]));
        check(&answer("build", "build", "[192,0,2,1]"), Ok(&[]));
        check(&answer("build", "builder.example", "[192,0,2,1]"), Ok(&[]));
    }

    #[test]
    fn what_any_host_on_the_link_may_answer_is_left_out() {
        let local = answer("printer.local", "printer.local", "[192,0,2,1]");
        check(&local, Ok(&[]));
    }

    #[test]
    fn what_ties_no_name_to_an_address_is_passed_over() {
        check(
            r#"{"parameters":{"state":"rcode-failure","rcode":3}}"#,
            Ok(&[]),
        );
        for address in ["[192,0,2]", "[1,2,3,4,5]", "[]", "null"] {
            check(&answer("a.example", "a.example", address), Ok(&[]));
        }
        for name in [
            "a b.example",
            "*.example",
            "192.0.2.1",
            "b\u{fc}cher.example",
            "",
        ] {
            check(&answer(name, "a.example", "[192,0,2,1]"), Ok(&[]));
        }
        let chaos = answer("a.example", "a.example", "[192,0,2,1]");
        check(&chaos.replace("\"class\":1", "\"class\":3"), Ok(&[]));
        check(&chaos.replace("\"type\":1", "\"type\":16"), Ok(&[]));
        let unspelled =
            r#"{"parameters":{"state":"success","question":null,"answer":[{"raw":"A"}]}}"#;
        check(unspelled, Ok(&[]));
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        let whole = answer("a.example", "a.example", "[192,0,2,1]");
        for end in 0..whole.len() {
            check(&whole[..end], Err(Error::Malformed));
        }
        for message in ["{}", "[]", "null", "\u{fffd}", r#"{"parameters":{}}"#] {
            check(message, Err(Error::Malformed));
        }
        let large = answer("a.example", "a.example", "[256,0,2,1]");
        check(&large, Err(Error::Malformed));
        check(&"[".repeat(1 << 16), Err(Error::Malformed));
        assert_eq!(parse(b"\xff\xfe"), Err(Error::Malformed));
    }

    #[test]
    fn a_refusal_is_told_from_a_version_that_does_not_know() {
        let refused = |error: &str| {
            let message = format!(r#"{{"error":"{error}","parameters":{{}}}}"#);
            parse(message.as_bytes())
        };
        let denied = Ok(Message::Refused(Refusal::Denied));
        assert_eq!(refused("org.varlink.service.PermissionDenied"), denied);
        assert_eq!(
            refused("io.systemd.InteractiveAuthenticationRequired"),
            denied
        );
        let unsupported = Ok(Message::Refused(Refusal::Unsupported));
        assert_eq!(refused("org.varlink.service.MethodNotFound"), unsupported);
        assert_eq!(
            parse(br#"{"parameters":{"ready":true}}"#),
            Ok(Message::Ready)
        );
    }

    #[test]
    fn no_more_is_kept_than_the_bounds() {
        let address =
            r#"{"rr":{"key":{"class":1,"type":1,"name":"a.example"},"address":[192,0,2,1]}}"#;
        let question = r#"{"class":1,"type":1,"name":"a.example"}"#;
        let list = |item: &str| vec![item; 1_000].join(",");
        let message = format!(
            r#"{{"parameters":{{"state":"success","question":[{}],"answer":[{}]}}}}"#,
            list(question),
            list(address)
        );
        let Ok(Message::Answer(pairs)) = parse(message.as_bytes()) else {
            panic!("not an answer")
        };
        assert_eq!(pairs.len(), ANSWERS_MAX);
    }
}

//! The DNS message, RFC 1035 §4, with the service records of RFC 9460.
//!
//! In: untrusted bytes, from the header on, perhaps cut short by the capture. Out: the question,
//! and the answers that tie names to addresses; the other sections are not read.
//!
//! Work and memory follow what is read, never what a count in the header promises, and both are
//! bounded: [`STEPS_MAX`], [`ANSWERS_MAX`], [`HINTS_MAX`].

use std::net::IpAddr;

use super::{Error, HostName};

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const TYPE_SVCB: u16 = 64;
const TYPE_HTTPS: u16 = 65;

/// Answers kept of one message. A full UDP answer of 1232 bytes has room for 76 addresses.
pub const ANSWERS_MAX: usize = 128;

/// Address hints of one family kept of one service record: more than a client would try.
pub const HINTS_MAX: usize = 16;

/// Labels, pointers and service parameters read in one message. Without it 64 KiB of pointer
/// chains would be a million; [`ANSWERS_MAX`] ordinary answers need a fifth of it.
pub const STEPS_MAX: usize = 8192;

/// Bytes of the header. No name starts before its end.
const HEADER_BYTES: usize = 12;

/// Longest name on the wire, with the length bytes and the root.
const NAME_BYTES_MAX: usize = 255;

/// Pointers followed in one name: between the 127 labels that fit, there is room for 126.
const POINTERS_MAX: usize = 126;

/// Class IN.
const CLASS_IN: u16 = 1;

const PARAM_IPV4HINT: u16 = 4;
const PARAM_ECH: u16 = 5;
const PARAM_IPV6HINT: u16 = 6;

/// A query, or an answer with what ties names to addresses in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Chosen by who asks, repeated by who answers.
    pub id: u16,
    /// An answer, not a query (QR).
    pub response: bool,
    /// The sender had more to say than the datagram holds (TC).
    pub truncated: bool,
    /// Low four bits of the response code; 0 is success.
    pub rcode: u8,
    /// What is asked.
    pub question: Question,
    /// Addresses, aliases and services of the answer section, in its order, class IN only.
    pub answers: Vec<Answer>,
    /// There are more answers, or hints in them, than the bounds of this module let in.
    pub answers_cut: bool,
    /// The bytes end before the answers do: the capture kept less, or the message lies.
    pub cut_short: bool,
    /// An answer was left out because a name in it is not a host name.
    pub name_invalid: bool,
}

/// What a message asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name asked for.
    pub name: HostName,
    /// The record type asked for.
    pub qtype: u16,
    /// The class asked for; 1 is IN.
    pub qclass: u16,
}

/// One record of the answer section.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whose record it is.
    pub owner: HostName,
    /// How long it may be cached, seconds; at most 2^31 - 1 (RFC 2181 §8).
    pub ttl: u32,
    /// What it says.
    pub data: AnswerData,
}

/// What a record says of its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerData {
    /// A or AAAA: it has this address.
    Address(IpAddr),
    /// CNAME: it is an alias of this name.
    Cname(HostName),
    /// SVCB or HTTPS: it is served like this.
    Service(Service),
}

/// An SVCB or HTTPS record.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The name that serves; `None` is the owner itself.
    pub target: Option<HostName>,
    /// `ipv4hint` and `ipv6hint`; empty in alias mode. Weak evidence: a client may use them before
    /// it has the addresses of `target`, and prefers those (RFC 9460 §7.3).
    pub hints: Vec<IpAddr>,
    /// The client may hide the server's name (Encrypted Client Hello).
    pub ech: bool,
}

/// Parses one message.
///
/// # Errors
///
/// [`Error::Malformed`] if this is no standard query or answer with one question, or if it
/// contradicts itself; [`Error::NameInvalid`] if the question's name is not a host name.
pub fn parse(bytes: &[u8]) -> Result<Message, Error> {
    Reader::new(bytes).message()
}

/// Why reading stopped.
enum Stop {
    /// The bytes end.
    End,
    /// The bytes contradict the protocol or themselves.
    Malformed,
    /// A name is not a host name.
    NameInvalid,
    /// [`STEPS_MAX`] is reached.
    Steps,
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::NameInvalid => Error::NameInvalid,
            Stop::End | Stop::Malformed | Stop::Steps => Error::Malformed,
        }
    }
}

/// A position in bytes that names can look back from.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Labels, pointers and service parameters read so far.
    steps: usize,
    /// A service record has more hints than [`HINTS_MAX`].
    hints_cut: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Reader {
            bytes,
            at: 0,
            steps: 0,
            hints_cut: false,
        }
    }

    fn message(&mut self) -> Result<Message, Error> {
        let (id, flags) = (self.u16()?, self.u16()?);
        let (questions, answers, _authorities, _additionals) =
            (self.u16()?, self.u16()?, self.u16()?, self.u16()?);
        let opcode = flags >> 11 & 0xf;
        if opcode != 0 || questions != 1 {
            return Err(Error::Malformed);
        }
        let [_, low_flags] = flags.to_be_bytes();
        let name = self.name()?;
        let (qtype, qclass) = (self.u16()?, self.u16()?);
        let mut message = Message {
            id,
            response: flags & 0x8000 != 0,
            truncated: flags & 0x0200 != 0,
            rcode: low_flags & 0xf,
            question: Question {
                name: name.host()?,
                qtype,
                qclass,
            },
            answers: Vec::new(),
            answers_cut: false,
            cut_short: false,
            name_invalid: false,
        };
        self.answers(answers, &mut message)?;
        Ok(message)
    }

    /// Reads up to `count` records into `message`, as far as bytes and bounds allow.
    fn answers(&mut self, count: u16, message: &mut Message) -> Result<(), Error> {
        for _ in 0..count {
            if message.answers.len() == ANSWERS_MAX {
                message.answers_cut = true;
                break;
            }
            match self.record() {
                Ok(answer) => message.answers.extend(answer),
                Err(Stop::NameInvalid) => message.name_invalid = true,
                Err(Stop::Malformed) => return Err(Error::Malformed),
                Err(Stop::End) => {
                    message.cut_short = true;
                    break;
                }
                Err(Stop::Steps) => {
                    message.answers_cut = true;
                    break;
                }
            }
        }
        message.answers_cut |= self.hints_cut;
        Ok(())
    }

    /// The record here, `None` if it is of no use. After [`Stop::NameInvalid`], too, the position
    /// is that of the next record.
    fn record(&mut self) -> Result<Option<Answer>, Stop> {
        let owner = self.name()?;
        let (rtype, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let size = self.u16()?;
        let data = self.within(size, |data| match class {
            CLASS_IN => data.answer_data(rtype),
            _ => Ok(None),
        })?;
        let Some(data) = data else { return Ok(None) };
        // RFC 2181 §8: a TTL with the top bit set is zero.
        let ttl = if ttl >> 31 == 0 { ttl } else { 0 };
        Ok(Some(Answer {
            owner: owner.host()?,
            ttl,
            data,
        }))
    }

    /// Runs `read` on the next `size` bytes, which it must use up if it yields anything, and
    /// continues behind them. Names in them may still point back into all of the message.
    fn within<T>(
        &mut self,
        size: u16,
        read: impl FnOnce(&mut Self) -> Result<Option<T>, Stop>,
    ) -> Result<Option<T>, Stop> {
        let (whole, start) = (self.bytes, self.at);
        self.take(size)?;
        let end = self.at;
        self.bytes = whole.get(..end).ok_or(Stop::End)?;
        self.at = start;
        let result = read(self);
        let used_up = self.is_at_end();
        (self.bytes, self.at) = (whole, end);
        match result {
            Err(Stop::End) => Err(Stop::Malformed),
            Ok(Some(_)) if !used_up => Err(Stop::Malformed),
            result => result,
        }
    }

    /// The data of a record, up to the end of the bytes; `None` for a type of no use here.
    fn answer_data(&mut self, rtype: u16) -> Result<Option<AnswerData>, Stop> {
        Ok(Some(match rtype {
            TYPE_A => AnswerData::Address(self.array::<4>()?.into()),
            TYPE_AAAA => AnswerData::Address(self.array::<16>()?.into()),
            TYPE_CNAME => AnswerData::Cname(self.name()?.host()?),
            TYPE_SVCB | TYPE_HTTPS => AnswerData::Service(self.service()?),
            _ => return Ok(None),
        }))
    }

    /// The data of a service record, RFC 9460 §2.2.
    fn service(&mut self) -> Result<Service, Stop> {
        let priority = self.u16()?;
        let target = self.name()?;
        let target = if target.is_root() {
            None
        } else {
            Some(target.host()?)
        };
        let mut service = Service {
            target,
            hints: Vec::new(),
            ech: false,
        };
        if priority == 0 {
            // §2.4.2: an alias, whose parameters mean nothing.
            self.at = self.bytes.len();
        }
        let mut last = None;
        while !self.is_at_end() {
            self.step()?;
            let (key, size) = (self.u16()?, self.u16()?);
            let value = self.take(size)?;
            if last >= Some(key) {
                return Err(Stop::Malformed);
            }
            last = Some(key);
            match key {
                PARAM_IPV4HINT => service.hints.extend(self.hints::<4>(value)?),
                PARAM_IPV6HINT => service.hints.extend(self.hints::<16>(value)?),
                PARAM_ECH => service.ech = true,
                _ => {}
            }
        }
        Ok(service)
    }

    /// The addresses of `N` bytes each in a hint parameter, up to [`HINTS_MAX`].
    fn hints<const N: usize>(&mut self, value: &[u8]) -> Result<Vec<IpAddr>, Stop>
    where
        IpAddr: From<[u8; N]>,
    {
        let (hints, rest) = value.as_chunks::<N>();
        if hints.is_empty() || !rest.is_empty() {
            return Err(Stop::Malformed);
        }
        self.hints_cut |= hints.len() > HINTS_MAX;
        Ok(hints
            .iter()
            .take(HINTS_MAX)
            .map(|&hint| hint.into())
            .collect())
    }

    /// The name here, its pointers followed; continues behind its part in place.
    ///
    /// A pointer leads to before the part of the name that it ends, so every name has an end.
    fn name(&mut self) -> Result<Name, Stop> {
        let mut name = Name::default();
        let (mut part, mut pointers, mut behind) = (self.at, 0, None);
        loop {
            self.step()?;
            let [length] = self.array()?;
            match length {
                0 => break,
                0x01..=0x3f => name.push(self.take(length.into())?)?,
                0xc0..=0xff => {
                    let [low] = self.array()?;
                    let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    pointers += 1;
                    if !(HEADER_BYTES..part).contains(&target) || pointers > POINTERS_MAX {
                        return Err(Stop::Malformed);
                    }
                    behind = behind.or(Some(self.at));
                    (self.at, part) = (target, target);
                }
                // Label types that never came into use, RFC 6891 §5.
                0x40..=0xbf => return Err(Stop::Malformed),
            }
        }
        self.at = behind.unwrap_or(self.at);
        Ok(name)
    }

    fn u16(&mut self) -> Result<u16, Stop> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let rest = self.bytes.get(self.at..).ok_or(Stop::End)?;
        let array = rest.first_chunk().ok_or(Stop::End)?;
        self.at += N;
        Ok(*array)
    }

    fn take(&mut self, size: u16) -> Result<&'a [u8], Stop> {
        let rest = self.bytes.get(self.at..).ok_or(Stop::End)?;
        let taken = rest.get(..usize::from(size)).ok_or(Stop::End)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn step(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            Err(Stop::Steps)
        } else {
            Ok(())
        }
    }
}

/// A name as the message has it, which need not be a host name.
#[derive(Default)]
struct Name {
    /// Every label with a dot behind it; empty for the root. At most [`NAME_BYTES_MAX`] - 1 bytes.
    text: Vec<u8>,
    /// A label holds a dot, which the text cannot tell from the end of a label.
    dotted: bool,
}

impl Name {
    fn push(&mut self, label: &[u8]) -> Result<(), Stop> {
        let wire_bytes = self.text.len() + 1 + label.len() + 1;
        if wire_bytes > NAME_BYTES_MAX {
            return Err(Stop::Malformed);
        }
        self.dotted |= label.contains(&b'.');
        self.text.extend_from_slice(label);
        self.text.push(b'.');
        Ok(())
    }

    fn is_root(&self) -> bool {
        self.text.is_empty()
    }

    fn host(&self) -> Result<HostName, Stop> {
        if self.dotted {
            return Err(Stop::NameInvalid);
        }
        HostName::from_text(&self.text).map_err(|_| Stop::NameInvalid)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail by a panic")]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use simple_dns::rdata::{A, AAAA, CNAME, HTTPS, MX, OPT, RData, SVCB, SVCParam};
    use simple_dns::{CLASS, Name as TheirName, Packet, ResourceRecord, TYPE};

    use super::*;

    const RESPONSE: u16 = 0x8180;
    const TRUNCATED: u16 = 0x0200;
    const TYPE_TXT: u16 = 16;
    /// A pointer to the name of the question.
    const ASKED: [u8; 2] = [0xc0, 12];
    const V4: [u8; 4] = [192, 0, 2, 1];
    const MALFORMED: &str = "malformed message";

    fn header(flags: u16, questions: u16, answers: u16) -> Vec<u8> {
        [7, flags, questions, answers, 0, 0]
            .map(u16::to_be_bytes)
            .concat()
    }

    fn wire_name(labels: &[&[u8]]) -> Vec<u8> {
        let with_length = |label: &&[u8]| [&[u8::try_from(label.len()).unwrap()], *label].concat();
        labels.iter().flat_map(with_length).chain([0]).collect()
    }

    fn query(name: &[u8]) -> Vec<u8> {
        [&header(0x0100, 1, 0), name, &[0, 1, 0, 1]].concat()
    }

    /// An answer to `www.example.com` A; its name is at 12, its records start at [`RECORDS_AT`].
    fn answer(flags: u16, count: u16, records: &[u8]) -> Vec<u8> {
        let asked = wire_name(&[b"www", b"example", b"com"]);
        [&header(flags, 1, count), &asked[..], &[0, 1, 0, 1], records].concat()
    }

    const RECORDS_AT: usize = 12 + 17 + 4;

    /// A record of class IN with a TTL of 60 s.
    fn record(owner: &[u8], rtype: u16, data: &[u8]) -> Vec<u8> {
        let size = u16::try_from(data.len()).unwrap();
        let fixed = [rtype, CLASS_IN, 0, 60, size]
            .map(u16::to_be_bytes)
            .concat();
        [owner, &fixed, data].concat()
    }

    fn pointer(target: usize) -> [u8; 2] {
        (0xc000 | u16::try_from(target).unwrap()).to_be_bytes()
    }

    /// An answer as an independent encoder writes it, names compressed.
    fn encode(asked: &'static str, records: Vec<(&'static str, RData<'static>)>) -> Vec<u8> {
        let mut packet = Packet::new_reply(7);
        let name = TheirName::new_unchecked;
        packet.questions.push(simple_dns::Question::new(
            name(asked),
            TYPE::A.into(),
            CLASS::IN.into(),
            false,
        ));
        for (owner, data) in records {
            packet
                .answers
                .push(ResourceRecord::new(name(owner), CLASS::IN, 60, data));
        }
        *packet.opt_mut() = Some(OPT {
            opt_codes: Vec::new(),
            udp_packet_size: 1232,
            version: 0,
        });
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn a(ip: [u8; 4]) -> RData<'static> {
        RData::A(A::from(Ipv4Addr::from(ip)))
    }

    fn cname(target: &'static str) -> RData<'static> {
        RData::CNAME(CNAME(TheirName::new_unchecked(target)))
    }

    fn https(priority: u16, target: &'static str) -> RData<'static> {
        let mut service = SVCB::new(priority, TheirName::new_unchecked(target));
        service.set_port(443);
        service.set_ipv4hint(&[u32::from_be_bytes(V4)]);
        service.set_ipv6hint(&[1]);
        service.set_param(SVCParam::Ech(vec![1, 2, 3].into()));
        RData::HTTPS(HTTPS(service))
    }

    fn corpus() -> Vec<Vec<u8>> {
        let alias = [
            record(&ASKED, TYPE_CNAME, &ASKED),
            record(&ASKED, TYPE_A, &V4),
        ]
        .concat();
        vec![
            query(&wire_name(&[b"www", b"example", b"com"])),
            encode("api.example.com", vec![("api.example.com", a(V4)); 4]),
            encode(
                "a.example",
                vec![("a.example", cname("b.example")), ("b.example", a(V4))],
            ),
            encode("a.example", vec![("a.example", https(1, "svc.example")); 2]),
            answer(RESPONSE, 2, &alias),
        ]
    }

    /// One line per answer, then the flags that are set; or the error.
    #[track_caller]
    fn check(bytes: &[u8], expect: &str) {
        let mut lines = Vec::new();
        match parse(bytes) {
            Ok(message) => {
                lines.extend(message.answers.iter().map(show));
                let flags = [
                    ("truncated", message.truncated),
                    ("answers-cut", message.answers_cut),
                    ("cut-short", message.cut_short),
                    ("name-invalid", message.name_invalid),
                ];
                lines.extend(
                    flags
                        .iter()
                        .filter(|flag| flag.1)
                        .map(|flag| flag.0.to_owned()),
                );
            }
            Err(error) => lines.push(error.to_string()),
        }
        assert_eq!(lines.join("\n"), expect);
    }

    fn show(answer: &Answer) -> String {
        let owner = answer.owner.as_str();
        match &answer.data {
            AnswerData::Address(ip) => format!("{owner} {ip}"),
            AnswerData::Cname(target) => format!("{owner} = {}", target.as_str()),
            AnswerData::Service(Service { target, hints, ech }) => {
                let target = target.as_ref().map_or(".", HostName::as_str);
                format!("{owner} by {target} {hints:?} ech={ech}")
            }
        }
    }

    #[track_caller]
    fn check_question(name: &[u8], expect: Result<&str, Error>) {
        let asked = parse(&query(name)).map(|message| message.question.name);
        assert_eq!(
            asked.as_ref().map(HostName::as_str),
            expect.as_ref().copied()
        );
    }

    #[test]
    fn what_another_encoder_writes_is_read() {
        let aliases = vec![
            ("api.example.com", cname("edge.example.net")),
            ("edge.example.net", a(V4)),
            (
                "edge.example.net",
                RData::AAAA(AAAA::from(Ipv6Addr::LOCALHOST)),
            ),
        ];
        check(
            &encode("api.example.com", aliases),
            "api.example.com = edge.example.net\nedge.example.net 192.0.2.1\nedge.example.net ::1",
        );
        let services = vec![
            ("a.example", https(1, ".")),
            ("a.example", https(0, "b.example")),
        ];
        check(
            &encode("a.example", services),
            "a.example by . [192.0.2.1, ::1] ech=true\na.example by b.example [] ech=false",
        );
        let mail = RData::MX(MX {
            preference: 1,
            exchange: TheirName::new_unchecked("m.example"),
        });
        check(
            &encode("a.example", vec![("a.example", mail), ("a.example", a(V4))]),
            "a.example 192.0.2.1",
        );
    }

    #[test]
    fn header_and_question_are_read() {
        let mut bytes = query(&wire_name(&[b"www", b"example", b"com"]));
        let message = parse(&bytes).unwrap();
        assert_eq!((message.id, message.response, message.rcode), (7, false, 0));
        assert_eq!(
            (message.question.qtype, message.question.qclass),
            (TYPE_A, CLASS_IN)
        );
        bytes[2..4].copy_from_slice(&[0x83, 0x83]);
        let message = parse(&bytes).unwrap();
        assert_eq!(
            (message.response, message.truncated, message.rcode),
            (true, true, 3)
        );
        bytes[2] = 5 << 3;
        check(&bytes, MALFORMED);
    }

    #[test]
    fn counts_that_lie_cost_nothing() {
        check(&header(0x0100, 65_535, 0), MALFORMED);
        check(&header(0x0100, 1, 0), MALFORMED);
        for questions in [0, 2] {
            let asked = [&wire_name(&[b"a"])[..], &[0, 1, 0, 1]].concat().repeat(2);
            check(&[header(0x0100, questions, 0), asked].concat(), MALFORMED);
        }
        check(&answer(RESPONSE, 65_535, &[]), "cut-short");
        check(b"", MALFORMED);
    }

    #[test]
    fn names_are_bounded() {
        let label = [b'a'; 63];
        let longest = [&label[..], &label, &label, &label[..61]];
        let text = longest
            .map(|label| String::from_utf8(label.to_vec()).unwrap())
            .join(".");
        check_question(&wire_name(&longest), Ok(&text));
        check_question(
            &wire_name(&[&label, &label, &label, &label[..62]]),
            Err(Error::Malformed),
        );
        check_question(&wire_name(&[&[b'a'; 64]]), Err(Error::Malformed));
        check_question(&wire_name(&[&[b'a'; 128]]), Err(Error::Malformed));
    }

    #[test]
    fn names_are_host_names_in_one_form() {
        check_question(
            &wire_name(&[b"wWw", b"ExAmPlE", b"CoM"]),
            Ok("www.example.com"),
        );
        check_question(&wire_name(&[b"_ldap", b"_tcp", b"a"]), Ok("_ldap._tcp.a"));
        for label in [&b"a\0b"[..], b"a\xff", b"a b", b"*", b"a.b"] {
            check_question(&wire_name(&[label, b"com"]), Err(Error::NameInvalid));
        }
        check_question(&wire_name(&[]), Err(Error::NameInvalid));
    }

    #[test]
    fn pointers_lead_backwards_into_the_body() {
        let with_owner = |owner: [u8; 2]| answer(RESPONSE, 1, &record(&owner, TYPE_A, &V4));
        check(&with_owner(ASKED), "www.example.com 192.0.2.1");
        check(&with_owner(pointer(16)), "example.com 192.0.2.1");
        check(&with_owner(pointer(RECORDS_AT)), MALFORMED);
        check(&with_owner(pointer(RECORDS_AT + 2)), MALFORMED);
        check(&with_owner(pointer(16_383)), MALFORMED);
        check(&with_owner(pointer(0)), MALFORMED);
        check(&with_owner(pointer(HEADER_BYTES - 1)), MALFORMED);
        // Found at the first look, not after as many as are allowed.
        let self_pointer = with_owner(pointer(RECORDS_AT));
        let mut reader = Reader::new(&self_pointer);
        assert_eq!(reader.message(), Err(Error::Malformed));
        assert!(reader.steps < 10);
        // A name that leads to its own start.
        let owner = [&[1, b'a'][..], &pointer(RECORDS_AT)].concat();
        check(
            &answer(RESPONSE, 1, &record(&owner, TYPE_A, &V4)),
            MALFORMED,
        );
    }

    /// An answer whose last name goes through this many pointers in a row.
    fn chain_of(pointers: usize) -> Vec<u8> {
        let data_at = RECORDS_AT + 12;
        let targets = (0..pointers - 1).map(|index| match index {
            0 => 12,
            _ => data_at + 2 * (index - 1),
        });
        let data: Vec<u8> = targets.flat_map(pointer).collect();
        let last = pointer(data_at + data.len() - 2);
        let records = [record(&ASKED, TYPE_TXT, &data), record(&last, TYPE_A, &V4)].concat();
        answer(RESPONSE, 2, &records)
    }

    #[test]
    fn pointer_chains_are_bounded() {
        check(&chain_of(POINTERS_MAX), "www.example.com 192.0.2.1");
        check(&chain_of(POINTERS_MAX + 1), MALFORMED);
        check(&chain_of(8150), MALFORMED);
    }

    #[test]
    fn what_the_capture_kept_is_used() {
        let records = [record(&ASKED, TYPE_A, &V4), record(&ASKED, TYPE_A, &V4)].concat();
        let whole = answer(RESPONSE, 2, &records);
        let one = "www.example.com 192.0.2.1";
        for len in 0..whole.len() {
            let expect = match len {
                0..RECORDS_AT => MALFORMED.to_owned(),
                _ if len < RECORDS_AT + 16 => "cut-short".to_owned(),
                _ => format!("{one}\ncut-short"),
            };
            check(&whole[..len], &expect);
        }
        check(&whole, &format!("{one}\n{one}"));
        check(
            &answer(RESPONSE | TRUNCATED, 1, &records[..16]),
            &format!("{one}\ntruncated"),
        );
    }

    #[test]
    fn record_lengths_that_lie_are_found() {
        let mut bytes = answer(RESPONSE, 1, &record(&ASKED, TYPE_A, &V4));
        let size_at = RECORDS_AT + 11;
        bytes[size_at] = 5;
        check(&bytes, "cut-short");
        bytes[size_at] = 3;
        check(&bytes, MALFORMED);
        check(
            &answer(RESPONSE, 1, &record(&ASKED, TYPE_AAAA, &V4)),
            MALFORMED,
        );
        check(
            &answer(RESPONSE, 1, &record(&ASKED, TYPE_A, &[0; 16])),
            MALFORMED,
        );
        let padded = [&wire_name(&[b"a"])[..], b"x"].concat();
        check(
            &answer(RESPONSE, 1, &record(&ASKED, TYPE_CNAME, &padded)),
            MALFORMED,
        );
        // The target's name runs on into the next record.
        let records = [
            record(&ASKED, TYPE_CNAME, &[3]),
            record(&ASKED, TYPE_A, &V4),
        ]
        .concat();
        check(&answer(RESPONSE, 2, &records), MALFORMED);
    }

    #[test]
    fn records_of_no_use_are_left_out() {
        let mut other_class = record(&ASKED, TYPE_A, &V4);
        other_class[5] = 3;
        let mut negative_ttl = record(&ASKED, TYPE_A, &V4);
        negative_ttl[6] = 0x80;
        let bad_name = wire_name(&[b"a b", b"com"]);
        let records = [
            record(&[0], 41, &[]),
            record(&[0], 41, &[]),
            other_class,
            record(&bad_name, TYPE_A, &V4),
            record(&ASKED, TYPE_CNAME, &bad_name),
            record(&bad_name, TYPE_TXT, b"any"),
            negative_ttl,
        ];
        let bytes = answer(RESPONSE, 7, &records.concat());
        check(&bytes, "www.example.com 192.0.2.1\nname-invalid");
        assert_eq!(parse(&bytes).unwrap().answers[0].ttl, 0);
    }

    #[test]
    fn service_parameters_are_in_order_and_whole() {
        let with_params = |params: &[u8]| {
            answer(
                RESPONSE,
                1,
                &record(&ASKED, TYPE_HTTPS, &[&[0, 1, 0], params].concat()),
            )
        };
        let (v4, ech) = ([&[0, 4, 0, 4], &V4[..]].concat(), [0, 5, 0, 0]);
        check(
            &with_params(&v4),
            "www.example.com by . [192.0.2.1] ech=false",
        );
        check(
            &with_params(&[&v4[..], &ech].concat()),
            "www.example.com by . [192.0.2.1] ech=true",
        );
        check(&with_params(&[&ech[..], &v4].concat()), MALFORMED);
        check(&with_params(&[&v4[..], &v4].concat()), MALFORMED);
        check(&with_params(&[0, 4, 0, 0]), MALFORMED);
        check(&with_params(&[0, 4, 0, 5, 1, 2, 3, 4, 5]), MALFORMED);
        check(&with_params(&[0, 6, 0, 4, 1, 2, 3, 4]), MALFORMED);
        check(&with_params(&[0, 1, 0, 9, b'h']), MALFORMED);
        check(&with_params(&[0, 4, 0]), MALFORMED);
    }

    #[test]
    fn answers_and_hints_are_bounded() {
        let aliases: Vec<u8> = (0..1000_u16)
            .flat_map(|index| {
                let next = wire_name(&[format!("n{index}").as_bytes(), b"example"]);
                record(&ASKED, TYPE_CNAME, &next)
            })
            .collect();
        let message = parse(&answer(RESPONSE, 1000, &aliases)).unwrap();
        assert_eq!(
            (message.answers.len(), message.answers_cut),
            (ANSWERS_MAX, true)
        );

        let hints = [&[0, 1, 0, 0, 4, 0, 68][..], &V4.repeat(17)].concat();
        let message = parse(&answer(RESPONSE, 1, &record(&ASKED, TYPE_SVCB, &hints))).unwrap();
        let AnswerData::Service(service) = &message.answers[0].data else {
            panic!("no service")
        };
        assert_eq!(
            (service.hints.len(), message.answers_cut),
            (HINTS_MAX, true)
        );
    }

    /// Heap bytes of a message, shared or not.
    fn heap_bytes(message: &Message) -> usize {
        let of_data = |data: &AnswerData| match data {
            AnswerData::Address(_) => 0,
            AnswerData::Cname(target) => target.as_str().len(),
            AnswerData::Service(Service { target, hints, .. }) => {
                let target = target.as_ref().map_or(0, |target| target.as_str().len());
                target + hints.capacity() * size_of::<IpAddr>()
            }
        };
        let of_answers = message.answers.iter();
        let inside = of_answers.map(|answer| answer.owner.as_str().len() + of_data(&answer.data));
        inside.sum::<usize>() + message.answers.capacity() * size_of::<Answer>()
    }

    /// Parses 64 KiB whose records are all `record`, behind one that holds a name in as many
    /// pieces as fit, whose whole is at the pointer that `record` is given.
    #[track_caller]
    fn check_bounded(record_at: impl Fn([u8; 2]) -> Vec<u8>) {
        let data_at = RECORDS_AT + 12;
        let pieces = (0..POINTERS_MAX).flat_map(|index| {
            let next = if index == 0 {
                12
            } else {
                data_at + 4 * (index - 1)
            };
            let [high, low] = pointer(next);
            [1, b'a', high, low]
        });
        // The longest name: 118 labels of one byte, then those of the question.
        let whole = pointer(data_at + 4 * 117);
        let first = record(&ASKED, TYPE_TXT, &pieces.collect::<Vec<u8>>());
        let mut bytes = answer(RESPONSE, 65_535, &first);
        let repeated = record_at(whole);
        while bytes.len() + repeated.len() < 65_536 {
            bytes.extend_from_slice(&repeated);
        }
        let mut reader = Reader::new(&bytes);
        let message = reader.message().unwrap();
        assert!(message.answers_cut);
        assert!(reader.steps <= STEPS_MAX + 1, "{} steps", reader.steps);
        assert!(
            heap_bytes(&message) <= 256 << 10,
            "{} bytes",
            heap_bytes(&message)
        );
    }

    #[test]
    fn the_worst_64_kib_cost_bounded_steps_and_memory() {
        check_bounded(|whole| record(&whole, TYPE_TXT, &[]));
        check_bounded(|whole| record(&whole, TYPE_CNAME, &whole));
        check_bounded(|_| record(&ASKED, TYPE_A, &V4));
        let long = wire_name(&[&[b'a'; 63][..]; 3]);
        check_bounded(|_| record(&long, TYPE_CNAME, &long));
        let v4 = [&[0, 4, 0, 64], &V4.repeat(16)[..]].concat();
        let v6 = [&[0, 6, 1, 0], &[1; 256][..]].concat();
        let hints = [&[0, 1, 0], &v4[..], &v6].concat();
        check_bounded(|_| record(&ASKED, TYPE_HTTPS, &hints));
        let parameters: Vec<u8> = (7..16_000_u16)
            .flat_map(|key| [key.to_be_bytes(), [0, 0]].concat())
            .collect();
        check_bounded(|_| record(&ASKED, TYPE_HTTPS, &[&[0, 1, 0], &parameters[..]].concat()));
    }

    /// xorshift64: the same mutations in every run.
    fn next_random(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from(*state >> 32).unwrap()
    }

    /// The addresses in a message as we read them.
    fn our_addresses(message: &Message) -> Vec<(HostName, IpAddr)> {
        let address = |answer: &Answer| match &answer.data {
            AnswerData::Address(ip) => Some((answer.owner.clone(), *ip)),
            _ => None,
        };
        message.answers.iter().filter_map(address).collect()
    }

    /// The same as another parser reads them; `None` if it reads no such message.
    fn their_addresses(bytes: &[u8]) -> Option<Vec<(HostName, IpAddr)>> {
        let packet = Packet::parse(bytes).ok()?;
        let in_class_in = |record: &&ResourceRecord| {
            record.class == CLASS::IN && !record.cache_flush // The top bit of the class.
        };
        let address = |record: &ResourceRecord| {
            let ip = match &record.rdata {
                RData::A(A { address }) => IpAddr::from(address.to_be_bytes()),
                RData::AAAA(AAAA { address }) => IpAddr::from(address.to_be_bytes()),
                _ => return None,
            };
            Some((
                HostName::from_text(record.name.to_string().as_bytes()).ok()?,
                ip,
            ))
        };
        Some(
            packet
                .answers
                .iter()
                .filter(in_class_in)
                .filter_map(address)
                .collect(),
        )
    }

    #[test]
    fn mutated_messages_never_panic_and_read_as_another_parser_reads_them() {
        let corpus = corpus();
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let (mut parsed, mut compared) = (0, 0);
        for round in 0..200_000 {
            let mut bytes = corpus[round % corpus.len()].clone();
            for _ in 0..=next_random(&mut state) % 4 {
                let at = next_random(&mut state) % bytes.len();
                bytes[at] = next_random(&mut state).to_le_bytes()[0];
            }
            bytes.truncate(bytes.len() - next_random(&mut state) % 8 / 6);
            let Ok(message) = parse(&bytes) else { continue };
            parsed += 1;
            assert!(message.answers.len() <= ANSWERS_MAX);
            for name in message.answers.iter().map(|answer| &answer.owner) {
                assert_eq!(
                    HostName::from_text(name.as_str().as_bytes()).as_ref(),
                    Ok(name)
                );
            }
            if message.cut_short || message.name_invalid {
                continue;
            }
            if let Some(theirs) = their_addresses(&bytes) {
                compared += 1;
                assert_eq!(our_addresses(&message), theirs, "{bytes:x?}");
            }
        }
        // Both ways must have been taken often, or this proves nothing.
        assert!((50_000..150_000).contains(&parsed), "{parsed} parsed");
        assert!(compared > 10_000, "{compared} compared");
    }
}

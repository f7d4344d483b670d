//! The head of an HTTP/1 request, RFC 9112.
//!
//! In: untrusted bytes that a client sent. Out: whom the request is for, from the request target
//! or the Host field. Nothing else of it is kept: each line is forgotten when it was read.

use super::{NameInvalid, Target};

/// The methods of RFC 9110 §9 and RFC 5789. A longer list would take other protocols for HTTP.
const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

/// What a request asks for, when its head is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Something of this server, which the Host field names.
    Origin(Option<Result<Target, NameInvalid>>),
    /// Something of another server, of a proxy.
    Absolute(Result<Target, NameInvalid>),
    /// A tunnel to another server, of a proxy.
    Connect(Result<Target, NameInvalid>),
}

/// Whether bytes begin as a request does; `None` if there are too few.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    let mut more = false;
    for method in METHODS {
        match bytes.get(method.len()) {
            Some(b' ') if bytes.starts_with(method) => return Some(true),
            None => more |= method.starts_with(bytes),
            _ => {}
        }
    }
    if more { None } else { Some(false) }
}

/// Reads a head line by line.
#[derive(Default)]
pub(super) struct Head {
    /// How much of the line in hand was searched for its end.
    searched: usize,
    /// From the request line, as far as it says.
    request: Option<Request>,
}

/// What became of some bytes.
pub(super) struct Read {
    /// How many of them are used up.
    pub(super) used: usize,
    /// The head is whole.
    pub(super) done: bool,
}

impl Head {
    /// Reads the lines in `bytes`, which begin behind those used before. `None` if it is no
    /// request.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<Read> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let unsearched = rest.get(self.searched..).unwrap_or_default();
            let Some(end) = unsearched.iter().position(|&byte| byte == b'\n') else {
                self.searched = rest.len();
                return Some(Read { used, done: false });
            };
            let end = self.searched + end;
            let line = rest.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.searched = 0;
            used += end + 1;
            match &mut self.request {
                None => self.request = Some(request_line(line)?),
                Some(_) if line.is_empty() => return Some(Read { used, done: true }),
                Some(Request::Origin(host)) => {
                    if let Some(value) = host_field(line) {
                        *host = Some(match host {
                            None => Target::from_text(value),
                            Some(_) => Err(NameInvalid::Several),
                        });
                    }
                }
                // RFC 9112 §3.2.2: the target counts, and Host does not.
                Some(Request::Absolute(_) | Request::Connect(_)) => {}
            }
        }
    }

    /// What the request asks for, as far as it was read.
    pub(super) fn request(self) -> Option<Request> {
        self.request
    }
}

/// `None` if the line is no request line, or one of HTTP/0.9.
fn request_line(line: &[u8]) -> Option<Request> {
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with(b"HTTP/1.") || words.next().is_some() {
        return None;
    }
    if method == b"CONNECT" {
        return Some(Request::Connect(Target::from_text(target)));
    }
    let Some(rest) = strip_scheme(target) else {
        return Some(Request::Origin(None));
    };
    let is_end = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
    let authority = rest.split(is_end).next()?;
    Some(Request::Absolute(Target::from_text(authority)))
}

/// What stands behind the scheme of an absolute target.
fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (begin, rest) = target.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// The value of a Host field, if the line is one.
fn host_field(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let is_host = name.trim_ascii().eq_ignore_ascii_case(b"host");
    is_host.then(|| value.get(1..).unwrap_or_default().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::super::{Host, HostName};
    use super::*;

    fn target(host: &str, port: Option<u16>) -> Result<Target, NameInvalid> {
        let host = HostName::from_text(host.as_bytes()).map(Host::Name)?;
        Ok(Target { host, port })
    }

    /// Reads a head at once and byte by byte.
    #[track_caller]
    fn check(text: &str, expect: Option<Request>) {
        let mut head = Head::default();
        let read = head.read(text.as_bytes());
        let request = read.filter(|it| it.done).and_then(|_| head.request());
        assert_eq!(request, expect, "{text:?}");

        let (mut head, mut used, mut done) = (Head::default(), 0, false);
        for end in 1..=text.len() {
            let Some(read) = text.as_bytes().get(used..end).and_then(|it| head.read(it)) else {
                break;
            };
            used += read.used;
            done = read.done;
            if done {
                break;
            }
        }
        let request = if done { head.request() } else { None };
        assert_eq!(request, expect, "{text:?} byte by byte");
    }

    #[test]
    fn hosts_of_requests_are_read() {
        let a = || Some(Request::Origin(Some(target("a.example", None))));
        check("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", a());
        check("GET / HTTP/1.1\r\nX: y\r\nhOsT:a.example. \r\n\r\n", a());
        check("POST /x HTTP/1.1\nHost: A.EXAMPLE\n\n", a());
        check("GET / HTTP/1.0\r\n\r\n", Some(Request::Origin(None)));
        let with_port = Some(Request::Origin(Some(target("a.example", Some(8080)))));
        check(
            "PUT /x HTTP/1.1\r\nHost: a.example:8080\r\n\r\nbody",
            with_port,
        );
        check("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", a());
    }

    #[test]
    fn hosts_that_are_none_are_told() {
        let invalid = |why| Some(Request::Origin(Some(Err(why))));
        let two = "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n";
        check(two, invalid(NameInvalid::Several));
        check(
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            invalid(NameInvalid::Empty),
        );
        let space = "GET / HTTP/1.1\r\nHost: a b\r\n\r\n";
        check(space, invalid(NameInvalid::Character));
        let not_ascii = "GET / HTTP/1.1\r\nHost: b\u{fc}cher.example\r\n\r\n";
        check(not_ascii, invalid(NameInvalid::NotAscii));
    }

    #[test]
    fn requests_of_a_proxy_are_told() {
        let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: b.example:1\r\n\r\n";
        check(
            connect,
            Some(Request::Connect(target("a.example", Some(443)))),
        );
        let invalid = Request::Connect(Err(NameInvalid::Character));
        check("CONNECT /path HTTP/1.1\r\n\r\n", Some(invalid));
        for url in [
            "http://a.example:81/x?y",
            "HTTP://user:password@A.example:81",
            "https://a.example:81?x@c.example",
        ] {
            let text = format!("GET {url} HTTP/1.1\r\nHost: b.example\r\n\r\n");
            check(
                &text,
                Some(Request::Absolute(target("a.example", Some(81)))),
            );
        }
        let ftp = "GET ftp://a.example/ HTTP/1.1\r\n\r\n";
        check(ftp, Some(Request::Origin(None)));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        check("GET /\r\n\r\n", None);
        check("GET / HTTP/2\r\n\r\n", None);
        check("GET / / HTTP/1.1\r\n\r\n", None);
        check("GET / HTTP/1.1\r\nHost: a.example\r\n", None);
        check("\r\n", None);
    }

    #[test]
    fn what_begins_like_a_request_is_told() {
        for (text, expect) in [
            ("", None),
            ("G", None),
            ("GET", None),
            ("GET ", Some(true)),
            ("P", None),
            ("PATCH /", Some(true)),
            ("CONNECT a", Some(true)),
            ("PRI * HTTP/2.0", Some(false)),
            ("GETS ", Some(false)),
            ("get /", Some(false)),
            ("EHLO a.example", Some(false)),
        ] {
            assert_eq!(begins(text.as_bytes()), expect, "{text:?}");
        }
    }
}

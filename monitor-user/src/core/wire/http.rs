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

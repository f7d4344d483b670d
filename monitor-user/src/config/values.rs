//! Text → typed value: one function per kind of value, for the file and for flags alike.
//!
//! In: what the operator wrote. Out: the value, or one line: why not; what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use reqwest::Url;
use rustls::pki_types::ServerName;

use super::{Destination, EventFormat, EventsScope, Sampling, SyslogAddress, SyslogStyle};
use crate::core::redact::Arguments;
use crate::core::wire::Target;

/// Longest name of a variable: longer than any build system has.
const VARIABLE_BYTES_MAX: usize = 128;

/// Longest string: `PATH_MAX` of Linux, and more than any address or identifier.
const TEXT_BYTES_MAX: usize = 4096;
/// Where resolvers are asked, if nothing else is said.
const DNS_PORT: u16 = 53;
/// Longest tool identifier.
const TOOL_ID_BYTES_MAX: usize = 64;

/// Where systemd-resolved tells its answers (src/resolve/resolved-varlink.c).
pub const RESOLVED_SOCKET: &str = "/run/systemd/resolve/io.systemd.Resolve.Monitor";

/// Where the packaged service keeps the kernel side.
pub const PIN_FOLDER: &str = "/sys/fs/bpf/telltale";

/// An address to listen on.
///
/// # Errors
///
/// What to write instead.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.rsplit_once(':').map_or("10142", |(_, port)| port);
    let port = if port.parse::<u16>().is_ok() {
        port
    } else {
        "10142"
    };
    Err(match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => format!("no port; write \"{ip}:10142\""),
        Ok(IpAddr::V6(ip)) => format!("no port; write \"[{ip}]:10142\""),
        Err(_) if text.starts_with(':') => format!(
            "no IP address; write \"[::]:{port}\" for all of this host's, \"127.0.0.1:{port}\" \
             for this host only"
        ),
        Err(_) => format!(
            "not an IP address and a port (names are never resolved); write \"127.0.0.1:{port}\""
        ),
    })
}

/// The path that metrics are served at.
///
/// # Errors
///
/// What to write instead.
pub fn telemetry_path(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || !text.bytes().all(plain) {
        return Err(format!(
            "a path is 1 to {TEXT_BYTES_MAX} letters, digits and / - . _ ~; write \"/metrics\""
        ));
    }
    if !text.starts_with('/') {
        return Err(format!("does not start with /; write \"/{text}\""));
    }
    if ["/", "/-", "/status"].contains(&text) || text.starts_with("/-/") {
        return Err("taken by the monitor's own pages; write \"/metrics\"".to_owned());
    }
    Ok(text.to_owned())
}

/// A file to write, or `-` for standard output.
///
/// # Errors
///
/// What to write instead.
pub fn destination(text: &str) -> Result<Destination, String> {
    match text {
        "-" => Ok(Destination::Stdout),
        "" => Err("empty; write a path, or \"-\" for standard output".to_owned()),
        _ => path(text).map(Destination::File),
    }
}

/// What the event log covers.
///
/// # Errors
///
/// What to write instead.
pub fn events_scope(text: &str) -> Result<EventsScope, String> {
    match text {
        "tools" => Ok(EventsScope::Tools),
        "all" => Ok(EventsScope::All),
        _ => Err("no such scope; write \"tools\" or \"all\"".to_owned()),
    }
}

/// The schema of the event log.
///
/// # Errors
///
/// What to write instead.
pub fn event_format(text: &str) -> Result<EventFormat, String> {
    match text {
        "ecs" => Ok(EventFormat::Ecs),
        "ocsf" => Ok(EventFormat::Ocsf),
        _ => Err("no such format; write \"ecs\" or \"ocsf\"".to_owned()),
    }
}

/// How much of argv is told.
///
/// # Errors
///
/// What to write instead.
pub fn arguments(text: &str) -> Result<Arguments, String> {
    match text {
        "program" => Ok(Arguments::Program),
        "redacted" => Ok(Arguments::Redacted),
        _ => Err("no such choice; write \"program\" or \"redacted\"".to_owned()),
    }
}

/// A path; a relative one counts from the working directory.
///
/// # Errors
///
/// What to write instead.
pub fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("empty; write a path".to_owned());
    }
    if text.contains('\0') || text.len() > TEXT_BYTES_MAX {
        return Err(format!(
            "no path: it holds a NUL, or more than {TEXT_BYTES_MAX} bytes"
        ));
    }
    Ok(PathBuf::from(text))
}

/// Identifier of a tool. Whether the catalog knows it is for [`super::Config::check_banned`].
///
/// # Errors
///
/// What to write instead.
pub fn tool_id(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > TOOL_ID_BYTES_MAX || !text.bytes().all(plain) {
        return Err(
            "no tool identifier: those are a-z, 0-9 and -, at most 64 of them; \
             `telltale catalog list` shows them"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// Whether something is done.
///
/// # Errors
///
/// What to write instead.
pub fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write \"on\" or \"off\"".to_owned()),
    }
}

/// A variable whose value may be shown.
///
/// # Errors
///
/// What to write instead.
pub fn variable(text: &str) -> Result<String, String> {
    /// Parts of names whose values nobody wants to read in a log.
    const SECRETS: [&str; 7] = [
        "TOKEN",
        "SECRET",
        "PASSW",
        "KEY",
        "CREDENTIAL",
        "AUTH",
        "COOKIE",
    ];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.is_empty() || text.len() > VARIABLE_BYTES_MAX || !text.bytes().all(plain) {
        return Err("no name of a variable: those are A-Z, a-z, 0-9 and _".to_owned());
    }
    let upper = text.to_ascii_uppercase();
    match SECRETS.iter().find(|part| upper.contains(**part)) {
        Some(part) => Err(format!(
            "its value may be a secret, as the name holds {part}; choose a variable that holds a \
             name or an id"
        )),
        None => Ok(text.to_owned()),
    }
}

/// Identifier of a rule or an exception.
///
/// # Errors
///
/// What to write instead.
pub fn rule_id(text: &str) -> Result<String, String> {
    tool_id(text).map_err(|_| {
        "no identifier: those are a-z, 0-9 and -, at most 64 of them, as in \"no-telemetry\""
            .to_owned()
    })
}

/// One item of a rule. Whether there is such a thing is for the catalog to say.
///
/// # Errors
///
/// What to write instead.
pub fn word(text: &str) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("more than {TEXT_BYTES_MAX} bytes; shorten it"));
    }
    if text.is_empty() || text.contains(['"', '\\']) || text.chars().any(char::is_control) {
        return Err(
            "no word: it is empty, or holds quotes, backslashes or control characters".to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// A line of text.
///
/// # Errors
///
/// What to write instead.
pub fn line(text: &str) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("more than {TEXT_BYTES_MAX} bytes; shorten it"));
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("empty, or more than one line; write a sentence".to_owned());
    }
    Ok(text.to_owned())
}

/// A day: `2026-12-31`.
///
/// # Errors
///
/// What to write instead.
pub fn date(text: &str) -> Result<String, String> {
    match day_seconds(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("no day; write it as 2026-12-31".to_owned()),
    }
}

/// The first second of a day, since 1970 in UTC; `None` if the text is no day.
pub(super) fn day_seconds(text: &str) -> Option<i64> {
    let time = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// Where alerts are sent.
///
/// # Errors
///
/// What to write instead.
pub fn url(text: &str) -> Result<Url, String> {
    let wanted = "write a URL that starts with http:// or https://";
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("more than {TEXT_BYTES_MAX} bytes; {wanted}"));
    }
    let url = Url::parse(text).map_err(|error| format!("{error}; {wanted}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("scheme {other} is not supported; {wanted}")),
    }
}

/// Base URL of an Alertmanager.
///
/// # Errors
///
/// What to write instead.
pub fn alertmanager_url(text: &str) -> Result<Url, String> {
    let url = url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a base URL has no ? and no #; leave them out".to_owned());
    }
    if url.path().contains("/api/v") {
        return Err("/api/v2/alerts is added; leave it out".to_owned());
    }
    Ok(url)
}

/// A text without line ends or anything else that a terminal would act on.
///
/// # Errors
///
/// What to write instead.
pub fn one_line(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!(
            "1 to {TEXT_BYTES_MAX} bytes on one line are allowed"
        ));
    }
    Ok(text.to_owned())
}

/// Where a receiver of syslog messages listens.
///
/// # Errors
///
/// What to write instead.
pub fn syslog_address(text: &str) -> Result<SyslogAddress, String> {
    let ip_port = |text: &str| {
        text.parse::<SocketAddr>().map_err(|_| {
            "not an IP address and a port (names are never resolved); write for example \
             \"udp:192.0.2.1:514\""
                .to_owned()
        })
    };
    let host_port = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        let unbracketed = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let host = unbracketed.unwrap_or(host);
        ServerName::try_from(host).ok()?;
        Some(SyslogAddress::Tls(host.to_owned(), port.parse().ok()?))
    };
    match text.split_once(':') {
        None if text == "journald" => Ok(SyslogAddress::Journald),
        Some(("unix", socket)) => path(socket).map(SyslogAddress::Unix),
        Some(("udp", address)) => ip_port(address).map(SyslogAddress::Udp),
        Some(("tcp", address)) => ip_port(address).map(SyslogAddress::Tcp),
        Some(("tls", address)) => host_port(address).ok_or_else(|| {
            "not a name, or an IP address, and a port; write for example \
             \"tls:logs.example:6514\""
                .to_owned()
        }),
        _ => Err(
            "no such receiver; write \"unix:/dev/log\", \"udp:IP:PORT\", \
                  \"tcp:IP:PORT\", \"tls:HOST:PORT\" or \"journald\""
                .to_owned(),
        ),
    }
}

/// What a syslog message says.
///
/// # Errors
///
/// What to write instead.
pub fn syslog_style(text: &str) -> Result<SyslogStyle, String> {
    match text {
        "rfc5424" => Ok(SyslogStyle::Rfc5424),
        "cef" => Ok(SyslogStyle::Cef),
        _ => Err("no such format; write \"rfc5424\" or \"cef\"".to_owned()),
    }
}

/// Address of a resolver. IPv4-mapped addresses are IPv4.
///
/// # Errors
///
/// What to write instead.
pub fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, DNS_PORT)),
        Err(_) => text.parse::<SocketAddr>(),
    };
    match address {
        Ok(address) => Ok(SocketAddr::new(address.ip().to_canonical(), address.port())),
        Err(_) => Err("not an IP address; write one such as \"192.0.2.53\"".to_owned()),
    }
}

/// Whether first bytes are read.
///
/// # Errors
///
/// What to write instead.
pub fn sampling(text: &str) -> Result<Sampling, String> {
    match text {
        "on" => Ok(Sampling::On),
        "off" => Ok(Sampling::Off),
        _ => Err("neither; write \"on\" or \"off\"".to_owned()),
    }
}

/// A path, or `off`.
///
/// # Errors
///
/// What to write instead.
pub fn path_or_off(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "off" => Ok(None),
        path => self::path(path).map(Some),
    }
}

/// A proxy.
///
/// # Errors
///
/// What to write instead.
pub fn proxy(text: &str) -> Result<Target, String> {
    let remedy = "write a name or an address such as \"proxy.example:3128\"";
    Target::from_text(text.as_bytes()).map_err(|why| format!("no host ({why}); {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_listen(text: &str, expect: Result<&str, &str>) {
        let got = listen_address(text).map(|address| address.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), expect);
    }

    #[test]
    fn listen_addresses() {
        check_listen("127.0.0.1:10142", Ok("127.0.0.1:10142"));
        check_listen("[::]:0", Ok("[::]:0"));
        check_listen("127.0.0.1", Err("no port; write \"127.0.0.1:10142\""));
        check_listen("::1", Err("no port; write \"[::1]:10142\""));
        check_listen(
            ":9100",
            Err(
                "no IP address; write \"[::]:9100\" for all of this host's, \
                 \"127.0.0.1:9100\" for this host only",
            ),
        );
        let no_name = "not an IP address and a port (names are never resolved); ";
        check_listen(
            "localhost:9100",
            Err(&format!("{no_name}write \"127.0.0.1:9100\"")),
        );
        check_listen(
            "127.0.0.1:99999",
            Err(&format!("{no_name}write \"127.0.0.1:10142\"")),
        );
        check_listen("", Err(&format!("{no_name}write \"127.0.0.1:10142\"")));
    }

    #[track_caller]
    fn check_path(text: &str, good: bool) {
        assert_eq!(telemetry_path(text).is_ok(), good, "{text:?}");
    }

    #[test]
    fn telemetry_paths() {
        for good in ["/metrics", "/a/b-c._~9", "/-metrics"] {
            check_path(good, true);
        }
        // Braces would be captures to the HTTP router.
        for bad in [
            "", "metrics", "/", "/-", "/status", "/-/ready", "/{a}", "/a b", "/é", "/a?b", "/a\n",
        ] {
            check_path(bad, false);
        }
    }

    #[test]
    fn destinations() {
        assert_eq!(destination("-"), Ok(Destination::Stdout));
        assert_eq!(
            destination("./-"),
            Ok(Destination::File(PathBuf::from("./-")))
        );
        assert!(destination("").is_err());
        assert!(destination("a\0b").is_err());
        assert!(destination(&"x".repeat(TEXT_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn tool_ids() {
        assert_eq!(tool_id("claude-code"), Ok("claude-code".to_owned()));
        for bad in [
            "",
            "Claude",
            "claude code",
            "claude_code",
            "é",
            &"x".repeat(65),
        ] {
            assert!(tool_id(bad).is_err(), "{bad:?}");
        }
    }

    #[track_caller]
    fn check_url(text: &str, expect: Result<&str, &str>) {
        let got = alertmanager_url(text).map(String::from);
        assert_eq!(got.as_deref().map_err(String::as_str), expect);
    }

    #[test]
    fn urls() {
        let wanted = "write a URL that starts with http:// or https://";
        check_url("http://127.0.0.1:9093", Ok("http://127.0.0.1:9093/"));
        check_url("https://user:pw@[::1]/am", Ok("https://user:pw@[::1]/am"));
        check_url(
            "file:///etc/passwd",
            Err(&format!("scheme file is not supported; {wanted}")),
        );
        check_url(
            "127.0.0.1:9093",
            Err(&format!("relative URL without a base; {wanted}")),
        );
        check_url("http://", Err(&format!("empty host; {wanted}")));
        check_url(
            "http://h/?a",
            Err("a base URL has no ? and no #; leave them out"),
        );
        check_url(
            "http://h/api/v2/alerts",
            Err("/api/v2/alerts is added; leave it out"),
        );
        assert!(url("http://h/?a#b").is_ok());
        assert!(url(&format!("http://h/{}", "x".repeat(TEXT_BYTES_MAX))).is_err());
    }

    #[test]
    fn receivers_of_syslog() {
        let udp = SyslogAddress::Udp("[::1]:514".parse().unwrap());
        assert_eq!(syslog_address("udp:[::1]:514"), Ok(udp));
        let unix = SyslogAddress::Unix(PathBuf::from("/dev/log"));
        assert_eq!(syslog_address("unix:/dev/log"), Ok(unix));
        assert_eq!(syslog_address("journald"), Ok(SyslogAddress::Journald));
        let tls = |host: &str| Ok(SyslogAddress::Tls(host.to_owned(), 6514));
        assert_eq!(syslog_address("tls:logs.example:6514"), tls("logs.example"));
        assert_eq!(syslog_address("tls:[2001:db8::1]:6514"), tls("2001:db8::1"));
        for bad in [
            "",
            "unix:",
            "udp:host:514",
            "tcp:192.0.2.1",
            "tls:192.0.2.1",
            "tls:logs.example:65536",
            "tls:a b:6514",
        ] {
            assert!(syslog_address(bad).is_err(), "{bad:?}");
        }
        assert!(syslog_style("leef").is_err());
        assert!(one_line("a\nb").is_err());
    }

    #[test]
    fn resolvers() {
        assert_eq!(
            resolver("::ffff:192.0.2.53"),
            Ok(SocketAddr::from(([192, 0, 2, 53], 53)))
        );
        assert_eq!(
            resolver("[::ffff:192.0.2.53]:5353"),
            Ok(SocketAddr::from(([192, 0, 2, 53], 5353)))
        );
        assert!(resolver("192.0.2.53:").is_err());
        assert!(resolver("dns.example.org").is_err());
    }
}

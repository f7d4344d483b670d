//! The web configuration file that Prometheus and its exporters share: TLS, users, headers.
//!
//! In: `web-config.yml`, as the exporter toolkit documents it, and the files that it names. Out: a
//! [`WebConfig`], read anew when one of those files changes. One that cannot be used stops
//! Telltale at its start; later, the last good one stays.
//!
//! What rustls cannot do, or what would look like protection and be none, is refused by name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, anyhow, bail};
use axum::http::{HeaderName, HeaderValue};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    version,
};
use serde::Deserialize;

/// Longest web configuration, certificate or key: some thousand users, or some hundred
/// certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Headers that the exporter toolkit lets be set.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];

/// How clients are met.
#[derive(Debug, Default)]
pub struct WebConfig {
    /// TLS; `None` is plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Names and bcrypt hashes of who may ask; empty lets everyone.
    pub users: BTreeMap<String, String>,
    /// Headers of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The web configuration as it is now.
#[derive(Debug)]
pub struct WebConfigFile {
    path: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<WebConfig>,
    /// All files that it was read from, as they were then.
    stamps: Vec<(PathBuf, Stamp)>,
    usable: bool,
}

/// What changes with a file's content.
type Stamp = Option<(SystemTime, u64)>;

impl WebConfigFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// If it, or a file that it names, cannot be read or used; the text names it and the key.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let (config, stamps) = load(path)?;
        let current = Current {
            config: Arc::new(config),
            stamps,
            usable: true,
        };
        Ok(WebConfigFile {
            path: path.to_owned(),
            current: Mutex::new(current),
        })
    }

    /// The configuration, read anew if a file has changed, and whether the files can be used: if
    /// not, it is what was read last.
    pub fn current(&self) -> (Arc<WebConfig>, bool) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let same = current
            .stamps
            .iter()
            .all(|(path, then)| stamp(path) == *then);
        if !same {
            match load(&self.path) {
                Ok((config, stamps)) => {
                    tracing::info!("{} is read anew", self.path.display());
                    *current = Current {
                        config: Arc::new(config),
                        stamps,
                        usable: true,
                    };
                }
                Err(error) => {
                    tracing::error!("the web configuration stays as it was: {error:#}");
                    // Tried again when a file changes, not at each request.
                    for (path, then) in &mut current.stamps {
                        *then = stamp(path);
                    }
                    current.usable = false;
                }
            }
        }
        (Arc::clone(&current.config), current.usable)
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The file, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    tls_server_config: Option<Tls>,
    http_server_config: Http,
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    client_auth_type: Option<String>,
    client_allowed_sans: Vec<String>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    prefer_server_cipher_suites: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    /// Accepted for the sake of files that have it: HTTP/1.1 is spoken either way, which every
    /// client of HTTP/2 speaks too.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: BTreeMap<String, String>,
}

type Loaded = (WebConfig, Vec<(PathBuf, Stamp)>);

fn load(path: &Path) -> anyhow::Result<Loaded> {
    let of_file = || format!("web configuration {}", path.display());
    // Taken before reading: a change in between is then found the next time.
    let mut stamps = vec![(path.to_owned(), stamp(path))];
    let text = String::from_utf8(read(path).with_context(of_file)?)
        .map_err(|_| anyhow!("not UTF-8"))
        .with_context(of_file)?;
    let written: Written = if text.trim().is_empty() {
        Written::default()
    } else {
        serde_saphyr::from_str(&text)
            .map_err(|error| anyhow!("{error}"))
            .with_context(of_file)?
    };
    let mut config = WebConfig::default();
    if let Some(tls) = &written.tls_server_config {
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let files = [&tls.cert_file, &tls.key_file, &tls.client_ca_file];
        for file in files.into_iter().flatten() {
            let file = folder.join(file);
            stamps.push((file.clone(), stamp(&file)));
        }
        let server = server_config(tls, folder).context("tls_server_config");
        config.tls = Some(Arc::new(server.with_context(of_file)?));
    }
    config.headers = headers(&written.http_server_config.headers).with_context(of_file)?;
    for (user, hash) in &written.basic_auth_users {
        // The hash itself is not shown.
        if hash.parse::<bcrypt::HashParts>().is_err() {
            bail!(
                "web configuration {}: basic_auth_users: {user:?} has no bcrypt hash; make one \
                 with: htpasswd -nBC 10 {user:?}",
                path.display()
            );
        }
    }
    config.users = written.basic_auth_users;
    Ok((config, stamps))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    if !metadata.is_file() {
        bail!("{} is not a regular file", path.display());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .with_context(|| path.display().to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("{} has more than {FILE_BYTES_MAX} bytes", path.display());
    }
    Ok(bytes)
}

fn headers(written: &BTreeMap<String, String>) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let one = |(name, value): (&String, &String)| {
        let key = || format!("http_server_config.headers.{name}");
        if !HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(anyhow!("only {} can be set", HEADERS.join(", "))).with_context(key);
        }
        let name = HeaderName::try_from(name).with_context(key)?;
        Ok((name, HeaderValue::try_from(value).with_context(key)?))
    };
    written.iter().map(one).collect()
}

fn server_config(tls: &Tls, folder: &Path) -> anyhow::Result<ServerConfig> {
    let pem = |name: &str, file: &Option<PathBuf>, inline: &Option<String>| match (file, inline) {
        (Some(_), Some(_)) => bail!("{name} and {name}_file are both there; leave one out"),
        (Some(file), None) => read(&folder.join(file)).map(Some),
        (None, Some(text)) => Ok(Some(text.clone().into_bytes())),
        (None, None) => Ok(None),
    };
    let missing = |name: &str| anyhow!("{name}_file is missing");
    let chain = pem("cert", &tls.cert_file, &tls.cert)?.ok_or_else(|| missing("cert"))?;
    let key = pem("key", &tls.key_file, &tls.key)?.ok_or_else(|| missing("key"))?;
    let client_ca = pem("client_ca", &tls.client_ca_file, &tls.client_ca)?;
    let chain: Vec<_> = certificates(&chain).context("cert")?;
    let key = PrivateKeyDer::from_pem_slice(&key).context("key: no PEM private key")?;

    let provider = Arc::new(provider(tls)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(tls)?)?;
    if !tls.client_allowed_sans.is_empty() {
        bail!("client_allowed_sans is not supported; give clients a CA of their own instead");
    }
    let builder = match tls.client_auth_type.as_deref().unwrap_or("NoClientCert") {
        "NoClientCert" | "" if client_ca.is_some() => bail!(
            "client_ca is there, and client_auth_type is not; write RequireAndVerifyClientCert"
        ),
        "NoClientCert" | "" => builder.with_no_client_auth(),
        kind @ ("RequireAndVerifyClientCert" | "VerifyClientCertIfGiven") => {
            let ca = client_ca.ok_or_else(|| missing("client_ca"))?;
            let mut roots = RootCertStore::empty();
            for certificate in certificates(&ca).context("client_ca")? {
                roots.add(certificate).context("client_ca")?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match kind {
                "VerifyClientCertIfGiven" => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().context("client_ca")?)
        }
        kind @ ("RequestClientCert" | "RequireAnyClientCert") => bail!(
            "client_auth_type {kind} takes any certificate, which proves nothing; write \
             RequireAndVerifyClientCert"
        ),
        kind => bail!(
            "client_auth_type {kind:?} is unknown; write NoClientCert, VerifyClientCertIfGiven or \
             RequireAndVerifyClientCert"
        ),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .context("cert and key do not belong together")?;
    config.ignore_client_order = tls.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.context("not PEM")?;
    if certificates.is_empty() {
        bail!("no PEM certificate");
    }
    Ok(certificates)
}

/// The TLS versions between `min_version` and `max_version`.
fn versions(tls: &Tls) -> anyhow::Result<Vec<&'static SupportedProtocolVersion>> {
    let parse = |key: &str, text: &Option<String>, default| match text.as_deref() {
        None => Ok(default),
        Some("TLS12") => Ok(ProtocolVersion::TLSv1_2),
        Some("TLS13") => Ok(ProtocolVersion::TLSv1_3),
        Some("TLS10" | "TLS11") => Err(anyhow!(
            "{key}: TLS 1.0 and 1.1 are broken and not spoken; write TLS12"
        )),
        Some(other) => Err(anyhow!("{key}: {other:?} is unknown; write TLS12 or TLS13")),
    };
    let min = parse("min_version", &tls.min_version, ProtocolVersion::TLSv1_2)?;
    let max = parse("max_version", &tls.max_version, ProtocolVersion::TLSv1_3)?;
    let order = |version: ProtocolVersion| u16::from(version);
    let between = [&version::TLS12, &version::TLS13]
        .into_iter()
        .filter(|it| (order(min)..=order(max)).contains(&order(it.version)))
        .collect::<Vec<_>>();
    if between.is_empty() {
        bail!("min_version is above max_version");
    }
    Ok(between)
}

/// The ciphers and curves that the file leaves. As in the exporter toolkit, those of TLS 1.3 are
/// not for it to choose.
fn provider(tls: &Tls) -> anyhow::Result<CryptoProvider> {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        let known = provider.cipher_suites.clone();
        let old = |suite: &&SupportedCipherSuite| suite.tls13().is_none();
        for wanted in &tls.cipher_suites {
            if !known.iter().any(|suite| name_of(suite) == *wanted) {
                let names: Vec<_> = known.iter().filter(old).map(name_of).collect();
                bail!(
                    "cipher_suites: {wanted:?} is not spoken; there are {}",
                    names.join(", ")
                );
            }
        }
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || tls.cipher_suites.contains(&name_of(suite)));
    }
    if !tls.curve_preferences.is_empty() {
        let all = provider.kx_groups.clone();
        provider.kx_groups.clear();
        for wanted in &tls.curve_preferences {
            let name = match wanted.as_str() {
                "CurveP256" => "secp256r1",
                "CurveP384" => "secp384r1",
                "X25519" => "X25519",
                other => bail!(
                    "curve_preferences: {other:?} is not spoken; there are CurveP256, CurveP384 \
                     and X25519"
                ),
            };
            let group = all
                .iter()
                .find(|group| format!("{:?}", group.name()) == name);
            provider.kx_groups.extend(group);
        }
    }
    Ok(provider)
}

/// The name that the IANA registry, and Go, have for a cipher suite.
fn name_of(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `cert.pem` and `key.pem` for 127.0.0.1.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(
            folder.path().join("key.pem"),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
        folder
    }

    fn open(folder: &Path, text: &str) -> anyhow::Result<WebConfigFile> {
        let path = folder.join("web-config.yml");
        fs::write(&path, text).unwrap();
        WebConfigFile::open(&path)
    }

    const TLS: &str = "tls_server_config: {cert_file: cert.pem, key_file: key.pem";

    #[track_caller]
    fn check_refused(text: &str, expect: &str) {
        let folder = folder();
        let error = format!("{:#}", open(folder.path(), text).unwrap_err());
        assert!(error.contains("web-config.yml"), "{error}");
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy() {
        check_refused("tls_server_confg: {}", "tls_server_confg");
        check_refused("tls_server_config: {}", "cert_file is missing");
        check_refused(
            "tls_server_config: {cert_file: none.pem, key_file: key.pem}",
            "none.pem",
        );
        check_refused(
            "tls_server_config: {cert_file: key.pem, key_file: key.pem}",
            "no PEM cert",
        );
        check_refused(
            "tls_server_config: {cert_file: cert.pem, key_file: cert.pem}",
            "key: no PEM",
        );
        let tls = |more: &str| format!("{TLS}, {more}}}");
        check_refused(&tls("min_version: TLS10"), "write TLS12");
        check_refused(
            &tls("min_version: TLS13, max_version: TLS12"),
            "above max_version",
        );
        check_refused(
            &tls("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"),
            "there are TLS_ECDHE",
        );
        check_refused(&tls("curve_preferences: [CurveP521]"), "CurveP256");
        check_refused(
            &tls("client_auth_type: RequireAnyClientCert"),
            "proves nothing",
        );
        check_refused(
            &tls("client_auth_type: RequireAndVerifyClientCert"),
            "client_ca_file is miss",
        );
        check_refused(
            &tls("client_ca_file: cert.pem"),
            "RequireAndVerifyClientCert",
        );
        check_refused(
            &tls("client_allowed_sans: [a]"),
            "client_allowed_sans is not supported",
        );
        check_refused(
            "basic_auth_users: {alice: secret}",
            "\"alice\" has no bcrypt hash",
        );
        check_refused(
            "http_server_config: {headers: {Server: x}}",
            "only Content-Security-Policy",
        );
    }

    #[test]
    fn everything_that_can_be_said() {
        let folder = folder();
        let text = format!(
            "{TLS}, client_ca_file: cert.pem, client_auth_type: RequireAndVerifyClientCert,\n\
             min_version: TLS12, max_version: TLS13, prefer_server_cipher_suites: true,\n\
             curve_preferences: [CurveP256, X25519],\n\
             cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]}}\n\
             http_server_config: {{http2: true, headers: {{X-Frame-Options: deny}}}}\n\
             basic_auth_users: {{alice: $2b$04$WbyUSpZyKhEvSPnoPKCkceiuGfqXVKA4LT3DzKnT5IKUHyAxpVGD2}}\n"
        );
        let file = open(folder.path(), &text).unwrap();
        let (config, usable) = file.current();
        assert!(usable && config.tls.is_some());
        assert_eq!(config.headers.len(), 1);
        assert_eq!(config.users.keys().collect::<Vec<_>>(), ["alice"]);
        let empty = open(folder.path(), "").unwrap().current().0;
        assert!(empty.tls.is_none() && empty.users.is_empty());
    }

    #[test]
    fn it_is_read_anew_and_a_mistake_changes_nothing() {
        let folder = folder();
        let path = folder.path().join("web-config.yml");
        let file = open(
            folder.path(),
            "http_server_config: {headers: {X-Frame-Options: deny}}",
        )
        .unwrap();
        fs::write(&path, "{}").unwrap();
        assert_eq!(file.current().0.headers.len(), 0);
        fs::write(&path, format!("{TLS}, min_version: TLS99}}")).unwrap();
        let (config, usable) = file.current();
        assert!(!usable && config.tls.is_none());
        assert!(!file.current().1, "still not");
        fs::write(&path, format!("{TLS}}}")).unwrap();
        let (config, usable) = file.current();
        assert!(usable && config.tls.is_some());
    }
}

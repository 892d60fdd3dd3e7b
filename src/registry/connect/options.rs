//! How connections to one registry are made, after the configuration has been read: who is believed at the other end of
//! TLS, and who we are there. Files in PEM form are read and checked when the
//! configuration is.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::registry::credentials::rsa_key;
use crate::registry::{Mirror, TokenService, locate};

/// A file with certificates is not larger than this, in bytes.
const MAX_PEM: u64 = 4 * 1024 * 1024;

/// How connections to one registry are made. The default is what the system and the environment say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transport {
    /// Whom to believe by TLS, and who to be.
    pub tls: Tls,
    /// Offer no HTTP/2 by TLS. Without TLS it is never spoken.
    pub http1_only: bool,
    /// What connections go through.
    pub proxy: Proxy,
    /// What stands before `/v2/` in the addresses of the API.
    pub path_prefix: Option<PathPrefix>,
    /// The token service that gets the credentials wherever it is. `None` believes the registry, within bounds.
    pub token_service: Option<TokenService>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Where what is addressed by its digest is read first, in this order.
    pub mirrors: Vec<Mirror>,
}

impl Transport {
    /// The same with certificates looked at, where they are not.
    pub(crate) fn verifying(&self) -> Option<Self> {
        let tls = Tls { insecure_skip_verify: false, ..self.tls.clone() };
        self.tls.insecure_skip_verify.then(|| Self { tls, ..self.clone() })
    }
}

/// How long to wait for a registry; `None` is the client's own default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, with TLS. Default 15 s.
    pub connect: Option<Duration>,
    /// Without a single byte in the midst of a blob. Default 60 s.
    pub idle: Option<Duration>,
    /// For an answer to begin. Default 60 s.
    pub header: Option<Duration>,
}

/// A path below which a registry's API stands: `/artifactory/api/docker/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix(String);

/// A text that is not a [`PathPrefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path before the API: expected one like /artifactory/api/docker/x, to which /v2/ is added")]
pub struct PathPrefixError(String);

impl FromStr for PathPrefix {
    type Err = PathPrefixError;

    fn from_str(text: &str) -> Result<Self, PathPrefixError> {
        let segment = |segment: &str| {
            let plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'));
            plain && !matches!(segment, "" | "." | "..")
        };
        let path = text.strip_suffix('/').unwrap_or(text);
        let good = path.strip_prefix('/').is_some_and(|path| path.split('/').all(segment));
        // It is written as addresses are, down to the API, by mistake.
        if good && !path.ends_with("/v2") { Ok(Self(path.to_owned())) } else { Err(PathPrefixError(text.to_owned())) }
    }
}

impl PathPrefix {
    /// The path, with a slash before it and none after it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The proxy of one registry, and of the token service and the stores that it points at.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Proxy {
    /// As `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say, but never to this machine itself.
    #[default]
    Environment,
    /// None, whatever the environment says.
    None,
    /// This one, whatever the environment says.
    Through(ProxyAddress),
}

/// Where a proxy is, perhaps with a user and a password for it, which are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyAddress(Url);

/// A text that is not a [`Proxy`]. It is not repeated, for it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no proxy: expected http://HOST:PORT, https://HOST:PORT, or none")]
pub struct ProxyError;

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        if text == "none" {
            return Ok(Self::None);
        }
        let url: Url = text.parse().map_err(|_| ProxyError)?;
        let good = matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none();
        if good { Ok(Self::Through(ProxyAddress(url))) } else { Err(ProxyError) }
    }
}

impl ProxyAddress {
    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&locate::site(&self.0))
    }
}

/// The TLS of one registry, and of the token service and the stores that it points at. The default believes the
/// authorities of the system, and shows no certificate of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that are believed beside the system's.
    pub ca: Option<Pem>,
    /// Our own certificate with those that lead to its authority, and its key, for servers that ask for one.
    pub identity: Option<(Pem, Pem)>,
    /// Believe whoever answers. Nothing is safe then, credentials least of all.
    pub insecure_skip_verify: bool,
}

/// A file in PEM form as it was when it was read. `Debug` shows where it is, not what is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    path: PathBuf,
    bytes: Arc<[u8]>,
}

/// What is wrong with a file in PEM form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// It is not there, or not for us.
    #[error("the file {} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It is something else.
    #[error("the file {} has no certificate: PEM is expected, with a line -----BEGIN CERTIFICATE-----", .0.display())]
    NoCertificate(PathBuf),
    /// It is damaged.
    #[error("the file {} has a certificate that cannot be read: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It is something else.
    #[error("the file {} has no private key: PEM is expected, with a line -----BEGIN PRIVATE KEY-----", .0.display())]
    NoKey(PathBuf),
    /// A passphrase would be needed.
    #[error("the private key in the file {} is encrypted: write it without a passphrase", .0.display())]
    EncryptedKey(PathBuf),
    /// They are not of one pair, or the key is damaged.
    #[error("the private key in the file {} does not belong to the certificate in {}: {reason}", key.display(), certificate.display())]
    Pair {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Tls {
    /// The files that this was read from.
    pub fn files(&self) -> impl Iterator<Item = &Pem> {
        let ours = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.ca.iter().chain(ours)
    }

    /// What is allowed by this and yet not well, for whoever starts us or looks at the configuration.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        self.insecure_skip_verify.then_some(
            "its certificate is not verified (tls.insecure_skip_verify): whoever is in between can read the credentials and \
             change the images",
        )
    }
}

impl Pem {
    /// Reads a file with one certificate at least.
    ///
    /// # Errors
    /// [`PemError`] where it cannot be read or has none that can be used.
    pub fn certificates(path: &Path) -> Result<Self, PemError> {
        let pem = Self::read(path)?;
        let broken = |error: reqwest::Error| PemError::Certificate { path: path.to_owned(), reason: innermost(&error) };
        if !pem.has("-----BEGIN CERTIFICATE-----") {
            return Err(PemError::NoCertificate(path.to_owned()));
        }
        let certificates = pem.parsed().map_err(broken)?;
        // Only a client looks at what is in them.
        reqwest::Client::builder().tls_certs_only(certificates).build().map_err(broken)?;
        Ok(pem)
    }

    /// Reads a file with the private key of the first certificate in `certificate`.
    ///
    /// # Errors
    /// [`PemError`] where it cannot be read, has none that can be used, or another one.
    pub fn key(path: &Path, certificate: &Self) -> Result<Self, PemError> {
        let pem = Self::read(path)?;
        if pem.has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || pem.has("Proc-Type: 4,ENCRYPTED") {
            return Err(PemError::EncryptedKey(path.to_owned()));
        }
        if !pem.has("PRIVATE KEY-----") {
            return Err(PemError::NoKey(path.to_owned()));
        }
        let builder = reqwest::Client::builder().tls_certs_only([]);
        identity(certificate, &pem).and_then(|identity| builder.identity(identity).build()).map_err(|error| {
            let (certificate, key) = (certificate.path.clone(), path.to_owned());
            PemError::Pair { certificate, key, reason: innermost(&error) }
        })?;
        Ok(pem)
    }

    /// The file that it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file has now, whatever that is: it is not checked.
    ///
    /// # Errors
    /// [`PemError::Unreadable`].
    pub fn read_again(&self) -> Result<Self, PemError> {
        Self::read(&self.path)
    }

    fn read(path: &Path) -> Result<Self, PemError> {
        let unreadable = |reason: String| PemError::Unreadable { path: path.to_owned(), reason };
        let bytes = crate::regular_file::read(path, MAX_PEM).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self { path: path.to_owned(), bytes: bytes.into() })
    }

    /// Whether it has an RSA key: Azure takes no other by which to prove who we are.
    #[must_use]
    pub fn has_rsa_key(&self) -> bool {
        rsa_key(&self.bytes).is_some()
    }

    pub(in crate::registry) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn has(&self, line: &str) -> bool {
        self.bytes.windows(line.len()).any(|window| window == line.as_bytes())
    }

    pub(super) fn parsed(&self) -> reqwest::Result<Vec<reqwest::Certificate>> {
        reqwest::Certificate::from_pem_bundle(&self.bytes)
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({})", self.path.display())
    }
}

pub(super) fn identity(certificate: &Pem, key: &Pem) -> reqwest::Result<reqwest::Identity> {
    reqwest::Identity::from_pem(&[&certificate.bytes[..], b"\n", &key.bytes].concat())
}

/// The innermost reason says what is wrong; those around it, that something is.
fn innermost(error: &reqwest::Error) -> String {
    let (mut reason, mut next) = ("it cannot be used".to_owned(), error.source());
    while let Some(error) = next {
        (reason, next) = (error.to_string(), error.source());
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of the configuration's tests: `me.pem` and `me.key` are a pair, `ca.pem` is another certificate.
    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/credentials").join(name)
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_what_they_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let encrypted = made("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
        let damaged = made("damaged.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
        let said = |error: PemError| {
            let text = error.to_string().replace(folder.path().to_str().unwrap(), "");
            text.replace(fixture("").to_str().unwrap(), "/")
        };
        let certificates = |path: &Path| Pem::certificates(path).map_err(said);
        let me = certificates(&fixture("me.pem")).unwrap();
        let with_key = |path: &Path| Pem::key(path, &me).map_err(said);
        assert!(with_key(&fixture("me.key")).is_ok());
        assert_eq!(
            certificates(&folder.path().join("none.pem")).unwrap_err(),
            "the file /none.pem cannot be read: No such file or directory (os error 2)"
        );
        assert_eq!(
            certificates(folder.path()).unwrap_err(),
            "the file  cannot be read: it is a directory, not a regular file"
        );
        assert_eq!(
            certificates(&fixture("me.key")).unwrap_err(),
            "the file /me.key has no certificate: PEM is expected, with a line -----BEGIN CERTIFICATE-----"
        );
        assert_eq!(
            certificates(&damaged).unwrap_err(),
            "the file /damaged.pem has a certificate that cannot be read: invalid peer certificate: BadEncoding"
        );
        assert_eq!(
            with_key(&fixture("me.pem")).unwrap_err(),
            "the file /me.pem has no private key: PEM is expected, with a line -----BEGIN PRIVATE KEY-----"
        );
        assert_eq!(
            with_key(&encrypted).unwrap_err(),
            "the private key in the file /encrypted.key is encrypted: write it without a passphrase"
        );
        let other = certificates(&fixture("ca.pem")).unwrap();
        assert_eq!(
            Pem::key(&fixture("me.key"), &other).map_err(said).unwrap_err(),
            "the private key in the file /me.key does not belong to the certificate in /ca.pem: \
             keys may not be consistent: KeyMismatch"
        );
    }

    #[test]
    fn a_path_prefix_is_a_plain_path_without_the_api() {
        for (text, path) in [("/a/b.c_d~e-1", "/a/b.c_d~e-1"), ("/a/", "/a"), ("/v2x", "/v2x")] {
            assert_eq!(text.parse::<PathPrefix>().unwrap().as_str(), path);
        }
        for text in ["", "/", "a", "//a", "/a//b", "/../a", "/a?b", "/a b", "/a%2Fb", "/a/v2", "/v2/", "https://h/a"] {
            assert!(text.parse::<PathPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_proxy_is_read_and_its_password_is_not_shown() {
        let proxy: Proxy = "http://me:hunter2@proxy.example:3128".parse().unwrap();
        assert_eq!(format!("{proxy:?}"), "Through(http://proxy.example:3128)");
        assert_eq!("none".parse(), Ok(Proxy::None));
        for text in ["proxy.example:3128", "socks5://p:1080", "http://me:hunter2@p/path", "http://p/?x", "", "off"] {
            assert_eq!(text.parse::<Proxy>(), Err(ProxyError), "{text}");
        }
    }

    #[test]
    fn a_key_is_never_shown_and_another_content_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("me.pem");
        let both =
            std::fs::read_to_string(fixture("me.key")).unwrap() + &std::fs::read_to_string(fixture("me.pem")).unwrap();
        std::fs::write(&path, both).unwrap();
        let before = Pem::certificates(&path).unwrap();
        assert!(Pem::key(&path, &before).is_ok(), "both in one file");
        assert_eq!(format!("{before:?}"), format!("Pem({})", path.display()));
        std::fs::copy(fixture("me.pem"), &path).unwrap();
        assert_ne!(Pem::certificates(&path).unwrap(), before);
    }
}

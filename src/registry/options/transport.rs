//! Options of the connections to one registry: TLS, proxy, path prefix, token service, time limits and mirrors.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::RsaKeyPair;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use super::mirror::Mirror;
use super::token_service::TokenService;

/// Maximum size of a file in PEM form, in bytes.
const MAX_PEM: u64 = 4 * 1024 * 1024;

/// Options of the connections to one registry. By default, the client trusts the certificate authorities of the system,
/// and uses the proxy that the environment names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transport {
    /// Trusted authorities and client certificate.
    pub tls: Tls,
    /// True if the client does not offer HTTP/2 over TLS. Without TLS, the client always uses HTTP/1.1.
    pub http1_only: bool,
    /// Proxy of the connections.
    pub proxy: Proxy,
    /// Path before `/v2/` in the URLs of the API.
    pub path_prefix: Option<PathPrefix>,
    /// Token service that the operator trusts, even at a local address. If `None`, the client uses the token service
    /// that the registry names, but only at an allowed address.
    pub token_service: Option<TokenService>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Mirrors, in the order of use. The client reads content with a known digest from the mirrors first.
    pub mirrors: Vec<Mirror>,
}

impl Transport {
    /// Returns the same options with certificate verification. `None` if the verification is already on.
    pub(crate) fn verifying(&self) -> Option<Self> {
        let tls = Tls { insecure_skip_verify: false, ..self.tls.clone() };
        self.tls.insecure_skip_verify.then(|| Self { tls, ..self.clone() })
    }
}

/// Time limits of requests to a registry; `None` is the client's own default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Maximum time to open a connection, including TLS. Default 15 s.
    pub connect: Option<Duration>,
    /// Maximum time without a transferred byte during the transfer of a blob. Default 60 s.
    pub idle: Option<Duration>,
    /// Maximum time until a response begins. Default 60 s.
    pub header: Option<Duration>,
}

/// Path prefix of a registry's API: `/artifactory/api/docker/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix(String);

/// Error of a text that is not a [`PathPrefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a path prefix of the API: expected a path without /v2/, such as /artifactory/api/docker/x")]
pub struct PathPrefixError(String);

impl FromStr for PathPrefix {
    type Err = PathPrefixError;

    fn from_str(text: &str) -> Result<Self, PathPrefixError> {
        let segment = |segment: &str| {
            let plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'));
            plain && !matches!(segment, "" | "." | "..")
        };
        let path = text.strip_suffix('/').unwrap_or(text);
        let is_valid = path.strip_prefix('/').is_some_and(|path| path.split('/').all(segment));
        // A prefix that includes `/v2` is a common mistake.
        if is_valid && !path.ends_with("/v2") {
            Ok(Self(path.to_owned()))
        } else {
            Err(PathPrefixError(text.to_owned()))
        }
    }
}

impl PathPrefix {
    /// Returns the path, with a leading slash and without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Proxy for one registry, and for the token service and the storage services that the registry refers to.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Proxy {
    /// The proxy that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` define. Connections to the loopback
    /// interface never use a proxy.
    #[default]
    Environment,
    /// No proxy, even if the environment names a proxy.
    None,
    /// This proxy, even if the environment names another proxy.
    Through(ProxyAddress),
}

/// Address of a proxy, with an optional user and password. `Debug` does not show the user and the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyAddress(Url);

/// Error of a text that is not a [`Proxy`]. The message does not repeat the text, because the text can contain a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a proxy: expected http://HOST:PORT, https://HOST:PORT, or none")]
pub struct ProxyError;

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        if text == "none" {
            return Ok(Self::None);
        }
        let url: Url = text.parse().map_err(|_| ProxyError)?;
        let is_valid = matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none();
        if is_valid { Ok(Self::Through(ProxyAddress(url))) } else { Err(ProxyError) }
    }
}

impl ProxyAddress {
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

/// TLS options of one registry, and of the token service and the storage services that the registry refers to. The
/// default trusts the system's authorities and sends no client certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities that the client trusts in addition to the authorities of the system.
    pub ca: Option<Pem>,
    /// Client certificate with its chain, and its key, for servers that request a certificate.
    pub identity: Option<(Pem, Pem)>,
    /// True if the client accepts any server certificate. Then attackers on the network can read the credentials and
    /// change the images.
    pub insecure_skip_verify: bool,
}

/// Path and contents of a file in PEM form. `Debug` shows only the path.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    path: PathBuf,
    bytes: Arc<[u8]>,
}

/// Error of a file in PEM form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The file is missing or not accessible.
    #[error("the file {} cannot be read: {reason}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Reason of the failure.
        reason: String,
    },
    /// The file contains no certificate.
    #[error("the file {} has no certificate: PEM is expected, with a line -----BEGIN CERTIFICATE-----", .0.display())]
    NoCertificate(PathBuf),
    /// The certificate is damaged.
    #[error("the file {} has a certificate that cannot be read: {reason}", path.display())]
    Certificate {
        /// Path of the file.
        path: PathBuf,
        /// Reason of the failure.
        reason: String,
    },
    /// The file contains no private key.
    #[error("the file {} has no private key: PEM is expected, with a line -----BEGIN PRIVATE KEY-----", .0.display())]
    NoKey(PathBuf),
    /// The key is encrypted with a passphrase.
    #[error("the private key in the file {} is encrypted: write it without a passphrase", .0.display())]
    EncryptedKey(PathBuf),
    /// The key does not belong to the certificate, or is damaged.
    #[error(
        "the private key in the file {} does not belong to the certificate in {}: {reason}",
        key.display(),
        certificate.display()
    )]
    Pair {
        /// File with the certificate.
        certificate: PathBuf,
        /// File with the key.
        key: PathBuf,
        /// Reason of the failure.
        reason: String,
    },
}

impl Tls {
    /// Returns the files from which the program read these options.
    pub fn files(&self) -> impl Iterator<Item = &Pem> {
        let client_files = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.ca.iter().chain(client_files)
    }

    /// Returns a warning about an allowed but unsafe option, for the start-up log and the configuration check.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        self.insecure_skip_verify.then_some(
            "the certificate of the server is not verified (tls.insecure_skip_verify): anyone on the network path can \
             read the credentials and change the images",
        )
    }
}

impl Pem {
    /// Reads a file with at least one certificate.
    ///
    /// # Errors
    /// Returns [`PemError`] if the file cannot be read or has no usable certificate.
    pub fn certificates(path: &Path) -> Result<Self, PemError> {
        let pem = Self::read(path)?;
        let broken = |error: reqwest::Error| PemError::Certificate { path: path.to_owned(), reason: innermost(&error) };
        if !pem.has("-----BEGIN CERTIFICATE-----") {
            return Err(PemError::NoCertificate(path.to_owned()));
        }
        let certificates = pem.parsed().map_err(broken)?;
        // `reqwest` checks the contents of certificates only when it builds a client.
        reqwest::Client::builder().tls_certs_only(certificates).build().map_err(broken)?;
        Ok(pem)
    }

    /// Reads a file with the private key of the first certificate in `certificate`.
    ///
    /// # Errors
    /// Returns [`PemError`] if the file cannot be read, has no usable key, or has the key of another certificate.
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

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again, without a check of the contents.
    ///
    /// # Errors
    /// Returns [`PemError::Unreadable`] if the file cannot be read.
    pub fn read_again(&self) -> Result<Self, PemError> {
        Self::read(&self.path)
    }

    fn read(path: &Path) -> Result<Self, PemError> {
        let unreadable = |reason: String| PemError::Unreadable { path: path.to_owned(), reason };
        let bytes = crate::regular_file::read(path, MAX_PEM).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self { path: path.to_owned(), bytes: bytes.into() })
    }

    /// Returns true if the contents include an RSA key. Azure accepts only RSA keys as proof of an identity.
    #[must_use]
    pub fn has_rsa_key(&self) -> bool {
        rsa_key(&self.bytes).is_some()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn has(&self, line: &str) -> bool {
        self.bytes.windows(line.len()).any(|window| window == line.as_bytes())
    }

    pub(crate) fn parsed(&self) -> reqwest::Result<Vec<reqwest::Certificate>> {
        reqwest::Certificate::from_pem_bundle(&self.bytes)
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({})", self.path.display())
    }
}

/// Returns the RSA key of a PEM text. `None` if the text has no RSA key.
pub(crate) fn rsa_key(pem: &[u8]) -> Option<RsaKeyPair> {
    match PrivateKeyDer::from_pem_slice(pem).ok()? {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

pub(crate) fn identity(certificate: &Pem, key: &Pem) -> reqwest::Result<reqwest::Identity> {
    reqwest::Identity::from_pem(&[&certificate.bytes[..], b"\n", &key.bytes].concat())
}

/// Returns the message of the innermost source of an error, which names the cause.
fn innermost(error: &reqwest::Error) -> String {
    let (mut reason, mut next) = ("unusable content".to_owned(), error.source());
    while let Some(error) = next {
        (reason, next) = (error.to_string(), error.source());
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a file of the configuration's tests: `me.pem` and `me.key` are a pair, `ca.pem` is another certificate.
    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/credentials").join(name)
    }

    #[test]
    fn unusable_pem_file_is_named_with_expected_content() {
        let folder = tempfile::tempdir().unwrap();
        let write_file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let encrypted = write_file("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
        let damaged = write_file("damaged.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
        let message = |error: PemError| {
            let text = error.to_string().replace(folder.path().to_str().unwrap(), "");
            text.replace(fixture("").to_str().unwrap(), "/")
        };
        let certificates = |path: &Path| Pem::certificates(path).map_err(message);
        let me = certificates(&fixture("me.pem")).unwrap();
        let with_key = |path: &Path| Pem::key(path, &me).map_err(message);
        assert!(with_key(&fixture("me.key")).is_ok());
        assert_eq!(
            certificates(&folder.path().join("none.pem")).unwrap_err(),
            "the file /none.pem cannot be read: No such file or directory (os error 2)"
        );
        assert_eq!(
            certificates(folder.path()).unwrap_err(),
            "the file  cannot be read: a directory, not a regular file"
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
            Pem::key(&fixture("me.key"), &other).map_err(message).unwrap_err(),
            "the private key in the file /me.key does not belong to the certificate in /ca.pem: \
             keys may not be consistent: KeyMismatch"
        );
    }

    #[test]
    fn path_prefix_must_be_plain_path_without_v2() {
        for (text, path) in [("/a/b.c_d~e-1", "/a/b.c_d~e-1"), ("/a/", "/a"), ("/v2x", "/v2x")] {
            assert_eq!(text.parse::<PathPrefix>().unwrap().as_str(), path);
        }
        for text in ["", "/", "a", "//a", "/a//b", "/../a", "/a?b", "/a b", "/a%2Fb", "/a/v2", "/v2/", "https://h/a"] {
            assert!(text.parse::<PathPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn proxy_is_parsed_and_its_password_withheld() {
        let proxy: Proxy = "http://me:hunter2@proxy.example:3128".parse().unwrap();
        assert_eq!(format!("{proxy:?}"), "Through(http://proxy.example:3128)");
        assert_eq!("none".parse(), Ok(Proxy::None));
        for text in ["proxy.example:3128", "socks5://p:1080", "http://me:hunter2@p/path", "http://p/?x", "", "off"] {
            assert_eq!(text.parse::<Proxy>(), Err(ProxyError), "{text}");
        }
    }

    #[test]
    fn pem_hides_its_key_and_compares_by_content() {
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

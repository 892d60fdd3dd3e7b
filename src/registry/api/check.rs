//! Requests of `login-check` to a registry: connection, authentication and read access. These requests write nothing,
//! and no registry counts these requests as pulls.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;

use crate::oci::{ManifestRef, Tag};
use crate::registry::auth::credentials::Login;
use crate::registry::auth::realm;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::auth::scope::Scopes;
use crate::registry::http::challenge::challenges;
use crate::registry::http::context::Context;
use crate::registry::http::examine::Examined;
use crate::registry::http::pagination::MAX_PAGE;
use crate::registry::http::redirect;
use crate::registry::http::request::Expects;
use crate::registry::http::response::Response;
use crate::registry::{Registry, Repository};
use crate::store::{ErrorKind, Step, StoreError};

/// Path of the API's root. The response shows the authentication scheme that the registry requires.
const API: &str = "/v2/";

/// Maximum number of headers in [`StatedLimits`].
const MAX_STATED: usize = 12;

/// Rate limits that a registry states in response headers. The key is the name of the header.
pub type StatedLimits = BTreeMap<String, String>;

/// Result of [`Registry::greet`]: facts from the first connection to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// HTTP version of the connection: `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Proxy between the client and the registry; `None` without a proxy.
    pub proxy: Option<String>,
    /// Evidence that the server is the registry.
    pub proof: Proof,
    /// Authentication scheme that the registry requires.
    pub scheme: Scheme,
    /// Rate limits that the registry states.
    pub limits: StatedLimits,
}

/// Evidence of the server's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// No evidence, because the connection uses plain HTTP.
    None,
    /// No evidence, because `insecure_skip_verify` disables the verification of the certificate.
    Unverified,
    /// Verified certificate with this expiry time; `None` if the client cannot read the expiry time.
    Certificate(Option<DateTime<Utc>>),
}

/// Authentication scheme that a registry requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// No authentication for the root of the API. A repository can still require authentication.
    Nothing,
    /// User name and password.
    Basic,
    /// Token from the token service at this URL.
    Bearer(String),
}

/// Identity that a registry accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptedIdentity {
    /// Anonymous: the client has no credentials for the registry.
    Anonymous,
    /// User of this name.
    As(String),
    /// Unproven identity. The registry accepted a request with the configured credentials. But the registry did not
    /// require credentials, so the registry possibly ignored the configured credentials.
    NotRequested,
    /// Identity token that the client has not sent yet. Later requests to repositories show whether the registry
    /// accepts the identity token.
    Unknown(String),
}

/// Error of a login check.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoginError {
    /// The client cannot read the credentials from the configured source. The registry received no credentials.
    #[error(transparent)]
    Source(StoreError),
    /// The registry, or its token service, refuses the credentials or does not respond.
    #[error(transparent)]
    Registry(StoreError),
}

/// Result of a check of read access to a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// True if the repository exists. Many registries create a missing repository at the first push.
    pub exists: bool,
    /// Rate limits that the registry states.
    pub limits: StatedLimits,
}

impl Registry {
    /// Connects to the registry, and requests the root of the API once, without credentials.
    ///
    /// # Errors
    /// Returns an error in these cases:
    ///
    /// - The server does not respond.
    /// - The response does not come from a registry, or reports a failure.
    /// - The registry requires an unsupported authentication scheme.
    pub async fn greet(&self) -> Result<Greeting, StoreError> {
        let context = self.context(Step::Connect);
        let sender = self.sender();
        let examined = sender.examine(&context, API).await?;
        let proof = self.identity_proof(&examined);
        let scheme = match examined.head.status {
            StatusCode::UNAUTHORIZED => {
                self.required_scheme(&examined.head.headers).map_err(|why| context.error(ErrorKind::Refused, why))?
            }
            status if status.is_success() => Scheme::Nothing,
            _ => return Err(self.unexpected_response(&context, examined).await),
        };
        let (version, limits) = (format!("{:?}", examined.version), stated_limits(&examined.head.headers));
        Ok(Greeting { version, proxy: sender.proxy_to(&examined.head.url), proof, scheme, limits })
    }

    /// Sends the credentials to the registry, even if the registry accepts anonymous requests. `Ok` alone does not
    /// prove that the registry checked the credentials: see [`Registry::has_proven_login`].
    ///
    /// If the caller sends requests to repositories afterwards, the caller passes true as `tries_follow`. In this case,
    /// the method does not send an identity token, because some token services issue no access token for a request
    /// without a scope.
    /// # Errors
    /// Returns a [`LoginError`] if the client cannot read the credentials, if the registry or its token service refuses
    /// the credentials, or if the registry or its token service does not respond.
    pub async fn log_in(&self, tries_follow: bool) -> Result<AcceptedIdentity, LoginError> {
        let context = self.context(Step::Connect);
        let login = self.authenticator().read_login().await;
        let login = login.map_err(|error| LoginError::Source(context.error(error.kind, error.detail)))?;
        match login {
            None => return Ok(AcceptedIdentity::Anonymous),
            Some(Login::Token(_)) if tries_follow => return Ok(AcceptedIdentity::Unknown(self.identity())),
            Some(_) => {}
        }
        let url = self.address(API).map_err(|error| LoginError::Registry(context.error(ErrorKind::Invalid, error)))?;
        let answer =
            self.send(&context, RegistryRequest::read(Method::GET, url, Scopes::none()).with_credentials()).await;
        let answer = answer.map_err(LoginError::Registry)?;
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(LoginError::Registry(answer.refusal(&context))),
            _ if self.has_proven_login() => Ok(AcceptedIdentity::As(self.identity())),
            _ => Ok(AcceptedIdentity::NotRequested),
        }
    }

    /// Returns true if one of these events has proved that the registry, or its token service, accepts the credentials:
    ///
    /// - The registry required credentials, and accepted the configured credentials.
    /// - The registry refused a request without credentials, and accepted the same request with credentials.
    #[must_use]
    pub fn has_proven_login(&self) -> bool {
        self.authenticator().is_proven()
    }

    fn identity_proof(&self, examined: &Examined) -> Proof {
        if self.sender().base.scheme() == "http" {
            return Proof::None;
        }
        if self.sender().transport.tls.insecure_skip_verify {
            return Proof::Unverified;
        }
        Proof::Certificate(examined.certificate().and_then(certificate_end))
    }

    fn required_scheme(&self, headers: &HeaderMap) -> Result<Scheme, String> {
        let challenges = challenges(headers);
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(bearer) = find("bearer") {
            let realm = realm::read(
                bearer.get("realm").unwrap_or_default(),
                &self.sender().base,
                self.sender().token_service(),
            );
            return realm.map(|realm| Scheme::Bearer(redirect::shown(&realm))).map_err(|error| error.to_string());
        }
        if find("basic").is_some() {
            return Ok(Scheme::Basic);
        }
        let names: Vec<&str> = challenges.iter().map(|challenge| challenge.scheme.as_str()).take(4).collect();
        Err(match names.as_slice() {
            [] => "the registry requires authentication, but states no scheme".to_owned(),
            names => {
                format!(
                    "the registry requires the unsupported authentication scheme {}; the supported schemes are \
                    Basic and Bearer",
                    names.join(", ")
                )
            }
        })
    }

    /// Creates the error for a response that does not come from a registry, or that reports a failure.
    async fn unexpected_response(&self, context: &Context, examined: Examined) -> StoreError {
        let answer = match self.sender().read_examined(context, examined).await {
            Ok(answer) => answer,
            Err(error) => return error,
        };
        if answer.status.is_redirection() || answer.status == StatusCode::NOT_FOUND {
            let (url, detail) = (redirect::shown(&answer.url), answer.detail());
            let detail =
                format!("{url} answers {detail}: this is not a registry; check the host name and `path_prefix`");
            return context.error(ErrorKind::Invalid, detail);
        }
        let refusal = answer.refusal(context);
        match answer.retry_after {
            Some(wait) => {
                let detail =
                    format!("{}; the registry requests a wait of {}", refusal.detail, humantime::format_duration(wait));
                context.error(refusal.kind, detail)
            }
            None => refusal,
        }
    }
}

impl Repository {
    /// Checks read access: lists tags, and requests one of the tags with a HEAD request.
    ///
    /// # Errors
    /// Returns an error if the registry denies access, or if the responses do not show whether the registry allows
    /// reads.
    pub async fn check_pull(&self) -> Result<Readable, StoreError> {
        let context = self.context(Step::ListTags, "");
        let url = self.url(&context, "tags/list?n=1")?;
        let call = RegistryRequest::read(Method::GET, url, Scopes::pull(&self.name)).expects(Expects::Small(MAX_PAGE));
        let listed = self.registry.send(&context, call).await?;
        let mut limits = stated_limits(&listed.headers);
        if listed.status == StatusCode::NOT_FOUND {
            return Ok(Readable { exists: false, limits });
        }
        if !listed.status.is_success() {
            return Err(listed.refusal(&context));
        }
        let first = first_tag(&listed).map_err(|error| context.error(ErrorKind::Invalid, listed.unreadable(&error)))?;
        if let Some(tag) = first {
            let reference = ManifestRef::Tag(tag);
            let context = self.context(Step::Resolve, &reference);
            let head = self.registry.send(&context, self.manifest_call(&context, Method::HEAD, &reference)?).await?;
            limits.extend(stated_limits(&head.headers));
            // Another client may have deleted the tag after the listing.
            if !head.status.is_success() && head.status != StatusCode::NOT_FOUND {
                return Err(head.refusal(&context));
            }
        }
        Ok(Readable { exists: true, limits })
    }

    /// Requests the tag list once without credentials. If the registry refuses the request, records that the login is
    /// proven, and returns true.
    ///
    /// Before this call, the caller must have read the repository with credentials. A registry that ignores credentials
    /// would also accept the request without credentials. A refusal therefore proves that the registry checked the
    /// credentials.
    pub async fn proves_login(&self) -> bool {
        let context = self.context(Step::ListTags, "");
        let Ok(url) = self.url(&context, "tags/list?n=1") else { return false };
        let request = RegistryRequest::read(Method::GET, url, self.reading()).expects(Expects::Small(MAX_PAGE));
        let authenticator = self.registry.authenticator();
        let outcome = authenticator.send_anonymously(self.tenant, request).await;
        let is_refused = outcome.is_ok_and(|answer| {
            let refusals = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
            refusals.contains(&answer.status) && self.registry.sender().is_own(&answer.url)
        });
        if is_refused {
            authenticator.prove();
        }
        is_refused
    }
}

fn first_tag(listed: &Response) -> serde_json::Result<Option<Tag>> {
    #[derive(Deserialize)]
    struct List {
        tags: Option<Vec<String>>,
    }
    let list: List = serde_json::from_slice(&listed.bytes())?;
    Ok(list.tags.unwrap_or_default().iter().find_map(|tag| tag.parse().ok()))
}

/// Returns the headers that state rate limits, such as `ratelimit-limit`, `x-ratelimit-remaining` and `retry-after`.
fn stated_limits(headers: &HeaderMap) -> StatedLimits {
    let is_limit =
        |name: &str| name.contains("ratelimit") || name.contains("rate-limit") || name == RETRY_AFTER.as_str();
    let text = |value: &http::HeaderValue| Some(value.to_str().ok()?.chars().take(100).collect::<String>());
    let found = headers.iter().filter(|(name, _)| is_limit(name.as_str()));
    found.filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?))).take(MAX_STATED).collect()
}

/// Returns the expiry time of a certificate. The TLS library reports the expiry time only in the error for an expired
/// certificate. To get this error, the function verifies the certificate with the year 10000 as the current time. The
/// library checks the expiry before the signature, so the empty list of trusted roots has no effect.
fn certificate_end(certificate: &[u8]) -> Option<DateTime<Utc>> {
    const YEAR_10000: u64 = 253_402_300_800;
    let der = CertificateDer::from(certificate);
    let parsed = rustls::server::ParsedCertificate::try_from(&der).ok()?;
    let roots = rustls::RootCertStore::empty();
    let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(YEAR_10000));
    let tried = rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], then, &[]);
    match tried {
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::ExpiredContext { not_after, .. })) => {
            DateTime::from_timestamp(i64::try_from(not_after.as_secs()).ok()?, 0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_expiry_is_read_from_the_certificate() {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2031, 12, 31);
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert_eq!(certificate_end(certificate.der()).unwrap().to_rfc3339(), "2031-12-31T00:00:00+00:00");
        assert_eq!(certificate_end(b"no certificate"), None);
    }

    #[test]
    fn limit_headers_are_found_in_every_naming_and_cut() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ratelimit-limit", "100;w=21600"),
            ("x-ratelimit-remaining", "9"),
            ("x-ms-ratelimit-remaining-calls", "8"),
            ("retry-after", "30"),
            ("x-rate-limit-reset", &"9".repeat(200)),
            ("content-length", "5"),
        ] {
            headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let found = stated_limits(&headers);
        assert_eq!(found.len(), 5);
        assert_eq!(found["ratelimit-limit"], "100;w=21600");
        assert_eq!(found["x-rate-limit-reset"].len(), 100);
    }
}

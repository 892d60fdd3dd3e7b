//! What `login-check` asks of a registry: how it answers who just connects, as whom we are let in, and what we may do there.
//! Nothing is written, and nothing that counts as a pull is read.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode, Version};
use reqwest::tls::TlsInfo;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use url::Url;

use super::answer::{Answer, Context};
use super::challenge::challenges;
use super::credentials::Login;
use super::misdirection;
use super::pace::Class;
use super::paging::MAX_PAGE;
use super::permits::Door;
use super::scope::Scopes;
use super::transport::{Call, Expects, SMALL};
use super::trouble::describe;
use super::{Party, Registry, Repository, connect, locate, realm, retry};
use crate::oci::{Descriptor, Digest, ManifestRef, MediaType, Tag};
use crate::store::{Begun, ErrorKind, Step, StoreError};

/// The API's own address, which says whether and how a registry wants to know who asks.
const API: &str = "/v2/";

/// The most headers about limits that are told.
const MAX_STATED: usize = 12;

/// Limits as a registry states them: headers by their name.
pub type StatedLimits = BTreeMap<String, String>;

/// How a registry answers who just connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The proxy on the way to it.
    pub proxy: Option<String>,
    /// How it is known that it is the registry.
    pub proof: Proof,
    /// What it wants to be shown.
    pub scheme: Scheme,
    /// What it states of its limits.
    pub limits: StatedLimits,
}

/// How it is known who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By nothing: plain HTTP.
    None,
    /// By nothing, though by TLS: `insecure_skip_verify`.
    Unverified,
    /// By a certificate, which ends then; `None` where that cannot be read.
    Certificate(Option<DateTime<Utc>>),
}

/// What a registry wants to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// Nothing, for the API as such.
    Nothing,
    /// A user name and a password.
    Basic,
    /// A token of the service at this address.
    Bearer(String),
}

/// Who a registry let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetIn {
    /// Nobody in particular: there are no credentials.
    Anonymous,
    /// Somebody of this name.
    As(String),
    /// Anybody: it was not asked for the credentials that there are.
    Unasked,
    /// Who has a token, which is good for what it is asked for alone: what the repositories answer will tell.
    Perhaps(String),
}

/// Why it cannot be said who a registry lets in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoginError {
    /// Where the credentials come from has none: the registry was not shown any.
    #[error(transparent)]
    Source(StoreError),
    /// The registry, or its token service, refuses them or has no answer.
    #[error(transparent)]
    Registry(StoreError),
}

/// What reading from a repository showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// Whether it is there; many registries make one with the first push.
    pub exists: bool,
    /// What the registry states of its limits.
    pub limits: StatedLimits,
}

impl Registry {
    /// Connects and asks for the API as nobody, once.
    ///
    /// # Errors
    /// Where there is no answer, or none of a registry: what is wrong, and the way out.
    pub async fn greet(&self) -> Result<Greeting, StoreError> {
        let context = self.knocking();
        let invalid = |detail: String| context.error(ErrorKind::Invalid, detail);
        let url = self.address(API).map_err(|error| invalid(error.to_string()))?;
        let http = connect::examining_client(&self.base, &self.tempo, self.transport())
            .map_err(|error| invalid(error.without_url().to_string()))?;
        let (_permit, waited) = self.gate.enter(context.party, Door::Common, Class::Read).await;
        self.meter.throttled(waited);
        let sent = tokio::time::timeout(self.tempo.total, http.get(url.clone()).send()).await;
        let sent = sent.map_err(|_| context.error(ErrorKind::Unavailable, "no answer in time"))?;
        self.meter.answered(&Method::GET, sent.as_ref().ok().map(reqwest::Response::status));
        let response = sent.map_err(|error| {
            let trouble = describe(&error, &url, &self.approach(&url));
            context.error(trouble.kind(), trouble.detail())
        })?;
        let proof = self.proof(&response);
        let (status, version, headers) = (response.status(), response.version(), response.headers().clone());
        let scheme = match status {
            StatusCode::UNAUTHORIZED => {
                self.scheme_of(&headers).map_err(|why| context.error(ErrorKind::Refused, why))?
            }
            status if status.is_success() => Scheme::Nothing,
            _ => return Err(self.no_registry(&context, &url, response).await),
        };
        let limits = stated(&headers);
        Ok(Greeting { version: shown(version), proxy: self.via.to(&url), proof, scheme, limits })
    }

    /// Shows who we are, also to a registry that lets in everybody. Whether that is right only a registry can tell that turns
    /// away somebody: [`Registry::has_proven_login`]. An identity token is not tried
    /// where there are repositories to try it with (`tries_follow`): some services give nothing for it without a scope.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(&self, tries_follow: bool) -> Result<LetIn, LoginError> {
        let context = self.knocking();
        let login = self.auth.source.login().await;
        let login = login.map_err(|error| LoginError::Source(context.error(error.kind, error.detail)))?;
        match login {
            None => return Ok(LetIn::Anonymous),
            Some(Login::Token(_)) if tries_follow => return Ok(LetIn::Perhaps(self.identity())),
            Some(_) => {}
        }
        let url = self.address(API).map_err(|error| LoginError::Registry(context.error(ErrorKind::Invalid, error)))?;
        let answer = self.send(&context, Call::read(Method::GET, url, Scopes::none()).with_credentials()).await;
        let answer = answer.map_err(LoginError::Registry)?;
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(LoginError::Registry(answer.refusal(&context))),
            _ if self.has_proven_login() => Ok(LetIn::As(self.identity())),
            _ => Ok(LetIn::Unasked),
        }
    }

    /// Whether the registry, or its token service, has taken our credentials where it does not take everybody: it asked for
    /// them, or gave with them what it had refused without.
    #[must_use]
    pub fn has_proven_login(&self) -> bool {
        self.auth.is_proven()
    }

    /// Who we are: a user name where it is known, else where the login comes from, or `anonymous`.
    #[must_use]
    pub fn identity(&self) -> String {
        self.auth.identity()
    }

    fn knocking(&self) -> Context {
        let party = Party::default();
        Context {
            place: self.host().as_str().into(),
            step: Step::Connect,
            subject: String::new(),
            party,
            kind: self.kind,
        }
    }

    fn proof(&self, response: &reqwest::Response) -> Proof {
        if self.base.scheme() == "http" {
            return Proof::None;
        }
        if self.transport().tls.insecure_skip_verify {
            return Proof::Unverified;
        }
        let certificate = response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
        Proof::Certificate(certificate.and_then(end_of))
    }

    fn scheme_of(&self, headers: &HeaderMap) -> Result<Scheme, String> {
        let challenges = challenges(headers);
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(bearer) = of("bearer") {
            let realm = realm::read(bearer.get("realm").unwrap_or_default(), &self.base, self.token_service());
            return realm.map(|realm| Scheme::Bearer(locate::shown(&realm))).map_err(|error| error.to_string());
        }
        if of("basic").is_some() {
            return Ok(Scheme::Basic);
        }
        let names: Vec<&str> = challenges.iter().map(|challenge| challenge.scheme.as_str()).take(4).collect();
        Err(match names.as_slice() {
            [] => "it wants to know who we are, and does not say how".to_owned(),
            names => format!("it wants to be shown {}, which is neither Basic nor Bearer", names.join(", ")),
        })
    }

    /// What the answer of something that is no registry, or of one in trouble, says.
    async fn no_registry(&self, context: &Context, url: &Url, mut response: reqwest::Response) -> StoreError {
        let (status, headers, at) = (response.status(), response.headers().clone(), response.url().clone());
        let mut body = Vec::new();
        while let Ok(Ok(Some(piece))) = tokio::time::timeout(self.tempo.idle, response.chunk()).await {
            body.extend_from_slice(&piece);
            if body.len() > SMALL {
                break;
            }
        }
        if let Some(trouble) = misdirection::of_answer(status, &body, url) {
            return context.error(trouble.kind(), trouble.detail());
        }
        let answer =
            Answer { status, headers, url: at, elsewhere: false, body: super::answer::Body::Whole(body.into()) };
        let at = locate::shown(url);
        if status.is_redirection() || status == StatusCode::NOT_FOUND {
            let detail = format!("{at} answers {}: there is no registry; see `path_prefix`", answer.detail());
            return context.error(ErrorKind::Invalid, detail);
        }
        let refusal = answer.refusal(context);
        match retry::retry_after(&answer.headers, Utc::now()) {
            Some(wait) => {
                let detail = format!("{}; it asks to wait {}", refusal.detail, humantime::format_duration(wait));
                context.error(refusal.kind, detail)
            }
            None => refusal,
        }
    }
}

impl Repository {
    /// Whether we may read: lists tags, and asks for one of them by HEAD, which no registry counts as a pull.
    ///
    /// # Errors
    /// Where we may not, or where it cannot be told.
    pub async fn may_pull(&self) -> Result<Readable, StoreError> {
        let context = self.context(Step::ListTags, "");
        let url = self.url(&context, "tags/list?n=1")?;
        let call = Call::read(Method::GET, url, Scopes::pull(&self.name)).expects(Expects::Small(MAX_PAGE));
        let listed = self.registry.send(&context, call).await?;
        let mut limits = stated(&listed.headers);
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
            limits.extend(stated(&head.headers));
            // A tag may have gone meanwhile.
            if !head.status.is_success() && head.status != StatusCode::NOT_FOUND {
                return Err(head.refusal(&context));
            }
        }
        Ok(Readable { exists: true, limits })
    }

    /// Whether to open an upload, or to ask for a token to push, can make the repository: Amazon's, where a creation template
    /// is applied for `CREATE_ON_PUSH`, and Quay's token service (quay's `endpoints/v2/v2auth.py`). Then there is no way to
    /// find out whether we may write where it is not there yet.
    #[must_use]
    pub fn may_be_made_by_asking(&self) -> bool {
        self.registry.kind.makes_repositories_when_asked(self.registry.host())
    }

    /// Whether we may write: opens an upload, and gives it up before a byte is sent. May make the repository:
    /// [`Self::may_be_made_by_asking`].
    ///
    /// # Errors
    /// Where we may not, or where it cannot be told.
    pub async fn may_push(&self) -> Result<(), StoreError> {
        let nothing = Descriptor::new(MediaType::new("application/octet-stream"), Digest::of(b""), 0);
        match self.open_upload(&nothing, None).await? {
            Begun::Session(session) => session.cancel().await,
            Begun::Mounted => {}
        }
        Ok(())
    }
}

fn first_tag(listed: &Answer) -> serde_json::Result<Option<Tag>> {
    #[derive(Deserialize)]
    struct List {
        tags: Option<Vec<String>>,
    }
    let list: List = serde_json::from_slice(&listed.bytes())?;
    Ok(list.tags.unwrap_or_default().iter().find_map(|tag| tag.parse().ok()))
}

fn shown(version: Version) -> String {
    format!("{version:?}")
}

/// The headers that tell of limits, in whatever dialect: `ratelimit-limit`, `x-ratelimit-remaining`, `retry-after`, …
fn stated(headers: &HeaderMap) -> StatedLimits {
    let tells = |name: &str| name.contains("ratelimit") || name.contains("rate-limit") || name == RETRY_AFTER.as_str();
    let text = |value: &http::HeaderValue| Some(value.to_str().ok()?.chars().take(100).collect::<String>());
    let found = headers.iter().filter(|(name, _)| tells(name.as_str()));
    found.filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?))).take(MAX_STATED).collect()
}

/// When a certificate ends. Nobody here reads certificates but to believe them, so it is tried at a time when every one
/// has ended: the refusal says since when. What it is signed with is not looked at before that.
fn end_of(certificate: &[u8]) -> Option<DateTime<Utc>> {
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
    fn the_end_of_a_certificate_is_read_off_it() {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2031, 12, 31);
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert_eq!(end_of(certificate.der()).unwrap().to_rfc3339(), "2031-12-31T00:00:00+00:00");
        assert_eq!(end_of(b"no certificate"), None);
    }

    #[test]
    fn headers_of_limits_are_found_in_every_dialect_and_cut() {
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
        let found = stated(&headers);
        assert_eq!(found.len(), 5);
        assert_eq!(found["ratelimit-limit"], "100;w=21600");
        assert_eq!(found["x-rate-limit-reset"].len(), 100);
    }
}

//! HTTP responses of a registry, and the errors for unsuccessful responses. The text of an error response can contain
//! control characters and secrets. This file truncates the text and replaces control characters. [`super::redact`]
//! removes secrets.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use url::Url;

use super::blob_body::BlobBody;
use super::challenge;
use super::context::Context;
use super::denial::DeniedIdentity;
use super::hints;
use super::retry::Failure;
use crate::oci::Digest;
use crate::store::{ErrorKind, Step, StoreError};

/// Maximum number of bytes that the client reads from the body of an error response.
pub(crate) const MAX_REFUSAL: usize = 64 * 1024;

/// Maximum wait by `Retry-After`. The client treats a longer wait as a mistake, and reduces the wait to this value.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Status and headers of a response, before the client reads the body.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// URL that answered, after all redirects.
    pub(crate) url: Url,
    /// Wait that the registry requests with `Retry-After`. `None` if there is no valid `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

impl ResponseHead {
    /// Creates the head of a response that the client has just received. If `Retry-After` contains a date, the wait is
    /// the time from now until this date.
    pub(crate) fn new(status: StatusCode, headers: HeaderMap, url: Url) -> Self {
        let retry_after = retry_after(&headers, Utc::now());
        Self { status, headers, url, retry_after }
    }

    pub(crate) fn from_reqwest(response: &reqwest::Response) -> Self {
        Self::new(response.status(), response.headers().clone(), response.url().clone())
    }

    /// Returns the kind of the failure if a repeated request can succeed. Otherwise returns `None`.
    pub(crate) fn failure(&self) -> Option<Failure> {
        transient_failure(self.status, &self.headers)
    }

    /// Adds the body. The caller sets `elsewhere` if another origin sent the response.
    pub(crate) fn with_body(self, body: Body) -> Response {
        let Self { status, headers, url, retry_after } = self;
        Response { status, headers, url, retry_after, elsewhere: false, denied: None, body }
    }
}

/// Returns the wait that the registry requests with `Retry-After`. The header contains seconds or a date. The result is
/// at most one hour ([`LONGEST_WAIT`]).
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            // The parser refuses a date with a wrong weekday, so the weekday is removed.
            let date = text.split_once(", ").map_or(text, |(_, date)| date);
            (DateTime::parse_from_rfc2822(date).ok()?.to_utc() - now).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// Returns the kind of the failure if a repeated request can succeed. Otherwise returns `None`.
fn transient_failure(status: StatusCode, headers: &HeaderMap) -> Option<Failure> {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(Failure::Throttled),
        StatusCode::SERVICE_UNAVAILABLE if headers.contains_key(RETRY_AFTER) => Some(Failure::Throttled),
        StatusCode::REQUEST_TIMEOUT => Some(Failure::ServerError),
        // 501 and 505 are permanent.
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => None,
        status if status.is_server_error() => Some(Failure::ServerError),
        _ => None,
    }
}

/// HTTP response. The body of a blob can be a stream. Every other body is completely in memory.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// URL that answered, after all redirects.
    pub(crate) url: Url,
    /// Wait that the registry requests with `Retry-After`. `None` if there is no valid `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// True if the registry redirected the request to another origin, such as a storage service or a CDN, and this
    /// origin answered.
    pub(crate) elsewhere: bool,
    /// Identity of the request, if the registry denied the request.
    pub(crate) denied: Option<DeniedIdentity>,
    pub(crate) body: Body,
}

/// Body of a response.
#[derive(Debug)]
pub(crate) enum Body {
    Whole(Bytes),
    /// Body of a blob. The caller reads the body piece by piece.
    Streamed(BlobBody),
}

impl Response {
    /// Returns the body. If the body is a stream, returns no bytes.
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.body {
            Body::Whole(bytes) => bytes.clone(),
            Body::Streamed(_) => Bytes::new(),
        }
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the kind of the failure if a repeated request can succeed. Otherwise returns `None`.
    pub(crate) fn failure(&self) -> Option<Failure> {
        transient_failure(self.status, &self.headers)
    }

    /// Returns the digest in `Docker-Content-Digest`, if the header contains a valid digest.
    pub(crate) fn content_digest(&self) -> Option<Digest> {
        self.header(&HeaderName::from_static("docker-content-digest"))?.trim().parse().ok()
    }

    /// Returns the error codes in the body, such as `NAME_UNKNOWN` (distribution-spec, "Error Codes").
    pub(crate) fn codes(&self) -> Vec<String> {
        read_envelope(&self.bytes()).into_iter().map(|error| error.code).collect()
    }

    /// Returns the error for this response. If a remedy is known, the error's message contains the remedy.
    pub(crate) fn refusal(&self, context: &Context) -> StoreError {
        self.refusal_with(context, self.hint(context))
    }

    /// Returns the error for this response, with `hint` at the end of the message. If another origin sent the response,
    /// omits `hint`.
    pub(crate) fn refusal_with(&self, context: &Context, hint: Option<&str>) -> StoreError {
        let kind = self.classify(context.step);
        let kind = match kind {
            _ if context.step == Step::WriteManifest && self.says_locked() => ErrorKind::Locked,
            // The other origin did not receive the registry's credentials, so the credentials are not the cause. The
            // usual cause is an expired signed URL, and a repeated request gets a new URL.
            ErrorKind::Denied if self.elsewhere => ErrorKind::Unavailable,
            kind => kind,
        };
        let denied = self.denied.as_ref().filter(|_| kind == ErrorKind::Denied && !self.says_read_only());
        let remedy = denied.map(|denied| denied.remedy(context.step, self.status, self.insufficient_scope()));
        let hint = hint.filter(|_| !self.elsewhere).map(str::to_owned);
        let parts: Vec<String> = [Some(self.detail()), remedy, hint].into_iter().flatten().collect();
        context.error(kind, parts.join("; "))
    }

    fn hint(&self, context: &Context) -> Option<&'static str> {
        let hint = hints::for_refusal(context.flavor, context.step, self.status, &self.codes());
        hints::for_read_only(context.step, self.status, self.says_read_only()).or(hint)
    }

    /// Returns the kind of the error. `step` is the step of the request.
    fn classify(&self, step: Step) -> ErrorKind {
        let (status, codes) = (self.status, self.codes());
        let has_code = |code: &str| codes.iter().any(|known| known == code);
        let writing_manifest = matches!(step, Step::WriteManifest | Step::LinkReferrers);
        if writing_manifest
            && (has_code("MANIFEST_BLOB_UNKNOWN") || has_code("BLOB_UNKNOWN") || has_code("MANIFEST_UNKNOWN"))
            && status.is_client_error()
        {
            return ErrorKind::MissingContent;
        }
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Denied,
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::Busy(self.retry_after),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => ErrorKind::Unsupported,
            _ if has_code("UNSUPPORTED") => ErrorKind::Unsupported,
            // The upload session does not exist any more. The caller can open a new session.
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
                if matches!(step, Step::SendBlob | Step::CommitBlob) && !has_code("NAME_UNKNOWN") =>
            {
                ErrorKind::Unavailable
            }
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            _ if has_code("DIGEST_INVALID")
                && matches!(step, Step::SendBlob | Step::CommitBlob | Step::WriteManifest) =>
            {
                ErrorKind::Corrupt
            }
            StatusCode::REQUEST_TIMEOUT => ErrorKind::Unavailable,
            status if status.is_client_error() => ErrorKind::Refused,
            status if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::Invalid,
        }
    }

    /// Returns the message for a successful response whose body cannot be read as a list. If neither the media type nor
    /// the body is JSON, the message says that the server is not a registry.
    pub(crate) fn unreadable(&self, error: &serde_json::Error) -> String {
        match self.foreign_type() {
            Some(content_type) => self.describe_foreign(&content_type),
            None => format!("the list cannot be read: {error}"),
        }
    }

    /// Returns the message for a success that has another status than `expected`, and that lacks the headers for the
    /// step.
    pub(crate) fn unexpected_success(&self, expected: StatusCode) -> String {
        self.describe_web_page().unwrap_or_else(|| format!("{}, expected {}", self.detail(), expected.as_u16()))
    }

    /// Returns the message for a web page, for example from a login portal. Returns `None` for other responses.
    pub(crate) fn describe_web_page(&self) -> Option<String> {
        let content_type = self.foreign_type().filter(|content_type| content_type.starts_with("text/html"))?;
        Some(self.describe_foreign(&content_type))
    }

    /// Returns the media type in the response, if neither the media type nor the body is JSON.
    fn foreign_type(&self) -> Option<String> {
        let content_type = self.header(&CONTENT_TYPE).map(clean).filter(|content_type| !content_type.contains("json"));
        content_type.filter(|_| !self.bytes().trim_ascii_start().starts_with(b"{"))
    }

    fn describe_foreign(&self, content_type: &str) -> String {
        let status = self.status.as_u16();
        format!(
            "the server answers {status} with {content_type}: this is not a registry; check the host name and \
             `path_prefix`"
        )
    }

    /// Returns the status and at most three errors from the body, such as `404 NAME_UNKNOWN: repository name not known
    /// to registry`. If the body contains no errors, returns the status.
    pub(crate) fn detail(&self) -> String {
        let mut detail = match self.status.canonical_reason() {
            Some(reason) => format!("{} {reason}", self.status.as_u16()),
            None => self.status.as_u16().to_string(),
        };
        for error in read_envelope(&self.bytes()).into_iter().take(3) {
            // Writing to a String cannot fail.
            let _ = write!(detail, ", {}", clean(&error.code));
            if !error.message.is_empty() {
                let _ = write!(detail, ": {}", clean(&error.message));
            }
        }
        if self.insufficient_scope() {
            detail += "; the token does not grant this action";
        }
        if self.elsewhere {
            let _ = write!(detail, ", from {}", super::redirect::site(&self.url));
        }
        detail
    }

    /// Returns true if the registry refuses a write because the tag is locked or immutable. Azure Container Registry
    /// reports a lock. Amazon ECR, Harbor, Quay and Google Artifact Registry report an immutable tag.
    fn says_locked(&self) -> bool {
        let is_possible = matches!(self.status.as_u16(), 400 | 401 | 403 | 405 | 409 | 412);
        let names_lock = |error: EnvelopeError| {
            let text = format!("{} {}", error.code, error.message).to_ascii_lowercase();
            LOCKED.iter().any(|words| text.contains(words))
        };
        self.status == StatusCode::LOCKED || (is_possible && read_envelope(&self.bytes()).into_iter().any(names_lock))
    }

    /// Returns true if the registry reports that it accepts no writes at the moment (Harbor, Quay).
    fn says_read_only(&self) -> bool {
        self.status.is_client_error()
            && read_envelope(&self.bytes()).into_iter().any(|error| {
                let text = error.message.to_ascii_lowercase();
                text.contains("read-only") || text.contains("read only") || text.contains("readonly")
            })
    }

    /// Returns true if the registry accepted the token, but requires a token with more rights (RFC 6750, section 3.1).
    /// Messages do not show the scope in the challenge, because the challenge can contain a secret.
    fn insufficient_scope(&self) -> bool {
        let challenges = challenge::challenges(&self.headers);
        challenges.iter().any(|challenge| challenge.get("error") == Some("insufficient_scope"))
    }
}

/// Phrases, in lower case. If a refusal contains one of these phrases, the tag is locked or immutable. The last phrase
/// is from the message of Azure Container Registry.
const LOCKED: [&str; 5] = [
    "immutable",
    "locked",
    "writeenabled",
    "write-enabled",
    "operation is disallowed on this registry, repository or image",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EnvelopeError {
    code: String,
    message: String,
}

/// Reads the errors in a body with the format of distribution-spec: `{"errors": [...]}`. Returns no errors if the body
/// has another format.
fn read_envelope(body: &[u8]) -> Vec<EnvelopeError> {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<EnvelopeError>,
    }
    serde_json::from_slice(body).map_or_else(|_| Vec::new(), |envelope: Envelope| envelope.errors)
}

/// Replaces control characters with spaces, and truncates the text to 300 characters.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect::<String>().trim().to_owned()
}

/// Marks a header as sensitive, so `Debug` does not show its value.
pub(crate) fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::Flavor;

    fn after(value: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        let now = DateTime::parse_from_rfc3339("1994-11-06T08:49:07Z").unwrap().to_utc();
        retry_after(&headers, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_accepts_seconds_or_date_up_to_an_hour() {
        assert_eq!(after("7"), Some(7));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0));
        assert_eq!(after("86400"), Some(3600));
        assert_eq!(after("Sun, 06 Nov 2094 08:49:37 GMT"), Some(3600));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }

    fn answer(status: u16, body: &str) -> Response {
        let (status, url) = (StatusCode::from_u16(status).unwrap(), "https://h/v2/".parse().unwrap());
        ResponseHead::new(status, HeaderMap::new(), url).with_body(Body::Whole(body.to_owned().into()))
    }

    fn refusal(step: Step, status: u16, body: &str) -> StoreError {
        answer(status, body).refusal(&context_of(step))
    }

    fn context_of(step: Step) -> Context {
        Context::new("h/r".into(), step, "v1".into(), Flavor::GENERIC, &Arc::default())
    }

    #[test]
    fn refusal_shows_status_and_envelope_errors() {
        let body =
            r#"{"errors":[{"code":"DENIED","message":"not\u0007 for\nyou","detail":{"a":1}},{"code":"UNKNOWN"}]}"#;
        let error = refusal(Step::ReadManifest, 403, body);
        assert_eq!(error.to_string(), "h/r: reading manifest v1: 403 Forbidden, DENIED: not  for you, UNKNOWN");
        assert_eq!(error.kind, ErrorKind::Denied);
        let error = refusal(Step::ReadManifest, 500, "<html>\u{1b}[31m");
        assert_eq!(error.to_string(), "h/r: reading manifest v1: 500 Internal Server Error");
    }

    #[test]
    fn insufficient_scope_is_reported_without_the_challenge() {
        let challenge = r#"Bearer realm="https://h/t",scope="hunter2",error="insufficient_scope""#;
        let headers = HeaderMap::from_iter([(http::header::WWW_AUTHENTICATE, challenge.parse().unwrap())]);
        let detail = Response { headers, ..answer(401, "") }.detail();
        assert_eq!(detail, "401 Unauthorized; the token does not grant this action");
    }

    #[test]
    fn refusal_has_the_kind_of_its_status_and_code() {
        let envelope = |code: &str| format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#);
        for (step, status, code, kind) in [
            (Step::ReadManifest, 401, "UNAUTHORIZED", ErrorKind::Denied),
            (Step::ReadManifest, 404, "MANIFEST_UNKNOWN", ErrorKind::NotFound),
            (Step::WriteManifest, 404, "MANIFEST_UNKNOWN", ErrorKind::MissingContent),
            (Step::WriteManifest, 400, "MANIFEST_BLOB_UNKNOWN", ErrorKind::MissingContent),
            (Step::WriteManifest, 404, "NAME_UNKNOWN", ErrorKind::NotFound),
            (Step::WriteManifest, 409, "TAG_INVALID", ErrorKind::Refused),
            (Step::Delete, 405, "UNSUPPORTED", ErrorKind::Unsupported),
            (Step::Delete, 400, "UNSUPPORTED", ErrorKind::Unsupported),
            (Step::SendBlob, 404, "BLOB_UPLOAD_UNKNOWN", ErrorKind::Unavailable),
            (Step::CommitBlob, 400, "DIGEST_INVALID", ErrorKind::Corrupt),
            (Step::SendBlob, 413, "SIZE_INVALID", ErrorKind::Refused),
            (Step::ListTags, 429, "TOOMANYREQUESTS", ErrorKind::Busy(None)),
            (Step::ListTags, 502, "", ErrorKind::Unavailable),
            (Step::ListTags, 204, "", ErrorKind::Invalid),
        ] {
            assert_eq!(refusal(step, status, &envelope(code)).kind, kind, "{status} {code}");
        }
    }

    #[test]
    fn refusal_by_a_lock_has_kind_locked() {
        let refused = |step, status, message: &str| {
            refusal(step, status, &format!(r#"{{"errors":[{{"code":"DENIED","message":"{message}"}}]}}"#)).kind
        };
        for (status, message) in [
            (
                405,
                concat!(
                    "The operation is disallowed on this registry, repository or image. ",
                    "View troubleshooting steps at https://aka.ms/acr",
                ),
            ),
            (409, "the tag v1 is locked"),
            (
                400,
                concat!(
                    "The image tag 'v1' already exists in the 'a' repository and cannot be overwritten ",
                    "because the repository is immutable.",
                ),
            ),
            (412, "Failed to process request due to 'a:v1' configured as immutable."),
        ] {
            assert_eq!(refused(Step::WriteManifest, status, message), ErrorKind::Locked, "{message}");
        }
        assert_eq!(refusal(Step::WriteManifest, 423, "").kind, ErrorKind::Locked);
        assert_eq!(refused(Step::WriteManifest, 403, "no push access"), ErrorKind::Denied);
        assert_eq!(refused(Step::WriteManifest, 500, "locked"), ErrorKind::Unavailable);
        assert_eq!(refused(Step::SendBlob, 403, "locked"), ErrorKind::Denied);
    }

    #[test]
    fn refusal_by_another_origin_names_it_and_is_transient() {
        let context = Context { step: Step::ReadBlob, subject: String::new(), ..context_of(Step::ReadBlob) };
        let url = "https://cdn.example:8443/x?signature=1".parse().unwrap();
        let error = Response { url, elsewhere: true, ..answer(403, "<xml>") }.refusal(&context);
        assert_eq!(
            (error.kind, error.detail.as_str()),
            (ErrorKind::Unavailable, "403 Forbidden, from https://cdn.example:8443")
        );
    }
}

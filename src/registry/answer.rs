//! What a registry answered, and what its refusals mean. The text of a refusal comes from outside: it is cut and
//! cleaned of control characters before anyone sees it, and of secrets by [`super::scrub`].

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use url::Url;

use super::budget::{Budget, Budgets};
use super::hint;
use super::permits::Permit;
use super::{Kind, Party, challenge, retry};
use crate::oci::Digest;
use crate::store::{ErrorKind, Step, StoreError};

/// The most bytes of a refusal that are read.
pub(crate) const MAX_REFUSAL: usize = 64 * 1024;

/// What is being done, for the error that may come of it.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) place: Arc<str>,
    pub(crate) step: Step,
    pub(crate) subject: String,
    /// On whose behalf.
    pub(crate) party: Party,
    /// Of what registry, for the way out.
    pub(crate) kind: Kind,
    /// What is left of its repetitions.
    pub(crate) budget: Budget,
}

impl Context {
    /// An operation with `subject`, a tag, a digest or nothing, at `place`, on behalf of nobody in particular.
    pub(crate) fn new(place: Arc<str>, step: Step, subject: String, kind: Kind, budgets: &Arc<Budgets>) -> Self {
        let budget = Budget::of(budgets, &place, step, &subject);
        Self { place, step, subject, party: Party::default(), kind, budget }
    }

    /// The error that comes of it, given up where its retry budget is spent.
    pub(crate) fn error(&self, kind: ErrorKind, detail: impl std::fmt::Display) -> StoreError {
        let error = StoreError::new(&self.place, self.step, &self.subject, kind, detail);
        if error.is_transient() && self.budget.is_spent() { error.giving_up() } else { error }
    }

    /// The same operation, at another step.
    pub(crate) fn at(&self, step: Step) -> Self {
        Self { step, budget: self.budget.at(step), ..self.clone() }
    }
}

/// An answer: its body whole, or flowing for a blob.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The address that answered, behind all redirects.
    pub(crate) url: Url,
    /// Whether that is another origin than the request's own: a store or a CDN that the registry pointed at.
    pub(crate) elsewhere: bool,
    pub(crate) body: Body,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    Whole(Bytes),
    /// A blob on its way, and the permit to let go when it has come.
    Flowing(reqwest::Response, Permit),
}

impl Answer {
    /// The body; empty where it is flowing.
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.body {
            Body::Whole(bytes) => bytes.clone(),
            Body::Flowing(..) => Bytes::new(),
        }
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Docker-Content-Digest`, where it is one.
    pub(crate) fn content_digest(&self) -> Option<Digest> {
        self.header(&HeaderName::from_static("docker-content-digest"))?.trim().parse().ok()
    }

    /// The codes of the error envelope.
    pub(crate) fn codes(&self) -> Vec<String> {
        envelope(&self.bytes()).into_iter().map(|error| error.code).collect()
    }

    /// The error that this answer is.
    pub(crate) fn refusal(&self, context: &Context) -> StoreError {
        self.refusal_with(context, hint::of_refusal(context.kind, context.step, self.status, &self.codes()))
    }

    /// The same with a way out, where there is one.
    pub(crate) fn refusal_with(&self, context: &Context, hint: Option<&str>) -> StoreError {
        let kind = kind_of(context.step, self.status, &self.headers, &self.codes());
        let kind = match kind {
            _ if context.step == Step::WriteManifest && self.says_locked() => ErrorKind::Locked,
            // Our credentials do not count there; most often a signed address ran out, and another one will do.
            ErrorKind::Denied if self.elsewhere => ErrorKind::Unavailable,
            kind => kind,
        };
        match hint.filter(|_| !self.elsewhere) {
            Some(hint) => context.error(kind, format!("{}; {hint}", self.detail())),
            None => context.error(kind, self.detail()),
        }
    }

    /// What to say of a success whose body is no list: whoever answers pages to everything is no registry.
    pub(crate) fn unreadable(&self, error: &serde_json::Error) -> String {
        let kind = self.header(&CONTENT_TYPE).map(clean).filter(|kind| !kind.contains("json"));
        let is_page = !self.bytes().trim_ascii_start().starts_with(b"{");
        match kind.filter(|_| is_page) {
            Some(kind) => {
                format!("it answers {} with {kind}: there is no registry; see `path_prefix`", self.status.as_u16())
            }
            None => format!("the list cannot be read: {error}"),
        }
    }

    /// `404 NAME_UNKNOWN: repository name not known to registry`, or the status alone.
    pub(crate) fn detail(&self) -> String {
        let mut detail = match self.status.canonical_reason() {
            Some(reason) => format!("{} {reason}", self.status.as_u16()),
            None => self.status.as_u16().to_string(),
        };
        for error in envelope(&self.bytes()).into_iter().take(3) {
            // Writing to a String cannot fail.
            let _ = write!(detail, ", {}", clean(&error.code));
            if !error.message.is_empty() {
                let _ = write!(detail, ": {}", clean(&error.message));
            }
        }
        if self.lacks_a_grant() {
            detail += "; the token that we were given does not grant this";
        }
        if self.elsewhere {
            let _ = write!(detail, ", from {}", super::locate::site(&self.url));
        }
        detail
    }

    /// Whether a refusal to write a tag says that nobody may: Azure's registries of a lock, Amazon's, Harbor, Quay and Google's of tags
    /// that are immutable.
    fn says_locked(&self) -> bool {
        let may_be = matches!(self.status.as_u16(), 400 | 401 | 403 | 405 | 409 | 412);
        let says = |error: EnvelopeError| {
            let text = format!("{} {}", error.code, error.message).to_ascii_lowercase();
            LOCKED.iter().any(|words| text.contains(words))
        };
        self.status == StatusCode::LOCKED || (may_be && envelope(&self.bytes()).into_iter().any(says))
    }

    /// Whether a token was good but for what it grants (RFC 6750, section 3.1). What it lacks is not repeated from the
    /// challenge: what was done says it, and nothing from there needs to be trusted to hold no secret.
    fn lacks_a_grant(&self) -> bool {
        let challenges = challenge::challenges(&self.headers);
        challenges.iter().any(|challenge| challenge.get("error") == Some("insufficient_scope"))
    }
}

/// What registries say, in lower case, of a tag that nobody may write. Azure's say the last one, and nothing nearer.
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

/// The errors of the specification's envelope; none where the body is something else.
fn envelope(body: &[u8]) -> Vec<EnvelopeError> {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<EnvelopeError>,
    }
    serde_json::from_slice(body).map_or_else(|_| Vec::new(), |envelope: Envelope| envelope.errors)
}

/// One line of at most 300 characters.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect::<String>().trim().to_owned()
}

fn kind_of(step: Step, status: StatusCode, headers: &HeaderMap, codes: &[String]) -> ErrorKind {
    let said = |code: &str| codes.iter().any(|said| said == code);
    let writing_manifest = matches!(step, Step::WriteManifest | Step::LinkReferrers);
    if writing_manifest
        && (said("MANIFEST_BLOB_UNKNOWN") || said("BLOB_UNKNOWN") || said("MANIFEST_UNKNOWN"))
        && status.is_client_error()
    {
        return ErrorKind::MissingContent;
    }
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Denied,
        StatusCode::TOO_MANY_REQUESTS => ErrorKind::Busy(retry::retry_after(headers, chrono::Utc::now())),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => ErrorKind::Unsupported,
        _ if said("UNSUPPORTED") => ErrorKind::Unsupported,
        // The session is gone, not the repository: another one will do.
        StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
            if matches!(step, Step::SendBlob | Step::CommitBlob) && !said("NAME_UNKNOWN") =>
        {
            ErrorKind::Unavailable
        }
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        _ if said("DIGEST_INVALID") && matches!(step, Step::SendBlob | Step::CommitBlob | Step::WriteManifest) => {
            ErrorKind::Corrupt
        }
        StatusCode::REQUEST_TIMEOUT => ErrorKind::Unavailable,
        status if status.is_client_error() => ErrorKind::Refused,
        status if status.is_server_error() => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    }
}

/// Marks a header so that no `Debug` shows it.
pub(crate) fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Where credentials go.
pub(crate) const CREDENTIALS: HeaderName = AUTHORIZATION;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            url: "https://h/v2/".parse().unwrap(),
            elsewhere: false,
            body: Body::Whole(body.to_owned().into()),
        }
    }

    fn refusal(step: Step, status: u16, body: &str) -> StoreError {
        answer(status, body).refusal(&context_of(step))
    }

    fn context_of(step: Step) -> Context {
        Context::new("h/r".into(), step, "v1".into(), Kind::Plain, &Arc::default())
    }

    #[test]
    fn a_refusal_tells_the_status_and_what_the_envelope_says() {
        let body =
            r#"{"errors":[{"code":"DENIED","message":"not\u0007 for\nyou","detail":{"a":1}},{"code":"UNKNOWN"}]}"#;
        let error = refusal(Step::ReadManifest, 403, body);
        assert_eq!(error.to_string(), "h/r: reading manifest v1: 403 Forbidden, DENIED: not  for you, UNKNOWN");
        assert_eq!(error.kind, ErrorKind::Denied);
        let error = refusal(Step::ReadManifest, 500, "<html>\u{1b}[31m");
        assert_eq!(error.to_string(), "h/r: reading manifest v1: 500 Internal Server Error");
    }

    #[test]
    fn a_refusal_for_lack_of_a_grant_says_so_and_repeats_no_challenge() {
        let challenge = r#"Bearer realm="https://h/t",scope="hunter2",error="insufficient_scope""#;
        let headers = HeaderMap::from_iter([(http::header::WWW_AUTHENTICATE, challenge.parse().unwrap())]);
        let told = Answer { headers, ..answer(401, "") }.detail();
        assert_eq!(told, "401 Unauthorized; the token that we were given does not grant this");
    }

    #[test]
    fn a_refusal_has_the_kind_that_a_caller_can_act_upon() {
        let said = |code: &str| format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#);
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
            assert_eq!(refusal(step, status, &said(code)).kind, kind, "{status} {code}");
        }
    }

    #[test]
    fn a_refusal_that_names_a_lock_is_told_apart() {
        let refused = |step, status, message: &str| {
            refusal(step, status, &format!(r#"{{"errors":[{{"code":"DENIED","message":"{message}"}}]}}"#)).kind
        };
        for (status, message) in [
            (
                405,
                "The operation is disallowed on this registry, repository or image. View troubleshooting steps at https://aka.ms/acr",
            ),
            (409, "the tag v1 is locked"),
            (
                400,
                "The image tag 'v1' already exists in the 'a' repository and cannot be overwritten because the repository is immutable.",
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
    fn a_refusal_of_a_store_elsewhere_names_it_and_may_pass() {
        let context = Context { step: Step::ReadBlob, subject: String::new(), ..context_of(Step::ReadBlob) };
        let url = "https://cdn.example:8443/x?signature=1".parse().unwrap();
        let error = Answer { url, elsewhere: true, ..answer(403, "<xml>") }.refusal(&context);
        assert_eq!(
            (error.kind, error.detail.as_str()),
            (ErrorKind::Unavailable, "403 Forbidden, from https://cdn.example:8443")
        );
    }
}

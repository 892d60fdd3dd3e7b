//! Transport errors: reasons why the client got no usable answer to a request. The variant shows whether the registry
//! can have executed the request. The message contains a remedy if the client knows a remedy.

use std::error::Error;
use std::io;

use chrono::{DateTime, SecondsFormat};
use rustls::CertificateError;
use url::Url;

use super::redirect;
use super::resolver::NearName;
use super::retry::Failure;
use crate::store::ErrorKind;

/// Facts about the connection to a host, for error messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Approach {
    /// Address of the proxy, without credentials. `None` if the client uses no proxy.
    pub(crate) via: Option<String>,
    /// True if the client sends a client certificate.
    pub(crate) shows_certificate: bool,
    /// True if the host has ever answered a request.
    pub(crate) has_answered: bool,
}

/// Transport error: the reason why the client got no usable answer.
#[derive(Debug, Clone)]
pub(crate) enum TransportError {
    /// The client could not connect, so it did not send the request.
    NotSent(String),
    /// The other side closed the connection cleanly before it processed the request.
    Unprocessed(String),
    /// The connection was interrupted during the exchange. The other side can have executed the request.
    Broken(String),
    /// A repeated request would fail in the same way.
    Unusable(String),
}

impl TransportError {
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self {
            Self::NotSent(_) => Some(Failure::NotSent),
            Self::Unprocessed(_) => Some(Failure::Unprocessed),
            Self::Broken(_) => Some(Failure::Broken),
            Self::Unusable(_) => None,
        }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Unprocessed(_) => ErrorKind::Unprocessed,
            Self::NotSent(_) | Self::Broken(_) => ErrorKind::Unavailable,
            Self::Unusable(_) => ErrorKind::Invalid,
        }
    }

    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::NotSent(detail) | Self::Unprocessed(detail) | Self::Broken(detail) | Self::Unusable(detail) => detail,
        }
    }
}

/// Returns the transport error for a request without an answer. If an operator must first fix the cause, returns
/// [`TransportError::Unusable`], and the client does not repeat the request.
pub(crate) fn describe(error: &reqwest::Error, url: &Url, approach: &Approach) -> TransportError {
    let host = redirect::site(url);
    if was_not_processed(error) {
        return TransportError::Unprocessed(format!("{host} ended the connection before it processed the request"));
    }
    if let Some(near) = causes(error).find_map(|error| error.downcast_ref::<NearName>()) {
        return TransportError::Unusable(near.to_string());
    }
    let cause = cause(error);
    // If a proxy is used, the client resolves the name of the proxy and connects to the proxy.
    let peer = approach.via.as_ref().map_or_else(|| host.clone(), |proxy| format!("the proxy {proxy}"));
    if let Some(permanent) = permanent_failure(&cause, error, url, approach, &peer) {
        return TransportError::Unusable(permanent);
    }
    let hint = hint(error, url, approach);
    let detail = match (cause, error.is_timeout()) {
        (_, true) if error.is_connect() => format!("connecting to {peer} timed out"),
        (_, true) => format!("{host} did not answer in time"),
        (Cause::Io(io::ErrorKind::ConnectionRefused, _), _) => format!("{peer} refused the connection"),
        (Cause::Tls(tls), _) => format!("TLS with {host}: {tls}"),
        (Cause::Io(_, text) | Cause::Other(text), _) if error.is_dns() => {
            format!("the name of {peer} cannot be resolved now: {text}")
        }
        (Cause::Other(text), _) if text.contains("detected excessive load") => {
            format!("{host} ended HTTP/2 with ENHANCE_YOUR_CALM; `http1_only: true` turns HTTP/2 off")
        }
        (Cause::Other(text), _) if text == "tunnel error: unsuccessful" => {
            format!("{peer} could not connect to {host}")
        }
        (Cause::Io(_, text) | Cause::Other(text), _) if error.is_connect() => {
            format!("cannot connect to {peer}: {text}{hint}")
        }
        (Cause::Io(_, text) | Cause::Other(text), _) => {
            format!("the connection to {peer} was interrupted: {text}{hint}")
        }
    };
    if error.is_connect() { TransportError::NotSent(detail) } else { TransportError::Broken(detail) }
}

/// Returns true if the other side has certainly not processed the request:
///
/// - The other side ended HTTP/2 without an error before this stream (RFC 9113, section 6.8).
/// - The other side refused the stream (section 8.7).
/// - The connection closed before the client sent the request.
fn was_not_processed(error: &reqwest::Error) -> bool {
    let is_unprocessed = |error: &h2::Error| match error.reason() {
        Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
        Some(h2::Reason::REFUSED_STREAM) => error.is_reset() && error.is_remote(),
        _ => false,
    };
    causes(error).any(|error| {
        error.downcast_ref::<h2::Error>().is_some_and(is_unprocessed)
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
    })
}

/// Returns a remedy if the host closed the connection without a response, has never answered, and is reached without a
/// proxy. Otherwise returns an empty text.
fn hint(error: &reqwest::Error, url: &Url, approach: &Approach) -> &'static str {
    let is_closed = causes(error).any(|error| {
        let of_http = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        of_http
            || error
                .downcast_ref::<io::Error>()
                .is_some_and(|io| matches!(io.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset))
    });
    match url.scheme() {
        _ if !is_closed || approach.has_answered || approach.via.is_some() => "",
        "http" => "; if the server expects TLS, remove `plain_http`",
        _ if approach.shows_certificate => "; if the server expects plain HTTP, set `plain_http: true`",
        _ => {
            "; if the server expects plain HTTP, set `plain_http: true`; if it requires a client certificate, \
             set `tls.certificate`"
        }
    }
}

/// If a repeated request would fail in the same way, returns the message of the failure. Otherwise returns `None`.
fn permanent_failure(
    cause: &Cause,
    error: &reqwest::Error,
    url: &Url,
    approach: &Approach,
    peer: &str,
) -> Option<String> {
    let host = redirect::site(url);
    match cause {
        Cause::Tls(tls) => permanent_tls_failure(tls, url, approach.shows_certificate),
        Cause::Io(_, text) | Cause::Other(text) if error.is_dns() && !is_transient(text) => {
            Some(format!("the name of {peer} is not known: {text}"))
        }
        Cause::Other(text) if text == "tunnel error: proxy authorization required" => {
            Some(format!("{peer} requires a user and a password, or rejected those of the configuration"))
        }
        Cause::Other(_) if url.scheme() == "http" && is_not_http(error) => {
            Some(format!("{host} does not speak HTTP; if the server expects TLS, remove `plain_http`"))
        }
        _ => None,
    }
}

/// Returns true if `text` contains a C library's message for `EAI_AGAIN`, a transient failure of the resolver.
fn is_transient(text: &str) -> bool {
    text.contains("emporary failure") || text.contains("Try again")
}

fn is_not_http(error: &reqwest::Error) -> bool {
    causes(error).filter_map(|error| error.downcast_ref::<hyper::Error>()).any(hyper::Error::is_parse)
}

fn permanent_tls_failure(tls: &rustls::Error, url: &Url, shows_certificate: bool) -> Option<String> {
    use rustls::AlertDescription as Alert;
    let host = redirect::site(url);
    Some(match tls {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            format!("{host} does not speak TLS; for plain HTTP set `plain_http: true`")
        }
        rustls::Error::InvalidCertificate(why) => {
            format!("the certificate of {host} {}", describe_certificate_fault(why, url))
        }
        // Servers send different alerts for a missing client certificate. For example, Go's servers send
        // BadCertificate.
        rustls::Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied),
        ) => match shows_certificate {
            true => format!("{host} rejected the client certificate ({alert:?}); check `tls.certificate`"),
            false => format!("{host} requires a client certificate; set `tls.certificate` to its file"),
        },
        // Servers that use OpenSSL with TLS 1.2 send this alert for a missing client certificate.
        rustls::Error::AlertReceived(Alert::HandshakeFailure) if !shows_certificate => format!(
            "{host} rejected the TLS handshake: HandshakeFailure; if it requires a client certificate, \
             set `tls.certificate` to its file"
        ),
        rustls::Error::AlertReceived(alert) => format!("{host} rejected the TLS handshake: {alert:?}"),
        rustls::Error::PeerIncompatible(why) => {
            format!("{host} and this program support no common TLS version or cipher: {why:?}")
        }
        _ => return None,
    })
}

/// Returns the fault of a certificate, as words that follow "the certificate of HOST".
fn describe_certificate_fault(why: &CertificateError, url: &Url) -> String {
    let date = |time: rustls::pki_types::UnixTime| {
        let date = i64::try_from(time.as_secs()).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        date.map_or_else(|| "a time out of bounds".to_owned(), |date| date.to_rfc3339_opts(SecondsFormat::Secs, true))
    };
    match why {
        CertificateError::UnknownIssuer => {
            "is issued by an unknown authority; set `tls.ca` to the file of the authority".to_owned()
        }
        CertificateError::BadSignature => {
            "is not signed by the trusted authority of that name; set `tls.ca` to the file of the right authority, or \
             to the file of the certificate itself if it is self-signed"
                .to_owned()
        }
        CertificateError::ExpiredContext { not_after, .. } => format!("expired at {}", date(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}, by the clock of this machine", date(*not_before))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let requested = url.host_str().unwrap_or_default();
            let names: Vec<&str> = presented.iter().map(|name| unwrap_name(name)).collect();
            match names.as_slice() {
                [] => format!(
                    "contains no host name, but {requested} was requested; create it with the name as subjectAltName \
                     (`openssl req -x509 -addext subjectAltName=...`)"
                ),
                names => format!("is valid for {}, but {requested} was requested", names.join(", ")),
            }
        }
        CertificateError::Revoked => "is revoked".to_owned(),
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "is self-signed and not trusted; set `tls.ca` to the file of this certificate".to_owned()
        }
        other => format!("is not valid: {other}"),
    }
}

/// Returns `x.example` from `DnsName("x.example")`.
fn unwrap_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

/// Returns the transport error for a response whose body was interrupted.
pub(crate) fn describe_interruption(error: &reqwest::Error, url: &Url) -> TransportError {
    // The host has answered, so hints about the setup of the connection do not apply.
    match describe(error, url, &Approach { has_answered: true, ..Approach::default() }) {
        TransportError::NotSent(detail) | TransportError::Unprocessed(detail) => TransportError::Broken(detail),
        other => other,
    }
}

enum Cause {
    Io(io::ErrorKind, String),
    Tls(rustls::Error),
    Other(String),
}

/// Returns the innermost cause of an error, because this cause has the most specific message. If a cause is a TLS
/// error, returns the TLS error.
fn cause(error: &reqwest::Error) -> Cause {
    let mut found = Cause::Other("the exchange failed".to_owned());
    for error in causes(error) {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Cause::Tls(tls.clone());
        }
        found = match error.downcast_ref::<io::Error>() {
            Some(io) => Cause::Io(io.kind(), error.to_string()),
            None => Cause::Other(error.to_string()),
        };
    }
    found
}

/// Returns the causes of an error, the outermost cause first. `io::Error::source` skips the error inside the I/O error,
/// so this function calls `get_ref` for I/O errors.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::dns::{Name, Resolve, Resolving};

    use super::*;

    struct FailingResolver(&'static str);

    impl Resolve for FailingResolver {
        fn resolve(&self, _: Name) -> Resolving {
            let text = self.0;
            Box::pin(async move { Err(io::Error::other(text).into()) })
        }
    }

    #[tokio::test]
    async fn unknown_name_is_permanent_and_resolver_failure_is_transient() {
        let url: Url = "http://registry.example:5000/v2/".parse().unwrap();
        let failure_for = async |text| {
            let builder =
                reqwest::Client::builder().no_proxy().tls_certs_only([]).dns_resolver(Arc::new(FailingResolver(text)));
            let error = builder.build().unwrap().get(url.clone()).send().await.unwrap_err();
            describe(&error, &url, &Approach::default())
        };
        let unknown = failure_for("failed to lookup address information: Name or service not known").await;
        assert_eq!(
            unknown.detail(),
            "the name of http://registry.example:5000 is not known: failed to lookup address information: \
             Name or service not known"
        );
        assert_eq!((unknown.failure(), unknown.kind()), (None, ErrorKind::Invalid));
        let later = failure_for("failed to lookup address information: Temporary failure in name resolution").await;
        assert_eq!(
            later.detail(),
            "the name of http://registry.example:5000 cannot be resolved now: failed to lookup address information: \
             Temporary failure in name resolution"
        );
        assert_eq!((later.failure(), later.kind()), (Some(Failure::NotSent), ErrorKind::Unavailable));
    }
}

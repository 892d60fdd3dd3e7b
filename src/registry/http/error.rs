//! Transport errors: the reason why a request got no answer, in words that a person can act on, and if the registry may
//! have executed the request.

use std::error::Error;
use std::io;

use chrono::{DateTime, SecondsFormat};
use rustls::CertificateError;
use url::Url;

use super::redirect;
use super::resolver::NearName;
use super::retry::Failure;
use crate::store::ErrorKind;

/// Facts about the path to a host, for error messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Approach {
    /// Proxy on the path, without its credentials.
    pub(crate) via: Option<String>,
    /// True if a client certificate is sent.
    pub(crate) shows_certificate: bool,
    /// True if the host has ever answered.
    pub(crate) has_answered: bool,
}

/// Transport error: the reason why a request got no usable answer.
#[derive(Debug, Clone)]
pub(crate) enum TransportError {
    /// No connection could be made.
    NotSent(String),
    /// The other side closed the connection cleanly before it processed the request.
    NotTaken(String),
    /// The exchange was interrupted.
    Broken(String),
    /// The answer cannot be used, and a repeated request would get the same.
    Unusable(String),
}

impl TransportError {
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self {
            Self::NotSent(_) => Some(Failure::NotSent),
            Self::NotTaken(_) => Some(Failure::NotTaken),
            Self::Broken(_) => Some(Failure::Broken),
            Self::Unusable(_) => None,
        }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NotTaken(_) => ErrorKind::NotTaken,
            Self::NotSent(_) | Self::Broken(_) => ErrorKind::Unavailable,
            Self::Unusable(_) => ErrorKind::Invalid,
        }
    }

    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::NotSent(detail) | Self::NotTaken(detail) | Self::Broken(detail) | Self::Unusable(detail) => detail,
        }
    }
}

/// Describes why a request got no answer. A failure that a person must fix first is not retried.
pub(crate) fn describe(error: &reqwest::Error, url: &Url, approach: &Approach) -> TransportError {
    let host = redirect::site(url);
    if was_not_processed(error) {
        return TransportError::NotTaken(format!("{host} ended the connection before it processed the request"));
    }
    if let Some(near) = causes(error).find_map(|error| error.downcast_ref::<NearName>()) {
        return TransportError::Unusable(near.to_string());
    }
    let cause = cause(error);
    // Behind a proxy, the proxy is the host that is looked up and connected to.
    let met = approach.via.as_ref().map_or_else(|| host.clone(), |proxy| format!("the proxy {proxy}"));
    if let Some(lasting) = permanent_failure(&cause, error, url, approach, &met) {
        return TransportError::Unusable(lasting);
    }
    let hint = hint(error, url, approach);
    let detail = match (cause, error.is_timeout()) {
        (_, true) if error.is_connect() => format!("no connection to {met} in time"),
        (_, true) => format!("{host} did not answer in time"),
        (Cause::Io(io::ErrorKind::ConnectionRefused, _), _) => format!("{met} refused the connection"),
        (Cause::Tls(tls), _) => format!("TLS with {host}: {tls}"),
        (Cause::Io(_, text) | Cause::Other(text), _) if error.is_dns() => {
            format!("the name of {met} cannot be resolved now: {text}")
        }
        (Cause::Other(text), _) if text.contains("detected excessive load") => {
            format!("{host} ended HTTP/2 with ENHANCE_YOUR_CALM; `http1_only: true` turns HTTP/2 off")
        }
        (Cause::Other(text), _) if text == "tunnel error: unsuccessful" => {
            format!("{met} could not connect to {host}")
        }
        (Cause::Io(_, text) | Cause::Other(text), _) if error.is_connect() => {
            format!("no connection to {met}: {text}{hint}")
        }
        (Cause::Io(_, text) | Cause::Other(text), _) => format!("the connection to {met} broke off: {text}{hint}"),
    };
    if error.is_connect() { TransportError::NotSent(detail) } else { TransportError::Broken(detail) }
}

/// Returns true if the other side has certainly not processed the request: it ended HTTP/2 without an error before this
/// stream (RFC 9113, section 6.8), refused the stream (section 8.7), or closed the connection before the request was
/// sent.
fn was_not_processed(error: &reqwest::Error) -> bool {
    let is_left_out = |error: &h2::Error| match error.reason() {
        Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
        Some(h2::Reason::REFUSED_STREAM) => error.is_reset() && error.is_remote(),
        _ => false,
    };
    causes(error).any(|error| {
        error.downcast_ref::<h2::Error>().is_some_and(is_left_out)
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
    })
}

/// Returns the remedy for a host that has never answered and closes connections without a response.
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
        "http" => "; if it speaks TLS, leave `plain_http` out",
        _ if approach.shows_certificate => "; if it speaks plain HTTP, set `plain_http: true`",
        _ => {
            "; if it speaks plain HTTP, set `plain_http: true`; if it requires a client certificate, \
             set `tls.certificate`"
        }
    }
}

/// Returns the message of a permanent failure, which every repetition would get too.
fn permanent_failure(
    cause: &Cause,
    error: &reqwest::Error,
    url: &Url,
    approach: &Approach,
    met: &str,
) -> Option<String> {
    let host = redirect::site(url);
    match cause {
        Cause::Tls(tls) => permanent_tls_failure(tls, url, approach.shows_certificate),
        Cause::Io(_, text) | Cause::Other(text) if error.is_dns() && !is_transient(text) => {
            Some(format!("the name of {met} is not known: {text}"))
        }
        Cause::Other(text) if text == "tunnel error: proxy authorization required" => {
            Some(format!("{met} requires a user and a password, or rejected those of the configuration"))
        }
        Cause::Other(_) if url.scheme() == "http" && is_not_http(error) => {
            Some(format!("{host} does not speak HTTP; if it speaks TLS, leave `plain_http` out"))
        }
        _ => None,
    }
}

/// Returns true if the resolver reports a transient failure (`EAI_AGAIN`, in the words of the C libraries).
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
        // The alert differs from server to server. Go's servers send BadCertificate if there is no certificate.
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
            false => format!("{host} requires a client certificate; name its file in `tls.certificate`"),
        },
        // OpenSSL's servers with TLS 1.2.
        rustls::Error::AlertReceived(Alert::HandshakeFailure) if !shows_certificate => format!(
            "{host} rejected the TLS handshake: HandshakeFailure; if it requires a client certificate, \
             name its file in `tls.certificate`"
        ),
        rustls::Error::AlertReceived(alert) => format!("{host} rejected the TLS handshake: {alert:?}"),
        rustls::Error::PeerIncompatible(why) => {
            format!("{host} supports no TLS version or cipher that this program does: {why:?}")
        }
        _ => return None,
    })
}

/// Returns the fault of a certificate, to follow "the certificate of HOST".
fn describe_certificate_fault(why: &CertificateError, url: &Url) -> String {
    let date = |time: rustls::pki_types::UnixTime| {
        let date = i64::try_from(time.as_secs()).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        date.map_or_else(|| "a time out of bounds".to_owned(), |date| date.to_rfc3339_opts(SecondsFormat::Secs, true))
    };
    match why {
        CertificateError::UnknownIssuer => {
            "is issued by an unknown authority; name the authority's file in `tls.ca`".to_owned()
        }
        CertificateError::BadSignature => {
            "is not signed by the known authority of that name; name the file of the right authority in `tls.ca`"
                .to_owned()
        }
        CertificateError::ExpiredContext { not_after, .. } => format!("expired at {}", date(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}, by the clock of this machine", date(*not_before))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let asked = url.host_str().unwrap_or_default();
            let names: Vec<&str> = presented.iter().map(|name| unwrap_name(name)).collect();
            match names.as_slice() {
                [] => format!("contains no host name, but {asked} was requested"),
                names => format!("is valid for {}, but {asked} was requested", names.join(", ")),
            }
        }
        CertificateError::Revoked => "is revoked".to_owned(),
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "is an authority's own certificate, which must not identify a server".to_owned()
        }
        other => format!("is not valid: {other}"),
    }
}

/// Returns `x.example` from `DnsName("x.example")`.
fn unwrap_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

/// Describes why a body ended too early.
pub(crate) fn describe_interruption(error: &reqwest::Error, url: &Url) -> TransportError {
    // The connection was established, so the facts of its setup do not matter.
    match describe(error, url, &Approach { has_answered: true, ..Approach::default() }) {
        TransportError::NotSent(detail) | TransportError::NotTaken(detail) => TransportError::Broken(detail),
        other => other,
    }
}

enum Cause {
    Io(io::ErrorKind, String),
    Tls(rustls::Error),
    Other(String),
}

/// Returns the innermost cause, which has the most specific message.
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

/// Returns the causes of an error, outermost first. An I/O error does not report the error that it wraps as its source.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&error| {
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        held.map(|held| held as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::dns::{Name, Resolve, Resolving};

    use super::*;

    struct Silent(&'static str);

    impl Resolve for Silent {
        fn resolve(&self, _: Name) -> Resolving {
            let text = self.0;
            Box::pin(async move { Err(io::Error::other(text).into()) })
        }
    }

    #[tokio::test]
    async fn unknown_name_is_permanent_and_resolver_failure_is_transient() {
        let url: Url = "http://registry.example:5000/v2/".parse().unwrap();
        let asked = async |text| {
            let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]).dns_resolver(Arc::new(Silent(text)));
            let error = builder.build().unwrap().get(url.clone()).send().await.unwrap_err();
            describe(&error, &url, &Approach::default())
        };
        let unknown = asked("failed to lookup address information: Name or service not known").await;
        assert_eq!(
            unknown.detail(),
            "the name of http://registry.example:5000 is not known: failed to lookup address information: \
             Name or service not known"
        );
        assert_eq!((unknown.failure(), unknown.kind()), (None, ErrorKind::Invalid));
        let later = asked("failed to lookup address information: Temporary failure in name resolution").await;
        assert_eq!(
            later.detail(),
            "the name of http://registry.example:5000 cannot be resolved now: failed to lookup address information: \
             Temporary failure in name resolution"
        );
        assert_eq!((later.failure(), later.kind()), (Some(Failure::NotSent), ErrorKind::Unavailable));
    }
}

//! Requests without an answer: why, in words that a person can act upon, and whether they may have been done.

use std::error::Error;
use std::io;

use chrono::{DateTime, SecondsFormat};
use rustls::CertificateError;
use url::Url;

use super::locate;
use super::resolver::NearName;
use super::retry::Failure;
use crate::store::ErrorKind;

/// Facts about the way to a host, for the words of an error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Approach {
    /// The proxy on the way, as it may be shown.
    pub(crate) via: Option<String>,
    /// True if a certificate of ours is shown.
    pub(crate) shows_certificate: bool,
    /// True if the host has ever answered.
    pub(crate) has_answered: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// No connection could be made.
    NotSent(String),
    /// The other side ended the connection in good order before it looked at the request.
    NotTaken(String),
    /// The exchange broke off.
    Broken(String),
    /// The answer is not one that can be used, however often it is asked for.
    Unusable(String),
}

impl Trouble {
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

/// Says in words why a request got no answer. What a person must change first is not tried again.
pub(crate) fn describe(error: &reqwest::Error, url: &Url, approach: &Approach) -> Trouble {
    let host = locate::site(url);
    if was_not_taken(error) {
        return Trouble::NotTaken(format!("{host} ended the connection before it took the request"));
    }
    if let Some(near) = causes(error).find_map(|error| error.downcast_ref::<NearName>()) {
        return Trouble::Unusable(near.to_string());
    }
    let cause = cause(error);
    // Behind a proxy, that is whom we look up and connect to.
    let met = approach.via.as_ref().map_or_else(|| host.clone(), |proxy| format!("the proxy {proxy}"));
    if let Some(lasting) = lasting(&cause, error, url, approach, &met) {
        return Trouble::Unusable(lasting);
    }
    let hint = hint(error, url, approach);
    let detail = match (cause, error.is_timeout()) {
        (_, true) if error.is_connect() => format!("no connection to {met} in time"),
        (_, true) => format!("{host} did not answer in time"),
        (Cause::Io(io::ErrorKind::ConnectionRefused, _), _) => format!("{met} refused the connection"),
        (Cause::Tls(tls), _) => format!("TLS with {host}: {tls}"),
        (Cause::Io(_, text) | Cause::Other(text), _) if error.is_dns() => {
            format!("the name of {met} cannot be looked up now: {text}")
        }
        (Cause::Other(text), _) if text.contains("detected excessive load") => {
            format!("{host} ended HTTP/2 with ENHANCE_YOUR_CALM; `http1_only: true` does without HTTP/2")
        }
        (Cause::Other(text), _) if text == "tunnel error: unsuccessful" => {
            format!("{met} makes no connection to {host}")
        }
        (Cause::Io(_, text) | Cause::Other(text), _) if error.is_connect() => {
            format!("no connection to {met}: {text}{hint}")
        }
        (Cause::Io(_, text) | Cause::Other(text), _) => format!("the connection to {met} broke off: {text}{hint}"),
    };
    if error.is_connect() { Trouble::NotSent(detail) } else { Trouble::Broken(detail) }
}

/// True if the other side has certainly not looked at the request: it ended HTTP/2 without an error before this stream
/// (RFC 9113, section 6.8), refused the stream (section 8.7), or closed the connection before the request went out.
fn was_not_taken(error: &reqwest::Error) -> bool {
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

/// The way out that fits a host which has never answered, and closes connections without a word.
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
            "; if it speaks plain HTTP, set `plain_http: true`; if it wants a certificate of ours, set `tls.certificate`"
        }
    }
}

/// What will be the same however often it is tried.
fn lasting(cause: &Cause, error: &reqwest::Error, url: &Url, approach: &Approach, met: &str) -> Option<String> {
    let host = locate::site(url);
    match cause {
        Cause::Tls(tls) => lasting_tls(tls, url, approach.shows_certificate),
        Cause::Io(_, text) | Cause::Other(text) if error.is_dns() && !is_passing(text) => {
            Some(format!("the name of {met} is not known: {text}"))
        }
        Cause::Other(text) if text == "tunnel error: proxy authorization required" => {
            Some(format!("{met} wants a user and a password, or others"))
        }
        Cause::Other(_) if url.scheme() == "http" && is_no_http(error) => {
            Some(format!("{host} does not speak HTTP; if it speaks TLS, leave `plain_http` out"))
        }
        _ => None,
    }
}

/// Whether the resolver itself says that it may know better later (`EAI_AGAIN`, in the words of the C libraries).
fn is_passing(text: &str) -> bool {
    text.contains("emporary failure") || text.contains("Try again")
}

fn is_no_http(error: &reqwest::Error) -> bool {
    causes(error).filter_map(|error| error.downcast_ref::<hyper::Error>()).any(hyper::Error::is_parse)
}

fn lasting_tls(tls: &rustls::Error, url: &Url, shows_certificate: bool) -> Option<String> {
    use rustls::AlertDescription as Alert;
    let host = locate::site(url);
    Some(match tls {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            format!("{host} does not speak TLS; for plain HTTP set `plain_http: true`")
        }
        rustls::Error::InvalidCertificate(why) => format!("the certificate of {host} {}", certificate(why, url)),
        // Which alert it is differs from server to server; Go's says BadCertificate of none.
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
            true => format!("{host} does not take our certificate ({alert:?}); see `tls.certificate`"),
            false => format!("{host} wants a certificate of ours; name its file in `tls.certificate`"),
        },
        // OpenSSL's servers, by TLS 1.2.
        rustls::Error::AlertReceived(Alert::HandshakeFailure) if !shows_certificate => format!(
            "{host} refuses TLS with us: HandshakeFailure; if it wants a certificate of ours, name its file in `tls.certificate`"
        ),
        rustls::Error::AlertReceived(alert) => format!("{host} refuses TLS with us: {alert:?}"),
        rustls::Error::PeerIncompatible(why) => format!("{host} speaks no TLS that we do: {why:?}"),
        _ => return None,
    })
}

/// What is wrong with a certificate, after "the certificate of HOST".
fn certificate(why: &CertificateError, url: &Url) -> String {
    let date = |time: rustls::pki_types::UnixTime| {
        let date = i64::try_from(time.as_secs()).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        date.map_or_else(|| "a time out of bounds".to_owned(), |date| date.to_rfc3339_opts(SecondsFormat::Secs, true))
    };
    match why {
        CertificateError::UnknownIssuer => {
            "is of an authority that is not known here; name the authority's file in `tls.ca`".to_owned()
        }
        CertificateError::BadSignature => {
            "is not signed by the authority that is known here by that name; name the right \
                                           one's file in `tls.ca`"
                .to_owned()
        }
        CertificateError::ExpiredContext { not_after, .. } => format!("expired at {}", date(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}, by the clock of this machine", date(*not_before))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let asked = url.host_str().unwrap_or_default();
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            match names.as_slice() {
                [] => format!("has no name in it, and {asked} is asked for"),
                names => format!("is for {}, and {asked} is asked for", names.join(", ")),
            }
        }
        CertificateError::Revoked => "is revoked".to_owned(),
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "is an authority's own, which may not stand for a server".to_owned()
        }
        other => format!("cannot be believed: {other}"),
    }
}

/// `x.example` of `DnsName("x.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

/// Says why a body ended too early.
pub(crate) fn broken_off(error: &reqwest::Error, url: &Url) -> Trouble {
    // The connection was made, so who made it does not count.
    match describe(error, url, &Approach { has_answered: true, ..Approach::default() }) {
        Trouble::NotSent(detail) | Trouble::NotTaken(detail) => Trouble::Broken(detail),
        other => other,
    }
}

enum Cause {
    Io(io::ErrorKind, String),
    Tls(rustls::Error),
    Other(String),
}

/// The innermost reason, for that is the one that says something.
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

/// What an error comes from, outermost first. An I/O error hides that it holds another one.
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
    async fn a_name_that_is_not_known_is_asked_for_once_and_a_resolver_in_trouble_again() {
        let url: Url = "http://registry.example:5000/v2/".parse().unwrap();
        let asked = async |text| {
            let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]).dns_resolver(Arc::new(Silent(text)));
            let error = builder.build().unwrap().get(url.clone()).send().await.unwrap_err();
            describe(&error, &url, &Approach::default())
        };
        let unknown = asked("failed to lookup address information: Name or service not known").await;
        assert_eq!(
            unknown.detail(),
            "the name of http://registry.example:5000 is not known: failed to lookup address information: Name or service \
             not known"
        );
        assert_eq!((unknown.failure(), unknown.kind()), (None, ErrorKind::Invalid));
        let later = asked("failed to lookup address information: Temporary failure in name resolution").await;
        assert_eq!(
            later.detail(),
            "the name of http://registry.example:5000 cannot be looked up now: failed to lookup address information: \
             Temporary failure in name resolution"
        );
        assert_eq!((later.failure(), later.kind()), (Some(Failure::NotSent), ErrorKind::Unavailable));
    }
}

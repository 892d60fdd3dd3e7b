//! Requests without an answer: why, in words that a person can act upon, and whether they may have been done.

use std::error::Error as _;
use std::io;

use url::Url;

use super::locate;
use super::retry::Failure;
use crate::store::ErrorKind;

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// No connection could be made.
    NotSent(String),
    /// The exchange broke off.
    Broken(String),
    /// The answer is not one that can be used, however often it is asked for.
    Unusable(String),
}

impl Trouble {
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self {
            Self::NotSent(_) => Some(Failure::NotSent),
            Self::Broken(_) => Some(Failure::Broken),
            Self::Unusable(_) => None,
        }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NotSent(_) | Self::Broken(_) => ErrorKind::Unavailable,
            Self::Unusable(_) => ErrorKind::Invalid,
        }
    }

    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::NotSent(detail) | Self::Broken(detail) | Self::Unusable(detail) => detail,
        }
    }
}

/// Says in words why a request got no answer.
pub(crate) fn describe(error: &reqwest::Error, url: &Url) -> Trouble {
    let host = locate::site(url);
    let detail = match (cause(error), error.is_timeout()) {
        (_, true) if error.is_connect() => format!("no connection to {host} in time"),
        (_, true) => format!("{host} did not answer in time"),
        (Cause::Io(io::ErrorKind::ConnectionRefused, _), _) => format!("{host} refused the connection"),
        (Cause::Tls(tls), _) if tls.contains("InvalidContentType") => {
            format!("{host} does not speak TLS; for plain HTTP set `plain_http: true`")
        }
        (Cause::Tls(tls), _) => format!("TLS with {host}: {tls}"),
        (_, _) if error.is_dns() => format!("the name of {host} cannot be looked up"),
        (Cause::Io(_, text) | Cause::Other(text), _) if error.is_connect() => {
            format!("no connection to {host}: {text}")
        }
        (Cause::Io(_, text) | Cause::Other(text), _) => format!("the connection to {host} broke off: {text}"),
    };
    if error.is_connect() { Trouble::NotSent(detail) } else { Trouble::Broken(detail) }
}

/// Says why a body ended too early.
pub(crate) fn broken_off(error: &reqwest::Error, url: &Url) -> Trouble {
    match describe(error, url) {
        Trouble::NotSent(detail) => Trouble::Broken(detail),
        other => other,
    }
}

enum Cause {
    Io(io::ErrorKind, String),
    Tls(String),
    Other(String),
}

/// The innermost reason, for that is the one that says something.
fn cause(error: &reqwest::Error) -> Cause {
    let mut found = Cause::Other("the exchange failed".to_owned());
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if text.contains("invalid peer certificate") || text.contains("received corrupt message") {
            return Cause::Tls(text);
        }
        match error.downcast_ref::<io::Error>() {
            Some(io) => {
                let inner = io.get_ref().map(ToString::to_string);
                if let Some(tls) = inner.filter(|text| text.contains("certificate") || text.contains("corrupt message"))
                {
                    return Cause::Tls(tls);
                }
                found = Cause::Io(io.kind(), text);
            }
            None => found = Cause::Other(text),
        }
        next = error.source();
    }
    found
}

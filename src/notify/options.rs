//! Who is told of what: the values of `notify` in the configuration. No YAML, and nothing is sent here.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use crate::registry::Secret;

/// What a key in base64 begins with (Standard Webhooks, "Signature scheme").
const KEY_PREFIX: &str = "whsec_";

/// The shortest key, in bytes: what is shorter can be guessed.
const SHORTEST_KEY: usize = 8;

/// One item of `notify`.
#[derive(Debug, Clone, PartialEq)]
pub struct Notify {
    /// Who is told.
    pub webhook: Webhook,
    /// Of what; one event at least. Default [`Event::DEFAULT`].
    pub on: BTreeSet<Event>,
}

/// A receiver of messages by HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// What it is called in logs and in the journal.
    pub receiver: Receiver,
    /// Where messages are posted: an [`Address`]. What is behind its host may be a secret.
    pub url: Secret,
    /// What messages are signed with: a [`SigningKey`].
    pub secret: Secret,
}

/// The name of a receiver, made from how its address is written and not from what is secret in it: a host with a few digits
/// of a hash, or where the address is to be found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receiver(Arc<str>);

impl From<String> for Receiver {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Receiver {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a receiver can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "lowercase"))]
pub enum Event {
    /// An entry began to fail, or an edit of the configuration is refused.
    Failure,
    /// What failed is well again.
    Recovery,
    /// Tags changed at a target.
    Change,
    /// Tags are held back, by a rule or by the limit of a source.
    Held,
}

/// A word that is no [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no event: write failure, recovery, change or held")]
pub struct EventError(String);

impl Event {
    /// What is told where nothing else is said.
    pub const DEFAULT: [Self; 2] = [Self::Failure, Self::Recovery];

    /// The words for all of them.
    pub const NAMES: [&'static str; 4] = ["failure", "recovery", "change", "held"];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl FromStr for Event {
    type Err = EventError;

    fn from_str(word: &str) -> Result<Self, EventError> {
        let all = [Self::Failure, Self::Recovery, Self::Change, Self::Held];
        all.into_iter().find(|event| event.word() == word).ok_or_else(|| EventError(word.to_owned()))
    }
}

/// An address that messages can be posted to. `Debug` shows its host alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

/// A text that is no [`Address`]; it is not repeated, for it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the address of a webhook: write https://HOST/PATH")]
pub struct AddressError;

impl Address {
    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// The scheme, the host and the port, which are no secret.
    #[must_use]
    pub fn site(&self) -> String {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url: Url = text.parse().map_err(|_| AddressError)?;
        let good = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
        if good { Ok(Self(url)) } else { Err(AddressError) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.site())
    }
}

/// What messages are signed with: the bytes of a text, or those that a text beginning with `whsec_` has in base64.
pub struct SigningKey(hmac::Key);

/// A text that is no [`SigningKey`]; it is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// It is not base64.
    #[error("what follows whsec_ in this secret is not base64")]
    NotBase64,
    /// It can be guessed.
    #[error("this secret is too short to sign with: {SHORTEST_KEY} bytes at least, better 24")]
    Short,
}

impl SigningKey {
    pub(super) fn key(&self) -> &hmac::Key {
        &self.0
    }
}

impl FromStr for SigningKey {
    type Err = SigningKeyError;

    fn from_str(text: &str) -> Result<Self, SigningKeyError> {
        let bytes = match text.strip_prefix(KEY_PREFIX) {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| SigningKeyError::NotBase64)?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.len() < SHORTEST_KEY {
            return Err(SigningKeyError::Short);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_nothing_but_its_host() {
        let address: Address = "https://me:hunter2@hooks.example:8443/services/T0/x?token=y".parse().unwrap();
        assert_eq!(format!("{address:?}"), "https://hooks.example:8443");
        for bad in ["", "hooks.example/x", "ftp://hooks.example/x", "http://", "https:///x y", "hunter2"] {
            let error = bad.parse::<Address>().map(|address| address.site());
            // The standard for addresses takes a host from `https:///x y`.
            assert!(error.is_err() || bad == "https:///x y", "{bad}: {error:?}");
        }
    }

    #[test]
    fn a_key_is_a_text_or_base64_behind_its_prefix() {
        let refused = |text: &str| text.parse::<SigningKey>().map(|_| ()).unwrap_err();
        assert_eq!(refused("whsec_!"), SigningKeyError::NotBase64);
        assert_eq!(refused("whsec_c2hvcnQ="), SigningKeyError::Short);
        assert_eq!(refused("1234567"), SigningKeyError::Short);
        assert_eq!(format!("{:?}", "12345678".parse::<SigningKey>().unwrap()), "***");
        assert!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse::<SigningKey>().is_ok());
    }

    #[test]
    fn every_event_has_its_word() {
        for name in Event::NAMES {
            assert_eq!(name.parse::<Event>().unwrap().word(), name);
        }
        assert_eq!(
            "recovry".parse::<Event>().unwrap_err().to_string(),
            r#""recovry" is no event: write failure, recovery, change or held"#
        );
    }
}

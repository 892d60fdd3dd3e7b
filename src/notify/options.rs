//! Values of `notify` in the configuration: receivers, and the events that each receiver gets.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use crate::registry::Secret;

/// Prefix of a key in base64 (Standard Webhooks, "Signature scheme").
const KEY_PREFIX: &str = "whsec_";

/// Minimum length of a key in bytes. A shorter key can be guessed.
const MIN_KEY: usize = 8;

/// One item of `notify`.
#[derive(Debug, Clone, PartialEq)]
pub struct Notify {
    /// Receiver of the messages.
    pub webhook: Webhook,
    /// Events about which the receiver gets a message, at least one event. Default: [`Event::DEFAULT`].
    pub on: BTreeSet<Event>,
}

/// Receiver of messages by HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Name of the receiver in logs and in the journal.
    pub receiver: Receiver,
    /// URL that receives the messages: an [`Address`]. The part of the URL after the host can be a secret.
    pub url: Secret,
    /// Key that signs messages: a [`SigningKey`].
    pub secret: Secret,
}

/// Name of a receiver. The name contains no secret. The name is:
/// - the host of the address and a few digits of a hash, if the configuration contains the address;
/// - otherwise the place from which transship reads the address, such as the path of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receiver(Arc<str>);

impl From<String> for Receiver {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Receiver {
    /// Returns the name.
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

/// Event about which a receiver can be notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "lowercase"))]
pub enum Event {
    /// The runs of an entry began to fail, or an edit of the configuration was refused.
    Failure,
    /// A failure has ended.
    Recovery,
    /// Tags changed at a target.
    Change,
    /// Tags are withheld by a rule, a lock or the limit of a source.
    Withheld,
}

/// Error for a word that is not an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an event: write failure, recovery, change or withheld")]
pub struct EventError(String);

impl Event {
    /// Events for a receiver whose configuration names no event.
    pub const DEFAULT: [Self; 2] = [Self::Failure, Self::Recovery];

    /// Words for all events.
    pub const NAMES: [&'static str; 4] = ["failure", "recovery", "change", "withheld"];

    /// Returns the word for the event.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl FromStr for Event {
    type Err = EventError;

    fn from_str(word: &str) -> Result<Self, EventError> {
        let all = [Self::Failure, Self::Recovery, Self::Change, Self::Withheld];
        all.into_iter().find(|event| event.word() == word).ok_or_else(|| EventError(word.to_owned()))
    }
}

/// Address to which messages can be posted. `Debug` shows only the scheme, the host and the port.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

/// Error for a text that is not an [`Address`]. The error does not repeat the text, because the text can be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the address of a webhook: write https://HOST/PATH")]
pub struct AddressError;

impl Address {
    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// Returns the scheme, the host and the port, which are not secret.
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
        let is_valid = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
        if is_valid { Ok(Self(url)) } else { Err(AddressError) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.site())
    }
}

/// Key that signs messages: the bytes of a text, or the decoded base64 after the prefix `whsec_`.
pub struct SigningKey(hmac::Key);

/// Error for a text that is not a [`SigningKey`]. The error does not repeat the text, because the text can be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The text is not base64.
    #[error("the text after whsec_ in this secret is not base64")]
    NotBase64,
    /// The key has less than 8 bytes.
    #[error("this secret is too short for signatures: use at least {MIN_KEY} bytes, better 24")]
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
        if bytes.len() < MIN_KEY {
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
    fn address_in_debug_output_shows_only_its_host() {
        let address: Address = "https://me:hunter2@hooks.example:8443/services/T0/x?token=y".parse().unwrap();
        assert_eq!(format!("{address:?}"), "https://hooks.example:8443");
        for bad in ["", "hooks.example/x", "ftp://hooks.example/x", "http://", "https:///x y", "hunter2"] {
            let error = bad.parse::<Address>().map(|address| address.site());
            // The URL standard reads a host from `https:///x y`.
            assert!(error.is_err() || bad == "https:///x y", "{bad}: {error:?}");
        }
    }

    #[test]
    fn signing_key_is_text_or_prefixed_base64() {
        let refused = |text: &str| text.parse::<SigningKey>().map(|_| ()).unwrap_err();
        assert_eq!(refused("whsec_!"), SigningKeyError::NotBase64);
        assert_eq!(refused("whsec_c2hvcnQ="), SigningKeyError::Short);
        assert_eq!(refused("1234567"), SigningKeyError::Short);
        assert_eq!(format!("{:?}", "12345678".parse::<SigningKey>().unwrap()), "***");
        assert!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse::<SigningKey>().is_ok());
    }

    #[test]
    fn every_event_word_parses_to_its_event() {
        for name in Event::NAMES {
            assert_eq!(name.parse::<Event>().unwrap().word(), name);
        }
        assert_eq!(
            "recovry".parse::<Event>().unwrap_err().to_string(),
            r#""recovry" is not an event: write failure, recovery, change or withheld"#
        );
    }
}

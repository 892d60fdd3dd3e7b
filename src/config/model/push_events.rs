//! Configuration of push events: the address on which the daemon receives events, the senders, and the secrets of the
//! senders.

use std::collections::BTreeMap;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretString};

use super::entry::EntryName;
use super::status::StatusPort;
use crate::oci::RegistryHost;
use crate::registry::Secret;

/// Address on which the daemon receives push events, and the senders of the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushEvents {
    /// Address or socket file on which the daemon listens; never `Off`.
    pub listen: StatusPort,
    /// Senders, by the last part of the URL path to which the sender posts. Contains at least one sender.
    pub receivers: BTreeMap<EntryName, Receiver>,
}

/// Settings for one sender of push events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Kind of sender.
    pub kind: HookKind,
    /// Secret of the sender: a bearer token, or the key with which the sender signs events.
    pub secret: Secret,
    /// Registry of the pushed repositories, as written in entries. If `None`, each event names the registry.
    pub registry: Option<RegistryHost>,
}

impl Receiver {
    /// Minimum length of a secret in bytes; a shorter secret can be guessed.
    pub const SHORTEST_SECRET: usize = 16;

    /// Returns the current secret. If the secret is in a file, reads the file again.
    ///
    /// # Errors
    /// Returns a message if the secret cannot be read or is too short. If the secret is in a file, the message contains
    /// the path.
    pub async fn secret_now(&self) -> Result<SecretString, String> {
        let place = match &self.secret {
            Secret::File(path) => format!("{}: ", path.display()),
            Secret::Value(_) | Secret::Variable { .. } => String::new(),
        };
        let secret = self.secret.read().await.map_err(|error| format!("{place}{error}"))?;
        if secret.expose_secret().len() < Self::SHORTEST_SECRET {
            return Err(format!(
                "{place}the secret has fewer than {} characters and can be guessed",
                Self::SHORTEST_SECRET
            ));
        }
        Ok(secret)
    }
}

/// Sender of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// CNCF Distribution (docker-registry).
    Distribution,
    /// Azure Container Registry.
    Acr,
    /// Harbor.
    Harbor,
    /// Docker Hub.
    DockerHub,
    /// GitHub, for its container registry.
    Ghcr,
}

impl HookKind {
    const ALL: [Self; 5] = [Self::Distribution, Self::Acr, Self::Harbor, Self::DockerHub, Self::Ghcr];
    /// Words for the senders in `sync.yaml`.
    pub(crate) const WORDS: [&'static str; 5] = ["distribution", "acr", "harbor", "docker_hub", "ghcr"];

    /// Returns the word for the sender in `sync.yaml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().zip(Self::WORDS).find(|(kind, _)| **kind == self).map_or("", |(_, word)| word)
    }
}

impl FromStr for HookKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == text);
        found.ok_or_else(|| format!("{text:?} is not a kind of sender: expected one of {}", Self::WORDS.join(", ")))
    }
}

//! What can be set for one registry, after the configuration has been read.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use super::Transport;

/// How to speak to one registry. The default is anonymous HTTPS without limits.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who to be. `None` is anonymous.
    pub credentials: Option<Credentials>,
    /// Speak HTTP instead of HTTPS. Never guessed.
    pub plain_http: bool,
    /// What the registry is, where the host's name does not tell: behind a domain of one's own. `None` goes by the name.
    pub kind: Option<Kind>,
    /// What the registry may be asked for at most.
    pub limits: Limits,
    /// How connections are made.
    pub transport: Transport,
}

/// Whose registry it is, as far as that changes how it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Azure Container Registry: takes blobs in chunks, and has a tag listing of its own that tells digests.
    Acr,
    /// Amazon's: takes blobs in chunks.
    Ecr,
    /// Google's, both of them: their tag listing tells digests.
    Google,
    /// Nothing beyond the distribution specification.
    Plain,
}

/// A text that is not a [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of registry: expected acr, ecr, google or plain")]
pub struct KindError(String);

impl Kind {
    /// All kinds, as they are written.
    pub const NAMES: [&'static str; 4] = ["acr", "ecr", "google", "plain"];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Acr => "acr",
            Self::Ecr => "ecr",
            Self::Google => "google",
            Self::Plain => "plain",
        })
    }
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        match text {
            "acr" => Ok(Self::Acr),
            "ecr" => Ok(Self::Ecr),
            "google" => Ok(Self::Google),
            "plain" => Ok(Self::Plain),
            _ => Err(KindError(text.to_owned())),
        }
    }
}

/// A user name and its password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user name; may be shown.
    pub username: String,
    /// The password or token; never shown.
    pub password: Secret,
}

/// A secret and where it is. `Debug` shows no content.
#[derive(Debug, Clone)]
pub enum Secret {
    /// Known already: written in the file or taken from the environment.
    Value(SecretString),
    /// In a file, read when it is needed; one trailing line break is not part of it.
    File(PathBuf),
}

/// The limits of one registry, shared by all entries. `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Requests.
    pub requests: Option<Rate>,
    /// Bytes a second of bodies, in both directions together.
    pub bandwidth: Option<u64>,
    /// Requests in flight. `None` is the client's own default.
    pub concurrent: Option<usize>,
}

/// So many in such a time: `600/min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

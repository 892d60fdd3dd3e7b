//! What can be set for one registry, after the configuration has been read.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// How to speak to one registry. The default is anonymous HTTPS without limits.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who to be. `None` is anonymous.
    pub credentials: Option<Credentials>,
    /// Speak HTTP instead of HTTPS. Never guessed.
    pub plain_http: bool,
    /// What the registry may be asked for at most.
    pub limits: Limits,
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

//! Who we are to one registry, as the configuration or this machine says: one file a source, asked when a registry wants
//! to know, and asked again after a refusal. How a login is shown to a registry is `auth` and `token`.

mod aws;
mod azure;
mod command;
mod docker;
mod gcp;
mod helper;
mod jwt;
mod options;
mod program;
mod secret;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

pub(crate) use self::jwt::rsa_key;
pub use self::options::{Aws, Azure, AzureIdentity, Gcp, Variables};
pub(crate) use self::program::Programs;
pub(crate) use self::wire::Wire;
use super::answer::sensitive;
use super::auth::AuthError;
use super::{Credentials, DockerConfig, Secret};
use crate::oci::{RegistryHost, RepositoryName};

/// An answer so young is not asked for again when it is refused: it would be the same.
const YOUNG: Duration = Duration::from_secs(10);

/// The same for what a cloud gives, which is another one each time.
const YOUNG_OF_CLOUD: Duration = Duration::from_secs(1);

/// How long the answer of a program is taken for true, unless it is refused.
const KEPT: Duration = Duration::from_secs(300);

/// What a cloud gives is not used for the last of its time.
const SPARE: Duration = Duration::from_secs(60);

/// Who to be.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    /// A user name and its password.
    Password { username: String, password: SecretString },
    /// An identity token, to be given to the token service.
    Token(SecretString),
    /// An access token, to be shown to the registry itself.
    Access(SecretString),
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password { username: a, password: x }, Self::Password { username: b, password: y }) => {
                a == b && x.expose_secret() == y.expose_secret()
            }
            (Self::Token(a), Self::Token(b)) | (Self::Access(a), Self::Access(b)) => {
                a.expose_secret() == b.expose_secret()
            }
            (Self::Password { .. } | Self::Token(_) | Self::Access(_), _) => false,
        }
    }
}

impl Login {
    /// The user name and the password as a Basic header; `None` for a token, which has neither.
    pub(crate) fn basic(&self) -> Result<Option<HeaderValue>, AuthError> {
        let Self::Password { username, password } = self else { return Ok(None) };
        let login = format!("{username}:{}", password.expose_secret());
        let value =
            HeaderValue::from_str(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login)));
        Ok(Some(sensitive(value.map_err(|_| AuthError::denied("the credentials do not fit into a header"))?)))
    }
}

/// What a cloud gave: a login, for how long it is good, and whom it is given to.
struct Cloud {
    login: Login,
    good: Duration,
    name: String,
}

impl Cloud {
    fn told(self) -> (Option<Login>, Duration, Option<String>) {
        (Some(self.login), self.good, Some(self.name))
    }
}

/// How long something is used that is good for so long.
fn spared(good: Duration) -> Duration {
    good.saturating_sub(SPARE.min(good / 2))
}

/// Where the login of one registry comes from.
#[derive(Debug)]
pub(crate) struct Source {
    host: RegistryHost,
    credentials: Option<Credentials>,
    programs: Programs,
    /// `None` where nothing is asked over the network.
    wire: Option<Wire>,
    /// The last answer. Its lock is held while the source is asked: that is what makes it one flight.
    last: tokio::sync::Mutex<Last>,
    /// Who we were last, where the configuration does not tell.
    name: Mutex<Option<String>>,
    /// When the last answer of a cloud ends.
    ends: Mutex<Option<Instant>>,
}

/// What a source said last.
#[derive(Debug, Default)]
struct Last {
    answer: Option<Known>,
    /// For those who waited for it too.
    failure: Option<(Instant, AuthError)>,
}

/// An answer and how long it holds.
#[derive(Debug)]
struct Known {
    login: Option<Login>,
    asked: Instant,
    until: Instant,
    /// When the files that it came from were written.
    written: Vec<Option<SystemTime>>,
}

impl Source {
    pub(crate) fn new(host: RegistryHost, credentials: Option<Credentials>, programs: Programs) -> Self {
        let (last, name, ends) = (tokio::sync::Mutex::default(), Mutex::default(), Mutex::default());
        Self { host, credentials, programs, wire: None, last, name, ends }
    }

    /// With what is needed to ask over the network.
    pub(crate) fn over(self, wire: Wire) -> Self {
        Self { wire: Some(wire), ..self }
    }

    /// Where the login comes from; `None` for nobody.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Who to be at one repository, where docker's configuration has an entry for a namespace that it is in; `None` where
    /// that is as for the whole registry.
    pub(crate) fn namespaced(&self, name: &RepositoryName) -> Option<Credentials> {
        let Some(Credentials::DockerConfig(config)) = &self.credentials else { return None };
        let namespace = docker::namespace_of(config, &self.host, name)?;
        Some(Credentials::DockerConfig(DockerConfig { namespace: Some(namespace), ..config.clone() }))
    }

    /// Who we are, for people: a user name where it is known, else the source.
    pub(crate) fn identity(&self) -> String {
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match &self.credentials {
            None | Some(Credentials::Anonymous) => "anonymous".to_owned(),
            Some(Credentials::Password { username, .. }) => username.clone(),
            Some(Credentials::Token(_)) => "token".to_owned(),
            // Nobody, as long as nothing was asked for or nothing was found.
            Some(Credentials::DockerConfig(_)) => name.unwrap_or_else(|| "anonymous".to_owned()),
            Some(Credentials::Helper { name: helper, .. }) => name.unwrap_or_else(|| format!("helper {helper}")),
            Some(Credentials::Azure(Azure { identity, .. })) => match identity {
                AzureIdentity::Managed { client_id: None } => name.unwrap_or_else(|| "managed identity".to_owned()),
                AzureIdentity::Managed { client_id: Some(client_id) }
                | AzureIdentity::Workload { client_id, .. }
                | AzureIdentity::Application { client_id, .. }
                | AzureIdentity::Certified { client_id, .. } => client_id.clone(),
            },
            Some(Credentials::Aws(aws)) => {
                let profile = aws.profile.as_ref().map(|profile| format!("profile {profile}"));
                name.or(profile).unwrap_or_else(|| "aws".to_owned())
            }
            Some(Credentials::Gcp(_)) => name.unwrap_or_else(|| "gcp".to_owned()),
            Some(Credentials::Command { username, .. }) => {
                username.clone().or(name).unwrap_or_else(|| "command".to_owned())
            }
        }
    }

    /// The login, `None` for nobody.
    pub(crate) async fn login(&self) -> Result<Option<Login>, AuthError> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(known) = &last.answer
            && self.holds(known, came).await
        {
            return Ok(known.login.clone());
        }
        self.renew(&mut last, came).await
    }

    /// Whether the last login was for a time only, which is over: there is another by now.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|ends| ends <= Instant::now())
    }

    /// After `refused` was: the login that the source has by now, `None` where it has no other.
    pub(crate) async fn another(&self, refused: &Login) -> Result<Option<Login>, AuthError> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(known) = &last.answer
            && self.holds(known, came).await
        {
            if known.login.as_ref() != Some(refused) {
                return Ok(known.login.clone());
            }
            if known.asked.elapsed() < if self.is_by_cloud() { YOUNG_OF_CLOUD } else { YOUNG } {
                return Ok(None);
            }
        }
        let login = self.renew(&mut last, came).await?;
        Ok(login.filter(|login| login != refused))
    }

    /// Whether an answer is still to be believed by one who came then.
    async fn holds(&self, known: &Known, came: Instant) -> bool {
        known.until > came && known.written == self.written().await
    }

    async fn renew(&self, last: &mut Last, came: Instant) -> Result<Option<Login>, AuthError> {
        if let Some((at, failure)) = &last.failure
            && *at > came
        {
            return Err(failure.clone());
        }
        let (asked, written) = (Instant::now(), self.written().await);
        match self.ask().await {
            Ok((login, kept, name)) => {
                let name = name.or_else(|| self.name_of(login.as_ref()));
                *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
                let ends = self.is_by_cloud().then(|| Instant::now() + kept);
                *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
                let known = Known { login: login.clone(), asked, until: Instant::now() + kept, written };
                *last = Last { answer: Some(known), failure: None };
                Ok(login)
            }
            Err(failure) => {
                *last = Last { answer: None, failure: Some((Instant::now(), failure.clone())) };
                Err(failure)
            }
        }
    }

    /// Asks, and says how long the answer holds, not at all where reading it again costs nothing, and whose it is.
    async fn ask(&self) -> Result<(Option<Login>, Duration, Option<String>), AuthError> {
        let (login, kept) = match &self.credentials {
            None | Some(Credentials::Anonymous) => (None, Duration::ZERO),
            Some(Credentials::Password { username, password }) => {
                let password = secret::read(&format!("the password of {username}"), password).await?;
                (Some(Login::Password { username: username.clone(), password }), Duration::ZERO)
            }
            Some(Credentials::Token(token)) => {
                (Some(Login::Token(secret::read("the token", token).await?)), Duration::ZERO)
            }
            Some(Credentials::DockerConfig(config)) => {
                let (login, ran) = docker::login(config, &self.host, &self.programs).await?;
                (login, if ran { KEPT } else { Duration::ZERO })
            }
            Some(Credentials::Helper { name, env }) => {
                let programs = self.programs_with(env).await?;
                (helper::login(name, &helper::asked_as(&self.host), &programs).await?, KEPT)
            }
            Some(Credentials::Command { line, username, env }) => {
                let programs = self.programs_with(env).await?;
                (Some(command::login(line, username.as_deref(), &programs).await?), KEPT)
            }
            Some(Credentials::Azure(azure)) => {
                let (login, good, name) = azure::login(azure, self.host.as_str(), self.wire()?).await?;
                return Ok((Some(login), good, name));
            }
            Some(Credentials::Aws(aws)) => return Ok(aws::login(aws, &self.host, self.wire()?).await?.told()),
            Some(Credentials::Gcp(gcp)) => return Ok(gcp::login(gcp, self.wire()?).await?.told()),
        };
        Ok((login, kept, None))
    }

    /// How programs are run with variables of the entry's own, those in files read anew.
    async fn programs_with(&self, env: &[(String, Secret)]) -> Result<Programs, AuthError> {
        let mut programs = self.programs.clone();
        for (name, value) in env {
            let value = secret::read(&format!("the variable {name}"), value).await?;
            programs.variables.push((name.clone(), value));
        }
        Ok(programs)
    }

    fn wire(&self) -> Result<&Wire, AuthError> {
        self.wire.as_ref().ok_or_else(|| AuthError::denied("a cloud cannot be asked from here"))
    }

    /// Whether what the source says ends at a time that is known.
    fn is_by_cloud(&self) -> bool {
        self.credentials.as_ref().is_some_and(Credentials::are_by_cloud)
    }

    fn name_of(&self, login: Option<&Login>) -> Option<String> {
        match (login?, &self.credentials) {
            (Login::Password { username, .. }, _) => Some(username.clone()),
            (Login::Token(_) | Login::Access(_), Some(Credentials::DockerConfig(_))) => {
                Some("docker config".to_owned())
            }
            (Login::Token(_) | Login::Access(_), _) => None,
        }
    }

    /// When the files were written that an answer depends on though it is kept.
    async fn written(&self) -> Vec<Option<SystemTime>> {
        let Some(Credentials::DockerConfig(config)) = &self.credentials else { return Vec::new() };
        let mut written = Vec::new();
        for file in &config.files {
            let metadata = tokio::fs::metadata(file).await;
            written.push(metadata.and_then(|metadata| metadata.modified()).ok());
        }
        written
    }
}

//! Source of one registry's login, as the configuration names it. The source is queried when the login is needed, and
//! its answer is reused for a while.

use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::login::{KEPT, Login};
use super::program::Programs;
use super::service_request::Wire;
use super::{aws, azure, command, docker, gcp, helper, secret};
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::auth::error::AuthError;
use crate::registry::options::cloud::{Azure, AzureIdentity};
use crate::registry::{Credentials, DockerConfig, Secret};

/// Maximum age at which a refused answer is not requested again: the source would give the same answer.
const YOUNG: Duration = Duration::from_secs(10);

/// The same age for a cloud's answer, which differs each time.
const YOUNG_OF_CLOUD: Duration = Duration::from_secs(1);

/// Source of one registry's login.
#[derive(Debug)]
pub(crate) struct Source {
    host: RegistryHost,
    credentials: Option<Credentials>,
    programs: Programs,
    /// `None` if the source needs no network requests.
    wire: Option<Wire>,
    /// Last answer. The lock is held while the source is queried, so concurrent callers share one query.
    last: tokio::sync::Mutex<Last>,
    /// Last known identity, if the configuration does not state it.
    name: Mutex<Option<String>>,
    /// End of the last answer's lifetime, for a cloud's answer.
    ends: Mutex<Option<Instant>>,
}

/// Last outcome of a source.
#[derive(Debug, Default)]
struct Last {
    answer: Option<KnownLogin>,
    /// Last failure, for the callers that waited for the same query.
    failure: Option<(Instant, AuthError)>,
}

/// An answer and its lifetime.
#[derive(Debug)]
struct KnownLogin {
    login: Option<Login>,
    asked: Instant,
    until: Instant,
    /// Modification times of the files that the answer was read from.
    written: Vec<Option<SystemTime>>,
}

impl Source {
    pub(crate) fn new(host: RegistryHost, credentials: Option<Credentials>, programs: Programs) -> Self {
        let (last, name, ends) = (tokio::sync::Mutex::default(), Mutex::default(), Mutex::default());
        Self { host, credentials, programs, wire: None, last, name, ends }
    }

    /// Returns the source with the means for network requests.
    pub(crate) fn with_wire(self, wire: Wire) -> Self {
        Self { wire: Some(wire), ..self }
    }

    /// Makes the last answer so old that a refusal of it causes a new query.
    #[cfg(test)]
    pub(super) async fn age_answer(&self) {
        if let Some(known) = &mut self.last.lock().await.answer {
            known.asked -= YOUNG;
        }
    }

    /// Returns the configured source of the login; `None` for anonymous access.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Returns the credentials of one repository if docker's configuration has an entry for a namespace that contains
    /// the repository. Returns `None` if the credentials of the whole registry apply.
    pub(crate) fn namespaced(&self, name: &RepositoryName) -> Option<Credentials> {
        let Some(Credentials::DockerConfig(config)) = &self.credentials else { return None };
        let namespace = docker::namespace_of(config, &self.host, name)?;
        Some(Credentials::DockerConfig(DockerConfig { namespace: Some(namespace), ..config.clone() }))
    }

    /// Returns the identity to display: a user name if known, else the source.
    pub(crate) fn identity(&self) -> String {
        let name = self.name.lock().clone();
        match &self.credentials {
            None | Some(Credentials::Anonymous) => "anonymous".to_owned(),
            Some(Credentials::Password { username, .. }) => username.clone(),
            Some(Credentials::Token(_)) => "token".to_owned(),
            // Anonymous until the files were read and a login was found.
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

    /// Returns the login; `None` for anonymous access.
    pub(crate) async fn login(&self) -> Result<Option<Login>, AuthError> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(known) = &last.answer
            && self.is_valid(known, came).await
        {
            return Ok(known.login.clone());
        }
        self.renew(&mut last, came).await
    }

    /// Returns true if the last login had a limited lifetime that has ended. The source has another login by now.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends.lock().is_some_and(|ends| ends <= Instant::now())
    }

    /// Returns the current login of the source after `refused` was refused; `None` if it has no other login.
    pub(crate) async fn login_after_refusal(&self, refused: &Login) -> Result<Option<Login>, AuthError> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(known) = &last.answer
            && self.is_valid(known, came).await
        {
            if known.login.as_ref() != Some(refused) {
                return Ok(known.login.clone());
            }
            if known.asked.elapsed() < if self.comes_from_cloud() { YOUNG_OF_CLOUD } else { YOUNG } {
                return Ok(None);
            }
        }
        let login = self.renew(&mut last, came).await?;
        Ok(login.filter(|login| login != refused))
    }

    /// Returns true if an answer is still valid for a caller that arrived at `came`.
    async fn is_valid(&self, known: &KnownLogin, came: Instant) -> bool {
        known.until > came && known.written == self.modification_times().await
    }

    async fn renew(&self, last: &mut Last, came: Instant) -> Result<Option<Login>, AuthError> {
        if let Some((at, failure)) = &last.failure
            && *at > came
        {
            return Err(failure.clone());
        }
        let (asked, written) = (Instant::now(), self.modification_times().await);
        match self.query().await {
            Ok((login, kept, name)) => {
                let name = name.or_else(|| self.identity_of(login.as_ref()));
                *self.name.lock() = name;
                let ends = self.comes_from_cloud().then(|| Instant::now() + kept);
                *self.ends.lock() = ends;
                let known = KnownLogin { login: login.clone(), asked, until: Instant::now() + kept, written };
                *last = Last { answer: Some(known), failure: None };
                Ok(login)
            }
            Err(failure) => {
                *last = Last { answer: None, failure: Some((Instant::now(), failure.clone())) };
                Err(failure)
            }
        }
    }

    /// Queries the source. Returns the login, its lifetime (zero if another read of the source is free), and its
    /// identity.
    async fn query(&self) -> Result<(Option<Login>, Duration, Option<String>), AuthError> {
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
                (helper::login(name, &helper::server_name(&self.host), &programs).await?, KEPT)
            }
            Some(Credentials::Command { line, username, env }) => {
                let programs = self.programs_with(env).await?;
                (Some(command::login(line, username.as_deref(), &programs).await?), KEPT)
            }
            Some(Credentials::Azure(azure)) => {
                let (login, good, name) = azure::login(azure, self.host.as_str(), self.wire()?).await?;
                return Ok((Some(login), good, name));
            }
            Some(Credentials::Aws(aws)) => return Ok(aws::login(aws, &self.host, self.wire()?).await?.into_parts()),
            Some(Credentials::Gcp(gcp)) => return Ok(gcp::login(gcp, self.wire()?).await?.into_parts()),
        };
        Ok((login, kept, None))
    }

    /// Returns the settings for programs with the entry's own variables. Variables in files are read again.
    async fn programs_with(&self, env: &[(String, Secret)]) -> Result<Programs, AuthError> {
        let mut programs = self.programs.clone();
        for (name, value) in env {
            let value = secret::read(&format!("the variable {name}"), value).await?;
            programs.variables.push((name.clone(), value));
        }
        Ok(programs)
    }

    fn wire(&self) -> Result<&Wire, AuthError> {
        self.wire.as_ref().ok_or_else(|| AuthError::denied("a request to a cloud is not possible here"))
    }

    /// Returns true if the lifetime of the source's answers is known.
    fn comes_from_cloud(&self) -> bool {
        self.credentials.as_ref().is_some_and(Credentials::are_from_cloud)
    }

    fn identity_of(&self, login: Option<&Login>) -> Option<String> {
        match (login?, &self.credentials) {
            (Login::Password { username, .. }, _) => Some(username.clone()),
            (Login::Token(_) | Login::Access(_), Some(Credentials::DockerConfig(_))) => {
                Some("docker config".to_owned())
            }
            (Login::Token(_) | Login::Access(_), _) => None,
        }
    }

    /// Returns the modification times of the files that a reused answer depends on.
    async fn modification_times(&self) -> Vec<Option<SystemTime>> {
        let Some(Credentials::DockerConfig(config)) = &self.credentials else { return Vec::new() };
        let mut written = Vec::new();
        for file in &config.files {
            let metadata = tokio::fs::metadata(file).await;
            written.push(metadata.and_then(|metadata| metadata.modified()).ok());
        }
        written
    }
}

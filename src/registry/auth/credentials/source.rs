//! Source of one registry's login, as configured. The source is queried when a login is needed, and its answer is
//! reused for a while.

use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::login::{Login, REUSED_FOR};
use super::program::Programs;
use super::service_request::ServiceClients;
use super::{aws, azure, command, docker, gcp, helper, origin, secret};
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::auth::error::AuthError;
use crate::registry::options::cloud::{Azure, AzureIdentity};
use crate::registry::{Credentials, DockerConfig, Secret};

/// Minimum age of a refused login before the source is queried again. A source that is queried earlier would return the
/// same login.
const MIN_REQUERY_AGE: Duration = Duration::from_secs(10);

/// Minimum age of a refused login of a cloud before the cloud is queried again. A cloud returns another login each
/// time.
const MIN_CLOUD_REQUERY_AGE: Duration = Duration::from_secs(1);

/// Source of one registry's login.
#[derive(Debug)]
pub(crate) struct Source {
    host: RegistryHost,
    credentials: Option<Credentials>,
    programs: Programs,
    /// HTTP clients for sources that send network requests; `None` if there are none.
    clients: Option<ServiceClients>,
    /// Last result of the source. The lock is held while the source is queried, so that concurrent callers share one
    /// query.
    last: tokio::sync::Mutex<Last>,
    /// Identity of the last login, if the login or its source states an identity.
    name: Mutex<Option<String>>,
    /// Origin of the last login, if only the source knows it: a file of docker's configuration.
    origin: Mutex<Option<String>>,
    /// Time until which the last login is used, if a cloud issued it.
    ends: Mutex<Option<Instant>>,
}

/// Last result of a source.
#[derive(Debug, Default)]
struct Last {
    answer: Option<KnownLogin>,
    /// Last failure, for the callers that waited for the same query.
    failure: Option<(Instant, AuthError)>,
}

/// Login that a source returned, and the time for which it is valid.
#[derive(Debug)]
struct KnownLogin {
    login: Option<Login>,
    queried_at: Instant,
    valid_until: Instant,
    /// Modification times of the files from which the login was read.
    modified_at: Vec<Option<SystemTime>>,
}

impl Source {
    pub(crate) fn new(host: RegistryHost, credentials: Option<Credentials>, programs: Programs) -> Self {
        let (last, ends) = (tokio::sync::Mutex::default(), Mutex::default());
        let (name, origin) = (Mutex::default(), Mutex::default());
        Self { host, credentials, programs, clients: None, last, name, origin, ends }
    }

    /// Returns the source with HTTP clients for network requests.
    pub(crate) fn with_clients(self, clients: ServiceClients) -> Self {
        Self { clients: Some(clients), ..self }
    }

    /// Makes the last login so old that a refusal of the login causes a new query.
    #[cfg(test)]
    pub(super) async fn age_answer(&self) {
        if let Some(known) = &mut self.last.lock().await.answer {
            known.queried_at -= MIN_REQUERY_AGE;
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

    /// Returns the identity to display: the user name if it is known, else the source of the login.
    pub(crate) fn identity(&self) -> String {
        let name = self.name.lock().clone();
        match &self.credentials {
            None | Some(Credentials::Anonymous) => "anonymous".to_owned(),
            Some(Credentials::Password { username, .. }) => username.clone(),
            Some(Credentials::Token(_)) => "token".to_owned(),
            // The identity is anonymous until a login has been found in the files.
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

    /// Returns the identity with the origin of its login, for messages: `bot (password from the file /run/bot)`.
    /// Returns `None` for anonymous access.
    pub(crate) fn describe_identity(&self) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let name = Some(self.identity()).filter(|name| name != "anonymous")?;
        let origin = self.origin.lock().clone().or_else(|| origin::describe(credentials));
        Some(origin.map_or_else(|| name.clone(), |origin| format!("{name} ({origin})")))
    }

    /// Returns the check that an operator makes after the credentials were refused.
    pub(crate) fn describe_check(&self) -> &'static str {
        origin::describe_check(self.credentials.as_ref().unwrap_or(&Credentials::Anonymous))
    }

    /// Returns the login; `None` for anonymous access.
    pub(crate) async fn login(&self) -> Result<Option<Login>, AuthError> {
        let called_at = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(known) = &last.answer
            && self.is_valid(known, called_at).await
        {
            return Ok(known.login.clone());
        }
        self.renew(&mut last, called_at).await
    }

    /// Returns true if the lifetime of the last login has ended, so that the source must be queried again.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends.lock().is_some_and(|ends| ends <= Instant::now())
    }

    /// Returns the current login of the source after the login `refused` was refused; `None` if the source has no other
    /// login.
    pub(crate) async fn login_after_refusal(&self, refused: &Login) -> Result<Option<Login>, AuthError> {
        let called_at = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(known) = &last.answer
            && self.is_valid(known, called_at).await
        {
            if known.login.as_ref() != Some(refused) {
                return Ok(known.login.clone());
            }
            if known.queried_at.elapsed()
                < if self.comes_from_cloud() { MIN_CLOUD_REQUERY_AGE } else { MIN_REQUERY_AGE }
            {
                return Ok(None);
            }
        }
        let login = self.renew(&mut last, called_at).await?;
        Ok(login.filter(|login| login != refused))
    }

    /// Returns true if a login is still valid for a caller that requested it at `called_at`.
    async fn is_valid(&self, known: &KnownLogin, called_at: Instant) -> bool {
        known.valid_until > called_at && known.modified_at == self.modification_times().await
    }

    async fn renew(&self, last: &mut Last, called_at: Instant) -> Result<Option<Login>, AuthError> {
        if let Some((at, failure)) = &last.failure
            && *at > called_at
        {
            return Err(failure.clone());
        }
        let (queried_at, modified_at) = (Instant::now(), self.modification_times().await);
        match self.query().await {
            Ok((login, reusable, name)) => {
                let name = name.or_else(|| self.identity_of(login.as_ref()));
                *self.name.lock() = name;
                let ends = self.comes_from_cloud().then(|| Instant::now() + reusable);
                *self.ends.lock() = ends;
                let known = KnownLogin {
                    login: login.clone(),
                    queried_at,
                    valid_until: Instant::now() + reusable,
                    modified_at,
                };
                *last = Last { answer: Some(known), failure: None };
                Ok(login)
            }
            Err(failure) => {
                *last = Last { answer: None, failure: Some((Instant::now(), failure.clone())) };
                Err(failure)
            }
        }
    }

    /// Queries the source. Returns the login, the time for which it may be reused, and its identity. The time is zero
    /// if another query of the source is cheap.
    async fn query(&self) -> Result<(Option<Login>, Duration, Option<String>), AuthError> {
        let (login, reusable) = match &self.credentials {
            None | Some(Credentials::Anonymous) => (None, Duration::ZERO),
            Some(Credentials::Password { username, password }) => {
                let password = secret::read(&format!("the password of {username}"), password).await?;
                (Some(Login::Password { username: username.clone(), password }), Duration::ZERO)
            }
            Some(Credentials::Token(token)) => {
                (Some(Login::Token(secret::read("the token", token).await?)), Duration::ZERO)
            }
            Some(Credentials::DockerConfig(config)) => {
                let found = docker::login(config, &self.host, &self.programs).await?;
                *self.origin.lock() = found.origin;
                (found.login, if found.ran_program { REUSED_FOR } else { Duration::ZERO })
            }
            Some(Credentials::Helper { name, env }) => {
                let programs = self.programs_with(env).await?;
                (helper::login(name, &helper::server_name(&self.host), &programs).await?, REUSED_FOR)
            }
            Some(Credentials::Command { line, username, env }) => {
                let programs = self.programs_with(env).await?;
                (Some(command::login(line, username.as_deref(), &programs).await?), REUSED_FOR)
            }
            Some(Credentials::Azure(azure)) => {
                let (login, usable_for, name) = azure::login(azure, self.host.as_str(), self.clients()?).await?;
                return Ok((Some(login), usable_for, name));
            }
            Some(Credentials::Aws(aws)) => return Ok(aws::login(aws, &self.host, self.clients()?).await?.into_parts()),
            Some(Credentials::Gcp(gcp)) => return Ok(gcp::login(gcp, self.clients()?).await?.into_parts()),
        };
        Ok((login, reusable, None))
    }

    /// Returns the settings for programs with these environment variables added. Values in files are read at each call.
    async fn programs_with(&self, env: &[(String, Secret)]) -> Result<Programs, AuthError> {
        let mut programs = self.programs.clone();
        for (name, value) in env {
            let value = secret::read(&format!("the variable {name}"), value).await?;
            programs.variables.push((name.clone(), value));
        }
        Ok(programs)
    }

    fn clients(&self) -> Result<&ServiceClients, AuthError> {
        self.clients.as_ref().ok_or_else(|| AuthError::denied("this command sends no requests to a cloud"))
    }

    /// Returns true if a cloud issues the logins of the source, so that their lifetime is known.
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

    /// Returns the modification times of the files that contain the login.
    async fn modification_times(&self) -> Vec<Option<SystemTime>> {
        let Some(Credentials::DockerConfig(config)) = &self.credentials else { return Vec::new() };
        let mut modified_at = Vec::new();
        for file in &config.files {
            let metadata = tokio::fs::metadata(file).await;
            modified_at.push(metadata.and_then(|metadata| metadata.modified()).ok());
        }
        modified_at
    }
}

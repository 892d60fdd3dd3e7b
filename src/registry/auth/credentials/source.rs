//! Configured source of the login for one registry. The client queries the source when a request needs a login, and
//! reuses the login for a limited time.

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

/// Minimum age of a refused login before the client queries the source again. Before this age, the source would
/// probably return the same login.
const MIN_REQUERY_AGE: Duration = Duration::from_secs(10);

/// Minimum age of a refused login from a cloud before the client queries the cloud again. Each query of a cloud returns
/// a new login.
const MIN_CLOUD_REQUERY_AGE: Duration = Duration::from_secs(1);

/// Source of one registry's login.
#[derive(Debug)]
pub(crate) struct Source {
    host: RegistryHost,
    credentials: Option<Credentials>,
    programs: Programs,
    /// HTTP clients for requests to clouds. `None` in a command that sends no such requests.
    clients: Option<ServiceClients>,
    /// Last result of the source. The client holds the lock during a query, so concurrent callers wait and share the
    /// result.
    last: tokio::sync::Mutex<Last>,
    /// Identity of the last login. `None` if neither the login nor the source states an identity.
    name: Mutex<Option<String>>,
    /// Origin of the last login, if the login came from a file of docker's configuration.
    origin: Mutex<Option<String>>,
    /// Time until which the client uses the last login, if a cloud issued this login.
    ends: Mutex<Option<Instant>>,
}

/// Last result of a source.
#[derive(Debug, Default)]
struct Last {
    answer: Option<KnownLogin>,
    /// Time and error of the last failed query. Callers that waited for this query get the error.
    failure: Option<(Instant, AuthError)>,
}

/// Login that a source returned, and the time until which the client can reuse the login.
#[derive(Debug)]
struct KnownLogin {
    login: Option<Login>,
    queried_at: Instant,
    valid_until: Instant,
    /// Modification times of the files that contained the login, immediately before the client read the files.
    modified_at: Vec<Option<SystemTime>>,
}

impl Source {
    pub(crate) fn new(host: RegistryHost, credentials: Option<Credentials>, programs: Programs) -> Self {
        let (last, ends) = (tokio::sync::Mutex::default(), Mutex::default());
        let (name, origin) = (Mutex::default(), Mutex::default());
        Self { host, credentials, programs, clients: None, last, name, origin, ends }
    }

    /// Adds the HTTP clients for requests to clouds.
    pub(crate) fn with_clients(self, clients: ServiceClients) -> Self {
        Self { clients: Some(clients), ..self }
    }

    /// Makes the last login ten seconds older. If a registry then refuses the login, the client queries the source
    /// again.
    #[cfg(test)]
    pub(super) async fn age_answer(&self) {
        if let Some(known) = &mut self.last.lock().await.answer {
            known.queried_at -= MIN_REQUERY_AGE;
        }
    }

    /// Returns the configured credentials. Returns `None` for anonymous access.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// If docker's configuration has an entry for a namespace that contains the repository, returns the credentials of
    /// this namespace. Otherwise returns `None`: the credentials of the whole registry apply.
    pub(crate) fn namespaced(&self, name: &RepositoryName) -> Option<Credentials> {
        let Some(Credentials::DockerConfig(config)) = &self.credentials else { return None };
        let namespace = docker::namespace_of(config, &self.host, name)?;
        Some(Credentials::DockerConfig(DockerConfig { namespace: Some(namespace), ..config.clone() }))
    }

    /// Returns the identity for messages: the user name. If the user name is not known, returns the kind of the source,
    /// such as `gcp`.
    pub(crate) fn identity(&self) -> String {
        let name = self.name.lock().clone();
        match &self.credentials {
            None | Some(Credentials::Anonymous) => "anonymous".to_owned(),
            Some(Credentials::Password { username, .. }) => username.clone(),
            Some(Credentials::Token(_)) => "token".to_owned(),
            // Before the first login from the files, the identity is anonymous.
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

    /// Returns the identity with the origin of the login, such as `bot (password from the file /run/bot)`. Returns
    /// `None` for anonymous access.
    pub(crate) fn describe_identity(&self) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let name = Some(self.identity()).filter(|name| name != "anonymous")?;
        let origin = self.origin.lock().clone().or_else(|| origin::describe(credentials));
        Some(origin.map_or_else(|| name.clone(), |origin| format!("{name} ({origin})")))
    }

    /// Returns the operator's next step after a registry refused the credentials, such as `check the token`.
    pub(crate) fn describe_check(&self) -> &'static str {
        origin::describe_check(self.credentials.as_ref().unwrap_or(&Credentials::Anonymous))
    }

    /// Returns the login. Returns `None` for anonymous access.
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

    /// Returns true if a cloud issued the last login, and the time for its use has ended. The client must then query
    /// the source again.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends.lock().is_some_and(|ends| ends <= Instant::now())
    }

    /// Returns the current login of the source, after a registry refused the login `refused`. Returns `None` if the
    /// source has no other login, or if `refused` is so new that a query would be useless.
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

    /// Returns true if a call that began at `called_at` can use the known login.
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

    /// Queries the source. Returns the login, the time for which the client can reuse the login, and the identity of
    /// the login. The time is zero if a query of the source is cheap.
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

    /// Returns the settings for programs, with these environment variables added. If the value of a variable is in a
    /// file, reads the file.
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

    /// Returns true if a cloud issues the logins of the source.
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

    /// Returns the modification times of the credential files. Returns an empty list if the login does not come from
    /// docker's configuration.
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

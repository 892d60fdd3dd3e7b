//! Access keys for Amazon's services. If the operator configured a profile, the client uses only this profile.
//! Otherwise, the client uses the first of these sources that has keys ("AWS SDKs and Tools Reference Guide",
//! "Credential provider chain"):
//!
//! 1. the environment;
//! 2. a web identity;
//! 3. the profile files;
//! 4. the container's agent;
//! 5. the instance metadata service.
//!
//! If a source is configured but fails, the search returns the error of this source.

use std::borrow::Cow;
use std::path::PathBuf;

use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::{Host, Url};

use super::profile::{self, KeySource};
use super::sign::Post;
use super::{code, domain, element};
use crate::registry::auth::credentials::secret;
use crate::registry::auth::credentials::service_request::{
    CloudAnswer, ServiceClients, form, hidden_header, url_below,
};
use crate::registry::auth::error::AuthError;
use crate::registry::http::nearness;
use crate::registry::{Aws, Secret};

/// Base URL of a container's agent, which issues keys to the container. The client uses this URL if the environment
/// contains only a path.
const AGENT: &str = "http://169.254.170.2";
/// Requested lifetime of a session with the metadata service, in seconds.
const SESSION: &str = "300";
/// Session name that identifies this program in Amazon's audit trail.
const SESSION_NAME: &str = "transship";
/// Maximum number of profiles in a chain of source profiles.
const MAX_PROFILES: usize = 5;

/// Access keys, with which the client signs requests. The type does not implement `Debug`, because `Debug` output would
/// show the keys.
pub(super) struct Keys {
    /// Id of the access key. The id is not secret.
    pub(super) id: String,
    pub(super) secret: SecretString,
    /// Session token, for temporary keys.
    pub(super) session: Option<SecretString>,
    /// Name of the identity that owns the keys, for messages.
    pub(super) name: String,
}

/// Answer of a container's agent or of the metadata service.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeysAnswer {
    access_key_id: String,
    secret_access_key: SecretString,
    #[serde(default)]
    token: Option<SecretString>,
}

/// Role that the client assumes with the token of a third party. `role` is the ARN, `session` is the session name, and
/// `token` is the path of the file with the token.
struct WebIdentity<'a> {
    role: &'a str,
    session: Option<&'a str>,
    token: &'a str,
}

/// Parameters of a search for access keys.
struct KeySearch<'a> {
    aws: &'a Aws,
    region: &'a str,
    clients: &'a ServiceClients,
}

/// Returns the keys of the first source that has keys.
pub(super) async fn find(aws: &Aws, region: &str, clients: &ServiceClients) -> Result<Keys, AuthError> {
    let (search, variable) = (KeySearch { aws, region, clients }, |name| aws.variables.get(name));
    if let Some(profile) = &aws.profile {
        return search.keys_from_profile(profile).await;
    }
    if let Some(keys) = keys_from_environment(aws) {
        return Ok(keys);
    }
    if let (Some(role), Some(token)) = (variable("AWS_ROLE_ARN"), variable("AWS_WEB_IDENTITY_TOKEN_FILE")) {
        return search
            .keys_from_web_identity(WebIdentity { role, session: variable("AWS_ROLE_SESSION_NAME"), token })
            .await;
    }
    match variable("AWS_PROFILE") {
        Some(profile) => return search.keys_from_profile(profile).await,
        None if profile::read(&aws.variables, "default").await?.is_some() => {
            return search.keys_from_profile("default").await;
        }
        None => {}
    }
    if let Some(keys) = search.keys_from_agent().await? {
        return Ok(keys);
    }
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Err(AuthError::denied("found no AWS keys in the environment, a file or a container"));
    }
    search.keys_from_instance().await.map_err(|error| AuthError {
        detail: format!(
            "found no AWS keys in the environment, a file or a container, and could not get keys from the instance \
             metadata service: {}",
            error.detail
        ),
        ..error
    })
}

fn keys_from_environment(aws: &Aws) -> Option<Keys> {
    let variable = |name| aws.variables.get(name);
    let (id, secret) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
    Some(Keys::new(id.to_owned(), secret.into(), variable("AWS_SESSION_TOKEN").map(Into::into)))
}

impl Keys {
    pub(super) fn new(id: String, secret: SecretString, session: Option<SecretString>) -> Self {
        let name = format!("access key {id}");
        Self { id, secret, session, name }
    }
}

impl KeySearch<'_> {
    async fn keys_from_profile(&self, name: &str) -> Result<Keys, AuthError> {
        let (mut name, mut roles) = (name.to_owned(), Vec::new());
        // The loop goes from profile to profile along `source_profile`, until a profile provides keys. Then the client
        // assumes the collected roles in reverse order.
        let mut keys = loop {
            let profile = profile::read(&self.aws.variables, &name).await?;
            let profile = profile.ok_or_else(|| AuthError::denied(format!("there is no AWS profile {name}")))?;
            match profile.key_source(&name)? {
                KeySource::Keys(keys) => break keys,
                KeySource::WebIdentity { role, token, session } => {
                    let identity = WebIdentity { role: &role, session: session.as_deref(), token: &token };
                    break self.keys_from_web_identity(identity).await?;
                }
                KeySource::Role { role, source } => {
                    roles.push(role);
                    name = source;
                }
                KeySource::RoleFromSource { role, source } => {
                    roles.push(role);
                    break self.keys_from_credential_source(&source).await?;
                }
            }
            if roles.len() > MAX_PROFILES {
                return Err(AuthError::denied(format!(
                    "the `source_profile` chain of the AWS profile {name} has a cycle or more than {MAX_PROFILES} \
                        profiles"
                )));
            }
        };
        while let Some(role) = roles.pop() {
            keys = self.assume_role(&role, &keys).await?;
        }
        Ok(keys)
    }

    /// Returns the keys of `source`, the value of `credential_source` in a profile, such as `Ec2InstanceMetadata`.
    async fn keys_from_credential_source(&self, source: &str) -> Result<Keys, AuthError> {
        let keys = match source {
            "Environment" => keys_from_environment(self.aws),
            "EcsContainer" => self.keys_from_agent().await?,
            "Ec2InstanceMetadata" => Some(self.keys_from_instance().await?),
            _ => None,
        };
        keys.ok_or_else(|| AuthError::denied("the credential_source of the profile provides no AWS keys"))
    }

    /// Calls `AssumeRoleWithWebIdentity` of the security token service. The client does not sign the request.
    async fn keys_from_web_identity(&self, identity: WebIdentity<'_>) -> Result<Keys, AuthError> {
        let token = secret::read("the web identity token", &Secret::File(PathBuf::from(identity.token))).await?;
        let url = self.sts()?;
        let pairs = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", identity.role),
            ("RoleSessionName", identity.session.unwrap_or(SESSION_NAME)),
            ("WebIdentityToken", token.expose_secret()),
        ];
        let request = form(&self.clients.authority, &url, &pairs);
        let answer = self.clients.send(request, &url, &[]).await?.require_success(code)?;
        read_assumed_keys(&answer, identity.role)
    }

    /// Calls `AssumeRole` of the security token service.
    async fn assume_role(&self, role: &profile::Role, keys: &Keys) -> Result<Keys, AuthError> {
        let url = self.sts()?;
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleArn", role.arn.as_str())])
            .append_pair("RoleSessionName", role.session.as_deref().unwrap_or(SESSION_NAME))
            .extend_pairs(role.external_id.as_ref().map(|id| ("ExternalId", id.as_str())))
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let post = Post { url: &url, headers: &headers, body: &body };
        let request = post.signed(&self.clients.authority, keys, self.region, "sts", chrono::Utc::now())?;
        let answer = self.clients.send(request, &url, &[]).await?.require_success(code)?;
        read_assumed_keys(&answer, &role.arn)
    }

    fn sts(&self) -> Result<Url, AuthError> {
        if let Some(url) = &self.aws.sts {
            return Ok(url.clone());
        }
        let url = format!("https://sts.{}.{}/", self.region, domain(self.region));
        url.parse().map_err(|_| AuthError::denied("the region does not form a valid address"))
    }

    /// Requests keys from the agent of a container. Returns `None` if the environment contains no URL of an agent.
    async fn keys_from_agent(&self) -> Result<Option<Keys>, AuthError> {
        let variable = |name| self.aws.variables.get(name);
        let address = match variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Some(path) => Cow::Owned(format!("{AGENT}{path}")),
            None => match variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
                Some(address) => Cow::Borrowed(address),
                None => return Ok(None),
            },
        };
        let url: Option<Url> = address.parse().ok();
        let unusable = "the address of the container's agent is neither HTTPS nor local";
        let url = url.filter(is_allowed_agent).ok_or_else(|| AuthError::denied(unusable))?;
        let client =
            if url.scheme() == "https" { self.clients.authority.clone() } else { self.clients.metadata_client()? };
        let mut request = client.get(url.clone());
        let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(secret::read("the token for the container's agent", &Secret::File(file.into())).await?),
            None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Into::into),
        };
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, hidden_header(token.expose_secret())?);
        }
        let answer = self.clients.send(request, &url, &[]).await?.require_success(code)?;
        Ok(Some(read_keys(&answer, "the role of this container")?))
    }

    /// Requests keys from the instance metadata service, version 2.
    async fn keys_from_instance(&self) -> Result<Keys, AuthError> {
        let (client, base) = (self.clients.metadata_client()?, &self.aws.imds);
        let url = url_below(base, "latest/api/token")?;
        let request = client.put(url.clone()).header("x-aws-ec2-metadata-token-ttl-seconds", SESSION);
        let session = self.clients.send(request, &url, &[]).await?.require_success(|_| None)?;
        let session = hidden_header(session.text()?.trim())?;
        let get = async |path: &str| {
            let url = url_below(base, path)?;
            let request = client.get(url.clone()).header("x-aws-ec2-metadata-token", session.clone());
            self.clients.send(request, &url, &[]).await?.require_success(|_| None)
        };
        let folder = "latest/meta-data/iam/security-credentials/";
        let list = get(folder).await?;
        let role = list.text()?.lines().next().unwrap_or_default().trim().to_owned();
        let is_role_name =
            !role.is_empty() && role.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b));
        if !is_role_name {
            return Err(list.unusable("without a role"));
        }
        read_keys(&get(&format!("{folder}{role}")).await?, &role)
    }
}

/// Returns true if the client may request keys from this URL. The URL must use HTTPS, or its host must be the
/// container's agent or this machine ("Container credential provider").
fn is_allowed_agent(url: &Url) -> bool {
    let is_agent_address = match url.host() {
        Some(Host::Ipv4(address)) => matches!(address.octets(), [169, 254, 170, 2 | 23]),
        Some(Host::Ipv6(address)) => address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],
        _ => false,
    };
    let has_no_user = url.username().is_empty() && url.password().is_none();
    has_no_user
        && (url.scheme() == "https" || (url.scheme() == "http" && (is_agent_address || nearness::is_loopback(url))))
}

fn read_keys(answer: &CloudAnswer, name: &str) -> Result<Keys, AuthError> {
    let KeysAnswer { access_key_id, secret_access_key, token } = answer.json()?;
    Ok(Keys { name: name.to_owned(), ..Keys::new(access_key_id, secret_access_key, token) })
}

/// Returns the keys in an XML answer of the security token service.
fn read_assumed_keys(answer: &CloudAnswer, role: &str) -> Result<Keys, AuthError> {
    let text = answer.text()?;
    let found = |name: &str| element(text, name).filter(|text| !text.is_empty());
    let (Some(id), Some(secret), Some(session)) =
        (found("AccessKeyId"), found("SecretAccessKey"), found("SessionToken"))
    else {
        return Err(answer.unusable("without keys"));
    };
    Ok(Keys { id: id.to_owned(), secret: secret.into(), session: Some(session.into()), name: role.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_agent_must_be_local_or_use_tls() {
        let allowed = |text: &str| is_allowed_agent(&text.parse().unwrap());
        for text in
            ["http://169.254.170.2/x", "http://169.254.170.23/v1", "http://[fd00:ec2::23]/v1", "http://127.0.0.1:9/x"]
        {
            assert!(allowed(text), "{text}");
        }
        assert!(allowed("https://agent.example/x") && allowed("http://localhost/x"));
        for text in
            ["http://agent.example/x", "http://169.254.169.254/x", "http://10.0.0.1/", "https://me:x@agent.example/"]
        {
            assert!(!allowed(text), "{text}");
        }
    }
}

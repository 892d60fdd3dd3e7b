//! Who has keys for Amazon: the environment, a web identity, the profile files, the container's agent, the instance metadata
//! service, in this order ("AWS SDKs and Tools Reference Guide", "Credential provider chain"). The first that says something
//! counts, and where it fails, that is said.

use std::borrow::Cow;
use std::path::PathBuf;

use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::{Host, Url};

use super::profile::{self, Way};
use super::sign::Post;
use super::{code, domain, element};
use crate::registry::auth::AuthError;
use crate::registry::credentials::secret;
use crate::registry::credentials::wire::{Answered, Wire, below, form, hidden};
use crate::registry::{Aws, Secret, realm};

/// The agent of a container, where its address is told by a path alone.
const AGENT: &str = "http://169.254.170.2";
/// How long the metadata service is to know us, in seconds.
const SESSION: &str = "300";
/// What names us in the trail that Amazon keeps.
const SESSION_NAME: &str = "transship";
/// The longest way from one profile to the next.
const MAX_PROFILES: usize = 5;

/// What requests are signed with. No `Debug`: it would show secrets.
pub(super) struct Keys {
    /// The access key's id; may be shown.
    pub(super) id: String,
    pub(super) secret: SecretString,
    pub(super) session: Option<SecretString>,
    /// Who has them, for people.
    pub(super) name: String,
}

/// As a container's agent and the metadata service say it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    access_key_id: String,
    secret_access_key: SecretString,
    #[serde(default)]
    token: Option<SecretString>,
}

/// A role, and the word of somebody else for who is to have it.
struct WebIdentity<'a> {
    role: &'a str,
    session: Option<&'a str>,
    token: &'a str,
}

/// What is asked, and where.
struct Asking<'a> {
    aws: &'a Aws,
    region: &'a str,
    wire: &'a Wire,
}

/// The keys of the first source that has some.
pub(super) async fn find(aws: &Aws, region: &str, wire: &Wire) -> Result<Keys, AuthError> {
    let (asking, variable) = (Asking { aws, region, wire }, |name| aws.variables.get(name));
    if let Some(profile) = &aws.profile {
        return asking.by_profile(profile).await;
    }
    if let Some(keys) = by_environment(aws) {
        return Ok(keys);
    }
    if let (Some(role), Some(token)) = (variable("AWS_ROLE_ARN"), variable("AWS_WEB_IDENTITY_TOKEN_FILE")) {
        return asking.by_web_identity(WebIdentity { role, session: variable("AWS_ROLE_SESSION_NAME"), token }).await;
    }
    match variable("AWS_PROFILE") {
        Some(profile) => return asking.by_profile(profile).await,
        None if profile::read(&aws.variables, "default").await?.is_some() => return asking.by_profile("default").await,
        None => {}
    }
    if let Some(keys) = asking.by_agent().await? {
        return Ok(keys);
    }
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Err(AuthError::denied("nobody has keys for Amazon: not the environment, nor a file, nor a container"));
    }
    asking.by_instance().await.map_err(|error| AuthError {
        detail: format!("nobody has keys for Amazon, and the instance metadata service has none: {}", error.detail),
        ..error
    })
}

fn by_environment(aws: &Aws) -> Option<Keys> {
    let variable = |name| aws.variables.get(name);
    let (id, secret) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
    Some(Keys::of(id.to_owned(), secret.into(), variable("AWS_SESSION_TOKEN").map(Into::into)))
}

impl Keys {
    pub(super) fn of(id: String, secret: SecretString, session: Option<SecretString>) -> Self {
        let name = format!("access key {id}");
        Self { id, secret, session, name }
    }
}

impl Asking<'_> {
    async fn by_profile(&self, name: &str) -> Result<Keys, AuthError> {
        let (mut name, mut roles) = (name.to_owned(), Vec::new());
        // From the profile that is meant to the one that has keys, and back again by their roles.
        let mut keys = loop {
            let profile = profile::read(&self.aws.variables, &name).await?;
            let profile =
                profile.ok_or_else(|| AuthError::denied(format!("there is no profile {name} of Amazon's")))?;
            match profile.way(&name)? {
                Way::Keys(keys) => break keys,
                Way::WebIdentity { role, token, session } => {
                    let identity = WebIdentity { role: &role, session: session.as_deref(), token: &token };
                    break self.by_web_identity(identity).await?;
                }
                Way::Role { role, source } => {
                    roles.push(role);
                    name = source;
                }
                Way::RoleOf { role, source } => {
                    roles.push(role);
                    break self.by_named(&source).await?;
                }
            }
            if roles.len() > MAX_PROFILES {
                return Err(AuthError::denied(format!("the profile {name} of Amazon's leads in a circle")));
            }
        };
        while let Some(role) = roles.pop() {
            keys = self.assume(&role, &keys).await?;
        }
        Ok(keys)
    }

    /// By what a profile calls its `credential_source`.
    async fn by_named(&self, source: &str) -> Result<Keys, AuthError> {
        let keys = match source {
            "Environment" => by_environment(self.aws),
            "EcsContainer" => self.by_agent().await?,
            "Ec2InstanceMetadata" => Some(self.by_instance().await?),
            _ => None,
        };
        keys.ok_or_else(|| AuthError::denied("the credential_source of the profile has no keys for Amazon"))
    }

    /// `AssumeRoleWithWebIdentity` of the security token service, which is not signed.
    async fn by_web_identity(&self, identity: WebIdentity<'_>) -> Result<Keys, AuthError> {
        let token = secret::read("the web identity token", &Secret::File(PathBuf::from(identity.token))).await?;
        let url = self.sts()?;
        let pairs = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", identity.role),
            ("RoleSessionName", identity.session.unwrap_or(SESSION_NAME)),
            ("WebIdentityToken", token.expose_secret()),
        ];
        let request = form(&self.wire.authority, &url, &pairs);
        let answered = self.wire.ask(request, &url, &[]).await?.good(code)?;
        assumed(&answered, identity.role)
    }

    /// `AssumeRole` of the security token service.
    async fn assume(&self, role: &profile::Role, keys: &Keys) -> Result<Keys, AuthError> {
        let url = self.sts()?;
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleArn", role.arn.as_str())])
            .append_pair("RoleSessionName", role.session.as_deref().unwrap_or(SESSION_NAME))
            .extend_pairs(role.external_id.as_ref().map(|id| ("ExternalId", id.as_str())))
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let post = Post { url: &url, headers: &headers, body: &body };
        let request = post.signed(&self.wire.authority, keys, self.region, "sts", chrono::Utc::now())?;
        let answered = self.wire.ask(request, &url, &[]).await?.good(code)?;
        assumed(&answered, &role.arn)
    }

    fn sts(&self) -> Result<Url, AuthError> {
        if let Some(url) = &self.aws.sts {
            return Ok(url.clone());
        }
        let url = format!("https://sts.{}.{}/", self.region, domain(self.region));
        url.parse().map_err(|_| AuthError::denied("the region makes no address"))
    }

    /// By the agent of a container, where the environment tells of one.
    async fn by_agent(&self) -> Result<Option<Keys>, AuthError> {
        let variable = |name| self.aws.variables.get(name);
        let address = match variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Some(path) => Cow::Owned(format!("{AGENT}{path}")),
            None => match variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
                Some(address) => Cow::Borrowed(address),
                None => return Ok(None),
            },
        };
        let url: Option<Url> = address.parse().ok();
        let unusable = "the address of the container's agent is neither HTTPS nor near";
        let url = url.filter(may_be_asked).ok_or_else(|| AuthError::denied(unusable))?;
        let client = if url.scheme() == "https" { self.wire.authority.clone() } else { self.wire.near()? };
        let mut request = client.get(url.clone());
        let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(secret::read("the token for the container's agent", &Secret::File(file.into())).await?),
            None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Into::into),
        };
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, hidden(token.expose_secret())?);
        }
        let answered = self.wire.ask(request, &url, &[]).await?.good(code)?;
        Ok(Some(given(&answered, "the role of this container")?))
    }

    /// By the instance metadata service, version 2.
    async fn by_instance(&self) -> Result<Keys, AuthError> {
        let (client, base) = (self.wire.near()?, &self.aws.imds);
        let url = below(base, "latest/api/token")?;
        let request = client.put(url.clone()).header("x-aws-ec2-metadata-token-ttl-seconds", SESSION);
        let session = self.wire.ask(request, &url, &[]).await?.good(|_| None)?;
        let session = hidden(session.text()?.trim())?;
        let get = async |path: &str| {
            let url = below(base, path)?;
            let request = client.get(url.clone()).header("x-aws-ec2-metadata-token", session.clone());
            self.wire.ask(request, &url, &[]).await?.good(|_| None)
        };
        let folder = "latest/meta-data/iam/security-credentials/";
        let list = get(folder).await?;
        let role = list.text()?.lines().next().unwrap_or_default().trim().to_owned();
        let good = !role.is_empty() && role.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b));
        if !good {
            return Err(list.unusable("without a role"));
        }
        given(&get(&format!("{folder}{role}")).await?, &role)
    }
}

/// Where keys may come from: near, or by TLS ("Container credential provider").
fn may_be_asked(url: &Url) -> bool {
    let near = match url.host() {
        Some(Host::Ipv4(address)) => matches!(address.octets(), [169, 254, 170, 2 | 23]),
        Some(Host::Ipv6(address)) => address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],
        _ => false,
    };
    let plain = url.username().is_empty() && url.password().is_none();
    plain && (url.scheme() == "https" || (url.scheme() == "http" && (near || realm::is_loopback(url))))
}

fn given(answered: &Answered, name: &str) -> Result<Keys, AuthError> {
    let told: Told = answered.json()?;
    Ok(Keys { name: name.to_owned(), ..Keys::of(told.access_key_id, told.secret_access_key, told.token) })
}

/// What the security token service gives, in XML.
fn assumed(answered: &Answered, role: &str) -> Result<Keys, AuthError> {
    let text = answered.text()?;
    let found = |name: &str| element(text, name).filter(|text| !text.is_empty());
    let (Some(id), Some(secret), Some(session)) =
        (found("AccessKeyId"), found("SecretAccessKey"), found("SessionToken"))
    else {
        return Err(answered.unusable("without keys"));
    };
    Ok(Keys { id: id.to_owned(), secret: secret.into(), session: Some(session.into()), name: role.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_agent_is_asked_near_or_by_tls_alone() {
        let may = |text: &str| may_be_asked(&text.parse().unwrap());
        for text in
            ["http://169.254.170.2/x", "http://169.254.170.23/v1", "http://[fd00:ec2::23]/v1", "http://127.0.0.1:9/x"]
        {
            assert!(may(text), "{text}");
        }
        assert!(may("https://agent.example/x") && may("http://localhost/x"));
        for text in
            ["http://agent.example/x", "http://169.254.169.254/x", "http://10.0.0.1/", "https://me:x@agent.example/"]
        {
            assert!(!may(text), "{text}");
        }
    }
}

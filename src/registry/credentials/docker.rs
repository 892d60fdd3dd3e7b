//! What `docker login` and its kin left on this machine: `config.json` of docker, `auth.json` of podman and skopeo.

use std::collections::BTreeMap;
use std::io::ErrorKind as Io;
use std::path::Path;

use base64::Engine as _;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::program::Programs;
use super::{Login, helper};
use crate::oci::RegistryHost;
use crate::registry::DockerConfig;
use crate::registry::auth::AuthError;
use crate::store::ErrorKind;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// No `Debug`: it would show secrets.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: Option<BTreeMap<String, Entry>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What these files know of a registry, and whether a program was asked for it. The first that knows something counts.
pub(super) async fn login(
    config: &DockerConfig,
    host: &RegistryHost,
    programs: &Programs,
) -> Result<(Option<Login>, bool), AuthError> {
    let mut ran = false;
    for path in &config.files {
        let Some(file) = read(path, config.required).await? else { continue };
        if let Some(name) = file.helper_of(host) {
            ran = true;
            let login = helper::login(name, host, programs).await;
            let login = login
                .map_err(|error| AuthError { detail: format!("{}: {}", path.display(), error.detail), ..error })?;
            if login.is_some() {
                return Ok((login, true));
            }
        }
        let login = file.entry_of(host).map_err(|what| unusable(path, what))?;
        if login.is_some() {
            return Ok((login, ran));
        }
    }
    Ok((None, ran))
}

/// The file, `None` where it is not there and need not be.
async fn read(path: &Path, required: bool) -> Result<Option<File>, AuthError> {
    let failed = |reason: String| AuthError::denied(format!("{} cannot be read: {reason}", path.display()));
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        // A home that is closed to a service has nothing for it.
        Err(error) if !required && matches!(error.kind(), Io::NotFound | Io::NotADirectory | Io::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).await.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed("it is larger than 1MiB".to_owned()));
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    // What is wrong is not told: it could quote a secret.
    let read = serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unusable(path, &format!("it is not docker's configuration (line {line}, column {column})"))
    })?;
    Ok(Some(read))
}

fn unusable(path: &Path, what: &str) -> AuthError {
    AuthError { kind: ErrorKind::Denied, detail: format!("{}: {what}", path.display()) }
}

impl File {
    /// The helper of this registry, else the one of all.
    fn helper_of(&self, host: &RegistryHost) -> Option<&str> {
        let helpers = self.cred_helpers.iter().flatten();
        let helper = best(helpers.map(|(key, name)| (key.as_str(), name.as_str())), host);
        helper.or(self.creds_store.as_deref()).filter(|name| !name.is_empty())
    }

    /// What the file itself says of this registry.
    fn entry_of(&self, host: &RegistryHost) -> Result<Option<Login>, &'static str> {
        let entries = self.auths.iter().flatten().map(|(key, entry)| (key.as_str(), entry));
        best(entries, host).map_or(Ok(None), Entry::login)
    }
}

impl Entry {
    /// Docker leaves an empty entry behind where a helper keeps the credentials.
    fn login(&self) -> Result<Option<Login>, &'static str> {
        let filled = |secret: &'_ Option<String>| secret.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Some(Login::Token(token.into())));
        }
        if let Some(token) = filled(&self.registrytoken) {
            return Ok(Some(Login::Access(token.into())));
        }
        if let (Some(username), Some(password)) = (&self.username, filled(&self.password)) {
            return Ok(Some(Login::Password { username: username.clone(), password: password.into() }));
        }
        let Some(auth) = filled(&self.auth) else { return Ok(None) };
        let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) = pair.ok_or("an `auth` is no user name and password in base64")?;
        Ok(Some(Login::Password { username: username.to_owned(), password: password.trim_end_matches('\0').into() }))
    }
}

/// The value of the key that means this registry: the one that is written as docker does, else one that comes to the same.
fn best<'a, T: ?Sized>(pairs: impl Iterator<Item = (&'a str, &'a T)> + Clone, host: &RegistryHost) -> Option<&'a T> {
    let hub = ["index.docker.io", "docker.io", "registry-1.docker.io"];
    let names = if host.is_docker_hub() { hub.to_vec() } else { vec![host.as_str()] };
    let written = helper::asked_as(host);
    let exact = pairs.clone().find(|(key, _)| *key == written);
    let near = || names.iter().find_map(|name| pairs.clone().find(|(key, _)| host_of(key) == Some(name)));
    exact.or_else(near).map(|(_, value)| value)
}

/// The host of a key: `host`, `https://host/v1/`. `host/namespace`, as podman has it, is not the whole host's.
fn host_of(key: &str) -> Option<&str> {
    let bare = key.strip_prefix("https://").or(key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let whole = bare.is_some() || matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
    whole.then_some(host)
}

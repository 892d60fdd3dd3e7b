//! Credentials that `docker login` and similar tools stored on this machine: in docker's `config.json`, or in
//! `auth.json` of podman and skopeo.

use std::collections::BTreeMap;
use std::io::ErrorKind as Io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Deserialize;

use super::helper;
use super::login::Login;
use super::origin;
use super::program::Programs;
use super::secret::{MAX_FILE, read_text};
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::auth::error::AuthError;
use crate::registry::{DockerConfig, Flavor};
use crate::regular_file;
use crate::store::ErrorKind;

/// Content of a credential file. The type has no `Debug`, because `Debug` would show secrets.
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

/// Result of a search for the login of a registry.
#[derive(Default)]
pub(super) struct DockerLogin {
    /// Login. `None` if no file has a login for the registry.
    pub(super) login: Option<Login>,
    /// True if the client ran a credential helper to obtain the login.
    pub(super) ran_program: bool,
    /// Origin of the login, for messages.
    pub(super) origin: Option<String>,
}

/// Returns the login of a registry from these files. If several files have a login, the first of these files applies.
pub(super) async fn login(
    config: &DockerConfig,
    host: &RegistryHost,
    programs: &Programs,
) -> Result<DockerLogin, AuthError> {
    let mut ran_program = false;
    for path in &config.files {
        let Some(file) = read(path, config.required).await? else { continue };
        if let Some(name) = file.helper_of(host) {
            ran_program = true;
            for server in file.servers_of(host) {
                let login = helper::login(name, &server, programs).await;
                let login = login
                    .map_err(|error| AuthError { detail: format!("{}: {}", path.display(), error.detail), ..error })?;
                if login.is_some() {
                    let origin = Some(origin::describe_docker(path, Some(name)));
                    return Ok(DockerLogin { login, ran_program, origin });
                }
            }
        }
        let login = file.entry_of(host, config.namespace.as_ref()).map_err(|what| unusable(path, what))?;
        if login.is_some() {
            return Ok(DockerLogin { login, ran_program, origin: Some(origin::describe_docker(path, None)) });
        }
    }
    Ok(DockerLogin { ran_program, ..DockerLogin::default() })
}

/// Returns the longest namespace that has its own entry in one of these files and contains the repository. For example,
/// `quay.io/org/repo` takes precedence over `quay.io/org` (containers-auth.json(5)).
///
/// Blocks the thread while it reads the files. Skips a file that cannot be read, because `login` reports this error
/// later.
pub(super) fn namespace_of(
    config: &DockerConfig,
    host: &RegistryHost,
    name: &RepositoryName,
) -> Option<RepositoryName> {
    let files = config.files.iter().filter_map(|path| {
        let bytes = regular_file::read(path, MAX_FILE).ok()?;
        serde_json::from_slice::<File>(&bytes).ok()
    });
    let longest = |file: File| {
        let keys = file.auths.iter().flatten().map(|(key, _)| key.as_str());
        let found = keys.filter_map(|key| namespace_in(key, host).filter(|namespace| covers(namespace, name)));
        found.max_by_key(|namespace| namespace.len()).and_then(|namespace| namespace.parse().ok())
    };
    files.filter_map(longest).max_by_key(|namespace: &RepositoryName| namespace.as_str().len())
}

/// Returns true if a namespace contains a repository, or has the same name as the repository.
fn covers(namespace: &str, name: &RepositoryName) -> bool {
    name.as_str().strip_prefix(namespace).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the namespace in a key of this registry, such as `a/b` in `host/a/b`. Returns `None` if the key is for a
/// whole host or for another registry.
fn namespace_in<'k>(key: &'k str, host: &RegistryHost) -> Option<&'k str> {
    if host_of(key).is_some() {
        return None;
    }
    let (key_host, namespace) = key.split_once('/')?;
    let namespace = namespace.trim_end_matches('/');
    (names_of(host).contains(&key_host) && !namespace.is_empty()).then_some(namespace)
}

/// Reads a file. Returns `None` if the file is empty. Also returns `None` if an optional file does not exist or this
/// process has no permission to read the file.
async fn read(path: &Path, required: bool) -> Result<Option<File>, AuthError> {
    let failed = |reason: String| AuthError::denied(format!("{} cannot be read: {reason}", path.display()));
    let bytes = match read_text(path).await {
        Ok(text) => text.into_bytes(),
        Err(error) if !required && matches!(error.kind(), Io::NotFound | Io::NotADirectory | Io::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    // The error omits the parser's reason, because the reason can quote a secret.
    let read = serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unusable(path, &format!("not a valid docker configuration (line {line}, column {column})"))
    })?;
    Ok(Some(read))
}

fn unusable(path: &Path, what: &str) -> AuthError {
    AuthError { kind: ErrorKind::Denied, detail: format!("{}: {what}", path.display()) }
}

impl File {
    /// Returns the name of the credential helper for this registry. If the registry has no helper of its own, returns
    /// the name of the default helper.
    fn helper_of(&self, host: &RegistryHost) -> Option<&str> {
        let helpers = self.cred_helpers.iter().flatten();
        let helper = matching_value(helpers.map(|(key, name)| (key.as_str(), name.as_str())), host);
        helper.or(self.creds_store.as_deref()).filter(|name| !name.is_empty())
    }

    /// Returns the server names under which a helper can store the login, in the order of the queries. The first name
    /// is the name that current versions of docker use. The other names are the keys of this registry in the file, such
    /// as `https://HOST`. Older versions of docker stored logins under such names.
    fn servers_of(&self, host: &RegistryHost) -> Vec<String> {
        let mut servers = vec![helper::server_name(host)];
        let keys = self.auths.iter().flatten().map(|(key, _)| key);
        let keys = keys.chain(self.cred_helpers.iter().flatten().map(|(key, _)| key));
        for key in keys.filter(|key| host_of(key).is_some_and(|key_host| names_of(host).contains(&key_host))) {
            if !servers.contains(key) {
                servers.push(key.clone());
            }
        }
        servers
    }

    /// Returns the login that the file itself contains for a registry. The login of the longest namespace that contains
    /// `namespace` takes precedence over the login of the host.
    fn entry_of(&self, host: &RegistryHost, namespace: Option<&RepositoryName>) -> Result<Option<Login>, &'static str> {
        let entries = || self.auths.iter().flatten().map(|(key, entry)| (key.as_str(), entry));
        let covering = |(key, entry): (&str, &'_ Entry)| -> Option<(usize, Result<Option<Login>, &'static str>)> {
            let covering = namespace_in(key, host).filter(|outer| namespace.is_some_and(|name| covers(outer, name)))?;
            Some((covering.len(), entry.login()))
        };
        let mut namespaces: Vec<_> = entries().filter_map(covering).collect();
        namespaces.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        for (_, login) in namespaces {
            if let Some(login) = login? {
                return Ok(Some(login));
            }
        }
        matching_value(entries(), host).map_or(Ok(None), Entry::login)
    }
}

impl Entry {
    /// Returns the login of this entry. Returns `None` for an empty entry: docker writes an empty entry if a helper
    /// stores the credentials.
    fn login(&self) -> Result<Option<Login>, &'static str> {
        let non_empty = |secret: &'_ Option<String>| secret.clone().filter(|text| !text.is_empty());
        if let Some(token) = non_empty(&self.identitytoken) {
            return Ok(Some(Login::Token(token.into())));
        }
        if let Some(token) = non_empty(&self.registrytoken) {
            return Ok(Some(Login::Access(token.into())));
        }
        if let (Some(username), Some(password)) = (&self.username, non_empty(&self.password)) {
            return Ok(Some(Login::Password { username: username.clone(), password: password.into() }));
        }
        let Some(auth) = non_empty(&self.auth) else { return Ok(None) };
        // Some tools insert line breaks or omit the padding. Podman also accepts line breaks.
        let auth: String = auth.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let bytes = STANDARD_NO_PAD.decode(auth.trim_end_matches('=')).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) = pair.ok_or("an `auth` is not a user name and password in base64")?;
        Ok(Some(Login::Password { username: username.to_owned(), password: password.trim_end_matches('\0').into() }))
    }
}

/// Returns the value of this registry's key. Prefers the key that docker itself writes. Other spellings of the host are
/// accepted too.
fn matching_value<'a, T: ?Sized>(
    pairs: impl Iterator<Item = (&'a str, &'a T)> + Clone,
    host: &RegistryHost,
) -> Option<&'a T> {
    let names = names_of(host);
    let written = helper::server_name(host);
    let exact = pairs.clone().find(|(key, _)| *key == written);
    let equivalent = || names.iter().find_map(|name| pairs.clone().find(|(key, _)| host_of(key) == Some(name)));
    exact.or_else(equivalent).map(|(_, value)| value)
}

/// Returns the host names that keys in credential files use for a registry.
fn names_of(host: &RegistryHost) -> Vec<&str> {
    Flavor::from_host(host).credential_keys.map_or_else(|| vec![host.as_str()], |keys| keys.hosts.to_vec())
}

/// If a key is for a whole host, such as `host` or `https://host/v1/`, returns the host. Returns `None` for the key of
/// a namespace, such as `host/namespace`.
fn host_of(key: &str) -> Option<&str> {
    let bare = key.strip_prefix("https://").or(key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let is_whole_host = bare.is_some() || matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
    is_whole_host.then_some(host)
}

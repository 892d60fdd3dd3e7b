//! Authentication in image-syncer's files and in zot's file of credentials: a user name and a password for each
//! registry or namespace. If several keys are prefixes of a repository, the longest key applies.

use super::super::access::SecretNames;
use super::super::page::Map;
use super::super::reading::{Fields, Reading, View};
use super::super::template::{Content, Template};
use super::super::treatment::unsupported_keys;
use super::keys;
use crate::config::Node;
use crate::oci::{RegistryHost, names_host};

/// Authentication of all registries and namespaces of a file.
#[derive(Default)]
pub(crate) struct AuthRules {
    rules: Vec<AuthRule>,
    comments: Vec<String>,
}

/// Authentication of one registry or namespace.
struct AuthRule {
    /// Registry, or registry and namespace, without a `/` at the end.
    prefix: String,
    credentials: Map,
    is_insecure: bool,
}

/// Returns true if every value of the file is a map with a key of authentication, such as `username`.
pub(crate) fn is_auth(root: &Node) -> bool {
    let has_login = |node: &Node| match node {
        Node::Map(keys) => keys.iter().any(|(key, _)| keys::AUTH.iter().any(|(known, _)| key == known)),
        _ => false,
    };
    matches!(root, Node::Map(pairs) if !pairs.is_empty() && pairs.iter().all(|(_, node)| has_login(node)))
}

/// Reads the authentication. If `has_variables` is true, `$NAME` and `${NAME}` are environment variables.
pub(crate) fn read_auth(view: &View<'_>, has_variables: bool, reading: &mut Reading) -> AuthRules {
    let mut auth = AuthRules::default();
    let mut secrets = SecretNames::default();
    for (key, view) in reading.fields(view, "`auth`").iter() {
        let fields = reading.fields(view, "the authentication of a registry");
        auth.comments.extend(unsupported_keys(&fields, &[&keys::AUTH], "`auth`", reading));
        let prefix = key.trim_end_matches('/').to_owned();
        let first = prefix.split('/').next().unwrap_or_default();
        let Ok(host) = first.parse::<RegistryHost>() else {
            auth.comments.push(reading.add_unknown(view, "this key is not the host of a registry: skipped"));
            continue;
        };
        if !names_host(first) {
            auth.comments.push(reading.add_unknown(view, "this key has no `.` and no port in its host: skipped"));
            continue;
        }
        let is_insecure = reading.bool_of(&fields, "insecure").unwrap_or(false);
        let (credentials, comment) = read_login(&host, (view, &fields), has_variables, &mut secrets, reading);
        auth.comments.extend(comment);
        auth.rules.push(AuthRule { prefix: normalize_host(&host, &prefix), credentials, is_insecure });
    }
    auth
}

/// Returns the prefix with the host in transship's notation, such as `MYREGISTRY/team`.
fn normalize_host(host: &RegistryHost, prefix: &str) -> String {
    let rest = prefix.split_once('/').map(|(_, rest)| format!("/{rest}")).unwrap_or_default();
    format!("{}{rest}", host.in_reference())
}

/// Translates a user name and a password, each as text or as an environment variable. If the user name or the password
/// is missing or empty, returns no credentials.
fn read_login(
    host: &RegistryHost,
    (view, fields): (&View<'_>, &Fields<'_>),
    has_variables: bool,
    secrets: &mut SecretNames,
    reading: &mut Reading,
) -> (Map, Option<String>) {
    let [username, password] = ["username", "password"].map(|key| reading.text_of(fields, key));
    let (Some(username), Some(password)) = (username, password) else {
        let is_partial = fields.get("username").or_else(|| fields.get("password"));
        let comment = is_partial.map(|view| {
            reading.add_remark(view, "a user name without a password, or the reverse, is no authentication")
        });
        return (Map::default(), comment);
    };
    let parse = |text: &str| if has_variables { Template::parse_shell(text) } else { Some(Template::literal(text)) };
    let name = parse(&username).and_then(|template| template.as_text()).filter(|name| !name.contains(':'));
    let Some(name) = name else {
        return (Map::default(), Some(reading.add_unknown(view, "the user name cannot be translated")));
    };
    if let Some(Content::Env(variable)) = parse(&password).and_then(|template| template.content()) {
        let mut credentials = Map::default();
        credentials.text("username", name);
        credentials.inline_map("password", "env", variable);
        return (credentials, None);
    }
    secrets.credentials((host, &name), &password, view, reading)
}

impl AuthRules {
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.comments.is_empty()
    }

    pub(crate) fn comments(&self) -> Vec<String> {
        self.comments.clone()
    }

    /// Returns the credentials that apply to a whole registry. If there are no credentials, the map is empty.
    pub(crate) fn registry_credentials(&self, host: &RegistryHost) -> Map {
        self.find_rule(host.in_reference().as_ref()).map(|rule| rule.credentials.clone()).unwrap_or_default()
    }

    /// Returns true if the file has `insecure: true` for a repository.
    pub(super) fn is_insecure(&self, repository: &str) -> bool {
        self.find_rule(repository).is_some_and(|rule| rule.is_insecure)
    }

    /// Returns the credentials of a repository if they differ from the credentials of its registry. If only the
    /// registry has credentials, returns anonymous access.
    pub(super) fn own_credentials(&self, host: &RegistryHost, repository: &str) -> Option<Map> {
        let own = self.find_rule(repository).map(|rule| rule.credentials.clone()).unwrap_or_default();
        let differ = own != self.registry_credentials(host);
        differ.then(|| if own.is_empty() { super::super::access::anonymous() } else { own })
    }

    fn find_rule(&self, repository: &str) -> Option<&AuthRule> {
        let applies = |rule: &&AuthRule| {
            repository.strip_prefix(rule.prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.rules.iter().filter(applies).max_by_key(|rule| rule.prefix.len())
    }
}

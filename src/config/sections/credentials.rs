//! Section `credentials`: the credentials at a registry, in one of several alternatives. No message in this module
//! repeats the written text, because the text may be a secret.

use super::aws::{AWS, read_aws};
use super::azure::{AZURE, AZURE_WORDS, read_azure};
use super::gcp::{GCP, read_gcp};
use super::secret::{check_readable, read_secret, read_secret_of_lines};
use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::keys::table::{ANY, Alternative, SafeForm, Shape, Table, key};
use crate::config::reader::{Fields, Reader, Value};
use crate::config::yaml::expand::{expand, is_name};
use crate::config::yaml::node::Node;
use crate::registry::{Credentials, DockerConfig, Secret};

/// Pattern of the last part of a credential helper's name.
const HELPER: &str = "^[a-zA-Z0-9._-]+$";

pub(crate) static CREDENTIALS: Table = Table {
    place: "under `credentials`",
    groups: &[&[
        key("username", ANY, "User name. transship may show it.", r#""mirror-bot""#).safe_as(SafeForm::Words),
        key(
            "password",
            Shape::Secret,
            "Password or token: text, {env: NAME} or {file: PATH}. transship never shows it.",
            r#"{"file": "/run/secrets/registry"}"#,
        ),
        key(
            "token",
            Shape::Secret,
            "Identity token (or refresh token) for the registry's token service, instead of a user name and a \
             password: text, {env: NAME} or {file: PATH}. transship never shows it.",
            r#"{"env": "REGISTRY_TOKEN"}"#,
        ),
        key(
            "docker_config",
            ANY,
            "A file in the format of docker's config.json or podman's auth.json. transship reads `auths`, \
             `credHelpers` and `credsStore`.",
            r#""/etc/transship/config.json""#,
        )
        .safe_as(SafeForm::Path),
        key(
            "helper",
            Shape::Text { pattern: HELPER },
            "A docker credential helper, by the last part of its name: `ecr-login` runs docker-credential-ecr-login.",
            r#""ecr-login""#,
        )
        .safe_as(SafeForm::Words),
        key(
            "command",
            Shape::List,
            "A program and its arguments. With `username`, the program prints the password. Without `username`, the \
             program prints USER:PASSWORD, or an identity token, which has no colon. The program must end within 30 s.",
            r#"["pass", "show", "registry"]"#,
        ),
        key(
            "env",
            Shape::Secrets,
            "Additional environment variables for the helper or the command, each text, {env: NAME} or {file: PATH}. \
             Of its own environment, transship passes only PATH, HOME, DOCKER_CONFIG and the variables of proxies and \
             clouds to the program. transship never shows the values.",
            r#"{"VAULT_TOKEN": {"file": "/run/secrets/vault"}}"#,
        ),
        key(
            "azure",
            Shape::WordOr(&AZURE_WORDS, &AZURE),
            "An Entra identity for Azure Container Registry: `managed_identity`, `workload_identity` (from the \
             environment variables that the webhook of workload identity sets), or a map. A map with `client_secret` \
             or `certificate` is an application; any other map is a managed identity.",
            r#""managed_identity""#,
        ),
        key(
            "aws",
            Shape::Map(&AWS),
            "An AWS identity for Elastic Container Registry. `{}` uses the identity of this machine, found by the same \
             rules as in the AWS tools.",
            "{}",
        ),
        key(
            "gcp",
            Shape::Map(&GCP),
            "A Google identity for Artifact Registry. `{}` uses the service account in \
             $GOOGLE_APPLICATION_CREDENTIALS, else the service account of this machine.",
            "{}",
        ),
        key(
            "anonymous",
            Shape::Bool,
            "`true` sends requests without credentials. `false` is not allowed: remove the key instead.",
            "true",
        )
        .safe_as(SafeForm::Words),
    ]],
    required: &[],
};

/// Alternative sets of keys for credentials. If required keys of several alternatives are present, the last of these
/// alternatives applies.
pub(crate) const CREDENTIAL_ALTERNATIVES: &[Alternative] = &[
    Alternative { required: &["username", "password"], optional: &[] },
    Alternative { required: &["token"], optional: &[] },
    Alternative { required: &["docker_config"], optional: &[] },
    Alternative { required: &["helper"], optional: &["env"] },
    Alternative { required: &["command"], optional: &["username", "env"] },
    Alternative { required: &["azure"], optional: &[] },
    Alternative { required: &["aws"], optional: &[] },
    Alternative { required: &["gcp"], optional: &[] },
    Alternative { required: &["anonymous"], optional: &[] },
];

/// Reads the credentials. Returns `None` if the reader recorded a problem.
pub(crate) fn read_credentials(reader: &Reader<'_>, value: &Value<'_>) -> Option<Credentials> {
    if !matches!(value.node, Node::Map(_)) {
        reader.refuse(value, "expected a map of keys like username and password");
        return None;
    }
    let fields = reader.fields(value, &CREDENTIALS)?;
    let alternative = find_alternative(reader, value, &fields);
    let username = fields.get("username").and_then(|value| read_username(reader, value));
    let password = fields.get("password").and_then(|value| read_secret(reader, value));
    let token = fields.get("token").and_then(|value| read_secret(reader, value));
    let docker = fields.get("docker_config").and_then(|value| read_docker_config(reader, value));
    let helper = fields.get("helper").and_then(|value| read_helper(reader, value));
    let command = fields.get("command").and_then(|value| read_command(reader, value));
    let env = match fields.get("env") {
        Some(value) => read_variables(reader, value),
        None => Some(Vec::new()),
    };
    let azure = fields.get("azure").and_then(|value| read_azure(reader, value));
    let aws = fields.get("aws").and_then(|value| read_aws(reader, value));
    let gcp = fields.get("gcp").and_then(|value| read_gcp(reader, value));
    let anonymous = fields.get("anonymous").and_then(|value| read_anonymous(reader, value));
    fields.assert_all_read();
    match alternative? {
        "token" => token.map(Credentials::Token),
        "docker_config" => docker.map(Credentials::DockerConfig),
        "helper" => Some(Credentials::Helper { name: helper?, env: env? }),
        "command" => {
            let username = if fields.has("username") { Some(username?) } else { None };
            Some(Credentials::Command { line: command?, username, env: env? })
        }
        "azure" => azure.map(Credentials::Azure),
        "aws" => aws.map(Credentials::Aws),
        "gcp" => gcp.map(Credentials::Gcp),
        "anonymous" => anonymous,
        _ => Some(Credentials::Password { username: username?, password: password? }),
    }
}

/// Returns the first required key of the alternative that the keys belong to. Records a problem and returns `None` if a
/// required key is missing, or if a key of another alternative is present.
fn find_alternative(reader: &Reader<'_>, value: &Value<'_>, fields: &Fields<'_>) -> Option<&'static str> {
    let is_present = |key: &&str| fields.has(key);
    // A key of the first alternative may also be an optional key of another alternative.
    let meant = CREDENTIAL_ALTERNATIVES.iter().rev().find(|alternative| alternative.required.iter().any(is_present));
    let Some(alternative) = meant else {
        let forms: Vec<String> =
            CREDENTIAL_ALTERNATIVES.iter().map(|alternative| alternative.required.join(" and ")).collect();
        reader.refuse(value, format!("no credentials found: write {}", forms.join(", or ")));
        return None;
    };
    let mut good = true;
    for key in alternative.required.iter().filter(|key| !is_present(key)) {
        reader.refuse(value, format!("`{key}` is missing under `credentials`"));
        good = false;
    }
    let name = alternative.required[0];
    let others = CREDENTIALS.keys().map(|key| key.name);
    for other in others
        .filter(|other| !alternative.required.contains(other) && !alternative.optional.contains(other))
        .filter(is_present)
    {
        reader.refuse(value, format!("`{name}` and `{other}` cannot be used together: remove one of them"));
        good = false;
    }
    good.then_some(name)
}

fn read_username(reader: &Reader<'_>, value: &Value<'_>) -> Option<String> {
    let text = reader.text(value, "a user name")?;
    if text.is_empty() || text.contains(':') {
        reader.refuse(value, "a user name cannot be empty and cannot contain a colon");
        return None;
    }
    Some(text)
}

fn read_docker_config(reader: &Reader<'_>, value: &Value<'_>) -> Option<DockerConfig> {
    let file = reader.path(value, "the path of a file like docker's config.json")?;
    reader.accept(value, check_readable(&file))?;
    Some(DockerConfig { files: vec![file], required: true, namespace: None })
}

fn read_helper(reader: &Reader<'_>, value: &Value<'_>) -> Option<String> {
    let name = reader.text(value, "the name of a credential helper")?;
    let name = name.strip_prefix("docker-credential-").unwrap_or(&name).to_owned();
    let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !good || name.is_empty() {
        let message = "the name of a credential helper has only letters, digits, `.`, `_` and `-`";
        reader.refuse_with_hint(value, message, "write `ecr-login` for the program docker-credential-ecr-login");
        return None;
    }
    Some(name)
}

fn read_command(reader: &Reader<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let items = reader.listed_texts(value, "a list of a program and its arguments")?;
    let line: Option<Vec<String>> = items.iter().map(|item| reader.text(item, "a word of a command")).collect();
    let line = line?;
    if line.first().is_none_or(String::is_empty) {
        reader.refuse(value, "the command has no program: write the program as the first item");
        return None;
    }
    Some(line)
}

/// Reads the variables of a program: a map of names and their values, which may be secrets.
fn read_variables(reader: &Reader<'_>, value: &Value<'_>) -> Option<Vec<(String, Secret)>> {
    if !matches!(value.node, Node::Map(_)) {
        reader.refuse(value, "expected a map of environment variables and their values");
        return None;
    }
    let variable = |(name, value): (&str, Value<'_>)| {
        if !is_name(name) {
            let message = "this is not the name of an environment variable: use only letters, digits and `_`";
            reader.add_problem(Diagnostic::new(&value.path, Part::Key, message.to_owned()));
            return None;
        }
        let text = match value.node {
            // Most variables are not secrets, so plain text causes no warning.
            Node::Text(text) => Secret::Value(reader.accept(&value, expand(text, reader.environment))?.into()),
            _ => read_secret_of_lines(reader, &value)?,
        };
        Some((name.to_owned(), text))
    };
    let all: Vec<_> = value.pairs().map(variable).collect();
    all.into_iter().collect()
}

fn read_anonymous(reader: &Reader<'_>, value: &Value<'_>) -> Option<Credentials> {
    if reader.bool(value)? {
        return Some(Credentials::Anonymous);
    }
    reader.refuse_with_hint(value, "`anonymous: false` selects no credentials", "write the credentials to use instead");
    None
}

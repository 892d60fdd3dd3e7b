//! Section `credentials` under a registry: credentials in one of several ways. No message here repeats the written
//! text: it may be a secret.

use std::path::Path;

use secrecy::SecretString;

use super::azure;
use super::cloud;
use super::registry_keys::{CREDENTIAL_WAYS, CREDENTIALS};
use crate::config::decode::path;
use crate::config::diagnostics::report::{Diagnostic, Part};
use crate::config::reader::{Fields, Reader, Value};
use crate::config::yaml::expand::{expand, is_name};
use crate::config::yaml::node::Node;
use crate::registry::{Credentials, DockerConfig, Secret};
use crate::regular_file;

/// Reads the credentials. Returns `None` if the reader kept a problem.
pub(crate) fn credentials(reader: &Reader<'_>, value: &Value<'_>) -> Option<Credentials> {
    if !matches!(value.node, Node::Map(_)) {
        reader.wrong(value, "expected a map of keys like username and password");
        return None;
    }
    let fields = reader.fields(value, &CREDENTIALS)?;
    let way = way(reader, value, &fields);
    let username = fields.get("username").and_then(|value| username(reader, value));
    let password = fields.get("password").and_then(|value| secret(reader, value));
    let token = fields.get("token").and_then(|value| secret(reader, value));
    let docker = fields.get("docker_config").and_then(|value| docker_config(reader, value));
    let helper = fields.get("helper").and_then(|value| helper(reader, value));
    let command = fields.get("command").and_then(|value| command(reader, value));
    let env = match fields.get("env") {
        Some(value) => variables(reader, value),
        None => Some(Vec::new()),
    };
    let azure = fields.get("azure").and_then(|value| azure::azure(reader, value));
    let aws = fields.get("aws").and_then(|value| cloud::aws(reader, value));
    let gcp = fields.get("gcp").and_then(|value| cloud::gcp(reader, value));
    let anonymous = fields.get("anonymous").and_then(|value| anonymous(reader, value));
    fields.done();
    match way? {
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

/// Returns the key that identifies the way, if all keys that the way needs are present and no others.
fn way(reader: &Reader<'_>, value: &Value<'_>, fields: &Fields<'_>) -> Option<&'static str> {
    let said = |key: &&str| fields.has(key);
    // A single key of the first way may also belong to another way.
    let meant = CREDENTIAL_WAYS.iter().rev().find(|way| way.required.iter().any(said));
    let Some(way) = meant else {
        let ways: Vec<String> = CREDENTIAL_WAYS.iter().map(|way| way.required.join(" and ")).collect();
        reader.wrong(value, format!("this says nobody: write {}", ways.join(", or ")));
        return None;
    };
    let mut good = true;
    for key in way.required.iter().filter(|key| !said(key)) {
        reader.wrong(value, format!("`{key}` is missing under `credentials`"));
        good = false;
    }
    let name = way.required[0];
    let others = CREDENTIALS.keys().map(|key| key.name);
    for other in others.filter(|other| !way.required.contains(other) && !way.optional.contains(other)).filter(said) {
        reader.wrong(value, format!("`{name}` and `{other}` do not go together: one of them is enough"));
        good = false;
    }
    good.then_some(name)
}

fn username(reader: &Reader<'_>, value: &Value<'_>) -> Option<String> {
    let text = reader.text(value, "a user name")?;
    if text.is_empty() || text.contains(':') {
        reader.wrong(value, "a user name cannot be empty, nor have a colon in it");
        return None;
    }
    Some(text)
}

fn docker_config(reader: &Reader<'_>, value: &Value<'_>) -> Option<DockerConfig> {
    let file = path(reader, value, "the path of a file like docker's config.json")?;
    reader.keep(value, readable(&file))?;
    Some(DockerConfig { files: vec![file], required: true, namespace: None })
}

fn helper(reader: &Reader<'_>, value: &Value<'_>) -> Option<String> {
    let name = reader.text(value, "the name of a credential helper")?;
    let name = name.strip_prefix("docker-credential-").unwrap_or(&name).to_owned();
    let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !good || name.is_empty() {
        let message = "a credential helper's name has letters, digits, `.`, `_` and `-` alone";
        reader.wrong_with_hint(value, message, "write `ecr-login` for the program docker-credential-ecr-login");
        return None;
    }
    Some(name)
}

fn command(reader: &Reader<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let items = reader.items(value, "a list of a program and its arguments")?;
    let line: Option<Vec<String>> = items.iter().map(|item| reader.text(item, "a word of a command")).collect();
    let line = line?;
    if line.first().is_none_or(String::is_empty) {
        reader.wrong(value, "a command begins with a program");
        return None;
    }
    Some(line)
}

/// Reads the variables of a program: a map of names and their values, which may be secrets.
fn variables(reader: &Reader<'_>, value: &Value<'_>) -> Option<Vec<(String, Secret)>> {
    if !matches!(value.node, Node::Map(_)) {
        reader.wrong(value, "expected a map of names of variables and their values");
        return None;
    }
    let variable = |(name, value): (&str, Value<'_>)| {
        if !is_name(name) {
            let message = "this is not the name of an environment variable: letters, digits and `_`";
            reader.add(Diagnostic::new(&value.path, Part::Key, message.to_owned()));
            return None;
        }
        let text = match value.node {
            // Most values are not secrets.
            Node::Text(text) => Secret::Value(reader.keep(&value, expand(text, reader.environment))?.into()),
            _ => secret(reader, &value)?,
        };
        Some((name.to_owned(), text))
    };
    let all: Vec<_> = value.pairs().map(variable).collect();
    all.into_iter().collect()
}

fn anonymous(reader: &Reader<'_>, value: &Value<'_>) -> Option<Credentials> {
    if reader.bool(value)? {
        return Some(Credentials::Anonymous);
    }
    reader.wrong_with_hint(value, "`anonymous: false` says nobody else", "write who to be instead");
    None
}

/// Reads a secret. No message here repeats the written text: it may be the secret.
pub(crate) fn secret(reader: &Reader<'_>, value: &Value<'_>) -> Option<Secret> {
    let pairs: Vec<(&str, Value<'_>)> = value.pairs().collect();
    match (value.node, pairs.as_slice()) {
        (Node::Text(text), _) => {
            if !text.contains("${") {
                let message = "a secret stands in the file itself: {env: NAME} or {file: PATH} keep it out";
                reader.doubt(value, message);
            }
            let text = reader.keep(value, expand(text, reader.environment))?;
            known(reader, value, text, "the secret")
        }
        (_, [("env", name)]) => {
            let name_text = reader.text(name, "the name of an environment variable")?;
            if !is_name(&name_text) {
                reader.wrong(name, "this is not the name of an environment variable: letters, digits and `_`");
                return None;
            }
            match (reader.environment)(&name_text) {
                Some(text) => known(reader, name, text, &format!("the environment variable {name_text}")),
                None => {
                    reader.wrong(name, format!("the environment variable {name_text} is not set"));
                    None
                }
            }
        }
        (_, [("file", file)]) => {
            let path = path(reader, file, "the path of a file")?;
            reader.keep(file, readable(&path))?;
            Some(Secret::File(path))
        }
        (Node::Number(_) | Node::Bool(_), _) => {
            reader.wrong_with_hint(value, "a secret is text", "quote it");
            None
        }
        _ => {
            reader.wrong(value, "a secret is text, {env: NAME} or {file: PATH}");
            None
        }
    }
}

fn known(reader: &Reader<'_>, value: &Value<'_>, text: String, what: &str) -> Option<Secret> {
    if text.is_empty() {
        reader.wrong(value, format!("{what} is empty"));
        return None;
    }
    Some(Secret::Value(SecretString::from(text)))
}

/// Checks that a regular file can be read. Any other kind of file is refused: it could block a run or be endless.
pub(crate) fn readable(path: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("the file {} cannot be read: {error}", path.display());
    regular_file::open(path).map(drop).map_err(cannot)
}

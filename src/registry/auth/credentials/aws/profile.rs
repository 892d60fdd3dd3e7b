//! Profile files of Amazon's tools, `~/.aws/credentials` and `~/.aws/config` ("AWS SDKs and Tools Reference Guide",
//! "Shared config and credentials files"): the settings of one profile, and the source of the profile's access keys.

use std::collections::BTreeMap;
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::super::secret::read_text;
use super::keys::Keys;
use crate::registry::Variables;
use crate::registry::auth::error::AuthError;

/// Settings of one profile. The type does not implement `Debug`, because `Debug` output would show secrets.
#[derive(Default)]
pub(super) struct Profile(BTreeMap<String, SecretString>);

/// Role that the client assumes to obtain access keys.
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session: Option<String>,
    pub(super) external_id: Option<String>,
}

/// Source of the access keys of a profile.
pub(super) enum KeySource {
    /// The profile contains the keys.
    Keys(Keys),
    /// The client assumes a role with the token of a third party. `token` is the path of the file with the token.
    WebIdentity { role: String, token: String, session: Option<String> },
    /// The client assumes a role with the keys of the profile `source`.
    Role { role: Role, source: String },
    /// The client assumes a role with the keys of `source`, the value of `credential_source` in the profile.
    RoleFromSource { role: Role, source: String },
}

/// Returns the settings of a profile, merged from `config` and `credentials`; `None` if no file has the profile.
pub(super) async fn read(variables: &Variables, name: &str) -> Result<Option<Profile>, AuthError> {
    let home = variables.get("HOME").map(|home| Path::new(home).join(".aws"));
    let file_path = |variable: &str, file: &str| {
        let named = variables.get(variable).map(PathBuf::from);
        named.or_else(|| Some(home.as_ref()?.join(file)))
    };
    let mut found: Option<Profile> = None;
    // The loop reads the credentials file last, because the settings of the credentials file take precedence.
    for (path, in_config) in [
        (file_path("AWS_CONFIG_FILE", "config"), true),
        (file_path("AWS_SHARED_CREDENTIALS_FILE", "credentials"), false),
    ] {
        let Some(path) = path else { continue };
        let Some(text) = read_file(&path).await? else { continue };
        if let Some(profile) = find_section(text.expose_secret(), name, in_config) {
            found.get_or_insert_default().0.extend(profile.0);
        }
    }
    Ok(found)
}

async fn read_file(path: &Path) -> Result<Option<SecretString>, AuthError> {
    let failed = |reason: String| AuthError::denied(format!("{} cannot be read: {reason}", path.display()));
    let text = match read_text(path).await {
        Ok(text) => text,
        // If this process has no permission to read the file, the file counts as missing.
        Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory | Io::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    Ok(Some(text.into()))
}

/// Returns the section of a profile: `[name]`, or `[profile name]` in the file `config`.
fn find_section(text: &str, name: &str, in_config: bool) -> Option<Profile> {
    let (mut found, mut inside) = (None, false);
    for line in text.lines() {
        let trimmed = line.trim_start();
        if trimmed.starts_with(['#', ';']) || trimmed.is_empty() {
            continue;
        }
        if let Some(title) = trimmed.strip_prefix('[') {
            let title = title.split(']').next().unwrap_or_default().trim();
            let of_profile = title.strip_prefix("profile").filter(|rest| rest.starts_with(char::is_whitespace));
            let plain = (!in_config || title == "default").then_some(title);
            inside = of_profile.map(str::trim).filter(|_| in_config).or(plain) == Some(name);
            if inside {
                found.get_or_insert_with(Profile::default);
            }
            continue;
        }
        // An indented line is a nested setting of the key above the line. The parser skips nested settings.
        if let (true, false, Some((key, value))) = (inside, line.starts_with(char::is_whitespace), line.split_once('='))
            && let Some(Profile(pairs)) = &mut found
        {
            pairs.insert(key.trim().to_ascii_lowercase(), without_comment(value).into());
        }
    }
    found
}

/// Returns a value without the comment at its end. A comment begins with ` #` or ` ;`.
fn without_comment(value: &str) -> &str {
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    value[..end.unwrap_or(value.len())].trim()
}

impl Profile {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|text| text.expose_secret()).filter(|text| !text.is_empty())
    }

    fn get_owned(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    /// Returns the source of the profile's access keys.
    pub(super) fn key_source(&self, name: &str) -> Result<KeySource, AuthError> {
        let wrong = |what: &str| Err(AuthError::denied(format!("the AWS profile {name} {what}")));
        if let Some(arn) = self.get_owned("role_arn") {
            let session = self.get_owned("role_session_name");
            if let Some(token) = self.get_owned("web_identity_token_file") {
                return Ok(KeySource::WebIdentity { role: arn, token, session });
            }
            if self.get("mfa_serial").is_some() {
                return wrong("requires multi-factor authentication (`mfa_serial`), which is not supported");
            }
            let role = Role { arn, session, external_id: self.get_owned("external_id") };
            match (self.get_owned("source_profile"), self.get_owned("credential_source")) {
                // The client does not support a profile whose `source_profile` is the profile itself.
                (Some(source), _) if source != name => return Ok(KeySource::Role { role, source }),
                (None, Some(source)) => return Ok(KeySource::RoleFromSource { role, source }),
                _ => {
                    return wrong(
                        "has a role_arn, but neither another profile as source_profile nor a credential_source",
                    );
                }
            }
        }
        if let (Some(id), Some(secret)) = (self.get_owned("aws_access_key_id"), self.get("aws_secret_access_key")) {
            return Ok(KeySource::Keys(Keys::new(id, secret.into(), self.get("aws_session_token").map(Into::into))));
        }
        if ["sso_session", "sso_start_url", "credential_process", "login_session"]
            .iter()
            .any(|key| self.get(key).is_some())
        {
            return wrong("uses an unsupported login method: `helper: ecr-login` may support it");
        }
        wrong("has no keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "# mine\n[default]\nregion = eu-west-1\n\n[profile  a]\nrole_arn=arn:a ; why\n\
                          source_profile = b\ns3 =\n  aws_access_key_id = nested\n[b]\naws_access_key_id = ignored\n";
    const KEYS: &str = "[b]\r\naws_access_key_id = AKB\r\nAWS_Secret_Access_Key = s#cr=t/+ # a comment\r\n[default]\n";

    #[test]
    fn profile_section_is_found_in_config_and_credentials_files() {
        let get = |text: &str, name: &str, in_config: bool, key: &str| {
            find_section(text, name, in_config).map(|profile| profile.get_owned(key).unwrap_or_default())
        };
        assert_eq!(get(CONFIG, "a", true, "role_arn").as_deref(), Some("arn:a"));
        assert_eq!(get(CONFIG, "a", true, "aws_access_key_id").as_deref(), Some(""));
        assert_eq!(get(CONFIG, "b", true, "aws_access_key_id"), None);
        assert_eq!(get(CONFIG, "default", true, "region").as_deref(), Some("eu-west-1"));
        assert_eq!(get(KEYS, "b", false, "aws_secret_access_key").as_deref(), Some("s#cr=t/+"));
        assert_eq!(get(KEYS, "default", false, "aws_access_key_id").as_deref(), Some(""));
        assert_eq!(get(KEYS, "profile b", false, "aws_access_key_id"), None);
    }

    #[test]
    fn unusable_profile_is_refused_with_its_reason() {
        for (text, what) in [
            ("region = x", "has no keys"),
            ("sso_session = x", "uses an unsupported login method: `helper: ecr-login` may support it"),
            (
                "role_arn = x\nmfa_serial = y\nsource_profile = b",
                "requires multi-factor authentication (`mfa_serial`), which is not supported",
            ),
            ("role_arn = x", "has a role_arn, but neither another profile as source_profile nor a credential_source"),
        ] {
            let error = find_section(&format!("[a]\n{text}\n"), "a", false).unwrap().key_source("a").err().unwrap();
            assert_eq!(error.detail, format!("the AWS profile a {what}"));
        }
    }
}

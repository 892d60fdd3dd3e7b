//! The profile files of Amazon's tools, `~/.aws/credentials` and `~/.aws/config` ("AWS SDKs and Tools Reference Guide",
//! "Shared config and credentials files"): what one profile says, and by which way it comes to keys.

use std::collections::BTreeMap;
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::super::secret::read_text;
use super::keys::Keys;
use crate::registry::Variables;
use crate::registry::auth::AuthError;

/// What is said under one name. No `Debug`: it would show secrets.
#[derive(Default)]
pub(super) struct Profile(BTreeMap<String, SecretString>);

/// A role to take on.
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session: Option<String>,
    pub(super) external_id: Option<String>,
}

/// How a profile comes to keys.
pub(super) enum Way {
    Keys(Keys),
    WebIdentity {
        role: String,
        token: String,
        session: Option<String>,
    },
    /// By a role, with the keys of another profile.
    Role {
        role: Role,
        source: String,
    },
    /// By a role, with the keys of a source that has a name of Amazon's.
    RoleOf {
        role: Role,
        source: String,
    },
}

/// What both files say of a profile; `None` where neither does.
pub(super) async fn read(variables: &Variables, name: &str) -> Result<Option<Profile>, AuthError> {
    let home = variables.get("HOME").map(|home| Path::new(home).join(".aws"));
    let place = |variable: &str, file: &str| {
        let named = variables.get(variable).map(PathBuf::from);
        named.or_else(|| Some(home.as_ref()?.join(file)))
    };
    let mut found: Option<Profile> = None;
    // The file with the credentials counts more.
    for (path, in_config) in
        [(place("AWS_CONFIG_FILE", "config"), true), (place("AWS_SHARED_CREDENTIALS_FILE", "credentials"), false)]
    {
        let Some(path) = path else { continue };
        let Some(text) = text_of(&path).await? else { continue };
        if let Some(profile) = section(text.expose_secret(), name, in_config) {
            found.get_or_insert_default().0.extend(profile.0);
        }
    }
    Ok(found)
}

async fn text_of(path: &Path) -> Result<Option<SecretString>, AuthError> {
    let failed = |reason: String| AuthError::denied(format!("{} cannot be read: {reason}", path.display()));
    let text = match read_text(path).await {
        Ok(text) => text,
        // A home that is closed to a service has nothing for it.
        Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory | Io::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    Ok(Some(text.into()))
}

/// What a file says under a name: `[name]`, and `[profile name]` in the file that is named `config`.
fn section(text: &str, name: &str, in_config: bool) -> Option<Profile> {
    let (mut found, mut inside) = (None, false);
    for line in text.lines() {
        let begins = line.trim_start();
        if begins.starts_with(['#', ';']) || begins.is_empty() {
            continue;
        }
        if let Some(title) = begins.strip_prefix('[') {
            let title = title.split(']').next().unwrap_or_default().trim();
            let of_profile = title.strip_prefix("profile").filter(|rest| rest.starts_with(char::is_whitespace));
            let plain = (!in_config || title == "default").then_some(title);
            inside = of_profile.map(str::trim).filter(|_| in_config).or(plain) == Some(name);
            if inside {
                found.get_or_insert_with(Profile::default);
            }
            continue;
        }
        // What is indented belongs to the key above, which is none that is looked at.
        if let (true, false, Some((key, value))) = (inside, line.starts_with(char::is_whitespace), line.split_once('='))
            && let Some(Profile(pairs)) = &mut found
        {
            pairs.insert(key.trim().to_ascii_lowercase(), without_comment(value).into());
        }
    }
    found
}

/// A value without what follows a ` #` or a ` ;`.
fn without_comment(value: &str) -> &str {
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    value[..end.unwrap_or(value.len())].trim()
}

impl Profile {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|text| text.expose_secret()).filter(|text| !text.is_empty())
    }

    fn owned(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    /// How it comes to keys.
    pub(super) fn way(&self, name: &str) -> Result<Way, AuthError> {
        let wrong = |what: &str| Err(AuthError::denied(format!("the profile {name} of Amazon's {what}")));
        if let Some(arn) = self.owned("role_arn") {
            let session = self.owned("role_session_name");
            if let Some(token) = self.owned("web_identity_token_file") {
                return Ok(Way::WebIdentity { role: arn, token, session });
            }
            if self.get("mfa_serial").is_some() {
                return wrong("needs a person with a second factor");
            }
            let role = Role { arn, session, external_id: self.owned("external_id") };
            match (self.owned("source_profile"), self.owned("credential_source")) {
                // A profile that is its own source has the keys for its role.
                (Some(source), _) if source != name => return Ok(Way::Role { role, source }),
                (None, Some(source)) => return Ok(Way::RoleOf { role, source }),
                _ => return wrong("has a role_arn without another profile as source_profile, or a credential_source"),
            }
        }
        if let (Some(id), Some(secret)) = (self.owned("aws_access_key_id"), self.get("aws_secret_access_key")) {
            return Ok(Way::Keys(Keys::of(id, secret.into(), self.get("aws_session_token").map(Into::into))));
        }
        if ["sso_session", "sso_start_url", "credential_process", "login_session"]
            .iter()
            .any(|key| self.get(key).is_some())
        {
            return wrong("signs in by a way that is not known here: `helper: ecr-login` may know it");
        }
        wrong("has no keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "# mine\n[default]\nregion = eu-west-1\n\n[profile  a]\nrole_arn=arn:a ; why\nsource_profile = b\n\
                          s3 =\n  aws_access_key_id = nested\n[b]\naws_access_key_id = ignored\n";
    const KEYS: &str = "[b]\r\naws_access_key_id = AKB\r\nAWS_Secret_Access_Key = s#cr=t/+ # a comment\r\n[default]\n";

    #[test]
    fn the_section_of_a_profile_is_found_as_each_of_the_two_files_writes_it() {
        let get = |text: &str, name: &str, in_config: bool, key: &str| {
            section(text, name, in_config).map(|profile| profile.owned(key).unwrap_or_default())
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
    fn a_profile_that_cannot_be_used_says_why() {
        for (text, what) in [
            ("region = x", "has no keys"),
            ("sso_session = x", "signs in by a way that is not known here: `helper: ecr-login` may know it"),
            ("role_arn = x\nmfa_serial = y\nsource_profile = b", "needs a person with a second factor"),
            ("role_arn = x", "has a role_arn without another profile as source_profile, or a credential_source"),
        ] {
            let error = section(&format!("[a]\n{text}\n"), "a", false).unwrap().way("a").err().unwrap();
            assert_eq!(error.detail, format!("the profile a of Amazon's {what}"));
        }
    }
}

//! Descriptions of the origin of a login, for messages. The origin is a key of the configuration, an environment
//! variable, a file or a program. A description never contains a secret.

use std::path::Path;

use crate::registry::options::cloud::{Azure, AzureIdentity};
use crate::registry::{Credentials, Secret};

/// Describes the origin of these credentials. Returns `None` in these cases:
///
/// - The credentials are anonymous.
/// - The identity in the message already names the origin.
/// - The credentials come from docker's configuration. [`super::docker`] describes this origin, because a search
///   determines the file for each login.
pub(super) fn describe(credentials: &Credentials) -> Option<String> {
    match credentials {
        Credentials::Anonymous | Credentials::DockerConfig(_) | Credentials::Aws(_) => None,
        Credentials::Password { password, .. } => Some(describe_secret("password", password)),
        Credentials::Token(token) => Some(describe_secret("token", token)),
        Credentials::Helper { name, .. } => Some(describe_helper(name)),
        Credentials::Command { line, .. } => {
            line.first().map(|program| format!("password from the output of the command {program}"))
        }
        Credentials::Azure(Azure { identity, .. }) => match identity {
            AzureIdentity::Managed { client_id: None } => None,
            AzureIdentity::Managed { client_id: Some(_) } => Some("managed identity".to_owned()),
            AzureIdentity::Workload { token, .. } => Some(describe_secret("token", token)),
            AzureIdentity::Application { client_secret, .. } => Some(describe_secret("client_secret", client_secret)),
            AzureIdentity::Certified { key, .. } => Some(format!("key from the file {}", key.display())),
        },
        Credentials::Gcp(gcp) => gcp.key.as_ref().map(|key| format!("key from the file {}", key.display())),
    }
}

/// Returns the operator's next step after a registry refused these credentials.
pub(super) fn describe_check(credentials: &Credentials) -> &'static str {
    match credentials {
        Credentials::Token(_) => "check the token",
        Credentials::Azure(_) | Credentials::Aws(_) | Credentials::Gcp(_) => "check this identity at the cloud",
        Credentials::Anonymous
        | Credentials::Password { .. }
        | Credentials::DockerConfig(_)
        | Credentials::Helper { .. }
        | Credentials::Command { .. } => "check the user name and the password",
    }
}

/// Describes the origin of a secret. `key` is the key of the secret under `credentials`.
fn describe_secret(key: &str, secret: &Secret) -> String {
    match secret {
        Secret::Value(_) => format!("{key} from the configuration"),
        Secret::Variable { name, .. } => format!("{key} from the environment variable {name}"),
        Secret::File(path) => format!("{key} from the file {}", path.display()),
    }
}

fn describe_helper(name: &str) -> String {
    format!("login from the helper docker-credential-{name}")
}

/// Describes the origin of a login from a file of docker's configuration. `helper` is the credential helper that the
/// file names for the registry. `None` if the file itself contains the login.
pub(super) fn describe_docker(file: &Path, helper: Option<&str>) -> String {
    match helper {
        Some(name) => format!("{}, which {} names", describe_helper(name), file.display()),
        None => format!("login from the file {}", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_of_a_password_names_key_variable_or_file() {
        let origin = |password: Secret| describe(&Credentials::Password { username: "bot".into(), password }).unwrap();
        let value = || "hunter2".to_owned().into();
        assert_eq!(origin(Secret::Value(value())), "password from the configuration");
        let variable = Secret::Variable { name: "REGISTRY_PASSWORD".into(), value: value() };
        assert_eq!(origin(variable), "password from the environment variable REGISTRY_PASSWORD");
        assert_eq!(origin(Secret::File("/run/secrets/bot".into())), "password from the file /run/secrets/bot");
    }

    #[test]
    fn refused_credentials_are_checked_by_their_kind() {
        assert_eq!(describe_check(&Credentials::Token(Secret::File("/t".into()))), "check the token");
        let identity = AzureIdentity::Managed { client_id: None };
        let service = || "http://127.0.0.1/".parse().unwrap();
        let azure = Credentials::Azure(Azure { identity, imds: service(), authority: service() });
        assert_eq!(describe_check(&azure), "check this identity at the cloud");
        let helper = Credentials::Helper { name: "pass".into(), env: Vec::new() };
        assert_eq!(describe_check(&helper), "check the user name and the password");
    }

    #[test]
    fn origin_of_a_login_names_the_program_that_printed_it() {
        let helper = Credentials::Helper { name: "pass".into(), env: Vec::new() };
        assert_eq!(describe(&helper).unwrap(), "login from the helper docker-credential-pass");
        let command = Credentials::Command { line: vec!["vault".into(), "read".into()], username: None, env: vec![] };
        assert_eq!(describe(&command).unwrap(), "password from the output of the command vault");
        let file = Path::new("/root/.docker/config.json");
        assert_eq!(
            describe_docker(file, Some("pass")),
            "login from the helper docker-credential-pass, which /root/.docker/config.json names"
        );
        assert_eq!(describe_docker(file, None), "login from the file /root/.docker/config.json");
        assert_eq!(describe(&Credentials::Anonymous), None);
    }
}

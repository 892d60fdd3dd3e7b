//! Names of environment variables for imported secrets.

use crate::oci::RegistryHost;

/// Returns the name of an environment variable for a secret of a host, such as `REGISTRY_EXAMPLE_COM_PASSWORD`.
pub(super) fn variable_name(host: &RegistryHost, what: &str) -> String {
    let name: String =
        host.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    let name = name.trim_matches('_');
    let prefix = if name.starts_with(|c: char| c.is_ascii_alphabetic()) { "" } else { "REGISTRY_" };
    format!("{prefix}{name}_{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_gives_a_valid_shell_variable_name() {
        let name = |host: &str| variable_name(&host.parse().unwrap(), "PASSWORD");
        assert_eq!(name("docker.io"), "DOCKER_IO_PASSWORD");
        assert_eq!(name("10.0.0.5:5000"), "REGISTRY_10_0_0_5_5000_PASSWORD");
        assert_eq!(name("[::1]:5000"), "REGISTRY_1__5000_PASSWORD");
    }
}

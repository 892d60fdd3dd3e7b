//! Registry hosts, repository names and tags, with the grammar of distribution-spec, "Pulling manifests".

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Error of parsing a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A text that is not `host` or `host:port`.
    #[error("{0:?} is not a registry host: expected a name like docker.io or 10.0.0.5:5000")]
    Host(String),
    /// A text outside `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/…)*`, or longer than 255 characters.
    #[error("{0:?} is not a repository name: lower-case letters, digits, `.`, `_`, `-` and `/` between parts")]
    Repository(String),
    /// A text outside `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    #[error("{0:?} is not a tag: up to 128 letters, digits, `_`, `.` and `-`, and not `.` or `-` first")]
    Tag(String),
}

macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

/// Registry: `host` or `host:port`, in lower case. The parser converts Docker's old names (`index.docker.io`,
/// `registry-1.docker.io`) to `docker.io`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryHost(std::sync::Arc<str>);
text_type!(RegistryHost);

impl RegistryHost {
    /// Returns true for Docker Hub (`docker.io`). The API and the stored credentials of Docker Hub use other host
    /// names.
    #[must_use]
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == "docker.io"
    }

    /// Returns false for Docker Hub, which answers only over TLS.
    #[must_use]
    pub fn may_speak_plain_http(&self) -> bool {
        !self.is_docker_hub()
    }

    /// Returns the text for the host in a reference. If the host is one label without a port, such as `myregistry`, the
    /// text is in upper case (`MYREGISTRY`), because `myregistry/app` in lower case would be a repository of Docker
    /// Hub.
    #[must_use]
    pub fn in_reference(&self) -> Cow<'_, str> {
        if names_host(&self.0) { Cow::Borrowed(&self.0) } else { Cow::Owned(self.0.to_ascii_uppercase()) }
    }

    /// Returns the host without its port (an IPv6 address keeps its brackets).
    #[must_use]
    pub fn name(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => &self.0,
        }
    }
}

/// Returns true if `first`, the text before the first `/` of a reference, names a registry (distribution/reference,
/// `splitDockerDomain`). The name of a registry has a `.`, a `:` or an upper-case letter, or is `localhost`. Any other
/// text is a part of a repository name at Docker Hub.
#[must_use]
pub fn names_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '[']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

impl FromStr for RegistryHost {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = text.to_ascii_lowercase();
        let refused = || NameError::Host(text.to_owned());
        let (name, port) = match lower.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (lower.as_str(), None),
        };
        if let Some(port) = port {
            port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(refused)?;
        }
        let good = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let label = |label: &str| {
                    !label.is_empty()
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                };
                name.len() <= 253 && name.split('.').all(label)
            }
        };
        if !good {
            return Err(refused());
        }
        Ok(Self(match lower.as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
            other => other.into(),
        }))
    }
}

/// Name of a repository within its registry: `library/python`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(std::sync::Arc<str>);
text_type!(RepositoryName);

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= 255 && text.split('/').all(is_path_component) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Repository(text.to_owned()))
        }
    }
}

/// Returns true for `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().copied().is_some_and(alphanumeric) || !bytes.last().copied().is_some_and(alphanumeric) {
        return false;
    }
    bytes
        .split(|b| alphanumeric(*b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

/// Tag: a movable name of a manifest in one repository.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(std::sync::Arc<str>);
text_type!(Tag);

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if good { Ok(Self(text.into())) } else { Err(NameError::Tag(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_grammar() {
        for good in ["a", "library/python", "a.b_c__d-e---f/0", "team/api/v2"] {
            assert_eq!(good.parse::<RepositoryName>().unwrap().as_str(), good);
        }
        for bad in ["", "A", "a/", "/a", "a//b", "a..b", "a___b", "-a", "a-", "a._b", "a b", "a:b", "../x"] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(256).parse::<RepositoryName>().is_err());
    }

    #[test]
    fn tags_follow_the_grammar() {
        for good in ["latest", "_x", "3.12-slim", "V1", &"a".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good:?}");
        }
        for bad in ["", ".a", "-a", "sha256:abc", "a/b", "a b", "é", &"a".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hosts_are_lower_cased_and_docker_hub_canonical() {
        assert_eq!("index.docker.io".parse::<RegistryHost>().unwrap().as_str(), "docker.io");
        assert_eq!("GHCR.io".parse::<RegistryHost>().unwrap().as_str(), "ghcr.io");
        for good in ["localhost", "10.0.0.5:5000", "[::1]:5000", "[::1]", "my_registry:80"] {
            assert!(good.parse::<RegistryHost>().is_ok(), "{good:?}");
        }
        for bad in ["", "a..b", "host:", "host:0", "host:99999", "http://x", "a/b", "user@host", "[zz]:1"] {
            assert!(bad.parse::<RegistryHost>().is_err(), "{bad:?}");
        }
        assert_eq!("[::1]:5000".parse::<RegistryHost>().unwrap().name(), "[::1]");
        assert_eq!("[::1]".parse::<RegistryHost>().unwrap().name(), "[::1]");
        assert_eq!("h:5".parse::<RegistryHost>().unwrap().name(), "h");
    }

    #[test]
    fn host_printed_in_reference_is_recognised_as_host() {
        for (host, written) in [
            ("MyRegistry", "MYREGISTRY"),
            ("my_registry", "MY_REGISTRY"),
            ("registry:5000", "registry:5000"),
            ("localhost", "localhost"),
            ("GHCR.io", "ghcr.io"),
            ("[::1]", "[::1]"),
        ] {
            let host: RegistryHost = host.parse().unwrap();
            assert_eq!(host.in_reference(), written);
            assert!(names_host(written), "{written}");
            assert_eq!(written.parse::<RegistryHost>().unwrap(), host);
        }
    }
}

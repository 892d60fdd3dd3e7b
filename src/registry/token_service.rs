//! The token service of a registry, as `token_service` in the configuration names it: the one host beside the registry's own
//! that an operator trusts with the credentials, whatever its address.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// A host, and a port where only that one is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenService {
    host: String,
    port: Option<u16>,
}

/// A text that is not a [`TokenService`]. It is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no token service: expected HOST, HOST:PORT or https://HOST[:PORT]/PATH, without a user")]
pub struct TokenServiceError;

impl FromStr for TokenService {
    type Err = TokenServiceError;

    fn from_str(text: &str) -> Result<Self, TokenServiceError> {
        let has_scheme = text.contains("://");
        let url = if has_scheme { text.to_owned() } else { format!("https://{text}") };
        let url: Url = url.parse().map_err(|_| TokenServiceError)?;
        let is_bare = url.username().is_empty() && url.password().is_none();
        // Without a scheme there is nothing but a host: what looks like a path is a mistake.
        let good = matches!(url.scheme(), "http" | "https") && is_bare && (has_scheme || url.path() == "/");
        let host = url.host_str().filter(|host| good && !host.is_empty()).ok_or(TokenServiceError)?.to_owned();
        let written = text.strip_prefix(host.as_str()).and_then(|rest| rest.strip_prefix(':'));
        let port = match has_scheme {
            true => url.port_or_known_default(),
            // The default port is not kept in an address.
            false => url.port().or_else(|| written?.parse().ok()),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for TokenService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl TokenService {
    /// Whether an address is that of this service.
    pub(crate) fn is_at(&self, url: &Url) -> bool {
        url.host_str() == Some(&self.host) && self.port.is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_at(service: &str, url: &str) -> bool {
        service.parse::<TokenService>().unwrap().is_at(&url.parse().unwrap())
    }

    #[test]
    fn a_token_service_is_named_by_host_port_or_address() {
        assert!(is_at("auth.example", "https://auth.example/token"));
        assert!(is_at("auth.example", "http://auth.example:5001/token"));
        assert!(is_at("auth.example:5001", "http://auth.example:5001/token"));
        assert!(is_at("auth.example:443", "https://auth.example/token"));
        assert!(!is_at("auth.example:443", "https://auth.example:444/token"));
        assert!(is_at("https://auth.example/token", "https://auth.example/other"));
        assert!(!is_at("https://auth.example/token", "http://auth.example/other"));
        assert!(is_at("10.0.0.5", "https://10.0.0.5/token") && is_at("[::1]:81", "http://[::1]:81/t"));
        assert!(!is_at("auth.example", "https://auth.example.evil/token"));
    }

    #[test]
    fn a_text_that_names_no_host_is_refused_without_being_repeated() {
        for text in [
            "",
            "https://",
            "me:secret@auth.example",
            "https://me:secret@auth.example",
            "auth.example/token",
            "ftp://a",
            "a b",
        ] {
            let error = text.parse::<TokenService>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

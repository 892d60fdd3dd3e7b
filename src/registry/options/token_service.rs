//! Token service that an operator configures for a registry (`token_service`). The service can be at a local address.
//! The client sends the credentials to this service even if the registry uses plain HTTP.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// Host of a token service. If there is a port, the client trusts only this port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenService {
    host: String,
    port: Option<u16>,
}

/// Error of a text that is not a [`TokenService`]. The message does not repeat the text, because the text can contain a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a token service: expected HOST, HOST:PORT or https://HOST[:PORT]/PATH, without a user")]
pub struct TokenServiceError;

impl FromStr for TokenService {
    type Err = TokenServiceError;

    fn from_str(text: &str) -> Result<Self, TokenServiceError> {
        let has_scheme = text.contains("://");
        let url = if has_scheme { text.to_owned() } else { format!("https://{text}") };
        let url: Url = url.parse().map_err(|_| TokenServiceError)?;
        let is_bare = url.username().is_empty() && url.password().is_none();
        // Without a scheme, only a host and a port are allowed.
        let good = matches!(url.scheme(), "http" | "https") && is_bare && (has_scheme || url.path() == "/");
        let host = url.host_str().filter(|host| good && !host.is_empty()).ok_or(TokenServiceError)?.to_owned();
        let written = text.strip_prefix(host.as_str()).and_then(|rest| rest.strip_prefix(':'));
        let port = match has_scheme {
            true => url.port_or_known_default(),
            // `Url` drops the default port of its scheme.
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
    /// Returns true if a URL belongs to this service.
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
    fn token_service_matches_by_host_port_or_url() {
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
    fn text_without_host_is_refused_and_not_quoted() {
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

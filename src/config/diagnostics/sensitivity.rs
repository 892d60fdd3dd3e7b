//! Sensitivity of values: judges by the key and by the text itself if a value may be a secret; pure. `redact` decides
//! on the ranges to cover.

use crate::config::keys::{SIDES, Table};
use crate::config::reader::nearest;
use crate::config::sections::cloud_keys::{AWS, GCP};
use crate::config::sections::endpoint::has_user_info;
use crate::config::sections::notify::{NOTIFY, WEBHOOK};
use crate::config::sections::push_events::{HOOKS, RECEIVER};
use crate::config::sections::registry_keys::{AZURE, CREDENTIALS, TLS};

/// Sections in which a value may be a secret unless it is known to be harmless.
const SECTIONS: [&str; 4] = ["push_events", "notify", "proxy", "tls"];
/// Words of keys that take a secret, for comparison with a misspelt key.
const SECRET_WORDS: [&str; 4] = ["password", "credentials", "webhook", "secret"];
/// Prefixes of tokens of well-known services.
const TOKENS: [&str; 14] = [
    "AKIA",
    "ASIA",
    "dckr_",
    "eyJ",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "npm_",
    "whsec_",
    "xoxb-",
    "xoxp-",
];
/// Minimum number of characters at which a word of mixed letters and digits counts as a token.
const TOKEN_LENGTH: usize = 20;

/// Kind of map that a key is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    /// Settings that have no secrets.
    Settings,
    /// `push_events`, `notify`, `proxy` or `tls`.
    Section,
    /// Map of such sections by names that the user gave: `push_events.receivers`.
    Names,
    /// Credentials or a webhook, where a key may be the secret itself.
    Credentials,
}

impl Among {
    /// Returns the kind of the maps with the keys of a table.
    pub(crate) fn table(table: &'static Table) -> Self {
        let is = |known: &&&'static Table| std::ptr::eq(table, **known);
        if [&CREDENTIALS, &AZURE, &AWS, &GCP, &SIDES, &WEBHOOK].iter().any(|known| is(&known)) {
            Self::Credentials
        } else if [&TLS, &HOOKS, &NOTIFY, &RECEIVER].iter().any(|known| is(&known)) {
            Self::Section
        } else {
            Self::Settings
        }
    }

    /// Returns the kind of the map that is the value of a key in a map of this kind.
    pub(crate) fn below(self, key: &str) -> Self {
        if self == Self::Names {
            Self::Section
        } else if self == Self::Section && key == "receivers" {
            Self::Names
        } else if self == Self::Credentials || sounds_secret(key) {
            Self::Credentials
        } else if self == Self::Section || SECTIONS.contains(&key) {
            Self::Section
        } else {
            Self::Settings
        }
    }
}

/// Returns true if a key implies that the values below it may be secrets or may contain one.
pub(crate) fn leads_to_secrets(key: &str) -> bool {
    sounds_secret(key) || SECTIONS.contains(&key)
}

/// Returns true if an unknown key can be shown:
/// - among credentials, if it nearly matches a known key
/// - in other sections with secrets, also if it is a plain word
/// - elsewhere, if it is one word
pub(crate) fn may_show(key: &str, among: Among) -> bool {
    match among {
        Among::Names => is_plain(key),
        Among::Settings => (!sounds_secret(key) || is_one_word(key)) && !hides_secret(key),
        Among::Section => {
            is_near(key, &[&TLS, &HOOKS, &NOTIFY, &RECEIVER, &WEBHOOK]) || is_plain(key) && !sounds_secret(key)
        }
        Among::Credentials => is_near(key, &[&CREDENTIALS, &AZURE, &AWS, &GCP, &SIDES, &WEBHOOK]),
    }
}

/// Returns true if a key is one word and contains no value.
pub(crate) fn is_one_word(key: &str) -> bool {
    key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn is_near(key: &str, tables: &[&'static Table]) -> bool {
    let known = tables.iter().flat_map(|table| table.keys()).map(|key| key.name).chain(["env", "file"]);
    nearest(key, known).is_some()
}

/// Returns true if a scalar right under a key of credentials or of a section with secrets is a value that the key
/// takes, and no secret: a name, a path, an address.
pub(crate) fn is_harmless(key: &str, text: &str) -> bool {
    if hides_secret(text) {
        return false;
    }
    match key {
        "env" => is_variable(text),
        "file" | "docker_config" | "ca" | "certificate" | "key" => is_path(text),
        "username" | "helper" | "kind" | "on" | "anonymous" | "insecure_skip_verify" => is_plain(text),
        "listen" | "registry" | "proxy" => is_site(text),
        _ => is_variable(text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap_or_default()),
    }
}

/// Returns true for `REGISTRY_PASSWORD`: the usual form of an environment variable's name.
fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Returns true for words of lower-case letters.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || matches!(c, ' ' | '_' | '-' | '.' | '/'))
}

/// Returns true for a path with a folder in it and of the usual characters, or for a file name with an extension:
/// `ca.pem`.
fn is_path(text: &str) -> bool {
    let is_file = text.rsplit_once('.').is_some_and(|(name, kind)| {
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b"_-.".contains(&b));
        !name.is_empty() && (1..=8).contains(&kind.len()) && word(name) && word(kind)
    });
    is_file || text.contains('/') && text.chars().all(|c| c.is_alphanumeric() || "_-./~@${}".contains(c))
}

/// Returns true for a host, an address or a socket, with or without a port.
fn is_site(text: &str) -> bool {
    let site = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".:-[]/_".contains(c);
    let only_digits = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    (text.contains(['.', ':']) || only_digits || is_plain(text)) && text.chars().all(site)
}

/// Returns true if a text looks like it contains a secret, at any place.
pub(crate) fn hides_secret(text: &str) -> bool {
    may_have_user_info(text)
        || swallows_key(text)
        || text.contains("PRIVATE KEY-----")
        || has_query(text)
        || is_swallowed(text)
        || looks_like_token(text)
}

/// Returns true if a text is an address with a user name before its host, or was meant as one: a slash in a password
/// ends the host part.
fn may_have_user_info(text: &str) -> bool {
    has_user_info(text) || text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Returns true if a text is an address with a query, which may be a signature.
fn has_query(text: &str) -> bool {
    text.split_once('?').is_some_and(|(before, query)| query.contains('=') && before.contains(['.', '/']))
}

/// Returns true if a text is a key joined to its value, because the colon or the space after it is missing:
/// `token:VALUE`, `password VALUE`.
fn is_swallowed(text: &str) -> bool {
    let head = text.split([':', '=', ' ']).next().unwrap_or_default();
    let is_key = !head.is_empty() && head.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    is_key && head.len() < text.trim_end().len() && leads_to_secrets(head)
}

/// Returns true if a text looks like a token issued by a service.
fn looks_like_token(text: &str) -> bool {
    let one_word = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+=".contains(&b));
    let has = |kind: fn(&u8) -> bool| text.bytes().any(|b| kind(&b));
    let known = text.len() >= 12 && TOKENS.iter().any(|token| text.starts_with(token));
    let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
    one_word && (known || text.len() >= TOKEN_LENGTH && mixed)
}

/// Returns true if a text is so long, because of a forgotten quote, that it may contain keys with secrets.
pub(crate) fn swallows_secret(text: &str) -> bool {
    text.contains(':') && text.contains([' ', '"', '\'', '\n']) && sounds_secret(text)
}

/// Returns true if a text contains another key and its value. That value may be a secret, regardless of the purpose of
/// the text.
fn swallows_key(text: &str) -> bool {
    let ends_key = |(at, _): (usize, &str)| {
        let before = text[..at].trim_end_matches(['"', '\'']);
        before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && text[at + 1..].starts_with(char::is_whitespace)
    };
    swallows_secret(text) || text.match_indices(':').any(ends_key)
}

/// Returns true if a key could be meant as `credentials`, `password` or the like.
pub(crate) fn sounds_secret(key: &str) -> bool {
    let lower = key.to_lowercase();
    // The address of a webhook often is a secret.
    lower == "url"
        || ["pass", "pwd", "secret", "token", "cred", "auth", "webhook"].iter().any(|part| lower.contains(part))
        // `insecure` is not a misspelt `secret`.
        || !lower.starts_with("insecure")
            && SECRET_WORDS.iter().any(|word| strsim::jaro_winkler(&lower, word) > 0.8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_only_where_it_is_what_its_key_takes() {
        for (key, good, bad) in [
            ("env", "REGISTRY_PASSWORD", "hunter2"),
            ("file", "/run/secrets/token", "hunter2"),
            ("ca", "certs/ca.pem", "MIIB+x/y=="),
            ("key", "client.key", "Hunter2.x"),
            ("username", "robot", "Hunter2"),
            ("helper", "ecr-login", "hunter2"),
            ("listen", "0.0.0.0:9181", "Hunter2"),
            ("registry", "registry.internal:5000", "me:hunter2@x"),
            ("proxy", "proxy.example:3128", "http://me:hunter2@proxy.example"),
            ("password", "${REGISTRY_PASSWORD}", "hun${TER}2"),
        ] {
            assert!(is_harmless(key, good), "{key}: {good}");
            assert!(!is_harmless(key, bad), "{key}: {bad}");
        }
    }

    #[test]
    fn signatures_logins_and_tokens_are_suspected_wherever_they_stand() {
        for text in [
            "https://s3.example/x?X-Amz-Signature=abc",
            "h.example/x?sig=abc",
            "ghp_hunter2hunter2",
            "eyJhbGciOiJIUzI1NiJ9",
            "A1b2C3d4E5f6G7h8I9j0",
            "https://me:hunter2@h.example/x",
            "1h api_key: hunter2",
        ] {
            assert!(hides_secret(text), "{text}");
        }
        for text in
            ["docker.io/library/python", "2.4.1", "*-rc?", "re:v[0-9]+?=x", "0 3 * * *", "a".repeat(64).as_str()]
        {
            assert!(!hides_secret(text), "{text}");
        }
    }
}

//! Detection of secrets by the form of a text.

use super::table::SafeForm;
use crate::config::model::endpoint::has_user_info;

/// Names of keys with secret values. The detection also finds misspelt forms of these names.
const SECRET_WORDS: [&str; 4] = ["password", "credentials", "webhook", "secret"];

/// Prefixes of the tokens of well-known services.
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

/// Minimum length of a token, in bytes. A token contains letters and digits.
const TOKEN_LENGTH: usize = 20;

/// Returns true if a text looks like a secret. [`super::schema::Schema::hides_secret`] also checks the key.
pub(crate) fn looks_secret(text: &str) -> bool {
    may_have_user_info(text)
        || swallows_key(text)
        || text.contains("PRIVATE KEY-----")
        || has_query(text)
        || looks_like_token(text)
}

/// Returns true if a text is an address with a user name. A password can contain a slash, so the `@` can be anywhere
/// after `://`.
fn may_have_user_info(text: &str) -> bool {
    has_user_info(text) || text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Returns true if a text is an address with a query, because a query can contain a signature.
fn has_query(text: &str) -> bool {
    text.split_once('?').is_some_and(|(before, query)| query.contains('=') && before.contains(['.', '/']))
}

fn looks_like_token(text: &str) -> bool {
    let one_word = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+=".contains(&b));
    let has = |kind: fn(&u8) -> bool| text.bytes().any(|b| kind(&b));
    let known = text.len() >= 12 && TOKENS.iter().any(|token| text.starts_with(token));
    let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
    one_word && (known || text.len() >= TOKEN_LENGTH && mixed)
}

/// Returns true if a text seems to contain a secret key and its value. For example, if a closing quote is missing, YAML
/// reads the next keys as a part of the text.
pub(crate) fn swallows_secret(text: &str) -> bool {
    text.contains(':') && text.contains([' ', '"', '\'', '\n']) && sounds_secret(text)
}

/// Returns true if a text seems to contain a key and its value, such as `a: b`.
fn swallows_key(text: &str) -> bool {
    let ends_key = |(at, _): (usize, &str)| {
        let before = text[..at].trim_end_matches(['"', '\'']);
        before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && text[at + 1..].starts_with(char::is_whitespace)
    };
    swallows_secret(text) || text.match_indices(':').any(ends_key)
}

/// Returns true if the name of a key suggests a secret, such as `credentials` or a misspelt `password`.
pub(crate) fn sounds_secret(key: &str) -> bool {
    let lower = key.to_lowercase();
    // The URL of a webhook is often a secret.
    lower == "url"
        || ["pass", "pwd", "secret", "token", "cred", "auth", "webhook"].iter().any(|part| lower.contains(part))
        // `insecure` is similar to `secret`, but is the name of a setting.
        || !lower.starts_with("insecure")
            && SECRET_WORDS.iter().any(|word| strsim::jaro_winkler(&lower, word) > 0.8)
}

/// Returns true if a key contains only letters, digits, `_`, `-` and `.`. A key of this form contains no value.
pub(crate) fn is_one_word(key: &str) -> bool {
    key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// Returns true if a text has this form. If `form` is `None`, the text must be a single `${NAME}`.
pub(crate) fn has_form(text: &str, form: Option<SafeForm>) -> bool {
    match form {
        Some(SafeForm::Variable) => is_variable(text),
        Some(SafeForm::Path) => is_path(text),
        Some(SafeForm::Words) => is_plain(text),
        Some(SafeForm::Host) => is_site(text),
        None => is_variable(text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap_or_default()),
    }
}

/// Returns true if a text looks like the name of an environment variable, such as `REGISTRY_PASSWORD`.
fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Returns true if a text contains only lower-case letters, spaces, `_`, `-`, `.` and `/`.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || matches!(c, ' ' | '_' | '-' | '.' | '/'))
}

/// Returns true if a text looks like a path or like a file name, such as `ca.pem`.
fn is_path(text: &str) -> bool {
    let is_file = text.rsplit_once('.').is_some_and(|(name, kind)| {
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b"_-.".contains(&b));
        !name.is_empty() && (1..=8).contains(&kind.len()) && word(name) && word(kind)
    });
    is_file || text.contains('/') && text.chars().all(|c| c.is_alphanumeric() || "_-./~@${}".contains(c))
}

/// Returns true if a text looks like a host, an address or a socket, with or without a port.
fn is_site(text: &str) -> bool {
    let site = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".:-[]/_".contains(c);
    let only_digits = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    (text.contains(['.', ':']) || only_digits || is_plain(text)) && text.chars().all(site)
}

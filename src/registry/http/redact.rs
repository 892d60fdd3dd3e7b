//! Redaction of error responses. Some services repeat parts of the request in an error response. The client removes the
//! secrets of the request from the body of the response.

use base64::Engine as _;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value;
use url::Url;

use crate::oci::Digest;

/// Secrets that the client removes from a text. The list contains several encodings of each secret, because a service
/// can repeat the secret in any encoding.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

/// Minimum length of a query value that counts as a secret, in bytes.
const MIN_SECRET: usize = 8;

/// Replacement of a secret.
const REDACTED: &str = "***";

/// Maximum number of nested JSON strings in a text. If a text has more nested JSON strings, the client replaces the
/// whole text.
const MAX_NESTING: usize = 8;

/// Query parameters of this program's own requests that are not secret.
const NOT_SECRET: [&str; 9] = ["digest", "mount", "from", "n", "last", "scope", "service", "account", "client_id"];

impl Secrets {
    /// Adds the secrets of an `Authorization` header: the token, and the password that a Basic token contains.
    pub(crate) fn with_header(mut self, authorization: Option<&HeaderValue>) -> Self {
        let Some(value) = authorization.and_then(|value| value.to_str().ok()) else { return self };
        let token = value.split_once(' ').map_or(value, |(_, token)| token);
        let decoded = base64::engine::general_purpose::STANDARD.decode(token).ok();
        let login = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = login.as_deref().and_then(|login| login.split_once(':')) {
            self.add(password);
        }
        self.add(token);
        self
    }

    /// Adds the secrets in the query of a URL, such as the signature of a storage service or the state of an upload.
    pub(crate) fn with_query(mut self, url: &Url) -> Self {
        for (name, value) in url.query_pairs() {
            let is_plain = NOT_SECRET.contains(&name.as_ref()) || value.parse::<Digest>().is_ok();
            if value.len() >= MIN_SECRET && !is_plain {
                self.add(&value);
            }
        }
        // The URL can encode a secret differently from the encodings that `add` creates. The loop therefore also adds
        // the secret in the encoding of the URL, such as `a%2fb`.
        let written = url.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let known = self.0.clone();
        for (_, value) in written.filter(|(_, value)| value.len() >= MIN_SECRET) {
            let read = url::form_urlencoded::parse(format!("v={value}").as_bytes())
                .next()
                .map(|(_, value)| value.into_owned());
            if read.is_some_and(|read| known.contains(&read)) {
                self.0.push(value.to_owned());
            }
        }
        self
    }

    fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let percent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
        self.0.extend([secret.to_owned(), percent.replace('+', "%20"), percent, encoded]);
    }

    /// Returns the body without the secrets. If the body is JSON, the search decodes JSON escapes.
    pub(crate) fn redact(mut self, body: Bytes) -> Bytes {
        if self.0.is_empty() {
            return body;
        }
        // Longer secrets are first, because a secret can be a part of a longer secret.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let text = String::from_utf8_lossy(&body);
        match serde_json::from_str::<Value>(&text) {
            Ok(json) => self.redact_json(json).to_string().into(),
            Err(_) => self.redact_text(&text).into(),
        }
    }

    fn redact_json(&self, json: Value) -> Value {
        match json {
            Value::String(text) => self.redact_text(&text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.redact_json(item)).collect(),
            Value::Object(pairs) => {
                pairs.into_iter().map(|(key, value)| (self.redact_text(&key), self.redact_json(value))).collect()
            }
            // Numbers are never secrets.
            other => other,
        }
    }

    /// Returns the text without the secrets. If a secret appears only after the decoding of JSON escapes, replaces the
    /// whole text.
    fn redact_text(&self, text: &str) -> String {
        let redacted = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED));
        let mut read = redacted.clone();
        for _ in 0..MAX_NESTING {
            let plainer = unescaped(&read);
            if plainer == read {
                return redacted;
            }
            if self.0.iter().any(|secret| plainer.contains(secret)) {
                break;
            }
            read = plainer;
        }
        REDACTED.to_owned()
    }
}

/// Decodes JSON's escapes in a text (RFC 8259, section 7). Does not change other sequences with a backslash.
fn unescaped(text: &str) -> String {
    let (mut read, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('\\') {
        read.extend(before.encode_utf16());
        let unit = after.strip_prefix('u').and_then(|after| u16::from_str_radix(after.get(..4)?, 16).ok());
        let mut escaped = after.chars();
        match (unit, escaped.next()) {
            (Some(unit), _) => {
                read.push(unit);
                rest = &after[5..];
                continue;
            }
            (None, Some(c @ ('"' | '\\' | '/'))) => read.push(c as u16),
            (None, Some('n')) => read.push(u16::from(b'\n')),
            (None, Some('r')) => read.push(u16::from(b'\r')),
            (None, Some('t')) => read.push(u16::from(b'\t')),
            (None, _) => {
                read.push(u16::from(b'\\'));
                rest = after;
                continue;
            }
        }
        rest = escaped.as_str();
    }
    read.extend(rest.encode_utf16());
    String::from_utf16_lossy(&read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(secrets: Secrets, text: &str) -> String {
        String::from_utf8(secrets.redact(text.to_owned().into()).to_vec()).unwrap()
    }

    fn header(value: &'static str) -> Secrets {
        Secrets::default().with_header(Some(&HeaderValue::from_static(value)))
    }

    #[test]
    fn echoed_credentials_are_redacted_in_every_encoding() {
        let basic = || header("Basic bWU6aHVudGVyMg==");
        assert_eq!(redacted(basic(), "you sent bWU6aHVudGVyMg== which is hunter2"), "you sent *** which is ***");
        assert_eq!(redacted(header("Bearer a.b.c"), "bad a.b.c"), "bad ***");
        // The login is `me:a+b/c d`.
        let odd = || header("Basic bWU6YStiL2MgZA==");
        assert_eq!(redacted(odd(), "p=a%2Bb%2Fc+d a%2Bb%2Fc%20d YStiL2MgZA== a+b/c d"), "p=*** *** *** ***");
        assert_eq!(redacted(Secrets::default().with_header(None), "nothing"), "nothing");
    }

    #[test]
    fn secret_behind_json_escapes_is_redacted() {
        // The login is `me:a&b"c/d`.
        let odd = || header("Basic bWU6YSZiImMvZA==");
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"X","message":"not a\u0026b\"c/d"}]}"#,
                r#"{"errors":[{"code":"X","message":"not ***"}]}"#,
            ),
            (r#"{"message":"not a&b\"c\/d, \u0061&b\u0022c/d"}"#, r#"{"message":"not ***, ***"}"#),
            (r#"{"a\u0026b\"c/d":["bWU6YSZiImMvZA\u003d="]}"#, r#"{"***":["***"]}"#),
            // JSON text in a JSON string, nested once and twice.
            (r#"{"message":"{\"password\":\"a\\u0026b\\\"c/d\"}"}"#, r#"{"message":"***"}"#),
            (r#"["\"{\\\"a\\\\u0026b\\\\\\\"c/d\\\"}\""]"#, r#"["***"]"#),
            // A service's parser can accept JSON that this program's parser rejects, so the client replaces the whole
            // text.
            (r#"{"errors":[{"message":"a\u0026b\"c/d"}], "n": 1e999}"#, "***"),
            (r#"{"message":"a\u0026b\"c/d"#, "***"),
            (r#"{"message":"50\u0025 of \"all\" in C:\\dir"}"#, r#"{"message":"50% of \"all\" in C:\\dir"}"#),
        ] {
            assert_eq!(redacted(odd(), body), expected, "{body}");
        }
    }

    #[test]
    fn echoed_signature_is_redacted_but_plain_parameters_stay() {
        let digest = Digest::of(b"x");
        let url: Url = format!("https://h/x?sig=ab%2bcd%2Fef0&_state=123&digest={digest}&from=library/python&n=1000")
            .parse()
            .unwrap();
        let text = format!("sig=ab%2bcd%2Fef0 ab+cd/ef0 ab%2Bcd%2Fef0 of {digest} from library/python, 123");
        let expected = format!("sig=*** *** *** of {digest} from library/python, 123");
        assert_eq!(redacted(Secrets::default().with_query(&url), &text), expected);
    }
}

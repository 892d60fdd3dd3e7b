//! The body of a refusal without what was secret in the request: some services send back what they were sent.

use base64::Engine as _;
use bytes::Bytes;
use http::HeaderValue;
use url::Url;

use crate::oci::Digest;

/// What is cut out, in every form in which a service could have seen or written it.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

/// A value of a query that is shorter names something; a signature is longer.
const LEAST: usize = 8;

/// The parameters of our own requests, which say what was asked and are no secret.
const PLAIN: [&str; 9] = ["digest", "mount", "from", "n", "last", "scope", "service", "account", "client_id"];

impl Secrets {
    /// Those of an `Authorization` header: the token, and the password within it.
    pub(crate) fn of_header(mut self, authorization: Option<&HeaderValue>) -> Self {
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

    /// Those of an address's query: signatures of storages, states of uploads.
    pub(crate) fn of_query(mut self, url: &Url) -> Self {
        for (name, value) in url.query_pairs() {
            let says_what = PLAIN.contains(&name.as_ref()) || value.parse::<Digest>().is_ok();
            if value.len() >= LEAST && !says_what {
                self.add(&value);
            }
        }
        // As it was written there, which need not be as we would write it.
        let written = url.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let known = self.0.clone();
        for (_, value) in written.filter(|(_, value)| value.len() >= LEAST) {
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

    /// The text without them.
    pub(crate) fn cut_out_of(mut self, body: Bytes) -> Bytes {
        if self.0.is_empty() {
            return body;
        }
        // The longest first: one may be a part of another.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let text = String::from_utf8_lossy(&body).into_owned();
        self.0.iter().fold(text, |text, secret| text.replace(secret, "***")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(secrets: Secrets, text: &str) -> String {
        String::from_utf8(secrets.cut_out_of(text.to_owned().into()).to_vec()).unwrap()
    }

    fn header(value: &'static str) -> Secrets {
        Secrets::default().of_header(Some(&HeaderValue::from_static(value)))
    }

    #[test]
    fn credentials_that_come_back_are_not_shown() {
        let basic = || header("Basic bWU6aHVudGVyMg==");
        assert_eq!(cut(basic(), "you sent bWU6aHVudGVyMg== which is hunter2"), "you sent *** which is ***");
        assert_eq!(cut(header("Bearer a.b.c"), "bad a.b.c"), "bad ***");
        // Of `me:a+b/c d`.
        let odd = || header("Basic bWU6YStiL2MgZA==");
        assert_eq!(cut(odd(), "p=a%2Bb%2Fc+d a%2Bb%2Fc%20d YStiL2MgZA== a+b/c d"), "p=*** *** *** ***");
        assert_eq!(cut(Secrets::default().of_header(None), "nothing"), "nothing");
    }

    #[test]
    fn a_signature_that_comes_back_is_not_shown_and_what_was_asked_is() {
        let digest = Digest::of(b"x");
        let url: Url = format!("https://h/x?sig=ab%2bcd%2Fef0&_state=123&digest={digest}&from=library/python&n=1000")
            .parse()
            .unwrap();
        let text = format!("sig=ab%2bcd%2Fef0 ab+cd/ef0 ab%2Bcd%2Fef0 of {digest} from library/python, 123");
        let left = format!("sig=*** *** *** of {digest} from library/python, 123");
        assert_eq!(cut(Secrets::default().of_query(&url), &text), left);
    }
}

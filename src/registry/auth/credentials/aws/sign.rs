//! Signature Version 4 ("AWS Signature Version 4 for API requests"). This program signs only POST requests without a
//! query.

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use http::header::AUTHORIZATION;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::keys::Keys;
use crate::registry::auth::credentials::service_request::hidden_header;
use crate::registry::auth::error::AuthError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// POST request that the client signs.
pub(super) struct Post<'a> {
    pub(super) url: &'a Url,
    /// Additional headers of the request, with names in lower case. The signature covers these headers.
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a str,
}

impl Post<'_> {
    /// Returns the request with a signature that is valid for one service in one region.
    pub(super) fn signed(
        &self,
        client: &reqwest::Client,
        keys: &Keys,
        region: &str,
        service: &str,
        now: DateTime<Utc>,
    ) -> Result<reqwest::RequestBuilder, AuthError> {
        let mut request = client.post(self.url.clone()).body(self.body.to_owned());
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        request = request.header("x-amz-date", time(now));
        if let Some(session) = &keys.session {
            request = request.header("x-amz-security-token", hidden_header(session.expose_secret())?);
        }
        Ok(request.header(AUTHORIZATION, hidden_header(&self.authorization(keys, region, service, now))?))
    }

    fn authorization(&self, keys: &Keys, region: &str, service: &str, now: DateTime<Utc>) -> String {
        let (canonical, names) = self.canonical(keys, now);
        let date = now.format("%Y%m%d").to_string();
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let hash = hex::encode(Sha256::digest(canonical));
        let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{hash}", time(now));
        let secret = format!("AWS4{}", keys.secret.expose_secret());
        let key = [date.as_str(), region, service, "aws4_request"]
            .iter()
            .fold(secret.into_bytes(), |key, part| mac(&key, part));
        let signature = hex::encode(mac(&key, &to_sign));
        format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id)
    }

    /// Returns the canonical form of the request, and the names of the signed headers.
    fn canonical(&self, keys: &Keys, now: DateTime<Utc>) -> (String, String) {
        let host = self.url.host_str().unwrap_or_default();
        let host = self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut headers: Vec<(&str, String)> =
            self.headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        headers.extend([("host", host), ("x-amz-date", time(now))]);
        headers.extend(keys.session.as_ref().map(|token| ("x-amz-security-token", token.expose_secret().to_owned())));
        headers.sort_unstable();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let hash = hex::encode(Sha256::digest(self.body));
        (format!("POST\n{}\n\n{lines}\n{names}\n{hash}", self.url.path()), names)
    }
}

fn time(now: DateTime<Utc>) -> String {
    now.format("%Y%m%dT%H%M%SZ").to_string()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a signature with the keys, region and time of Amazon's published test suite (aws-c-auth,
    /// `aws-signing-test-suite/v4`).
    fn signature(headers: &[(&'static str, &str)], body: &str, session: Option<&str>) -> String {
        let keys = Keys {
            id: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session: session.map(Into::into),
            name: String::new(),
        };
        let url = "https://example.amazonaws.com/".parse().unwrap();
        let now = DateTime::parse_from_rfc3339("2015-08-30T12:36:00Z").unwrap().to_utc();
        Post { url: &url, headers, body }.authorization(&keys, "us-east-1", "service", now)
    }

    #[test]
    fn signatures_match_the_amazon_test_suite() {
        let begin = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=";
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-length", "13"),
            ("x-amz-content-sha256", "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"),
        ];
        let session = concat!(
            "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwA",
            "eMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8p",
            "hUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT",
            "38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabI",
            "Qwj2ICCR/oLxBA==",
        );
        for (headers, body, session, rest) in [
            // post-vanilla
            (
                &form[..0],
                "",
                None,
                "host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            // post-x-www-form-urlencoded
            (
                &form[..],
                "Param1=value1",
                None,
                "content-length;content-type;host;x-amz-content-sha256;x-amz-date, \
                 Signature=d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
            ),
            // post-sts-header-before
            (
                &form[..0],
                "",
                Some(session),
                "host;x-amz-date;x-amz-security-token, \
                 Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            assert_eq!(signature(headers, body, session), format!("{begin}{rest}"));
        }
    }
}

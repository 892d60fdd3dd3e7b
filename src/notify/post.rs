//! One attempt to deliver a message to a webhook. It follows no redirect, reads only the status and `Retry-After` of
//! the response, and shows no more of an address than its host in errors.

use std::error::Error as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use secrecy::ExposeSecret as _;

use super::sign::signature;
use super::{Address, SigningKey, Webhook};
use crate::registry::{Secret, bare_client, is_loopback, retry_after};

/// Time limit to open a connection, including TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// Time limit of one attempt, from its start to the head of the response.
const LIMIT: Duration = Duration::from_secs(30);

/// Message to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Identifier, the same at every attempt. A receiver that gets a message twice recognizes it by this.
    pub id: String,
    /// JSON body.
    pub body: String,
}

/// Reason why a receiver did not accept a message. It contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The receiver may accept the message later.
    #[error("{why}")]
    Later {
        /// Reason, in words.
        why: String,
        /// Wait that the receiver asked for.
        wait: Option<Duration>,
    },
    /// The receiver refused the message itself and will refuse it again.
    #[error("{why}")]
    Never {
        /// Reason, in words.
        why: String,
    },
}

/// Client that delivers messages. It keeps connections open for the next message.
#[derive(Debug)]
pub struct Post {
    outside: reqwest::Client,
    /// Client for this machine itself. It ignores the proxy of the environment.
    inside: reqwest::Client,
}

impl Post {
    /// Returns a client with the certificate authorities of the system and the proxies of the environment.
    ///
    /// # Errors
    /// If the system has no TLS at all.
    pub fn new() -> reqwest::Result<Self> {
        Ok(Self { outside: client(|builder| builder)?, inside: client(reqwest::ClientBuilder::no_proxy)? })
    }

    /// Sends a message once, at `now`. Takes at most half a minute. If this future is dropped, the receiver may or
    /// may not have got the message.
    ///
    /// # Errors
    /// [`Refusal`] if the receiver did not accept the message.
    pub async fn deliver(&self, webhook: &Webhook, message: &Message, now: DateTime<Utc>) -> Result<(), Refusal> {
        let address: Address = read_and_parse("the address", &webhook.url).await?;
        let key: SigningKey = read_and_parse("the secret", &webhook.secret).await?;
        let site = address.site();
        let client = if is_loopback(address.url()) { &self.inside } else { &self.outside };
        let request = client
            .post(address.url().clone())
            .timeout(LIMIT)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", now.timestamp())
            .header("webhook-signature", signature(&key, &message.id, now, &message.body))
            .body(message.body.clone());
        // The body of the response is not read, because a receiver may send without end.
        let answer = request
            .send()
            .await
            .map_err(|error| later(format!("no answer from {site}: {}", innermost_cause(&error))))?;
        let (status, headers) = (answer.status(), answer.headers());
        let why = format!("{site} answered {status}");
        if status.is_success() {
            Ok(())
        } else if refuses_message(status) {
            Err(Refusal::Never { why })
        } else {
            let why = if status.is_redirection() { format!("{why}, and redirects are not followed") } else { why };
            Err(Refusal::Later { why, wait: retry_after(headers, now) })
        }
    }
}

/// Returns true if a response is about the message itself, or says that the receiver is gone for good (Standard
/// Webhooks, "Deliverability"). Any other response may come from a receiver, or from a proxy before it, while it is
/// being deployed: no route yet, no credentials yet, a redirect.
fn refuses_message(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::GONE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    )
}

fn client(own: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> reqwest::Result<reqwest::Client> {
    let builder = || own(bare_client().connect_timeout(CONNECT));
    // Plain HTTP works without any certificate authority.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// Reads a secret and parses it. An error allows a later attempt, because the operator may repair the file.
async fn read_and_parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    what: &str,
    secret: &Secret,
) -> Result<T, Refusal> {
    let text = secret.read().await.map_err(|error| later(format!("{what} cannot be read: {error}")))?;
    text.expose_secret().trim().parse().map_err(|error| later(format!("{what} cannot be used: {error}")))
}

fn later(why: String) -> Refusal {
    Refusal::Later { why, wait: None }
}

/// Returns the innermost cause, which contains no address.
fn innermost_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut inner = error.source();
    while let Some(deeper) = inner.and_then(std::error::Error::source) {
        inner = Some(deeper);
    }
    inner.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_responses_about_the_message_end_its_attempts() {
        let given_up: Vec<u16> =
            (200..=599).filter(|status| refuses_message(StatusCode::from_u16(*status).unwrap())).collect();
        assert_eq!(given_up, [400, 410, 413, 415, 422, 431]);
    }
}

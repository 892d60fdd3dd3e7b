//! One attempt to deliver a message to a webhook. An attempt follows no redirect, and reads only the status and
//! `Retry-After` of the response. Errors contain only the host of an address, because the rest of the address can be
//! secret.

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
    /// Identifier of the message. The identifier is the same at every attempt.
    pub id: String,
    /// JSON body.
    pub body: String,
}

/// Reason why a receiver did not accept a message. The text contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The receiver may accept the message later.
    #[error("{why}")]
    Later {
        /// Reason, in words.
        why: String,
        /// Wait that the receiver requested in `Retry-After`.
        wait: Option<Duration>,
    },
    /// The receiver refused the message, and will refuse each later attempt.
    #[error("{why}")]
    Never {
        /// Reason, in words.
        why: String,
    },
}

/// HTTP client that delivers messages. The client keeps connections open for later messages.
#[derive(Debug)]
pub struct Post {
    /// Client for other machines.
    remote: reqwest::Client,
    /// Client for loopback addresses. This client does not use the proxy of the environment.
    local: reqwest::Client,
}

impl Post {
    /// Returns a client with the certificate authorities of the system and the proxies of the environment.
    ///
    /// # Errors
    /// Returns an error if TLS cannot be set up.
    pub fn new() -> reqwest::Result<Self> {
        Ok(Self { remote: client(|builder| builder)?, local: client(reqwest::ClientBuilder::no_proxy)? })
    }

    /// Sends a message once. `now` is the time in the signature. The request takes at most 30 seconds. If the caller
    /// drops this future, the receiver may already have received the message.
    ///
    /// # Errors
    /// [`Refusal`] if the receiver did not accept the message.
    pub async fn deliver(&self, webhook: &Webhook, message: &Message, now: DateTime<Utc>) -> Result<(), Refusal> {
        let address: Address = read_and_parse("the address", &webhook.url).await?;
        let key: SigningKey = read_and_parse("the secret", &webhook.secret).await?;
        let site = address.site();
        let client = if is_loopback(address.url()) { &self.local } else { &self.remote };
        let request = client
            .post(address.url().clone())
            .timeout(LIMIT)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", now.timestamp())
            .header("webhook-signature", signature(&key, &message.id, now, &message.body))
            .body(message.body.clone());
        // The client does not read the body of the response, because the body can be endless.
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

/// Returns true if a response refuses the message itself, or reports that the receiver no longer exists (Standard
/// Webhooks, "Deliverability"). Other errors can be temporary. For example, a proxy can answer 404 while the operator
/// deploys the receiver.
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

fn client(configure: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> reqwest::Result<reqwest::Client> {
    let builder = || configure(bare_client().connect_timeout(CONNECT));
    // If the first build fails (without certificate authorities of the system, for example), receivers over plain HTTP
    // still need a client.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// Reads and parses a secret. The error is [`Refusal::Later`], because the operator can repair the file of the secret.
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

/// Returns the innermost cause of an error. The innermost cause does not contain the address of the receiver.
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

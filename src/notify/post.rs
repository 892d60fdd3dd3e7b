//! One attempt to bring a message to a webhook. No redirect is followed, nothing of an answer but its status and `Retry-After` is
//! read, and no error shows more of an address than its host.

use std::error::Error as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use secrecy::ExposeSecret as _;

use super::sign::signature;
use super::{Address, SigningKey, Webhook};
use crate::registry::{Secret, bare_client, is_loopback, retry_after};

/// The time to open a connection, with TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// The time for one attempt, from its beginning to the head of the answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Something to be brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same each time it is brought: who gets a message twice knows it by this.
    pub id: String,
    /// The JSON.
    pub body: String,
}

/// Why a message was not taken. No part of it is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It may be taken later.
    #[error("{why}")]
    Later {
        /// Why it was not.
        why: String,
        /// For how long the receiver asked for patience.
        wait: Option<Duration>,
    },
    /// The message itself was refused, and will be again.
    #[error("{why}")]
    Never {
        /// Why it was refused.
        why: String,
    },
}

/// Who brings messages. Connections are kept for the next one.
#[derive(Debug)]
pub struct Post {
    outside: reqwest::Client,
    /// To this machine itself, for which a proxy of the environment is not meant.
    inside: reqwest::Client,
}

impl Post {
    /// With the authorities of the system and the proxies of the environment.
    ///
    /// # Errors
    /// Where the system has no TLS at all.
    pub fn new() -> reqwest::Result<Self> {
        Ok(Self { outside: client(|builder| builder)?, inside: client(reqwest::ClientBuilder::no_proxy)? })
    }

    /// Brings a message at `now`, once: at most half a minute. Dropping it leaves open whether the message has come.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn bring(&self, webhook: &Webhook, message: &Message, now: DateTime<Utc>) -> Result<(), Refusal> {
        let address: Address = known("the address", &webhook.url).await?;
        let key: SigningKey = known("the secret", &webhook.secret).await?;
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
        // What is answered beyond the head is not read: a receiver may go on for ever.
        let answer =
            request.send().await.map_err(|error| later(format!("no answer from {site}: {}", reason(&error))))?;
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

/// Whether an answer is about the message itself, or says that the receiver is gone for good (Standard Webhooks, "Deliverability"). All else
/// may be what a receiver, or what stands before it, answers while it is rolled out: no route yet, no credentials yet, a redirect.
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
    // Without any authorities plain HTTP still works.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// What a secret says now, parsed. What is wrong with a file may be mended.
async fn known<T: std::str::FromStr<Err: std::fmt::Display>>(what: &str, secret: &Secret) -> Result<T, Refusal> {
    let text = secret.read().await.map_err(|error| later(format!("{what} cannot be read: {error}")))?;
    text.expose_secret().trim().parse().map_err(|error| later(format!("{what} cannot be used: {error}")))
}

fn later(why: String) -> Refusal {
    Refusal::Later { why, wait: None }
}

/// The innermost reason, which knows no address.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut inner = error.source();
    while let Some(deeper) = inner.and_then(std::error::Error::source) {
        inner = Some(deeper);
    }
    inner.map_or_else(|| "the exchange failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_about_the_message_itself_end_its_attempts() {
        let given_up: Vec<u16> =
            (200..=599).filter(|status| refuses_message(StatusCode::from_u16(*status).unwrap())).collect();
        assert_eq!(given_up, [400, 410, 413, 415, 422, 431]);
    }
}

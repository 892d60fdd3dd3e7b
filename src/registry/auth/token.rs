//! Client of the token service: requests one token and reads the answer (distribution, "Token Authentication").

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::authenticator::Authenticator;
use super::credentials::Login;
use super::error::AuthError;
use super::realm;
use super::send::Listener;
use crate::registry::Tenant;
use crate::registry::http::denial;
use crate::registry::http::error::TransportError;
use crate::registry::http::exchange::Authorization;
use crate::registry::http::redact::Secrets;
use crate::registry::http::redirect;
use crate::registry::http::request::{HttpRequest, Payload};
use crate::registry::http::response::{Body, Response, sensitive};
use crate::registry::http::retry::{Attempts, Operation};
use crate::registry::limits::concurrency::Permit;
use crate::registry::limits::pull_quota::Reads;
use crate::store::ErrorKind;

/// Lifetime of a token in seconds, if the answer contains no `expires_in`.
const DEFAULT_LIFETIME: u64 = 60;

/// Token from a token service, or an access token from the credentials.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    /// Time at which the client requests a new token. This time is before the token expires.
    pub(super) renew_at: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

/// Parameters of a token request, without the credentials.
#[derive(Debug, Clone, Copy)]
struct TokenParameters<'a> {
    realm: &'a Url,
    service: Option<&'a str>,
    grants: &'a BTreeSet<&'a str>,
}

impl Authenticator {
    /// Requests a token for these grants. If the token service refuses the login, and the source of the login has
    /// another login by now, repeats the request with the other login.
    pub(super) async fn fetch_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        grants: &BTreeSet<&str>,
    ) -> Result<Token, AuthError> {
        let parameters = TokenParameters { realm, service, grants };
        let login = self.source.login().await?;
        if let Some(Login::Access(token)) = &login {
            return self.own_token(realm, token);
        }
        let refusal = match self.request_token(parameters, login.as_ref()).await {
            Err(refusal) if refusal.kind == ErrorKind::Denied => refusal,
            outcome => {
                if outcome.is_ok() && login.is_some() {
                    self.prove();
                }
                return outcome;
            }
        };
        let Some(login) = &login else { return Err(refusal) };
        match self.source.login_after_refusal(login).await? {
            Some(login) => self.request_token(parameters, Some(&login)).await.inspect(|_| self.prove()),
            None => Err(refusal),
        }
    }

    async fn request_token(&self, parameters: TokenParameters<'_>, login: Option<&Login>) -> Result<Token, AuthError> {
        let realm = parameters.realm;
        if login.is_some() {
            realm::may_get_credentials(realm, &self.sender.base, self.sender.token_service())
                .map_err(|error| AuthError { kind: ErrorKind::Refused, detail: error.to_string() })?;
        }
        let credentials = login.map_or(Ok(None), Login::basic)?;
        let mut attempts = Attempts::new(Operation::Token, &self.sender.retry_policy);
        let mut request = parameters.request(login);
        let listener = Listener { authenticator: self, reads: Reads::Nothing };
        let authorization = Authorization { header: credentials.as_ref(), origin: realm, listener: &listener };
        loop {
            self.sender.meter.asked_for_token();
            // If the registry is its own token service, the registry's limits also apply to the token request.
            if self.sender.is_own(realm) {
                self.sender.acquire_permit(Tenant::default(), &request).await;
            }
            let requested_at = Instant::now();
            let no_permit = (Tenant::default(), Permit::default());
            let outcome = self.sender.attempt(&mut request, authorization, no_permit).await;
            let (pause, error) = match outcome {
                Ok(answer) if answer.status.is_success() => return self.read_token(realm, &answer, requested_at),
                Ok(answer) => {
                    let answer = redact_identity_token(login, answer);
                    let pause = answer.failure().and_then(|failure| attempts.next_pause(failure));
                    let wait = answer.retry_after.unwrap_or_default();
                    (pause.map(|pause| pause + wait), self.refused_token(realm, &answer))
                }
                Err(error) => {
                    let pause = error.failure().and_then(|failure| attempts.next_pause(failure));
                    (pause, unanswered_error(realm, &error))
                }
            };
            let Some(pause) = pause else { return Err(error) };
            self.sender.meter.repeated();
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns the access token from the credentials, without a request. The client reads the credentials again after
    /// 60 seconds, or after the registry refused the token.
    fn own_token(&self, realm: &Url, token: &SecretString) -> Result<Token, AuthError> {
        let header = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
        let what = format!(
            "the access token for {} contains characters that a header must not contain",
            redirect::shown(realm)
        );
        let header = header.map_err(|_| AuthError::denied(what))?;
        Ok(Token { header: sensitive(header), renew_at: Instant::now() + Duration::from_secs(DEFAULT_LIFETIME) })
    }

    fn read_token(&self, realm: &Url, answer: &Response, requested_at: Instant) -> Result<Token, AuthError> {
        let invalid = |what: &str| AuthError {
            kind: ErrorKind::Invalid,
            detail: format!("the token service {} answered {what}", redirect::shown(realm)),
        };
        // The error omits the parser's reason, because the reason can quote the token.
        let answer: TokenAnswer = serde_json::from_slice(&answer.bytes()).map_err(|_| invalid("without a token"))?;
        let token =
            answer.token.filter(|token| !token.is_empty()).or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| invalid("without a token"))?;
        let header = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| invalid("with a token that contains characters that a header must not contain"))?;
        Ok(Token { header: sensitive(header), renew_at: requested_at + usable_for(answer.expires_in.as_ref()) })
    }

    fn refused_token(&self, realm: &Url, answer: &Response) -> AuthError {
        let (at, detail) = (redirect::shown(realm), answer.detail());
        let is_refusal = matches!(answer.status.as_u16(), 400 | 401 | 403 | 429);
        if answer.status.is_client_error() && !is_refusal {
            let detail = format!("the token service {at} answered {detail}: check the address of the token service");
            return AuthError { kind: ErrorKind::Invalid, detail };
        }
        let kind = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::Busy(answer.retry_after),
            status if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::Denied,
        };
        let name = self.source.describe_identity();
        let refused = name.as_deref().unwrap_or("the anonymous request");
        let check = self.source.describe_check();
        let remedy = match (kind, &name) {
            (ErrorKind::Denied, Some(_)) if answer.status == StatusCode::FORBIDDEN => {
                format!("; {check}, and the rights of this user")
            }
            (ErrorKind::Denied, Some(_)) => format!("; {check}"),
            (ErrorKind::Denied, None) => format!("; {}", denial::SET_CREDENTIALS),
            _ => String::new(),
        };
        AuthError { kind, detail: format!("the token service {at} refused {refused}: {detail}{remedy}") }
    }
}

impl TokenParameters<'_> {
    /// Returns the request without an `Authorization` header. The request is a POST if the login is an identity token,
    /// and the form contains the token (distribution, "OAuth2 Token Authentication"). For other logins, the request is
    /// a GET.
    fn request(&self, login: Option<&Login>) -> HttpRequest {
        let request = |method, url| HttpRequest::new(Operation::Token, method, url);
        if let Some(Login::Token(token)) = login {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            let mut request = request(Method::POST, self.realm.clone());
            request.headers.insert(CONTENT_TYPE, form);
            return HttpRequest { payload: Payload::Bytes(self.form(token)), ..request };
        }
        let mut url = self.realm.clone();
        url.query_pairs_mut()
            .extend_pairs(self.service.map(|service| ("service", service)))
            .extend_pairs(self.grants.iter().map(|grant| ("scope", *grant)));
        request(Method::GET, url)
    }

    fn form(&self, token: &SecretString) -> Bytes {
        let scope = self.grants.iter().copied().collect::<Vec<_>>().join(" ");
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "transship")
            .extend_pairs(self.service.map(|service| ("service", service)))
            .append_pair("scope", &scope)
            .append_pair("refresh_token", token.expose_secret())
            .finish()
            .into()
    }
}

/// Removes the identity token from the body of a refusal, because the token service can repeat the token in its answer.
fn redact_identity_token(login: Option<&Login>, answer: Response) -> Response {
    let Some(Login::Token(token)) = login else { return answer };
    let sent = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok();
    let body = Body::Whole(Secrets::default().with_header(sent.as_ref()).redact(answer.bytes()));
    Response { body, ..answer }
}

fn unanswered_error(realm: &Url, error: &TransportError) -> AuthError {
    let detail = format!("request to the token service {}: {}", redirect::shown(realm), error.detail());
    AuthError { kind: error.kind(), detail }
}

/// Returns the time for which the client uses a token. For a lifetime of at most 120 seconds, this time is three
/// quarters of the lifetime. For a longer lifetime, this time is the lifetime minus 30 seconds.
fn usable_for(expires_in: Option<&serde_json::Value>) -> Duration {
    let seconds = expires_in.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
    let lifetime = Duration::from_secs(seconds.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_LIFETIME).min(86_400));
    lifetime - (lifetime / 4).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_renewed_before_it_expires() {
        let usable = |json: serde_json::Value| usable_for(Some(&json)).as_secs_f32();
        assert_eq!(usable_for(None), Duration::from_secs(45));
        assert_eq!(usable(300.into()), 270.0);
        assert_eq!(usable("300".into()), 270.0);
        assert_eq!(usable(1.into()), 0.75);
        assert_eq!(usable(0.into()), 45.0);
        assert_eq!(usable(u64::MAX.into()), 86_370.0);
        assert_eq!(usable((-5).into()), 45.0);
    }
}

//! Azure's registries: a token of Entra, for this machine or for an application, is exchanged at the registry for a refresh
//! token, which the registry's token service then takes.

use std::time::Duration;

use base64::Engine as _;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::{KEPT, Login, secret};
use crate::registry::auth::AuthError;
use crate::registry::pace::Class;
use crate::registry::permits::{Door, Gate};
use crate::registry::retry::{self, Failure};
use crate::registry::{Azure, AzureIdentity, Party, locate};
use crate::store::ErrorKind;

/// For whom Entra's tokens are: what registries take.
const AUDIENCE: &str = "https://management.azure.com/";
/// The time for one exchange.
const LIMIT: Duration = Duration::from_secs(30);
/// The most of an answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// A refresh token is not used for the last of its time, nor for longer than this.
const SPARE: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3 * 3600);

/// What is needed to ask over the network.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    /// The registry's own client.
    pub(crate) http: reqwest::Client,
    /// For Entra: the same, but it believes nobody unseen, whatever the registry is allowed. An application's secret is shown there.
    pub(crate) authority: reqwest::Client,
    /// The registry's address.
    pub(crate) registry: Url,
    /// Its gate: the exchange is one more request of it.
    pub(crate) gate: Gate,
}

/// No `Debug`: it would show tokens.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    access_token: String,
    refresh_token: String,
    /// The code of a refusal, such as `invalid_client`.
    error: String,
}

type Form<'a> = Vec<(&'a str, &'a str)>;

/// A refresh token of the registry, and for how long it is good.
pub(super) async fn login(azure: &Azure, service: &str, wire: &Wire) -> Result<(Login, Duration), AuthError> {
    let (token, tenant) = match &azure.identity {
        AzureIdentity::Managed { client_id } => (managed(&azure.imds, client_id.as_deref()).await?, None),
        AzureIdentity::Workload { client_id, tenant_id, token } => {
            let assertion = secret::read("the federated token", token).await?;
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            let proof = vec![("client_assertion_type", kind), ("client_assertion", assertion.expose_secret())];
            (entra(azure, tenant_id, client_id, proof, wire).await?, Some(tenant_id))
        }
        AzureIdentity::Application { client_id, tenant_id, client_secret } => {
            let secret = secret::read("the client secret", client_secret).await?;
            let proof = vec![("client_secret", secret.expose_secret())];
            (entra(azure, tenant_id, client_id, proof, wire).await?, Some(tenant_id))
        }
    };
    let mut form = vec![("grant_type", "access_token"), ("service", service), ("access_token", token.expose_secret())];
    form.extend(tenant.map(|tenant| ("tenant", tenant.as_str())));
    let url = at(&wire.registry, "oauth2/exchange")?;
    let _entered = wire.gate.enter(Party::default(), Door::Token, Class::Token).await;
    let told = ask(wire.http.post(url.clone()).body(encoded(&form)), &url, Some(&wire.gate)).await?;
    let token = filled(told.refresh_token, &url)?;
    let good = lifetime(token.expose_secret(), chrono::Utc::now().timestamp());
    Ok((Login::Token(token), good))
}

/// By the instance metadata service, which is asked through no proxy.
async fn managed(imds: &Url, client_id: Option<&str>) -> Result<SecretString, AuthError> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let client =
        client.tls_certs_only([]).build().map_err(|error| AuthError::denied(error.without_url().to_string()))?;
    let mut url = at(imds, "metadata/identity/oauth2/token")?;
    url.query_pairs_mut()
        .extend_pairs([("api-version", "2018-02-01"), ("resource", AUDIENCE)])
        .extend_pairs(client_id.map(|id| ("client_id", id)));
    let told = ask(client.get(url.clone()).header("Metadata", "true"), &url, None).await?;
    filled(told.access_token, &url)
}

async fn entra(
    azure: &Azure,
    tenant: &str,
    client_id: &str,
    proof: Form<'_>,
    wire: &Wire,
) -> Result<SecretString, AuthError> {
    let url = at(&azure.authority, &format!("{tenant}/oauth2/v2.0/token"))?;
    let scope = format!("{AUDIENCE}.default");
    let mut form = vec![("grant_type", "client_credentials"), ("client_id", client_id), ("scope", &scope)];
    form.extend(proof);
    let told = ask(wire.authority.post(url.clone()).body(encoded(&form)), &url, None).await?;
    filled(told.access_token, &url)
}

fn at(base: &Url, path: &str) -> Result<Url, AuthError> {
    let base = format!("{}/", base.as_str().trim_end_matches('/'));
    let url = Url::parse(&base).and_then(|base| base.join(path));
    url.map_err(|_| AuthError::denied("an address of Azure's cannot be read"))
}

fn encoded(form: &Form<'_>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

fn filled(token: String, url: &Url) -> Result<SecretString, AuthError> {
    let detail = || format!("{} answered without a token", locate::shown(url));
    if token.is_empty() { Err(AuthError { kind: ErrorKind::Invalid, detail: detail() }) } else { Ok(token.into()) }
}

/// Sends a request and reads its answer. Of a refusal, only the status and the code are told. What a registry asks for with
/// it holds for its gate.
async fn ask(request: reqwest::RequestBuilder, url: &Url, gate: Option<&Gate>) -> Result<Told, AuthError> {
    let shown = locate::shown(url);
    let failed = |kind: ErrorKind, what: String| AuthError { kind, detail: format!("{shown} {what}") };
    let form = "application/x-www-form-urlencoded";
    let answered = request.header(http::header::CONTENT_TYPE, form).timeout(LIMIT).send().await;
    let unanswered = |error: reqwest::Error| {
        let what = if error.is_connect() { "cannot be reached" } else { "did not answer" };
        failed(ErrorKind::Unavailable, what.to_owned())
    };
    let mut response = answered.map_err(unanswered)?;
    let status = response.status();
    let asked = retry::retry_after(response.headers(), chrono::Utc::now());
    if let (Some(gate), Some(asked), Some(Failure::Throttled)) =
        (gate, asked, retry::failure_of(status, response.headers()))
    {
        gate.pause(asked);
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unanswered)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER {
            return Err(failed(ErrorKind::Invalid, format!("answered more than {MAX_ANSWER} bytes")));
        }
    }
    let told = serde_json::from_slice::<Told>(&body);
    if status.is_success() {
        // Why it cannot be read is not told: it could quote a token.
        return told.map_err(|_| failed(ErrorKind::Invalid, "answered with something else than a token".to_owned()));
    }
    let code = told.map(|told| told.error).unwrap_or_default();
    let code: String = code.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').take(40).collect();
    let code = if code.is_empty() { code } else { format!(", {code}") };
    let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let kind = if passes { ErrorKind::Unavailable } else { ErrorKind::Denied };
    Err(failed(kind, format!("refused: {status}{code}")))
}

/// How long a token is good, by the `exp` within it.
fn lifetime(token: &str, now: i64) -> Duration {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let claims = token.split('.').nth(1);
    let claims = claims.and_then(|text| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok());
    let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
    let left = claims.map(|claims| Duration::from_secs(u64::try_from(claims.exp - now).unwrap_or_default()));
    left.map_or(KEPT, |left| left.saturating_sub(SPARE.min(left / 2)).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_is_good_until_shortly_before_it_ends() {
        let token = |json: &str| format!("x.{}.y", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json));
        assert_eq!(lifetime(&token(r#"{"exp": 4600}"#), 1000), Duration::from_secs(3540));
        assert_eq!(lifetime(&token(r#"{"exp": 1010}"#), 1000), Duration::from_secs(5));
        assert_eq!(lifetime(&token(r#"{"exp": 10}"#), 1000), Duration::ZERO);
        assert_eq!(lifetime(&token(r#"{"exp": 99999999}"#), 1000), LONGEST);
        assert_eq!(lifetime("opaque", 1000), KEPT);
    }
}

//! Who we are to one registry, as the configuration or this machine says: one file a source, asked when a registry wants
//! to know, and asked again after a refusal. How a login is shown to a registry is `auth` and `token`.

mod secret;

use std::time::Duration;

use base64::Engine as _;
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::Credentials;
use super::answer::sensitive;
use super::auth::AuthError;

/// An answer so young is not asked for again when it is refused: it would be the same.
const YOUNG: Duration = Duration::from_secs(10);

/// Who to be.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    /// A user name and its password.
    Password { username: String, password: SecretString },
    /// An identity token, to be given to the token service.
    Token(SecretString),
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password { username: a, password: x }, Self::Password { username: b, password: y }) => {
                a == b && x.expose_secret() == y.expose_secret()
            }
            (Self::Token(a), Self::Token(b)) => a.expose_secret() == b.expose_secret(),
            (Self::Password { .. }, Self::Token(_)) | (Self::Token(_), Self::Password { .. }) => false,
        }
    }
}

impl Login {
    /// The user name and the password as a Basic header; `None` for a token, which has neither.
    pub(crate) fn basic(&self) -> Result<Option<HeaderValue>, AuthError> {
        let Self::Password { username, password } = self else { return Ok(None) };
        let login = format!("{username}:{}", password.expose_secret());
        let value =
            HeaderValue::from_str(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login)));
        Ok(Some(sensitive(value.map_err(|_| AuthError::denied("the credentials do not fit into a header"))?)))
    }
}

/// Where the login of one registry comes from.
#[derive(Debug)]
pub(crate) struct Source {
    credentials: Option<Credentials>,
    /// The last answer. Its lock is held while the source is asked: that is what makes it one flight.
    last: tokio::sync::Mutex<Last>,
}

/// What a source said last.
#[derive(Debug, Default)]
struct Last {
    answer: Option<Known>,
    /// For those who waited for it too.
    failure: Option<(Instant, AuthError)>,
}

/// An answer and how long it holds.
#[derive(Debug)]
struct Known {
    login: Option<Login>,
    asked: Instant,
    until: Instant,
}

impl Source {
    pub(crate) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, last: tokio::sync::Mutex::default() }
    }

    /// Who we are, for people: a user name where it is known, else the source.
    pub(crate) fn identity(&self) -> String {
        match &self.credentials {
            None | Some(Credentials::Anonymous) => "anonymous".to_owned(),
            Some(Credentials::Password { username, .. }) => username.clone(),
            Some(Credentials::Token(_)) => "token".to_owned(),
        }
    }

    /// The login, `None` for nobody.
    pub(crate) async fn login(&self) -> Result<Option<Login>, AuthError> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(known) = &last.answer
            && known.until > came
        {
            return Ok(known.login.clone());
        }
        self.renew(&mut last, came).await
    }

    /// After `refused` was: the login that the source has by now, `None` where it has no other.
    pub(crate) async fn another(&self, refused: &Login) -> Result<Option<Login>, AuthError> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(known) = &last.answer
            && known.until > came
        {
            if known.login.as_ref() != Some(refused) {
                return Ok(known.login.clone());
            }
            if known.asked.elapsed() < YOUNG {
                return Ok(None);
            }
        }
        let login = self.renew(&mut last, came).await?;
        Ok(login.filter(|login| login != refused))
    }

    async fn renew(&self, last: &mut Last, came: Instant) -> Result<Option<Login>, AuthError> {
        if let Some((at, failure)) = &last.failure
            && *at > came
        {
            return Err(failure.clone());
        }
        let asked = Instant::now();
        match self.ask().await {
            Ok((login, kept)) => {
                let until = Instant::now() + kept;
                *last = Last { answer: Some(Known { login: login.clone(), asked, until }), failure: None };
                Ok(login)
            }
            Err(failure) => {
                *last = Last { answer: None, failure: Some((Instant::now(), failure.clone())) };
                Err(failure)
            }
        }
    }

    /// Asks, and says how long the answer holds: not at all where reading it again costs nothing.
    async fn ask(&self) -> Result<(Option<Login>, Duration), AuthError> {
        let login = match &self.credentials {
            None | Some(Credentials::Anonymous) => None,
            Some(Credentials::Password { username, password }) => {
                let password = secret::read(&format!("the password of {username}"), password).await?;
                Some(Login::Password { username: username.clone(), password })
            }
            Some(Credentials::Token(token)) => Some(Login::Token(secret::read("the token", token).await?)),
        };
        Ok((login, Duration::ZERO))
    }
}

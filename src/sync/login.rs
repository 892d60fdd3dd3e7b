//! Checks of `login-check`. For each registry of a configuration they determine:
//! - its reachability,
//! - the identity in which we are authenticated,
//! - the grant of the access that the entries need.
//!
//! The checks write nothing and read no manifest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::Endpoints;
use super::required_access::{Right, Wanted, Wishes, add_wishes, registries};
use crate::config::Config;
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::{Greeting, LetIn, LoginError, Proof, Registry, Scheme, StatedLimits};
use crate::store::{ErrorKind, StoreError};

/// Maximum number of checks that run at one registry at once. The registry's own limits apply in addition.
pub(crate) const AT_ONCE: usize = 8;

/// Maximum duration of one check, including the waits that the registry asks for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Detail of a check whose credentials the registry accepted.
const LET_IN: &str = "let in";

/// Detail of a check that found access to an existing repository granted.
const GRANTED: &str = "granted";

/// Detail of a check that is skipped because it could create a repository.
const UNPROVEN: &str =
    "not proven: the repository is not there yet, and to ask for the right to push may make it at this registry";

/// Result of the checks of one registry.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LoginReport {
    /// The registry.
    pub registry: RegistryHost,
    /// The checks, in the order in which they were made.
    pub checks: Vec<LoginAnswer>,
}

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LoginAnswer {
    /// True if a run gets the access that it needs.
    pub ok: bool,
    /// True if something is not as it should be, even if a run gets its access.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// `reach`, `auth`, `login`, `catalog`, `pull`, `push`, `mirror` or `limits`.
    pub check: &'static str,
    /// The identity that made the check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The entries that need this access.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
    /// The finding, or the error and its remedy.
    pub detail: String,
}

/// Requested host that belongs to no configured registry and no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has no registry {0}: it has {1}")]
pub struct UnknownHost(RegistryHost, String);

impl LoginReport {
    /// Returns true if no check failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

impl LoginAnswer {
    pub(crate) fn new(check: &'static str, found: Result<String, String>) -> Self {
        let ok = found.is_ok();
        let detail = found.unwrap_or_else(|why| why);
        Self { ok, warning: false, check, identity: None, repository: None, entries: Vec::new(), detail }
    }

    fn of(self, identity: String) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Returns this check with a warning: its result is uncertain.
    fn doubtful(self) -> Self {
        Self { warning: true, ..self }
    }

    /// Returns this check as passed, since runs continue without it. A failure becomes a warning.
    fn dispensable(self) -> Self {
        Self { ok: true, warning: self.warning || !self.ok, ..self }
    }
}

/// Checks all registries of the configuration at once, or only those of `hosts` if it is not empty.
/// May be dropped at any time.
///
/// # Errors
/// [`UnknownHost`] if the configuration lacks one of the hosts.
pub async fn login_check(
    config: &Config,
    endpoints: &Endpoints,
    hosts: &[RegistryHost],
) -> Result<Vec<LoginReport>, UnknownHost> {
    let mut wanted = registries(config);
    if let Some(unknown) = hosts.iter().find(|host| wanted.iter().all(|known| known.host != **host)) {
        let known: Vec<&str> = wanted.iter().map(|known| known.host.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(UnknownHost(unknown.clone(), known));
    }
    let is_asked = |host: &RegistryHost| hosts.is_empty() || hosts.contains(host);
    add_wishes(&mut wanted, config, endpoints, is_asked).await;
    let asked = wanted.iter().filter(|wanted| is_asked(&wanted.host));
    Ok(join_all(asked.map(|wanted| ask(wanted, endpoints))).await)
}

async fn ask(wanted: &Wanted<'_>, endpoints: &Endpoints) -> LoginReport {
    let as_it_counts = |check: LoginAnswer| if wanted.is_dispensable() { check.dispensable() } else { check };
    let report = |checks: Vec<LoginAnswer>| {
        let checks = checks.into_iter().map(as_it_counts).collect();
        LoginReport { registry: wanted.host.clone(), checks }
    };
    let own = match endpoints.registry(&wanted.host, None) {
        Ok(own) => own,
        Err(error) => return report(vec![LoginAnswer::new("reach", Err(error.to_string()))]),
    };
    let greeting = match greeted(&own, PATIENCE).await {
        Ok(greeting) => greeting,
        Err(why) => return report(vec![LoginAnswer::new("reach", Err(why))]),
    };
    let mut checks =
        vec![LoginAnswer::new("reach", Ok(way(&greeting))), LoginAnswer::new("auth", Ok(asked_for(&greeting.scheme)))];
    let by = wanted.by.iter().map(|wishes| async {
        let checks = by_one(&wanted.host, wishes, &greeting, endpoints).await;
        let dispensable = wanted.is_dispensable_as(wishes);
        checks.into_iter().map(|check| if dispensable { check.dispensable() } else { check }).collect::<Vec<_>>()
    });
    checks.extend(join_all(by).await.into_iter().flatten());
    report(checks)
}

/// Connects without credentials and returns the registry's greeting. Fails with the error as text, also if the greeting
/// takes longer than `patience`, waits included.
async fn greeted(registry: &Registry, patience: Duration) -> Result<Greeting, String> {
    match tokio::time::timeout(patience, registry.greet()).await {
        Ok(greeting) => greeting.map_err(|error| error.detail),
        Err(_) => Err(late(patience)),
    }
}

fn way(greeting: &Greeting) -> String {
    let Greeting { version, proxy, proof, .. } = greeting;
    let through = proxy.as_ref().map(|proxy| format!(", through the proxy {proxy}")).unwrap_or_default();
    let proof = match proof {
        Proof::None => "without TLS".to_owned(),
        Proof::Unverified => "TLS, whose certificate is not looked at (insecure_skip_verify)".to_owned(),
        Proof::Certificate(None) => "TLS".to_owned(),
        Proof::Certificate(Some(end)) => format!("TLS, by a certificate until {}", end.format("%Y-%m-%d")),
    };
    format!("{version}, {proof}{through}")
}

fn asked_for(scheme: &Scheme) -> String {
    match scheme {
        Scheme::Nothing => "nothing, at first".to_owned(),
        Scheme::Basic => "Basic".to_owned(),
        Scheme::Bearer(realm) => format!("Bearer, by tokens of {realm}"),
    }
}

/// Makes all checks of one identity.
async fn by_one(
    host: &RegistryHost,
    wishes: &Wishes<'_>,
    greeting: &Greeting,
    endpoints: &Endpoints,
) -> Vec<LoginAnswer> {
    let registry = match endpoints.registry(host, wishes.credentials) {
        Ok(registry) => registry,
        Err(error) => return vec![LoginAnswer::new("login", Err(error.to_string()))],
    };
    let limits = Mutex::new(greeting.limits.clone());
    let asker = Asker { registry, limits, silent: AtomicBool::new(false), has_no_login: AtomicBool::new(false) };
    let (login, is_proven) = asker.login(!wishes.rights.is_empty()).await;
    let login = match greeting.scheme {
        // A run sends no credentials to a registry that requires none, so missing credentials do not stop it.
        Scheme::Nothing if asker.has_no_login.load(Ordering::Relaxed) => login.dispensable(),
        _ => login,
    };
    let identity = asker.registry.identity();
    let mut checks = vec![login.of(identity.clone())];
    checks.extend(wishes.trees.iter().cloned().map(|check| check.of(identity.clone())));
    if checks[0].ok {
        let rights = stream::iter(&wishes.rights).map(|(name, right, entries)| async {
            // Docker's configuration may have a login for the repository's namespace.
            let registry = match endpoints.registry_below(host, name, wishes.credentials) {
                Ok(registry) => registry,
                Err(error) => return LoginAnswer::new(right.name(), Err(error.to_string())),
            };
            let (found, is_certain) = match asker.right(&registry, name, *right).await {
                Ok(Granted::Surely(found)) => (Ok(found), true),
                Ok(Granted::Perhaps(found)) => (Ok(found), false),
                Err(why) => (Err(why), true),
            };
            let check = LoginAnswer::new(right.name(), found);
            let check = if is_certain { check } else { check.doubtful() };
            let check = if *right == Right::Mirror { check.dispensable() } else { check };
            let identity = Some(registry.identity());
            LoginAnswer { identity, repository: Some(name.to_string()), entries: entries.clone(), ..check }
        });
        checks.extend(rights.buffered(AT_ONCE).collect::<Vec<_>>().await);
    }
    if !is_proven && checks[0].ok {
        let granted = checks.iter().filter(|check| check.ok && check.detail == GRANTED);
        asker.prove(granted.filter_map(|check| check.repository.as_ref()?.parse().ok()).take(AT_ONCE)).await;
        // The registry refused a request without the credentials and granted it with them: they are valid.
        let proven = LoginAnswer { detail: LET_IN.to_owned(), ..checks[0].clone() };
        checks[0] = if asker.registry.has_proven_login() { proven } else { checks[0].clone().doubtful() };
    }
    checks.extend(asker.stated().map(|limits| LoginAnswer::new("limits", Ok(limits)).of(identity)));
    checks
}

/// Client that checks one registry in one identity.
struct Asker {
    registry: Arc<Registry>,
    limits: Mutex<StatedLimits>,
    /// True once the registry did not answer in time: the remaining checks are skipped.
    silent: AtomicBool,
    /// True once the source of the credentials turned out to have none.
    has_no_login: AtomicBool,
}

impl Asker {
    /// Checks the login. The second value is true if the result is proven as far as possible.
    async fn login(&self, tries_follow: bool) -> (LoginAnswer, bool) {
        let let_in = self.in_time(self.registry.log_in(tries_follow)).await;
        let is_proven = !matches!(let_in, Ok(LetIn::Unasked));
        let told = let_in.map(|let_in| match let_in {
            LetIn::Anonymous => "there are no credentials".to_owned(),
            LetIn::As(_) => LET_IN.to_owned(),
            LetIn::Unasked => "the credentials were not asked for".to_owned(),
            LetIn::Perhaps(_) => "a token, as good as the repositories say".to_owned(),
        });
        (LoginAnswer::new("login", told.map_err(|failure| self.told(failure, "check the credentials"))), is_proven)
    }

    /// Formats a failure, with a remedy if the failure is about our identity.
    fn told(&self, failure: Failure, way_out: &str) -> String {
        let error = match failure {
            Failure::Late => return late(PATIENCE),
            // The error names its own remedy.
            Failure::Source(error) => {
                self.has_no_login.store(true, Ordering::Relaxed);
                return error.detail;
            }
            Failure::Told(error) => error,
        };
        let has_login = !self.has_no_login.load(Ordering::Relaxed);
        match error.kind {
            ErrorKind::Denied if !has_login => error.detail,
            ErrorKind::Denied if self.registry.identity() == "anonymous" => {
                format!("{}; write `credentials`", error.detail)
            }
            ErrorKind::Denied => format!("{}; {way_out}", error.detail),
            _ => error.detail,
        }
    }

    /// Requests the granted repositories without credentials until the registry refuses one of them. That refusal
    /// proves the credentials.
    async fn prove(&self, granted: impl Iterator<Item = RepositoryName>) {
        for name in granted {
            if self.registry.has_proven_login() || self.silent.load(Ordering::Relaxed) {
                return;
            }
            let repository = self.registry.repository(name);
            let proof = async { Ok::<_, StoreError>(repository.proves_login().await) };
            // A timeout proves nothing.
            let _ = self.in_time(proof).await;
        }
    }

    async fn right(&self, registry: &Arc<Registry>, name: &RepositoryName, right: Right) -> Result<Granted, String> {
        if self.silent.load(Ordering::Relaxed) {
            return Err("not asked, since the registry did not answer in time".to_owned());
        }
        let repository = registry.repository(name.clone());
        let told = |failure: Failure| self.told(failure, "grant it, or write other credentials");
        let exists = match self.in_time(repository.check_pull()).await {
            Ok(found) => {
                self.limits.lock().extend(found.limits);
                Some(found.exists)
            }
            // Some registries deny reads of a missing repository to an identity that may push to it.
            Err(Failure::Told(error)) if right == Right::Push && error.kind == ErrorKind::Denied => None,
            Err(failure) => return Err(told(failure)),
        };
        let granted = |what: &str| Ok(Granted::Surely(what.to_owned()));
        match (right, exists) {
            (Right::Pull | Right::Mirror, Some(true)) => return granted(GRANTED),
            (Right::Pull, _) => {
                return Err("it is not there; many registries say so too of what we may not see".to_owned());
            }
            (Right::Mirror, _) => return Err("it is not there: the registry itself will be read".to_owned()),
            (Right::Push, Some(true)) => {}
            (Right::Push, _) if repository.may_be_created_by_checking() => {
                return Ok(Granted::Perhaps(UNPROVEN.to_owned()));
            }
            (Right::Push, _) => {}
        }
        self.in_time(repository.check_push()).await.map_err(told)?;
        granted(match exists {
            Some(true) => GRANTED,
            Some(false) => "granted; it is not there yet",
            None => "granted; what is there may not be read",
        })
    }

    async fn in_time<T, E: Into<Failure>>(&self, asking: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answered) => answered.map_err(Into::into),
            Err(_) => {
                self.silent.store(true, Ordering::Relaxed);
                Err(Failure::Late)
            }
        }
    }

    fn stated(&self) -> Option<String> {
        let limits = self.limits.lock();
        let lines: BTreeMap<&String, &String> = limits.iter().collect();
        let lines: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

/// Granted access, and the certainty of the result.
enum Granted {
    Surely(String),
    Perhaps(String),
}

enum Failure {
    /// The source of the credentials has none.
    Source(StoreError),
    Told(StoreError),
    Late,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Source(error) => Self::Source(error),
            LoginError::Registry(error) => Self::Told(error),
        }
    }
}

/// Returns the message of a check that took longer than this time.
pub(crate) fn late(patience: Duration) -> String {
    format!("not answered within {}", humantime::format_duration(patience))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::registry::Options;

    #[tokio::test]
    async fn a_registry_whose_answer_drips_without_end_is_told_as_late() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = socket.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let begun = stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 60000\r\n\r\n");
            while begun.is_ok() && stream.write_all(b".").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let options = Options { plain_http: true, ..Options::default() };
        let registry = Registry::new(host.parse().unwrap(), options).unwrap();
        let told = greeted(&registry, Duration::from_millis(300)).await;
        assert_eq!(told, Err("not answered within 300ms".to_owned()));
    }
}

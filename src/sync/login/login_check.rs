//! Checks of `login-check`. For each registry of a configuration, the checks determine:
//! - whether the registry can be reached,
//! - whether the registry accepts the credentials,
//! - whether the registry grants the access that the entries need.
//!
//! The checks write no content and read no manifest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::answers::{CHECK_TIMEOUT, CHECKS_AT_ONCE, LoginAnswer, LoginReport, UnknownHost, timeout_message};
use super::required_access::{RequiredAccess, RequiredRegistry, Right, add_required_access, list_registries};
use crate::config::Config;
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::{AcceptedIdentity, Greeting, LoginError, Proof, Registry, Scheme, StatedLimits};
use crate::store::{ErrorKind, StoreError};
use crate::sync::Endpoints;

/// Text for a login check if the registry accepted the credentials.
const LOGIN_ACCEPTED: &str = "authenticated";

/// Text for a permission check if the repository exists and the registry grants the access.
const GRANTED: &str = "granted";

/// Text for a push check that transship skips because the check could create the repository.
const UNPROVEN: &str =
    "not checked: the repository does not exist yet, and a check of push access may create it at this registry";

/// Checks the registries in `hosts` concurrently. If `hosts` is empty, checks all registries of the configuration.
/// Cancel safe.
///
/// # Errors
/// [`UnknownHost`] if the configuration does not contain one of the hosts.
pub async fn login_check(
    config: &Config,
    endpoints: &Endpoints,
    hosts: &[RegistryHost],
) -> Result<Vec<LoginReport>, UnknownHost> {
    let mut wanted = list_registries(config);
    if let Some(unknown) = hosts.iter().find(|host| wanted.iter().all(|known| known.host != **host)) {
        let known: Vec<&str> = wanted.iter().map(|known| known.host.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(UnknownHost(unknown.clone(), known));
    }
    let is_requested = |host: &RegistryHost| hosts.is_empty() || hosts.contains(host);
    add_required_access(&mut wanted, config, endpoints, is_requested).await;
    let requested = wanted.iter().filter(|wanted| is_requested(&wanted.host));
    Ok(join_all(requested.map(|wanted| check_registry(wanted, endpoints))).await)
}

async fn check_registry(wanted: &RequiredRegistry<'_>, endpoints: &Endpoints) -> LoginReport {
    let adjust = |check: LoginAnswer| if wanted.is_dispensable() { check.dispensable() } else { check };
    let report = |checks: Vec<LoginAnswer>| {
        let checks = checks.into_iter().map(adjust).collect();
        LoginReport { registry: wanted.host.clone(), checks }
    };
    let own = match endpoints.registry(&wanted.host, None) {
        Ok(own) => own,
        Err(error) => return report(vec![LoginAnswer::new("reach", Err(error.to_string()))]),
    };
    let greeting = match greet_within(&own, CHECK_TIMEOUT).await {
        Ok(greeting) => greeting,
        Err(why) => return report(vec![LoginAnswer::new("reach", Err(why))]),
    };
    let mut checks = vec![
        LoginAnswer::new("reach", Ok(describe_connection(&greeting))),
        LoginAnswer::new("auth", Ok(describe_scheme(&greeting.scheme))),
    ];
    let identities = wanted.access.iter().map(|access| async {
        let checks = check_identity(&wanted.host, access, &greeting, endpoints).await;
        let dispensable = wanted.is_dispensable_as(access);
        checks.into_iter().map(|check| if dispensable { check.dispensable() } else { check }).collect::<Vec<_>>()
    });
    checks.extend(join_all(identities).await.into_iter().flatten());
    report(checks)
}

/// Connects without credentials. Returns the properties of the connection and the login scheme of the registry, or the
/// error as text. `limit` is the maximum duration including all waits.
async fn greet_within(registry: &Registry, limit: Duration) -> Result<Greeting, String> {
    match tokio::time::timeout(limit, registry.greet()).await {
        Ok(greeting) => greeting.map_err(|error| error.detail),
        Err(_) => Err(timeout_message(limit)),
    }
}

fn describe_connection(greeting: &Greeting) -> String {
    let Greeting { version, proxy, proof, .. } = greeting;
    let through = proxy.as_ref().map(|proxy| format!(", through the proxy {proxy}")).unwrap_or_default();
    let proof = match proof {
        Proof::None => "without TLS".to_owned(),
        Proof::Unverified => "TLS without verification of the certificate (insecure_skip_verify)".to_owned(),
        Proof::Certificate(None) => "TLS".to_owned(),
        Proof::Certificate(Some(end)) => format!("TLS, certificate valid until {}", end.format("%Y-%m-%d")),
    };
    format!("{version}, {proof}{through}")
}

fn describe_scheme(scheme: &Scheme) -> String {
    match scheme {
        Scheme::Nothing => "no credentials for the first request".to_owned(),
        Scheme::Basic => "Basic".to_owned(),
        Scheme::Bearer(realm) => format!("Bearer, with tokens from {realm}"),
    }
}

/// Makes all checks at a registry with one set of credentials.
async fn check_identity(
    host: &RegistryHost,
    access: &RequiredAccess<'_>,
    greeting: &Greeting,
    endpoints: &Endpoints,
) -> Vec<LoginAnswer> {
    let registry = match endpoints.registry(host, access.credentials) {
        Ok(registry) => registry,
        Err(error) => return vec![LoginAnswer::new("login", Err(error.to_string()))],
    };
    let limits = Mutex::new(greeting.limits.clone());
    let checker = IdentityChecker {
        registry,
        limits,
        has_timed_out: AtomicBool::new(false),
        has_no_login: AtomicBool::new(false),
    };
    let (login, is_proven) = checker.login(!access.rights.is_empty()).await;
    let login = match greeting.scheme {
        // If the registry requires no credentials, a run sends none. So missing credentials do not stop the run.
        Scheme::Nothing if checker.has_no_login.load(Ordering::Relaxed) => login.dispensable(),
        _ => login,
    };
    let identity = checker.registry.identity();
    let mut checks = vec![login.with_identity(identity.clone())];
    checks.extend(access.trees.iter().cloned().map(|check| check.with_identity(identity.clone())));
    if checks[0].ok {
        let rights = stream::iter(&access.rights).map(|(name, right, entries)| async {
            // Docker's configuration may have a login for the repository's namespace.
            let registry = match endpoints.registry_below(host, name, access.credentials) {
                Ok(registry) => registry,
                Err(error) => return LoginAnswer::new(right.name(), Err(error.to_string())),
            };
            let (found, is_certain) = match checker.check_right(&registry, name, *right).await {
                Ok(GrantedAccess::Proven(found)) => (Ok(found), true),
                Ok(GrantedAccess::Unproven(found)) => (Ok(found), false),
                Err(why) => (Err(why), true),
            };
            let check = LoginAnswer::new(right.name(), found);
            let check = if is_certain { check } else { check.doubtful() };
            let check = if *right == Right::Mirror { check.dispensable() } else { check };
            let identity = Some(registry.identity());
            LoginAnswer { identity, repository: Some(name.to_string()), entries: entries.clone(), ..check }
        });
        checks.extend(rights.buffered(CHECKS_AT_ONCE).collect::<Vec<_>>().await);
    }
    if !is_proven && checks[0].ok {
        let granted = checks.iter().filter(|check| check.ok && check.detail == GRANTED);
        checker
            .prove_login(granted.filter_map(|check| check.repository.as_ref()?.parse().ok()).take(CHECKS_AT_ONCE))
            .await;
        // If the registry refused a request without the credentials and granted the same request with the credentials,
        // the credentials are valid.
        let proven = LoginAnswer { detail: LOGIN_ACCEPTED.to_owned(), ..checks[0].clone() };
        checks[0] = if checker.registry.has_proven_login() { proven } else { checks[0].clone().doubtful() };
    }
    checks.extend(checker.stated_limits().map(|limits| LoginAnswer::new("limits", Ok(limits)).with_identity(identity)));
    checks
}

/// Client that checks one registry with one identity.
struct IdentityChecker {
    registry: Arc<Registry>,
    limits: Mutex<StatedLimits>,
    /// True once a check has taken longer than [`CHECK_TIMEOUT`]. The remaining checks are then skipped.
    has_timed_out: AtomicBool,
    /// True once the source of the credentials, such as a credential helper, failed to return credentials.
    has_no_login: AtomicBool,
}

impl IdentityChecker {
    /// Checks the login. If checks of repositories follow, pass true as `tries_follow`. If the registry did not ask for
    /// the credentials, the second value is false, because the result does not prove that the credentials are valid.
    async fn login(&self, tries_follow: bool) -> (LoginAnswer, bool) {
        let answer = self.within_limit(self.registry.log_in(tries_follow)).await;
        let is_proven = !matches!(answer, Ok(AcceptedIdentity::NotRequested));
        let login = answer.map(|let_in| match let_in {
            AcceptedIdentity::Anonymous => "there are no credentials".to_owned(),
            AcceptedIdentity::As(_) => LOGIN_ACCEPTED.to_owned(),
            AcceptedIdentity::NotRequested => "the registry did not ask for the credentials".to_owned(),
            AcceptedIdentity::Unknown(_) => {
                "token received; the checks of the repositories show if the registry accepts it".to_owned()
            }
        });
        (LoginAnswer::new("login", login.map_err(|failure| self.describe_failure(failure))), is_proven)
    }

    /// Returns the text of a failure. If the failure is a missing login, also sets `has_no_login`.
    fn describe_failure(&self, failure: CheckFailure) -> String {
        match failure {
            CheckFailure::TimedOut => timeout_message(CHECK_TIMEOUT),
            CheckFailure::Source(error) => {
                self.has_no_login.store(true, Ordering::Relaxed);
                error.detail
            }
            CheckFailure::Registry(error) => error.detail,
        }
    }

    /// Tries to prove that the credentials are valid. Requests the repositories in `granted` without credentials, until
    /// the registry refuses a request. The registry granted the same request with the credentials, so the refusal
    /// proves that the credentials are valid.
    async fn prove_login(&self, granted: impl Iterator<Item = RepositoryName>) {
        for name in granted {
            if self.registry.has_proven_login() || self.has_timed_out.load(Ordering::Relaxed) {
                return;
            }
            let repository = self.registry.repository(name);
            let proof = async { Ok::<_, StoreError>(repository.proves_login().await) };
            // A timeout proves nothing.
            let _ = self.within_limit(proof).await;
        }
    }

    /// Checks one permission for one repository.
    async fn check_right(
        &self,
        registry: &Arc<Registry>,
        name: &RepositoryName,
        right: Right,
    ) -> Result<GrantedAccess, String> {
        if self.has_timed_out.load(Ordering::Relaxed) {
            return Err("skipped, because the registry did not answer in time".to_owned());
        }
        let repository = registry.repository(name.clone());
        let describe = |failure: CheckFailure| self.describe_failure(failure);
        let exists = match self.within_limit(repository.check_pull()).await {
            Ok(found) => {
                self.limits.lock().extend(found.limits);
                Some(found.exists)
            }
            // Some registries deny reads of a repository that does not exist, even if a push may create the repository.
            Err(CheckFailure::Registry(error)) if right == Right::Push && error.kind == ErrorKind::Denied => None,
            Err(failure) => return Err(describe(failure)),
        };
        let granted = |detail: &str| Ok(GrantedAccess::Proven(detail.to_owned()));
        match (right, exists) {
            (Right::Pull | Right::Mirror, Some(true)) => return granted(GRANTED),
            (Right::Pull, _) => {
                return Err("the repository does not exist, or the credentials do not grant access to it".to_owned());
            }
            (Right::Mirror, _) => {
                return Err("the mirror does not have the repository: transship reads it from the original \
                    registry"
                    .to_owned());
            }
            (Right::Push, Some(true)) => {}
            (Right::Push, _) if repository.may_be_created_by_checking() => {
                return Ok(GrantedAccess::Unproven(UNPROVEN.to_owned()));
            }
            (Right::Push, _) => {}
        }
        self.within_limit(repository.check_push()).await.map_err(describe)?;
        granted(match exists {
            Some(true) => GRANTED,
            Some(false) => "granted; the repository does not exist yet",
            None => "granted; reads of the repository are denied",
        })
    }

    /// Runs a check for at most [`CHECK_TIMEOUT`].
    async fn within_limit<T, E: Into<CheckFailure>>(
        &self,
        check: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CheckFailure> {
        match tokio::time::timeout(CHECK_TIMEOUT, check).await {
            Ok(answered) => answered.map_err(Into::into),
            Err(_) => {
                self.has_timed_out.store(true, Ordering::Relaxed);
                Err(CheckFailure::TimedOut)
            }
        }
    }

    /// Returns the limits that the registry stated in its responses, as text.
    fn stated_limits(&self) -> Option<String> {
        let limits = self.limits.lock();
        let lines: BTreeMap<&String, &String> = limits.iter().collect();
        let lines: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

/// Result of a permission check that did not fail. The value is a text for the user.
enum GrantedAccess {
    /// The registry granted the access.
    Proven(String),
    /// transship skipped the check, because the check could create the repository.
    Unproven(String),
}

/// Failure of a check.
enum CheckFailure {
    /// The source of the credentials, such as a credential helper, has no credentials or cannot be read.
    Source(StoreError),
    /// The registry denied the request, or the request failed.
    Registry(StoreError),
    /// The check took longer than [`CHECK_TIMEOUT`].
    TimedOut,
}

impl From<StoreError> for CheckFailure {
    fn from(error: StoreError) -> Self {
        Self::Registry(error)
    }
}

impl From<LoginError> for CheckFailure {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Source(error) => Self::Source(error),
            LoginError::Registry(error) => Self::Registry(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::registry::Options;

    #[tokio::test]
    async fn registry_with_an_endless_response_times_out() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = socket.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let started = stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 60000\r\n\r\n");
            while started.is_ok() && stream.write_all(b".").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let options = Options { plain_http: true, ..Options::default() };
        let registry = Registry::new(host.parse().unwrap(), options).unwrap();
        let greeting = greet_within(&registry, Duration::from_millis(300)).await;
        assert_eq!(greeting, Err("no answer within 300ms".to_owned()));
    }
}

//! What `login-check` finds out: for each registry of a configuration whether it can be reached, as whom, and whether what the
//! entries want of it is granted. Nothing is written, and no manifest is read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::Endpoints;
use super::wishes::{Right, Wanted, Wishes, add_wishes, registries};
use crate::config::Config;
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::{Greeting, LetIn, Proof, Registry, Scheme, StatedLimits};
use crate::store::{ErrorKind, StoreError};

/// How many questions one registry is asked at once; its own limits apply below this.
pub(super) const AT_ONCE: usize = 8;

/// How long one question may take, with all that the registry asks to wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What was found out about one registry.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LoginReport {
    /// The registry.
    pub registry: RegistryHost,
    /// What was asked, in this order.
    pub checks: Vec<LoginAnswer>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LoginAnswer {
    /// Whether all is well.
    pub ok: bool,
    /// `reach`, `auth`, `login`, `catalog`, `pull`, `push` or `limits`.
    pub check: &'static str,
    /// As whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The entries that want it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
    /// What was found, or what is wrong and the way out.
    pub detail: String,
}

/// A host that was asked for, and that no configured registry or entry has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has no registry {0}: it has {1}")]
pub struct UnknownHost(RegistryHost, String);

impl LoginReport {
    /// Whether all is well.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

impl LoginAnswer {
    pub(super) fn new(check: &'static str, found: Result<String, String>) -> Self {
        let ok = found.is_ok();
        let detail = found.unwrap_or_else(|why| why);
        Self { ok, check, identity: None, repository: None, entries: Vec::new(), detail }
    }

    fn of(self, identity: String) -> Self {
        Self { identity: Some(identity), ..self }
    }
}

/// Asks each registry of the configuration, or those of these hosts alone; all at once. May be dropped at any time.
///
/// # Errors
/// [`UnknownHost`] where one of the hosts is not in the configuration.
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
    let report = |checks| LoginReport { registry: wanted.host.clone(), checks };
    let own = match endpoints.registry(&wanted.host, None) {
        Ok(own) => own,
        Err(error) => return report(vec![LoginAnswer::new("reach", Err(error.to_string()))]),
    };
    let greeting = match own.greet().await {
        Ok(greeting) => greeting,
        Err(error) => return report(vec![LoginAnswer::new("reach", Err(error.detail))]),
    };
    let mut checks =
        vec![LoginAnswer::new("reach", Ok(way(&greeting))), LoginAnswer::new("auth", Ok(asked_for(&greeting.scheme)))];
    let by = wanted.by.iter().map(|wishes| by_one(&wanted.host, wishes, &greeting, endpoints));
    checks.extend(join_all(by).await.into_iter().flatten());
    report(checks)
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

/// All that is asked in one name.
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
    let asker = Asker { registry, limits: Mutex::new(greeting.limits.clone()), silent: AtomicBool::new(false) };
    let login = asker.login(!wishes.rights.is_empty()).await;
    let identity = asker.registry.identity();
    let mut checks = vec![login.of(identity.clone())];
    checks.extend(wishes.trees.iter().cloned().map(|check| check.of(identity.clone())));
    if checks[0].ok {
        let rights = stream::iter(&wishes.rights).map(|(name, right, entries)| async {
            let found = asker.right(name, *right).await;
            let check = LoginAnswer::new(if *right == Right::Pull { "pull" } else { "push" }, found);
            let identity = Some(asker.registry.identity());
            LoginAnswer { identity, repository: Some(name.to_string()), entries: entries.clone(), ..check }
        });
        checks.extend(rights.buffered(AT_ONCE).collect::<Vec<_>>().await);
    }
    checks.extend(asker.stated().map(|limits| LoginAnswer::new("limits", Ok(limits)).of(identity)));
    checks
}

/// Asks one registry in one name.
struct Asker {
    registry: Arc<Registry>,
    limits: Mutex<StatedLimits>,
    /// It did not answer in time: the rest is not asked.
    silent: AtomicBool,
}

impl Asker {
    async fn login(&self, tries_follow: bool) -> LoginAnswer {
        let let_in = self.in_time(self.registry.log_in(tries_follow)).await;
        let told = let_in.map(|let_in| match let_in {
            LetIn::Anonymous => "there are no credentials".to_owned(),
            LetIn::As(_) => "let in".to_owned(),
            LetIn::Unasked => "the credentials were not asked for".to_owned(),
            LetIn::Perhaps(_) => "a token, as good as the repositories say".to_owned(),
        });
        LoginAnswer::new("login", told.map_err(|failure| failure.told(&self.registry, "check the credentials")))
    }

    async fn right(&self, name: &RepositoryName, right: Right) -> Result<String, String> {
        if self.silent.load(Ordering::Relaxed) {
            return Err("not asked, since the registry did not answer in time".to_owned());
        }
        let repository = self.registry.repository(name.clone());
        let told = |failure: Failure| failure.told(&self.registry, "grant it, or write other credentials");
        let found = self.in_time(repository.may_pull()).await.map_err(told)?;
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).extend(found.limits);
        match (right, found.exists) {
            (Right::Pull, true) => return Ok("granted".to_owned()),
            (Right::Pull, false) => {
                return Err("it is not there; many registries say so too of what we may not see".to_owned());
            }
            (Right::Push, _) => {}
        }
        self.in_time(repository.may_push()).await.map_err(told)?;
        Ok(if found.exists { "granted".to_owned() } else { "granted; it is not there yet".to_owned() })
    }

    async fn in_time<T>(&self, asking: impl Future<Output = Result<T, StoreError>>) -> Result<T, Failure> {
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answered) => answered.map_err(Failure::Told),
            Err(_) => {
                self.silent.store(true, Ordering::Relaxed);
                Err(Failure::Late)
            }
        }
    }

    fn stated(&self) -> Option<String> {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: BTreeMap<&String, &String> = limits.iter().collect();
        let lines: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

enum Failure {
    Told(StoreError),
    Late,
}

impl Failure {
    /// What is wrong, and the way out where it is about who we are.
    fn told(&self, registry: &Registry, way_out: &str) -> String {
        match self {
            Self::Late => late(),
            Self::Told(error) if error.kind == ErrorKind::Denied && registry.identity() == "anonymous" => {
                format!("{}; write `credentials`", error.detail)
            }
            Self::Told(error) if error.kind == ErrorKind::Denied => format!("{}; {way_out}", error.detail),
            Self::Told(error) => error.detail.clone(),
        }
    }
}

/// That [`PATIENCE`] was not enough.
pub(super) fn late() -> String {
    format!("not answered within {}", humantime::format_duration(PATIENCE))
}

//! How many manifests may be read where a registry counts that (Docker Hub's `ratelimit-limit` and `ratelimit-remaining`), for one
//! identity. A read beyond that is not sent. The arithmetic is in `budget.rs`; nothing here knows which tag is worth a read.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use http::{HeaderMap, StatusCode};
use tokio::sync::Notify;

use super::Registry;
use super::answer::{Answer, Context};
use super::retry;
use super::transport::Call;
use super::trouble::Trouble;
use crate::oci::{Digest, RegistryHost};
use crate::store::{ErrorKind, Reservation, StoreError};

mod budget;
#[cfg(test)]
mod tests;

use budget::{Budget, Heard, Told, Verdict, WINDOW};

/// A 429 that asks for more patience than this is the quota's. One that asks for less is about the rate of requests. One that says
/// nothing is the quota's where it answers a read that counts.
const PATIENCE: Duration = Duration::from_secs(60);

/// The windows of quotas, in seconds. Any gateway tells a limit for each second, minute or month under the same names: that is about
/// the rate of requests, or about another thing.
const WINDOWS: RangeInclusive<u64> = 600..=86_400;

/// What a registry that counts reads of manifests told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaState {
    /// The registry.
    pub registry: RegistryHost,
    /// Who we are there, as far as is known: a user name or `anonymous`, never a secret.
    pub identity: String,
    /// Reads in a window.
    pub limit: u64,
    /// How long a window is.
    pub window: Duration,
    /// What is left of them.
    pub remaining: u64,
    /// How many of these are left to others (`limits.keep`).
    pub kept: u64,
    /// When that was told.
    pub told: DateTime<Utc>,
}

/// What a request is to the quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Nothing.
    #[default]
    Nothing,
    /// It is free, and its answer tells what is left: HEAD of a manifest.
    Free,
    /// It counts: GET of a manifest, by this digest or by a tag.
    Counted(Option<Digest>),
}

/// The quota of one identity at one registry.
#[derive(Debug)]
pub(crate) struct Quota {
    inner: Arc<Inner>,
    /// Held by who finds out what is left; the others wait for what it learns.
    finding_out: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    registry: RegistryHost,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    budget: Budget,
    /// The manifests that reads are set aside for.
    reserved: HashMap<Digest, SetAside>,
}

/// The reads of one manifest that are set aside. Which of the reservations that name it a read belongs to, nobody knows; so there are at
/// most as many as there are reservations.
#[derive(Debug, Default)]
struct SetAside {
    reservations: u64,
    reads: u64,
}

impl Quota {
    pub(crate) fn new(registry: RegistryHost) -> Self {
        let inner = Inner { registry, state: Mutex::default(), ended: Notify::new() };
        Self { inner: Arc::new(inner), finding_out: tokio::sync::Mutex::default() }
    }

    /// Leaves so many reads to others from now on.
    pub(crate) fn keep(&self, reads: u64) {
        self.inner.lock().budget.keep(reads);
        // Who waits may go now, or is to be told that it may not.
        self.inner.ended.notify_waiters();
    }

    /// Whether this answer means that the quota is spent: then nothing else is to wait for what it asks.
    pub(crate) fn refuses(&self, reads: Reads, status: StatusCode, headers: &HeaderMap) -> bool {
        let counted = matches!(reads, Reads::Counted(_));
        status == StatusCode::TOO_MANY_REQUESTS && reads != Reads::Nothing && self.inner.refuses(headers, counted)
    }

    /// Whether reads are counted, as far as is known.
    pub(crate) fn counts(&self) -> bool {
        self.inner.registry.is_docker_hub() || self.inner.lock().budget.left(Utc::now()).is_some()
    }

    /// How many reads are left to us: [`u64::MAX`] where they are not counted, `None` where nothing is known.
    pub(crate) fn left(&self) -> Option<u64> {
        let state = self.inner.lock();
        state.budget.left(Utc::now()).or((!state.budget.knows_nothing()).then_some(u64::MAX))
    }

    /// Waits until something is known. Cancel safe.
    pub(crate) async fn known(&self) {
        loop {
            let ended = self.inner.ended.notified();
            if !self.inner.lock().budget.knows_nothing() {
                return;
            }
            ended.await;
        }
    }

    fn state(&self, identity: String) -> Option<QuotaState> {
        let state = self.inner.lock();
        let (told, at) = state.budget.told(Utc::now())?;
        Some(QuotaState {
            registry: self.inner.registry.clone(),
            identity,
            limit: told.limit,
            window: told.window,
            remaining: told.remaining,
            kept: state.budget.kept(),
            told: at,
        })
    }

    /// Sets aside the reads of these manifests, all or none.
    pub(crate) async fn reserve(&self, context: &Context, manifests: &[Digest]) -> Result<Reservation, StoreError> {
        self.inner.settled(context, manifests.len() as u64, |state| state.reserve(manifests)).await?;
        let reserved = Reserved { inner: Arc::clone(&self.inner), manifests: manifests.to_vec() };
        Ok(Some(Box::new(reserved)))
    }
}

impl State {
    fn reserve(&mut self, manifests: &[Digest]) -> Verdict {
        let verdict = self.budget.reserve(manifests.len() as u64, Utc::now());
        if verdict == Verdict::Taken {
            for digest in manifests {
                let aside = self.reserved.entry(*digest).or_default();
                aside.reservations += 1;
                aside.reads += 1;
            }
        }
        verdict
    }

    /// Ends a reservation, and gives back what no other one may need.
    fn release(&mut self, manifests: &[Digest]) {
        for digest in manifests {
            let Some(aside) = self.reserved.get_mut(digest) else { continue };
            aside.reservations -= 1;
            let unused = aside.reads.saturating_sub(aside.reservations);
            aside.reads -= unused;
            self.budget.give_back(unused);
            if aside.reservations == 0 {
                self.reserved.remove(digest);
            }
        }
    }

    /// Sets a read aside again that was not counted, as long as somebody may need it.
    fn put_back(&mut self, digest: &Digest) {
        if let Some(aside) = self.set_aside(Some(digest)).filter(|aside| aside.reads < aside.reservations) {
            aside.reads += 1;
            self.budget.put_back();
        }
    }

    fn set_aside(&mut self, digest: Option<&Digest>) -> Option<&mut SetAside> {
        self.reserved.get_mut(digest?)
    }

    fn needs_look(&self, digest: Option<&Digest>) -> bool {
        let is_reserved = digest.and_then(|digest| self.reserved.get(digest)).is_some_and(|aside| aside.reads > 0);
        !is_reserved && self.budget.needs_look(Utc::now())
    }

    /// Also says whether the read was set aside.
    fn take(&mut self, digest: Option<&Digest>) -> (Verdict, bool) {
        if let Some(aside) = self.set_aside(digest).filter(|aside| aside.reads > 0) {
            aside.reads -= 1;
            self.budget.take_reserved();
            return (Verdict::Taken, true);
        }
        (self.budget.take(Utc::now()), false)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until the verdict holds. [`Verdict::Later`] waits for a read that is under way; such a read waits for no other.
    /// Cancel safe.
    async fn settled(
        &self,
        context: &Context,
        reads: u64,
        mut ask: impl FnMut(&mut State) -> Verdict,
    ) -> Result<(), StoreError> {
        loop {
            let ended = self.ended.notified();
            let verdict = ask(&mut self.lock());
            match verdict {
                Verdict::Taken => return Ok(()),
                Verdict::Later => ended.await,
                Verdict::Spent => return Err(self.spent(context, reads)),
                Verdict::Never => return Err(self.too_much(context, reads)),
            }
        }
    }

    fn spent(&self, context: &Context, reads: u64) -> StoreError {
        let told = self.lock().budget.told(Utc::now());
        let window = told.map_or(WINDOW, |(told, _)| told.window);
        let needs = if reads > 1 { format!("{reads} more manifests are to be read, and ") } else { String::new() };
        let left = told.map_or_else(|| "is spent".to_owned(), |(told, at)| self.left_of(told, at));
        let detail = format!("{needs}the pull limit of {} {left}", self.registry);
        context.error(ErrorKind::QuotaSpent(wait_for(window)), detail)
    }

    /// `leaves 21 of 100 in 6h, of which 20 are kept back (told 2026-11-21T09:00:00Z)`.
    fn left_of(&self, told: Told, at: DateTime<Utc>) -> String {
        let Told { limit, window, remaining } = told;
        let window = humantime::format_duration(window);
        let kept = match self.lock().budget.kept() {
            0 => String::new(),
            kept => format!(", of which {kept} are kept back"),
        };
        let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        format!("leaves {remaining} of {limit} in {window}{kept} (told {at})")
    }

    fn too_much(&self, context: &Context, reads: u64) -> StoreError {
        let state = self.lock();
        let (limit, kept) = (state.budget.told(Utc::now()).map_or(0, |(told, _)| told.limit), state.budget.kept());
        let registry = &self.registry;
        let detail = format!(
            "{reads} more manifests are to be read, and the pull limit of {registry} is {limit}, of which {kept} are kept \
             back: sign in with a larger one, lower `limits.keep`, or choose fewer `platforms`"
        );
        context.error(ErrorKind::Refused, detail)
    }
}

/// How long to wait before looking whether something is left again: nobody says how the window goes, and a look is free.
fn wait_for(window: Duration) -> Duration {
    (window / 12).max(Duration::from_secs(1))
}

/// Reads that are set aside. Dropped, it gives back those that were not needed.
struct Reserved {
    inner: Arc<Inner>,
    manifests: Vec<Digest>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.inner.lock().release(&self.manifests);
    }
}

/// One attempt of one request. Dropped before its end is told, nobody knows whether it was counted.
#[derive(Debug, Default)]
pub(crate) struct Attempt<'a> {
    quota: Option<&'a Inner>,
    counted: bool,
    /// The manifest, where its read was set aside.
    reserved: Option<Digest>,
    /// 0 before it is sent.
    number: u64,
}

/// Held by who finds out what is left, until that is known or cannot be.
pub(crate) struct Alone<'a> {
    quota: &'a Inner,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.quota.lock().budget.tried(Utc::now());
    }
}

impl Attempt<'_> {
    /// It is sent now.
    pub(crate) fn goes(&mut self) {
        if let Some(quota) = self.quota {
            self.number = quota.lock().budget.sends();
        }
    }

    /// Takes in how it ended. An error where the registry said that the quota is spent: then there is no use in asking on.
    pub(crate) fn ended(mut self, context: &Context, outcome: &Result<Answer, Trouble>) -> Result<(), StoreError> {
        let Some(quota) = self.quota else { return Ok(()) };
        let heard = match outcome {
            Ok(answer) => quota.heard(answer.status, &answer.headers, self.counted),
            Err(trouble) if trouble.failure() == Some(retry::Failure::NotSent) => Heard::Uncounted,
            Err(_) => Heard::Lost,
        };
        self.end(heard);
        if heard == Heard::Refused { Err(quota.spent(context, 1)) } else { Ok(()) }
    }

    fn end(&mut self, heard: Heard) {
        if let Some(quota) = self.quota.take() {
            let mut state = quota.lock();
            state.budget.ended(self.number, self.counted, heard, Utc::now());
            // It may be sent again, and soon: after a long pause it was counted, or refused.
            if let Some(digest) = self.reserved.filter(|_| heard == Heard::Uncounted) {
                state.put_back(&digest);
            }
            drop(state);
            quota.ended.notify_waiters();
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.end(if self.number > 0 { Heard::Lost } else { Heard::Uncounted });
    }
}

impl Inner {
    fn heard(&self, status: StatusCode, headers: &HeaderMap, counted: bool) -> Heard {
        let told = self.told(headers);
        if status == StatusCode::TOO_MANY_REQUESTS {
            return self.heard_of_429(told, headers, counted);
        }
        match told {
            Some(told) => Heard::Told(told),
            None if status.is_success() => Heard::Silent,
            None if status.is_server_error() => Heard::Lost,
            None if status == StatusCode::UNAUTHORIZED || self.registry.is_docker_hub() => Heard::Uncounted,
            // Whoever counts says so in each answer.
            None if self.lock().budget.knows_nothing() => Heard::Silent,
            None => Heard::Uncounted,
        }
    }

    /// Others who share the account or the address may have used the quota up.
    fn heard_of_429(&self, told: Option<Told>, headers: &HeaderMap, counted: bool) -> Heard {
        match told {
            Some(told) if told.remaining > 0 => Heard::Told(told),
            Some(told) => {
                self.lock().budget.recall(told, Utc::now());
                Heard::Refused
            }
            None if self.refuses(headers, counted) => Heard::Refused,
            None => Heard::Uncounted,
        }
    }

    fn told(&self, headers: &HeaderMap) -> Option<Told> {
        told(headers, self.registry.is_docker_hub().then_some(WINDOW))
    }

    /// Whether a 429 with these headers is the quota's.
    fn refuses(&self, headers: &HeaderMap, counted: bool) -> bool {
        if let Some(told) = self.told(headers) {
            return told.remaining == 0;
        }
        let is_counting = self.registry.is_docker_hub() || self.lock().budget.told(Utc::now()).is_some();
        is_counting && retry::retry_after(headers, Utc::now()).map_or(counted, |asked| asked > PATIENCE)
    }
}

/// What the headers tell: `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`; of a window of `unstated` length where
/// they state none.
fn told(headers: &HeaderMap, unstated: Option<Duration>) -> Option<Told> {
    let read = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        let (count, parameters) = text.split_once(';').unwrap_or((text, ""));
        let window =
            parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("w=")?.parse::<u64>().ok());
        Some((count.trim().parse::<u64>().ok()?, window))
    };
    let (limit, window) = read("ratelimit-limit")?;
    let (remaining, _) = read("ratelimit-remaining")?;
    let window = match window {
        Some(seconds) => WINDOWS.contains(&seconds).then_some(Duration::from_secs(seconds)),
        None => unstated,
    }?;
    Some(Told { limit, window, remaining })
}

impl Registry {
    /// What is left of the quota, where the registry has told of one.
    #[must_use]
    pub fn quota(&self) -> Option<QuotaState> {
        self.auth.quota.state(self.auth.identity())
    }

    /// Takes in what was told earlier, of this registry and identity. What it tells itself holds from then on.
    pub fn recall_quota(&self, state: &QuotaState) {
        let inner = &self.auth.quota.inner;
        if (&state.registry, &state.identity) == (&inner.registry, &self.auth.identity()) {
            let told = Told { limit: state.limit, window: state.window, remaining: state.remaining };
            inner.lock().budget.recall(told, state.told);
        }
    }

    /// Finds out what is left, where this is to be known before a counted read. One does so and the others wait: at Docker Hub, and
    /// where there was a quota before, it asks, which is free; elsewhere its own read tells whether there is a quota, and what is
    /// returned is held until that is answered.
    pub(crate) async fn find_out_quota(&self, context: &Context, call: &Call) -> Option<Alone<'_>> {
        let quota = &self.auth.quota;
        let Reads::Counted(digest) = call.reads else { return None };
        if !quota.inner.lock().needs_look(digest.as_ref()) {
            return None;
        }
        let turn = quota.finding_out.lock().await;
        if !quota.inner.lock().needs_look(digest.as_ref()) {
            return None;
        }
        let alone = Alone { quota: &quota.inner, _turn: turn };
        if !quota.counts() {
            return Some(alone);
        }
        // What goes wrong with it goes wrong with the read too, which tells more.
        let _ = Box::pin(self.send(context, call.as_look())).await;
        None
    }

    /// Waits until this request may be sent. One that counts is not sent beyond the quota.
    pub(crate) async fn attempt_within_quota(&self, context: &Context, call: &Call) -> Result<Attempt<'_>, StoreError> {
        let inner = self.auth.quota.inner.as_ref();
        let attempt = |counted, reserved| Attempt { quota: Some(inner), counted, reserved, number: 0 };
        match &call.reads {
            Reads::Nothing => Ok(Attempt::default()),
            Reads::Free => Ok(attempt(false, None)),
            Reads::Counted(digest) => {
                let mut was_reserved = false;
                let take = |state: &mut State| {
                    let (verdict, reserved) = state.take(digest.as_ref());
                    was_reserved = reserved;
                    verdict
                };
                inner.settled(context, 1, take).await?;
                Ok(attempt(true, digest.filter(|_| was_reserved)))
            }
        }
    }
}

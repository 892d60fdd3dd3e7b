//! Delivery of the notices that wait in the journal. A notice is one notification for one receiver. [`super::news`]
//! creates the content of notices.
//!
//! - Each receiver gets its notices in the order of their creation.
//! - The daemon contacts up to eight receivers at once.
//! - After a failed attempt, the daemon waits (back-off) before the next attempt to the same receiver.
//!
//! A notice stays in the journal until its receiver accepts the notice, or until the daemon gives up the notice. So a
//! crash of the daemon loses no notice, but a notice may be delivered twice.
//!
//! After a delivery, the journal deletes the notice and records the facts that the notice reported. If the daemon gives
//! up a notice, the journal does not record these facts. So the next failure of the same entry causes a new notice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::journal::{Journal, JournalError, StoredNotification};
use crate::notify::{Message, Post, Refusal, Webhook};
use crate::status::{Delivery, Metrics};

/// Maximum number of receivers that are contacted at once.
const MAX_AT_ONCE: usize = 8;

/// First back-off of a receiver after a failed attempt. Each consecutive failure about doubles the back-off.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// Maximum back-off of a receiver.
const MAX_PAUSE: Duration = Duration::from_secs(30 * 60);

/// Age at which the daemon gives up an undelivered notice.
const GIVEN_UP: TimeDelta = TimeDelta::hours(24);

/// Wait after an error of the journal, or after a failure to create the HTTP client.
const JOURNAL_PAUSE: Duration = Duration::from_secs(60);

/// Webhooks by the name of their receiver.
pub(crate) type Receivers = BTreeMap<String, Webhook>;

/// Delivers notices. After `closing` is cancelled, this function delivers the remaining notices of receivers that are
/// not backed off, and then returns. Cancel safe, with one exception: if the future is dropped while a message is being
/// sent, the next start sends the message again.
pub(crate) async fn deliver_notices(
    journal: Journal,
    mut receivers: watch::Receiver<Arc<Receivers>>,
    fresh: Arc<Notify>,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
) {
    let mut round = DeliveryRound::new(journal, metrics);
    loop {
        let current = receivers.borrow_and_update().clone();
        let wait = round.start_due(&current).await;
        if closing.is_cancelled() && round.attempts.is_empty() {
            return;
        }
        tokio::select! {
            Some(ended) = round.attempts.join_next() => match ended {
                Ok((receiver, notice, outcome)) => round.finish_attempt(receiver, notice, outcome).await,
                // A panic in one attempt does not end the other attempts. The daemon contacts the receiver of the
                // panicked attempt only after the daemon's next start.
                Err(error) => tracing::error!(%error, "an attempt to deliver a notification panicked"),
            },
            () = fresh.notified() => {}
            // `changed` cannot fail, because the sender of this channel lives as long as the daemon.
            _ = receivers.changed() => {}
            () = closing.cancelled(), if !closing.is_cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Attempts under way, and receivers in back-off.
struct DeliveryRound {
    journal: Journal,
    metrics: Arc<Metrics>,
    /// HTTP client, created at the first attempt.
    post: Option<Arc<Post>>,
    attempts: JoinSet<(String, StoredNotification, Result<(), Refusal>)>,
    /// Receivers with an attempt under way.
    busy: BTreeSet<String>,
    backed_off: BTreeMap<String, ReceiverBackOff>,
    /// End of the wait after an error of the journal, or after a failure to create the HTTP client.
    paused_until: Option<Instant>,
}

/// Back-off of a receiver that failed.
struct ReceiverBackOff {
    until: Instant,
    pauses: ExponentialBackoff,
}

impl DeliveryRound {
    fn new(journal: Journal, metrics: Arc<Metrics>) -> Self {
        Self {
            journal,
            metrics,
            post: None,
            attempts: JoinSet::new(),
            busy: BTreeSet::new(),
            backed_off: BTreeMap::new(),
            paused_until: None,
        }
    }

    /// Starts an attempt for each receiver that has a waiting notice and is not in back-off. Returns the time until
    /// the next check.
    async fn start_due(&mut self, receivers: &Receivers) -> Duration {
        let now = Instant::now();
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return until - now;
        }
        self.paused_until = None;
        self.backed_off.retain(|receiver, _| receivers.contains_key(receiver));
        if let Err(error) = self.start_each(receivers, now).await {
            self.journal_failed(&error);
            return JOURNAL_PAUSE;
        }
        let next = self.backed_off.values().map(|backed_off| backed_off.until).filter(|until| *until > now).min();
        next.map_or(MAX_PAUSE, |next| next - now)
    }

    async fn start_each(&mut self, receivers: &Receivers, now: Instant) -> Result<(), JournalError> {
        let waiting = self.journal.waiting_receivers().await?;
        let configured = waiting.iter().filter(|(receiver, _)| receivers.contains_key(receiver));
        self.metrics.set_pending_notifications(configured.map(|(_, count)| count).sum());
        for (receiver, _) in waiting {
            let is_backed_off = self.backed_off.get(&receiver).is_some_and(|backed_off| backed_off.until > now);
            let Some(webhook) = receivers.get(&receiver).cloned() else {
                self.drop_old(&receiver).await?;
                continue;
            };
            if is_backed_off || self.busy.contains(&receiver) || self.attempts.len() >= MAX_AT_ONCE {
                continue;
            }
            if let Some(notice) = self.journal.next_notification(&receiver).await? {
                self.start(receiver, webhook, notice);
            }
        }
        Ok(())
    }

    /// Gives up old notices of a receiver that is not in the configuration. Newer notices stay in the journal, because
    /// another daemon with the same journal can have this receiver.
    async fn drop_old(&self, receiver: &str) -> Result<(), JournalError> {
        let dropped = self.journal.drop_notifications_until(receiver, Utc::now() - GIVEN_UP).await?;
        if dropped > 0 {
            tracing::warn!(receiver, dropped, "dropped notifications: the configuration has no such receiver");
            self.metrics.add_notifications(Delivery::GivenUp, dropped);
        }
        Ok(())
    }

    fn start(&mut self, receiver: String, webhook: Webhook, notice: StoredNotification) {
        let post = match &self.post {
            Some(post) => post.clone(),
            None => match Post::new() {
                Ok(post) => self.post.insert(Arc::new(post)).clone(),
                Err(error) => {
                    tracing::error!(%error, "cannot create the HTTP client for notifications");
                    self.paused_until = Some(Instant::now() + JOURNAL_PAUSE);
                    return;
                }
            },
        };
        self.busy.insert(receiver.clone());
        let message = Message { id: notice.message.clone(), body: notice.notice.body.clone() };
        self.attempts.spawn(async move {
            let outcome = post.deliver(&webhook, &message, Utc::now()).await;
            (receiver, notice, outcome)
        });
    }

    async fn finish_attempt(&mut self, receiver: String, notice: StoredNotification, outcome: Result<(), Refusal>) {
        self.busy.remove(&receiver);
        let (id, event) = (&notice.message, &notice.notice.event);
        let entry = Some(&notice.notice.subject).filter(|subject| !subject.is_empty());
        match outcome {
            Ok(()) => {
                if self.backed_off.remove(&receiver).is_some() {
                    tracing::info!(receiver, "the receiver accepts notifications again");
                }
                tracing::debug!(receiver, id, event, entry, "delivered a notification");
                self.finish_notice(&notice, Delivery::Delivered).await;
            }
            Err(Refusal::Later { why, wait }) if !is_old(&notice, Utc::now()) => {
                self.metrics.add_notifications(Delivery::Retried, 1);
                self.back_off(receiver, wait, &why);
            }
            Err(refusal) => {
                tracing::error!(receiver, id, event, entry, problem = %refusal, "gave up a notification");
                self.finish_notice(&notice, Delivery::GivenUp).await;
            }
        }
    }

    /// Backs off a receiver after a failed attempt. Only the first failure in a row is logged as a warning.
    fn back_off(&mut self, receiver: String, wait: Option<Duration>, why: &str) {
        if self.backed_off.contains_key(&receiver) {
            tracing::debug!(receiver, problem = why, "cannot deliver notifications yet");
        } else {
            tracing::warn!(receiver, problem = why, "cannot deliver a notification now; the delivery is retried");
        }
        let pauses = || {
            let builder = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_delay(MAX_PAUSE);
            builder.without_max_times().with_jitter().build()
        };
        let backed_off = self
            .backed_off
            .entry(receiver)
            .or_insert_with(|| ReceiverBackOff { until: Instant::now(), pauses: pauses() });
        // The pause is the longer of two times: the back-off, and the wait that the receiver requested.
        let pause = backed_off.pauses.next().unwrap_or(MAX_PAUSE).max(wait.unwrap_or_default());
        backed_off.until = Instant::now() + pause;
    }

    /// Records in the journal that a notice was delivered or given up. If the journal cannot record the result, the
    /// daemon sends the notice again.
    async fn finish_notice(&mut self, notice: &StoredNotification, delivery: Delivery) {
        self.metrics.add_notifications(delivery, 1);
        let recorded = match delivery {
            Delivery::Delivered => self.journal.notification_delivered(notice.number).await,
            _ => self.journal.drop_notification(notice.number).await,
        };
        if let Err(error) = recorded {
            self.journal_failed(&error);
        }
    }

    fn journal_failed(&mut self, error: &JournalError) {
        tracing::error!(%error, "cannot query the journal for waiting notifications");
        self.paused_until = Some(Instant::now() + JOURNAL_PAUSE);
    }
}

fn is_old(notice: &StoredNotification, now: DateTime<Utc>) -> bool {
    now - notice.made >= GIVEN_UP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::NewNotification;

    #[tokio::test]
    async fn notice_without_configured_receiver_expires_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let metrics = Arc::new(Metrics::new("0", Utc::now()));
        let mut round = DeliveryRound::new(journal.clone(), metrics.clone());
        for age in [TimeDelta::hours(25), TimeDelta::hours(23)] {
            let (receiver, subject) = ("a.example".to_owned(), "app".to_owned());
            let (learnt, forgotten) = (Vec::new(), Vec::new());
            let notice =
                NewNotification { receiver, subject, event: "failure".into(), body: "{}".into(), learnt, forgotten };
            journal.store_notifications(vec![notice], vec![], vec![], Utc::now() - age).await.unwrap();
        }
        round.start_due(&Receivers::new()).await;
        assert_eq!(journal.waiting_receivers().await.unwrap(), [("a.example".to_owned(), 1)]);
        assert!(metrics.encode().contains("transship_notifications_total{result=\"given_up\"} 1\n"));
        assert!(
            metrics.encode().contains("transship_notifications_pending 0\n"),
            "no notice of a configured receiver is pending"
        );
    }

    #[tokio::test]
    async fn undelivered_notice_expires_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let metrics = Arc::new(Metrics::new("0", Utc::now()));
        let mut round = DeliveryRound::new(journal.clone(), metrics.clone());
        let counted = |result: &str| {
            let line = format!("transship_notifications_total{{result=\"{result}\"}} ");
            metrics.encode().lines().find_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok()).unwrap_or(0)
        };
        let later = || Err(Refusal::Later { why: "no answer".into(), wait: None });
        let almost_a_day = TimeDelta::hours(24) - TimeDelta::minutes(5);
        for (age, retried, given_up) in [(TimeDelta::zero(), 1, 0), (almost_a_day, 2, 0), (TimeDelta::hours(24), 2, 1)]
        {
            let (receiver, subject) = ("a.example".to_owned(), "app".to_owned());
            let (learnt, forgotten) = (Vec::new(), Vec::new());
            let notice =
                NewNotification { receiver, subject, event: "failure".into(), body: "{}".into(), learnt, forgotten };
            journal.store_notifications(vec![notice], vec![], vec![], Utc::now() - age).await.unwrap();
            let notice = journal.next_notification("a.example").await.unwrap().unwrap();
            let number = notice.number;
            round.finish_attempt("a.example".into(), notice, later()).await;
            assert_eq!((counted("retried"), counted("given_up")), (retried, given_up), "{age}");
            let waits = journal.next_notification("a.example").await.unwrap().is_some();
            assert_eq!(waits, given_up == 0, "{age}");
            journal.drop_notification(number).await.unwrap();
        }
        assert!(round.backed_off["a.example"].until > Instant::now(), "the receiver is backed off");
    }
}

//! Notices for receivers of notifications (webhooks). The daemon's loop reports ends of runs and changes of the
//! configuration to [`Notices`], which stores the resulting notices in the journal. [`super::news`] decides which
//! notices a receiver gets, and [`super::deliveries`] delivers the notices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::deliveries::{self, Receivers};
use super::news::{CONFIGURATION, Listener, News, configuration_news, listeners, run_news};
use crate::config::{Config, Entry};
use crate::journal::{Journal, JournalError};
use crate::notify::Notify;
use crate::status::{Delivery, Metrics};
use crate::sync::RunReport;

/// Receivers of notices, and the journal. The journal records the facts that transship has already reported to each
/// receiver.
#[derive(Clone)]
pub(crate) struct Notices {
    journal: Journal,
    /// Path of the configuration file, for the text of messages.
    path: String,
    requests: Arc<Mutex<NotifyRequests>>,
    receivers: watch::Sender<Arc<Receivers>>,
    metrics: Arc<Metrics>,
    /// Signal that a notice is ready for delivery.
    fresh: Arc<tokio::sync::Notify>,
    closing: CancellationToken,
}

/// Receivers and their requested events, from the configuration in force.
#[derive(Debug, Default)]
struct NotifyRequests {
    /// Receivers for all entries and for the configuration itself.
    daemon: Vec<Notify>,
    /// Receivers for one entry, by the name of the entry.
    entries: BTreeMap<String, Vec<Notify>>,
}

impl Notices {
    pub(crate) fn new(journal: Journal, path: String, config: &Config, metrics: Arc<Metrics>) -> Self {
        let (receivers, _) = watch::channel(Arc::default());
        let notices = Self {
            journal,
            path,
            requests: Arc::default(),
            receivers,
            metrics,
            fresh: Arc::default(),
            closing: CancellationToken::new(),
        };
        notices.set_requests(config);
        notices
    }

    /// Starts the task that delivers the waiting notices.
    pub(crate) fn deliver(&self) -> JoinHandle<()> {
        let (journal, receivers, metrics) = (self.journal.clone(), self.receivers.subscribe(), self.metrics.clone());
        tokio::spawn(deliveries::deliver_notices(journal, receivers, self.fresh.clone(), metrics, self.closing.clone()))
    }

    /// Waits for the delivery of the waiting notices, but at most `longest`. Undelivered notices stay in the journal
    /// until the next start.
    pub(crate) async fn close(&self, mut delivering: JoinHandle<()>, longest: Duration) {
        self.closing.cancel();
        if tokio::time::timeout(longest, &mut delivering).await.is_err() {
            tracing::info!("some notifications are pending; the next start retries them");
            delivering.abort();
        }
    }

    /// Applies a new configuration:
    /// - sets the receivers;
    /// - reports the recovery to receivers that were notified of a refused edit;
    /// - deletes the facts and the waiting notices of each receiver that only the previous configuration names. If
    ///   neither configuration names a receiver, its notices are kept, because another daemon with the same journal can
    ///   have this receiver.
    pub(crate) async fn report_configuration(&self, config: &Config, now: DateTime<Utc>) {
        let before = self.receivers.borrow().clone();
        self.set_requests(config);
        let removed =
            before.keys().filter(|receiver| !self.receivers.borrow().contains_key(*receiver)).cloned().collect();
        match self.journal.drop_receivers(removed).await {
            Ok(0) => {}
            Ok(dropped) => {
                self.metrics.add_notifications(Delivery::GivenUp, dropped);
                tracing::warn!(dropped, "dropped notifications: the configuration no longer names their receivers");
            }
            Err(error) => log_not_stored(&error),
        }
        self.report_configuration_state(None, now).await;
    }

    /// Reports that an edit of the configuration was refused.
    pub(crate) async fn report_refused_edit(&self, problems: &str, now: DateTime<Utc>) {
        self.report_configuration_state(Some(problems), now).await;
    }

    /// Reports the end of a run. `whole` is false if the run was limited to some tags. Returns after the journal has
    /// stored the notices. An error of the journal is only logged, and does not change the outcome of the run.
    pub(crate) async fn report_run_end(&self, entry: &Entry, report: &RunReport, whole: bool) {
        let wanted = self.requests_for(entry.name.as_str());
        let outcome = self.store_news(entry.name.as_str(), &wanted, |listener, news| {
            run_news(entry, report, whole, listener, news);
        });
        if let Err(error) = outcome.await {
            log_not_stored(&error);
        }
    }

    async fn report_configuration_state(&self, problems: Option<&str>, now: DateTime<Utc>) {
        let wanted = self.requests_for(CONFIGURATION);
        let outcome = self.store_news(CONFIGURATION, &wanted, |listener, news| {
            configuration_news(&self.path, problems, now, listener, news);
        });
        if let Err(error) = outcome.await {
            log_not_stored(&error);
        }
    }

    /// Collects the news for each receiver with `collect`, and stores the news in the journal.
    async fn store_news(
        &self,
        subject: &str,
        wanted: &[Notify],
        mut collect: impl FnMut(&Listener<'_>, &mut News),
    ) -> Result<(), JournalError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let facts = self.journal.facts_of(subject).await?;
        let mut news = News::default();
        for listener in listeners(wanted, &facts) {
            collect(&listener, &mut news);
        }
        let News { notices, learnt, forgotten } = news;
        if notices.is_empty() && learnt.is_empty() && forgotten.is_empty() {
            return Ok(());
        }
        let dropped = self.journal.store_notifications(notices, learnt, forgotten, Utc::now()).await?;
        if dropped > 0 {
            self.metrics.add_notifications(Delivery::GivenUp, dropped);
            tracing::error!(dropped, "too many notifications wait for a receiver: dropped the oldest notifications");
        }
        self.fresh.notify_one();
        Ok(())
    }

    fn set_requests(&self, config: &Config) {
        let entries = config.entries.iter().map(|entry| (entry.name.to_string(), entry.notify.clone())).collect();
        let wanted = NotifyRequests { daemon: config.daemon.notify.clone(), entries };
        let all = wanted.daemon.iter().chain(wanted.entries.values().flatten());
        let receivers = all.map(|notify| (notify.webhook.receiver.to_string(), notify.webhook.clone())).collect();
        *self.requests.lock() = wanted;
        self.receivers.send_replace(Arc::new(receivers));
    }

    fn requests_for(&self, entry: &str) -> Vec<Notify> {
        let wanted = self.requests.lock();
        wanted.daemon.iter().chain(wanted.entries.get(entry).into_iter().flatten()).cloned().collect()
    }
}

fn log_not_stored(error: &JournalError) {
    tracing::error!(%error, "the journal cannot store notifications: no notification is sent");
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::config;
    use crate::copy::event::BlobCounts;
    use crate::daemon::notifications::doc_tests;
    use crate::sync::{RunOutcome, TagOutcome, TagReport};

    const ONE: &str = "{webhook: {url: \"https://a.example/x\", secret: 12345678}, on: [failure, recovery, withheld]}";
    const OTHER: &str = "{webhook: {url: \"https://b.example/x\", secret: 12345678}, on: recovery}";

    fn config(of_all: &str, of_entry: &str) -> Config {
        let text = format!(
            "version: 1\ndaemon: {{notify: [{of_all}]}}\nsync:\n- \
             {{name: app, source: h.example/a, target: t.example/a, notify: [{of_entry}]}}\n"
        )
        .replace("secret: 12345678", "secret: \"12345678\"");
        config::parse("sync.yaml", &text, &|_| Some("/tmp".into())).unwrap()
    }

    struct Bench {
        journal: Journal,
        notices: Notices,
        entry: Entry,
        /// True if the runs are not limited to some tags.
        whole: bool,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new(of_all: &str, of_entry: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            let config = config(of_all, of_entry);
            let metrics = Arc::new(Metrics::new("0", Utc::now()));
            let notices = Notices::new(journal.clone(), "sync.yaml".into(), &config, metrics);
            Self { journal, notices, entry: config.entries[0].clone(), whole: true, _folder: folder }
        }

        /// Ends a run with this outcome and returns the delivered notices, by receiver.
        async fn end_run(&self, outcome: RunOutcome, tags: Vec<TagReport>) -> Vec<String> {
            let ended = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
            let report = RunReport { run: Some(1), tags, ..RunReport::new("app", ended, ended, outcome) };
            self.notices.report_run_end(&self.entry, &report, self.whole).await;
            self.deliver_waiting().await
        }

        /// Delivers and returns the waiting notices.
        async fn deliver_waiting(&self) -> Vec<String> {
            let mut waiting = Vec::new();
            for (receiver, _) in self.journal.waiting_receivers().await.unwrap() {
                while let Some(notice) = self.journal.next_notification(&receiver).await.unwrap() {
                    self.journal.notification_delivered(notice.number).await.unwrap();
                    doc_tests::assert_as_documented(&notice.notice.body);
                    let host = receiver.split_once('#').unwrap().0;
                    waiting.push(format!("{host} {} {}", notice.notice.event, notice.notice.subject));
                }
            }
            waiting
        }
    }

    fn tag(name: &str, content: &str, outcome: TagOutcome) -> TagReport {
        TagReport {
            source: "h.example/a".into(),
            target: "t.example/a".into(),
            tag: Some(name.parse().unwrap()),
            source_tag: None,
            digest: Some(crate::oci::Digest::of(content.as_bytes())),
            source_digest: None,
            outcome,
            blobs: BlobCounts::default(),
            bytes: 0,
        }
    }

    #[tokio::test]
    async fn receiver_is_notified_once_of_failure_and_recovery() {
        use RunOutcome::{Deferred, Failed, Interrupted, Succeeded, TimedOut};
        let bench = Bench::new(ONE, &format!("{ONE}, {OTHER}"));
        let none: [&str; 0] = [];
        for (outcome, expected) in [
            (Succeeded, &none[..]),
            (Interrupted, &none),
            (TimedOut, &["https://a.example failure app"]),
            (Failed, &none),
            (Interrupted, &none),
            (Deferred, &none),
            (Failed, &none),
            (Succeeded, &["https://a.example recovery app", "https://b.example recovery app"]),
            (Succeeded, &none),
            (Failed, &["https://a.example failure app"]),
        ] {
            assert_eq!(bench.end_run(outcome.clone(), Vec::new()).await, expected, "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn dropped_failure_notice_is_repeated_at_next_failure() {
        use RunOutcome::{Failed, Succeeded};
        let bench = Bench::new(ONE, "");
        let ended = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let report = RunReport { run: Some(1), ..RunReport::new("app", ended, ended, Failed) };
        bench.notices.report_run_end(&bench.entry, &report, true).await;
        bench.notices.report_run_end(&bench.entry, &report, true).await;
        let receiver = bench.journal.waiting_receivers().await.unwrap();
        let [(receiver, 1)] = &receiver[..] else { panic!("expected one waiting notice: {receiver:?}") };
        let notice = bench.journal.next_notification(receiver).await.unwrap().unwrap();
        bench.journal.drop_notification(notice.number).await.unwrap();
        assert_eq!(bench.end_run(Failed, Vec::new()).await, ["https://a.example failure app"]);
        assert_eq!(bench.end_run(Failed, Vec::new()).await, [""; 0]);
        assert_eq!(bench.end_run(Succeeded, Vec::new()).await, ["https://a.example recovery app"]);
    }

    #[tokio::test]
    async fn withheld_tag_is_notified_once_per_digest() {
        let bench = Bench::new("", ONE);
        let blocked = |content: &str| tag("v1", content, TagOutcome::Blocked { reason: "overwrite: never".into() });
        let until = DateTime::UNIX_EPOCH + TimeDelta::hours(1);
        let deferred = tag("v2", "x", TagOutcome::Deferred { until, reason: "the limit".into() });
        let unchanged = tag("v1", "1", TagOutcome::Unchanged);
        let withheld = ["https://a.example withheld app"];
        let none: [&str; 0] = [];
        for (outcome, tags, expected) in [
            (RunOutcome::Succeeded, vec![blocked("1")], &withheld[..]),
            (RunOutcome::Deferred, vec![blocked("1"), deferred.clone()], &withheld),
            (RunOutcome::Interrupted, vec![blocked("1")], &none),
            (RunOutcome::Deferred, vec![blocked("1"), deferred], &none),
            (RunOutcome::Succeeded, vec![blocked("2")], &withheld),
            (RunOutcome::Interrupted, vec![unchanged], &none),
            (RunOutcome::Succeeded, vec![blocked("2")], &withheld),
        ] {
            assert_eq!(bench.end_run(outcome, tags).await, expected);
        }
    }

    #[tokio::test]
    async fn run_for_pushed_tags_reports_no_recovery() {
        use RunOutcome::{Failed, Succeeded};
        let blocked = |name: &str| tag(name, "1", TagOutcome::Blocked { reason: "overwrite: never".into() });
        let mut bench = Bench::new(ONE, "");
        let none: [&str; 0] = [];
        for (whole, outcome, tags, expected) in [
            (true, Succeeded, vec![blocked("v1")], &["https://a.example withheld app"][..]),
            (false, Failed, vec![tag("v2", "2", TagOutcome::Copied)], &["https://a.example failure app"]),
            (false, Succeeded, vec![tag("v2", "2", TagOutcome::Copied)], &none),
            (false, Failed, vec![], &none),
            (true, Succeeded, vec![blocked("v1")], &["https://a.example recovery app"]),
        ] {
            bench.whole = whole;
            assert_eq!(bench.end_run(outcome.clone(), tags).await, expected, "{whole} {outcome:?}");
        }
    }

    #[tokio::test]
    async fn refused_edit_notifies_only_receivers_of_the_daemon() {
        let bench = Bench::new(ONE, OTHER);
        let now = Utc::now();
        for _ in 0..2 {
            bench.notices.report_refused_edit("sync.yaml:5:1: unknown key", now).await;
        }
        assert_eq!(bench.deliver_waiting().await, ["https://a.example failure "]);
        bench.notices.report_configuration(&config(ONE, OTHER), now).await;
        assert_eq!(bench.deliver_waiting().await, ["https://a.example recovery "]);
        bench.notices.report_configuration(&config(ONE, OTHER), now).await;
        assert_eq!(bench.deliver_waiting().await, [""; 0]);
    }

    /// Returns the number of notices that were given up.
    fn count_given_up(notices: &Notices) -> u64 {
        let counted = notices.metrics.encode();
        let line = "transship_notifications_total{result=\"given_up\"} ";
        counted.lines().find_map(|found| found.strip_prefix(line)?.parse().ok()).unwrap_or(0)
    }

    #[tokio::test]
    async fn notices_of_another_daemon_stay_in_the_journal() {
        let bench = Bench::new(ONE, "");
        bench.notices.report_refused_edit("a problem", Utc::now()).await;
        let (other, metrics) = (config("", ""), Arc::new(Metrics::new("0", Utc::now())));
        let another = Notices::new(bench.journal.clone(), "other.yaml".into(), &other, metrics);
        for _ in 0..2 {
            another.report_configuration(&other, Utc::now()).await;
        }
        assert_eq!(bench.deliver_waiting().await, ["https://a.example failure "]);
        assert_eq!(
            bench.journal.facts_of(CONFIGURATION).await.unwrap().len(),
            1,
            "the refused edit is not reported again"
        );
    }

    #[tokio::test]
    async fn notices_of_a_removed_receiver_are_dropped_and_counted() {
        let bench = Bench::new(ONE, "");
        bench.notices.report_refused_edit("a problem", Utc::now()).await;
        bench.notices.report_configuration(&config("", ""), Utc::now()).await;
        assert_eq!(bench.deliver_waiting().await, [""; 0]);
        assert_eq!(count_given_up(&bench.notices), 1);
        assert_eq!(bench.journal.facts_of(CONFIGURATION).await.unwrap(), []);
    }
}

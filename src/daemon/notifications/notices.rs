//! Notices for receivers: which events are news to each receiver, given the facts that it knows, and the content of
//! their messages.
//! [`super::deliveries`] delivers the messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::deliveries::{self, Receivers};
use crate::config::{Config, Entry};
use crate::journal::{Journal, JournalError, NewNotice, Told};
use crate::notify::{Body, Change, Data, Event, List, Notify, Receiver, RunFacts, Withheld};
use crate::status::{Delivery, Metrics};
use crate::sync::report::conflict_message;
use crate::sync::{RunOutcome, RunReport, TagOutcome, TagReport};

/// Fact that a receiver knows of a subject that fails.
const FAILS: &str = "failure";

/// Prefix of the fact that a receiver knows of a withheld tag.
const WITHHELD: &str = "withheld ";

/// Subject that stands for the configuration.
const CONFIGURATION: &str = "";

/// Receivers of notices, with access to the facts that they know.
#[derive(Clone)]
pub(crate) struct Notices {
    journal: Journal,
    /// Path of the configuration file, as messages name it.
    path: String,
    wanted: Arc<Mutex<Wanted>>,
    receivers: watch::Sender<Arc<Receivers>>,
    metrics: Arc<Metrics>,
    /// Signal that a notice is ready for delivery.
    fresh: Arc<tokio::sync::Notify>,
    closing: CancellationToken,
}

/// Receivers and the events that they request, by the configuration in force.
#[derive(Debug, Default)]
struct Wanted {
    of_all: Vec<Notify>,
    of_entries: BTreeMap<String, Vec<Notify>>,
}

/// New notices, and the changes of the facts that receivers know. A notice makes its changes when it is delivered.
#[derive(Debug, Default)]
struct News {
    notices: Vec<NewNotice>,
    /// Facts that the receiver learns without a message.
    learnt: Vec<Told>,
    forgotten: Vec<Told>,
}

/// Receiver with the events that it requests and the facts that it knows of the subject.
struct Listener<'a> {
    receiver: Receiver,
    on: BTreeSet<Event>,
    told: Vec<&'a Told>,
}

impl Notices {
    pub(crate) fn new(journal: Journal, path: String, config: &Config, metrics: Arc<Metrics>) -> Self {
        let (receivers, _) = watch::channel(Arc::default());
        let notices = Self {
            journal,
            path,
            wanted: Arc::default(),
            receivers,
            metrics,
            fresh: Arc::default(),
            closing: CancellationToken::new(),
        };
        notices.want(config);
        notices
    }

    /// Starts to deliver the waiting notices.
    pub(crate) fn deliver(&self) -> JoinHandle<()> {
        let (journal, receivers, metrics) = (self.journal.clone(), self.receivers.subscribe(), self.metrics.clone());
        tokio::spawn(deliveries::deliver(journal, receivers, self.fresh.clone(), metrics, self.closing.clone()))
    }

    /// Makes a last attempt to deliver the waiting notices, for at most `longest`. The others wait for the next start.
    pub(crate) async fn close(&self, mut delivering: JoinHandle<()>, longest: Duration) {
        self.closing.cancel();
        if tokio::time::timeout(longest, &mut delivering).await.is_err() {
            tracing::info!("not all notifications could be delivered; they are tried again at the next start");
            delivering.abort();
        }
    }

    /// Applies a configuration that came into force. It sets the receivers, and reports the recovery to those that
    /// were notified of a refused edit. Receivers of the previous configuration that the new one does not name are
    /// forgotten, together with their waiting notices. Other receivers in the journal may belong to another daemon.
    pub(crate) async fn configured(&self, config: &Config, now: DateTime<Utc>) {
        let before = self.receivers.borrow().clone();
        self.want(config);
        let gone = before.keys().filter(|receiver| !self.receivers.borrow().contains_key(*receiver)).cloned().collect();
        match self.journal.drop_receivers(gone).await {
            Ok(0) => {}
            Ok(dropped) => {
                self.metrics.add_notifications(Delivery::GivenUp, dropped);
                tracing::warn!(
                    dropped,
                    "notifications are given up whose receivers are not in the configuration any more"
                );
            }
            Err(error) => not_kept(&error),
        }
        self.configuration_is(None, now).await;
    }

    /// Reports that an edit of the configuration was refused.
    pub(crate) async fn refused(&self, problems: &str, now: DateTime<Utc>) {
        self.configuration_is(Some(problems), now).await;
    }

    /// Reports the end of a run of the whole entry, or of some tags only if `whole` is false. Returns once the notices
    /// are in the journal. An error in this never harms a run.
    pub(crate) async fn ended(&self, entry: &Entry, report: &RunReport, whole: bool) {
        let wanted = self.wanted_of(entry.name.as_str());
        let outcome = self.told(entry.name.as_str(), &wanted, |listener, news| {
            run_news(entry, report, whole, listener, news);
        });
        if let Err(error) = outcome.await {
            not_kept(&error);
        }
    }

    async fn configuration_is(&self, problems: Option<&str>, now: DateTime<Utc>) {
        let wanted = self.wanted_of(CONFIGURATION);
        let outcome = self.told(CONFIGURATION, &wanted, |listener, news| {
            configuration_news(&self.path, problems, now, listener, news);
        });
        if let Err(error) = outcome.await {
            not_kept(&error);
        }
    }

    /// Finds the news for each receiver and stores them in the journal.
    async fn told(
        &self,
        subject: &str,
        wanted: &[Notify],
        mut find: impl FnMut(&Listener<'_>, &mut News),
    ) -> Result<(), JournalError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let told = self.journal.facts_of(subject).await?;
        let mut news = News::default();
        for listener in listeners(wanted, &told) {
            find(&listener, &mut news);
        }
        let News { notices, learnt, forgotten } = news;
        if notices.is_empty() && learnt.is_empty() && forgotten.is_empty() {
            return Ok(());
        }
        let dropped = self.journal.store_notices(notices, learnt, forgotten, Utc::now()).await?;
        if dropped > 0 {
            self.metrics.add_notifications(Delivery::GivenUp, dropped);
            tracing::error!(dropped, "too many notifications wait for a receiver: the oldest are given up");
        }
        self.fresh.notify_one();
        Ok(())
    }

    fn want(&self, config: &Config) {
        let of_entries = config.entries.iter().map(|entry| (entry.name.to_string(), entry.notify.clone())).collect();
        let wanted = Wanted { of_all: config.daemon.notify.clone(), of_entries };
        let all = wanted.of_all.iter().chain(wanted.of_entries.values().flatten());
        let receivers = all.map(|notify| (notify.webhook.receiver.to_string(), notify.webhook.clone())).collect();
        *self.wanted.lock() = wanted;
        self.receivers.send_replace(Arc::new(receivers));
    }

    fn wanted_of(&self, entry: &str) -> Vec<Notify> {
        let wanted = self.wanted.lock();
        wanted.of_all.iter().chain(wanted.of_entries.get(entry).into_iter().flatten()).cloned().collect()
    }
}

fn not_kept(error: &JournalError) {
    tracing::error!(%error, "notifications cannot be kept, so nobody is told");
}

/// Returns each receiver once, with all events that it requests.
fn listeners<'a>(wanted: &[Notify], told: &'a [Told]) -> Vec<Listener<'a>> {
    let mut by_receiver: BTreeMap<&Receiver, BTreeSet<Event>> = BTreeMap::new();
    for notify in wanted {
        by_receiver.entry(&notify.webhook.receiver).or_default().extend(&notify.on);
    }
    let with_told = |(receiver, on): (&Receiver, BTreeSet<Event>)| {
        let told = told.iter().filter(|told| told.receiver == receiver.as_str()).collect();
        Listener { receiver: receiver.clone(), on, told }
    };
    by_receiver.into_iter().map(with_told).collect()
}

impl Listener<'_> {
    /// Returns the fact that the receiver knows of a subject that fails.
    fn knows_of_failure(&self) -> Option<&Told> {
        self.told.iter().copied().find(|told| told.fact == FAILS)
    }

    fn wants(&self, event: Event) -> bool {
        self.on.contains(&event)
    }

    fn notice(&self, subject: &str, event: Event, body: &Body<'_>) -> NewNotice {
        let (receiver, subject) = (self.receiver.to_string(), subject.to_owned());
        let (event, body) = (event.word().to_owned(), body.json());
        NewNotice { receiver, subject, event, body, learnt: Vec::new(), forgotten: Vec::new() }
    }

    fn learns(&self, subject: &str, fact: String, since: DateTime<Utc>) -> Told {
        Told { receiver: self.receiver.to_string(), subject: subject.to_owned(), fact, since }
    }
}

/// Adds the news of the configuration, which is in force, or was refused for these problems.
fn configuration_news(
    path: &str,
    problems: Option<&str>,
    now: DateTime<Utc>,
    listener: &Listener<'_>,
    news: &mut News,
) {
    let data = Data { configuration: Some(path.to_owned()), ..Data::default() };
    match (problems, listener.knows_of_failure()) {
        (Some(problems), None) => {
            let data = Data { problems: Some(List::from_texts([problems])), ..data };
            let first = problems.lines().next().unwrap_or_default();
            let text = format!("the edited configuration is refused and the last good one goes on: {first}");
            news.failure(CONFIGURATION, listener, &text, &data, now);
        }
        (None, Some(known)) => {
            let data = Data { failing_since: Some(known.since), ..data };
            let text = format!("the configuration {path} is in force, after an edit of it was refused");
            news.recovery(CONFIGURATION, listener, known, &text, &data, now);
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}

/// Adds the news of a run that ended. A run of some tags only says nothing of the other tags: it ends no failure.
fn run_news(entry: &Entry, report: &RunReport, whole: bool, listener: &Listener<'_>, news: &mut News) {
    let (name, ended) = (entry.name.as_str(), report.ended);
    match (&report.outcome, listener.knows_of_failure()) {
        (RunOutcome::Failed | RunOutcome::TimedOut, None) => {
            let data = Data { problems: Some(problems(report)), ..about(entry, report) };
            let text = format!("{name} fails: {}", report.first_problem().unwrap_or_default());
            news.failure(name, listener, &text, &data, ended);
        }
        (RunOutcome::Succeeded, Some(known)) if whole => {
            let data = Data { failing_since: Some(known.since), ..about(entry, report) };
            let since = known.since.to_rfc3339_opts(SecondsFormat::Secs, true);
            let text = format!("{name} is well again, after failing since {since}");
            news.recovery(name, listener, known, &text, &data, ended);
        }
        _ => {}
    }
    let changes = changes(report);
    if changes.count() > 0 && listener.wants(Event::Change) {
        let text = format!("{name}: {} changed: {}", tags(changes.count()), first_changed(&changes));
        let data = Data { changes: Some(changes), ..about(entry, report) };
        news.notices.push(listener.notice(name, Event::Change, &Body::new(Event::Change, ended, &text, &data)));
    }
    withheld_news(entry, report, whole, listener, news);
}

impl News {
    /// Adds a failure that the listener does not know of. The fact is also stored for a listener that requests only
    /// the recovery.
    fn failure(&mut self, subject: &str, listener: &Listener<'_>, text: &str, data: &Data<'_>, at: DateTime<Utc>) {
        if !listener.wants(Event::Failure) && !listener.wants(Event::Recovery) {
            return;
        }
        let learnt = vec![listener.learns(subject, FAILS.to_owned(), at)];
        if listener.wants(Event::Failure) {
            let body = Body::new(Event::Failure, at, text, data);
            self.notices.push(NewNotice { learnt, ..listener.notice(subject, Event::Failure, &body) });
        } else {
            self.learnt.extend(learnt);
        }
    }

    /// Adds the end of a failure that the listener knows of.
    fn recovery(
        &mut self,
        subject: &str,
        listener: &Listener<'_>,
        known: &Told,
        text: &str,
        data: &Data<'_>,
        at: DateTime<Utc>,
    ) {
        let forgotten = vec![known.clone()];
        if listener.wants(Event::Recovery) {
            let body = Body::new(Event::Recovery, at, text, data);
            self.notices.push(NewNotice { forgotten, ..listener.notice(subject, Event::Recovery, &body) });
        } else {
            self.forgotten.extend(forgotten);
        }
    }
}

/// Adds the tags that are withheld and were not before with this digest. A tag that is no longer withheld may be
/// reported again later.
fn withheld_news(entry: &Entry, report: &RunReport, whole: bool, listener: &Listener<'_>, news: &mut News) {
    let name = entry.name.as_str();
    let held: BTreeMap<String, Withheld> =
        report.tags.iter().filter_map(|tag| Some((withheld_fact(tag), withheld_tag(tag)?))).collect();
    let seen: BTreeSet<String> = report.tags.iter().map(|tag| place_of(&withheld_fact(tag)).to_owned()).collect();
    // An unfinished run did not look at all tags: the others may still be withheld.
    let saw_all = whole && matches!(report.outcome, RunOutcome::Succeeded | RunOutcome::Deferred);
    let known = || listener.told.iter().copied().filter(|told| told.fact.starts_with(WITHHELD));
    let wants = listener.wants(Event::Withheld);
    let over =
        |told: &&Told| !wants || (!held.contains_key(&told.fact) && (saw_all || seen.contains(place_of(&told.fact))));
    news.forgotten.extend(known().filter(over).cloned());
    if !wants {
        return;
    }
    let known: BTreeSet<&str> = known().map(|told| told.fact.as_str()).collect();
    let (facts, held): (Vec<String>, Vec<Withheld>) =
        held.into_iter().filter(|(fact, _)| !known.contains(fact.as_str())).unzip();
    let Some(first) = held.first() else { return };
    let text = format!("{name}: {} withheld: {}", tags_are(held.len()), first.reason);
    let data = Data { withheld: Some(List::from_items(held)), ..about(entry, report) };
    let body = Body::new(Event::Withheld, report.ended, &text, &data);
    let learnt = facts.into_iter().map(|fact| listener.learns(name, fact, report.ended)).collect();
    news.notices.push(NewNotice { learnt, ..listener.notice(name, Event::Withheld, &body) });
}

/// Returns the fact that a receiver learns from the notice of a withheld tag.
fn withheld_fact(tag: &TagReport) -> String {
    let name = tag.tag.as_ref().map(|name| format!(":{name}")).unwrap_or_default();
    let digest = tag.digest.map(|digest| digest.to_string()).unwrap_or_default();
    format!("{WITHHELD}{}{name}@{digest}", tag.target)
}

/// Returns the fact without the digest.
fn place_of(fact: &str) -> &str {
    fact.rsplit_once('@').map_or(fact, |(place, _)| place)
}

fn withheld_tag(tag: &TagReport) -> Option<Withheld> {
    let (outcome, reason, until) = match &tag.outcome {
        TagOutcome::Held { reason } => ("held", reason, None),
        TagOutcome::Blocked { reason } => ("blocked", reason, None),
        TagOutcome::Deferred { until, reason } => ("deferred", reason, Some(*until)),
        _ => return None,
    };
    let TagReport { source, target, tag, digest, .. } = tag.clone();
    Some(Withheld { source, target, tag, digest, outcome, reason: reason.clone(), until })
}

fn about<'a>(entry: &'a Entry, report: &RunReport) -> Data<'a> {
    let counts = serde_json::to_value(report.counts()).unwrap_or_default();
    let outcome = report.journal_outcome().word();
    let RunReport { run, started, ended, .. } = report;
    Data {
        entry: Some(entry.name.as_str()),
        source: Some(entry.source.to_string()),
        targets: Some(List::from_items(entry.targets.iter().map(ToString::to_string))),
        run: Some(RunFacts { id: *run, started: *started, ended: *ended, outcome, counts, bytes: report.bytes() }),
        ..Data::default()
    }
}

/// Returns all problems of the run, at least one. Problems of the run as a whole come before those of single tags.
fn problems(report: &RunReport) -> List<String> {
    let of_tag = |tag: &TagReport| match &tag.outcome {
        TagOutcome::Failed { message, .. } => Some(message.clone()),
        TagOutcome::Conflict { entries } => Some(conflict_message(tag, entries)),
        _ => None,
    };
    let all: Vec<String> = report.problems.iter().cloned().chain(report.tags.iter().filter_map(of_tag)).collect();
    if all.is_empty() {
        return List::from_texts(report.first_problem().as_deref());
    }
    List::from_texts(all.iter().map(String::as_str))
}

fn changes(report: &RunReport) -> List<Change> {
    let change = |report: &TagReport| {
        let (previous, kept_as) = match &report.outcome {
            TagOutcome::Copied => (None, None),
            TagOutcome::Replaced { previous, kept_as } => (Some(*previous), kept_as.clone()),
            _ => return None,
        };
        let TagReport { source, target, tag, digest, source_digest, .. } = report.clone();
        Some(Change { source, target, tag, digest, source_digest, previous, kept_as })
    };
    List::from_items(report.tags.iter().filter_map(change))
}

fn first_changed(changes: &List<Change>) -> String {
    let Some(first) = changes.first() else { return String::new() };
    let name = match (&first.tag, &first.digest) {
        (Some(tag), _) => format!(":{tag}"),
        (None, Some(digest)) => format!("@{digest}"),
        (None, None) => String::new(),
    };
    let more = if changes.count() > 1 { " and others" } else { "" };
    format!("{}{name}{more}", first.target)
}

fn tags(count: usize) -> String {
    if count == 1 { "1 tag".to_owned() } else { format!("{count} tags") }
}

fn tags_are(count: usize) -> String {
    if count == 1 { "1 tag is".to_owned() } else { format!("{count} tags are") }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::config;
    use crate::copy::event::BlobCounts;
    use crate::daemon::notifications::doc_tests;

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
        /// True if runs are about the whole entry.
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
        async fn told(&self, outcome: RunOutcome, tags: Vec<TagReport>) -> Vec<String> {
            let ended = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
            let (entry, problems) = ("app".to_owned(), Vec::new());
            let report = RunReport {
                entry,
                run: Some(1),
                started: ended,
                ended,
                outcome,
                tags,
                problems,
                in_doubt: Vec::new(),
                left_behind: Vec::new(),
                warnings: Vec::new(),
            };
            self.notices.ended(&self.entry, &report, self.whole).await;
            self.waiting().await
        }

        /// Delivers the waiting notices and returns them.
        async fn waiting(&self) -> Vec<String> {
            let mut waiting = Vec::new();
            for (receiver, _) in self.journal.waiting_receivers().await.unwrap() {
                while let Some(notice) = self.journal.next_notice(&receiver).await.unwrap() {
                    self.journal.notice_delivered(notice.number).await.unwrap();
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
            digest: Some(crate::oci::Digest::of(content.as_bytes())),
            source_digest: None,
            outcome,
            blobs: BlobCounts::default(),
            bytes: 0,
        }
    }

    #[tokio::test]
    async fn each_receiver_is_told_of_a_streak_once_and_of_its_end_once() {
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
            assert_eq!(bench.told(outcome.clone(), Vec::new()).await, expected, "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn a_failure_whose_notice_is_given_up_is_news_again_at_the_next_failure() {
        use RunOutcome::{Failed, Succeeded};
        let bench = Bench::new(ONE, "");
        let ended = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (entry, problems, tags) = ("app".to_owned(), Vec::new(), Vec::new());
        let report = RunReport {
            entry,
            run: Some(1),
            started: ended,
            ended,
            outcome: Failed,
            tags,
            problems,
            in_doubt: Vec::new(),
            left_behind: Vec::new(),
            warnings: Vec::new(),
        };
        bench.notices.ended(&bench.entry, &report, true).await;
        bench.notices.ended(&bench.entry, &report, true).await;
        let receiver = bench.journal.waiting_receivers().await.unwrap();
        let [(receiver, 1)] = &receiver[..] else { panic!("one notice waits, not {receiver:?}") };
        let notice = bench.journal.next_notice(receiver).await.unwrap().unwrap();
        bench.journal.drop_notice(notice.number).await.unwrap();
        assert_eq!(bench.told(Failed, Vec::new()).await, ["https://a.example failure app"]);
        assert_eq!(bench.told(Failed, Vec::new()).await, [""; 0]);
        assert_eq!(bench.told(Succeeded, Vec::new()).await, ["https://a.example recovery app"]);
    }

    #[tokio::test]
    async fn withheld_tag_is_reported_once_per_digest_until_released() {
        let bench = Bench::new("", ONE);
        let blocked = |content: &str| tag("v1", content, TagOutcome::Blocked { reason: "overwrite: never".into() });
        let until = DateTime::UNIX_EPOCH + TimeDelta::hours(1);
        let deferred = tag("v2", "x", TagOutcome::Deferred { until, reason: "the limit".into() });
        let kept = tag("v1", "1", TagOutcome::Unchanged);
        let held = ["https://a.example withheld app"];
        let none: [&str; 0] = [];
        for (outcome, tags, expected) in [
            (RunOutcome::Succeeded, vec![blocked("1")], &held[..]),
            (RunOutcome::Deferred, vec![blocked("1"), deferred.clone()], &held),
            (RunOutcome::Interrupted, vec![blocked("1")], &none),
            (RunOutcome::Deferred, vec![blocked("1"), deferred], &none),
            (RunOutcome::Succeeded, vec![blocked("2")], &held),
            (RunOutcome::Interrupted, vec![kept], &none),
            (RunOutcome::Succeeded, vec![blocked("2")], &held),
        ] {
            assert_eq!(bench.told(outcome, tags).await, expected);
        }
    }

    #[tokio::test]
    async fn a_run_for_pushed_tags_begins_a_failure_and_ends_none_and_says_nothing_of_other_tags() {
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
            assert_eq!(bench.told(outcome.clone(), tags).await, expected, "{whole} {outcome:?}");
        }
    }

    #[tokio::test]
    async fn the_configuration_is_told_of_to_those_of_the_daemon_alone() {
        let bench = Bench::new(ONE, OTHER);
        let now = Utc::now();
        for _ in 0..2 {
            bench.notices.refused("sync.yaml:5:1: unknown key", now).await;
        }
        assert_eq!(bench.waiting().await, ["https://a.example failure "]);
        bench.notices.configured(&config(ONE, OTHER), now).await;
        assert_eq!(bench.waiting().await, ["https://a.example recovery "]);
        bench.notices.configured(&config(ONE, OTHER), now).await;
        assert_eq!(bench.waiting().await, [""; 0]);
    }

    /// Returns the number of notices that were given up.
    fn given_up_by(notices: &Notices) -> u64 {
        let counted = notices.metrics.encode();
        let line = "transship_notifications_total{result=\"given_up\"} ";
        counted.lines().find_map(|found| found.strip_prefix(line)?.parse().ok()).unwrap_or(0)
    }

    #[tokio::test]
    async fn what_waits_for_the_receivers_of_another_daemon_with_the_same_journal_stays() {
        let bench = Bench::new(ONE, "");
        bench.notices.refused("a problem", Utc::now()).await;
        let (other, metrics) = (config("", ""), Arc::new(Metrics::new("0", Utc::now())));
        let another = Notices::new(bench.journal.clone(), "other.yaml".into(), &other, metrics);
        for _ in 0..2 {
            another.configured(&other, Utc::now()).await;
        }
        assert_eq!(bench.waiting().await, ["https://a.example failure "]);
        assert_eq!(bench.journal.facts_of(CONFIGURATION).await.unwrap().len(), 1, "nor is it told again");
    }

    #[tokio::test]
    async fn what_waits_for_a_receiver_that_is_gone_goes_with_it_and_is_counted() {
        let bench = Bench::new(ONE, "");
        bench.notices.refused("a problem", Utc::now()).await;
        bench.notices.configured(&config("", ""), Utc::now()).await;
        assert_eq!(bench.waiting().await, [""; 0]);
        assert_eq!(given_up_by(&bench.notices), 1);
        assert_eq!(bench.journal.facts_of(CONFIGURATION).await.unwrap(), []);
    }
}

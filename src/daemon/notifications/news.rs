//! News: the new notices for one receiver after a run or a change of the configuration. The journal records the facts
//! that earlier notices reported to the receiver. A recorded fact is not reported again. The functions in this file
//! also build the content of the notices.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::config::Entry;
use crate::journal::{NewNotification, ReceiverFact};
use crate::notify::{Body, Change, Data, Event, List, Notify, Receiver, RunFacts, Withheld};
use crate::sync::{RunOutcome, RunReport, TagOutcome, TagReport, conflict_message};

/// Text of the fact that an entry fails, or that an edit of the configuration was refused.
const FAILURE: &str = "failure";

/// Prefix of the fact that a tag is withheld, such as `withheld prod.example/app:v1@sha256:…`.
const WITHHELD: &str = "withheld ";

/// Subject of facts and notices about the configuration.
pub(super) const CONFIGURATION: &str = "";

/// New notices, and changes of the recorded facts that need no notice. A notice also contains changes of facts. The
/// journal applies the changes of a notice when the notice is delivered.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) notices: Vec<NewNotification>,
    /// Facts that the journal adds without a message to the receiver.
    pub(super) learnt: Vec<ReceiverFact>,
    /// Facts that the journal deletes without a message to the receiver.
    pub(super) forgotten: Vec<ReceiverFact>,
}

/// Receiver with its requested events. `known` contains the facts about the subject that are recorded for the receiver.
pub(super) struct Listener<'a> {
    receiver: Receiver,
    on: BTreeSet<Event>,
    known: Vec<&'a ReceiverFact>,
}

/// Returns each receiver once, with all its requested events.
pub(super) fn listeners<'a>(wanted: &[Notify], facts: &'a [ReceiverFact]) -> Vec<Listener<'a>> {
    let mut by_receiver: BTreeMap<&Receiver, BTreeSet<Event>> = BTreeMap::new();
    for notify in wanted {
        by_receiver.entry(&notify.webhook.receiver).or_default().extend(&notify.on);
    }
    let listener = |(receiver, on): (&Receiver, BTreeSet<Event>)| {
        let known = facts.iter().filter(|fact| fact.receiver == receiver.as_str()).collect();
        Listener { receiver: receiver.clone(), on, known }
    };
    by_receiver.into_iter().map(listener).collect()
}

impl Listener<'_> {
    /// Returns the recorded failure of the subject. Returns `None` if no failure is recorded for the receiver.
    fn known_failure(&self) -> Option<&ReceiverFact> {
        self.known.iter().copied().find(|known| known.fact == FAILURE)
    }

    fn wants(&self, event: Event) -> bool {
        self.on.contains(&event)
    }

    fn notice(&self, subject: &str, event: Event, body: &Body<'_>) -> NewNotification {
        let (receiver, subject) = (self.receiver.to_string(), subject.to_owned());
        let (event, body) = (event.word().to_owned(), body.json());
        NewNotification { receiver, subject, event, body, learnt: Vec::new(), forgotten: Vec::new() }
    }

    fn fact(&self, subject: &str, fact: String, since: DateTime<Utc>) -> ReceiverFact {
        ReceiverFact { receiver: self.receiver.to_string(), subject: subject.to_owned(), fact, since }
    }
}

/// Adds the news of the configuration. `problems` are the reasons why an edit was refused; `None` if a new
/// configuration is in force.
pub(super) fn configuration_news(
    path: &str,
    problems: Option<&str>,
    now: DateTime<Utc>,
    listener: &Listener<'_>,
    news: &mut News,
) {
    let data = Data { configuration: Some(path.to_owned()), ..Data::default() };
    match (problems, listener.known_failure()) {
        (Some(problems), None) => {
            let data = Data { problems: Some(List::from_texts([problems])), ..data };
            let first = problems.lines().next().unwrap_or_default();
            let text = format!(
                "the edited configuration is refused; the previous configuration stays in force: \
                {first}"
            );
            news.failure(CONFIGURATION, listener, &text, &data, now);
        }
        (None, Some(known)) => {
            let data = Data { failing_since: Some(known.since), ..data };
            let text = format!("the configuration {path} is valid again after a refused edit");
            news.recovery(CONFIGURATION, listener, known, &text, &data, now);
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}

/// Adds the news of a run that ended. `whole` is false if the run was limited to some tags. The success of a limited
/// run does not end a failure, because other tags may still fail.
pub(super) fn run_news(entry: &Entry, report: &RunReport, whole: bool, listener: &Listener<'_>, news: &mut News) {
    let (name, ended) = (entry.name.as_str(), report.ended);
    match (&report.outcome, listener.known_failure()) {
        (RunOutcome::Failed | RunOutcome::TimedOut, None) => {
            let data = Data { problems: Some(list_problems(report)), ..run_data(entry, report) };
            let text = format!("{name} fails: {}", report.first_problem().unwrap_or_default());
            news.failure(name, listener, &text, &data, ended);
        }
        (RunOutcome::Succeeded, Some(known)) if whole => {
            let data = Data { failing_since: Some(known.since), ..run_data(entry, report) };
            let since = known.since.to_rfc3339_opts(SecondsFormat::Secs, true);
            let text = format!("{name} succeeds again, after failures since {since}");
            news.recovery(name, listener, known, &text, &data, ended);
        }
        _ => {}
    }
    let changes = list_changes(report);
    if changes.count() > 0 && listener.wants(Event::Change) {
        let text = format!("{name}: {} changed: {}", tag_count(changes.count()), first_changed(&changes));
        let data = Data { changes: Some(changes), ..run_data(entry, report) };
        news.notices.push(listener.notice(name, Event::Change, &Body::new(Event::Change, ended, &text, &data)));
    }
    withheld_news(entry, report, whole, listener, news);
}

impl News {
    /// Adds a notice of a new failure. If the receiver requests only recoveries, adds the fact without a notice.
    fn failure(&mut self, subject: &str, listener: &Listener<'_>, text: &str, data: &Data<'_>, at: DateTime<Utc>) {
        if !listener.wants(Event::Failure) && !listener.wants(Event::Recovery) {
            return;
        }
        let learnt = vec![listener.fact(subject, FAILURE.to_owned(), at)];
        if listener.wants(Event::Failure) {
            let body = Body::new(Event::Failure, at, text, data);
            self.notices.push(NewNotification { learnt, ..listener.notice(subject, Event::Failure, &body) });
        } else {
            self.learnt.extend(learnt);
        }
    }

    /// Adds a notice that a recorded failure has ended. If the receiver does not request recoveries, deletes the fact
    /// without a notice.
    fn recovery(
        &mut self,
        subject: &str,
        listener: &Listener<'_>,
        known: &ReceiverFact,
        text: &str,
        data: &Data<'_>,
        at: DateTime<Utc>,
    ) {
        let forgotten = vec![known.clone()];
        if listener.wants(Event::Recovery) {
            let body = Body::new(Event::Recovery, at, text, data);
            self.notices.push(NewNotification { forgotten, ..listener.notice(subject, Event::Recovery, &body) });
        } else {
            self.forgotten.extend(forgotten);
        }
    }
}

/// Adds one notice of all withheld tags that are not recorded for the receiver. If the digest of a withheld tag
/// changed, the tag is reported again. If a tag is no longer withheld, deletes its fact. So if a later run withholds
/// the tag again, the receiver gets a new notice.
fn withheld_news(entry: &Entry, report: &RunReport, whole: bool, listener: &Listener<'_>, news: &mut News) {
    let name = entry.name.as_str();
    let withheld: BTreeMap<String, Withheld> =
        report.tags.iter().filter_map(|tag| Some((withheld_fact(tag), withheld_tag(tag)?))).collect();
    let processed: BTreeSet<String> =
        report.tags.iter().map(|tag| strip_digest(&withheld_fact(tag)).to_owned()).collect();
    // An unfinished run did not process all tags. The remaining tags may still be withheld.
    let is_complete = whole && matches!(report.outcome, RunOutcome::Succeeded | RunOutcome::Deferred);
    let known = || listener.known.iter().copied().filter(|known| known.fact.starts_with(WITHHELD));
    let wants = listener.wants(Event::Withheld);
    let is_forgotten = |known: &&ReceiverFact| {
        !wants
            || (!withheld.contains_key(&known.fact) && (is_complete || processed.contains(strip_digest(&known.fact))))
    };
    news.forgotten.extend(known().filter(is_forgotten).cloned());
    if !wants {
        return;
    }
    let known: BTreeSet<&str> = known().map(|known| known.fact.as_str()).collect();
    let (facts, new): (Vec<String>, Vec<Withheld>) =
        withheld.into_iter().filter(|(fact, _)| !known.contains(fact.as_str())).unzip();
    let Some(first) = new.first() else { return };
    let text = format!("{name}: {} withheld: {}", tags_are_count(new.len()), first.reason);
    let data = Data { withheld: Some(List::from_items(new)), ..run_data(entry, report) };
    let body = Body::new(Event::Withheld, report.ended, &text, &data);
    let learnt = facts.into_iter().map(|fact| listener.fact(name, fact, report.ended)).collect();
    news.notices.push(NewNotification { learnt, ..listener.notice(name, Event::Withheld, &body) });
}

/// Returns the text of the fact that a tag is withheld: `withheld TARGET:TAG@DIGEST`.
fn withheld_fact(tag: &TagReport) -> String {
    let name = tag.tag.as_ref().map(|name| format!(":{name}")).unwrap_or_default();
    let digest = tag.digest.map(|digest| digest.to_string()).unwrap_or_default();
    format!("{WITHHELD}{}{name}@{digest}", tag.target)
}

/// Returns the fact without the digest.
fn strip_digest(fact: &str) -> &str {
    fact.rsplit_once('@').map_or(fact, |(target_and_tag, _)| target_and_tag)
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

fn run_data<'a>(entry: &'a Entry, report: &RunReport) -> Data<'a> {
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

/// Returns all problems of the run, at least one. Problems of the whole run come before problems of single tags.
fn list_problems(report: &RunReport) -> List<String> {
    let tag_problem = |tag: &TagReport| match &tag.outcome {
        TagOutcome::Failed { message, .. } => Some(message.clone()),
        TagOutcome::Conflict { entries } => Some(conflict_message(tag, entries)),
        _ => None,
    };
    let all: Vec<String> = report.problems.iter().cloned().chain(report.tags.iter().filter_map(tag_problem)).collect();
    if all.is_empty() {
        return List::from_texts(report.first_problem().as_deref());
    }
    List::from_texts(all.iter().map(String::as_str))
}

fn list_changes(report: &RunReport) -> List<Change> {
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

fn tag_count(count: usize) -> String {
    if count == 1 { "1 tag".to_owned() } else { format!("{count} tags") }
}

fn tags_are_count(count: usize) -> String {
    if count == 1 { "1 tag is".to_owned() } else { format!("{count} tags are") }
}

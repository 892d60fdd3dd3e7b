//! Parser of the response headers that report a quota. For a 429, this file decides whether the quota is spent or the
//! request rate is too high.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::Utc;
use http::{HeaderMap, StatusCode};

use super::attempt::AnswerHead;
use super::budget::{Outcome, Report};
use super::quota::SharedQuota;

/// Maximum `Retry-After` of a 429 that is about the request rate. If a 429 does not report a quota, these rules apply:
///
/// * A longer `Retry-After` means that the quota is spent.
/// * A shorter `Retry-After` means that the request rate is too high.
/// * If there is no `Retry-After` and the request was a counted read, the quota is spent.
const MAX_RATE_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Accepted lengths of a quota window, in seconds. Gateways use the same header names for limits per second, minute or
/// month, which are not pull quotas.
const WINDOWS: RangeInclusive<u64> = 600..=86_400;

impl SharedQuota {
    pub(super) fn classify_answer(&self, answer: AnswerHead<'_>, counted: bool) -> Outcome {
        let (status, report) = (answer.status, self.parse_report(answer.headers));
        if status == StatusCode::TOO_MANY_REQUESTS {
            return self.classify_429(report, answer, counted);
        }
        match report {
            Some(report) => Outcome::Reported(report),
            None if status.is_success() => Outcome::Silent,
            None if status.is_server_error() => Outcome::Lost,
            None if status == StatusCode::UNAUTHORIZED || self.unstated_window.is_some() => Outcome::Uncounted,
            // A registry that counts reads reports the quota in every response. So a refusal without a report shows
            // that the registry has no quota.
            None if self.lock().budget.knows_nothing() => Outcome::Silent,
            None => Outcome::Uncounted,
        }
    }

    /// Classifies a 429. A 429 can mean that the quota is spent, even if the latest report has remaining reads. For
    /// example, another user of the same account or IP address has used up the quota.
    fn classify_429(&self, report: Option<Report>, answer: AnswerHead<'_>, counted: bool) -> Outcome {
        match report {
            Some(report) if report.remaining > 0 => Outcome::Reported(report),
            Some(report) => {
                self.lock().budget.recall(report, Utc::now());
                Outcome::Refused
            }
            None if self.refuses(answer, counted) => Outcome::Refused,
            None => Outcome::Uncounted,
        }
    }

    fn parse_report(&self, headers: &HeaderMap) -> Option<Report> {
        parse_headers(headers, self.unstated_window)
    }

    /// Returns true if a 429 with these headers means that the quota is spent.
    pub(super) fn refuses(&self, answer: AnswerHead<'_>, counted: bool) -> bool {
        if let Some(report) = self.parse_report(answer.headers) {
            return report.remaining == 0;
        }
        let is_counting = self.unstated_window.is_some() || self.lock().budget.latest_report(Utc::now()).is_some();
        is_counting && answer.retry_after.map_or(counted, |wait| wait > MAX_RATE_RETRY_AFTER)
    }
}

/// Parses the headers `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`. If the headers state no
/// window, the window's length is `unstated`.
pub(super) fn parse_headers(headers: &HeaderMap, unstated: Option<Duration>) -> Option<Report> {
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
    Some(Report { limit, window, remaining })
}

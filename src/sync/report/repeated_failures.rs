//! Failures of many tags for the same reason, logged as a few lines and a count. Otherwise a target that refuses all
//! requests would fill the log with one line for each tag.

use std::collections::HashMap;

use super::run_report::{TagOutcome, TagReport, conflict_message};

/// Maximum number of lines for failures that differ only in the tag and its digests.
pub(crate) const LINES_PER_CLASS: usize = 20;

/// Number of failures of each class in one run.
#[derive(Debug, Default)]
pub(crate) struct RepeatedFailures(HashMap<String, FailureCount>);

/// Failures of one class.
#[derive(Debug)]
struct FailureCount {
    count: usize,
    target: String,
    /// True for failures, false for withheld tags.
    is_failure: bool,
    /// Message of the first failure.
    example: String,
}

impl RepeatedFailures {
    /// Counts a failed or withheld tag of this class. Returns true if the tag gets its own line.
    pub(crate) fn count_failure(&mut self, class: String, report: &TagReport) -> bool {
        let failures = self.0.entry(class).or_insert_with(|| FailureCount {
            count: 0,
            target: report.target.clone(),
            is_failure: report.outcome.is_failure(),
            example: match &report.outcome {
                TagOutcome::Failed { message, .. } => message.clone(),
                TagOutcome::Held { reason } | TagOutcome::Blocked { reason } => reason.clone(),
                TagOutcome::Conflict { entries } => conflict_message(report, entries),
                _ => String::new(),
            },
        });
        failures.count += 1;
        failures.count <= LINES_PER_CLASS
    }

    /// Logs one line for each class with failures that got no line of their own.
    pub(crate) fn log_rest(&self) {
        for FailureCount { count, target, is_failure, example } in self.0.values() {
            let Some(further) = count.checked_sub(LINES_PER_CLASS).filter(|further| *further > 0) else { continue };
            if *is_failure {
                tracing::error!(target, further, like = example, "more tags failed for the same reason");
            } else {
                tracing::warn!(target, further, like = example, "more tags were withheld for the same reason");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::event::BlobCounts;
    use crate::oci::Digest;
    use crate::store::{ErrorKind, Side, Step, StoreError};

    fn failed(tag: &str, detail: &str) -> TagReport {
        let digest = Digest::of(tag.as_bytes());
        let subject = format!("{tag} ({digest})");
        let error = StoreError::new("prod.example/app", Step::WriteManifest, subject, ErrorKind::Refused, detail);
        TagReport {
            source: "src.example/app".into(),
            target: "prod.example/app".into(),
            tag: Some(tag.parse().unwrap()),
            source_tag: None,
            digest: Some(digest),
            source_digest: Some(digest),
            outcome: TagOutcome::failed_at(Side::Target, &error),
            blobs: BlobCounts::default(),
            bytes: 0,
        }
    }

    #[test]
    fn failures_that_differ_in_tag_share_a_class() {
        let class = |tag: &str, detail: &str| failed(tag, detail).failure_class().unwrap();
        assert_eq!(class("v1", "403: no"), class("a", "403: no"));
        assert_ne!(class("v1", "403: no"), class("v1", "500: broken"));
        let conflicts = |tag: &str, by: &str| {
            let outcome = TagOutcome::Conflict { entries: vec!["a".to_owned(), by.to_owned()] };
            TagReport { outcome, ..failed(tag, "") }.failure_class().unwrap()
        };
        assert_eq!(conflicts("v1", "b"), conflicts("v2", "b"));
        assert_ne!(conflicts("v1", "b"), conflicts("v1", "c"));
    }

    #[test]
    fn failures_beyond_twenty_of_a_class_get_no_line() {
        let mut repeated = RepeatedFailures::default();
        let mut gets_line = |tag: &str, detail: &str| {
            let report = failed(tag, detail);
            repeated.count_failure(report.failure_class().unwrap(), &report)
        };
        let lines = (0..1000).filter(|number| gets_line(&format!("v{number}"), "403: no")).count();
        assert_eq!(lines, LINES_PER_CLASS);
        assert!(gets_line("v1", "500: broken"), "another class has its own lines");
    }
}

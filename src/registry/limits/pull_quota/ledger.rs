//! Ledger of a quota: the budget of reads, and the manifests for which reads are reserved.

use std::collections::HashMap;

use chrono::Utc;

use super::budget::{Budget, Verdict};
use crate::oci::Digest;

/// Budget of reads, and the manifests for which reads are reserved.
#[derive(Debug, Default)]
pub(super) struct QuotaLedger {
    pub(super) budget: Budget,
    /// Manifests with reserved reads.
    reserved: HashMap<Digest, ReservedReads>,
}

/// Reserved reads of one manifest. A read cannot be attributed to one of the reservations that name its manifest, so
/// there are at most as many reserved reads as reservations.
#[derive(Debug, Default)]
struct ReservedReads {
    reservations: u64,
    reads: u64,
}

impl QuotaLedger {
    pub(super) fn reserve(&mut self, manifests: &[Digest]) -> Verdict {
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

    /// Ends a reservation and releases the reads that no other reservation may need.
    pub(super) fn release(&mut self, manifests: &[Digest]) {
        for digest in manifests {
            let Some(aside) = self.reserved.get_mut(digest) else { continue };
            aside.reservations -= 1;
            let unused = aside.reads.saturating_sub(aside.reservations);
            aside.reads -= unused;
            self.budget.release(unused);
            if aside.reservations == 0 {
                self.reserved.remove(digest);
            }
        }
    }

    /// Reserves a read again that the registry did not count, if a reservation may still need it.
    pub(super) fn reserve_again(&mut self, digest: &Digest) {
        if let Some(aside) = self.set_aside(Some(digest)).filter(|aside| aside.reads < aside.reservations) {
            aside.reads += 1;
            self.budget.reserve_again();
        }
    }

    fn set_aside(&mut self, digest: Option<&Digest>) -> Option<&mut ReservedReads> {
        self.reserved.get_mut(digest?)
    }

    pub(super) fn needs_query(&self, digest: Option<&Digest>) -> bool {
        let is_reserved = digest.and_then(|digest| self.reserved.get(digest)).is_some_and(|aside| aside.reads > 0);
        !is_reserved && self.budget.needs_query(Utc::now())
    }

    /// Takes one read. The `bool` is true if the read was reserved.
    pub(super) fn take_read(&mut self, digest: Option<&Digest>) -> (Verdict, bool) {
        if let Some(aside) = self.set_aside(digest).filter(|aside| aside.reads > 0) {
            aside.reads -= 1;
            self.budget.take_reserved();
            return (Verdict::Taken, true);
        }
        (self.budget.take_read(Utc::now()), false)
    }
}

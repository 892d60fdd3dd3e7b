//! Ledger of a pull quota: the budget of reads, and the manifests with reserved reads.

use std::collections::HashMap;

use chrono::Utc;

use super::budget::{Budget, Verdict};
use crate::oci::Digest;

/// Budget of reads, and the manifests with reserved reads.
#[derive(Debug, Default)]
pub(super) struct QuotaLedger {
    pub(super) budget: Budget,
    /// Manifests with reserved reads.
    reserved: HashMap<Digest, ReservedReads>,
}

/// Reserved reads of one manifest. `reservations` is the number of reservations that include the manifest. `reads` is
/// the number of reads that are still reserved, at most `reservations`.
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
                let manifest_reads = self.reserved.entry(*digest).or_default();
                manifest_reads.reservations += 1;
                manifest_reads.reads += 1;
            }
        }
        verdict
    }

    /// Ends a reservation. Releases the reads that no other reservation needs.
    pub(super) fn release(&mut self, manifests: &[Digest]) {
        for digest in manifests {
            let Some(manifest_reads) = self.reserved.get_mut(digest) else { continue };
            manifest_reads.reservations -= 1;
            let unused = manifest_reads.reads.saturating_sub(manifest_reads.reservations);
            manifest_reads.reads -= unused;
            self.budget.release(unused);
            if manifest_reads.reservations == 0 {
                self.reserved.remove(digest);
            }
        }
    }

    /// Reserves a read again after an attempt that the registry did not count. If no reservation needs the read, does
    /// nothing.
    pub(super) fn reserve_again(&mut self, digest: &Digest) {
        if let Some(manifest_reads) = self
            .reserved_reads(Some(digest))
            .filter(|manifest_reads| manifest_reads.reads < manifest_reads.reservations)
        {
            manifest_reads.reads += 1;
            self.budget.reserve_again();
        }
    }

    fn reserved_reads(&mut self, digest: Option<&Digest>) -> Option<&mut ReservedReads> {
        self.reserved.get_mut(digest?)
    }

    pub(super) fn needs_query(&self, digest: Option<&Digest>) -> bool {
        let is_reserved =
            digest.and_then(|digest| self.reserved.get(digest)).is_some_and(|manifest_reads| manifest_reads.reads > 0);
        !is_reserved && self.budget.needs_query(Utc::now())
    }

    /// Takes one read. The `bool` is true if the read was reserved.
    pub(super) fn take_read(&mut self, digest: Option<&Digest>) -> (Verdict, bool) {
        if let Some(manifest_reads) = self.reserved_reads(digest).filter(|manifest_reads| manifest_reads.reads > 0) {
            manifest_reads.reads -= 1;
            self.budget.take_reserved();
            return (Verdict::Taken, true);
        }
        (self.budget.take_read(Utc::now()), false)
    }
}

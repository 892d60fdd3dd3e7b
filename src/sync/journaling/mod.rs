//! Records of a run in the journal, and the recovery of records that an interrupted run left open.

pub(super) mod copy_records;
pub(super) mod derived_digests;
pub(super) mod evidence;
pub(super) mod recovery;
pub(super) mod transfers;

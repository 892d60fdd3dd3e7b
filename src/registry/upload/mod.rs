//! Uploads of blobs (distribution-spec, "Pushing blobs"): sessions, chunks, resumption and mounts.

pub(super) mod chunked;
mod chunker;
mod commit;
pub(super) mod find_or_start;
pub(super) mod mount_denials;
mod resume;
mod session;
pub(super) mod strategy;

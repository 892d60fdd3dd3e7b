//! Uploads of blobs (distribution-spec, "Pushing blobs"): sessions, chunks, resumption and mounts.

pub(super) mod chunked;
mod chunker;
mod commit;
mod find_or_start;
mod push_check;
mod resume;
mod session;

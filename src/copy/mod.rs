//! Copy engine: copies the closure of a digest (the digest and all content below it) from a source to targets. The
//! engine writes children first and the tag last.
//!
//! The engine uses only the traits of [`crate::store`]. The engine contains no HTTP, no file access and no SQL. The
//! module [`event`] defines the types for progress and results.
//!
//! One [`Copier`] serves the whole process. All entries share its state:
//! - the memory for transfers in flight,
//! - the record of the blobs in transfer to each registry.
//!
//! A [`Batch`] is one source repository and its targets during one run. [`Batch::copy`] copies one digest.

mod batch;
mod blob;
mod closure;
mod companions;
mod copier;
mod deliver;
mod destination;
mod error;
pub mod event;
mod ledger;
mod listed;
mod manifest_cache;
#[cfg(test)]
mod tests;

pub use batch::{Batch, BatchContext, CopyJob, Outcome, Previous, Rules};
pub use blob::suspension::{Suspension, UploadSessionStore};
pub use copier::Copier;
pub use destination::Contents;
pub use error::CopyError;
pub use ledger::Ledger;
pub use listed::ListedTags;

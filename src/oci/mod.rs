//! Value types of the OCI specifications: digests, names, references, platforms, descriptors and manifests.
//!
//! The parsers of digests, names and references reject invalid text, so every value of these types is valid. This
//! module does no I/O, reads no clock and imports no other module of the crate.

mod derive;
mod descriptor;
mod digest;
mod document;
mod manifest;
#[cfg(test)]
mod manifest_tests;
mod media_type;
mod name;
mod platform;
mod reference;
mod sign;

pub use derive::{DerivedIndex, derive_index};
pub use descriptor::Descriptor;
pub use digest::{Digest, DigestError, Digester};
pub use manifest::{Children, MAX_CHILDREN, Manifest, ManifestError, ManifestView};
pub use media_type::{ContentKind, MediaType};
pub use name::{NameError, RegistryHost, RepositoryName, Tag, names_host};
pub use platform::{Platform, PlatformError};
pub use reference::{ManifestRef, Reference, ReferenceError, Repository};
pub use sign::{SignatureTag, has_form_of_referrers_tag, may_name_a_digest, referrers_tag, signature_tags};

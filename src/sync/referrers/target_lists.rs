//! Lists of referrers at a target, each under its tag `sha256-<hex>`.

use crate::oci::{Digest, ManifestRef};
use crate::store::{ErrorKind, StoreError, Target};

/// Answer of a target to a request for a list of referrers.
pub(crate) enum TargetReferrersList {
    /// Digest of the list; `None` if the target does not have the tag.
    Has(Option<Digest>),
    /// The target denies reads of the list. A run still writes referrers to the target.
    Denied,
}

/// Requests a list of referrers from a target.
///
/// # Errors
/// [`StoreError`] for every failure except a denied read.
pub(crate) async fn query_referrers_list(
    target: &dyn Target,
    list: &ManifestRef,
) -> Result<TargetReferrersList, StoreError> {
    match target.resolve(list).await {
        Ok(found) => Ok(TargetReferrersList::Has(found.map(|descriptor| descriptor.digest))),
        Err(error) if error.kind == ErrorKind::Denied => {
            let target = target.place();
            tracing::warn!(target, %list, %error, "the target denies reads of its list of referrers: writing \
                referrers without a comparison");
            Ok(TargetReferrersList::Denied)
        }
        Err(error) => Err(error),
    }
}

//! Lists of referrers that a target has under tags of their own.

use crate::oci::{Digest, ManifestRef};
use crate::store::{ErrorKind, StoreError, Target};

/// Content of a target under the tag of a list of referrers.
pub(crate) enum TargetReferrersList {
    Has(Option<Digest>),
    /// The target denies reading the list. Referrers are written to the target all the same.
    Denied,
}

/// Requests a list of referrers from a target.
///
/// # Errors
/// [`StoreError`] for every failure except a denial.
pub(crate) async fn query_referrers_list(
    target: &dyn Target,
    list: &ManifestRef,
) -> Result<TargetReferrersList, StoreError> {
    match target.resolve(list).await {
        Ok(found) => Ok(TargetReferrersList::Has(found.map(|descriptor| descriptor.digest))),
        Err(error) if error.kind == ErrorKind::Denied => {
            let target = target.place();
            tracing::warn!(target, %list, %error, "the target's list of referrers may not be read: referrers are \
                                                   written whatever it has");
            Ok(TargetReferrersList::Denied)
        }
        Err(error) => Err(error),
    }
}

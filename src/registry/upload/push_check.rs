//! Check of push access for `login-check`: the client opens an upload and cancels the upload, without sending a byte.

use crate::oci::{Descriptor, Digest, MediaType};
use crate::registry::Repository;
use crate::store::{StoreError, UploadStart};

impl Repository {
    /// Returns true if [`Self::check_push`] can create the repository as a side effect. Some registries create a
    /// repository when a client starts an upload or requests a push token.
    #[must_use]
    pub fn may_be_created_by_checking(&self) -> bool {
        self.registry.flavor().creates_repositories_on_request
    }

    /// Checks push access: opens an upload and cancels the upload before sending a byte. This check can create the
    /// repository: see [`Self::may_be_created_by_checking`].
    ///
    /// # Errors
    /// Returns an error if the registry denies access, or if a request fails.
    pub async fn check_push(&self) -> Result<(), StoreError> {
        let nothing = Descriptor::new(MediaType::new("application/octet-stream"), Digest::of(b""), 0);
        match self.open_upload(&nothing, None).await? {
            UploadStart::Session(session) => session.cancel().await,
            UploadStart::Mounted => {}
        }
        Ok(())
    }
}

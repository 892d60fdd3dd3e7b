//! Request for one page of a list of names.

use url::Url;

use crate::registry::Registry;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::http::context::Context;
use crate::registry::http::link_header::Pages;
use crate::registry::http::pagination::{Paging, without_size};
use crate::registry::http::response::Response;
use crate::store::StoreError;

impl Registry {
    /// Requests one page of a list of names. Returns the response and the URL of the last request. If the registry
    /// refuses the page size, the client requests this page, and all later pages, without a page size.
    ///
    /// Logs a warning and returns `None` if both conditions are true:
    ///
    /// - The previous page was full and had no link to a next page.
    /// - The registry refuses the request for the names after the previous page.
    pub(crate) async fn list_page(
        &self,
        context: &Context,
        paging: &Paging,
        pages: &mut Pages,
        (url, request): (Url, impl Fn(Url) -> RegistryRequest),
    ) -> Result<Option<(Url, Response)>, StoreError> {
        let answer = self.send(context, request(url.clone())).await?;
        if Paging::may_refuse_size(&url, answer.status, &answer.codes()) {
            let bare = without_size(&url);
            let retried = self.send(context, request(bare.clone())).await?;
            if retried.status.is_success() {
                tracing::debug!(
                    place = %context.place, refusal = answer.detail(),
                    "the registry refused the page size: requesting lists without a page size"
                );
                paging.learn_size_is_refused();
                pages.record_actual_url(&url, &bare);
                return Ok(Some((bare, retried)));
            }
        }
        if pages.is_by_last() && matches!(answer.status.as_u16(), 400 | 404 | 405 | 416 | 422 | 501) {
            let refusal = answer.detail();
            tracing::warn!(
                place = %context.place, refusal,
                "the list may be incomplete: the last page was full without a link, and the registry refused the \
                    next page"
            );
            return Ok(None);
        }
        Ok(Some((url, answer)))
    }
}

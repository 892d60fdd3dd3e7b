//! Listing of the referrers of a manifest (distribution-spec, "Listing Referrers"). The client queries the referrers
//! API. If the registry does not have the API, the client reads the list under the fallback tag (`referrers_tag.rs`).

use http::header::ACCEPT;
use http::{HeaderValue, Method};
use url::Url;

use super::referrer_list::{MAX_REFERRERS, ReferrerList};
use crate::oci::{Digest, MediaType};
use crate::registry::Repository;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::http::context::Context;
use crate::registry::http::link_header::Pages;
use crate::registry::http::pagination::MAX_PAGE;
use crate::registry::http::request::Expects;
use crate::registry::http::response::Response;
use crate::registry::learned::referrers_api::ReferrersApi;
use crate::store::{ErrorKind, Listed, Referrers, Step, StoreError};

/// Maximum total size of the pages of one list, in bytes.
const MAX_LIST: usize = 4 * MAX_PAGE;

/// Outcome of a query of the referrers API for one subject.
enum ApiOutcome {
    /// The API listed the referrers.
    Listed(ReferrerList),
    /// The registry does not have the API.
    NoApi,
    /// The query failed, so the referrers are unknown.
    Unknown(StoreError),
    /// The registry answered with a success status, but without a list. The registry may still have the API. In this
    /// case, the list under the fallback tag may be incomplete.
    NotAList(StoreError),
}

/// Result of one request to the API.
enum RequestOutcome {
    Listed(ReferrerList),
    /// A refusal that is typical of registries without the API.
    LikeNoApi(Response),
    /// A success status without a list, for example from a proxy.
    NotAList(StoreError),
}

impl Repository {
    /// Lists the referrers by the API. If the API returns no list, reads the list under the fallback tag. If the list
    /// may be incomplete, the field `doubt` of the result states the reason.
    ///
    /// # Errors
    /// Returns an error only if the pull quota is spent.
    pub(crate) async fn list_referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError> {
        let context = self.context(Step::ListReferrers, subject);
        let first = self.registry.facts().referrers.claim_first_request().await;
        let (doubt, has_odd_success) = match self.query_api(&context, subject).await {
            ApiOutcome::Listed(list) => {
                let doubt = list.doubt();
                return Ok(Referrers { manifests: list.manifests, fallback: None, doubt });
            }
            ApiOutcome::NoApi => (None, false),
            ApiOutcome::Unknown(error) if error.quota_spent().is_some() => return Err(error),
            ApiOutcome::Unknown(error) => (Some(error), false),
            ApiOutcome::NotAList(error) => (Some(error), true),
        };
        drop(first);
        let found = match self.list_by_fallback_tag(&context, subject, fallback).await {
            Err(error) if error.quota_spent().is_some() => return Err(error),
            found => found,
        };
        let trusts_tag = !has_odd_success && self.registry.facts().referrers.api() != ReferrersApi::Present;
        Ok(match (found, doubt) {
            (Ok(found), None) => found,
            // The query of the API failed, but no response has shown that the registry has the API. In this case, the
            // list under the fallback tag counts as complete.
            (Ok(found), Some(_)) if trusts_tag && !found.manifests.is_empty() => found,
            (Ok(found), Some(error)) => Referrers { doubt: Some(error.to_string()), ..found },
            (Err(error), None) => Referrers { doubt: Some(error.to_string()), ..Referrers::default() },
            (Err(tag), Some(error)) => {
                let doubt = format!("{error}; the fallback tag cannot be read either: {}", tag.detail);
                Referrers { doubt: Some(doubt), ..Referrers::default() }
            }
        })
    }

    /// Queries the API. If the client knows that the registry does not have the API, sends no request. The client sends
    /// the request a second time after one of these responses:
    ///
    /// - A refusal that is typical of a registry without the API. If the registry refuses the second request too, the
    ///   client assumes that the registry does not have the API. But if the API returned a list earlier, the outcome is
    ///   [`ApiOutcome::Unknown`].
    /// - A success without a list.
    async fn query_api(&self, context: &Context, subject: &Digest) -> ApiOutcome {
        if self.registry.facts().referrers.api() == ReferrersApi::Absent {
            return ApiOutcome::NoApi;
        }
        let (mut last, mut not_a_list) = (None, None);
        for _ in 0..2 {
            match self.referrers_by_api(context, subject).await {
                Ok(RequestOutcome::Listed(list)) => return ApiOutcome::Listed(list),
                Ok(RequestOutcome::LikeNoApi(answer)) => last = Some(answer),
                Ok(RequestOutcome::NotAList(error)) => not_a_list = Some(error),
                Err(error) => return ApiOutcome::Unknown(error),
            }
        }
        if let Some(error) = not_a_list {
            return ApiOutcome::NotAList(error);
        }
        let Some(answer) = last else { return ApiOutcome::NoApi };
        if self.registry.facts().referrers.api() == ReferrersApi::Present {
            let detail = format!("{}, but an earlier request to the referrers API succeeded", answer.detail());
            return ApiOutcome::Unknown(context.error(ErrorKind::Invalid, detail));
        }
        // The codes `NAME_UNKNOWN` and `MANIFEST_UNKNOWN` do not show whether the registry has the API.
        if !answer.codes().iter().any(|code| code == "NAME_UNKNOWN" || code == "MANIFEST_UNKNOWN") {
            self.registry.facts().referrers.learn_api(ReferrersApi::Absent);
        }
        ApiOutcome::NoApi
    }

    /// Requests all pages of one list.
    async fn referrers_by_api(&self, context: &Context, subject: &Digest) -> Result<RequestOutcome, StoreError> {
        let invalid = |why: String| context.error(ErrorKind::Invalid, why);
        let mut url = self.url(context, &format!("referrers/{subject}"))?;
        let mut pages = Pages::starting_at(&url);
        let (mut all, mut bytes) = (ReferrerList::default(), 0);
        let mut is_first = true;
        loop {
            let answer = self.registry.send(context, self.referrers_call(url.clone())).await?;
            if is_first && is_like_no_api(&answer) {
                return Ok(RequestOutcome::LikeNoApi(answer));
            }
            if !answer.status.is_success() {
                return Err(answer.refusal(context));
            }
            let body = answer.bytes();
            let page = match ReferrerList::read(&body) {
                Ok(page) => page,
                Err(why) if is_first => {
                    return Ok(RequestOutcome::NotAList(invalid(format!(
                        "{} without a list of referrers: {why}",
                        answer.detail()
                    ))));
                }
                Err(why) => return Err(invalid(why)),
            };
            if std::mem::take(&mut is_first) {
                self.registry.facts().referrers.learn_api(ReferrersApi::Present);
            }
            bytes += body.len();
            all.manifests.extend(page.manifests);
            all.unreadable += page.unreadable;
            if all.manifests.len() + all.unreadable > MAX_REFERRERS {
                return Err(invalid(format!("the list has more than {MAX_REFERRERS} referrers")));
            }
            if bytes > MAX_LIST {
                return Err(invalid(format!("the list has more than {MAX_LIST} bytes")));
            }
            match pages.linked_page(&url, &answer.headers).map_err(invalid)? {
                Some(next) => url = next,
                None => return Ok(RequestOutcome::Listed(all)),
            }
        }
    }

    fn referrers_call(&self, url: Url) -> RegistryRequest {
        RegistryRequest::read(Method::GET, url, self.reading())
            .listing_referrers()
            .header(ACCEPT, HeaderValue::from_static(MediaType::OCI_INDEX))
            .expects(Expects::Small(MAX_PAGE))
    }
}

/// Returns true if the response is a refusal that is typical of registries without the referrers API. Artifactory, for
/// example, returns 406.
fn is_like_no_api(answer: &Response) -> bool {
    matches!(answer.status.as_u16(), 400 | 404 | 405 | 406 | 410 | 415 | 501)
}

//! Referrers of a manifest (distribution-spec, "Listing Referrers"): listed by the API if there is one, otherwise by
//! the fallback tag (`referrers_tag.rs`).

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

/// Maximum size of all pages of one list, in bytes.
const MAX_LIST: usize = 4 * MAX_PAGE;

/// Answer of the referrers API for a subject.
enum Answered {
    /// The API listed the referrers.
    Listed(ReferrerList),
    /// The registry does not have the API.
    NoApi,
    /// The referrers could not be determined.
    Unknown(StoreError),
    /// A success status without a list: the registry may have the API, whatever content the fallback tag has.
    Odd(StoreError),
}

/// Result of one request to the API.
enum Asked {
    Listed(ReferrerList),
    /// A refusal that is typical of registries without the API.
    LikeNoApi(Response),
    /// A success status without a list, such as from a proxy that answers for the registry.
    Odd(StoreError),
}

impl Repository {
    /// Lists the referrers by the API, or by the fallback tag if the API does not answer. Returns an error only if no
    /// reads are allowed for now.
    pub(crate) async fn list_referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError> {
        let context = self.context(Step::ListReferrers, subject);
        let first = self.registry.facts().referrers.claim_first_request().await;
        let (doubt, is_odd) = match self.query_api(&context, subject).await {
            Answered::Listed(list) => {
                let doubt = list.doubt();
                return Ok(Referrers { manifests: list.manifests, fallback: None, doubt });
            }
            Answered::NoApi => (None, false),
            Answered::Unknown(error) if error.quota_spent().is_some() => return Err(error),
            Answered::Unknown(error) => (Some(error), false),
            Answered::Odd(error) => (Some(error), true),
        };
        drop(first);
        let found = match self.list_by_fallback_tag(&context, subject, fallback).await {
            Err(error) if error.quota_spent().is_some() => return Err(error),
            found => found,
        };
        let keeps_lists = !is_odd && self.registry.facts().referrers.api() != ReferrersApi::Present;
        Ok(match (found, doubt) {
            (Ok(found), None) => found,
            // The registry refuses the API in an unusual way, and keeps the list under the tag.
            (Ok(found), Some(_)) if keeps_lists && !found.manifests.is_empty() => found,
            (Ok(found), Some(error)) => Referrers { doubt: Some(error.to_string()), ..found },
            (Err(error), None) => Referrers { doubt: Some(error.to_string()), ..Referrers::default() },
            (Err(tag), Some(error)) => {
                let doubt = format!("{error}; and by the fallback tag: {}", tag.detail);
                Referrers { doubt: Some(doubt), ..Referrers::default() }
            }
        })
    }

    /// Queries the API, unless the registry is known not to have it. A refusal that is typical of a registry without
    /// the API is trusted only after a second request, because the refusal may be a single unusual answer. If the
    /// registry has answered before, such a refusal is never trusted. A success without a list is also requested a
    /// second time, and never means that there is no API.
    async fn query_api(&self, context: &Context, subject: &Digest) -> Answered {
        if self.registry.facts().referrers.api() == ReferrersApi::Absent {
            return Answered::NoApi;
        }
        let (mut last, mut odd) = (None, None);
        for _ in 0..2 {
            match self.referrers_by_api(context, subject).await {
                Ok(Asked::Listed(list)) => return Answered::Listed(list),
                Ok(Asked::LikeNoApi(answer)) => last = Some(answer),
                Ok(Asked::Odd(error)) => odd = Some(error),
                Err(error) => return Answered::Unknown(error),
            }
        }
        if let Some(error) = odd {
            return Answered::Odd(error);
        }
        let Some(answer) = last else { return Answered::NoApi };
        if self.registry.facts().referrers.api() == ReferrersApi::Present {
            let detail = format!("{}, though this registry has answered such requests before", answer.detail());
            return Answered::Unknown(context.error(ErrorKind::Invalid, detail));
        }
        // A registry that names the unknown item has understood the request.
        if !answer.codes().iter().any(|code| code == "NAME_UNKNOWN" || code == "MANIFEST_UNKNOWN") {
            self.registry.facts().referrers.learn_api(ReferrersApi::Absent);
        }
        Answered::NoApi
    }

    /// Requests one list with all its pages.
    async fn referrers_by_api(&self, context: &Context, subject: &Digest) -> Result<Asked, StoreError> {
        let invalid = |why: String| context.error(ErrorKind::Invalid, why);
        let mut url = self.url(context, &format!("referrers/{subject}"))?;
        let mut pages = Pages::starting_at(&url);
        let (mut all, mut bytes) = (ReferrerList::default(), 0);
        let mut is_first = true;
        loop {
            let answer = self.registry.send(context, self.referrers_call(url.clone())).await?;
            if is_first && is_like_no_api(&answer) {
                return Ok(Asked::LikeNoApi(answer));
            }
            if !answer.status.is_success() {
                return Err(answer.refusal(context));
            }
            let body = answer.bytes();
            let page = match ReferrerList::read(&body) {
                Ok(page) => page,
                Err(why) if is_first => {
                    return Ok(Asked::Odd(invalid(format!("{} is no list of referrers: {why}", answer.detail()))));
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
                return Err(invalid(format!("more than {MAX_REFERRERS} referrers")));
            }
            if bytes > MAX_LIST {
                return Err(invalid(format!("a list of more than {MAX_LIST} bytes")));
            }
            match pages.linked_page(&url, &answer.headers).map_err(invalid)? {
                Some(next) => url = next,
                None => return Ok(Asked::Listed(all)),
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

/// Returns true if the response is a refusal that registries without the referrers API give: Artifactory returns 406.
fn is_like_no_api(answer: &Response) -> bool {
    matches!(answer.status.as_u16(), 400 | 404 | 405 | 406 | 410 | 415 | 501)
}

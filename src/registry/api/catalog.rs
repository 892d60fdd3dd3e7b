//! Listing of all repositories of a registry (`/v2/_catalog`). Many registries do not have this endpoint, or allow only
//! administrators to use this endpoint.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::oci::RepositoryName;
use crate::registry::Registry;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::auth::scope::Scopes;
use crate::registry::http::context::Context;
use crate::registry::http::hints;
use crate::registry::http::link_header::Pages;
use crate::registry::http::pagination::{MAX_NAMES, MAX_PAGE, MAX_UNUSABLE, Names, shown};
use crate::registry::http::request::Expects;
use crate::store::{ErrorKind, Step, StoreError};

const NO_CATALOG: &str = "this registry has no catalog; list the repositories in sync.yaml";

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Names,
}

/// State of a catalog listing in progress.
struct Walk {
    pages: Pages,
    /// URL of the next page; `None` after the last page.
    next: Option<Url>,
    /// All valid names in the pages that the client has read.
    seen: HashSet<RepositoryName>,
    /// Number of names that are not valid repository names.
    unusable: usize,
}

impl Registry {
    /// Returns the names of all repositories of the registry. The client requests the list page by page. For each
    /// invalid name, the stream logs a warning and yields nothing. If the registry has no catalog, or denies access to
    /// the catalog, the stream yields an error.
    pub fn catalog(self: &Arc<Self>) -> BoxStream<'static, Result<RepositoryName, StoreError>> {
        let context = self.context(Step::ListRepositories);
        if !self.flavor().has_catalog {
            return stream::iter([Err(context.error(ErrorKind::Unsupported, NO_CATALOG))]).boxed();
        }
        let first = match self.address(&format!("/v2/_catalog{}", self.facts().catalog_pages.query())) {
            Ok(url) => url,
            Err(error) => return stream::iter([Err(context.error(ErrorKind::Invalid, error))]).boxed(),
        };
        let walk = Walk { pages: Pages::starting_at(&first), next: Some(first), seen: HashSet::new(), unusable: 0 };
        let registry = self.clone();
        stream::try_unfold(walk, move |mut walk| {
            let (registry, context) = (registry.clone(), context.clone());
            async move {
                let Some(url) = walk.next.take() else { return Ok(None) };
                let names = registry.catalog_page(&context, url, &mut walk).await?;
                Ok(Some((stream::iter(names.into_iter().map(Ok)), walk)))
            }
        })
        .try_flatten()
        .boxed()
    }

    async fn catalog_page(
        &self,
        context: &Context,
        url: Url,
        walk: &mut Walk,
    ) -> Result<Vec<RepositoryName>, StoreError> {
        // The request always has credentials. A registry can list only some of the repositories to an anonymous client,
        // without an error (project-zot/zot#3869).
        let request = |url| {
            RegistryRequest::read(Method::GET, url, Scopes::catalog())
                .expects(Expects::Small(MAX_PAGE))
                .with_credentials()
        };
        let page = self.list_page(context, &self.facts().catalog_pages, &mut walk.pages, (url, request)).await?;
        let Some((url, answer)) = page else { return Ok(Vec::new()) };
        let kind = match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(ErrorKind::Denied),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(ErrorKind::Unsupported),
            status if status.is_success() => None,
            _ => return Err(answer.refusal(context)),
        };
        if let Some(kind) = kind {
            let identity = if kind == ErrorKind::Denied { format!(" for {}", self.identity()) } else { String::new() };
            let role = hints::for_refusal(self.flavor(), context.step, answer.status, &[]);
            let role = role.map(|role| format!("; {role}")).unwrap_or_default();
            let detail = format!(
                "this registry has no catalog{identity} ({}); list the repositories in sync.yaml{role}",
                answer.detail()
            );
            return Err(context.error(kind, detail));
        }
        let invalid = |why: String| context.error(ErrorKind::Invalid, why);
        let names = read_names(&answer.bytes()).map_err(|error| invalid(answer.unreadable(&error)))?;
        let end =
            walk.pages.read_page_end(&url, &answer.headers, &self.facts().catalog_pages, (names.len(), names.last()));
        let end = end.map_err(invalid)?;
        let fresh = walk.add_page(context, &names).map_err(invalid)?;
        walk.next = walk.pages.next_page(end, fresh.len()).map_err(invalid)?;
        Ok(fresh)
    }
}

/// Parses the names of one page.
pub(crate) fn read_names(bytes: &[u8]) -> serde_json::Result<Names> {
    serde_json::from_slice(bytes).map(|catalog: Catalog| catalog.repositories)
}

impl Walk {
    /// Adds the names of a page, and returns the names that no earlier page contained.
    fn add_page(&mut self, context: &Context, names: &Names) -> Result<Vec<RepositoryName>, String> {
        let mut fresh = Vec::new();
        for (_, name) in names.range(0..names.len()) {
            match name.parse::<RepositoryName>() {
                Ok(name) if self.seen.insert(name.clone()) => fresh.push(name),
                Ok(_) => {}
                Err(_) => {
                    self.unusable += 1;
                    tracing::warn!(
                        registry = %context.place, name = shown(name),
                        "skipped a catalog entry that is not a valid repository name by the specification"
                    );
                }
            }
            if self.unusable > MAX_UNUSABLE {
                return Err(format!(
                    "the catalog has more than {MAX_UNUSABLE} names that are not valid repository names"
                ));
            }
        }
        if self.seen.len() > MAX_NAMES {
            return Err(format!(
                "the catalog has more than {MAX_NAMES} repositories; name the repositories to copy in sync.yaml"
            ));
        }
        Ok(fresh)
    }
}

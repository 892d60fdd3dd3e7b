//! The catalog (`_catalog`): an extension that many registries lack or keep to administrators.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::answer::Context;
use super::links::Pages;
use super::scope::Scopes;
use super::tags::MAX_PAGE;
use super::transport::{Call, Expects};
use super::{Kind, Party, Registry, hint};
use crate::oci::RepositoryName;
use crate::store::{ErrorKind, Step, StoreError};

const FIRST_PAGE: &str = "/v2/_catalog?n=1000";

const NONE: &str = "this registry has no catalog; list the repositories in sync.yaml";

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl Registry {
    /// The names of all repositories that the catalog shows, page by page. Names outside the grammar are left out
    /// with a warning: nothing could be asked of them.
    ///
    /// A registry without a catalog, or that does not show it to us, is an error that says so.
    pub fn catalog(self: &Arc<Self>) -> BoxStream<'static, Result<RepositoryName, StoreError>> {
        let context = Context {
            place: self.host().as_str().into(),
            step: Step::ListRepositories,
            subject: String::new(),
            party: Party::default(),
            kind: self.kind,
        };
        if self.host().is_docker_hub() {
            return stream::iter([Err(context.error(ErrorKind::Unsupported, NONE))]).boxed();
        }
        let first = match self.address(FIRST_PAGE) {
            Ok(url) => url,
            Err(error) => return stream::iter([Err(context.error(ErrorKind::Invalid, error))]).boxed(),
        };
        let start = Some((Pages::starting_at(&first), first));
        let registry = self.clone();
        stream::try_unfold(start, move |next| {
            let (registry, context) = (registry.clone(), context.clone());
            async move {
                let Some((mut pages, url)) = next else { return Ok(None) };
                let (names, next) = registry.catalog_page(&context, url, &mut pages).await?;
                Ok(Some((stream::iter(names.into_iter().map(Ok)), next.map(|url| (pages, url)))))
            }
        })
        .try_flatten()
        .boxed()
    }

    async fn catalog_page(
        &self,
        context: &Context,
        url: Url,
        pages: &mut Pages,
    ) -> Result<(Vec<RepositoryName>, Option<Url>), StoreError> {
        // A registry that serves everybody filters the list by who asks, and does not say so (project-zot/zot#3869).
        let call = Call::read(Method::GET, url.clone(), Scopes::catalog()).expects(Expects::Small(MAX_PAGE));
        let answer = self.send(context, call.with_credentials()).await?;
        let kind = match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(ErrorKind::Denied),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(ErrorKind::Unsupported),
            status if status.is_success() => None,
            _ => return Err(answer.refusal(context)),
        };
        if let Some(kind) = kind {
            let whose =
                if kind == ErrorKind::Denied { format!(" for {}", self.auth.identity()) } else { String::new() };
            let role = hint::of_refusal(self.kind, context.step, answer.status, &[]).filter(|_| self.kind == Kind::Acr);
            let role = role.map(|role| format!("; {role}")).unwrap_or_default();
            let detail = format!(
                "this registry has no catalog{whose} ({}); list the repositories in sync.yaml{role}",
                answer.detail()
            );
            return Err(context.error(kind, detail));
        }
        let catalog: Catalog = serde_json::from_slice(&answer.bytes())
            .map_err(|error| context.error(ErrorKind::Invalid, format!("the list cannot be read: {error}")))?;
        let next = pages.after(&url, &answer.headers).map_err(|why| context.error(ErrorKind::Invalid, why))?;
        let names = catalog.repositories.unwrap_or_default();
        Ok((names.into_iter().filter_map(|name| usable(context, &name)).collect(), next))
    }
}

fn usable(context: &Context, name: &str) -> Option<RepositoryName> {
    let parsed = name.parse();
    if let Err(error) = &parsed {
        tracing::warn!(registry = %context.place, "the catalog has a name that cannot be asked for: {error}");
    }
    parsed.ok()
}

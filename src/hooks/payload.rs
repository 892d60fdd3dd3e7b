//! What senders write, read as pushes. Pure. Each shape is from its sender's documentation, named at it; unknown keys are
//! ignored, since all of them add some.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Push;
use crate::config::{HookKind, Receiver};
use crate::oci::RegistryHost;

/// What one request tells of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The tags that were pushed.
    pub(super) pushes: Vec<Push>,
    /// Events of other things: pulls, deletions, pushes of blobs and of manifests without a tag, pings. Also
    /// those without a registry.
    pub(super) ignored: usize,
    /// Pushes of tags that name no registry, where the receiver does not either. Their sender would repeat for ever what is
    /// refused, and tell nothing else meanwhile.
    pub(super) without_registry: usize,
}

/// Why a body says nothing: it is no JSON, or has not the shape.
#[derive(Debug, thiserror::Error)]
#[error("this is no event of {kind}: {error}")]
pub(super) struct Unreadable {
    /// The receiver's kind.
    kind: &'static str,
    /// What was expected.
    error: serde_json::Error,
}

/// A tag as a sender names it.
struct Named<'a> {
    registry: Option<&'a str>,
    repository: &'a str,
    tag: &'a str,
}

/// What was pushed by this body; `event` is GitHub's word for it in its header.
pub(super) fn read(receiver: &Receiver, event: Option<&str>, body: &[u8]) -> Result<Told, Unreadable> {
    let told = match receiver.kind {
        HookKind::Distribution => parsed(body).map(|envelope| distribution(receiver, &envelope)),
        HookKind::Acr => parsed(body).map(|event| acr(receiver, &event)),
        HookKind::Harbor => parsed(body).map(|event| harbor(receiver, &event)),
        HookKind::DockerHub => parsed(body).map(|event| docker_hub(receiver, &event)),
        HookKind::Ghcr if !matches!(event, None | Some("registry_package" | "package")) => {
            Ok(Told { ignored: 1, ..Told::default() })
        }
        HookKind::Ghcr => parsed(body).map(|event| ghcr(receiver, &event)),
    };
    told.map_err(|error| Unreadable { kind: receiver.kind.word(), error })
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

/// The pushes among these; `None` is an event of something else. What is no name of a repository or no tag (a digest, say)
/// could be in no entry.
fn told<'a>(receiver: &Receiver, events: impl Iterator<Item = Option<Named<'a>>>) -> Told {
    let (mut told, mut known) = (Told::default(), HashSet::new());
    for event in events {
        let names =
            event.and_then(|named| Some((named.registry, named.repository.parse().ok()?, named.tag.parse().ok()?)));
        let Some((registry, repository, tag)) = names else {
            told.ignored += 1;
            continue;
        };
        let named = || registry.and_then(|host| host.parse::<RegistryHost>().ok());
        let Some(registry) = receiver.registry.clone().or_else(named) else {
            told.ignored += 1;
            told.without_registry += 1;
            continue;
        };
        let push = Push { registry, repository, tag };
        if known.insert(push.clone()) {
            told.pushes.push(push);
        }
    }
    told
}

/// distribution.github.io, "Work with notifications".
#[derive(Deserialize)]
struct Envelope {
    events: Vec<RegistryEvent>,
}

/// An event of Distribution; Azure's webhooks have the same shape (learn.microsoft.com, "Azure Container Registry webhook
/// reference"), one a request.
#[derive(Deserialize)]
struct RegistryEvent {
    action: String,
    #[serde(default)]
    target: EventTarget,
    #[serde(default)]
    request: EventRequest,
}

#[derive(Default, Deserialize)]
struct EventTarget {
    #[serde(default)]
    repository: String,
    /// Absent for blobs and for manifests that are pushed by digest.
    #[serde(default)]
    tag: String,
}

#[derive(Default, Deserialize)]
struct EventRequest {
    /// The host that was pushed to, as the pusher named it.
    host: Option<String>,
}

impl RegistryEvent {
    fn named(&self, actions: &[&str]) -> Option<Named<'_>> {
        let EventTarget { repository, tag } = &self.target;
        actions.contains(&self.action.as_str()).then(|| Named {
            registry: self.request.host.as_deref(),
            repository,
            tag,
        })
    }
}

fn distribution(receiver: &Receiver, envelope: &Envelope) -> Told {
    told(receiver, envelope.events.iter().map(|event| event.named(&["push"])))
}

fn acr(receiver: &Receiver, event: &RegistryEvent) -> Told {
    told(receiver, std::iter::once(event.named(&["push", "chart_push"])))
}

/// goharbor.io, "Configure Webhook Notifications", the format "Default".
#[derive(Deserialize)]
struct HarborEvent {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    event_data: HarborData,
}

#[derive(Default, Deserialize)]
struct HarborData {
    #[serde(default)]
    resources: Vec<HarborResource>,
    #[serde(default)]
    repository: HarborRepository,
}

#[derive(Deserialize)]
struct HarborResource {
    #[serde(default)]
    tag: String,
    /// `harbor.example/project/app:v1`
    #[serde(default)]
    resource_url: String,
}

#[derive(Default, Deserialize)]
struct HarborRepository {
    #[serde(default)]
    repo_full_name: String,
}

fn harbor(receiver: &Receiver, event: &HarborEvent) -> Told {
    if event.kind != "PUSH_ARTIFACT" {
        return Told { ignored: 1, ..Told::default() };
    }
    let repository = &event.event_data.repository.repo_full_name;
    let resources = event.event_data.resources.iter();
    let named = resources.map(|HarborResource { tag, resource_url }| {
        Some(Named { registry: resource_url.split_once('/').map(|(host, _)| host), repository, tag })
    });
    told(receiver, named)
}

/// docs.docker.com, "Webhooks". Its `callback_url` is for chains of webhooks and is not called.
#[derive(Deserialize)]
struct HubEvent {
    push_data: HubPush,
    repository: HubRepository,
}

#[derive(Deserialize)]
struct HubPush {
    tag: String,
}

#[derive(Deserialize)]
struct HubRepository {
    repo_name: String,
}

fn docker_hub(receiver: &Receiver, event: &HubEvent) -> Told {
    let named =
        Named { registry: Some("docker.io"), repository: &event.repository.repo_name, tag: &event.push_data.tag };
    told(receiver, std::iter::once(Some(named)))
}

/// docs.github.com, "Webhook events and payloads": `registry_package`, and `package` which has the same in another key.
#[derive(Deserialize)]
struct GithubEvent {
    action: String,
    #[serde(alias = "registry_package")]
    package: GithubPackage,
}

#[derive(Deserialize)]
struct GithubPackage {
    name: String,
    namespace: String,
    #[serde(default)]
    package_type: String,
    package_version: Option<GithubVersion>,
}

#[derive(Deserialize)]
struct GithubVersion {
    container_metadata: Option<GithubContainer>,
}

#[derive(Deserialize)]
struct GithubContainer {
    tag: Option<GithubTag>,
}

#[derive(Deserialize)]
struct GithubTag {
    /// Empty for a manifest without a tag.
    #[serde(default)]
    name: String,
}

fn ghcr(receiver: &Receiver, event: &GithubEvent) -> Told {
    let GithubPackage { name, namespace, package_type, package_version } = &event.package;
    // The registry has names in lower case, GitHub's owners need not.
    let repository = format!("{namespace}/{name}").to_lowercase();
    let tag = package_version.as_ref().and_then(|version| version.container_metadata.as_ref()?.tag.as_ref());
    let is_image = package_type.eq_ignore_ascii_case("container") || package_type.eq_ignore_ascii_case("docker");
    let is_push = matches!(event.action.as_str(), "published" | "updated" | "created");
    let named = tag.filter(|_| is_push && is_image);
    let named = named.map(|tag| Named { registry: Some("ghcr.io"), repository: &repository, tag: &tag.name });
    told(receiver, std::iter::once(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Secret;

    fn receiver(kind: HookKind, registry: Option<&str>) -> Receiver {
        let registry = registry.map(|host| host.parse().unwrap());
        Receiver { kind, secret: Secret::File("/none".into()), registry }
    }

    fn shown(told: &Told) -> (Vec<String>, usize) {
        let push = |push: &Push| format!("{}/{}:{}", push.registry, push.repository, push.tag);
        (told.pushes.iter().map(push).collect(), told.ignored)
    }

    fn pushes(kind: HookKind, registry: Option<&str>, body: &str) -> (Vec<String>, usize) {
        shown(&read(&receiver(kind, registry), None, body.as_bytes()).unwrap())
    }

    fn problem(kind: HookKind, body: &str) -> String {
        read(&receiver(kind, None), None, body.as_bytes()).unwrap_err().to_string()
    }

    const DISTRIBUTION: &str = include_str!("fixtures/distribution.json");
    const ACR: &str = include_str!("fixtures/acr.json");
    const HARBOR: &str = include_str!("fixtures/harbor.json");
    const DOCKER_HUB: &str = include_str!("fixtures/docker-hub.json");
    const GHCR: &str = include_str!("fixtures/ghcr.json");

    #[test]
    fn of_distributions_events_tags_that_were_pushed_count_and_nothing_else() {
        assert_eq!(pushes(HookKind::Distribution, None, DISTRIBUTION), (vec!["10.1.2.3:5000/team/app:v1".into()], 4));
        let named = pushes(HookKind::Distribution, Some("registry.internal"), DISTRIBUTION);
        assert_eq!(named.0, ["registry.internal/team/app:v1"], "the receiver's word on the registry holds");
        let silent = DISTRIBUTION.replace("\"host\"", "\"nothing\"");
        assert_eq!(pushes(HookKind::Distribution, None, &silent), (vec![], 5));
        assert_eq!(pushes(HookKind::Distribution, None, r#"{"events": []}"#), (vec![], 0));
    }

    #[test]
    fn azures_pushes_of_images_and_charts_count() {
        let expected = (vec!["myregistry.azurecr.io/hello-world:v1".into()], 0);
        assert_eq!(pushes(HookKind::Acr, None, ACR), expected);
        assert_eq!(pushes(HookKind::Acr, None, &ACR.replace("\"push\"", "\"chart_push\"")), expected);
        assert_eq!(pushes(HookKind::Acr, None, &ACR.replace("\"push\"", "\"delete\"")), (vec![], 1));
        assert_eq!(pushes(HookKind::Acr, None, r#"{"id": "1", "action": "ping"}"#), (vec![], 1));
    }

    #[test]
    fn harbor_tells_each_tag_of_an_artifact() {
        let expected = ["harbor.example/library/debian:latest", "harbor.example/library/debian:12"];
        assert_eq!(
            pushes(HookKind::Harbor, None, HARBOR),
            (expected.map(String::from).to_vec(), 1),
            "a digest is no tag"
        );
        let pulled = HARBOR.replace("PUSH_ARTIFACT", "PULL_ARTIFACT");
        assert_eq!(pushes(HookKind::Harbor, None, &pulled), (vec![], 1));
    }

    #[test]
    fn docker_hub_is_docker_io() {
        assert_eq!(pushes(HookKind::DockerHub, None, DOCKER_HUB), (vec!["docker.io/team/app:latest".into()], 0));
    }

    #[test]
    fn github_tells_of_packages_of_which_containers_count() {
        let expected = (vec!["ghcr.io/team/tools/app:v1".into()], 0);
        assert_eq!(pushes(HookKind::Ghcr, None, GHCR), expected);
        assert_eq!(pushes(HookKind::Ghcr, None, &GHCR.replace("\"registry_package\"", "\"package\"")), expected);
        for (from, to) in [("published", "deleted"), ("\"CONTAINER\"", "\"npm\""), ("\"v1\"", "\"\"")] {
            assert_eq!(pushes(HookKind::Ghcr, None, &GHCR.replace(from, to)), (vec![], 1), "{to}");
        }
        let ping = read(&receiver(HookKind::Ghcr, None), Some("ping"), br#"{"zen": "Design for failure."}"#).unwrap();
        assert_eq!(shown(&ping), (vec![], 1));
    }

    #[test]
    fn what_is_no_event_is_named() {
        let expected = "this is no event of harbor: missing field `type` at line 1 column 2";
        assert_eq!(problem(HookKind::Harbor, "{}"), expected);
        let expected = "this is no event of distribution: expected value at line 1 column 1";
        assert_eq!(problem(HookKind::Distribution, "payload=%7B%7D"), expected);
        assert!(problem(HookKind::DockerHub, ACR).contains("missing field `push_data`"));
    }
}

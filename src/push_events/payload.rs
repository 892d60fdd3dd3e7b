//! Parsers that turn the payloads of senders into pushes, without I/O. The comment of each payload type names the
//! documentation of the sender. The parsers ignore unknown keys, because senders add keys.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Push;
use crate::config::{HookKind, Receiver};
use crate::oci::RegistryHost;

/// Content of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PushEvents {
    /// Pushed tags.
    pub(super) pushes: Vec<Push>,
    /// Number of events that are not pushes of tags: pulls, deletions, pushes of blobs, pushes of manifests without a
    /// tag, pings. The number includes `without_registry`.
    pub(super) ignored: usize,
    /// Number of pushed tags whose registry is unknown. Neither the event nor the configuration of the receiver names
    /// the registry. The port answers these events with a success. If the port refused an event, the sender might
    /// repeat this event forever and send no other events.
    pub(super) without_registry: usize,
}

/// Error for a body that is not JSON or does not have the expected shape.
#[derive(Debug, thiserror::Error)]
#[error("not a valid {kind} event: {error}")]
pub(super) struct Unreadable {
    /// Kind of the receiver.
    kind: &'static str,
    /// Error of the JSON parser.
    error: serde_json::Error,
}

/// Pushed tag, with the names that the sender uses.
struct NamedTag<'a> {
    registry: Option<&'a str>,
    repository: &'a str,
    tag: &'a str,
}

/// Returns the pushes in this body. `event` is the value of GitHub's event header.
pub(super) fn read(receiver: &Receiver, event: Option<&str>, body: &[u8]) -> Result<PushEvents, Unreadable> {
    let events = match receiver.kind {
        HookKind::Distribution => parsed(body).map(|envelope| distribution(receiver, &envelope)),
        HookKind::Acr => parsed(body).map(|event| acr(receiver, &event)),
        HookKind::Harbor => parsed(body).map(|event| harbor(receiver, &event)),
        HookKind::DockerHub => parsed(body).map(|event| docker_hub(receiver, &event)),
        HookKind::Ghcr if !matches!(event, None | Some("registry_package" | "package")) => {
            Ok(PushEvents { ignored: 1, ..PushEvents::default() })
        }
        HookKind::Ghcr => parsed(body).map(|event| ghcr(receiver, &event)),
    };
    events.map_err(|error| Unreadable { kind: receiver.kind.word(), error })
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

/// Collects the pushes among these events. `None` is an event that is not a push of a tag. An invalid repository name
/// or an invalid tag (a digest, for example) counts as ignored.
fn collect_pushes<'a>(receiver: &Receiver, events: impl Iterator<Item = Option<NamedTag<'a>>>) -> PushEvents {
    let (mut found, mut collected) = (PushEvents::default(), HashSet::new());
    for event in events {
        let names =
            event.and_then(|named| Some((named.registry, named.repository.parse().ok()?, named.tag.parse().ok()?)));
        let Some((registry, repository, tag)) = names else {
            found.ignored += 1;
            continue;
        };
        let named = || registry.and_then(|host| host.parse::<RegistryHost>().ok());
        let Some(registry) = receiver.registry.clone().or_else(named) else {
            found.ignored += 1;
            found.without_registry += 1;
            continue;
        };
        let push = Push { registry, repository, tag };
        if collected.insert(push.clone()) {
            found.pushes.push(push);
        }
    }
    found
}

/// Envelope of events: distribution.github.io, "Work with notifications".
#[derive(Deserialize)]
struct Envelope {
    events: Vec<RegistryEvent>,
}

/// Event of Distribution. Azure's webhooks have the same shape, with one event in each request (learn.microsoft.com,
/// "Azure Container Registry webhook reference").
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
    /// Pushed tag. Absent for blobs and for manifests that are pushed by digest.
    #[serde(default)]
    tag: String,
}

#[derive(Default, Deserialize)]
struct EventRequest {
    /// Host of the registry, by the name that the pushing client used.
    host: Option<String>,
}

impl RegistryEvent {
    fn named(&self, actions: &[&str]) -> Option<NamedTag<'_>> {
        let EventTarget { repository, tag } = &self.target;
        actions.contains(&self.action.as_str()).then(|| NamedTag {
            registry: self.request.host.as_deref(),
            repository,
            tag,
        })
    }
}

fn distribution(receiver: &Receiver, envelope: &Envelope) -> PushEvents {
    collect_pushes(receiver, envelope.events.iter().map(|event| event.named(&["push"])))
}

fn acr(receiver: &Receiver, event: &RegistryEvent) -> PushEvents {
    collect_pushes(receiver, std::iter::once(event.named(&["push", "chart_push"])))
}

/// Event of Harbor: goharbor.io, "Configure Webhook Notifications", the format "Default".
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
    /// Reference such as `harbor.example/project/app:v1`.
    #[serde(default)]
    resource_url: String,
}

#[derive(Default, Deserialize)]
struct HarborRepository {
    #[serde(default)]
    repo_full_name: String,
}

fn harbor(receiver: &Receiver, event: &HarborEvent) -> PushEvents {
    if event.kind != "PUSH_ARTIFACT" {
        return PushEvents { ignored: 1, ..PushEvents::default() };
    }
    let repository = &event.event_data.repository.repo_full_name;
    let resources = event.event_data.resources.iter();
    let named = resources.map(|HarborResource { tag, resource_url }| {
        Some(NamedTag { registry: resource_url.split_once('/').map(|(host, _)| host), repository, tag })
    });
    collect_pushes(receiver, named)
}

/// Event of Docker Hub: docs.docker.com, "Webhooks". transship does not call the `callback_url` in the event, because
/// Docker Hub uses the URL only for chains of webhooks.
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

fn docker_hub(receiver: &Receiver, event: &HubEvent) -> PushEvents {
    let named =
        NamedTag { registry: Some("docker.io"), repository: &event.repository.repo_name, tag: &event.push_data.tag };
    collect_pushes(receiver, std::iter::once(Some(named)))
}

/// Event of GitHub: docs.github.com, "Webhook events and payloads". The event `registry_package` has its content in the
/// key `registry_package`. The event `package` has the same content in the key `package`.
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
    /// Name of the tag. Empty for a manifest without a tag.
    #[serde(default)]
    name: String,
}

fn ghcr(receiver: &Receiver, event: &GithubEvent) -> PushEvents {
    let GithubPackage { name, namespace, package_type, package_version } = &event.package;
    // Repository names in the registry are lower case, but GitHub's names of owners can contain upper case.
    let repository = format!("{namespace}/{name}").to_lowercase();
    let tag = package_version.as_ref().and_then(|version| version.container_metadata.as_ref()?.tag.as_ref());
    let is_image = package_type.eq_ignore_ascii_case("container") || package_type.eq_ignore_ascii_case("docker");
    let is_push = matches!(event.action.as_str(), "published" | "updated" | "created");
    let named = tag.filter(|_| is_push && is_image);
    let named = named.map(|tag| NamedTag { registry: Some("ghcr.io"), repository: &repository, tag: &tag.name });
    collect_pushes(receiver, std::iter::once(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Secret;

    fn receiver(kind: HookKind, registry: Option<&str>) -> Receiver {
        let registry = registry.map(|host| host.parse().unwrap());
        Receiver { kind, secret: Secret::File("/none".into()), registry }
    }

    fn shown(events: &PushEvents) -> (Vec<String>, usize) {
        let push = |push: &Push| format!("{}/{}:{}", push.registry, push.repository, push.tag);
        (events.pushes.iter().map(push).collect(), events.ignored)
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
    fn distribution_events_count_only_pushes_of_tags() {
        assert_eq!(pushes(HookKind::Distribution, None, DISTRIBUTION), (vec!["10.1.2.3:5000/team/app:v1".into()], 4));
        let named = pushes(HookKind::Distribution, Some("registry.internal"), DISTRIBUTION);
        assert_eq!(named.0, ["registry.internal/team/app:v1"], "the receiver's registry takes precedence");
        let silent = DISTRIBUTION.replace("\"host\"", "\"nothing\"");
        assert_eq!(pushes(HookKind::Distribution, None, &silent), (vec![], 5));
        assert_eq!(pushes(HookKind::Distribution, None, r#"{"events": []}"#), (vec![], 0));
    }

    #[test]
    fn azure_pushes_of_images_and_charts_count() {
        let expected = (vec!["myregistry.azurecr.io/hello-world:v1".into()], 0);
        assert_eq!(pushes(HookKind::Acr, None, ACR), expected);
        assert_eq!(pushes(HookKind::Acr, None, &ACR.replace("\"push\"", "\"chart_push\"")), expected);
        assert_eq!(pushes(HookKind::Acr, None, &ACR.replace("\"push\"", "\"delete\"")), (vec![], 1));
        assert_eq!(pushes(HookKind::Acr, None, r#"{"id": "1", "action": "ping"}"#), (vec![], 1));
    }

    #[test]
    fn harbor_event_yields_every_tag_of_an_artifact() {
        let expected = ["harbor.example/library/debian:latest", "harbor.example/library/debian:12"];
        assert_eq!(
            pushes(HookKind::Harbor, None, HARBOR),
            (expected.map(String::from).to_vec(), 1),
            "a digest is not a tag"
        );
        let pulled = HARBOR.replace("PUSH_ARTIFACT", "PULL_ARTIFACT");
        assert_eq!(pushes(HookKind::Harbor, None, &pulled), (vec![], 1));
    }

    #[test]
    fn docker_hub_push_is_for_docker_io() {
        assert_eq!(pushes(HookKind::DockerHub, None, DOCKER_HUB), (vec!["docker.io/team/app:latest".into()], 0));
    }

    #[test]
    fn github_package_events_count_only_for_containers() {
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
    fn invalid_event_is_reported_with_its_kind() {
        let expected = "not a valid harbor event: missing field `type` at line 1 column 2";
        assert_eq!(problem(HookKind::Harbor, "{}"), expected);
        let expected = "not a valid distribution event: expected value at line 1 column 1";
        assert_eq!(problem(HookKind::Distribution, "payload=%7B%7D"), expected);
        assert!(problem(HookKind::DockerHub, ACR).contains("missing field `push_data`"));
    }
}

//! Table of all keys of zot's `sync` extension (`pkg/extensions/config/sync`), and the treatment of each key by an
//! import. `docs/how-to/migrate.md` has the same tables for users.

use super::super::treatment::{NoEffect, Read, TreatedKey};

const RETRIES: &str = "transship repeats failed requests by its own rules";
const CONNECTIONS: &str = "transship chooses its connections itself; see `limits: {concurrent: …}` under a registry";

/// Keys of the extension.
pub(super) const SYNC: [TreatedKey; 4] = [
    ("enable", Read),
    ("credentialsFile", Read),
    ("downloadDir", NoEffect("transship copies from registry to registry, without a folder")),
    ("registries", Read),
];

/// Keys of a registry.
pub(super) const REGISTRY: [TreatedKey; 21] = [
    ("urls", Read),
    ("pollInterval", Read),
    ("content", Read),
    ("tlsVerify", Read),
    ("onDemand", Read),
    ("certDir", Read),
    ("onlySigned", Read),
    ("syncLegacyCosignTags", Read),
    ("credentialHelper", Read),
    ("reqConcurrent", Read),
    ("reqPerSec", Read),
    ("preserveDigest", NoEffect("transship never converts an image, so that each digest stays the same")),
    ("manifestCheckInterval", NoEffect("the key applies only to requests on demand")),
    ("oauth2CredentialHelper", NoEffect("write `credentials` under the registry")),
    ("maxRetries", NoEffect(RETRIES)),
    ("retryDelay", NoEffect(RETRIES)),
    ("maxRetryDelay", NoEffect(RETRIES)),
    ("syncTimeout", NoEffect("write `timeout` in an entry for the maximum duration of a run")),
    ("responseHeaderTimeout", NoEffect("see `timeouts` under a registry")),
    ("disableHTTP2", NoEffect(CONNECTIONS)),
    ("maxIdleConnsPerHost", NoEffect(CONNECTIONS)),
];

/// Keys of a content.
pub(super) const CONTENT: [TreatedKey; 4] =
    [("prefix", Read), ("tags", Read), ("destination", Read), ("stripPrefix", Read)];

/// Keys of the tags of a content.
pub(super) const TAGS: [TreatedKey; 3] = [("regex", Read), ("excludeRegex", Read), ("semver", Read)];

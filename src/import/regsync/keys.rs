//! Table of all keys of regsync's configuration (regclient `cmd/regsync/config.go`, `config/host.go`), and the
//! treatment of each key by an import. `docs/how-to/migrate.md` has the same tables for users.

use super::super::treatment::{NoEffect, Read, TreatedKey};

const HOOKS: &str = "regsync reads the key, but runs no hook";
const RATE_LIMIT: &str =
    "write `limits: {reserve_pulls: NUMBER}` under the source's registry, which reserves that number of pulls";

/// Keys of the file.
pub(super) const ROOT: [TreatedKey; 4] = [("version", Read), ("creds", Read), ("defaults", Read), ("sync", Read)];

/// Keys of an entry only.
pub(super) const OWN: [TreatedKey; 8] = [
    ("source", Read),
    ("target", Read),
    ("type", Read),
    ("tags", Read),
    ("tagSets", Read),
    ("repos", Read),
    ("platform", Read),
    ("platforms", Read),
];

/// Keys of an entry and of `defaults`.
pub(super) const SHARED: [TreatedKey; 15] = [
    ("schedule", Read),
    ("interval", Read),
    ("backup", Read),
    ("digestTags", Read),
    ("referrers", Read),
    ("referrerFilters", Read),
    ("referrerSource", Read),
    ("referrerTarget", Read),
    ("includeExternal", Read),
    ("mediaTypes", Read),
    // transship always compares digests first.
    ("fastCheck", Read),
    ("referrerSlow", NoEffect("the key only changes how regsync finds the same referrers")),
    ("forceRecursive", NoEffect("transship never sends content that the target already has under the right digest")),
    ("ratelimit", NoEffect(RATE_LIMIT)),
    ("hooks", NoEffect(HOOKS)),
];

/// Keys of `defaults` only.
pub(super) const DEFAULTS: [TreatedKey; 6] = [
    ("parallel", NoEffect("see `daemon.entries_at_once` and `limits: {concurrent: …}` under a registry")),
    ("skipDockerConfig", NoEffect("write `credentials: {anonymous: true}` under a registry that needs none")),
    ("blobLimit", NoEffect("transship copies blobs of any size")),
    ("cacheCount", NoEffect("the journal replaces it")),
    ("cacheTime", NoEffect("the journal replaces it")),
    ("userAgent", NoEffect("transship sends its own name")),
];

/// Keys of a set of tags.
pub(super) const TAGS: [TreatedKey; 3] = [("allow", Read), ("deny", Read), ("semverRange", Read)];

/// Keys of a selection of repositories.
pub(super) const REPOS: [TreatedKey; 2] = [("allow", Read), ("deny", Read)];

/// Keys of a registry under `creds`. transship always behaves as with `repoAuth`, and requests a token for each
/// repository.
pub(super) const CREDS: [TreatedKey; 22] = [
    ("registry", Read),
    ("user", Read),
    ("pass", Read),
    ("token", Read),
    ("credHelper", Read),
    ("tls", Read),
    ("reqPerSec", Read),
    ("reqConcurrent", Read),
    ("repoAuth", Read),
    ("hostname", Read),
    ("pathPrefix", Read),
    ("regcert", NoEffect("write the certificate into a file, and its path as `tls: {ca: …}`")),
    ("clientCert", NoEffect("write the certificate into a file, and its path as `tls: {certificate: …}`")),
    ("clientKey", NoEffect("write the key into a file, and its path as `tls: {key: …}`")),
    ("credExpire", NoEffect("transship runs a helper again when the registry refuses its credentials")),
    ("credHost", NoEffect("transship passes the registry's own name to a helper")),
    ("mirrors", NoEffect("write `mirrors: [HOST]`; until then transship reads from the registry itself")),
    ("priority", NoEffect("transship tries mirrors in the order of the list")),
    ("api", NoEffect("regsync also ignores this key")),
    ("apiOpts", NoEffect("transship detects what a registry supports")),
    ("blobChunk", NoEffect("see `upload: {chunk: …}`")),
    ("blobMax", NoEffect("see `upload: {mode: …}`")),
];

/// Deprecated key, which regsync ignores with a warning.
pub(super) const SCHEME: TreatedKey = ("scheme", NoEffect("regsync also ignores this key: see `tls`"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_contains_a_key_twice() {
        let own = [OWN.as_slice(), &SHARED].concat();
        let defaults = [SHARED.as_slice(), &DEFAULTS].concat();
        for table in [&ROOT[..], &own, &defaults, &TAGS, &CREDS] {
            let mut names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{names:?}");
        }
    }
}

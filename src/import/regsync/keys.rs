//! Every key of regsync's configuration (regclient `cmd/regsync/config.go`, `config/host.go`), and what an import does
//! with it. `docs/import.md` has the same tables for people.

/// The treatment of a key by an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It is read, and becomes keys of ours, a comment or a reason to leave its entry out.
    Read,
    /// It does not decide what is copied or where to; the text says what holds here instead.
    NoEffect(&'static str),
}

use Treatment::{NoEffect, Read};

/// A key and its treatment.
pub(super) type Known = (&'static str, Treatment);

const HOOKS: &str = "regsync reads it and runs nothing";
const RATE_LIMIT: &str = "write `limits: {keep: NUMBER}` under the source's registry, which keeps so many pulls";

/// Of the file.
pub(super) const ROOT: [Known; 4] = [("version", Read), ("creds", Read), ("defaults", Read), ("sync", Read)];

/// Of an entry alone.
pub(super) const OWN: [Known; 8] = [
    ("source", Read),
    ("target", Read),
    ("type", Read),
    ("tags", Read),
    ("tagSets", Read),
    ("repos", Read),
    ("platform", Read),
    ("platforms", Read),
];

/// Of an entry and of `defaults`.
pub(super) const SHARED: [Known; 15] = [
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
    // Digests are compared first here in any case.
    ("fastCheck", Read),
    ("referrerSlow", NoEffect("it is a way to look for the same referrers")),
    ("forceRecursive", NoEffect("what is at the target under the right digest is not sent again")),
    ("ratelimit", NoEffect(RATE_LIMIT)),
    ("hooks", NoEffect(HOOKS)),
];

/// Of `defaults` alone.
pub(super) const DEFAULTS: [Known; 6] = [
    ("parallel", NoEffect("see `daemon.entries_at_once` and `limits: {concurrent: …}` under a registry")),
    ("skipDockerConfig", NoEffect("write `credentials: {anonymous: true}` under a registry that needs none")),
    ("blobLimit", NoEffect("blobs of any size are copied")),
    ("cacheCount", NoEffect("the journal takes its place")),
    ("cacheTime", NoEffect("the journal takes its place")),
    ("userAgent", NoEffect("the program names itself")),
];

/// Of a set of tags.
pub(super) const TAGS: [Known; 3] = [("allow", Read), ("deny", Read), ("semverRange", Read)];

/// Of a registry under `creds`. `repoAuth` is how it is here in any case: a token for each repository.
pub(super) const CREDS: [Known; 22] = [
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
    ("regcert", NoEffect("write the certificate into a file and name it as `tls: {ca: …}`")),
    ("clientCert", NoEffect("write it into a file and name it as `tls: {certificate: …}`")),
    ("clientKey", NoEffect("write it into a file and name it as `tls: {key: …}`")),
    ("credExpire", NoEffect("a helper is run again when what it gave is refused")),
    ("credHost", NoEffect("a helper is asked for the registry by its own name")),
    ("mirrors", NoEffect("write `mirrors: [HOST]`; until then the registry itself is read")),
    ("priority", NoEffect("mirrors are asked in the order of the list")),
    ("api", NoEffect("regsync ignores it too")),
    ("apiOpts", NoEffect("what a registry can do is found out")),
    ("blobChunk", NoEffect("see `upload: {chunk: …}`")),
    ("blobMax", NoEffect("see `upload: {mode: …}`")),
];

/// Deprecated at regsync, which warns of it and takes no notice.
pub(super) const SCHEME: Known = ("scheme", NoEffect("regsync ignores it too: see `tls`"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice_in_one_table() {
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

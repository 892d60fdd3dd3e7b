//! Table of all keys of dregsy's configuration (`internal/pkg/sync`), and the treatment of each key by an import.
//! `docs/how-to/migrate.md` has the same tables for users.

use super::super::treatment::{NoEffect, Read, TreatedKey};

const RELAY: &str = "transship copies without a relay; for files under `certs-dir` write `tls` under each registry";
const DOCKER: &str = "transship copies without a Docker daemon";

/// Keys of the file.
pub(super) const ROOT: [TreatedKey; 8] = [
    ("tasks", Read),
    ("relay", Read),
    ("skopeo", NoEffect(RELAY)),
    ("docker", NoEffect(DOCKER)),
    ("dockerhost", NoEffect(DOCKER)),
    ("api-version", NoEffect(DOCKER)),
    ("lister", NoEffect("transship lists all repositories in each run, and dregsy only the first 100 by default")),
    ("watch", NoEffect("the daemon always watches its configuration")),
];

/// Keys of a task.
pub(super) const TASK: [TreatedKey; 6] = [
    ("name", Read),
    ("interval", Read),
    ("source", Read),
    ("target", Read),
    ("mappings", Read),
    ("verbose", NoEffect("set the environment variable TRANSSHIP_LOG=debug for more log lines")),
];

/// Keys of the source or the target of a task.
pub(super) const LOCATION: [TreatedKey; 5] =
    [("registry", Read), ("auth", Read), ("auth-refresh", Read), ("skip-tls-verify", Read), ("lister", Read)];

/// Keys of a mapping.
pub(super) const MAPPING: [TreatedKey; 4] = [("from", Read), ("to", Read), ("tags", Read), ("platform", Read)];

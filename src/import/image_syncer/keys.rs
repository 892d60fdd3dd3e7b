//! Tables of all keys of image-syncer's files (`pkg/client/config.go`, `pkg/utils/types/auth.go`).
//! `docs/how-to/migrate.md` shows the same tables to users.

use super::super::treatment::{Read, TreatedKey};

/// Keys of a file that contains images and credentials.
pub(super) const ROOT: [TreatedKey; 2] = [("auth", Read), ("images", Read)];

/// Keys of one registry or namespace.
pub(super) const AUTH: [TreatedKey; 3] = [("username", Read), ("password", Read), ("insecure", Read)];

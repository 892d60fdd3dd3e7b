//! Keys of image-syncer's files (`pkg/client/config.go`, `pkg/utils/types/auth.go`), and the treatment of each key by
//! an import. `docs/how-to/migrate.md` has the same tables for users.

use super::super::treatment::{Read, TreatedKey};

/// Keys of a file that has images and authentication.
pub(super) const ROOT: [TreatedKey; 2] = [("auth", Read), ("images", Read)];

/// Keys of one registry or namespace.
pub(super) const AUTH: [TreatedKey; 3] = [("username", Read), ("password", Read), ("insecure", Read)];

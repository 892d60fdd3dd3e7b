//! All keys of image-syncer's files (`pkg/client/config.go`, `pkg/utils/types/auth.go`), each with its treatment by the
//! import. `docs/how-to/migrate.md` has the same tables for users.

use super::super::treatment::{Read, TreatedKey};

/// Keys of a file with images and authentication.
pub(super) const ROOT: [TreatedKey; 2] = [("auth", Read), ("images", Read)];

/// Keys of one registry or namespace.
pub(super) const AUTH: [TreatedKey; 3] = [("username", Read), ("password", Read), ("insecure", Read)];

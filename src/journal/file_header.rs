//! Header of the journal's file: the numbers that identify the format and its version.

/// SQLite application id of a journal of transship ("TSHP").
pub(super) const APPLICATION_ID: i32 = 0x5453_4850;

/// Version of the schema, SQLite's `user_version`, after all migrations.
pub(super) const VERSION: u32 = 11;

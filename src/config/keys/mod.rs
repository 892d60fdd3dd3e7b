//! Types for tables of keys and for their synonyms, the schema of a file, and the detection of possible secrets.

pub(super) mod nearest;
pub(super) mod schema;
pub(super) mod secret_text;
pub(super) mod synonym;
pub(super) mod table;

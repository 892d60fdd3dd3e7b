//! Engine for the keys of a file, which knows no section: the tables of keys and of their synonyms, the schema of a
//! whole file, and the detection of texts that may be secrets.

pub(super) mod nearest;
pub(super) mod schema;
pub(super) mod secret_text;
pub(super) mod synonym;
pub(super) mod table;

//! Keys of a file, without any section: their tables, the schema of a whole file, and the judgement of texts that may
//! be secrets.

pub(super) mod nearest;
pub(super) mod schema;
pub(super) mod secret_text;
pub(super) mod table;

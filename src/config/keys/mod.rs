//! Tables of the keys of a file and of their synonyms, the schema of a whole file, and the detection of possible
//! secrets. The folder knows no section.

pub(super) mod nearest;
pub(super) mod schema;
pub(super) mod secret_text;
pub(super) mod synonym;
pub(super) mod table;

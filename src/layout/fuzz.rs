//! The fuzz target of `index.json`.

use super::index::Index;

/// Reads an `index.json`. What was read is written, and reads again with the same entries.
pub(crate) fn layout_index(data: &[u8]) {
    let Ok(index) = Index::parse(data.to_vec()) else { return };
    let entries = index.entries().len();
    let names = index.names().len();
    assert!(names <= entries);
    let written = index.render();
    let again = Index::parse(written).expect("an index that was written can be read");
    assert_eq!((again.entries().len(), again.names().len()), (entries, names));
}

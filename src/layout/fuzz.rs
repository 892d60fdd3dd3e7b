//! Fuzz target of `index.json`.

use super::index::Index;

/// Parses and renders an `index.json`. Asserts that the rendered text has the same number of entries and names.
pub(crate) fn layout_index(data: &[u8]) {
    let Ok(index) = Index::parse(data.to_vec()) else { return };
    let entries = index.entries().len();
    let names = index.names().len();
    assert!(names <= entries);
    let written = index.render();
    let again = Index::parse(written).expect("a rendered index can be parsed");
    assert_eq!((again.entries().len(), again.names().len()), (entries, names));
}

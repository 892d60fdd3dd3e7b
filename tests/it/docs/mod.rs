//! Tests of the documents and of the rules of language and structure.

mod architecture;
mod book;
mod examples;
mod facts;
mod language;
mod log_lines;
mod readme;

use std::path::Path;

/// Asserts that a file has this text. With `UPDATE_REFERENCE=1`, the function writes the file instead.
#[track_caller]
fn assert_current(file: &Path, text: &str) {
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(file, text).unwrap();
    }
    let present = std::fs::read_to_string(file).unwrap_or_default();
    let difference = present.lines().zip(text.lines()).find(|(present, current)| present != current);
    assert!(
        present == text,
        "{} is not current ({difference:?}): `UPDATE_REFERENCE=1 tests/run is_current` writes it",
        file.display()
    );
}

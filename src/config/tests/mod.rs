//! Tests of the whole configuration module, with the files in `tests/config`.

mod credentials;
mod files;
mod golden;
mod json_schema;
mod key_tables;
mod random;
mod support;
mod tag_names;
mod values;

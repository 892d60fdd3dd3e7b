//! Tests of commands: `copy`, `import-config`, errors, warnings, files of other programs, the grammar of arguments,
//! JSON output, tables and completions.

mod completions;
mod copy;
mod errors;
mod grammar;
mod import;
mod input_files;
mod json;
mod mistakes;
mod progress;
mod tables;
mod warnings;

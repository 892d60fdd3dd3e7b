//! Tests of commands: `copy`, `import-config`, warnings, files of other programs, the grammar of arguments, JSON and
//! completions.

mod completions;
mod copy;
mod grammar;
mod import;
mod input_files;
mod json;
mod mistakes;
mod progress;
mod warnings;

//! Tests of commands: `copy`, `import-config`, errors, warnings, files of other programs.

mod copy;
mod errors;
mod import;
mod input_files;
mod warnings;

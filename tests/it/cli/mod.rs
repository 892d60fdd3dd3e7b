//! Tests of commands: `copy`, `import-config`, warnings, files given by others.

mod copy;
mod import;
mod input_files;
mod warnings;

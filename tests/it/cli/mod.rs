//! Tests of commands: `copy`, `import-config`, warnings, files of other programs.

mod copy;
mod import;
mod input_files;
mod progress;
mod warnings;

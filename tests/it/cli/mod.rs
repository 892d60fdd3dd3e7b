//! Tests of commands: `copy`, `import-config`, mistakes in `sync.yaml`, warnings, files of other programs.

mod copy;
mod import;
mod input_files;
mod mistakes;
mod warnings;

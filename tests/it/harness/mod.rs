//! Tests of the test support itself.

mod programs;
mod registry;

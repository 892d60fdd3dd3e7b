//! Tests of copies between registries: content, rules, evidence, faults.

mod byte_for_byte;
mod content;
mod evidence;
mod faults;
mod lists;
mod names;
mod plan;
mod resumption;
mod rules;
mod targets;

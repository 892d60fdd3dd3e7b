//! Tests of the documents and of the rules of language and structure.

mod architecture;
mod examples;
mod facts;
mod language;
mod readme;

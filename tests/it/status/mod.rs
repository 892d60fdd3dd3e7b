//! Tests of the status pages, in a real browser.

mod page;
mod page_extremes;
mod screenshot;

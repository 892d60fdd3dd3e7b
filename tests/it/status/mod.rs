//! Tests of the status pages, in a real browser.

mod causes;
mod page;
mod page_extremes;
mod page_sizes;
mod scene;
mod screenshot;

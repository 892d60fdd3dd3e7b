//! Library of transship, a daemon that mirrors container images between registries. The daemon copies only missing
//! content and records each copied digest.
//!
//! The program `transship` only calls [`cli::main()`]. Other programs can use this crate for these tasks:
//!
//! - parse references and manifests;
//! - list and read repositories;
//! - copy images with their signatures;
//! - read a `sync.yaml` and plan its entries.
//!
//! README.md describes the program's features. ARCHITECTURE.md describes the modules and their invariants.
//!
//! # Path of the data
//!
//! 1. [`config`] turns a `sync.yaml` into domain types: entries, options of registries, rules.
//! 2. [`schedule`] determines when an entry is due, and [`daemon`] starts its run. `transship once` starts the run
//!    immediately.
//! 3. [`sync`] runs one entry: lists the source's tags, and compares these tags with the target's tags.
//! 4. [`plan`] selects the tags, finds the tags that differ, and applies the rules.
//! 5. [`copy`] sends the missing content, from a [`store::Source`] to each [`store::Target`]: children first, the tag
//!    last.
//! 6. [`registry`] and [`mod@layout`] implement the two traits of [`store`]: by HTTP, and on disk.
//! 7. [`journal`] records the history of the runs. For each tag, the journal also records the write of the tag, before
//!    and after the copy writes the tag. [`status`] shows this history, and [`mod@notify`] sends webhook messages about
//!    the runs.
//!
//! # Main types
//!
//! | type | contents |
//! | --- | --- |
//! | [`oci::Reference`], [`oci::Digest`], [`oci::Manifest`] | value types |
//! | [`registry::Registry`], [`registry::Repository`] | client of a registry, and client of a repository |
//! | [`layout::Layout`] | OCI image layout in a folder |
//! | [`store::Source`], [`store::Target`] | traits of a repository to read from, and to write to |
//! | [`copy::Copier`], [`copy::Batch`] | copy engine, and one source with its targets during one run |
//! | [`config::Config`], [`config::Entry`] | configuration, and one of its entries |
//! | [`sync::Engine`], [`sync::RunRequest`] | services that runs share, and the request for one run |
//! | [`journal::Journal`] | database of runs and evidence |
//!
//! # Examples
//!
//! The folder `examples/` has complete programs for registries: `list_tags`, `copy_image` and `plan_entry`. The shorter
//! examples below use the image layout in `examples/images`:
//!
//! ## Parse a reference and list the tags of a repository
//!
//! A registry's repository is a [`store::Source`] too: `Registry::new(host, options)?.repository(name)`.
//!
//! ```
//! use futures_util::TryStreamExt as _;
//! use transship::layout::Layout;
//! use transship::oci::Reference;
//! use transship::store::{Source as _, TagEntry};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reference: Reference = "alpine:3.20".parse()?;
//! assert_eq!(reference.repository.to_string(), "docker.io/library/alpine");
//!
//! let layout = Layout::open("examples/images".as_ref());
//! let listed: Vec<TagEntry> = layout.tags().try_collect().await?;
//! let mut names = listed.into_iter().filter_map(|entry| match entry {
//!     TagEntry::Tag(tag, _digest) => Some(tag.to_string()),
//!     _ => None,
//! });
//! assert!(names.any(|name| name == "1.1.0"));
//! # Ok(())
//! # }
//! ```
//!
//! ## Copy an image
//!
//! ```
//! use std::sync::Arc;
//! use transship::copy::{Batch, Contents, Copier, CopyJob, Rules};
//! use transship::layout::Layout;
//! use transship::oci::ManifestRef;
//! use transship::store::Source as _;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("mirror");
//! let (source, target) = (Layout::open("examples/images".as_ref()), Layout::open(&path));
//! let reference = ManifestRef::Tag("1.1.0".parse()?);
//! let digest = source.resolve(&reference).await?.ok_or("the source has no such tag")?.digest;
//!
//! let copier = Copier::new(64 << 20); // Bytes of memory for transfers in flight.
//! let rules = Rules { referrers: true, ..Rules::default() };
//! let (events, _progress) = tokio::sync::mpsc::channel(64);
//! let batch = Batch::new(&copier, source, vec![(target.clone(), Contents::Unknown)], rules, None, events);
//! let job = CopyJob { reference: reference.clone(), digest, tag: Some("stable".parse()?), targets: vec![(0, None)] };
//! for (_target, outcome) in batch.copy(job).await {
//!     assert_eq!(outcome?.digest, digest);
//! }
//! let arrived = target.resolve(&ManifestRef::Tag("stable".parse()?)).await?;
//! assert_eq!(arrived.map(|descriptor| descriptor.digest), Some(digest));
//! # Ok(())
//! # }
//! ```
//!
//! ## Plan an entry
//!
//! ```
//! use transship::plan::Action;
//! use transship::registry::Options;
//! use transship::sync::{Engine, RunRequest, preview};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = r#"
//! version: 1
//! daemon: {journal: /var/lib/transship/journal.db}
//! sync:
//!   - name: hello
//!     source: oci-layout:examples/images
//!     target: oci-layout:/nonexistent/mirror
//!     tags: {semver: ">=1.0", newest: 1}
//! "#;
//! let config = transship::config::parse("sync.yaml", text, &|_variable| None)?;
//! let engine = Engine::new(&config, Options::default(), None);
//! let [request] = &RunRequest::manual(&config)[..] else { unreachable!("the configuration has one entry") };
//! let preview = preview(&engine, request).await;
//! // Signatures that come with the image are the last tags.
//! let tag = &preview.pairs[0].tags[0];
//! assert_eq!(tag.tag.as_ref().map(|tag| tag.as_str()), Some("1.1.0"));
//! assert_eq!(tag.action, Some(Action::Copy));
//! # Ok(())
//! # }
//! ```
//!
//! # Stability
//!
//! Before version 1.0, any release may rename or remove items of the library. Only the command line, the keys of
//! `sync.yaml` and the file format of the journal are stable. CHANGELOG.md lists only changes of these stable parts.
//!
//! # Requirements of a caller
//!
//! Asynchronous functions need a Tokio runtime with I/O and time enabled. Only [`cli`] reads environment variables,
//! reads files that the caller does not name, and installs a [`tracing`] subscriber. Any other function that needs
//! environment variables takes a lookup function as an argument.

pub mod cli;
pub mod config;
pub mod control;
pub mod copy;
pub mod daemon;
mod fair_queue;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod import;
pub mod journal;
pub(crate) mod json_form;
pub mod layout;
pub mod listen;
pub mod notify;
pub mod oci;
pub mod plan;
pub mod push_events;
pub mod registry;
pub mod regular_file;
pub mod schedule;
pub mod status;
pub mod store;
pub mod sync;

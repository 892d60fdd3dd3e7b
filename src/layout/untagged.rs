//! Search for content of a layout that no tag names. A listing of tags reports this content:
//!
//! - images without a name, which skopeo, buildx and kaniko write;
//! - images whose name is a full reference;
//! - entries that the parser cannot read.

use std::collections::HashSet;

use super::disk::Disk;
use super::fault::Fault;
use super::index::{Index, Named, Pointer};
use super::referrers::Facts;
use crate::oci::{Digest, MediaType};

/// Maximum number of lines of a report. For any further image or entry, the report only increments a count.
const MAX_LINES: usize = 20;
/// Maximum depth of nested indexes that the search reads.
const MAX_DEPTH: usize = 4;

/// Report about content that a listing of tags skips.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    lines: Vec<String>,
    more: usize,
}

impl Skipped {
    fn add(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line());
        } else {
            self.more += 1;
        }
    }

    /// Adds a name that is not a tag, with the content that the name points at.
    pub(super) fn add_name(&mut self, name: &str, named: &Named<'_>) {
        self.add(|| match named {
            Named::One(pointer) => {
                format!("the name {name:?} is not a tag; select the image by its digest: @{}", pointer.digest)
            }
            Named::Several(images) => {
                let all: Vec<String> = images.iter().map(|(digest, _)| format!("@{digest}")).collect();
                format!("the name {name:?} is not a tag; select an image by its digest: {}", all.join(" or "))
            }
            Named::Nothing | Named::Unknown => format!("the name {name:?} is not a tag, and its entry has no digest"),
        });
    }

    /// Returns the lines. If there are more items than lines, the last line states the number of the remaining items.
    pub(super) fn into_lines(self) -> impl Iterator<Item = String> {
        let more = (self.more > 0).then(|| format!("{} more images or entries without a tag", self.more));
        self.lines.into_iter().chain(more)
    }
}

/// Finds content that no tag names. Does not report the children and referrers of a named image, because a copy of the
/// image includes this content.
pub(super) fn find(disk: &Disk, facts: &Facts, index: &Index, skipped: &mut Skipped) {
    let named: HashSet<Digest> =
        index.entries().iter().filter(|entry| entry.name.is_some()).filter_map(digest).collect();
    let mut seen = HashSet::new();
    let mut images: Vec<&Pointer> = Vec::new();
    for (position, entry) in index.entries().iter().enumerate().filter(|(_, entry)| entry.name.is_none()) {
        let Some(pointer) = &entry.target else {
            skipped.add(|| format!("entry {} of index.json has no valid digest", position + 1));
            continue;
        };
        if named.contains(&pointer.digest) || !seen.insert(pointer.digest) {
            continue;
        }
        match facts.get(disk, &pointer.digest, Some(&pointer.media_type)) {
            Ok(Some(fact)) => match fact.subject {
                None => images.push(pointer),
                Some(subject) if matches!(disk.blob_size(&subject), Ok(None)) => {
                    skipped.add(|| format!("{} refers to {subject}, which the layout does not have", pointer.digest));
                }
                Some(_) => {}
            },
            unreadable => skipped.add(|| unreadable_line(disk, pointer, unreadable.err())),
        }
    }
    if images.is_empty() {
        return;
    }
    let contained = contained(disk, index);
    for image in images.into_iter().filter(|image| !contained.contains(&image.digest)) {
        skipped.add(|| format!("an image has no name; select it by its digest: @{}", image.digest));
    }
}

fn digest(entry: &super::index::Entry) -> Option<Digest> {
    entry.target.as_ref().map(|pointer| pointer.digest)
}

fn unreadable_line(disk: &Disk, pointer: &Pointer, fault: Option<Fault>) -> String {
    match fault {
        Some(fault) => format!("{} has no name in index.json, and cannot be read: {fault}", pointer.digest),
        None if matches!(disk.blob_size(&pointer.digest), Ok(None)) => {
            format!("{} has no name in index.json, and {}", pointer.digest, disk.missing_content_fault(&pointer.digest))
        }
        None => format!("{} has no name in index.json, and is no supported manifest", pointer.digest),
    }
}

/// Returns the digests of all children of the listed indexes.
fn contained(disk: &Disk, index: &Index) -> HashSet<Digest> {
    let listed = index.entries().iter().filter_map(|entry| entry.target.as_ref());
    let mut level: Vec<(Digest, MediaType)> =
        listed.map(|pointer| (pointer.digest, pointer.media_type.clone())).collect();
    let (mut found, mut read) = (HashSet::new(), HashSet::new());
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for (digest, media_type) in level {
            // If the entry has the media type of an image, the search does not read the content. Any other media type
            // is only a hint, so the search reads the content to find an index.
            let may_be = media_type.is_index() || !media_type.is_manifest();
            if !may_be || !read.insert(digest) {
                continue;
            }
            let Ok(Some(manifest)) = disk.read_manifest_alone(&digest, Some(&media_type)) else { continue };
            let Ok(view) = manifest.view() else { continue };
            for child in view.manifests() {
                found.insert(child.digest);
                next.push((child.digest, child.media_type.clone()));
            }
        }
        level = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_twentieth_are_counted() {
        let mut skipped = Skipped::default();
        for at in 0..25 {
            skipped.add(|| format!("line {at}"));
        }
        let lines: Vec<String> = skipped.into_lines().collect();
        assert_eq!((lines.len(), lines[20].as_str()), (21, "5 more images or entries without a tag"));
    }

    #[test]
    fn name_that_is_not_a_tag_shows_its_digest() {
        let at = Pointer { media_type: MediaType::new("x"), digest: Digest::of(b"x"), size: None };
        let mut skipped = Skipped::default();
        skipped.add_name("docker.io/a/b:1", &Named::One(&at));
        let expected =
            format!("the name \"docker.io/a/b:1\" is not a tag; select the image by its digest: @{}", at.digest);
        assert_eq!(skipped.into_lines().collect::<Vec<_>>(), [expected]);
    }
}

//! Tests of a large upload that one process starts and another process finishes: the bytes that are read and sent
//! again, and the checks of the recorded state.

use rusqlite::Connection;
use serde_json::Value;
use transship::oci::{Digest, Digester};

use crate::support::images::{self, Family, linux};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Fault, Request, Server};
use crate::support::site::Site;

const MIB: usize = 1024 * 1024;

/// Number of bytes of the layer at the target when the first process ended.
const STORED: usize = 3 * MIB;

/// Two registries and a layer of almost 7 MiB, which is uploaded in chunks of 1 MiB.
struct Interrupted {
    source: Server,
    target: Server,
    site: Site,
    layer: Digest,
    size: usize,
}

impl Interrupted {
    fn prepared() -> Self {
        let (source, target, site) = (Server::start(), Server::start(), Site::new());
        let layer = images::layer(Family::Oci, 1, 7 * MIB - 50_000);
        let digest = layer.digest();
        images::image(Family::Oci, linux("amd64"), &[layer]).put(&source, "app", Some("v1"));
        let size = source.store().blob("app", &digest).unwrap().len();
        let interrupted = Self { source, target, site, layer: digest, size };
        interrupted.configure("");
        interrupted
    }

    /// Configures the entry with the further keys `more`.
    fn configure(&self, more: &str) {
        self.configure_chunks("1MiB", more);
    }

    fn configure_chunks(&self, chunk: &str, more: &str) {
        let (from, to) = (self.source.host(), self.target.host());
        let registries = format!(
            "\"{from}\": {{plain_http: true}}, \"{to}\": {{plain_http: true, upload: {{mode: chunked, chunk: \
                {chunk}}}}}"
        );
        let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\", schedule: never{more}}}");
        self.site.configure_fully("status: off", &registries, &entry);
    }

    /// Kills the first process after its third chunk.
    fn killed() -> Self {
        let interrupted = Self::prepared();
        interrupted.target.set(Fault::ChunksHeld { after: STORED });
        let mut run = interrupted.site.start(&["once"]);
        run.wait_until("the third chunk in the journal", |_| {
            (interrupted.recorded_offset() == Some(STORED) && interrupted.chunks().len() > 3).then_some(())
        });
        run.kill();
        interrupted.reset_faults_and_logs();
        interrupted
    }

    /// Kills the first process while it waits for the response to the chunk after which the session has at least
    /// `after` bytes. The registry keeps `keeps` bytes of that chunk. Returns the scene and the number of bytes in the
    /// session.
    fn killed_before_a_response(after: usize, keeps: usize) -> (Self, usize) {
        let interrupted = Self::prepared();
        let after = after.min(interrupted.size);
        interrupted.target.set(Fault::ChunkAnswersHeld { after, keeps });
        let mut run = interrupted.site.start(&["once"]);
        let stored = run.wait_until("a chunk whose response is held", |_| interrupted.target.held_sessions());
        run.kill();
        interrupted.reset_faults_and_logs();
        (interrupted, stored)
    }

    fn reset_faults_and_logs(&self) {
        self.target.heal();
        for server in [&self.source, &self.target] {
            server.log().clear();
        }
    }

    fn journal(&self) -> Connection {
        Connection::open(self.site.journal()).unwrap()
    }

    /// Returns the number of uploaded bytes in the journal, or `None` if the journal has no upload.
    fn recorded_offset(&self) -> Option<usize> {
        let stored = self.journal().query_row("SELECT stored FROM uploads", [], |row| row.get::<_, u32>(0));
        stored.ok().map(|stored| stored as usize)
    }

    fn change(&self, statement: &str, value: impl rusqlite::ToSql) {
        assert_eq!(self.journal().execute(statement, [value]).unwrap(), 1, "{statement}");
    }

    fn chunks(&self) -> Vec<Request> {
        self.target.log().requests_of("upload PATCH")
    }

    /// Returns the number of bytes that the target received in chunks.
    fn sent(&self) -> usize {
        self.chunks().iter().map(|chunk| usize::try_from(chunk.received).unwrap()).sum()
    }

    /// Returns the number of bytes of the layer that were read from the source.
    fn read(&self) -> usize {
        let of_layer = |read: &&Request| read.path.ends_with(&self.layer.to_string());
        self.source
            .log()
            .requests_of("blob GET")
            .iter()
            .filter(of_layer)
            .map(|read| usize::try_from(read.sent).unwrap())
            .sum()
    }

    /// Runs once, and returns the log of the run.
    #[track_caller]
    fn log_of_next_run(&self) -> String {
        let mut command = self.site.command(&["once"]);
        Running::start(command.env("TRANSSHIP_LOG", "info")).wait(DEADLINE).expect_success().stderr
    }

    /// Asserts that the next run completes the layer, and that the journal has its evidence.
    #[track_caller]
    fn expect_completed(&self) {
        self.site.once();
        let stored = self.target.store().blob("app", &self.layer).expect("the layer");
        assert_eq!((stored.len(), Digest::of(&stored)), (self.size, self.layer));
        assert_eq!(self.target.store().tag("app", "v1"), self.source.store().tag("app", "v1"));
        assert_eq!(self.recorded_offset(), None, "the journal has no record of a finished upload");
        let evidence = self.site.evidence(&[]);
        assert_eq!(evidence.len(), 1, "{evidence:#?}");
        assert!(
            evidence[0]["bytes"].as_u64() >= Some(self.size as u64),
            "the whole layer is in the evidence: {evidence:#?}"
        );
        let outcomes: Vec<Value> = self.site.history(&[]).iter().map(|run| run["outcome"].clone()).collect();
        assert_eq!(outcomes[0], "succeeded", "{outcomes:?}");
    }

    /// Asserts that the next run completes the layer and sends only the remaining bytes.
    #[track_caller]
    fn expect_resumed(&self) {
        self.expect_completed();
        assert_eq!(self.sent(), self.size - STORED);
        assert_eq!(self.chunks()[0].headers["content-range"], format!("{STORED}-{}", STORED + MIB - 1));
    }

    /// Asserts that the next run completes the layer and sends all its bytes.
    #[track_caller]
    fn expect_restarted(&self) {
        self.expect_completed();
        assert_eq!(self.sent(), self.size);
        assert_eq!(self.chunks()[0].headers["content-range"], format!("0-{}", MIB - 1));
    }
}

#[test]
fn upload_of_a_killed_process_resumes_at_last_acknowledged_chunk() {
    let interrupted = Interrupted::killed();
    interrupted.expect_resumed();
    assert_eq!(interrupted.read(), interrupted.size - STORED, "sent bytes are not read again");
    assert_eq!(interrupted.target.log().count("upload GET"), 1, "the registry is queried for the offset");
    assert_eq!(interrupted.target.open_sessions(), 0);
}

#[test]
fn kill_before_a_chunk_response_resends_no_stored_byte() {
    // The first chunk, one in the middle, and the last one. The registry keeps the whole chunk, a part, or nothing.
    for (after, keeps) in [
        (4 * MIB, MIB),
        (4 * MIB, 300_000),
        (4 * MIB, 1),
        (4 * MIB, 0),
        (7 * MIB, MIB),
        (7 * MIB, 300_000),
        (MIB, MIB),
        (MIB, 300_000),
    ] {
        let (interrupted, stored) = Interrupted::killed_before_a_response(after, keeps);
        interrupted.expect_completed();
        assert_eq!(interrupted.sent(), interrupted.size - stored, "{after} {keeps}");
        let first = interrupted.chunks().first().map(|chunk| chunk.headers["content-range"].clone());
        let begins = first.map(|range| range.split_once('-').unwrap().0.parse::<usize>().unwrap());
        assert_eq!(begins, (stored < interrupted.size).then_some(stored), "{after} {keeps}");
        let read = interrupted.read();
        let rest = interrupted.size - stored;
        assert!(
            (rest..=rest + MIB).contains(&read),
            "a chunk is read twice at most: {read} of {rest}, {after} {keeps}"
        );
        assert_eq!(interrupted.target.open_sessions(), 0);
    }
}

#[test]
fn changed_source_bytes_restart_the_upload() {
    let (interrupted, _) = Interrupted::killed_before_a_response(4 * MIB, 300_000);
    let mut other = Digester::like(&interrupted.layer);
    other.update(&vec![7; 4 * MIB]);
    interrupted.change("UPDATE uploads SET ahead_hashed = ?1", other.to_state());
    interrupted.expect_restarted();
}

#[test]
fn upload_that_cannot_resume_is_logged_with_the_reason() {
    let interrupted = Interrupted::killed();
    interrupted.target.set(Fault::SessionForgotten { after: STORED, times: 1 });
    let message = interrupted.log_of_next_run();
    let line = message
        .lines()
        .find(|line| line.contains("an interrupted upload restarts"))
        .unwrap_or_else(|| panic!("{message}"));
    assert!(line.contains("the registry no longer has the session (404 Not Found, BLOB_UPLOAD_UNKNOWN"), "{line}");
    assert!(line.contains(&format!("noted={STORED}")) && line.contains(&interrupted.layer.to_string()), "{line}");

    let interrupted = Interrupted::killed();
    interrupted.change("UPDATE uploads SET stored = ?1", (STORED + 1000) as u32);
    let message = interrupted.log_of_next_run();
    let why = format!("the registry has {STORED} bytes of the blob, but the journal recorded another number");
    assert!(message.contains(&why), "{message}");
}

#[test]
fn upload_resumes_in_a_repository_with_other_tags() {
    let interrupted = Interrupted::prepared();
    images::small(Family::Oci, 9).put(&interrupted.target, "app", Some("other"));
    interrupted.target.set(Fault::ChunksHeld { after: STORED });
    let mut run = interrupted.site.start(&["once"]);
    run.wait_until("the third chunk", |_| (interrupted.recorded_offset() == Some(STORED)).then_some(()));
    run.kill();
    interrupted.reset_faults_and_logs();
    interrupted.expect_resumed();
}

#[test]
fn upload_of_a_timed_out_run_resumes_in_the_next() {
    let interrupted = Interrupted::prepared();
    interrupted.configure(", timeout: 5s");
    interrupted.target.set(Fault::ChunksHeld { after: STORED });
    let output = interrupted.site.run(&["once"]);
    assert_eq!(output.code(), 1, "{}{}", output.stdout, output.stderr);
    assert_eq!(interrupted.site.history(&[])[0]["outcome"], "timed_out");
    interrupted.configure("");
    interrupted.reset_faults_and_logs();
    interrupted.expect_resumed();
}

#[test]
fn source_without_ranges_is_reread_but_not_resent() {
    let interrupted = Interrupted::killed();
    interrupted.source.set(Fault::BlobRangesIgnored);
    interrupted.expect_resumed();
    assert_eq!(interrupted.read(), interrupted.size);
}

#[test]
fn upload_with_a_lost_session_restarts() {
    let interrupted = Interrupted::killed();
    interrupted.target.set(Fault::SessionForgotten { after: STORED, times: 1 });
    interrupted.expect_restarted();
}

#[test]
fn upload_with_an_unexpected_session_offset_restarts() {
    let interrupted = Interrupted::killed();
    interrupted.change("UPDATE uploads SET stored = ?1", (STORED - 1000) as u32);
    interrupted.expect_restarted();
    assert_eq!(interrupted.target.log().count("upload GET"), 1);
}

#[test]
fn upload_with_an_oversized_next_chunk_restarts_smaller() {
    let interrupted = Interrupted::killed();
    interrupted.configure_chunks("6MiB", "");
    interrupted.target.set(Fault::UploadBodyLimit(MIB));
    interrupted.expect_completed();
    let ranges: Vec<String> = interrupted.chunks().iter().map(|chunk| chunk.headers["content-range"].clone()).collect();
    let expected = [format!("{STORED}-{}", interrupted.size - 1), format!("0-{}", 6 * MIB - 1)];
    assert_eq!(ranges[..2], expected, "{ranges:?}");
}

#[test]
fn upload_with_an_unreadable_hash_state_restarts() {
    let interrupted = Interrupted::killed();
    interrupted.change("UPDATE uploads SET hashed = ?1", vec![7_u8; 20]);
    interrupted.expect_restarted();
    assert_eq!(interrupted.target.log().count("upload GET"), 0);
}

#[test]
fn hash_state_of_other_bytes_is_detected_before_commit() {
    let interrupted = Interrupted::killed();
    let mut other = Digester::like(&interrupted.layer);
    other.update(&vec![7; STORED]);
    interrupted.change("UPDATE uploads SET hashed = ?1", other.to_state());
    interrupted.expect_completed();
    let commits = interrupted.target.log().requests_of("upload PUT");
    let of_first = interrupted.chunks()[0].path.clone();
    assert!(commits.iter().all(|commit| commit.path != of_first), "unverified bytes are not committed");
    assert!(interrupted.sent() > interrupted.size, "the upload restarts in the same run");
}

#[test]
fn bytes_corrupted_by_the_registry_are_resent() {
    let interrupted = Interrupted::killed();
    interrupted.target.spoil_sessions();
    interrupted.expect_completed();
    assert_eq!(interrupted.sent(), 2 * interrupted.size - STORED);
}

#[test]
fn blob_uploaded_by_others_meanwhile_is_not_sent() {
    let interrupted = Interrupted::killed();
    let layer = interrupted.source.store().blob("app", &interrupted.layer).unwrap();
    interrupted.target.store().put_blob("app", layer);
    interrupted.site.once();
    assert_eq!((interrupted.sent(), interrupted.recorded_offset()), (0, None));
}

#[test]
fn upload_with_a_signed_location_is_not_recorded_and_restarts() {
    let interrupted = Interrupted::prepared();
    interrupted.target.set(Fault::UploadSignature("a-signature"));
    interrupted.target.set(Fault::ChunksHeld { after: STORED });
    let mut run = interrupted.site.start(&["once"]);
    run.wait_until("the fourth chunk", |_| (interrupted.chunks().len() > 3).then_some(()));
    assert_eq!(interrupted.recorded_offset(), None);
    run.signal("INT");
    assert_eq!(run.wait(DEADLINE).code(), 130);
    assert_eq!(interrupted.recorded_offset(), None);
    interrupted.reset_faults_and_logs();
    interrupted.expect_restarted();
}

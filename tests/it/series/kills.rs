//! Tests of `kill -9` at each request of a run: before the registry executes the request, and after the registry has
//! executed it but before it responds.

use std::time::Instant;

use super::{Mirror, Side, assert_tried, instants};
use crate::support::programs::DEADLINE;
use crate::support::registry::{Fault, Harm};

const MIB: usize = 1 << 20;

/// Kills `transship ARGS` at about `few` requests to one side, each time with a new mirror. Returns the number of
/// kills.
fn kill_at_each_request(side: Side, upload: &str, layer: usize, args: &[&str], few: usize) -> usize {
    let whole = Mirror::new(upload, layer);
    whole.once().expect_success();
    whole.assert_complete("without a kill");
    let requests = whole.server(side).log().requests().len();
    let mut tried = 0;
    for nth in instants(requests, few) {
        for harm in [Harm::Held, Harm::HeldAnswer] {
            let instant = format!("{args:?} killed at request {nth} of {requests} to the {side:?}, {harm:?}");
            let mirror = Mirror::new(upload, layer);
            mirror.server(side).set(Fault::Nth { nth, harm });
            let mut running = mirror.site.start(args);
            let began = Instant::now();
            while !mirror.server(side).is_holding() && running.is_running() {
                assert!(began.elapsed() < DEADLINE, "{instant}: the request never came");
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            running.kill();
            mirror.server(side).heal();
            mirror.assert_no_tag_is_broken(&instant);
            let output = mirror.once();
            assert_eq!(output.code(), 0, "{instant}: {}\n{}", output.stdout, output.stderr);
            mirror.assert_complete(&instant);
            tried += 1;
        }
    }
    tried
}

#[test]
fn kill_at_any_source_request_loses_nothing() {
    let tried = kill_at_each_request(Side::Source, "{mode: monolithic}", 3000, &["once"], 3);
    assert_tried("kill_at_any_source_request_loses_nothing", tried);
}

#[test]
fn kill_at_any_target_request_loses_nothing() {
    let tried = kill_at_each_request(Side::Target, "{mode: monolithic}", 3000, &["once"], 6);
    assert_tried("kill_at_any_target_request_loses_nothing", tried);
}

#[test]
fn kill_at_any_chunked_run_request_loses_nothing() {
    let tried = kill_at_each_request(Side::Target, "{mode: chunked, chunk: 1MiB}", 5 * MIB / 2, &["once"], 4);
    assert_tried("kill_at_any_chunked_run_request_loses_nothing", tried);
}

#[test]
fn daemon_kill_at_any_target_request_loses_nothing() {
    let args = ["run", "--control", "off"];
    let tried = kill_at_each_request(Side::Target, "{mode: chunked, chunk: 1MiB}", 5 * MIB / 2, &args, 3);
    assert_tried("daemon_kill_at_any_target_request_loses_nothing", tried);
}

//! Tests of a fault in one request of a run, at each side, with every kind of fault of networks and registries.

use super::{Mirror, Side, assert_tried, instants, is_long};
use crate::support::registry::{Fault, Harm};

/// Faults of a request. The quick form uses the next fault of the list for each request.
const HARMS: [Harm; 13] = [
    Harm::Reset,
    Harm::Status(500),
    Harm::Unanswered,
    Harm::Status(404),
    Harm::CutAnswer,
    Harm::Status(403),
    Harm::Page,
    Harm::Status(429),
    Harm::Nothing,
    Harm::Status(401),
    Harm::Status(400),
    Harm::Status(405),
    Harm::Status(503),
];

/// Further faults of the long form.
const FURTHER: [Harm; 6] =
    [Harm::Status(408), Harm::Status(409), Harm::Status(413), Harm::Status(416), Harm::Status(502), Harm::Status(504)];

/// Runs once with a fault in one request, then once without a fault.
fn harm_once(upload: &str, layer: usize, side: Side, nth: usize, harm: Harm) {
    let mirror = Mirror::new(upload, layer);
    mirror.server(side).set(Fault::Nth { nth, harm });
    let output = mirror.once();
    let harmed =
        mirror.server(side).log().requests().get(nth - 1).map(|request| format!("{} {}", request.kind, request.path));
    let instant = format!("{side:?}: request {nth} ({}) met {harm:?}", harmed.unwrap_or_default());
    mirror.server(side).heal();
    mirror.assert_honest(&output, &instant);
    let again = mirror.once();
    assert_eq!(again.code(), 0, "{instant}, then none: {}\n{}", again.stdout, again.stderr);
    mirror.assert_complete(&instant);
}

/// Runs once for each request to one side, with a fault in that request. Returns the number of runs.
fn harm_each_request(upload: &str, layer: usize, side: Side, few: usize) -> usize {
    let whole = Mirror::new(upload, layer);
    whole.once().expect_success();
    let requests = whole.server(side).log().requests().len();
    let mut tried = 0;
    for (number, nth) in instants(requests, few).into_iter().enumerate() {
        let all = HARMS.iter().chain(&FURTHER);
        let (skip, take) = if is_long() { (0, usize::MAX) } else { (number % HARMS.len(), 1) };
        for harm in all.skip(skip).take(take) {
            harm_once(upload, layer, side, nth, *harm);
            tried += 1;
        }
    }
    tried
}

#[test]
fn fault_in_any_source_request_loses_nothing() {
    let tried = harm_each_request("{mode: monolithic}", 3000, Side::Source, 13);
    assert_tried("fault_in_any_source_request_loses_nothing", tried);
}

#[test]
fn fault_in_any_target_request_loses_nothing() {
    let tried = harm_each_request("{mode: monolithic}", 3000, Side::Target, 26);
    assert_tried("fault_in_any_target_request_loses_nothing", tried);
}

#[test]
fn fault_in_any_chunked_run_request_loses_nothing() {
    let tried = harm_each_request("{mode: chunked, chunk: 1MiB}", 5 << 19, Side::Target, 8);
    assert_tried("fault_in_any_chunked_run_request_loses_nothing", tried);
}

//! Tests of the arithmetic of a quota, step by step and against a simulated registry.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};
use http::HeaderMap;
use proptest::prelude::*;

use super::budget::{Budget, Outcome, Report, Verdict};
use super::headers::parse_headers;

const HOUR: u64 = 3600;

fn with_reserve(reads: u64) -> Budget {
    let mut budget = Budget::default();
    budget.set_reserve(reads);
    budget
}

fn time_at(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_800_000_000 + seconds, 0).unwrap()
}

fn report_of(remaining: u64) -> Report {
    Report { limit: 10, window: Duration::from_secs(6 * HOUR), remaining }
}

/// Returns a budget that has just received a report of this many remaining reads.
fn budget_with(keep: u64, remaining: u64) -> Budget {
    let mut budget = with_reserve(keep);
    let number = budget.next_number();
    budget.record_outcome(number, false, Outcome::Reported(report_of(remaining)), time_at(0));
    budget
}

#[test]
fn report_for_an_earlier_request_only_lowers_remaining_reads() {
    let mut budget = budget_with(0, 9);
    assert_eq!([budget.take_read(time_at(1)), budget.take_read(time_at(1))], [Verdict::Taken; 2]);
    let (early, late) = (budget.next_number(), budget.next_number());
    budget.record_outcome(late, true, Outcome::Reported(report_of(7)), time_at(1));
    budget.record_outcome(early, true, Outcome::Reported(report_of(8)), time_at(2));
    assert_eq!(budget.reads_left(time_at(2)), Some(7));
    let next = budget.next_number();
    budget.record_outcome(next, false, Outcome::Reported(report_of(10)), time_at(3));
    assert_eq!(budget.reads_left(time_at(3)), Some(10), "a later request shows the new window");
}

#[test]
fn report_that_may_predate_lost_read_is_reduced_by_it() {
    let mut budget = budget_with(0, 9);
    assert_eq!([budget.take_read(time_at(1)), budget.take_read(time_at(1))], [Verdict::Taken; 2]);
    let (early, lost) = (budget.next_number(), budget.next_number());
    budget.record_outcome(lost, true, Outcome::Lost, time_at(1));
    budget.record_outcome(early, true, Outcome::Reported(report_of(8)), time_at(1));
    assert_eq!(budget.reads_left(time_at(1)), Some(7));
    let next = budget.next_number();
    budget.record_outcome(next, false, Outcome::Reported(report_of(8)), time_at(2));
    assert_eq!(budget.reads_left(time_at(2)), Some(8), "the registry did not count it");
}

#[test]
fn reads_in_flight_are_awaited_and_reserve_stays_untouched() {
    let mut budget = budget_with(2, 4);
    assert_eq!([budget.take_read(time_at(1)), budget.take_read(time_at(1))], [Verdict::Taken; 2]);
    let numbers = [budget.next_number(), budget.next_number()];
    budget.record_outcome(numbers[0], true, Outcome::Reported(report_of(4)), time_at(1));
    assert_eq!(budget.take_read(time_at(1)), Verdict::Taken, "the registry did not count one read");
    assert_eq!(budget.take_read(time_at(1)), Verdict::Later);
    budget.record_outcome(numbers[1], true, Outcome::Reported(report_of(3)), time_at(1));
    let last = budget.next_number();
    budget.record_outcome(last, true, Outcome::Reported(report_of(2)), time_at(2));
    assert_eq!((budget.take_read(time_at(2)), budget.reads_left(time_at(2))), (Verdict::Spent, Some(0)));
}

#[test]
fn group_of_reads_is_reserved_completely_or_not() {
    let mut budget = budget_with(1, 6);
    assert_eq!(budget.reserve(4, time_at(0)), Verdict::Taken);
    assert_eq!(budget.take_read(time_at(0)), Verdict::Taken);
    assert_eq!(budget.take_read(time_at(0)), Verdict::Later, "the report may include the one in flight");
    let number = budget.next_number();
    budget.record_outcome(number, true, Outcome::Reported(report_of(5)), time_at(0));
    assert_eq!(budget.take_read(time_at(0)), Verdict::Spent, "reserved reads may never be released");
    assert_eq!(budget.reserve(10, time_at(0)), Verdict::Never);
    budget.take_reserved();
    budget.release(3);
    assert_eq!(budget.reserve(3, time_at(0)), Verdict::Taken);
}

#[test]
fn smaller_read_waits_for_group_that_did_not_fit() {
    let mut budget = budget_with(0, 3);
    assert_eq!(budget.reserve(5, time_at(0)), Verdict::Spent);
    assert_eq!((budget.take_read(time_at(0)), budget.reads_left(time_at(0))), (Verdict::Spent, Some(0)));
    let report = |budget: &mut Budget, remaining| {
        let number = budget.next_number();
        budget.record_outcome(number, false, Outcome::Reported(report_of(remaining)), time_at(9));
    };
    report(&mut budget, 5);
    assert_eq!(budget.take_read(time_at(9)), Verdict::Spent, "five reads, and the read that shows the group");
    report(&mut budget, 6);
    assert_eq!((budget.take_read(time_at(9)), budget.reads_left(time_at(9))), (Verdict::Taken, Some(6)));
}

#[test]
fn registry_is_queried_after_restart_or_on_stale_exhaustion() {
    let mut budget = Budget::default();
    assert!(budget.needs_query(time_at(0)));
    budget.recall(report_of(9), time_at(-5));
    assert!(budget.needs_query(time_at(0)), "the journal's report is old");
    let number = budget.next_number();
    budget.record_outcome(number, false, Outcome::Reported(report_of(1)), time_at(0));
    assert!(!budget.needs_query(time_at(9999)), "while reads remain");
    assert_eq!(budget.take_read(time_at(0)), Verdict::Taken);
    let number = budget.next_number();
    budget.record_outcome(number, true, Outcome::Reported(report_of(0)), time_at(0));
    assert_eq!([budget.needs_query(time_at(59)), budget.needs_query(time_at(60))], [false, true]);
    budget.record_attempt(time_at(60));
    assert!(!budget.needs_query(time_at(61)), "an attempt was just made");
    budget.recall(report_of(9), time_at(61));
    assert_eq!(budget.reads_left(time_at(61)), Some(0), "the registry's own report has precedence");
    assert_eq!(budget.reads_left(time_at(6 * 3600)), Some(10), "a whole window later the quota is full");
}

#[test]
fn wanted_group_has_precedence_in_every_second_window() {
    let hours = |hours: i64| time_at(hours * 3600);
    let report = |budget: &mut Budget, now| {
        let number = budget.next_number();
        budget.record_outcome(number, false, Outcome::Reported(report_of(3)), now);
    };
    let mut budget = budget_with(0, 3);
    assert_eq!(budget.reserve(5, hours(0)), Verdict::Spent);
    let mut read = |hour: i64, asks: bool| {
        report(&mut budget, hours(hour));
        if asks {
            assert_eq!(budget.reserve(5, hours(hour)), Verdict::Spent);
        }
        budget.reads_left(hours(hour)).unwrap()
    };
    assert_eq!(
        [(0, false), (1, true), (2, true), (3, true), (4, true), (5, true)].map(|(h, asks)| read(h, asks)),
        [0; 6]
    );
    assert_eq!([6, 9, 11].map(|hour| read(hour, true)), [3; 3], "a window for others follows");
    assert_eq!([read(12, true), read(12, false)], [0; 2]);
    assert_eq!(read(14, false), 3, "the group is no longer requested");
    assert_eq!(read(26, true), 0);
    assert_eq!(read(25, false), 3, "the clock was set back");
}

#[test]
fn refusal_without_a_report_is_remembered() {
    let mut budget = Budget::default();
    let send = |budget: &mut Budget| {
        assert_eq!(budget.take_read(time_at(0)), Verdict::Taken);
        budget.next_number()
    };
    let (early, refused) = (send(&mut budget), send(&mut budget));
    budget.record_attempt(time_at(0));
    budget.record_outcome(refused, true, Outcome::Refused, time_at(0));
    budget.record_outcome(early, true, Outcome::Silent, time_at(1));
    let spent = [budget.take_read(time_at(2)), budget.take_read(time_at(1799)), budget.reserve(2, time_at(1799))];
    assert_eq!((spent, budget.reads_left(time_at(2))), ([Verdict::Spent; 3], Some(0)));
    assert!(!budget.needs_query(time_at(1799)) && budget.needs_query(time_at(1800)));
    let two = [budget.take_read(time_at(1800)), budget.take_read(time_at(1800))];
    assert_eq!(two, [Verdict::Taken, Verdict::Later], "one read shows whether more succeed");
    let number = budget.next_number();
    budget.record_outcome(number, true, Outcome::Silent, time_at(1801));
    assert_eq!([budget.take_read(time_at(1801)), budget.take_read(time_at(1801))], [Verdict::Taken; 2]);
    let number = budget.next_number();
    budget.record_outcome(number, true, Outcome::Refused, time_at(1802));
    let number = budget.next_number();
    budget.record_outcome(number, false, Outcome::Reported(report_of(3)), time_at(1803));
    assert_eq!(budget.reads_left(time_at(1803)), Some(3));
}

#[test]
fn report_from_the_future_is_not_fresh() {
    let mut budget = budget_with(0, 0);
    assert!(!budget.needs_query(time_at(1)) && budget.needs_query(time_at(-1)));
    budget.record_attempt(time_at(-1));
    assert!(!budget.needs_query(time_at(0)));
}

#[test]
fn read_without_a_report_means_no_quota() {
    let mut budget = budget_with(0, 0);
    let head = budget.next_number();
    budget.record_outcome(head, false, Outcome::Silent, time_at(0));
    assert_eq!(budget.take_read(time_at(0)), Verdict::Spent, "some registries report only with a read");
    let mut budget = budget_with(0, 5);
    assert_eq!(budget.take_read(time_at(0)), Verdict::Taken);
    let get = budget.next_number();
    budget.record_outcome(get, true, Outcome::Silent, time_at(0));
    assert_eq!((budget.reads_left(time_at(0)), budget.take_read(time_at(0))), (None, Verdict::Taken));
    assert!(!budget.needs_query(time_at(9999)));
}

#[test]
fn docker_hub_ratelimit_headers_are_parsed() {
    let read = |limit: &str, remaining: &str, unstated| {
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit-limit", limit.parse().unwrap());
        headers.insert("ratelimit-remaining", remaining.parse().unwrap());
        parse_headers(&headers, unstated)
    };
    let headers = |limit: &str, remaining: &str| read(limit, remaining, Some(Duration::from_secs(6 * HOUR)));
    let expected = |seconds, remaining| Some(Report { limit: 100, window: Duration::from_secs(seconds), remaining });
    assert_eq!(headers("100;w=21600", "76;w=21600"), expected(21_600, 76));
    assert_eq!(headers("100; w=600", "0"), expected(600, 0));
    assert_eq!(headers("100", "7;w=9"), expected(21_600, 7));
    assert_eq!(["100;w=0", "100;w=60", "100;w=599", "100;w=86401"].map(|limit| headers(limit, "7")), [None; 4]);
    assert_eq!(read("100", "7", None), None, "any gateway may report its rate in this form");
    assert_eq!(headers("many", "7"), None);
    assert_eq!(parse_headers(&HeaderMap::new(), None), None);
}

/// A registry that counts reads, with a sliding or a fixed window.
#[derive(Debug)]
struct Hub {
    limit: u64,
    slides: bool,
    reads: Vec<i64>,
    refused: u64,
}

const WINDOW: i64 = 1000;

impl Hub {
    fn remaining(&mut self, now: i64) -> u64 {
        let slides = self.slides;
        self.reads.retain(|read| if slides { read + WINDOW > now } else { read / WINDOW == now / WINDOW });
        self.limit.saturating_sub(self.reads.len() as u64)
    }

    fn answer(&mut self, counted: bool, now: i64) -> Outcome {
        if counted && self.remaining(now) == 0 {
            self.refused += 1;
            return Outcome::Refused;
        }
        self.reads.extend(counted.then_some(now));
        let window = Duration::from_secs(WINDOW.unsigned_abs());
        Outcome::Reported(Report { limit: self.limit, window, remaining: self.remaining(now) })
    }
}

/// Next event. The numbers choose among the requests in flight.
#[derive(Debug, Clone)]
enum Step {
    Head,
    Read,
    Reserve(u64),
    ReadReserved,
    Release,
    /// The registry processes a request.
    Process(usize),
    /// The client receives a response.
    Receive(usize),
    /// A response is lost.
    Lose(usize),
    /// Another client reads.
    Other,
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Head),
        8 => Just(Step::Read),
        2 => (1_u64..5).prop_map(Step::Reserve),
        4 => Just(Step::ReadReserved),
        1 => Just(Step::Release),
        12 => any::<usize>().prop_map(Step::Process),
        12 => any::<usize>().prop_map(Step::Receive),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Other),
        2 => (1_i64..600).prop_map(Step::Wait),
    ]
}

/// A request in flight: its number, true if the registry counts the request, and the response after the registry
/// processed the request.
type InFlight = (u64, bool, Option<Outcome>);

#[derive(Debug)]
struct Simulation {
    hub: Hub,
    budget: Budget,
    now: i64,
    in_flight: Vec<InFlight>,
    reserved: u64,
    others: u64,
}

impl Simulation {
    fn step(&mut self, step: Step) {
        let now = time_at(self.now);
        match step {
            Step::Head => self.send(false),
            Step::Read if self.budget.take_read(now) == Verdict::Taken => self.send(true),
            Step::Reserve(reads) if self.budget.reserve(reads, now) == Verdict::Taken => self.reserved += reads,
            Step::ReadReserved if self.reserved > 0 => {
                self.reserved -= 1;
                self.budget.take_reserved();
                self.send(true);
            }
            Step::Release => self.budget.release(std::mem::take(&mut self.reserved)),
            Step::Process(nth) => {
                let waiting = self.in_flight.iter_mut().filter(|(.., outcome)| outcome.is_none()).collect::<Vec<_>>();
                let count = waiting.len().max(1);
                if let Some((_, counted, outcome)) = waiting.into_iter().nth(nth % count) {
                    *outcome = Some(self.hub.answer(*counted, self.now));
                }
            }
            Step::Receive(nth) => {
                if let Some((number, counted, outcome)) = self.take_processed(nth) {
                    self.budget.record_outcome(number, counted, outcome, now);
                }
            }
            Step::Lose(nth) => {
                if let Some((number, counted, _)) = self.take_processed(nth) {
                    self.budget.record_outcome(number, counted, Outcome::Lost, now);
                }
            }
            Step::Other if self.hub.remaining(self.now) > 0 => {
                self.others += 1;
                self.hub.reads.push(self.now);
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Read | Step::Reserve(_) | Step::ReadReserved | Step::Other => {}
        }
    }

    fn send(&mut self, counted: bool) {
        let number = self.budget.next_number();
        self.in_flight.push((number, counted, None));
    }

    fn take_processed(&mut self, nth: usize) -> Option<(u64, bool, Outcome)> {
        let processed: Vec<usize> = (0..self.in_flight.len()).filter(|at| self.in_flight[*at].2.is_some()).collect();
        let at = *processed.get(nth % processed.len().max(1))?;
        let (number, counted, outcome) = self.in_flight.remove(at);
        outcome.map(|outcome| (number, counted, outcome))
    }

    /// Ends all requests in flight, releases the reserved reads and queries the registry.
    fn finish(&mut self) {
        self.step(Step::Release);
        while !self.in_flight.is_empty() {
            self.step(Step::Process(0));
            self.step(Step::Receive(0));
        }
        self.step(Step::Head);
        self.step(Step::Process(0));
        self.step(Step::Receive(0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_read_exceeds_limit_in_any_answer_order(
        limit in 1_u64..40,
        keep in 0_u64..5,
        slides in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let hub = Hub { limit, slides, reads: Vec::new(), refused: 0 };
        let (budget, in_flight) = (with_reserve(keep), Vec::new());
        let mut simulation = Simulation { hub, budget, now: 0, in_flight, reserved: 0, others: 0 };
        simulation.finish();
        for step in steps {
            simulation.step(step);
        }
        let Simulation { hub, others, .. } = &simulation;
        // The budget does not see the reads of other clients.
        prop_assert!(hub.refused <= *others, "{} refused, and others read {others}", hub.refused);
        simulation.finish();
        let Simulation { hub, budget, now, .. } = &mut simulation;
        let remaining = hub.remaining(*now);
        prop_assert_eq!(budget.latest_report(time_at(*now)).map(|(expected, _)| expected.remaining), Some(remaining));
    }
}

#[test]
fn clock_setback_adds_no_remaining_reads() {
    let budget = budget_with(0, 3);
    assert_eq!(budget.reads_left(time_at(0) - TimeDelta::days(3)), Some(3));
}

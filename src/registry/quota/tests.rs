//! The arithmetic, step by step and against a simulated hub.

use chrono::{TimeDelta, TimeZone as _};
use proptest::prelude::*;

use super::*;

const HOUR: u64 = 3600;

fn keeping(reads: u64) -> Budget {
    let mut budget = Budget::default();
    budget.keep(reads);
    budget
}

fn at(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_800_000_000 + seconds, 0).unwrap()
}

fn left(remaining: u64) -> Told {
    Told { limit: 10, window: Duration::from_secs(6 * HOUR), remaining }
}

/// A budget that has just been told that so much is left.
fn told(keep: u64, remaining: u64) -> Budget {
    let mut budget = keeping(keep);
    let number = budget.sends();
    budget.ended(number, false, Heard::Told(left(remaining)), at(0));
    budget
}

#[test]
fn an_answer_to_what_was_sent_before_the_last_one_came_only_lowers() {
    let mut budget = told(0, 9);
    assert_eq!([budget.take(at(1)), budget.take(at(1))], [Verdict::Taken; 2]);
    let (early, late) = (budget.sends(), budget.sends());
    budget.ended(late, true, Heard::Told(left(7)), at(1));
    budget.ended(early, true, Heard::Told(left(8)), at(2));
    assert_eq!(budget.left(at(2)), Some(7));
    let next = budget.sends();
    budget.ended(next, false, Heard::Told(left(10)), at(3));
    assert_eq!(budget.left(at(3)), Some(10), "a new window shows in what is sent afterwards");
}

#[test]
fn what_is_under_way_is_waited_for_and_what_is_kept_is_not_touched() {
    let mut budget = told(2, 4);
    assert_eq!([budget.take(at(1)), budget.take(at(1))], [Verdict::Taken; 2]);
    let numbers = [budget.sends(), budget.sends()];
    budget.ended(numbers[0], true, Heard::Told(left(4)), at(1));
    assert_eq!(budget.take(at(1)), Verdict::Taken, "someone gave one back");
    assert_eq!(budget.take(at(1)), Verdict::Later);
    budget.ended(numbers[1], true, Heard::Told(left(3)), at(1));
    let last = budget.sends();
    budget.ended(last, true, Heard::Told(left(2)), at(2));
    assert_eq!((budget.take(at(2)), budget.left(at(2))), (Verdict::Spent, Some(0)));
}

#[test]
fn reads_that_belong_together_are_set_aside_together() {
    let mut budget = told(1, 6);
    assert_eq!(budget.reserve(4, at(0)), Verdict::Taken);
    assert_eq!(budget.take(at(0)), Verdict::Taken);
    assert_eq!(budget.take(at(0)), Verdict::Later, "the one under way may be in what was told");
    let number = budget.sends();
    budget.ended(number, true, Heard::Told(left(5)), at(0));
    assert_eq!(budget.take(at(0)), Verdict::Spent, "what is set aside may never come back");
    assert_eq!(budget.reserve(10, at(0)), Verdict::Never);
    budget.take_reserved();
    budget.give_back(3);
    assert_eq!(budget.reserve(3, at(0)), Verdict::Taken);
}

#[test]
fn nothing_smaller_goes_before_reads_that_did_not_fit() {
    let mut budget = told(0, 3);
    assert_eq!(budget.reserve(5, at(0)), Verdict::Spent);
    assert_eq!((budget.take(at(0)), budget.left(at(0))), (Verdict::Spent, Some(0)));
    let tell = |budget: &mut Budget, remaining| {
        let number = budget.sends();
        budget.ended(number, false, Heard::Told(left(remaining)), at(9));
    };
    tell(&mut budget, 5);
    assert_eq!(budget.take(at(9)), Verdict::Spent, "five, and the one that shows which");
    tell(&mut budget, 6);
    assert_eq!((budget.take(at(9)), budget.left(at(9))), (Verdict::Taken, Some(6)));
}

#[test]
fn the_registry_is_asked_first_after_a_restart_and_when_nothing_is_left_by_old_news() {
    let mut budget = Budget::default();
    assert!(budget.needs_look(at(0)));
    budget.recall(left(9), at(-5));
    assert!(budget.needs_look(at(0)), "the journal's word is old");
    let number = budget.sends();
    budget.ended(number, false, Heard::Told(left(1)), at(0));
    assert!(!budget.needs_look(at(9999)), "while there is something left");
    assert_eq!(budget.take(at(0)), Verdict::Taken);
    let number = budget.sends();
    budget.ended(number, true, Heard::Told(left(0)), at(0));
    assert_eq!([budget.needs_look(at(59)), budget.needs_look(at(60))], [false, true]);
    budget.tried(at(60));
    assert!(!budget.needs_look(at(61)), "somebody has just tried");
    budget.recall(left(9), at(61));
    assert_eq!(budget.left(at(61)), Some(0), "what the registry said holds");
    assert_eq!(budget.left(at(6 * 3600)), Some(10), "after a whole window all is forgotten");
}

#[test]
fn no_word_of_a_quota_means_that_there_is_none() {
    let mut budget = told(0, 0);
    let head = budget.sends();
    budget.ended(head, false, Heard::Silent, at(0));
    assert_eq!(budget.take(at(0)), Verdict::Spent, "some tell it with a read alone");
    let mut budget = told(0, 5);
    assert_eq!(budget.take(at(0)), Verdict::Taken);
    let get = budget.sends();
    budget.ended(get, true, Heard::Silent, at(0));
    assert_eq!((budget.left(at(0)), budget.take(at(0))), (None, Verdict::Taken));
    assert!(!budget.needs_look(at(9999)));
}

#[test]
fn headers_are_read_as_docker_hub_writes_them() {
    let headers = |limit: &str, remaining: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit-limit", limit.parse().unwrap());
        headers.insert("ratelimit-remaining", remaining.parse().unwrap());
        super::told(&headers)
    };
    let told = |seconds, remaining| Some(Told { limit: 100, window: Duration::from_secs(seconds), remaining });
    assert_eq!(headers("100;w=21600", "76;w=21600"), told(21_600, 76));
    assert_eq!(headers("100; w=60", "0"), told(60, 0));
    assert_eq!(headers("100", "7;w=9"), told(21_600, 7));
    assert_eq!(headers("100;w=0", "7"), told(21_600, 7));
    assert_eq!(headers("many", "7"), None);
    assert_eq!(super::told(&HeaderMap::new()), None);
}

/// A hub that counts, with or without a window that slides.
#[derive(Debug)]
struct Hub {
    limit: u64,
    slides: bool,
    made: Vec<i64>,
    refused: u64,
}

const WINDOW: i64 = 1000;

impl Hub {
    fn remaining(&mut self, now: i64) -> u64 {
        let slides = self.slides;
        self.made.retain(|made| if slides { made + WINDOW > now } else { made / WINDOW == now / WINDOW });
        self.limit.saturating_sub(self.made.len() as u64)
    }

    fn answer(&mut self, counted: bool, now: i64) -> Heard {
        if counted && self.remaining(now) == 0 {
            self.refused += 1;
            return Heard::Refused;
        }
        self.made.extend(counted.then_some(now));
        let window = Duration::from_secs(WINDOW.unsigned_abs());
        Heard::Told(Told { limit: self.limit, window, remaining: self.remaining(now) })
    }
}

/// What happens next. The numbers choose among what is under way.
#[derive(Debug, Clone)]
enum Step {
    Look,
    Read,
    Reserve(u64),
    ReadReserved,
    GiveBack,
    /// The hub deals with a request.
    Deal(usize),
    /// An answer comes.
    Come(usize),
    /// An answer is lost.
    Lose(usize),
    /// Somebody else reads.
    Other,
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Look),
        8 => Just(Step::Read),
        2 => (1_u64..5).prop_map(Step::Reserve),
        4 => Just(Step::ReadReserved),
        1 => Just(Step::GiveBack),
        12 => any::<usize>().prop_map(Step::Deal),
        12 => any::<usize>().prop_map(Step::Come),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Other),
        2 => (1_i64..600).prop_map(Step::Pass),
    ]
}

/// A request under way: its number, whether it counts, and the hub's answer once it is dealt with.
type UnderWay = (u64, bool, Option<Heard>);

#[derive(Debug)]
struct Simulation {
    hub: Hub,
    budget: Budget,
    now: i64,
    under_way: Vec<UnderWay>,
    reserved: u64,
    others: u64,
}

impl Simulation {
    fn step(&mut self, step: Step) {
        let now = at(self.now);
        match step {
            Step::Look => self.send(false),
            Step::Read if self.budget.take(now) == Verdict::Taken => self.send(true),
            Step::Reserve(reads) if self.budget.reserve(reads, now) == Verdict::Taken => self.reserved += reads,
            Step::ReadReserved if self.reserved > 0 => {
                self.reserved -= 1;
                self.budget.take_reserved();
                self.send(true);
            }
            Step::GiveBack => self.budget.give_back(std::mem::take(&mut self.reserved)),
            Step::Deal(nth) => {
                let waiting = self.under_way.iter_mut().filter(|(.., heard)| heard.is_none()).collect::<Vec<_>>();
                let count = waiting.len().max(1);
                if let Some((_, counted, heard)) = waiting.into_iter().nth(nth % count) {
                    *heard = Some(self.hub.answer(*counted, self.now));
                }
            }
            Step::Come(nth) => {
                if let Some((number, counted, heard)) = self.dealt_with(nth) {
                    self.budget.ended(number, counted, heard, now);
                }
            }
            Step::Lose(nth) => {
                if let Some((number, counted, _)) = self.dealt_with(nth) {
                    self.budget.ended(number, counted, Heard::Lost, now);
                }
            }
            Step::Other if self.hub.remaining(self.now) > 0 => {
                self.others += 1;
                self.hub.made.push(self.now);
            }
            Step::Pass(seconds) => self.now += seconds,
            Step::Read | Step::Reserve(_) | Step::ReadReserved | Step::Other => {}
        }
    }

    fn send(&mut self, counted: bool) {
        let number = self.budget.sends();
        self.under_way.push((number, counted, None));
    }

    fn dealt_with(&mut self, nth: usize) -> Option<(u64, bool, Heard)> {
        let there: Vec<usize> = (0..self.under_way.len()).filter(|at| self.under_way[*at].2.is_some()).collect();
        let at = *there.get(nth % there.len().max(1))?;
        let (number, counted, heard) = self.under_way.remove(at);
        heard.map(|heard| (number, counted, heard))
    }

    /// All that is under way ends, what is set aside is given back, and the hub is asked.
    fn settle(&mut self) {
        self.step(Step::GiveBack);
        while !self.under_way.is_empty() {
            self.step(Step::Deal(0));
            self.step(Step::Come(0));
        }
        self.step(Step::Look);
        self.step(Step::Deal(0));
        self.step(Step::Come(0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_read_goes_beyond_the_limit_in_whatever_order_answers_come(
        limit in 1_u64..40,
        keep in 0_u64..5,
        slides in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let hub = Hub { limit, slides, made: Vec::new(), refused: 0 };
        let (budget, under_way) = (keeping(keep), Vec::new());
        let mut simulation = Simulation { hub, budget, now: 0, under_way, reserved: 0, others: 0 };
        simulation.settle();
        for step in steps {
            simulation.step(step);
        }
        let Simulation { hub, others, .. } = &simulation;
        // What others read may be in nobody's knowledge yet.
        prop_assert!(hub.refused <= *others, "{} refused, and others read {others}", hub.refused);
        simulation.settle();
        let Simulation { hub, budget, now, .. } = &mut simulation;
        let remaining = hub.remaining(*now);
        prop_assert_eq!(budget.told(at(*now)).map(|(told, _)| told.remaining), Some(remaining));
    }
}

#[test]
fn a_setback_of_the_clock_gives_nothing_away() {
    let budget = told(0, 3);
    assert_eq!(budget.left(at(0) - TimeDelta::days(3)), Some(3));
}

//! Fair round-robin queue of waiters: by party, and within a party in the order of arrival. The resource that they wait
//! for is the caller's.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Party on whose behalf a request is sent. Parties share the limits of a registry fairly, so a party with many
/// requests does not delay one with few. The default party is for requests on nobody's behalf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Tenant(u64);

impl Tenant {
    /// Returns the party of this name, such as an entry's.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Queues of all parties. Each party has one queue per lane.
#[derive(Debug)]
pub(crate) struct FairQueue<W, const LANES: usize> {
    /// Parties with waiters. The party whose turn it is comes first.
    tenants: VecDeque<Queues<W, LANES>>,
    tickets: u64,
}

#[derive(Debug)]
struct Queues<W, const LANES: usize> {
    tenant: Tenant,
    lanes: [VecDeque<(Ticket, W)>; LANES],
}

/// Position in the order of arrival.
pub(crate) type Ticket = u64;

impl<W, const LANES: usize> Default for FairQueue<W, LANES> {
    fn default() -> Self {
        Self { tenants: VecDeque::new(), tickets: 0 }
    }
}

impl<W, const LANES: usize> FairQueue<W, LANES> {
    /// Returns true if there is no waiter.
    pub(crate) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Appends a waiter to its party's queue.
    pub(crate) fn push(&mut self, tenant: Tenant, lane: usize, waiter: W) -> Ticket {
        let ticket = self.tickets;
        self.tickets += 1;
        let at = self.tenants.iter().position(|queues| queues.tenant == tenant).unwrap_or_else(|| {
            self.tenants.push_back(Queues { tenant, lanes: std::array::from_fn(|_| VecDeque::new()) });
            self.tenants.len() - 1
        });
        self.tenants[at].lanes[lane].push_back((ticket, waiter));
        ticket
    }

    /// Takes the next waiter for which `admits` is true: in the first party that has such a waiter, the one that
    /// arrived first. That party then moves to the end.
    pub(crate) fn next(&mut self, mut admits: impl FnMut(usize, &W) -> bool) -> Option<(usize, W)> {
        let (at, lane) =
            (0..self.tenants.len()).find_map(|at| Some((at, self.tenants[at].first_admitted_lane(&mut admits)?)))?;
        let mut queues = self.tenants.remove(at)?;
        let (_, waiter) = queues.lanes[lane].pop_front()?;
        if !queues.is_empty() {
            self.tenants.push_back(queues);
        }
        Some((lane, waiter))
    }

    /// Removes a waiter that no longer waits.
    pub(crate) fn remove(&mut self, tenant: Tenant, lane: usize, ticket: Ticket) -> Option<W> {
        let at = self.tenants.iter().position(|queues| queues.tenant == tenant)?;
        let queue = &mut self.tenants[at].lanes[lane];
        let place = queue.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, waiter) = queue.remove(place)?;
        if self.tenants[at].is_empty() {
            self.tenants.remove(at);
        }
        Some(waiter)
    }
}

impl<W, const LANES: usize> Queues<W, LANES> {
    fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Returns the lane to serve: of the lanes whose first waiter is admitted, the one whose first waiter arrived
    /// earliest.
    fn first_admitted_lane(&self, admits: &mut impl FnMut(usize, &W) -> bool) -> Option<usize> {
        let mut later_than = None;
        loop {
            let fronts = self.lanes.iter().enumerate().filter_map(|(lane, queue)| Some((lane, queue.front()?)));
            let untried = fronts.filter(|(_, (ticket, _))| later_than.is_none_or(|tried| *ticket > tried));
            let (lane, (ticket, waiter)) = untried.min_by_key(|(_, (ticket, _))| *ticket)?;
            if admits(lane, waiter) {
                return Some(lane);
            }
            later_than = Some(*ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIG: Tenant = Tenant(1);
    const SMALL: Tenant = Tenant(2);

    fn drain(turns: &mut FairQueue<&'static str, 2>) -> Vec<&'static str> {
        std::iter::from_fn(|| turns.next(|_, _| true)).map(|(_, waiter)| waiter).collect()
    }

    #[test]
    fn parties_take_turns_and_serve_first_arrival_first() {
        let mut turns = FairQueue::default();
        for (tenant, lane, name) in
            [(BIG, 0, "a1"), (BIG, 1, "a2"), (BIG, 0, "a3"), (BIG, 1, "a4"), (SMALL, 1, "b1"), (SMALL, 0, "b2")]
        {
            turns.push(tenant, lane, name);
        }
        assert_eq!(drain(&mut turns), ["a1", "b1", "a2", "b2", "a3", "a4"]);
        assert!(turns.is_empty());
    }

    #[test]
    fn blocked_party_keeps_its_turn_for_later() {
        let mut turns = FairQueue::default();
        turns.push(BIG, 0, "a1");
        turns.push(SMALL, 1, "b1");
        turns.push(SMALL, 1, "b2");
        turns.push(BIG, 0, "a2");
        assert_eq!(turns.next(|lane, _| lane == 1), Some((1, "b1")));
        assert_eq!(turns.next(|_, _| false), None);
        assert_eq!(drain(&mut turns), ["a1", "b2", "a2"]);
    }

    #[test]
    fn removed_waiter_leaves_no_entry_in_queue() {
        let mut turns: FairQueue<&str, 2> = FairQueue::default();
        let first = turns.push(BIG, 0, "a1");
        turns.push(BIG, 0, "a2");
        let gone = turns.push(SMALL, 1, "b1");
        turns.remove(SMALL, 1, gone);
        turns.remove(BIG, 0, first);
        turns.remove(BIG, 1, first);
        assert_eq!(drain(&mut turns), ["a2"]);
        assert!(turns.is_empty());
    }

    #[test]
    fn parties_with_different_names_are_different() {
        assert_eq!(Tenant::from_name("python-base"), Tenant::from_name("python-base"));
        assert_ne!(Tenant::from_name("python-base"), Tenant::from_name("team"));
        assert_ne!(Tenant::from_name(""), Tenant::default());
    }
}

//! Those who wait, in turn: by party, and within a party in the order of coming. What they wait for is known to the caller.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// On whose behalf a request is made. Parties share the limits of a registry fairly: who has much to do does not hold up
/// who has little. The default is one of its own, for what nobody in particular wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Party(u64);

impl Party {
    /// The party of this name, such as an entry's.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The queues of all parties. Each party has one for every lane.
#[derive(Debug)]
pub(crate) struct Turns<W, const LANES: usize> {
    /// Those that have somebody waiting; whose turn it is comes first.
    parties: VecDeque<Queues<W, LANES>>,
    tickets: u64,
}

#[derive(Debug)]
struct Queues<W, const LANES: usize> {
    party: Party,
    lanes: [VecDeque<(Ticket, W)>; LANES],
}

/// The place in the order of coming.
pub(crate) type Ticket = u64;

impl<W, const LANES: usize> Default for Turns<W, LANES> {
    fn default() -> Self {
        Self { parties: VecDeque::new(), tickets: 0 }
    }
}

impl<W, const LANES: usize> Turns<W, LANES> {
    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.parties.is_empty()
    }

    /// Puts one who waits at the end of its party's queue.
    pub(crate) fn push(&mut self, party: Party, lane: usize, waiter: W) -> Ticket {
        let ticket = self.tickets;
        self.tickets += 1;
        let at = self.parties.iter().position(|queues| queues.party == party).unwrap_or_else(|| {
            self.parties.push_back(Queues { party, lanes: std::array::from_fn(|_| VecDeque::new()) });
            self.parties.len() - 1
        });
        self.parties[at].lanes[lane].push_back((ticket, waiter));
        ticket
    }

    /// Takes the next for whom `admits` is true: of the first party in turn that has such a one, the one who came first.
    /// That party then comes last.
    pub(crate) fn next(&mut self, mut admits: impl FnMut(usize, &W) -> bool) -> Option<(usize, W)> {
        let (at, lane) = (0..self.parties.len()).find_map(|at| Some((at, self.parties[at].admitted(&mut admits)?)))?;
        let mut queues = self.parties.remove(at)?;
        let (_, waiter) = queues.lanes[lane].pop_front()?;
        if !queues.is_empty() {
            self.parties.push_back(queues);
        }
        Some((lane, waiter))
    }

    /// Takes one out who waits no longer.
    pub(crate) fn remove(&mut self, party: Party, lane: usize, ticket: Ticket) -> Option<W> {
        let at = self.parties.iter().position(|queues| queues.party == party)?;
        let queue = &mut self.parties[at].lanes[lane];
        let place = queue.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, waiter) = queue.remove(place)?;
        if self.parties[at].is_empty() {
            self.parties.remove(at);
        }
        Some(waiter)
    }
}

impl<W, const LANES: usize> Queues<W, LANES> {
    fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// The lane whose first came before those of all other lanes that admit theirs.
    fn admitted(&self, admits: &mut impl FnMut(usize, &W) -> bool) -> Option<usize> {
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

    const BIG: Party = Party(1);
    const SMALL: Party = Party(2);

    fn all(turns: &mut Turns<&'static str, 2>) -> Vec<&'static str> {
        std::iter::from_fn(|| turns.next(|_, _| true)).map(|(_, waiter)| waiter).collect()
    }

    #[test]
    fn parties_take_turns_and_within_one_who_came_first_goes_first() {
        let mut turns = Turns::default();
        for (party, lane, name) in
            [(BIG, 0, "a1"), (BIG, 1, "a2"), (BIG, 0, "a3"), (BIG, 1, "a4"), (SMALL, 1, "b1"), (SMALL, 0, "b2")]
        {
            turns.push(party, lane, name);
        }
        assert_eq!(all(&mut turns), ["a1", "b1", "a2", "b2", "a3", "a4"]);
        assert!(turns.is_empty());
    }

    #[test]
    fn a_party_that_cannot_go_keeps_its_turn() {
        let mut turns = Turns::default();
        turns.push(BIG, 0, "a1");
        turns.push(SMALL, 1, "b1");
        turns.push(SMALL, 1, "b2");
        turns.push(BIG, 0, "a2");
        assert_eq!(turns.next(|lane, _| lane == 1), Some((1, "b1")));
        assert_eq!(turns.next(|_, _| false), None);
        assert_eq!(all(&mut turns), ["a1", "b2", "a2"]);
    }

    #[test]
    fn who_leaves_leaves_nothing_behind() {
        let mut turns: Turns<&str, 2> = Turns::default();
        let first = turns.push(BIG, 0, "a1");
        turns.push(BIG, 0, "a2");
        let gone = turns.push(SMALL, 1, "b1");
        turns.remove(SMALL, 1, gone);
        turns.remove(BIG, 0, first);
        turns.remove(BIG, 1, first);
        assert_eq!(all(&mut turns), ["a2"]);
        assert!(turns.is_empty());
    }

    #[test]
    fn parties_are_told_apart_by_name() {
        assert_eq!(Party::of("python-base"), Party::of("python-base"));
        assert_ne!(Party::of("python-base"), Party::of("team"));
        assert_ne!(Party::of(""), Party::default());
    }
}

//! Fair round-robin queue of waiters. The queue serves the tenants in turn, and the waiters of one tenant and priority
//! in the order of their arrival.

use std::collections::VecDeque;

use super::tenant::Tenant;

/// Queues of all tenants. Each tenant has one queue per priority.
#[derive(Debug)]
pub(crate) struct FairQueue<W, const PRIORITIES: usize> {
    /// Tenants with waiters. The next tenant to serve is first.
    tenants: VecDeque<Queues<W, PRIORITIES>>,
    /// Number of tickets issued so far.
    tickets: u64,
}

#[derive(Debug)]
struct Queues<W, const PRIORITIES: usize> {
    tenant: Tenant,
    waiters: [VecDeque<(Ticket, W)>; PRIORITIES],
}

/// Number of a waiter in the order of arrival.
pub(crate) type Ticket = u64;

impl<W, const PRIORITIES: usize> Default for FairQueue<W, PRIORITIES> {
    fn default() -> Self {
        Self { tenants: VecDeque::new(), tickets: 0 }
    }
}

impl<W, const PRIORITIES: usize> FairQueue<W, PRIORITIES> {
    pub(crate) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Appends a waiter to its tenant's queue.
    pub(crate) fn push(&mut self, tenant: Tenant, priority: usize, waiter: W) -> Ticket {
        let ticket = self.tickets;
        self.tickets += 1;
        let at = self.tenants.iter().position(|queues| queues.tenant == tenant).unwrap_or_else(|| {
            self.tenants.push_back(Queues { tenant, waiters: std::array::from_fn(|_| VecDeque::new()) });
            self.tenants.len() - 1
        });
        self.tenants[at].waiters[priority].push_back((ticket, waiter));
        ticket
    }

    /// Removes the next waiter that `admits` accepts, and returns the waiter with its priority. Then the tenant of this
    /// waiter moves to the end of the queue. The method calls `admits` only for the first waiter of each tenant and
    /// priority. For one tenant, these calls are in the order of the waiters' arrival.
    pub(crate) fn next(&mut self, mut admits: impl FnMut(usize, &W) -> bool) -> Option<(usize, W)> {
        let (at, priority) = (0..self.tenants.len())
            .find_map(|at| Some((at, self.tenants[at].first_admitted_priority(&mut admits)?)))?;
        let mut queues = self.tenants.remove(at)?;
        let (_, waiter) = queues.waiters[priority].pop_front()?;
        if !queues.is_empty() {
            self.tenants.push_back(queues);
        }
        Some((priority, waiter))
    }

    /// Removes a waiter whose caller was cancelled.
    pub(crate) fn remove(&mut self, tenant: Tenant, priority: usize, ticket: Ticket) -> Option<W> {
        let at = self.tenants.iter().position(|queues| queues.tenant == tenant)?;
        let queue = &mut self.tenants[at].waiters[priority];
        let position = queue.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, waiter) = queue.remove(position)?;
        if self.tenants[at].is_empty() {
            self.tenants.remove(at);
        }
        Some(waiter)
    }
}

impl<W, const PRIORITIES: usize> Queues<W, PRIORITIES> {
    fn is_empty(&self) -> bool {
        self.waiters.iter().all(VecDeque::is_empty)
    }

    /// Finds the earliest waiter that `admits` accepts, among the first waiters of all priorities. Returns the priority
    /// of this waiter.
    fn first_admitted_priority(&self, admits: &mut impl FnMut(usize, &W) -> bool) -> Option<usize> {
        let mut later_than = None;
        loop {
            let fronts =
                self.waiters.iter().enumerate().filter_map(|(priority, queue)| Some((priority, queue.front()?)));
            let untried = fronts.filter(|(_, (ticket, _))| later_than.is_none_or(|tried| *ticket > tried));
            let (priority, (ticket, waiter)) = untried.min_by_key(|(_, (ticket, _))| *ticket)?;
            if admits(priority, waiter) {
                return Some(priority);
            }
            later_than = Some(*ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants() -> [Tenant; 2] {
        ["big", "small"].map(Tenant::from_name)
    }

    fn drain(queue: &mut FairQueue<&'static str, 2>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.next(|_, _| true)).map(|(_, waiter)| waiter).collect()
    }

    #[test]
    fn tenants_take_turns_and_serve_first_arrival_first() {
        let [big, small] = tenants();
        let mut queue = FairQueue::default();
        for (tenant, priority, name) in
            [(big, 0, "a1"), (big, 1, "a2"), (big, 0, "a3"), (big, 1, "a4"), (small, 1, "b1"), (small, 0, "b2")]
        {
            queue.push(tenant, priority, name);
        }
        assert_eq!(drain(&mut queue), ["a1", "b1", "a2", "b2", "a3", "a4"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn blocked_tenant_keeps_its_turn_for_later() {
        let [big, small] = tenants();
        let mut queue = FairQueue::default();
        queue.push(big, 0, "a1");
        queue.push(small, 1, "b1");
        queue.push(small, 1, "b2");
        queue.push(big, 0, "a2");
        assert_eq!(queue.next(|priority, _| priority == 1), Some((1, "b1")));
        assert_eq!(queue.next(|_, _| false), None);
        assert_eq!(drain(&mut queue), ["a1", "b2", "a2"]);
    }

    #[test]
    fn removed_waiter_leaves_no_entry_in_queue() {
        let [big, small] = tenants();
        let mut queue: FairQueue<&str, 2> = FairQueue::default();
        let first = queue.push(big, 0, "a1");
        queue.push(big, 0, "a2");
        let removed = queue.push(small, 1, "b1");
        queue.remove(small, 1, removed);
        queue.remove(big, 0, first);
        queue.remove(big, 1, first);
        assert_eq!(drain(&mut queue), ["a2"]);
        assert!(queue.is_empty());
    }
}

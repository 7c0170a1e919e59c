//! The `set_allowed_ips` calls of one exporter: in order, one open at a time.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::Ticket;

/// A call that may now be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// The address to admit; nobody when absent.
    pub address: Option<IpAddr>,
}

#[derive(Debug)]
struct Call {
    address: Option<IpAddr>,
    /// The request that is answered when the exporter answers.
    waiter: Option<Ticket>,
}

/// The exporter's calls, oldest first.
///
/// Bounded by the requests that wait for them: a call that nobody waits for and that is not sent yet is
/// replaced by the next one, since each list replaces the one before.
#[derive(Debug, Default)]
pub struct Calls {
    queue: VecDeque<Call>,
    /// Whether the first call is with the exporter.
    open: bool,
}

impl Calls {
    /// Adds a call behind the others.
    pub fn push(&mut self, address: Option<IpAddr>, waiter: Option<Ticket>) {
        let unsent = self.queue.len() > usize::from(self.open);
        if unsent && self.queue.back().is_some_and(|last| last.waiter.is_none()) {
            self.queue.pop_back();
        }
        self.queue.push_back(Call { address, waiter });
    }

    /// Opens the next call, unless one is open or there is none.
    pub fn send(&mut self) -> Option<Sent> {
        let next = self.queue.front().filter(|_| !self.open)?;
        let sent = Sent { address: next.address };
        self.open = true;
        Some(sent)
    }

    /// Closes the open call; gives the request that waited for it.
    pub fn answered(&mut self) -> Option<Ticket> {
        if !std::mem::take(&mut self.open) {
            return None;
        }
        self.queue.pop_front()?.waiter
    }

    /// The request no longer waits. Its call is sent all the same: order is what keeps the exporter right.
    pub fn abandon(&mut self, ticket: Ticket) {
        for call in &mut self.queue {
            if call.waiter == Some(ticket) {
                call.waiter = None;
            }
        }
    }

    /// All requests that wait, first call first.
    pub fn waiters(&self) -> Vec<Ticket> {
        self.queue.iter().filter_map(|call| call.waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

    #[test]
    fn calls_go_out_one_at_a_time_and_in_order() {
        let mut calls = Calls::default();
        calls.push(ALICE, Some(1));
        calls.push(None, Some(2));
        assert_eq!(calls.send(), Some(Sent { address: ALICE }));
        assert_eq!(calls.send(), None, "one is open");
        assert_eq!(calls.answered(), Some(1));
        assert_eq!(calls.send(), Some(Sent { address: None }));
        assert_eq!(calls.answered(), Some(2));
        assert_eq!((calls.send(), calls.answered()), (None, None));
    }

    #[test]
    fn an_unsent_call_that_nobody_waits_for_is_replaced() {
        let mut calls = Calls::default();
        calls.push(ALICE, None);
        assert!(calls.send().is_some());
        for _ in 0..100 {
            calls.push(None, None);
            calls.push(ALICE, None);
        }
        assert_eq!(calls.queue.len(), 2, "the open one and the last");
        calls.answered();
        assert_eq!(calls.send(), Some(Sent { address: ALICE }));
    }
}

//! How a memory budget is divided.

use tokio::sync::Semaphore;

/// What a request takes beside its body or its answer, in bytes, as measured: its task, and the buffers
/// of its connection, which are the larger the more there is to read or to write.
pub(super) const REQUEST_OVERHEAD: usize = 32 * 1024;
pub(super) const MAX_BUFFER_OVERHEAD: usize = 24 * 1024;
/// What a request takes without a reservation, with what its client may have sent already.
const UNRESERVED_OVERHEAD: usize = 64 * 1024;
/// The part of the budget, as a divisor, that the tails of watched streams may take.
const TAILS: u64 = 8;
/// The part of the budget, as a divisor, for what requests take that have no reservation: they wait for
/// one, or their refusal waits until the client has sent its body.
const UNRESERVED: u64 = 8;
/// The part of the budget, as a divisor, that is left for what is not counted: what readers of streams
/// hold that have stalled, what rendering a page takes meanwhile, and what the allocator keeps.
const UNCOUNTED: u64 = 4;
/// The part of what can be reserved, as a divisor, that is one client's share; of the requests without a
/// reservation too.
const SHARE: usize = 4;

/// The parts of a budget.
pub(super) struct Layout {
    /// What can be reserved, in bytes.
    pub(super) reservable: usize,
    /// What of it one client can reserve, in bytes.
    pub(super) share: usize,
    /// What the tails of watched streams may take, in bytes.
    pub(super) tails: usize,
    /// How many requests there may be without a reservation.
    pub(super) unreserved: usize,
    /// How many of them one client may have.
    pub(super) unreserved_share: usize,
}

impl Layout {
    /// The parts of a budget of so many bytes, for messages that are no larger than that.
    pub(super) fn of(budget: u64, max_message_bytes: u64) -> Self {
        let number = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (tails, unreserved) = (budget / TAILS, budget / UNRESERVED);
        let reservable = number(budget - tails - unreserved - budget / UNCOUNTED);
        let reservable = reservable.min(Semaphore::MAX_PERMITS);
        let unreserved = (number(unreserved) / UNRESERVED_OVERHEAD).max(1);
        let largest = number(largest_request(max_message_bytes));
        Self {
            reservable,
            share: (reservable / SHARE).max(largest).min(reservable),
            tails: number(tails),
            unreserved,
            unreserved_share: (unreserved / SHARE).max(1),
        }
    }
}

/// The least budget that serves one request of the configured maximum, in bytes.
pub(crate) fn min_budget(max_message_bytes: u64) -> u64 {
    // Half of a budget can be reserved.
    largest_request(max_message_bytes).saturating_mul(2)
}

/// The most that one request reserves, in bytes: a page of the largest messages, all of whose
/// characters are escaped.
fn largest_request(max_message_bytes: u64) -> u64 {
    max_message_bytes.saturating_add(256 * 1024).saturating_mul(12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_budget_serves_the_largest_request() {
        for message in [1, 64 * 1024, 16 * 1024 * 1024] {
            let layout = Layout::of(min_budget(message), message);
            assert!(layout.share as u64 >= largest_request(message), "{message}");
        }
    }
}

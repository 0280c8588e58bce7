//! How the memory budget is divided.

use tokio::sync::Semaphore;

/// The measured overhead of a request besides its body or response, in bytes: its task, and the buffers
/// of its connection.
pub(super) const REQUEST_OVERHEAD: usize = 40 * 1024;
/// The most bytes that the buffers of a connection grow with the size of a body or response.
pub(super) const MAX_BUFFER_OVERHEAD: usize = 24 * 1024;
/// The bytes of a request without a reservation, with what its client may have sent already.
const UNRESERVED_OVERHEAD: usize = 64 * 1024;
/// The fraction of the budget, as a divisor, for the tails of watched streams.
const TAILS_DIVISOR: u64 = 8;
/// The fraction of the budget, as a divisor, for requests without a reservation: those that wait for
/// one, and refused ones whose clients still send a body.
const UNRESERVED_DIVISOR: u64 = 8;
/// The fraction of the budget, as a divisor, for memory that is not counted: what stalled readers of
/// event streams hold, what rendering a page takes, and what the allocator keeps.
const UNCOUNTED_DIVISOR: u64 = 4;
/// The share of one client, as a divisor: of the bytes that can be reserved, and of the requests
/// without a reservation.
const SHARE_DIVISOR: usize = 4;

/// The parts of a memory budget.
pub(super) struct Layout {
    /// The bytes that can be reserved.
    pub(super) reservable: usize,
    /// The bytes that one client can reserve.
    pub(super) share: usize,
    /// The bytes for the tails of watched streams.
    pub(super) tails: usize,
    /// The most requests without a reservation.
    pub(super) unreserved: usize,
    /// The most requests without a reservation of one client.
    pub(super) unreserved_share: usize,
}

impl Layout {
    /// Divides a budget in bytes, for messages of at most `max_message_bytes`.
    pub(super) fn new(budget: u64, max_message_bytes: u64) -> Self {
        let number = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (tails, unreserved) = (budget / TAILS_DIVISOR, budget / UNRESERVED_DIVISOR);
        let reservable = number(budget - tails - unreserved - budget / UNCOUNTED_DIVISOR);
        let reservable = reservable.min(Semaphore::MAX_PERMITS);
        let unreserved = (number(unreserved) / UNRESERVED_OVERHEAD).max(1);
        let largest = number(largest_request(max_message_bytes));
        Self {
            reservable,
            share: (reservable / SHARE_DIVISOR).max(largest).min(reservable),
            tails: number(tails),
            unreserved,
            unreserved_share: (unreserved / SHARE_DIVISOR).max(1),
        }
    }
}

/// The smallest budget, in bytes, that can serve one request of the maximum size.
pub(crate) fn min_budget(max_message_bytes: u64) -> u64 {
    // Half of the budget can be reserved.
    largest_request(max_message_bytes).saturating_mul(2)
}

/// The most bytes that one request reserves: for a page of the largest messages, all of whose
/// characters are escaped.
fn largest_request(max_message_bytes: u64) -> u64 {
    max_message_bytes.saturating_add(256 * 1024).saturating_mul(12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_budget_serves_the_largest_request() {
        for message in [1, 64 * 1024, 16 * 1024 * 1024] {
            let layout = Layout::new(min_budget(message), message);
            assert!(layout.share as u64 >= largest_request(message), "{message}");
        }
    }
}

use std::{net::IpAddr, time::Duration};

use super::*;

const MIB: usize = 1024 * 1024;

fn budget() -> MemoryBudget {
    // 32 MiB can be reserved, 8 MiB of them by one client.
    MemoryBudget::new(64 * MIB as u64, 64 * 1024)
}

async fn acquire(budget: &MemoryBudget, address: &str, bytes: usize) -> Option<MemoryPermit> {
    let address: IpAddr = address.parse().expect("an address");
    budget.acquire(address.into(), MemoryPart::Bodies, bytes).await.ok()
}

fn bodies(budget: &MemoryBudget) -> MemoryUsage {
    budget.usage()[MemoryPart::Bodies as usize]
}

#[tokio::test(start_paused = true)]
async fn reservations_are_limited_per_client_and_in_total() {
    let budget = budget();
    let mut held = Vec::new();
    for client in 0..20 {
        for _ in 0..20 {
            held.extend(acquire(&budget, &format!("192.0.2.{client}"), MIB / 2).await);
        }
    }
    let each = MIB / 2 + REQUEST_OVERHEAD + MAX_BUFFER_OVERHEAD;
    assert_eq!(held.len(), 32 * MIB / each);
    assert_eq!(bodies(&budget).bytes, (held.len() * each) as u64);
    assert!(bodies(&budget).refusals > 0 && bodies(&budget).waits > 0);
    held.drain(..10);
    assert!(acquire(&budget, "198.51.100.1", MIB).await.is_some());
    drop(held);
    assert_eq!(bodies(&budget).bytes, 0);
    assert_eq!(budget.0.bytes.available(), 32 * MIB);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_fit_waits_for_up_to_two_seconds() {
    let budget = budget();
    let first = acquire(&budget, "192.0.2.1", 7 * MIB).await.expect("a reservation");
    let waiting = tokio::spawn({
        let budget = budget.clone();
        async move { acquire(&budget, "192.0.2.1", 7 * MIB).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    drop(first);
    let second = waiting.await.expect("no panic").expect("its turn");
    assert!(acquire(&budget, "192.0.2.1", 7 * MIB).await.is_none(), "it times out");
    assert_eq!((bodies(&budget).waits, bodies(&budget).refusals), (2, 1));
    drop(second);
    assert!(acquire(&budget, "192.0.2.1", 7 * MIB).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn networks_of_one_owner_get_half_of_the_total() {
    let budget = budget();
    let mut held = Vec::new();
    for network in 0..100 {
        held.extend(acquire(&budget, &format!("2001:db8:0:{network:x}00::1"), 2 * MIB).await);
    }
    assert_eq!(held.len(), 7, "half of the total");
    assert!(acquire(&budget, "2001:db8:1::1", 2 * MIB).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_reservation_can_be_resized() {
    let budget = budget();
    let mut permit = acquire(&budget, "192.0.2.1", 7 * MIB).await.expect("a reservation");
    permit.resize(MIB).expect("less");
    let each = MIB + REQUEST_OVERHEAD + MAX_BUFFER_OVERHEAD;
    assert_eq!(bodies(&budget).bytes, each as u64);
    let other = acquire(&budget, "192.0.2.1", 6 * MIB).await.expect("the rest");
    assert!(permit.resize(2 * MIB).is_err(), "more than the share");
    drop(other);
    permit.resize(3 * MIB).expect("more");
    drop(permit);
    assert_eq!(bodies(&budget).bytes, 0);
    assert_eq!(budget.0.bytes.available(), 32 * MIB);
}

/// Reserves nearly all of the total.
async fn fill(budget: &MemoryBudget) -> Vec<MemoryPermit> {
    let mut held = Vec::new();
    for client in 0..20 {
        let bytes = if client < 4 { 7 * MIB } else { MIB / 2 };
        held.extend(acquire(budget, &format!("198.51.100.{client}"), bytes).await);
    }
    held
}

async fn completes(work: impl Future<Output = ()>, within: Duration) -> bool {
    timeout(within, work).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_slow_transfer_is_overdue_once_others_wait() {
    let budget = budget();
    let slow = acquire(&budget, "192.0.2.1", 7 * MIB).await.expect("a reservation");
    let fast = acquire(&budget, "192.0.2.2", 7 * MIB).await.expect("a reservation");
    let (mut slow_is_overdue, mut fast_is_overdue) =
        (Box::pin(slow.overdue()), Box::pin(fast.overdue()));
    // Steady, but slow.
    for _ in 0..60 {
        slow.advance(1);
        fast.advance(2 * MIB);
        assert!(!completes(&mut slow_is_overdue, Duration::from_secs(1)).await, "no request waits");
    }
    let _filled = fill(&budget).await;
    assert!(completes(&mut slow_is_overdue, MAX_HOLD).await);
    fast.advance(8 * MIB);
    assert!(!completes(&mut fast_is_overdue, Duration::from_secs(1)).await);
    let waiting = acquire(&budget, "192.0.2.3", 7 * MIB);
    let both = async { tokio::join!(waiting, &mut fast_is_overdue).1 };
    assert!(!completes(both, Duration::from_secs(10)).await, "its last window was fast");
}

#[tokio::test(start_paused = true)]
async fn waiting_clients_leave_room_for_others_to_wait() {
    let budget = budget();
    let mut held = fill(&budget).await;
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        let budget = budget.clone();
        let address = format!("192.0.2.{}", n % 2);
        waiting.spawn(async move { acquire(&budget, &address, 2 * MIB).await });
    }
    tokio::task::yield_now().await;
    let other = tokio::spawn({
        let budget = budget.clone();
        async move { acquire(&budget, "192.0.2.3", MIB).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    held.clear();
    while waiting.join_next().await.is_some() {}
    assert!(other.await.expect("no panic").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_wait_makes_slow_ones_overdue_too() {
    let budget = budget();
    let held = fill(&budget).await;
    let address = |n: u8| IpAddr::from([192, 0, 2, n]).into();
    let unreserved: Vec<_> =
        (0..=255).filter_map(|n| budget.try_acquire_unreserved(address(n / 8))).collect();
    assert_eq!(unreserved.len(), 128);
    let mut overdue = Box::pin(held[0].overdue());
    assert!(!completes(&mut overdue, Duration::from_mins(1)).await);
    let refused = async { assert!(acquire(&budget, "203.0.113.1", MIB).await.is_none()) };
    assert!(
        completes(async { tokio::join!(&mut overdue, refused).0 }, Duration::from_secs(1)).await
    );
}

#[tokio::test(start_paused = true)]
async fn memory_is_held_until_the_work_is_done() {
    let budget = budget();
    let memory = acquire(&budget, "192.0.2.1", MIB).await;
    let (done, is_done) = tokio::sync::oneshot::channel::<()>();
    let work = hold_until_done(memory, is_done);
    assert!(timeout(Duration::from_secs(1), work).await.is_err(), "the request is cancelled");
    assert!(bodies(&budget).bytes > 0);
    done.send(()).expect("it still runs");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bodies(&budget).bytes, 0);
    assert_eq!(hold_until_done((), async { 7 }).await, 7);
}

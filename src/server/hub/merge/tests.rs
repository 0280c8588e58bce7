use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::server::{
    clock::Clock,
    guard::MemoryBudget,
    hub::BufferSizes,
    log::{Bound, Log, Range, RetentionLimits, Store, message_text::MessageText},
    shutdown::Shutdown,
    supervisor::Supervisor,
};

const LIMITS: RetentionLimits = RetentionLimits {
    messages: 1_000_000,
    age: Duration::from_secs(3600),
    bytes: 1_000_000_000,
    streams: 1_000,
    keys: 1_000,
    all_keys: 1_000,
};

#[tokio::test]
async fn readers_who_stop_hold_up_no_read() {
    let folder = TempDir::new().expect("a folder");
    let store = Store::File(folder.path().join("log.db"));
    let supervisor = Supervisor::new(Shutdown::default());
    let log = Log::open(store, LIMITS, Clock::System, &supervisor).await.expect("a log");
    let names: StreamNames = "a,b".parse().expect("names");
    for name in names.as_slice() {
        let text = || MessageText::new(vec![b'x'; 1000], usize::MAX).expect("a text");
        let batch = (0..100).map(|_| text()).collect();
        let appended = log.append_all(name.clone(), batch, None).await;
        assert!(appended.is_ok());
    }
    let memory = MemoryBudget::new(64 * 1024 * 1024, 64 * 1024);
    let sizes = BufferSizes::with_all_tails(1024 * 1024);
    let hub = Hub::new(log.clone(), supervisor, memory, sizes);
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST).into();
    let mut stopped = Vec::new();
    // More than the log has connections for reads.
    for _ in 0..8 {
        let cursors = [Some(ReadCursor::Earliest); 2];
        let merged = MergedWatcher::start(&hub, &names, address, &cursors, 0).await;
        let mut merged = merged.ok().flatten().expect("streams to watch");
        while merged.next().now_or_never().is_some() {}
        stopped.push(merged);
    }
    for name in names.as_slice() {
        let bound = Bound { messages: 1, bytes: 1000 };
        let read = log.read(name, Range::After(ReadCursor::Earliest), bound);
        let page = timeout(Duration::from_secs(60), read).await.expect("in time");
        assert_eq!(page.expect("a page").messages.len(), 1);
    }
}

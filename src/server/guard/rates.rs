//! Rate limits per key, per token name or client (the generic cell rate algorithm, GCRA).

use std::{hash::Hash, num::NonZeroU32, time::Duration};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock as _, DefaultClock},
};
use ipnet::IpNet;

use crate::server::client::{Address, NETWORK_SHARES};

/// How long to wait when the number is larger than a burst, and never fits.
const NEVER_FITS: Duration = Duration::from_mins(1);

/// A rate limit per key.
pub(super) struct RateLimit<Key: Clone + Eq + Hash>(DefaultKeyedRateLimiter<Key>);

/// A rate limit per client, and larger ones for the networks that the client may own.
pub(super) struct AddressRateLimit([RateLimit<IpNet>; NETWORK_SHARES.len()]);

impl<Key: Clone + Eq + Hash> RateLimit<Key> {
    pub(super) fn new(quota: Quota) -> Self {
        Self(DefaultKeyedRateLimiter::keyed(quota))
    }

    /// Acquires `number`.
    ///
    /// # Errors
    /// How long to wait, when the limit is exceeded.
    pub(super) fn acquire(&self, key: &Key, number: NonZeroU32) -> Result<(), Duration> {
        match self.0.check_key_n(key, number) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_yet)) => Err(not_yet.wait_time_from(DefaultClock::default().now())),
            Err(_more_than_the_burst) => Err(NEVER_FITS),
        }
    }

    /// Removes idle keys.
    pub(super) fn retain_recent(&self) {
        self.0.retain_recent();
    }
}

impl AddressRateLimit {
    /// `quota` makes the quota of a rate.
    pub(super) fn new(rate: NonZeroU32, quota: impl Fn(NonZeroU32) -> Quota) -> Self {
        let shares =
            NETWORK_SHARES.map(|shares| NonZeroU32::new(shares).unwrap_or(NonZeroU32::MIN));
        Self(shares.map(|shares| RateLimit::new(quota(rate.saturating_mul(shares)))))
    }

    /// Acquires `number`, from the narrowest network first: what it refuses does not count against the
    /// wider ones, which other clients share.
    ///
    /// # Errors
    /// How long to wait, when a limit is exceeded.
    pub(super) fn acquire(&self, address: Address, number: NonZeroU32) -> Result<(), Duration> {
        for (limit, network) in self.0.iter().zip(address.networks()) {
            limit.acquire(&network, number)?;
        }
        Ok(())
    }

    /// Removes idle networks.
    pub(super) fn retain_recent(&self) {
        self.0.iter().for_each(RateLimit::retain_recent);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn networks_of_one_owner_share_a_limit() {
        let acquired = |addresses: &[String]| {
            let limit = AddressRateLimit::new(NonZeroU32::MIN.saturating_add(4), Quota::per_hour);
            let acquire = |address: &String| {
                let address: IpAddr = address.parse().expect("an address");
                limit.acquire(address.into(), NonZeroU32::MIN).is_ok()
            };
            addresses.iter().filter(|address| acquire(address)).count()
        };
        let of = |address: fn(u32) -> String| (0..1_000).map(address).collect::<Vec<_>>();
        assert_eq!(acquired(&of(|_| "192.0.2.1".to_owned())), 5);
        assert_eq!(acquired(&of(|n| format!("2001:db8::{n:x}"))), 5, "a /64");
        assert_eq!(acquired(&of(|n| format!("2001:db8:0:{:x}::1", n % 256))), 20, "a /56");
        assert_eq!(acquired(&of(|n| format!("2001:db8:0:{:x}00::1", n % 256))), 80, "a /48");
        assert_eq!(acquired(&of(|n| format!("2001:db8:{n:x}::1"))), 1_000, "many /48");
    }
}

//! How many connections of one address may wait to be let in. The places for connections are for all: without this, one machine
//! that opens enough of them, and says nothing on any, would have them all for as long as a stranger is given.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts them. Clones are handles to the same counts.
#[derive(Debug, Clone)]
pub(crate) struct Strangers {
    most: usize,
    /// As many addresses as connections at most.
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection on which nobody has been let in. Dropped, it counts no more.
#[derive(Debug)]
pub(crate) struct Stranger {
    strangers: Strangers,
    address: IpAddr,
}

impl Strangers {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    /// Counts one in; `None`: there are enough of this address.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Stranger> {
        let address = whose(peer);
        let mut counts = self.counts();
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Stranger { strangers: self.clone(), address })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // No section leaves the counts half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one owner has: an address of IPv4, and of IPv6 the 64 bits of a network, within which a machine takes what it likes.
fn whose(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.strangers.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_so_many_and_gives_them_back() {
        let strangers = Strangers::new(2);
        let enter = |peer: &str| strangers.enter(peer.parse().unwrap());
        let (one, _two) = (enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap());
        assert!(enter("192.0.2.1").is_none() && enter("::ffff:192.0.2.1").is_none());
        let other = enter("192.0.2.2").unwrap();
        drop(one);
        assert!(enter("192.0.2.1").is_some());
        let (_a, _b) = (enter("2001:db8::1").unwrap(), enter("2001:db8::2:3:4:5").unwrap());
        assert!(enter("2001:db8::ffff:0:0:1").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        drop(other);
        assert_eq!(strangers.counts().len(), 2, "those who have left are forgotten");
    }
}

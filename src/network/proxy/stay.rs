//! Clients that stay with a replica: `sessionAffinity: ClientIP` of a Service.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// Clients that are remembered at most. One that is forgotten gets any replica again.
const MOST: usize = 10_000;

/// Which replica each client had last.
#[derive(Default)]
pub struct Stays(RefCell<HashMap<IpAddr, (SocketAddr, Instant)>>);

impl Stays {
    /// The replica that `client` had within the last `limit`.
    pub fn replica_of(&self, client: IpAddr, limit: Duration) -> Option<SocketAddr> {
        let stays = self.0.borrow();
        let (target, at) = stays.get(&client.to_canonical())?;
        (at.elapsed() < limit).then_some(*target)
    }

    /// `client` has got `target`.
    pub fn note(&self, client: IpAddr, target: SocketAddr, limit: Duration) {
        let mut stays = self.0.borrow_mut();
        if stays.len() >= MOST {
            stays.retain(|_, (_, at)| at.elapsed() < limit);
        }
        if stays.len() >= MOST {
            let mut times: Vec<Instant> = stays.values().map(|(_, at)| *at).collect();
            let (_, middle, _) = times.select_nth_unstable(MOST / 2);
            let middle = *middle;
            stays.retain(|_, (_, at)| *at > middle);
        }
        stays.insert(client.to_canonical(), (target, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_remembered_for_its_time_and_not_all_are() {
        let stays = Stays::default();
        let (hour, target) = (Duration::from_secs(3600), "10.0.0.1:80".parse().unwrap());
        let client: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        stays.note(client, target, hour);
        assert_eq!(stays.replica_of("192.0.2.1".parse().unwrap(), hour), Some(target));
        assert_eq!(stays.replica_of(client, Duration::ZERO), None);
        for n in 0..3 * MOST as u32 {
            stays.note(IpAddr::V4(n.into()), target, hour);
        }
        assert!(stays.0.borrow().len() <= MOST);
        assert_eq!(stays.replica_of(IpAddr::V4((3 * MOST as u32 - 1).into()), hour), Some(target));
    }
}

//! How many descriptors connections may have: in all, and those of one port.
//!
//! A port may have as many as are free beside its own. So a port with all the clients in the world has half of them, two
//! such ports have two thirds, and there is always room for another.

use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

/// State that all ports share.
pub struct Budget {
    most: usize,
    used: Cell<usize>,
    given_back: Notify,
}

/// The share of one port.
#[derive(Clone, Default)]
pub struct Share(Rc<Cell<usize>>);

/// Descriptors that are taken as long as it lives.
pub struct Room {
    budget: Rc<Budget>,
    share: Share,
    count: usize,
}

impl Budget {
    pub fn new(most: usize) -> Budget {
        Budget { most, used: Cell::new(0), given_back: Notify::new() }
    }

    /// Room for `count` descriptors, if there is.
    pub fn try_take(budget: &Rc<Budget>, share: &Share, count: usize) -> Option<Room> {
        let free = budget.most.saturating_sub(budget.used.get());
        if share.0.get() + count > free {
            return None;
        }
        budget.used.set(budget.used.get() + count);
        share.0.set(share.0.get() + count);
        Some(Room { budget: Rc::clone(budget), share: share.clone(), count })
    }

    /// How many are in use.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// Waits for room.
    pub async fn take(budget: &Rc<Budget>, share: &Share, count: usize) -> Room {
        loop {
            // Before the look: what is given back from here on wakes.
            let given_back = budget.given_back.notified();
            tokio::pin!(given_back);
            given_back.as_mut().enable();
            if let Some(room) = Budget::try_take(budget, share, count) {
                return room;
            }
            given_back.await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.used.set(self.budget.used.get() - self.count);
        self.share.0.set(self.share.0.get() - self.count);
        self.budget.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_takes_all_leaves_room_for_others() {
        let budget = Rc::new(Budget::new(120));
        let [greedy, also, modest] = [(); 3].map(|()| Share::default());
        let take_all = |share: &Share| std::iter::from_fn(|| Budget::try_take(&budget, share, 2)).collect();
        let first: Vec<Room> = take_all(&greedy);
        assert_eq!(first.len(), 30);
        let second: Vec<Room> = take_all(&also);
        assert_eq!(second.len(), 15);
        let third: Vec<Room> = take_all(&modest);
        assert!(!third.is_empty());
        drop((first, second, third));
        assert_eq!((budget.used.get(), greedy.0.get()), (0, 0));
    }
}

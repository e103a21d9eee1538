//! Whether the maintenance thread is there. It ends when nothing is left to do, and a thread that frees much starts it again if
//! it is not there. Of the two, one sees the other, so what is freed in the maintenance thread's last moments is not left lying.

use crate::base::sync::atomic::{AtomicBool, Ordering, fence};
use crate::base::sync::fence_after_rmw;

pub(crate) struct Presence(AtomicBool);

impl Presence {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Presence {
        Presence(AtomicBool::new(false))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Presence {
        Presence(AtomicBool::new(false))
    }

    /// Whether the thread is there. The caller has changed the account before, by a read-modify-write, and starts the thread if
    /// it is wanted and not there.
    #[inline]
    pub(crate) fn is_there(&self) -> bool {
        // With the fence in `end`: either this thread sees that the other one has gone, or that one sees the account.
        fence_after_rmw();
        self.0.load(Ordering::Relaxed)
    }

    /// The caller is about to start the thread. Returns false if another thread is, or if it is there.
    #[must_use]
    pub(crate) fn begin(&self) -> bool {
        // Acquire pairs with the Release below: what the thread before has said of itself comes first.
        !self.0.swap(true, Ordering::Acquire)
    }

    /// The thread was not started after all, or was left in the parent of a fork.
    pub(crate) fn is_not(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// The calling thread, which is the maintenance thread, ends. Returns false if it goes on, because `wanted` says so and no
    /// thread has started another.
    #[must_use]
    pub(crate) fn end(&self, wanted: impl FnOnce() -> bool) -> bool {
        self.is_not();
        // SeqCst: see `is_there`.
        fence(Ordering::SeqCst);
        !(wanted() && self.begin())
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::base::sync::atomic::AtomicUsize;
    use loom::sync::Arc;
    use loom::thread;

    struct World {
        account: AtomicUsize,
        presence: Presence,
        looks_again: bool,
    }

    impl World {
        /// As a slow path that freed something, and `maintain::wake`.
        fn free(&self) {
            self.account.fetch_add(1, Ordering::Relaxed);
            if !self.presence.is_there() {
                let _ = self.presence.begin();
            }
        }

        /// As the maintenance thread after its last round.
        fn end(&self) {
            if self.looks_again {
                let wanted = || self.account.load(Ordering::Relaxed) > 0;
                let _ = self.presence.end(wanted);
            } else {
                self.presence.is_not();
            }
        }
    }

    fn nothing_is_left_lying(looks_again: bool) {
        loom::model(move || {
            let world = Arc::new(World {
                account: AtomicUsize::new(0),
                presence: Presence::new(),
                looks_again,
            });
            assert!(world.presence.begin(), "the first");
            let others: [fn(&World); 2] = [World::free, World::free];
            let others = others.map(|body| {
                let world = Arc::clone(&world);
                thread::spawn(move || body(&world))
            });
            world.end();
            for other in others {
                other.join().expect("another thread");
            }
            let there = world.presence.0.load(Ordering::Relaxed);
            assert!(there, "what was freed waits for nobody");
        });
    }

    #[test]
    fn a_thread_is_there_for_what_was_freed_last() {
        nothing_is_left_lying(true);
    }

    #[test]
    #[should_panic(expected = "what was freed waits for nobody")]
    fn what_is_freed_before_the_end_is_left_without_a_second_look() {
        nothing_is_left_lying(false);
    }
}

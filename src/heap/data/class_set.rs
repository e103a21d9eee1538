//! A set of size classes, in two words.

use crate::base::size_class::{CLASSES, Class};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Written by one side at a time: the heap's thread, or the holder of its lock. Others take what they read as a hint, so every
/// access is Relaxed. All-zero is the empty set.
#[repr(transparent)]
pub(crate) struct Classes([AtomicU64; 2]);

const _: () = assert!(CLASSES <= 128, "a set of classes is two words");

impl Classes {
    #[inline]
    pub(crate) fn add(&self, class: Class) {
        let word = &self.0[class.index() / 64];
        word.store(word.load(Relaxed) | 1 << (class.index() % 64), Relaxed);
    }

    #[inline]
    pub(crate) fn remove(&self, class: Class) {
        let word = &self.0[class.index() / 64];
        word.store(word.load(Relaxed) & !(1 << (class.index() % 64)), Relaxed);
    }

    #[inline]
    pub(crate) fn has(&self, class: Class) -> bool {
        self.0[class.index() / 64].load(Relaxed) & 1 << (class.index() % 64) != 0
    }

    pub(crate) fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Relaxed));
    }

    /// Empties the set, and returns what was in it.
    pub(crate) fn take(&self) -> impl Iterator<Item = Class> + use<> {
        let [low, high] = [0, 1].map(|index: usize| {
            let bits = self.0[index].load(Relaxed);
            self.0[index].store(0, Relaxed);
            bits
        });
        let mut left = u128::from(high) << 64 | u128::from(low);
        core::iter::from_fn(move || {
            let class = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (class < 128).then_some(Class::new(class))
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_was_added_is_taken_once() {
        let set = Classes([const { AtomicU64::new(0) }; 2]);
        let members = [1, 63, 64, CLASSES - 1].map(Class::new);
        members.iter().for_each(|&class| set.add(class));
        for class in (0..CLASSES).map(Class::new) {
            assert_eq!(set.has(class), members.contains(&class));
        }
        assert_eq!(set.take().collect::<Vec<_>>(), members);
        assert_eq!(set.take().count(), 0);
        let [one, other] = [64, 65].map(Class::new);
        set.add(one);
        set.add(other);
        set.remove(other);
        assert!(set.has(one) && !set.has(other));
        set.clear();
        assert_eq!(set.take().count(), 0);
    }
}

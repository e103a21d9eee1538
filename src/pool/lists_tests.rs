use super::*;
use crate::base::tuning::pool::LIGHT;
use crate::slab::superslab::State;

/// A descriptor known to this test alone, whose slots hold `touched` units. What was touched is dirty.
fn superslab(free: u32, touched: [u8; SLOTS]) -> *mut Superslab {
    let superslab = Superslab::allocate().unwrap().as_ptr();
    // SAFETY: fresh, and ours alone.
    unsafe {
        (*superslab).free = free;
        (*superslab).touched = touched;
        for (slot, &units) in touched.iter().enumerate() {
            (*superslab).dirty |= u32::from(units > 0) << slot;
        }
        (*superslab).state = State::Pooled;
    }
    superslab
}

fn slot_of(lists: &ByFree, slots: usize, pick: Pick) -> Option<usize> {
    // SAFETY: the lists are the test's own.
    unsafe {
        let slots = Slots::new(slots);
        let plain = lists.find(PLAIN, slots, pick);
        plain.or_else(|| lists.find(SPREADING, slots, pick))
    }
    .map(|(_, slot)| slot)
}

#[test]
fn a_slot_suits_what_will_be_in_it() {
    let mut touched = [0; SLOTS];
    touched[1..4].fill(16);
    touched[5] = LIGHT;
    touched[6] = LIGHT + 1;
    // Slot 0 is claimed.
    let one = superslab(!1, touched);
    let mut lists = ByFree::new();
    // SAFETY: the lists and the superslab are the test's own.
    unsafe {
        lists.insert(one);
        assert_eq!(slot_of(&lists, 1, Pick::Any), Some(1));
        assert_eq!(slot_of(&lists, 1, Pick::Resident), Some(1));
        assert_eq!(
            slot_of(&lists, 1, Pick::Light),
            Some(5),
            "a page of it is there already"
        );
        lists.remove(one);
        (*one).free &= !(1 << 5);
        lists.insert(one);
        assert_eq!(
            slot_of(&lists, 1, Pick::Light),
            Some(4),
            "one that holds nothing"
        );
        lists.remove(one);
        (*one).free = 1 << 1 | 1 << 6;
        lists.insert(one);
        assert_eq!(slot_of(&lists, 1, Pick::Light), None, "no slot is light");
        // A claim that fills its slot prefers a full slot to one of a page or two.
        lists.remove(one);
        (*one).free = 1 << 5 | 1 << 6;
        lists.insert(one);
        assert_eq!(slot_of(&lists, 1, Pick::Resident), Some(6));
        assert_eq!(
            slot_of(&lists, 2, Pick::Resident),
            Some(5),
            "both are resident"
        );
        // A huge page is resident as a whole: any slot of it will do while other slots keep it in use.
        lists.remove(one);
        (*one).huge = true;
        lists.insert(one);
        assert_eq!(slot_of(&lists, 1, Pick::Light), Some(5));
        lists.remove(one);
        (*one).free = u32::MAX;
        lists.insert(one);
        assert_eq!(slot_of(&lists, 1, Pick::Light), None);
    }
}

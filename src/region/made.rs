//! What a region is made of, and the wish for huge pages told to the kernel.

use std::os::fd::OwnedFd;

use super::wish::{Backing, HugeWish};
use super::work::Plan;
use crate::os::huge::{self, Thp, system_thp};
use crate::os::mapping::Mapping;
use crate::os::thread::Process;

/// A mapping, and what goes with it.
pub(super) struct Made {
    pub mapping: Mapping,
    pub plan: Plan,
    pub memfd: Option<OwnedFd>,
    pub only_in: Option<Process>,
    pub hint_honoured: Option<bool>,
}

impl Made {
    pub(super) fn new(mapping: Mapping, plan: Plan) -> Made {
        Made {
            mapping,
            plan,
            memfd: None,
            only_in: None,
            hint_honoured: None,
        }
    }
}

/// Tells the kernel of the wish. It may not understand (files of many file systems, hugetlb): what
/// comes of it is counted afterwards, not assumed.
pub(super) fn apply_wish(wish: HugeWish, backing: &Backing, made: &mut Made) {
    let Mapping { addr, len } = made.mapping;
    // Shared memory can be truncated, and the pool can be short: there a touch could be a signal.
    made.plan.touches = matches!(backing, Backing::Anonymous);
    // SAFETY: the mapping was made by the caller of this function, and contents stay.
    unsafe {
        match wish {
            HugeWish::System => {}
            HugeWish::Want => {
                made.plan.wants_huge = true;
                // A file system does as it likes, and most like OS pages.
                made.plan.whole |= matches!(backing, Backing::Anonymous | Backing::Memfd);
                let _ = huge::advise(addr, len);
                // Shared memory follows a policy of its own, off on most systems, and under
                // "never" nothing comes of advice; collapsing works regardless.
                made.plan.collapses = matches!(backing, Backing::Memfd)
                    || (matches!(backing, Backing::Anonymous) && system_thp() == Thp::Never);
                // One page is enough to collapse the rest onto.
                made.plan.touches &= !made.plan.collapses;
            }
            HugeWish::Refuse => {
                let _ = huge::refuse(addr, len);
            }
        }
    }
}

//! What a region is made of, and how its huge pages are requested.

use std::os::fd::OwnedFd;

use super::wish::{Backing, HugeWish};
use super::work::Plan;
use crate::os::huge::{self, Thp, system_thp};
use crate::os::mapping::Mapping;
use crate::os::thread::Process;

/// A mapping, and what belongs to it.
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

/// Tells the kernel which pages are requested. It may not support the advice (files of many file systems, hugetlb), so the
/// result is counted afterwards and not assumed.
pub(super) fn apply_wish(wish: HugeWish, backing: &Backing, made: &mut Made) {
    let Mapping { addr, len } = made.mapping;
    // Only anonymous memory is touched: a touch of shared memory that was truncated, or of a pool that runs short, raises a
    // signal.
    made.plan.touches = matches!(backing, Backing::Anonymous);
    // SAFETY: the mapping was made by the caller of this function, and contents stay.
    unsafe {
        match wish {
            HugeWish::System => {}
            HugeWish::Want => {
                made.plan.wants_huge = true;
                // A file system decides for itself, and most choose OS pages.
                made.plan.whole |= matches!(backing, Backing::Anonymous | Backing::Memfd);
                let _ = huge::advise(addr, len);
                // Shared memory follows a policy of its own, off on most systems, and under "never" advice has no effect.
                // Collapsing works regardless.
                made.plan.collapses = matches!(backing, Backing::Memfd)
                    || (matches!(backing, Backing::Anonymous) && system_thp() == Thp::Never);
                // The collapse needs only one resident page.
                made.plan.touches &= !made.plan.collapses;
            }
            HugeWish::Refuse => {
                let _ = huge::refuse(addr, len);
            }
        }
    }
}

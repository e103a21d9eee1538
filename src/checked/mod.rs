//! Checked blocks: whatever a program does wrong with one is found at a call that concerns it, or at exit.
//!
//! ```text
//! alloc ── block never handed out │ block freed longest ago, if enough others wait ── else a slab from the pool
//! free ─── by address → slab → record: state, size, canary → poison → waits at the end of its slab's queue
//! ```
//!
//! A checked slab is claimed from the pool as any other and holds blocks of one kind. Its directory words carry the class byte
//! [`CHECKED`](crate::base::size_class::CHECKED), which no heap's tag has: every free of such a block leaves the fast path by
//! the comparison that all frees make, so that checked blocks cost nobody else an instruction. A [`Record`](record::Record)
//! beside the slab, not in it, has the state of each block, the size that was asked for, and the calls that allocated and freed
//! it. At least eight bytes behind each block hold a canary. A freed block holds a pattern, which is compared before the block is
//! given out again. The block that waited longest comes first; in the hardened profile, one of the half that waited longer.
//!
//! All state is under one lock ([`store`]), which ranks between the heaps' and the pools'. Nothing is mapped under it but
//! metadata, and no report is written under it.

mod calls;
mod fill;
mod find;
mod geometry;
mod list;
mod mode;
mod record;
mod report;
mod site;
mod slab;
mod slabs;
mod store;
mod table;
mod take;
#[cfg(all(test, not(miri)))]
mod tests;
mod walk;
mod words;

pub(crate) use calls::{alloc, fork_lock, free, may_take, resize, sample, size_of, sweep, trim};
pub(crate) use mode::{Mode, after_fork, init, mode, slab_opened};
pub(crate) use store::Taken;
pub(crate) use walk::each_class;

//! The operating system, behind one small contract.
//!
//! [`sys`] is the contract: one thin function per system call, each failure an [`sys::Errno`].
//! In unit tests the same names come from `fake`, which counts the calls of the calling thread and
//! fails the one it was told to. What is refused of the calls about memory goes into the books of
//! [`tally`]. Everything else here is written against `sys` alone: locks, messages, aligned
//! mappings, huge pages, prefault. Nothing in this layer allocates or panics.

mod abi;
pub(crate) mod achieved;
pub(crate) mod clock;
mod counted;
#[cfg(test)]
pub(crate) mod fake;
pub mod findings;
pub(crate) mod freeze;
pub(crate) mod huge;
mod linux;
pub(crate) mod lock;
pub(crate) mod mapping;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod numa;
pub(crate) mod object;
pub(crate) mod prefault;
pub(crate) mod sys;
pub(crate) mod tally;
pub(crate) mod thread;
pub(crate) mod trial;

//! The operating system, behind one small contract.
//!
//! [`sys`] is the contract: one thin function per system call, each failure an [`sys::Errno`]. In unit tests most of these
//! names come from `fake`, which counts the calls of the calling thread and fails the one it was told to fail. [`tally`] counts
//! every refusal of a call about memory. Everything else here stands on `sys`, except threads, signals, and queries that nothing
//! depends on, such as limits. Nothing in this layer panics. Nothing allocates but what starts or pins a thread or registers a
//! handler of fork ([`thread`]): those call the C library.

mod abi;
pub(crate) mod achieved;
#[cfg(not(loom))]
mod caller;
pub(crate) mod clear;
pub(crate) mod clock;
#[cfg(not(loom))]
pub(crate) mod context;
mod counted;
#[cfg(not(loom))]
mod dwarf;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(not(loom))]
pub(crate) mod faults;
pub mod findings;
pub(crate) mod first_thread;
#[cfg(not(loom))]
mod frame;
pub(crate) mod freeze;
pub(crate) mod huge;
mod linux;
#[cfg(not(loom))]
pub(crate) mod loader;
pub(crate) mod lock;
pub(crate) mod mapping;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod modules;
pub(crate) mod numa;
pub(crate) mod object;
pub(crate) mod prefault;
#[cfg(not(loom))]
pub(crate) mod random;
pub(crate) mod readable;
mod reads;
#[cfg(not(loom))]
mod rules;
#[cfg(not(loom))]
pub(crate) mod segv;
#[cfg(not(loom))]
pub(crate) mod stack;
#[cfg(not(loom))]
mod stack_in_use;
#[cfg(not(loom))]
mod steps;
mod symbols;
pub(crate) mod sys;
pub(crate) mod tally;
pub(crate) mod thread;
pub(crate) mod trial;
#[cfg(not(loom))]
pub(crate) mod walked;
pub(crate) mod written;

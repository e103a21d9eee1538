//! How long threads wait for a lock. The model checker, which tries every order of steps, is shown few.

/// How often a waiter checks a lock's word before it sleeps: a hold typically lasts a few hundred nanoseconds, a trip through the
/// kernel a few microseconds. Guess.
#[cfg(not(loom))]
pub(crate) const SPINS: u32 = 64;
#[cfg(loom)]
pub(crate) const SPINS: u32 = 1;

/// Milliseconds that a thread that ends the process or forks waits for a lock: it may hold that lock itself. Guess.
#[cfg(not(loom))]
pub(crate) const DYING_MS: u32 = 100;
#[cfg(loom)]
pub(crate) const DYING_MS: u32 = 1;

/// Waits after which a thread at a lock that is frozen for a fork checks whether the forking thread sleeps, and the milliseconds of
/// each wait. Guesses.
#[cfg(not(loom))]
pub(crate) const PATIENCE: u32 = 4;
#[cfg(loom)]
pub(crate) const PATIENCE: u32 = 0;
pub(crate) const WAIT_MS: u64 = 10;

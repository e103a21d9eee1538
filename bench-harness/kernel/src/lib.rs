//! Questions about the kernel and the OS layer under the allocator, each answered by a table; and the doctor, which says what
//! this machine gives.
//!
//! Unlike the workloads the experiments compare placements, orders and policies, not allocators. Each file says which
//! question it answers. `quick_bytes` is the size the tests use: it shows the shape of the answer, not its figures.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use serde_json::Value;

mod alignment;
mod async_prefault;
pub mod doctor;
mod maps;
mod populate_order;
pub mod system;
mod tlb;

/// One line of a table and one object of the JSON.
pub type Row = Value;

/// How a question is answered: with so many bytes at a time; and who is told how far it is.
pub type Answer = fn(usize, &dyn Fn(&str)) -> Result<Vec<Row>, String>;

#[derive(Clone, Copy)]
pub struct Experiment {
    pub name: &'static str,
    /// What the table says, for whoever reads it alone.
    pub explained: &'static str,
    /// Bytes it maps at a time, and of the size for trying out.
    pub bytes: usize,
    pub quick_bytes: usize,
    pub rows: Answer,
}

pub const EXPERIMENTS: [Experiment; 4] = [
    Experiment {
        name: "alignment",
        explained: "Anonymous memory off alignment: only the two ends stay on OS pages. Shared file memory: the huge page \
                    belongs to the file and is mapped whole only where address and offset agree modulo 2 MiB; off by anything \
                    less, each of its OS pages faults by itself.",
        bytes: 2 << 30,
        quick_bytes: 32 << 20,
        rows: alignment::rows,
    },
    Experiment {
        name: "tlb",
        explained: "A random gather misses the translation buffer on OS pages; a sum in order does not notice.",
        bytes: 3_200_000_000,
        quick_bytes: 8_000_000,
        rows: tlb::rows,
    },
    Experiment {
        name: "populate-order",
        explained: "Map, align, advise, populate: in this order all is there before the first touch, on huge pages, with a \
                    fault for each. Any other leaves something to the first touch or on OS pages, or has a fault for \
                    each of those.",
        bytes: 512 << 20,
        quick_bytes: 32 << 20,
        rows: populate_order::rows,
    },
    Experiment {
        name: "async-prefault",
        explained: "How late an event loop answers a 1 ms timer, and how long another thread's mmap waits, while memory is \
                    brought in; then the loop uses it, 4 MiB per tick.",
        bytes: 1 << 30,
        quick_bytes: 8 << 20,
        rows: async_prefault::rows,
    },
];

/// The median of at least one value; of an even number, the mean of the middle two.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (high, low) = (sorted.get(sorted.len() / 2)?, sorted.get(sorted.len().checked_sub(1)? / 2)?);
    Some((high + low) / 2.0)
}

/// An error of the system with what could not be done.
fn failed(what: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |e| format!("{what}: {e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!((median(&[9.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 100.0])), (Some(2.0), Some(3.0)));
        assert_eq!((median(&[]), median(&[3.0])), (None, Some(3.0)));
    }
}

//! The life of a child: take an order, run it on one allocator, print one line of JSON.
//!
//! The protocol: the order is one JSON argument, the answer one JSON line on stdout and exit code 0; anything else (a
//! signal, silence, other text) is a failed run to the parent.

use crate::bench::Bench;
use crate::one_line;
use crate::program::{self, Prepare};
use crate::raw::RawAllocator;
use crate::record::{Order, Run};

pub fn run(alloc: &'static RawAllocator, order: &Order) -> Result<Run, String> {
    let spec = order.spec.clone().filled();
    let row = spec.row().ok_or_else(|| format!("unknown workload {:?}", order.spec.workload))?;
    let mut bench = Bench::new(crate::latency::sampled(alloc), order.series);
    (row.run)(&spec, &mut bench)?;
    bench.done()
}

/// The whole life of a child whose only argument is the order; `prepare` makes its real programs, where it has any.
pub fn main(alloc: &'static RawAllocator, prepare: Option<Prepare>) -> ! {
    program::set_prepare(prepare);
    let mut arguments = std::env::args().skip(1);
    let (Some(order), None) = (arguments.next(), arguments.next()) else {
        give_up("expected one argument, an order as JSON; this is a child of bench-harness")
    };
    // A child must not outlive its parent.
    // SAFETY: prctl with these arguments only sets a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let answer = match order.strip_prefix("paths ") {
        Some(order) => crate::workloads::paths::child(alloc, order),
        None => serde_json::from_str(&order)
            .map_err(|e| format!("the order is not what this version understands: {e}"))
            .and_then(|order| run(alloc, &order))
            .and_then(|run| serde_json::to_string(&run).map_err(|e| e.to_string())),
    };
    match answer {
        Ok(line) => println!("{line}"),
        Err(e) => give_up(&e),
    }
    std::process::exit(0)
}

fn give_up(error: &str) -> ! {
    eprintln!("{}", one_line(error));
    std::process::exit(3)
}

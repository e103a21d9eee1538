//! Under Miri the system's allocator serves, and statistics and purges find nothing instead of ending the interpreter: a
//! program whose own tests run under Miri may call everything. Without Miri the same calls find something.

use hakmem_alloc::{Hakmem, prewarm, purge, stats, stats_quick};

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

#[test]
fn every_call_of_a_program_under_miri_returns() {
    let mut kept: Vec<String> = (0..100).map(|i| "x".repeat(i)).collect();
    kept.extend((0..10).map(|i| "y".repeat(i * 1000)));
    assert!(kept.iter().all(|text| text.len() < 10_000));
    let serves = !cfg!(miri);
    assert_eq!(stats_quick().live_blocks() > 0, serves);
    assert_eq!(stats().superslabs.mapped > 0, serves);
    assert_eq!(prewarm(1), usize::from(serves));
    assert!(serves || purge() == 0);
    purge();
}

//! What a change to the allocator did, path by path: `cargo bench`, or `cargo bench -- refill` for one group.
//!
//! Every group runs the same calls through `Hakmem` and through the system allocator, which shows how much of a
//! difference is the machine's. Throughput against other allocators is the harness's business.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

static HAKMEM: Hakmem = Hakmem::new();

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a small size")
}

/// The same boundary for every allocator: neither is inlined into the loop that measures it.
#[inline(never)]
fn alloc<A: GlobalAlloc>(from: &A, layout: Layout) -> usize {
    // SAFETY: sizes in this file are not zero.
    let block = unsafe { from.alloc(layout) };
    assert!(!block.is_null(), "out of memory");
    block as usize
}

#[inline(never)]
fn alloc_zeroed<A: GlobalAlloc>(from: &A, layout: Layout) -> usize {
    // SAFETY: as in `alloc`.
    let block = unsafe { from.alloc_zeroed(layout) };
    assert!(!block.is_null(), "out of memory");
    block as usize
}

#[inline(never)]
fn free<A: GlobalAlloc>(to: &A, block: usize, layout: Layout) {
    // SAFETY: every block in this file is freed once, with its last layout.
    unsafe { to.dealloc(block as *mut u8, layout) };
}

#[inline(never)]
fn realloc<A: GlobalAlloc>(at: &A, block: usize, from: Layout, size: usize) -> usize {
    // SAFETY: a live block with its last layout; sizes in this file are not zero.
    let moved = unsafe { at.realloc(block as *mut u8, from, size) };
    assert!(!moved.is_null(), "out of memory");
    moved as usize
}

/// Both fast paths: the bin is never empty and never full.
fn fast<A: GlobalAlloc>(c: &mut Criterion, name: &str, allocator: &A) {
    let mut group = c.benchmark_group("fast");
    for size in [16, 48, 1024, 8192] {
        group.bench_function(BenchmarkId::new(format!("pair of {size}"), name), |b| {
            b.iter(|| {
                let block = alloc(allocator, black_box(layout(size)));
                free(allocator, black_box(block), layout(size));
            });
        });
    }
}

/// Bins run empty and overflow: blocks come from and go back to slabs.
fn refill<A: GlobalAlloc>(c: &mut Criterion, name: &str, allocator: &A) {
    const COUNT: usize = 20_000;
    let mut group = c.benchmark_group("refill");
    group.throughput(Throughput::Elements(COUNT as u64));
    for (order, backwards) in [("in order", false), ("backwards", true)] {
        let mut blocks = Vec::with_capacity(COUNT);
        group.bench_function(
            BenchmarkId::new(format!("{COUNT} of 64, freed {order}"), name),
            |b| {
                b.iter(|| {
                    blocks.extend((0..COUNT).map(|_| alloc(allocator, layout(64))));
                    if backwards {
                        blocks.reverse();
                    }
                    blocks
                        .drain(..)
                        .for_each(|block| free(allocator, block, layout(64)));
                });
            },
        );
    }
}

/// Blocks freed by a thread that does not own them. One round hands over 4,000 and waits until they are freed.
fn remote<A: GlobalAlloc + Sync>(c: &mut Criterion, name: &str, allocator: &'static A) {
    const COUNT: usize = 4_000;
    let (send, blocks): (SyncSender<Vec<usize>>, Receiver<Vec<usize>>) = sync_channel(1);
    let (send_back, back) = sync_channel(1);
    let other = thread::spawn(move || {
        for mut list in blocks {
            list.drain(..)
                .for_each(|block| free(allocator, block, layout(64)));
            if send_back.send(list).is_err() {
                return;
            }
        }
    });
    let mut group = c.benchmark_group("remote");
    group.throughput(Throughput::Elements(COUNT as u64));
    let mut list = Vec::with_capacity(COUNT);
    group.bench_function(
        BenchmarkId::new(format!("{COUNT} of 64 freed by another thread"), name),
        |b| {
            b.iter(|| {
                list.extend((0..COUNT).map(|_| alloc(allocator, layout(64))));
                send.send(std::mem::take(&mut list))
                    .expect("the other thread lives");
                list = back.recv().expect("the other thread lives");
            });
        },
    );
    drop(send);
    other.join().expect("the freeing thread");
}

fn resize<A: GlobalAlloc>(c: &mut Criterion, name: &str, allocator: &A) {
    let mut group = c.benchmark_group("realloc");
    group.bench_function(BenchmarkId::new("within a class", name), |b| {
        let (mut block, mut size) = (alloc(allocator, layout(100)), 100);
        b.iter(|| {
            let next = 201 - size;
            block = realloc(allocator, black_box(block), layout(size), next);
            size = next;
        });
        free(allocator, block, layout(size));
    });
    let steps = [
        ("a vector from 16 bytes to 1 MiB", 16, 1 << 20),
        ("a huge block from 4 to 64 MiB", 4 << 20, 64 << 20),
    ];
    for (what, from, to) in steps {
        group.bench_function(BenchmarkId::new(what, name), |b| {
            b.iter(|| {
                let (mut block, mut size) = (alloc(allocator, layout(from)), from);
                while size < to {
                    block = realloc(allocator, block, layout(size), 2 * size);
                    size *= 2;
                }
                free(allocator, block, layout(size));
            });
        });
    }
}

/// Mapping and giving back: huge blocks from the cache, huge blocks of ever new sizes, zeroed ones.
fn mapping<A: GlobalAlloc>(c: &mut Criterion, name: &str, allocator: &A) {
    let mut group = c.benchmark_group("mapping");
    group.bench_function(BenchmarkId::new("8 MiB, the same again", name), |b| {
        b.iter(|| {
            free(
                allocator,
                alloc(allocator, layout(8 << 20)),
                layout(8 << 20),
            )
        });
    });
    for (what, size) in [("1000 bytes", 1000), ("8 MiB", 8 << 20)] {
        group.bench_function(BenchmarkId::new(format!("{what}, zeroed"), name), |b| {
            b.iter(|| {
                free(
                    allocator,
                    alloc_zeroed(allocator, black_box(layout(size))),
                    layout(size),
                );
            });
        });
    }
    let mut size = 5 << 20;
    group.bench_function(
        BenchmarkId::new("5 to 25 MiB, one byte per 64 KiB", name),
        |b| {
            b.iter(|| {
                size = (size + 1_234_567) % (20 << 20) + (5 << 20);
                let block = alloc(allocator, layout(size));
                for offset in (0..size).step_by(64 << 10) {
                    // SAFETY: the offset lies within the block.
                    unsafe { (block as *mut u8).add(offset).write_volatile(1) };
                }
                free(allocator, block, layout(size));
            });
        },
    );
    group.bench_function(
        BenchmarkId::new("32 MiB of 32 KiB blocks, first touch", name),
        |b| {
            b.iter_batched_ref(
                || Vec::with_capacity(1024),
                |blocks| {
                    for _ in 0..1024 {
                        let block = alloc(allocator, layout(32 << 10));
                        // SAFETY: the block is live and larger than a word.
                        unsafe { (block as *mut u64).write_volatile(1) };
                        blocks.push(block);
                    }
                    blocks
                        .drain(..)
                        .for_each(|block| free(allocator, block, layout(32 << 10)));
                },
                BatchSize::PerIteration,
            );
        },
    );
}

fn all(c: &mut Criterion) {
    fast(c, "hakmem", &HAKMEM);
    fast(c, "system", &System);
    refill(c, "hakmem", &HAKMEM);
    refill(c, "system", &System);
    remote(c, "hakmem", &HAKMEM);
    remote(c, "system", &System);
    resize(c, "hakmem", &HAKMEM);
    resize(c, "system", &System);
    mapping(c, "hakmem", &HAKMEM);
    mapping(c, "system", &System);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20);
    targets = all
}
criterion_main!(benches);

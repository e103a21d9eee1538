//! Blocks freed by another thread than the one that allocated them.
//!
//! Behaviours imitated:
//! - a ring (each thread frees what its neighbour allocated), a star (one thread frees for all), all to all;
//! - eight owners whose blocks reach one freeing thread interleaved;
//! - a producer that sleeps while its blocks are freed, and one that has ended;
//! - a consumer that never allocates: memory must not grow with the number of blocks handed over;
//! - a pipeline whose stages each free the previous stage's block and allocate their own;
//! - all threads of a pool working in step with barriers, so that inboxes fill while their owners wait.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{MIB, mem, scale};
use hakmem_alloc::Hakmem;
use std::sync::Barrier;
use std::sync::mpsc::sync_channel;
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// Sizes of small, medium and multi-slot classes, and a large block now and then.
fn size(i: usize) -> usize {
    const SIZES: [usize; 12] = [
        16, 48, 64, 100, 256, 900, 1500, 4096, 9000, 40_000, 100_000, 300_000,
    ];
    // Mostly small: the weight of a class halves with its place.
    match i.wrapping_mul(0x9E37_79B9) >> 7 {
        n if n % 4096 == 0 => 3 * MIB,
        n => SIZES[(n.trailing_zeros() as usize).min(SIZES.len() - 1)] + n % 7,
    }
}

/// Thread `id` produces for the thread `route(id, i)`; every thread frees what arrives.
fn exchange(threads: usize, blocks: usize, route: impl Fn(usize, usize) -> usize + Sync) -> usize {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..threads).map(|_| sync_channel::<Vec<Block>>(64)).unzip();
    let mut freed = 0;
    thread::scope(|scope| {
        let handles: Vec<_> = receivers
            .into_iter()
            .enumerate()
            .map(|(id, inbox)| {
                let (senders, route) = (senders.clone(), &route);
                scope.spawn(move || {
                    let mut freed = 0;
                    let mut free = |parcel: Vec<Block>| {
                        freed += parcel.len();
                        parcel.into_iter().for_each(|block| block.free(&HAKMEM));
                    };
                    for i in 0..blocks / 10 {
                        let mut parcel: Vec<_> = (0..10)
                            .map(|k| Block::new(&HAKMEM, size(i * 10 + k + id)))
                            .collect();
                        // A full mailbox must not stop a thread whose own mailbox is full: that would be a deadlock.
                        while let Err(full) = senders[route(id, i)].try_send(parcel) {
                            let std::sync::mpsc::TrySendError::Full(back) = full else {
                                panic!("a receiver ended early");
                            };
                            parcel = back;
                            inbox.try_iter().for_each(&mut free);
                            thread::yield_now();
                        }
                        inbox.try_iter().for_each(&mut free);
                    }
                    drop(senders);
                    inbox.into_iter().for_each(&mut free);
                    freed
                })
            })
            .collect();
        drop(senders);
        freed = handles
            .into_iter()
            .map(|h| h.join().expect("a worker"))
            .sum();
    });
    freed
}

#[test]
fn ring() {
    let blocks = scale(400_000, 40_000);
    assert_eq!(exchange(4, blocks, |id, _| (id + 1) % 4), 4 * blocks);
}

#[test]
fn star() {
    let blocks = scale(300_000, 30_000);
    assert_eq!(exchange(5, blocks, |_, _| 0), 5 * blocks);
}

#[test]
fn all_to_all() {
    let blocks = scale(200_000, 20_000);
    assert_eq!(exchange(8, blocks, |id, i| (id + i) % 8), 8 * blocks);
}

#[test]
fn eight_owners_interleaved_at_one_freeing_thread() {
    let each = scale(200_000, 20_000);
    for size in [16, 48, 64, 500] {
        let start = Barrier::new(8);
        let mut columns: Vec<Vec<Block>> = thread::scope(|scope| {
            let owners: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        (0..each).map(|_| Block::new(&HAKMEM, size)).collect()
                    })
                })
                .collect();
            owners
                .into_iter()
                .map(|o| o.join().expect("an owner"))
                .collect()
        });
        for _ in 0..each {
            for column in &mut columns {
                column
                    .pop()
                    .expect("columns are of one length")
                    .free(&HAKMEM);
            }
        }
        assert!(columns.iter().all(Vec::is_empty));
    }
}

#[test]
fn owners_that_wait_at_barriers_while_others_free() {
    const THREADS: usize = 6;
    let rounds = scale(60, 15);
    let barrier = Barrier::new(THREADS);
    let shelves: Vec<_> = (0..THREADS)
        .map(|_| std::sync::Mutex::new(Vec::new()))
        .collect();
    thread::scope(|scope| {
        for id in 0..THREADS {
            let (barrier, shelves) = (&barrier, &shelves);
            scope.spawn(move || {
                for round in 0..rounds {
                    *shelves[id].lock().expect("no panic inside") = (0..2_000)
                        .map(|i| Block::new(&HAKMEM, size(i)))
                        .collect::<Vec<_>>();
                    barrier.wait();
                    // One thread per round frees for everybody; the others wait inside the barrier.
                    if round % THREADS == id {
                        for shelf in shelves {
                            let blocks =
                                std::mem::take(&mut *shelf.lock().expect("no panic inside"));
                            assert_eq!(blocks.len(), 2_000);
                            blocks.into_iter().for_each(|block| block.free(&HAKMEM));
                        }
                    }
                    barrier.wait();
                }
            });
        }
    });
}

#[test]
fn pipeline() {
    let blocks = scale(300_000, 30_000);
    let (first, mut input) = sync_channel::<Block>(256);
    thread::scope(|scope| {
        scope.spawn(move || {
            (0..blocks).for_each(|i| {
                first
                    .send(Block::new(&HAKMEM, size(i)))
                    .expect("next stage")
            })
        });
        for stage in 0..3 {
            let (output, next) = sync_channel(256);
            let from = std::mem::replace(&mut input, next);
            scope.spawn(move || {
                for (i, block) in from.into_iter().enumerate() {
                    block.free(&HAKMEM);
                    output
                        .send(Block::new(&HAKMEM, size(i + stage)))
                        .expect("next stage");
                }
            });
        }
        let arrived = input.into_iter().map(|block| block.free(&HAKMEM)).count();
        assert_eq!(arrived, blocks);
    });
}

/// Hands `total` bytes over in waves of at most 16 MiB live and returns by how much resident memory grew, at the
/// highest, over what it was after the first waves. These are live as a whole before the first block is freed; how much of
/// the others is live at once depends on the scheduler, and would else be taken for growth where it was little at first.
fn growth_over_waves(total: usize, sleep_between: bool) -> usize {
    const WAVE: usize = 16 * MIB;
    const WHOLE: usize = 2;
    let (forward, inbox) = sync_channel::<Block>(1 << 20);
    let (done, finished) = sync_channel::<()>(0);
    let consumer = thread::spawn(move || {
        while let Ok(mut block) = inbox.recv() {
            while block.layout.size() != 8 {
                block.free(&HAKMEM);
                let Ok(next) = inbox.recv() else { return };
                block = next;
            }
            block.free(&HAKMEM);
            if done.send(()).is_err() {
                return;
            }
        }
    });
    let mut settled = 0;
    let mut worst = 0;
    for wave in 0..total / WAVE {
        let mut bytes = 0;
        let mut held = Vec::new();
        for i in 0.. {
            let size = 64 + size(i + wave) % 2000;
            let block = Block::new(&HAKMEM, size);
            bytes += size;
            if wave < WHOLE {
                held.push(block);
            } else {
                forward.send(block).expect("the consumer lives");
            }
            if bytes > WAVE {
                break;
            }
        }
        for block in held {
            forward.send(block).expect("the consumer lives");
        }
        forward
            .send(Block::new(&HAKMEM, 8))
            .expect("the consumer lives");
        finished.recv().expect("the consumer lives");
        if sleep_between {
            thread::sleep(std::time::Duration::from_millis(5));
        }
        match wave {
            0..WHOLE => settled = settled.max(mem::rss()),
            _ => worst = worst.max(mem::rss()),
        }
    }
    drop(forward);
    consumer.join().expect("the consumer");
    worst.saturating_sub(settled)
}

#[test]
fn memory_does_not_grow_under_a_consumer_that_never_allocates() {
    const TEST: &str = "memory_does_not_grow_under_a_consumer_that_never_allocates";
    match child::case().as_deref() {
        Some("steady") => child::report("growth", growth_over_waves(scale(4096, 512) * MIB, false)),
        Some("sleepy") => child::report("growth", growth_over_waves(scale(2048, 256) * MIB, true)),
        _ => {
            for case in ["steady", "sleepy"] {
                let ended = Child::of(TEST, case).run();
                let growth: usize = ended.success().value("growth");
                assert!(growth <= 8 * MIB, "{case}: grew by {} KiB", growth / 1024);
            }
        }
    }
}

/// Four owners allocate 64 MiB and sleep (or end); a thread that allocates nothing frees all of it.
fn left_after_foreign_frees(owners_end: bool) -> usize {
    let before = mem::rss();
    let (send, receive) = sync_channel::<Vec<Block>>(4);
    let (release, held) = sync_channel::<()>(0);
    let held = std::sync::Mutex::new(held);
    thread::scope(|scope| {
        for _ in 0..4 {
            let send = send.clone();
            let held = &held;
            scope.spawn(move || {
                let blocks: Vec<_> = (0..16 * MIB / 256)
                    .map(|_| Block::new(&HAKMEM, 256))
                    .collect();
                send.send(blocks).expect("the freeing thread");
                drop(send);
                if !owners_end {
                    // An owner that waits here runs no slow path of its own.
                    let _ = held.lock().expect("no panic inside").recv();
                }
            });
        }
        drop(send);
        let parcels: Vec<_> = receive.into_iter().collect();
        parcels
            .into_iter()
            .flatten()
            .for_each(|block| block.free(&HAKMEM));
        let left = mem::wait_for_rss(before + 16 * MIB, std::time::Duration::from_secs(5));
        drop(release);
        left.saturating_sub(before)
    })
}

#[test]
fn blocks_of_sleeping_and_ended_owners_are_given_back() {
    const TEST: &str = "blocks_of_sleeping_and_ended_owners_are_given_back";
    match child::case().as_deref() {
        Some(case) => child::report("left", left_after_foreign_frees(case == "ended")),
        None => {
            for case in ["sleeping", "ended"] {
                let ended = Child::of(TEST, case).run();
                let left: usize = ended.success().value("left");
                assert!(
                    left <= 16 * MIB,
                    "{case}: {} KiB of 64 MiB are still resident",
                    left / 1024
                );
            }
        }
    }
}

//! Fork while some thread holds any one of the locks, and the end of a process under locks.

use crate::heap::data::errands::Errands;
use crate::heap::data::{registry, tls};
use crate::heap::entry::hot;
use crate::heap::thread::fork;
use crate::os::lock::Lock;
use crate::os::message::fatal;
use crate::slab::batch::{Batch, Block};
use crate::slab::directory::DIRECTORY;
use core::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use std::vec::Vec;

/// Waits for the child of a fork. Returns its exit code.
fn end_of(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: a child of this process and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(
        !libc::WIFSIGNALED(status),
        "signal {} (14: it hung)",
        libc::WTERMSIG(status)
    );
    libc::WEXITSTATUS(status)
}

fn take_and_give(size: usize) {
    let block = hot::alloc(size, 16, None);
    assert!(!block.is_null());
    // SAFETY: taken above.
    unsafe { hot::free(block) };
}

/// Blocks of every kind, so that every lock is passed.
fn use_everything() {
    for size in [24, 5000, 40_000, 300_000, 3 << 20] {
        take_and_give(size);
    }
}

/// A thread holds each lock for a while. The child of a fork meanwhile finds it free, like every other.
#[test]
fn every_lock_is_free_in_a_child() {
    use_everything();
    let all: Vec<&'static Lock> = fork::locks().collect();
    let mine = tls::current().expect("a heap");
    let my_lock: *const Lock = &mine.public().lock;
    for &held in all.iter().filter(|lock| !core::ptr::eq(**lock, my_lock)) {
        let (holds, held_by_now) = channel();
        let holder = thread::spawn(move || {
            let guard = held.lock();
            holds.send(()).expect("received below");
            thread::sleep(Duration::from_millis(3));
            drop(guard);
        });
        held_by_now.recv().expect("sent above");
        // SAFETY: the child calls the allocator alone, which promises to work after fork, and leaves by _exit.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::alarm(60);
                let free = all.iter().all(|lock| lock.try_lock().is_some());
                use_everything();
                libc::_exit(i32::from(!free));
            }
            assert_eq!(end_of(child), 0);
        }
        holder.join().expect("the holder");
    }
}

/// A thread has posted to an idle heap and not yet opened the inbox. It does not exist in the child, where another opens it.
#[test]
fn what_was_posted_and_not_opened_is_opened_in_a_child() {
    let take = || hot::alloc(200, 16, None) as usize;
    let block = thread::spawn(take).join().expect("a block") as *mut Block;
    let owner = registry::heap(DIRECTORY.tag(block as usize).owner()).expect("a heap");
    Errands::NONE.with_left().done();
    // SAFETY: heaps live for ever. The block is this test's, and given up. The child calls the allocator alone and leaves by
    // _exit.
    unsafe {
        let _ = owner.attended().post(Batch::seal(block, 1));
        let child = libc::fork();
        if child == 0 {
            Errands::NONE.run();
            let opened = !owner.attended().is_idle() || owner.inbox.is_empty();
            libc::_exit(i32::from(!opened));
        }
        assert_eq!(end_of(child), 0);
    }
    Errands::NONE.run();
}

/// Heaps that a fork left behind are found by many short walks; none begins anew at the first heap.
#[test]
fn walks_go_on_where_the_last_one_was_left() {
    use_everything();
    let heaps: Vec<_> = registry::all().collect();
    let turn = AtomicUsize::new(0);
    let first = || registry::in_turn(&turn, 2).next();
    assert_eq!((first(), first()), (Some(heaps[0]), Some(heaps[0])));
    let each: Vec<_> = heaps
        .iter()
        .flat_map(|_| registry::in_turn(&turn, 1).collect::<Vec<_>>())
        .collect();
    assert_eq!(each, heaps);
}

extern "C" fn sleeps(_: *mut libc::c_void) -> *mut libc::c_void {
    thread::sleep(Duration::from_secs(60));
    core::ptr::null_mut()
}

extern "C" fn on_abort(_: i32) {
    use_everything();
    // SAFETY: as in the test; the child of a child ends at once.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            use_everything();
            libc::_exit(7);
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        libc::_exit(if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            1
        });
    }
}

/// A mistake is found under the lock of the thread's own heap, and under those that every thread needs.
#[test]
fn a_handler_of_abort_may_allocate_and_fork() {
    use_everything();
    // SAFETY: the child calls the allocator alone, and leaves by _exit.
    let dies = |end: fn() -> !| unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(60);
            libc::close(2);
            libc::signal(libc::SIGABRT, on_abort as *const () as usize);
            // Another thread exists, so that fork freezes the locks. Not one of `std`, whose lock the parent may have held.
            // Its number is an integer or a pointer, depending on the C library.
            let mut id = core::mem::MaybeUninit::uninit();
            let none = core::ptr::null_mut();
            libc::pthread_create(id.as_mut_ptr(), core::ptr::null(), sleeps, none);
            end();
        }
        end_of(child)
    };
    let own = || {
        let _held = tls::current().expect("a heap").lock();
        fatal!("under the lock of a heap");
    };
    let global = || {
        let _guard = registry::fork_lock().lock();
        let _mine = tls::current().expect("a heap").lock();
        let _pool = crate::pool::fork_locks().next().map(Lock::lock);
        fatal!("under the locks of all");
    };
    assert_eq!(dies(own), 7);
    assert_eq!(dies(global), 7);
}

//! A shared library that holds the allocator comes and goes in a process that has a copy of its own.
//!
//! Behaviours imitated:
//! - a host loads a plugin, calls it from many threads, unloads it while those threads live, and they end afterwards;
//! - blocks of the plugin freed by other threads of the host, through the plugin;
//! - loading and unloading in a loop;
//! - two copies of the allocator at work at once, in all threads.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::programs::folder;
use common::{MIB, mem, scale};
use hakmem_alloc::Hakmem;
use std::ffi::{CStr, CString, c_void};
use std::sync::{Arc, Barrier};
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// The loaded library. Unloaded by [`Plugin::unload`] only, so that a test chooses the moment.
#[derive(Clone, Copy)]
struct Plugin {
    handle: usize,
    take: extern "C" fn(usize) -> *mut u8,
    give: unsafe extern "C" fn(*mut u8, usize),
    strings: extern "C" fn(usize) -> usize,
}

impl Plugin {
    fn load() -> Self {
        let path = std::env::var("ALLOC_TEST_PLUGIN").expect("the parent names the library");
        let path = CString::new(path).expect("a path without a zero byte");
        // SAFETY: the library's constructors are those of the allocator and of std; the functions have these types.
        unsafe {
            let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(
                !handle.is_null(),
                "cannot load: {:?}",
                CStr::from_ptr(libc::dlerror())
            );
            Self {
                handle: handle as usize,
                take: std::mem::transmute::<*mut c_void, extern "C" fn(usize) -> *mut u8>(symbol(
                    handle,
                    c"plugin_take",
                )),
                give: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut u8, usize)>(
                    symbol(handle, c"plugin_give"),
                ),
                strings: std::mem::transmute::<*mut c_void, extern "C" fn(usize) -> usize>(symbol(
                    handle,
                    c"plugin_strings",
                )),
            }
        }
    }

    fn unload(self) {
        // SAFETY: loaded by `load`; nothing of the library is called afterwards.
        assert_eq!(unsafe { libc::dlclose(self.handle as *mut c_void) }, 0);
    }

    fn work(self) {
        let blocks: Vec<_> = (0..200)
            .map(|i| ((self.take)(16 + i * 50) as usize, 16 + i * 50))
            .collect();
        for &(addr, size) in &blocks {
            assert_ne!(addr, 0);
            // SAFETY: a fresh block of this size.
            unsafe { (addr as *mut u8).write_bytes(0x5A, size) };
        }
        let own: Vec<_> = (0..200).map(|i| Block::new(&HAKMEM, 16 + i * 50)).collect();
        for (addr, size) in blocks {
            // SAFETY: a live block of this size, freed once.
            unsafe {
                let bytes = std::slice::from_raw_parts(addr as *const u8, size);
                assert!(
                    bytes.iter().all(|&b| b == 0x5A),
                    "the other copy wrote into a block"
                );
                (self.give)(addr as *mut u8, size);
            }
        }
        own.into_iter().for_each(|block| block.free(&HAKMEM));
        assert_eq!((self.strings)(1000), 10 * (99 * 100 / 2));
    }
}

fn symbol(handle: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: a loaded library and a C string.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    assert!(!address.is_null(), "the library has no {name:?}");
    address
}

fn run(test: &'static str, case: &str) {
    let library = folder().join("libplugin.so");
    let ended = Child::of(test, case)
        .env("ALLOC_TEST_PLUGIN", &library.to_string_lossy())
        .run();
    assert_eq!(ended.success().value::<String>("done"), "yes");
}

#[test]
fn threads_end_after_the_library_was_unloaded() {
    if child::case().is_some() {
        for _ in 0..scale(40, 10) {
            let plugin = Plugin::load();
            let (used, unloaded) = (Arc::new(Barrier::new(9)), Arc::new(Barrier::new(9)));
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let (used, unloaded) = (used.clone(), unloaded.clone());
                    thread::spawn(move || {
                        plugin.work();
                        used.wait();
                        unloaded.wait();
                    })
                })
                .collect();
            used.wait();
            plugin.unload();
            unloaded.wait();
            threads
                .into_iter()
                .for_each(|t| t.join().expect("a thread of the host"));
        }
        child::report("done", "yes");
        return;
    }
    run("threads_end_after_the_library_was_unloaded", "threads");
}

#[test]
fn blocks_of_the_library_are_freed_by_other_threads() {
    if child::case().is_some() {
        let plugin = Plugin::load();
        let take = move || {
            (0..5_000)
                .map(|i| ((plugin.take)(16 + i % 900) as usize, 16 + i % 900))
                .collect::<Vec<_>>()
        };
        let taken: Vec<_> = (0..4).map(|_| thread::spawn(take)).collect();
        for blocks in taken {
            let blocks = blocks.join().expect("a taking thread");
            // SAFETY: live blocks with their sizes, freed once.
            let free = move || {
                blocks
                    .into_iter()
                    .for_each(|(addr, size)| unsafe { (plugin.give)(addr as *mut u8, size) })
            };
            thread::spawn(free).join().expect("a freeing thread");
        }
        plugin.unload();
        child::report("done", "yes");
        return;
    }
    run(
        "blocks_of_the_library_are_freed_by_other_threads",
        "foreign",
    );
}

#[test]
fn loading_and_unloading_in_a_loop_leaves_bounded_memory() {
    if child::case().is_some() {
        let mut before = 0;
        for i in 0..scale(300, 60) {
            let plugin = Plugin::load();
            plugin.work();
            thread::spawn(move || plugin.work())
                .join()
                .expect("a short-lived thread");
            plugin.unload();
            if i == 10 {
                before = mem::rss();
            }
        }
        let growth = mem::rss().saturating_sub(before);
        assert!(
            growth <= 8 * MIB,
            "loads and unloads left {} KiB",
            growth / 1024
        );
        child::report("done", "yes");
        return;
    }
    run(
        "loading_and_unloading_in_a_loop_leaves_bounded_memory",
        "loop",
    );
}

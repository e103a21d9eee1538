//! A shared library that holds the allocator comes and goes in a process that has a copy of its own.
//!
//! Behaviours imitated:
//! - a host loads a plugin, calls it from many threads, unloads it while those threads live, and they end afterwards;
//! - blocks of the plugin freed by other threads of the host, through the plugin;
//! - loading and unloading in a loop;
//! - a host of forty plugins, each with a copy of the allocator and 4 KiB of thread-local storage of its own;
//! - two copies of the allocator at work at once, in all threads.

// A program that is linked statically has no dynamic loader.
#![cfg(not(target_feature = "crt-static"))]

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::programs::plugin;
use common::{MIB, mem, scale};
use hakmem_alloc::Hakmem;
use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
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
    count: extern "C" fn(usize) -> u64,
}

impl Plugin {
    /// The library that the parent named.
    fn load() -> Self {
        Self::open(&named()).unwrap_or_else(|why| panic!("cannot load: {why}"))
    }

    fn open(path: &Path) -> Result<Self, String> {
        let path = CString::new(path.as_os_str().as_bytes()).expect("a path without a zero byte");
        // SAFETY: the library's constructors are those of the allocator and of std; the functions have these types.
        unsafe {
            let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            if handle.is_null() {
                let why = CStr::from_ptr(libc::dlerror());
                return Err(why.to_string_lossy().into_owned());
            }
            Ok(Self {
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
                count: std::mem::transmute::<*mut c_void, extern "C" fn(usize) -> u64>(symbol(
                    handle,
                    c"plugin_count",
                )),
            })
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

/// The file or folder that the parent named.
fn named() -> PathBuf {
    std::env::var_os("ALLOC_TEST_PLUGIN")
        .expect("the parent names it")
        .into()
}

fn child(test: &'static str, case: &str, path: &Path) {
    let ended = Child::of(test, case)
        .env("ALLOC_TEST_PLUGIN", &path.to_string_lossy())
        .run();
    assert_eq!(ended.success().value::<String>("done"), "yes");
}

fn run(test: &'static str, case: &str) {
    child(test, case, &plugin(true));
}

/// Copies of the library in a folder of their own: the loader opens one file once.
struct Copies(PathBuf);

impl Copies {
    fn of(library: &Path, count: usize, name: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the copies");
        for i in 0..count {
            std::fs::copy(library, Self::path(&folder, i)).expect("a copy of the library");
        }
        Self(folder)
    }

    fn path(folder: &Path, index: usize) -> PathBuf {
        folder.join(format!("libplugin{index}.so"))
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // What is left over is in the target directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
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

const PLUGINS: usize = 40;

#[test]
fn forty_libraries_with_thread_locals_open_work_in_all_threads_and_close() {
    let test = "forty_libraries_with_thread_locals_open_work_in_all_threads_and_close";
    if child::case().is_none() {
        let copies = Copies::of(&plugin(true), PLUGINS, "forty");
        return child(test, "forty", &copies.0);
    }
    // One thread is there before the first library, the others come after the last.
    let (loaded, unloaded) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(6)));
    let plugins = Arc::new(std::sync::OnceLock::<Vec<Plugin>>::new());
    let use_all = |plugins: &[Plugin]| {
        for round in 1..=3 {
            for (i, plugin) in plugins.iter().enumerate() {
                plugin.work();
                assert_eq!(
                    (plugin.count)(i),
                    round,
                    "another library's thread-local storage"
                );
            }
        }
    };
    let early = {
        let (loaded, unloaded, plugins) = (loaded.clone(), unloaded.clone(), plugins.clone());
        thread::spawn(move || {
            loaded.wait();
            use_all(plugins.get().expect("loaded"));
            unloaded.wait();
            unloaded.wait();
        })
    };
    let folder = named();
    let opened = (0..PLUGINS).map(|i| {
        Plugin::open(&Copies::path(&folder, i)).unwrap_or_else(|why| panic!("library {i}: {why}"))
    });
    assert!(plugins.set(opened.collect()).is_ok());
    loaded.wait();
    let late: Vec<_> = (0..4)
        .map(|_| {
            let (unloaded, plugins) = (unloaded.clone(), plugins.clone());
            thread::spawn(move || {
                use_all(plugins.get().expect("loaded"));
                unloaded.wait();
                unloaded.wait();
            })
        })
        .collect();
    use_all(plugins.get().expect("loaded"));
    unloaded.wait();
    for plugin in plugins.get().expect("loaded") {
        plugin.unload();
    }
    unloaded.wait();
    for thread in late.into_iter().chain([early]) {
        thread.join().expect("a thread of the host");
    }
    child::report("done", "yes");
}

/// The same library without the feature: shows that the tests above can fail. Elsewhere than on x86_64 the feature changes
/// nothing.
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
#[test]
fn without_the_feature_the_loader_has_no_room_for_thread_locals() {
    let test = "without_the_feature_the_loader_has_no_room_for_thread_locals";
    if child::case().is_none() {
        return child(test, "refused", &plugin(false));
    }
    let why = Plugin::open(&named()).err();
    assert!(
        why.as_ref().is_some_and(|why| why.contains("static TLS")),
        "{why:?}"
    );
    child::report("done", "yes");
}

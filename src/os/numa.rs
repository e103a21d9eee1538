//! NUMA nodes: how many there are, and on which of them a thread runs.
//!
//! They are counted once, before the first mapping, from the kernel's list of the nodes that have CPUs. If the list is
//! unreadable, there is one node. A node is known by its place in that list, not by the kernel's id, because ids may have gaps.
//! From the ninth on, nodes share places with the first ones. With one node the kernel is never asked again.
//!
//! Tests pretend to have nodes: no machine of several nodes has run this.

use super::memory;
use super::sys;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Most nodes that are told apart.
pub(crate) const MOST: usize = 8;
/// Ids the kernel can give (`CONFIG_NODES_SHIFT` is at most 10).
const IDS: usize = 1024;
const WORDS: usize = IDS / 64;

/// A node: its place in the list of nodes, below [`count`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Node(u8);

impl Node {
    pub(crate) const FIRST: Node = Node(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// The node as a number, to be kept in an atomic.
    pub(crate) fn number(self) -> u8 {
        self.0
    }

    /// The node with this number.
    pub(crate) fn of_number(number: u8) -> Node {
        Node(number)
    }
}

// Only `init` writes both, under the lock of the start, whose Release publishes them before another thread can use a pool:
// Relaxed.
static COUNT: AtomicUsize = AtomicUsize::new(1);
static LISTED: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

/// A set of node ids, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ids([u64; WORDS]);

impl Ids {
    const NONE: Ids = Ids([0; WORDS]);

    /// Adds a list in the kernel's format: `0`, `0-3`, `0,2-5`. `None` for anything else.
    #[inline(always)]
    fn add(&mut self, text: &[u8]) -> Option<()> {
        for range in text.trim_ascii().split(|byte| *byte == b',') {
            let mut ends = range.splitn(2, |byte| *byte == b'-');
            let first = id(ends.next()?)?;
            let last = match ends.next() {
                Some(last) => id(last)?,
                None => first,
            };
            if first > last {
                return None;
            }
            for id in first..=last {
                self.0[id / 64] |= 1 << (id % 64);
            }
        }
        Some(())
    }

    fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many ids of the set are smaller than `id`.
    fn below(&self, id: usize) -> usize {
        let id = id.min(IDS - 1);
        let whole: u32 = self.0[..id / 64].iter().map(|word| word.count_ones()).sum();
        let part = self.0[id / 64] & ((1 << (id % 64)) - 1);
        (whole + part.count_ones()) as usize
    }

    /// The id at this place of the list.
    fn at(&self, place: usize) -> Option<usize> {
        (0..IDS)
            .filter(|id| self.0[id / 64] & 1 << (id % 64) != 0)
            .nth(place)
    }
}

/// A decimal number below [`IDS`], and nothing else.
fn id(text: &[u8]) -> Option<usize> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    memory::number(text).filter(|id| *id < IDS)
}

fn listed() -> Ids {
    let mut ids = Ids::NONE;
    for (word, listed) in ids.0.iter_mut().zip(&LISTED) {
        *word = listed.load(Relaxed);
    }
    ids
}

/// Where the kernel lists the nodes that have CPUs. A static, and with a null too many to be one of the texts that order.ld puts
/// aside, as every start reads it.
static HAS_CPU: [u8; 34] = *b"/sys/devices/system/node/has_cpu\0\0";

/// Counts the nodes, before anything is mapped and while no other thread is in the allocator.
pub(crate) fn init() {
    #[cfg(test)]
    if super::fake::nodes().is_some_and(|list| note(list.as_bytes())) {
        return;
    }
    // A node without CPUs (CXL memory, say) has no threads and does not count. Few lists are longer than this.
    if !has_cpu().is_some_and(note_file::<64>) {
        look_further();
    }
}

fn has_cpu() -> Option<&'static CStr> {
    CStr::from_bytes_until_nul(&HAS_CPU).ok()
}

/// For a list that is long, and for kernels that lack it. Those without NUMA have neither file.
#[cold]
#[inline(never)]
fn look_further() {
    let _ = has_cpu().is_some_and(note_file::<512>)
        || note_file::<512>(c"/sys/devices/system/node/online");
}

/// Notes the list in a file of one line, shorter than `ROOM`. Returns whether there is one.
#[inline(always)]
fn note_file<const ROOM: usize>(path: &CStr) -> bool {
    let mut buf = [0u8; ROOM];
    let n = sys::read_line(path, &mut buf).unwrap_or(0);
    // A list that fills the buffer may have been cut.
    n < ROOM && note(buf.get(..n).unwrap_or(&[]))
}

/// Notes the nodes of this list. Returns whether it is one.
fn note(text: &[u8]) -> bool {
    let mut ids = Ids::NONE;
    if ids.add(text).is_none() {
        return false;
    }
    for (word, listed) in ids.0.iter().zip(&LISTED) {
        listed.store(*word, Relaxed);
    }
    COUNT.store(ids.len().clamp(1, MOST), Relaxed);
    true
}

/// How many nodes are told apart, at least 1.
#[inline]
pub(crate) fn count() -> usize {
    COUNT.load(Relaxed)
}

/// All nodes.
pub(crate) fn all() -> impl Iterator<Item = Node> {
    (0..count()).map(|index| Node(index as u8))
}

/// The node the calling thread runs on at the moment.
///
/// The kernel is asked each time: the call needs nothing of the C library but `errno`, and its 0.1 µs are little beside opening
/// a slab, which faults in pages. A remembered node would be wrong for good once the scheduler moves the thread.
#[inline]
pub(crate) fn here() -> Node {
    if count() == 1 {
        return Node::FIRST;
    }
    among_many()
}

#[cold]
#[inline(never)]
fn among_many() -> Node {
    place_of(sys::current_node(), &listed(), count())
}

fn place_of(id: usize, listed: &Ids, count: usize) -> Node {
    Node((listed.below(id) % count) as u8)
}

/// Makes the kernel take the calling thread's new pages from `node` where it can, for the rest of that thread's life: for
/// threads of the allocator's own. Returns whether the kernel agreed.
pub(crate) fn prefer(node: Node) -> bool {
    let Some(id) = listed().at(node.index()) else {
        return false;
    };
    sys::prefer_node(id).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn parse(text: &str) -> Option<Vec<usize>> {
        let mut ids = Ids::NONE;
        ids.add(text.as_bytes())?;
        let all: Vec<usize> = (0..IDS)
            .filter(|id| ids.0[id / 64] & 1 << (id % 64) != 0)
            .collect();
        assert_eq!(all.len(), ids.len());
        Some(all)
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse("0\n"), Some(Vec::from([0])));
        assert_eq!(parse("0-3"), Some(Vec::from([0, 1, 2, 3])));
        assert_eq!(parse("0,2-5\n"), Some(Vec::from([0, 2, 3, 4, 5])));
        assert_eq!(parse("0,8,1022-1023"), Some(Vec::from([0, 8, 1022, 1023])));
        assert_eq!(parse("0-1023").map(|all| all.len()), Some(IDS));
    }

    #[test]
    fn what_is_no_list_is_none() {
        for text in [
            "",
            "\n",
            "x",
            "0-",
            "-3",
            "3-0",
            "0,,1",
            "0,",
            "0 1",
            "1024",
            "0-1024",
            "0x1",
            "-",
            "0-1-2",
            "99999999999999999999999",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn nodes_are_known_by_their_place_and_share_from_the_ninth_on() {
        let mut ids = Ids::NONE;
        ids.add(b"0,8,16-18,64,100-105").expect("a list");
        assert_eq!(ids.len(), 12);
        let place = |id| place_of(id, &ids, MOST).index();
        assert_eq!([place(0), place(8), place(16), place(18)], [0, 1, 2, 4]);
        assert_eq!([place(64), place(100), place(101)], [5, 6, 7]);
        assert_eq!([place(102), place(105)], [0, 3], "shared");
        // An id that appeared later, and one that no kernel has.
        assert!(place(70) < MOST && place(usize::MAX) < MOST);
        for (at, id) in [0, 8, 16, 17, 18, 64, 100].into_iter().enumerate() {
            assert_eq!(ids.at(at), Some(id));
            assert_eq!(ids.below(id), at);
        }
        assert_eq!(ids.at(12), None);
    }

    #[test]
    fn a_thread_can_be_given_a_preference_or_is_told_that_it_cannot() {
        use super::super::sys::Errno;
        std::thread::spawn(|| match sys::prefer_node(0) {
            // Refused by a kernel without NUMA, or by a sandbox.
            Ok(()) | Err(Errno::ENOSYS | Errno::EPERM) => {
                assert!(sys::prefer_node(IDS - 1).is_err(), "no such node here");
            }
            Err(other) => panic!("{other}"),
        })
        .join()
        .expect("the thread");
    }
}

//! The report of a mistake of the program, before the process ends. It is written without allocating: one line first, alone, then
//! the calls that led to it, and what to do next.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use crate::base::tuning::reports::{CALLS, FIRST_MS, READER_MS};
use crate::knobs;
use crate::os::context::Registers;
use crate::os::faults;
use crate::os::message::{self, message};
use crate::os::modules::{At, Maps, Module, Quoted};
use crate::os::stack::{self, End, UNCERTAIN};
use crate::os::{sys, thread};

/// What to do about a mistake of which no more is known.
const CHECK_EACH: &str = "run it again with HAKMEM_CHECK_ONE_IN=1: every block is checked then; and send all of these lines to whoever maintains the program";
/// The same, if every block is checked.
const SEND_ALL: &str = "send all of these lines to whoever maintains the program";

/// What to do about a call that names no block of those that are known one by one.
pub(crate) const WHERE_FROM: &str = "look where this call has its address from; a block is named by the address that its allocation returned";
/// About a block that is free already.
pub(crate) const ONE_TOO_MANY: &str =
    "one of the two calls is too many: find out which of them owned the block";
/// About a wrong size.
pub(crate) const NAME_THE_SIZE: &str =
    "name the size that was asked for, or the same layout, where the block is given back";

/// A mistake of the program.
pub(crate) struct Report<'a> {
    /// The first line.
    pub(crate) what: fmt::Arguments<'a>,
    /// The return addresses of the call that freed the block before, newest first, if they are known. 0 ends them.
    pub(crate) freed: Option<&'a [usize]>,
    /// Those of the call that allocated it.
    pub(crate) allocated: Option<&'a [usize]>,
    /// What to do next.
    pub(crate) advice: &'a str,
}

/// What to do about a mistake with a block that is not checked.
pub(crate) fn check_each() -> &'static str {
    match knobs::known() {
        Some(knobs) if knobs.check_one_in == 1 => SEND_ALL,
        _ => CHECK_EACH,
    }
}

/// The thread that reports, as [`thread::me`] names it; 0 for none. Only compared with a thread's own, so Relaxed.
static REPORTER: AtomicUsize = AtomicUsize::new(0);

impl<'a> Report<'a> {
    /// Of a mistake that was found without knowing more of the block.
    pub(crate) fn of(what: fmt::Arguments<'a>) -> Report<'a> {
        Report {
            what,
            freed: None,
            allocated: None,
            advice: check_each(),
        }
    }

    /// Ends the process. The first line goes out before anything else is looked at.
    ///
    /// Of several threads, one reports. The others wait for a while, and then write their lines alone. A thread that makes a
    /// mistake in its handler of SIGABRT has reported: it writes the line alone, and the handler is not called again.
    #[cold]
    #[inline(never)]
    pub(crate) fn end(&self) -> ! {
        self.end_at(None)
    }

    /// As [`Report::end`], for an access of this thread that was interrupted there.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_at(&self, access: Option<Registers>) -> ! {
        let me = thread::me();
        match REPORTER.compare_exchange(0, me, Relaxed, Relaxed) {
            Ok(_) => message::die_after(self.what, || sys::preserve_errno(|| self.tell(access))),
            Err(other) if other != me => {
                for _ in 0..FIRST_MS / 10 {
                    sys::sleep_us(10_000);
                }
                message::die(self.what)
            }
            Err(_) => {
                // The handler has had its turn, and would have others without end.
                faults::forget_abort_handler();
                message::die(self.what)
            }
        }
    }

    /// Writes what follows the first line, and all of it to the file of `HAKMEM_REPORT_FILE`.
    fn tell(&self, access: Option<Registers>) {
        // SAFETY: the calling thread is the only one that ever reports.
        unsafe {
            let room = &mut *ROOM.0.get();
            faults::end_by_abort(|| self.write(room, access));
        }
    }

    fn write(&self, room: &mut Room, access: Option<Registers>) {
        let pid = thread::pid();
        let path = knobs::known().and_then(|knobs| knobs.report_file());
        // A pipe that nobody reads must not stop the process, which is to end.
        let how = libc::O_APPEND | libc::O_NONBLOCK;
        let file = path.and_then(|path| match path.open_to_write(pid, how) {
            Ok(fd) => Some(fd),
            Err(error) => {
                let path = path.as_bytes().escape_ascii();
                message!("HAKMEM_REPORT_FILE={path}: {error}; the report is on stderr only");
                None
            }
        });
        room.out.to = [None, file];
        room.out.line(self.what);
        room.out.to = [message::stderr(), file];
        room.out
            .line(format_args!("process {pid}, thread {}", thread::tid()));
        let mut frames = [0; CALLS];
        let (what, walk) = match access {
            Some(at) => ("this access", stack::walk_from(at, &mut frames)),
            None => ("this call", stack::walk(&mut frames)),
        };
        room.stack(what, frames.get(..walk.count).unwrap_or(&[]), true);
        if walk.certain < walk.count {
            room.out.line(format_args!(
                "  (from #{} on by frame pointers, as the code has no unwind table: a caller may be missing)",
                walk.certain
            ));
        }
        match walk.end {
            End::Whole => {}
            End::Full => room.out.line(format_args!("  (older calls are left out)")),
            End::Lost => room.out.line(format_args!(
                "  (older calls are not known: the code has neither an unwind table nor a frame pointer)"
            )),
        }
        for (what, stack) in [
            ("the free before", self.freed),
            ("the allocation", self.allocated),
        ] {
            if let Some(stack) = stack {
                room.stack(what, stack, false);
            }
        }
        room.out.line(format_args!("next: {}", self.advice));
        if let Some(fd) = file {
            // It may have the number of stderr, which the program's handler of SIGABRT writes to.
            let _ = sys::close(fd);
        }
    }
}

/// What a report is made in: the stack of the thread may be small.
struct Room {
    out: Out,
    maps: Maps,
    module: Module,
}

struct OneRoom(UnsafeCell<Room>);

// SAFETY: one thread uses it, which `REPORTER` names.
unsafe impl Sync for OneRoom {}

static ROOM: OneRoom = OneRoom(UnsafeCell::new(Room {
    out: Out::new(),
    maps: Maps::new(),
    module: Module::new(),
}));

impl Room {
    /// The calls, newest first, and for each file they are in the command that names their lines.
    ///
    /// What is stored of a call is where it returns to. What is written is the byte before, which lies in the call itself. If the
    /// stack `is_now`, each call is in a file that is still there.
    fn stack(&mut self, what: &str, stack: &[usize], is_now: bool) {
        let Room { out, maps, module } = self;
        // A store of blocks has the same room for each stack.
        let stack = stack.split(|&address| address == 0).next().unwrap_or(&[]);
        if stack.is_empty() {
            return out.line(format_args!("{what}: not known"));
        }
        out.line(format_args!("{what}:"));
        let mut starts = [0; CALLS];
        // On the stack in use the bit may be one of a damaged word.
        let mark = if is_now { 0 } else { UNCERTAIN };
        let searched = stack.iter().position(|&address| address & mark != 0);
        let mut calls = [0; CALLS];
        let stack = clear(stack, mark, &mut calls);
        for (i, (&address, start)) in stack.iter().zip(&mut starts).enumerate() {
            let call = address.wrapping_sub(1);
            let known = module.find(call, maps);
            if is_now && module.is_no_code() {
                out.line(format_args!(
                    "  (what is said to come next, {address:#x}, is no code: older calls are not known)"
                ));
                break;
            }
            if known {
                out.line(format_args!("  #{i} {call:#x} {}", At(module, call)));
                *start = if module.is_file() { module.start() } else { 0 };
            } else {
                out.line(format_args!("  #{i} {call:#x}"));
            }
        }
        if let Some(from) = searched {
            out.line(format_args!(
                "  (from #{from} on not by unwind tables alone: calls that have returned may be among them; HAKMEM_CHECK_ONE_IN=1 reads all tables)"
            ));
        }
        for (i, &start) in starts.iter().enumerate() {
            let first = starts.iter().position(|&other| other == start) == Some(i);
            let Some(&address) = stack.get(i) else { break };
            if start == 0 || !first || !module.find(address.wrapping_sub(1), maps) {
                continue;
            }
            let calls = stack.iter().zip(&starts).filter(|(_, of)| **of == start);
            out.line(format_args!(
                "  addr2line -Cfpe {}{}",
                Quoted(module.path()),
                fmt::from_fn(|f| calls.clone().try_for_each(|(&address, _)| {
                    write!(f, " {:#x}", module.own_address(address.wrapping_sub(1)))
                }))
            ));
        }
    }
}

/// The addresses without the bit `mark`.
fn clear<'a>(stack: &[usize], mark: usize, to: &'a mut [usize; CALLS]) -> &'a [usize] {
    for (to, &address) in to.iter_mut().zip(stack) {
        *to = address & !mark;
    }
    to.get(..stack.len()).unwrap_or(&[])
}

/// Lines for up to two descriptors, each written by one call if it fits.
struct Out {
    to: [Option<i32>; 2],
    bytes: [u8; Out::ROOM],
    len: usize,
}

impl Out {
    const ROOM: usize = 2048;

    const fn new() -> Out {
        Out {
            to: [None; 2],
            bytes: [0; Out::ROOM],
            len: 0,
        }
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        // Nothing here fails, and a failing Display only shortens the line.
        let _ = self.write_str(message::PREFIX);
        let _ = self.write_fmt(text);
        let _ = self.write_str("\n");
        self.flush();
    }

    fn flush(&mut self) {
        let text = self.bytes.get(..self.len).unwrap_or(&[]);
        for to in &mut self.to {
            // A pipe that nobody reads must not stop the process, which is to end. A page of it is free if it can be written to.
            if to.is_some_and(|fd| !message::can_write(fd, READER_MS)) {
                *to = None;
            }
            // There is nowhere to report a failed report.
            let _ = to.map(|fd| sys::write_all(fd, text));
        }
        self.len = 0;
    }
}

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len == self.bytes.len() {
                self.flush();
            }
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(miri)))]
#[path = "tell_tests.rs"]
mod tests;

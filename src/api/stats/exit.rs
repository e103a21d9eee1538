//! Statistics when the process ends, for `HAKMEM_STATS`: to stderr, or to the file of `HAKMEM_STATS_FILE`.
#![forbid(unsafe_code)]

use core::fmt::{self, Write};

use super::Stats;
use crate::knobs::{PathBytes, StatsMode};
use crate::os::message::{message, stderr};
use crate::os::sys::{self, Errno};

/// Prints `stats` in the form that `mode` selects; `pid` replaces `%p` in `file`. The text is built in `room` and written by
/// one call if it fits, so that the output of several processes does not mix. It neither allocates nor changes `errno`. If the
/// file cannot be written, one line on stderr says so, and the statistics follow there.
pub(crate) fn print(
    stats: &Stats,
    room: &mut [u8],
    mode: StatsMode,
    file: Option<&PathBytes>,
    pid: u32,
) {
    if mode == StatsMode::Off {
        return;
    }
    sys::preserve_errno(|| {
        if let Some(path) = file {
            match write_file(stats, room, mode, path, pid) {
                Ok(()) => return,
                Err(error) => {
                    message!(
                        "HAKMEM_STATS_FILE={}: {error}; using stderr",
                        path.as_bytes().escape_ascii()
                    );
                }
            }
        }
        if let Some(fd) = stderr() {
            // There is nowhere to report a failed report.
            let _ = write(stats, room, mode, pid, fd);
        }
    });
}

fn write_file(
    stats: &Stats,
    room: &mut [u8],
    mode: StatsMode,
    path: &PathBytes,
    pid: u32,
) -> Result<(), Errno> {
    let fd = path.open_to_write(pid, libc::O_TRUNC)?;
    let written = write(stats, room, mode, pid, fd);
    // A file system may report only at close that the text did not fit.
    written.and(sys::close(fd))
}

fn write(stats: &Stats, room: &mut [u8], mode: StatsMode, pid: u32, fd: i32) -> Result<(), Errno> {
    let mut out = Buffered {
        fd,
        bytes: room,
        len: 0,
        outcome: Ok(()),
    };
    // `Buffered` records its error, and the formatting itself has none.
    let _ = match mode {
        StatsMode::Off => Ok(()),
        StatsMode::Text => write!(out, "hakmem: statistics of process {pid}\n{stats}"),
        StatsMode::Full => write!(out, "hakmem: statistics of process {pid}\n{stats:#}"),
        StatsMode::Json => stats
            .write_json(&mut out)
            .and_then(|()| out.write_str("\n")),
    };
    out.flush();
    out.outcome
}

/// A descriptor with a buffer.
struct Buffered<'a> {
    fd: i32,
    bytes: &'a mut [u8],
    len: usize,
    /// The first failure; nothing is written after it.
    outcome: Result<(), Errno>,
}

impl Buffered<'_> {
    fn flush(&mut self) {
        if self.outcome.is_ok() {
            self.outcome = sys::write_all(self.fd, self.bytes.get(..self.len).unwrap_or(&[]));
        }
        self.len = 0;
    }
}

impl fmt::Write for Buffered<'_> {
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
        self.outcome.map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::{self, Call};

    /// A path in the temporary directory that no other test uses, removed when dropped.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(std::format!("hakmem-stats-{}-{name}", std::process::id()));
            // Usually there is nothing there.
            let _ = std::fs::remove_file(&path);
            Self(path)
        }

        fn knob(&self, suffix: &str) -> PathBytes {
            use std::os::unix::ffi::OsStrExt;
            let mut bytes = self.0.as_os_str().as_bytes().to_vec();
            bytes.extend_from_slice(suffix.as_bytes());
            PathBytes::new(&bytes).expect("a short path")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            // A test that failed before it wrote has nothing to remove.
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_file_gets_the_whole_text_and_replaces_the_old_one() {
        let scratch = Scratch::new("4711");
        let knob = Scratch(
            scratch
                .0
                .with_file_name(std::format!("hakmem-stats-{}-", std::process::id())),
        )
        .knob("%p");
        std::fs::write(&scratch.0, "x".repeat(100_000)).expect("writable");
        let stats = super::super::tests::sample();
        let room = &mut [0; 64 << 10];
        fake::clear();
        print(&stats, room, StatsMode::Text, Some(&knob), 4711);
        assert_eq!(fake::calls().of(Call::Write), 1, "one write for all of it");
        let text = std::fs::read_to_string(&scratch.0).expect("written");
        assert_eq!(
            text,
            std::format!("hakmem: statistics of process 4711\n{stats}")
        );
        // With little room it takes several writes.
        fake::clear();
        print(&stats, &mut [0; 100], StatsMode::Text, Some(&knob), 4711);
        assert!(fake::calls().of(Call::Write) as usize >= text.len() / 100);
        assert_eq!(std::fs::read_to_string(&scratch.0).expect("written"), text);

        print(&stats, room, StatsMode::Json, Some(&knob), 4711);
        let mut json = std::string::String::new();
        stats
            .write_json(&mut json)
            .expect("a string takes everything");
        assert_eq!(
            std::fs::read_to_string(&scratch.0).expect("written"),
            json + "\n"
        );
    }

    #[test]
    fn nothing_is_written_unless_asked() {
        let scratch = Scratch::new("off");
        let room = &mut [0; 100];
        print(
            &Stats::empty(),
            room,
            StatsMode::Off,
            Some(&scratch.knob("")),
            1,
        );
        assert!(!scratch.0.exists());
    }

    #[test]
    fn every_failure_is_returned_and_the_descriptor_closed() {
        let room = &mut [0; 100];
        let stats = super::super::tests::sample();
        let scratch = Scratch::new("failing");
        let knob = scratch.knob("");
        for (call, error) in [
            (Call::Open, Errno::EACCES),
            (Call::Write, Errno::ENOSPC),
            (Call::Close, Errno::EIO),
        ] {
            fake::fail_kind(call, 1, error);
            assert_eq!(
                write_file(&stats, room, StatsMode::Text, &knob, 1),
                Err(error)
            );
            let closed = fake::calls().of(Call::Close);
            fake::clear();
            assert_eq!(closed, u32::from(error != Errno::EACCES));
        }
        fake::fail_kind(Call::Write, 1, Errno::EINTR);
        assert_eq!(
            write_file(&stats, room, StatsMode::Text, &knob, 1),
            Ok(()),
            "a signal is no failure"
        );
        fake::clear();
        assert_eq!(
            write_file(&stats, room, StatsMode::Text, &scratch.knob("/below"), 1),
            Err(Errno(libc::ENOTDIR))
        );
    }
}

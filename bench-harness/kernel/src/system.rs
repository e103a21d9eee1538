//! What the system's files say of this machine.

use std::path::{Path, PathBuf};

/// A file without the white space around it; nothing where it cannot be read.
pub fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|s| s.trim().to_owned())
}

/// What is chosen in a file that marks its choice by brackets, as sysfs does.
pub fn chosen(path: &str) -> Option<String> {
    read(path).map(|text| bracketed(&text).to_owned())
}

fn bracketed(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(word, _)| word)
}

/// The value of a line `name: value`, the name without what it is padded with.
pub fn field(text: &str, name: &str) -> Option<String> {
    let value = |line: &str| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim().to_owned());
    text.lines().find_map(value)
}

/// A line of /proc/meminfo, in KiB; 0 where it is not known.
pub fn meminfo_kib(name: &str) -> u64 {
    let value = read("/proc/meminfo").and_then(|text| field(&text, name));
    value.and_then(|v| v.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Memory that could be had without swapping and without the control group's end, in bytes.
pub fn available_bytes() -> u64 {
    let all = meminfo_kib("MemAvailable") << 10;
    cgroup_left().map_or(all, |left| left.min(all))
}

/// What the control group leaves, where it has a limit.
pub fn cgroup_left() -> Option<u64> {
    let text = read("/proc/self/cgroup")?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    let group = PathBuf::from(format!("/sys/fs/cgroup{path}"));
    let groups = group.ancestors().take_while(|g| g.starts_with("/sys/fs/cgroup"));
    let left = |group: &Path| {
        let number = |name: &str| read(group.join(name))?.parse::<u64>().ok();
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    };
    groups.filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_choices() {
        let text = "model name\t: Some CPU\nMemTotal:       24684504 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU"));
        assert_eq!((field(text, "MemTotal").as_deref(), field(text, "Mem")), (Some("24684504 kB"), None));
        assert_eq!((bracketed("always [madvise] never"), bracketed("1")), ("madvise", "1"));
        assert!(meminfo_kib("MemTotal") > 0);
    }
}

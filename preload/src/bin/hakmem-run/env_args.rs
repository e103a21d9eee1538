//! What `env` would run, from its arguments as GNU's and busybox's `env` read them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What a call of `env` runs.
#[derive(Debug, PartialEq)]
pub(crate) enum Target {
    /// No program, or one that cannot be determined.
    None,
    /// This one, with these arguments.
    Program(OsString, Vec<OsString>),
    /// A program that would run without the library, and why.
    Without(&'static str),
}

const CLEARED: &str = "-i clears LD_PRELOAD; the program would run without the library";
const UNSET: &str = "takes LD_PRELOAD away; the program would run without the library";

/// Reads the arguments of `env`.
pub(crate) fn target(args: &[OsString]) -> Target {
    let mut rest: VecDeque<OsString> = args.iter().cloned().collect();
    let mut without = None;
    let mut options = true;
    while let Some(arg) = rest.pop_front() {
        let bytes = arg.as_bytes();
        match bytes {
            b"--" if options => options = false,
            b"-" if options => without = Some(CLEARED),
            _ if options && bytes.starts_with(b"--") => {
                let text = &bytes[2..];
                let (name, value) = match text.iter().position(|&b| b == b'=') {
                    Some(at) => (&text[..at], Some(text[at + 1..].to_vec())),
                    None => (text, None),
                };
                let mut value = || value.clone().or_else(|| Some(rest.pop_front()?.into_vec()));
                match name {
                    b"ignore-environment" => without = Some(CLEARED),
                    b"unset" if value().as_deref() == Some(b"LD_PRELOAD") => without = Some(UNSET),
                    b"chdir" | b"argv0" => drop(value()),
                    b"split-string" => match value().and_then(|text| split(&text)) {
                        Some(words) => prepend(&mut rest, words),
                        None => return Target::None,
                    },
                    _ => {}
                }
            }
            _ if options && bytes.len() > 1 && bytes[0] == b'-' => {
                for (at, letter) in bytes.iter().enumerate().skip(1) {
                    let mut value = || {
                        let here = &bytes[at + 1..];
                        let mut next = || Some(rest.pop_front()?.into_vec());
                        if here.is_empty() {
                            next()
                        } else {
                            Some(here.to_vec())
                        }
                    };
                    match letter {
                        b'i' => without = Some(CLEARED),
                        b'u' => {
                            if value().as_deref() == Some(b"LD_PRELOAD") {
                                without = Some(UNSET);
                            }
                            break;
                        }
                        b'C' | b'a' => {
                            drop(value());
                            break;
                        }
                        b'S' => {
                            match value().and_then(|text| split(&text)) {
                                Some(words) => prepend(&mut rest, words),
                                None => return Target::None,
                            }
                            break;
                        }
                        _ => {}
                    }
                }
            }
            _ if bytes.contains(&b'=') => {
                options = false;
                if bytes.starts_with(b"LD_PRELOAD=") {
                    without = Some(UNSET);
                }
            }
            _ => {
                return match without {
                    Some(why) => Target::Without(why),
                    None => Target::Program(arg, rest.into()),
                };
            }
        }
    }
    Target::None
}

fn prepend(rest: &mut VecDeque<OsString>, words: Vec<OsString>) {
    for word in words.into_iter().rev() {
        rest.push_front(word);
    }
}

/// The words of a text, split at unquoted blanks. `None` if it names variables, whose values would decide.
fn split(text: &[u8]) -> Option<Vec<OsString>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'$', None | Some(b'"')) => return None,
            (b'\\', None | Some(b'"')) => match bytes.next() {
                Some(b'_') if quote.is_none() => words.extend(word.take()),
                Some(b'c') => break,
                Some(next) => word.get_or_insert_default().push(next),
                None => break,
            },
            (_, Some(open)) if byte == open => quote = None,
            (b'"' | b'\'', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (b'#', None) if word.is_none() => break,
            (b' ' | b'\t' | b'\n' | 11 | 12 | b'\r', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Some(words.into_iter().map(OsString::from_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Target {
        target(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn program(name: &str, args: &[&str]) -> Target {
        Target::Program(name.into(), args.iter().map(OsString::from).collect())
    }

    #[test]
    fn options_and_assignments_stand_before_the_program() {
        assert_eq!(of(&["sh", "-c", "x"]), program("sh", &["-c", "x"]));
        assert_eq!(of(&["-u", "A", "-C/tmp", "B=1", "sh"]), program("sh", &[]));
        assert_eq!(
            of(&["--unset=A", "--chdir", "/", "--", "sh"]),
            program("sh", &[])
        );
        assert_eq!(of(&["-v", "A=-i", "sh", "-i"]), program("sh", &["-i"]));
        assert_eq!(of(&["A=1"]), Target::None);
        assert_eq!(of(&[]), Target::None);
    }

    #[test]
    fn a_split_string_is_split_as_env_does() {
        assert_eq!(
            of(&["-S", "busybox sh", "x"]),
            program("busybox", &["sh", "x"])
        );
        assert_eq!(
            of(&["-S busybox sh", "x"]),
            program("busybox", &["sh", "x"])
        );
        assert_eq!(
            of(&["-vSA=1 'a b' \"c d\" e\\ f # g"]),
            program("a b", &["c d", "e f"])
        );
        assert_eq!(
            of(&["--split-string=-u B env -S sh"]),
            program("env", &["-S", "sh"])
        );
        assert_eq!(of(&["-S", "${X} sh"]), Target::None);
    }

    #[test]
    fn what_takes_the_library_away_is_seen() {
        for args in [
            &["-i", "sh"][..],
            &["-", "sh"],
            &["--ignore-environment", "sh"],
            &["-vi", "A=1", "sh"],
            &["-u", "LD_PRELOAD", "sh"],
            &["-uLD_PRELOAD", "sh"],
            &["--unset=LD_PRELOAD", "sh"],
            &["LD_PRELOAD=", "sh"],
            &["-S-i sh"],
        ] {
            assert!(matches!(of(args), Target::Without(_)), "{args:?}");
        }
        // Nothing is run.
        assert_eq!(of(&["-i"]), Target::None);
    }
}

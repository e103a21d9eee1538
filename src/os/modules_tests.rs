use super::*;
use std::format;
use std::string::ToString;

#[test]
fn lines_are_taken_apart() {
    let line =
        b"7f12a000-7f12b000 r-xp 00001000 08:01 12345                      /a b/lib'c.so (deleted)";
    let mapping = Mapping::parse(line).expect("a line of the kernel's");
    assert_eq!(
        (mapping.start, mapping.end, mapping.offset),
        (0x7f12_a000, 0x7f12_b000, 0x1000)
    );
    assert_eq!(mapping.path, b"/a b/lib'c.so (deleted)");
    let anonymous =
        Mapping::parse(b"7f12a000-7f12b000 rw-p 00000000 00:00 0 ").expect("one without a path");
    assert_eq!(anonymous.path, b"");
    let anonymous =
        Mapping::parse(b"7f12a000-7f12b000 rw-p 00000000 00:00 0").expect("one without a path");
    assert_eq!(anonymous.path, b"");
    for wrong in [
        &b""[..],
        b"7f12a000",
        b"7f12-7f13 r-xp",
        b"x-y r-xp 0 08:01 1 /a",
    ] {
        assert!(Mapping::parse(wrong).is_none());
    }
}

#[test]
fn the_code_of_this_test_is_in_its_file() {
    let exe = std::env::current_exe().expect("the path of this program");
    let (mut module, mut maps) = (Module::new(), Maps::new());
    let here = the_code_of_this_test_is_in_its_file as *const () as usize;
    assert!(module.find(here, &mut maps));
    assert_eq!(module.path(), exe.to_str().expect("UTF-8").as_bytes());
    assert!(module.is_file() && module.start() <= here && module.own_address(here) <= here);
    let shown = At(&module, here).to_string();
    assert!(
        shown.starts_with(&format!("{}+0x", exe.display())),
        "{shown}"
    );
    // What the file says of itself.
    let notes = std::process::Command::new("readelf")
        .arg("-n")
        .arg(&exe)
        .output();
    let said = notes.map(|done| std::string::String::from_utf8_lossy(&done.stdout).into_owned());
    if let Some((_, id)) = said.unwrap_or_default().split_once("Build ID: ") {
        let id = id.lines().next().expect("a line");
        assert!(
            shown.ends_with(&format!(" (build id {id})")),
            "{shown} {id}"
        );
    }
}

#[test]
fn what_is_no_file_has_no_module() {
    let (mut module, mut maps) = (Module::new(), Maps::new());
    let heap = std::boxed::Box::new(1_u64);
    for addr in [
        (&raw const *heap).addr(),
        (&raw const module).addr(),
        0,
        8,
        usize::MAX,
    ] {
        assert!(!module.find(addr, &mut maps), "{addr:#x}");
    }
}

#[test]
fn paths_are_shown_for_a_terminal_and_for_a_shell() {
    assert_eq!(
        Plain(b"/a\x1b[31m\n\xff\xc3\xa9").to_string(),
        "/a?[31m??\u{e9}"
    );
    assert_eq!(
        Quoted(b"/usr/lib/x.so.1+a").to_string(),
        "/usr/lib/x.so.1+a"
    );
    assert_eq!(Quoted(b"/a b/it's").to_string(), r"'/a b/it'\''s'");
    assert_eq!(Quoted(b"$(x)").to_string(), "'$(x)'");
}

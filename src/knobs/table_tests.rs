//! The table is sound, and env-knobs.md says what its rows say.

use super::*;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

#[test]
fn the_table_is_sound() {
    for row in &TABLE {
        assert!(row.name.starts_with("HAKMEM_") && !row.name.starts_with("HAKMEM_BENCH_"));
        assert!(
            row.by_profile.iter().all(|&raw| row.kind.allows(raw)),
            "{}",
            row.name
        );
        assert!(
            TABLE.iter().filter(|other| other.name == row.name).count() == 1,
            "{} twice",
            row.name
        );
        for text in [row.doc.what, row.doc.cost, row.doc.when] {
            assert!(
                text.ends_with('.') && !text.contains('|') && !text.contains('\n'),
                "{}: {text}",
                row.name
            );
        }
    }
}

/// What env-knobs.md must contain: a section for each knob, and the table of the profiles.
fn documented() -> [String; 2] {
    let section = |row: &Row| {
        let default = row.kind.show(row.by_profile[Profile::Balanced as usize]);
        format!(
            "### `{}`\n\n*Values:* {}. *Default:* {default}.\n\n{}\n\n- **What it costs.** {}\n- **When to use it.** {}\n",
            row.name, row.kind, row.doc.what, row.doc.cost, row.doc.when
        )
    };
    let sections: Vec<String> = TABLE.iter().map(section).collect();
    let mut profiles =
        String::from("| Knob | speed | balanced | lean | hardened |\n|---|---|---|---|---|\n");
    for row in TABLE
        .iter()
        .filter(|row| row.by_profile.iter().any(|&raw| raw != row.by_profile[0]))
    {
        let [speed, balanced, lean, hardened] =
            row.by_profile.map(|raw| row.kind.show(raw).to_string());
        profiles += &format!(
            "| `{}` | {speed} | {balanced} | {lean} | {hardened} |\n",
            row.name
        );
    }
    [sections.join("\n"), profiles]
}

#[test]
fn env_knobs_md_has_the_rows_of_the_table() {
    let file = include_str!("../../env-knobs.md");
    for text in documented() {
        assert!(
            file.contains(&text),
            "env-knobs.md should hold this:\n{text}"
        );
    }
    assert_eq!(file.matches("### `HAKMEM_").count(), COUNT, "and no more");
    let rows = file.lines().filter(|l| l.starts_with("| `")).count();
    assert_eq!(
        rows,
        documented()[1].lines().count() - 2,
        "of the profiles too"
    );
}

//! The rules of the family, by C programs: what glibc does as well is run on both.

mod common;

use common::{OURS, command, compile, run, same_on_both};
use std::time::Duration;

#[test]
fn the_malloc_family_obeys_glibcs_rules() {
    same_on_both("rules.c", &[], "rules hold\n");
}

#[test]
fn newer_rules_hold_too() {
    let program = compile("stricter.c", &[]);
    let ended = run(&mut command(&program, OURS), Duration::from_secs(120));
    assert_eq!(ended.output(), "stricter rules hold\n");
}

#[test]
fn operators_new_and_delete_in_every_form() {
    same_on_both("operators.cpp", &["-std=c++17"], "operators hold\n");
}

#[test]
fn replaced_operators_are_called_by_the_others() {
    same_on_both("replaced.cpp", &["-std=c++17"], "replacements are called\n");
}

mod footprint_tests;
mod fork_tests;
mod nodes_tests;
mod oom_tests;
mod slack_tests;
mod spare_tests;
mod stack_tests;
mod walk_tests;

mod budget_tests;
mod footprint_tests;
mod fork_tests;
mod nodes_tests;
mod oom_tests;
mod stack_bounds_tests;
mod stack_tests;
mod walk_tests;

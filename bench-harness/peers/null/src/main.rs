//! The child that measures nothing: the floor of the harness itself.

fn main() {
    bench_subject::child::main(&bench_subject::raw::NULL, None)
}

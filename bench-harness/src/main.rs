//! The `bench-harness` command; everything is in the library.
fn main() {
    bench_harness::cli::main()
}

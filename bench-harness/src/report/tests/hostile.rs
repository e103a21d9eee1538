//! Files that mean harm or make no sense: the page stays a page.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{assert_self_contained, full};
use crate::latency::{Latency, Percentiles};
use crate::machine::Machine;
use crate::record::{Failure, MemoryPoint};
use crate::report::page;

#[test]
fn hostile_text_stays_text() {
    const HOSTILE: [&str; 6] = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</style></title><iframe srcdoc='x'>",
        "' onload='alert(1)",
        "&lt;b&gt; \u{202e}\0\r\n]]>--><!--",
        "javascript:alert(1)",
    ];
    for text in HOSTILE {
        let text = text.to_owned();
        let mut file = full();
        file.results.truncate(8);
        file.warnings = vec![text.clone()];
        file.machine = Machine {
            cpu: text.clone(),
            kernel: text.clone(),
            arch: text.clone(),
            thp: text.clone(),
            load: text.clone(),
            version: text.clone(),
            command: vec![
                "bench-harness".to_owned(),
                text.clone(),
                "--order-seed".to_owned(),
                text.clone(),
            ],
            environment: vec![format!("HAKMEM_X={text}"), text.clone()],
            ..file.machine
        };
        for case in file
            .results
            .iter_mut()
            .filter(|c| c.allocator == "jemalloc")
        {
            case.allocator = text.clone();
            case.failures.push(Failure {
                round: usize::MAX,
                error: text.clone(),
            });
        }
        let page = page(&file);
        assert_self_contained(&page);
        let shown = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;");
        assert!(page.contains(&shown), "{text:?} is not shown");
    }
}

#[test]
fn no_figure_breaks_a_chart() {
    let mut random = StdRng::seed_from_u64(11);
    let odd = [
        0.0,
        -1.0,
        1e-300,
        1e300,
        f64::MIN_POSITIVE,
        f64::MAX,
        1.0,
        1e6,
        3e8,
    ];
    for _ in 0..30 {
        let mut file = full();
        file.results.truncate(24);
        for case in &mut file.results {
            let float = |r: &mut StdRng| odd[r.random_range(0..odd.len())];
            let whole = |r: &mut StdRng| [0, 1, 77, u64::MAX / 2][r.random_range(0..4)];
            let runs = random.random_range(0..4);
            case.runs.truncate(runs);
            case.rounds = (0..random.random_range(0..5)).collect();
            for run in &mut case.runs {
                run.ops_per_sec = float(&mut random);
                run.secs = float(&mut random);
                run.user_secs = float(&mut random);
                run.max_rss_kib = whole(&mut random);
                run.rss_end_kib = whole(&mut random);
                run.minor_faults_timed = whole(&mut random);
                run.failed_allocs = whole(&mut random);
                run.memory = (0..random.random_range(0..4))
                    .map(|_| MemoryPoint {
                        secs: float(&mut random),
                        live_kib: whole(&mut random),
                        rss_kib: whole(&mut random),
                    })
                    .collect();
            }
            let percentiles = Percentiles {
                samples: whole(&mut random),
                p50_ns: whole(&mut random),
                p99_ns: whole(&mut random),
                p999_ns: whole(&mut random),
                worst_ns: whole(&mut random),
            };
            case.latency = Some(Latency {
                alloc: percentiles,
                free: percentiles,
            });
            case.instructions_per_op = Some(float(&mut random));
        }
        let page = page(&file);
        assert_self_contained(&page);
        for wrong in ["NaN", "inf%", "inf,", "inf ", "=\"-"] {
            assert!(!page.contains(wrong), "{wrong} in {page}");
        }
    }
}

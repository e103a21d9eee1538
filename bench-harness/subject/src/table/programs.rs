//! The chapter of real programs: what they imitate stands in `programs/real/src/`, a file each.

use super::{ROW, at_most, full, param, quick};
use crate::program;
use crate::record::Series;
use crate::spec::{Kind, Param};
use crate::workload::{Size, Workload};

const SERIES: &[Series] = &[Series::Warm, Series::Aged];
const SCALE: &[Param] =
    &[param("scale", true, Kind::Share(1.0, 0.001, 1000.0), "How much work, as a multiple of the usual").longer()];

/// A program and its sizes; the longest any run of it takes.
const fn row(name: &'static str, about: &'static str, sizes: &'static [Size]) -> Workload {
    Workload {
        name,
        about,
        params: SCALE,
        label: |s| match s.share("scale") {
            1.0 => "usual size".to_owned(),
            scale => format!("{scale} times the usual size"),
        },
        peak: |s| ((700.0 * s.share("scale")) as u64) << 20,
        series: SERIES,
        is_program: true,
        has_floor: false,
        run: program::run,
        sizes,
        ..ROW
    }
}

const SHORT: Size = quick("0.03", SERIES, 0.08);

const fn usual(secs: f64) -> Size {
    at_most(5, full("1", SERIES, secs))
}

pub(super) static WORKLOADS: [Workload; 6] = [
    row(
        "program-json",
        "Real program: parses and prints a JSON document of 50 MB with serde_json",
        &[SHORT, usual(1.8)],
    ),
    row(
        "program-regex",
        "Real program: compiles a hundred patterns and searches a log with regex",
        &[SHORT, usual(1.6)],
    ),
    row("program-index", "Real program: builds and queries an index of HashMap and BTreeMap", &[SHORT, usual(1.8)]),
    row(
        "program-image",
        "Real program: decodes, scales and encodes pictures with image, on several threads",
        &[SHORT, usual(1.6)],
    ),
    row("program-server", "Real program: a tokio server under load on loopback", &[SHORT, usual(0.9)]),
    row("program-store", "Real program: an embedded store, redb, filled and queried", &[SHORT, usual(2.2)]),
];

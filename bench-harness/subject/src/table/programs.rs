//! The chapter of real programs: what they imitate stands in `programs/real/src/`, a file each.

use super::{at_most, fine, full, quick};
use crate::program;
use crate::record::Series;
use crate::spec::{Kind, Param};
use crate::workload::{Size, Workload};

const SERIES: &[Series] = &[Series::Warm, Series::Aged];
const SCALE: &[Param] = &[Param {
    name: "scale",
    place: true,
    kind: Kind::Share(1.0, 0.001, 1000.0),
    variable: None,
    help: "How much work, as a multiple of the usual",
}];

macro_rules! program {
    ($name:literal, $about:literal, $peak_mib:literal, $units:literal, $secs:literal) => {
        Workload {
            name: $name,
            about: $about,
            params: SCALE,
            longer: "scale",
            label: |s| match s.share("scale") {
                1.0 => "usual size".to_owned(),
                scale => format!("{scale} times the usual size"),
            },
            ops: |s| ($units * s.share("scale")) as u64,
            peak: |s| (($peak_mib * s.share("scale")) as u64) << 20,
            check: fine,
            series: SERIES,
            is_program: true,
            has_floor: false,
            bound: None,
            run: program::run,
            sizes: {
                const SIZES: &[Size] = &[quick("0.03", SERIES, 0.08), at_most(5, full("1", SERIES, $secs))];
                SIZES
            },
        }
    };
}

pub(super) static WORKLOADS: [Workload; 6] = [
    program!(
        "program-json",
        "Real program: parses and prints a JSON document of 50 MB with serde_json",
        700.0,
        1e8,
        1.8
    ),
    program!(
        "program-regex",
        "Real program: compiles a hundred patterns and searches a log with regex",
        200.0,
        4e7,
        1.6
    ),
    program!("program-index", "Real program: builds and queries an index of HashMap and BTreeMap", 400.0, 4.6e6, 1.8),
    program!(
        "program-image",
        "Real program: decodes, scales and encodes pictures with image, on several threads",
        200.0,
        8e7,
        1.6
    ),
    program!("program-server", "Real program: a tokio server under load on loopback", 100.0, 1.6e5, 0.9),
    program!("program-store", "Real program: an embedded store, redb, filled and queried", 400.0, 5e5, 2.2),
];

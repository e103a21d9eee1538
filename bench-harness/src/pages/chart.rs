//! The README's chart: each allocator's speed against system malloc, one SVG that is complete in itself.
//!
//! It brings its own ground, so that it can be read on any page, and follows the reader's choice of light or dark.

use maud::{PreEscaped, html};

use crate::figures::Verdict;
use crate::results::{BASE, OURS};
use crate::standings::Standing;
use crate::text;

const STYLE: &str = "text{font:15px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif;fill:#16191f}\
.ground{fill:#fff;stroke:#dfe3e9}.head{font-weight:600;font-size:17px}.dim{fill:#565d6a;font-size:12.5px}\
.bar{fill:#aab2c0}.ours{fill:#1266e3}.line{stroke:#16191f;stroke-width:1.2}.one{stroke:#565d6a;stroke-dasharray:3 3}\
@media (prefers-color-scheme:dark){text{fill:#e8ebf0}.ground{fill:#181c23;stroke:#2c323c}.dim{fill:#a3acba}\
.bar{fill:#667081}.ours{fill:#4c9aff}.line{stroke:#e8ebf0}.one{stroke:#a3acba}}";

const WIDTH: f64 = 760.0;
/// Where the bars begin and where the longest may end.
const LEFT: f64 = 130.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 66.0;
const ROW: f64 = 32.0;

/// The geometric means, the fastest first; system malloc is the line at 1.
pub fn chart(standings: &[Standing], machine: &str) -> String {
    let mut rows: Vec<_> = standings.iter().filter_map(|s| Some((s, s.mean.as_ref()?))).collect();
    rows.retain(|(s, _)| s.name != BASE);
    rows.sort_by(|a, b| b.1.value.total_cmp(&a.1.value));
    let most = rows.iter().map(|(_, m)| m.interval.map_or(m.value, |i| i.1)).fold(1.0, f64::max);
    let at = |value: f64| LEFT + (RIGHT - LEFT) * value / most;
    let bottom = TOP + ROW * rows.len() as f64;
    let height = bottom + 44.0;
    let px = |value: f64| format!("{value:.1}");
    let described: Vec<_> = rows.iter().map(|(s, m)| format!("{} {}", s.name, text::times(m.value))).collect();
    let over = rows.iter().map(|(s, _)| s.ratios.len()).max().unwrap_or(0);
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {height}")) width=(WIDTH) height=(height) role="img"
            aria-label={ "Speed against system malloc: " (described.join(", ")) } {
            style { (PreEscaped(STYLE)) }
            rect.ground x="0.5" y="0.5" width=(WIDTH - 1.0) height=(height - 1.0) rx="10" {}
            text.head x="20" y="30" { "Times as fast as system malloc" }
            text.dim x="20" y="50" { "geometric mean of " (over) " measurements, with its 95 % interval; longer is better" }
            @for (i, (s, mean)) in rows.iter().enumerate() {
                @let y = TOP + ROW * i as f64;
                text x=(LEFT - 12.0) y=(y + 20.0) text-anchor="end" { (s.name) }
                rect.bar.ours[s.name == OURS] x=(LEFT) y=(y + 4.0) width=(px(at(mean.value) - LEFT)) height="22" rx="3" {}
                @if let Some((low, high)) = mean.interval {
                    line.line x1=(px(at(low))) x2=(px(at(high))) y1=(y + 15.0) y2=(y + 15.0) {}
                }
                text x=(px(at(mean.interval.map_or(mean.value, |i| i.1)) + 10.0)) y=(y + 20.0) {
                    (text::times(mean.value)) tspan.dim { "  first in " (s.places.of(Verdict::Faster)) }
                }
            }
            line.one x1=(px(at(1.0))) x2=(px(at(1.0))) y1=(TOP) y2=(bottom + 2.0) {}
            text.dim x=(px(at(1.0))) y=(bottom + 16.0) text-anchor="middle" { "system malloc" }
            text.dim x=(WIDTH - 20.0) y=(height - 12.0) text-anchor="end" { (machine) }
        }
    };
    // A line for each element, so that a change shows what changed.
    svg.into_string().replace("><", ">\n<") + "\n"
}

//! Bar charts as SVG: axes from 0, a value on each bar, and the least and greatest value as a whisker.

use std::fmt::Write;

use crate::report::{Spread, short};
use crate::runner::Regime;

/// One figure of all systems.
#[derive(Debug)]
pub struct Panel {
    pub title: String,
    pub regime: Regime,
    pub bars: Vec<(String, Spread)>,
    /// The bare socket's, which is named and not drawn: beside it some bars could not be seen.
    pub raw: Option<f64>,
    pub less_is_better: bool,
}

const COLUMN: f64 = 450.0;
const BAR: f64 = 18.0;
const HEAD: f64 = 52.0;
const NAME: f64 = 112.0;
/// Room for the value behind the longest bar.
const VALUE: f64 = 66.0;

/// Two panels beside each other.
pub fn draw(panels: &[Panel], caption: &str) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for pair in panels.chunks(2) {
        for (column, panel) in pair.iter().enumerate() {
            draw_panel(&mut body, panel, 10.0 + column as f64 * COLUMN, y);
        }
        let n_bars = pair.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
        y += HEAD + n_bars as f64 * BAR + 18.0;
    }
    let mut captions = String::new();
    for line in caption.split("; ") {
        y += 13.0;
        let _ = writeln!(captions, r##"<text x="10" y="{y}" font-size="10" fill="#777">{}</text>"##, escape(line));
    }
    let (width, height) = (2.0 * COLUMN + 20.0, y + 12.0);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="Helvetica, Arial, sans-serif">
<rect width="{width}" height="{height}" fill="#fff"/>
{body}{captions}</svg>
"##
    )
}

fn draw_panel(svg: &mut String, panel: &Panel, x: f64, y: f64) {
    let better = if panel.less_is_better { "less is better" } else { "more is better" };
    let raw = panel.raw.map_or(String::new(), |raw| format!("; bare socket: {}", short(raw)));
    let subtitle = format!("{}; {better}{raw}", panel.regime.name());
    let _ = writeln!(
        svg,
        r##"<text x="{x}" y="{}" font-size="14" font-weight="bold" fill="#222">{}</text>
<text x="{x}" y="{}" font-size="11" fill="#777">{}</text>"##,
        y + 16.0,
        escape(&panel.title),
        y + 33.0,
        escape(&subtitle)
    );
    let mut bars: Vec<_> = panel.bars.iter().collect();
    bars.sort_by(|(_, a), (_, b)| {
        let order = a.median.total_cmp(&b.median);
        if panel.less_is_better { order } else { order.reverse() }
    });
    let greatest = bars.iter().map(|(_, spread)| spread.greatest).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (COLUMN - NAME - VALUE - 20.0) / greatest;
    let left = x + NAME;
    for (idx, (name, spread)) in bars.iter().enumerate() {
        let top = y + HEAD - 8.0 + idx as f64 * BAR;
        let (color, weight) = if name == "rmi" { ("#d1495b", "bold") } else { ("#7d9db5", "normal") };
        let (width, middle) = ((spread.median * scale).max(0.5), top + BAR / 2.0);
        let (from, to) = (left + spread.least * scale, left + spread.greatest * scale);
        let _ = writeln!(
            svg,
            r##"<text x="{}" y="{}" font-size="11" text-anchor="end" font-weight="{weight}" fill="#222">{}</text>
<rect x="{left}" y="{}" width="{width:.1}" height="{}" fill="{color}"/>
<path d="M{from:.1} {middle}H{to:.1}" stroke="#333" stroke-width="1"/>
<text x="{:.1}" y="{}" font-size="11" font-weight="{weight}" fill="#222">{}</text>"##,
            left - 6.0,
            middle + 4.0,
            escape(name),
            top + 2.0,
            BAR - 4.0,
            to.max(left + width) + 5.0,
            middle + 4.0,
            short(spread.median)
        );
    }
    let bottom = y + HEAD - 8.0 + bars.len() as f64 * BAR;
    let _ = writeln!(svg, r##"<path d="M{left} {}V{bottom}" stroke="#333" stroke-width="1"/>"##, y + HEAD - 8.0);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

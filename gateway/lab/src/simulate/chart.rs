//! Charts as inline SVG: lines over a linear or a logarithmic scale, and dots by row. Numbers have fixed places, so that a chart is the same each
//! time it is drawn.

use std::fmt::Write as _;

use sluicegate_model::escape::html;

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 68.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// A line, or a row of dots.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// The number of its colour in the page's palette.
    pub(super) colour: usize,
    pub(super) points: Vec<(f64, f64)>,
}

/// A scale with its marks.
pub(super) struct Scale {
    from: f64,
    to: f64,
    log: bool,
    marks: Vec<(f64, String)>,
}

impl Scale {
    /// A scale from 0, with about five marks at round numbers.
    pub(super) fn linear(most: f64, unit: &str) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(rough);
        let count = (most / step).ceil() as usize;
        let marks = (0..=count).map(|i| (i as f64 * step, format!("{}{unit}", number(i as f64 * step)))).collect();
        Self { from: 0.0, to: count as f64 * step, log: false, marks }
    }

    /// A scale over all decades between two positive numbers.
    pub(super) fn logarithmic(least: f64, most: f64, unit: &str) -> Self {
        let from = least.max(1e-3).log10().floor();
        let to = most.max(1e-2).log10().ceil().max(from + 1.0);
        let decades = (to - from) as i32;
        let factors: &[f64] = if decades <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let values = (0..=decades).flat_map(|d| factors.iter().map(move |f| f * 10f64.powf(from + f64::from(d))));
        let marks = values.filter(|v| v.log10() <= to + 1e-9).map(|v| (v, format!("{}{unit}", number(v)))).collect();
        Self { from, to, log: true, marks }
    }

    /// A scale from 0 to `to`, with these marks.
    pub(super) fn marked(to: f64, marks: Vec<(f64, String)>) -> Self {
        Self { from: 0.0, to, log: false, marks }
    }

    /// Where on the scale a value lies, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-9).log10() } else { value };
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// A number without needless zeros.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn x_of(scale: &Scale, value: f64) -> f64 {
    LEFT + scale.part(value) * (WIDTH - LEFT - RIGHT)
}

fn frame(svg: &mut String, title: &str, height: f64, x: &Scale, x_title: &str) {
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\">",
        html(title)
    );
    for (value, label) in &x.marks {
        let at = x_of(x, *value);
        let (top, bottom) = (TOP, height - BOTTOM);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{bottom}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            html(label)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" class=\"axis\">{}</text>",
        WIDTH - RIGHT,
        height - 4.0,
        html(x_title)
    );
}

/// Draws one line for each series.
pub(super) fn lines(title: &str, series: &[Series<'_>], x: &Scale, x_title: &str, y: &Scale) -> String {
    let mut svg = String::new();
    frame(&mut svg, title, HEIGHT, x, x_title);
    let y_of = |value: f64| HEIGHT - BOTTOM - y.part(value) * (HEIGHT - TOP - BOTTOM);
    for (value, label) in &y.marks {
        let at = y_of(*value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            html(label)
        );
    }
    for one in series {
        let points: Vec<String> = one.points.iter().map(|(at, value)| format!("{:.1},{:.1}", x_of(x, *at), y_of(*value))).collect();
        let _ = write!(
            svg,
            "<polyline class=\"line c{} d{}\" points=\"{}\"><title>{}</title></polyline>",
            one.colour % 8,
            one.colour / 8 % 3,
            points.join(" "),
            html(one.name)
        );
    }
    svg.push_str("</svg></figure>");
    svg
}

/// Draws a row of dots for each series, at the first coordinates of its points.
pub(super) fn dots(title: &str, series: &[Series<'_>], x: &Scale, x_title: &str) -> String {
    const ROW: f64 = 22.0;
    const NAMES: f64 = 16.0;
    let height = TOP + BOTTOM + (ROW + NAMES) * series.len() as f64;
    let mut svg = String::new();
    frame(&mut svg, title, height, x, x_title);
    for (row, one) in series.iter().enumerate() {
        let at = TOP + (ROW + NAMES) * row as f64 + NAMES;
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", LEFT + 2.0, at - 3.0, html(one.name));
        for (value, _) in &one.points {
            let _ = write!(
                svg,
                "<circle class=\"dot c{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\"><title>{}</title></circle>",
                one.colour % 8,
                x_of(x, *value),
                at + ROW / 2.0 - 3.0,
                number(*value)
            );
        }
    }
    svg.push_str("</svg></figure>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_cover_the_values() {
        let labels = |scale: &Scale| scale.marks.iter().map(|(_, label)| label.clone()).collect::<Vec<_>>();
        assert_eq!(labels(&Scale::linear(47.0, " s")), ["0 s", "10 s", "20 s", "30 s", "40 s", "50 s"]);
        assert_eq!(labels(&Scale::logarithmic(7.0, 60.0, "")), ["1", "2", "5", "10", "20", "50", "100"]);
        let scale = Scale::logarithmic(1.0, 1000.0, "");
        assert!((scale.part(10.0) - 1.0 / 3.0).abs() < 1e-9 && scale.part(0.0) == 0.0 && scale.part(1e9) == 1.0);
        assert_eq!(Scale::linear(0.0, "").to, 1.0);
    }
}

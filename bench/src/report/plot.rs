//! Horizontal bars as SVG: all that the page needs, and readable on a dark page as well.

use std::fmt::Write as _;

use super::{Chart, number};

const LABELS: f64 = 250.0;
const BARS: f64 = 400.0;
const NUMBERS: f64 = 90.0;
const STEP: f64 = 24.0;
const HEAD: f64 = 34.0;

/// The plot of a chart. Each distinct last word of the labels has a colour, so that a peer looks the same everywhere.
pub(super) fn svg(chart: &Chart) -> String {
    let longest = chart.bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let (width, height) = (LABELS + BARS + NUMBERS, HEAD + STEP * chart.bars.len() as f64 + 8.0);
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text {{ fill: #222 }} @media (prefers-color-scheme: dark) {{ text {{ fill: #ddd }} }}</style>\n\
         <text x=\"8\" y=\"20\" font-weight=\"bold\">{}, {}</text>",
        escape(&chart.title),
        escape(&chart.unit)
    );
    for (at, (label, value)) in chart.bars.iter().enumerate() {
        let top = HEAD + STEP * at as f64;
        let length = (BARS * value / longest).max(1.0);
        let _ = writeln!(
            text,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{top:.0}\" width=\"{length:.1}\" height=\"{:.0}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
            LABELS - 8.0,
            top + 14.0,
            escape(label),
            STEP - 6.0,
            colour(label),
            LABELS + length + 6.0,
            top + 14.0,
            number(*value)
        );
    }
    text.push_str("</svg>\n");
    text
}

fn colour(label: &str) -> &'static str {
    match label {
        raw if raw.ends_with("raw") || raw.ends_with("bare") => "#888888",
        go if go.ends_with("Go") => "#3a9bc1",
        _ => "#c1663a",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_its_place() {
        let bars = vec![("32 KiB raw".into(), 1.0), ("a < b".into(), 2.0)];
        let text = svg(&Chart { title: "CPU".into(), unit: "ms".into(), bars });
        assert!(text.contains("width=\"400.0\"") && text.contains("width=\"200.0\""), "{text}");
        assert!(text.contains("a &lt; b") && text.ends_with("</svg>\n"), "{text}");
    }
}

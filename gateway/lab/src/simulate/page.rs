//! A report as one HTML page that needs nothing else: its charts are inline, its styles too, and it asks no server for anything.

use std::fmt::Write as _;

use sluicegate_model::escape;

use super::chart::{Scale, Series, dots, lines};
use super::outcome::{Outcome, Window};
use super::{Played, Report};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#68707a;--line:#d9dde2;--paper:#fff;--card:#f6f7f9}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#98a1ac;--line:#343a42;--paper:#15181c;--card:#1d2126}}\
body{margin:2rem auto;padding:0 1rem;max-width:84rem;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
h1{font-size:1.5rem}h2{font-size:1.2rem;margin:2.5rem 0 .2rem}p{color:var(--soft);margin:.2rem 0 1rem;max-width:60rem}\
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.3rem .8rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(26rem,1fr));gap:1rem;margin-top:1rem}\
figure{margin:0;padding:.8rem;background:var(--card);border-radius:.5rem}figcaption{font-weight:600;margin-bottom:.4rem}\
svg{width:100%;height:auto}svg text{fill:var(--soft);font-size:11px}.grid{stroke:var(--line);stroke-width:1}\
.line{fill:none;stroke-width:2;stroke-linejoin:round}.dot{fill-opacity:.55}.d1{stroke-dasharray:7 4}.d2{stroke-dasharray:2 4}\
.key{display:inline-block;width:.75rem;height:.75rem;border-radius:50%;margin-right:.5rem}\
.c0{stroke:#0072b2}.c1{stroke:#d55e00}.c2{stroke:#009e73}.c3{stroke:#cc79a7}.c4{stroke:#e0a000}.c5{stroke:#56b4e9}.c6{stroke:#8a5cd0}.c7{stroke:#7f8790}\
.dot{stroke:none}.dot.c0,.key.c0{fill:#0072b2;background:#0072b2}.dot.c1,.key.c1{fill:#d55e00;background:#d55e00}\
.dot.c2,.key.c2{fill:#009e73;background:#009e73}.dot.c3,.key.c3{fill:#cc79a7;background:#cc79a7}\
.dot.c4,.key.c4{fill:#e0a000;background:#e0a000}.dot.c5,.key.c5{fill:#56b4e9;background:#56b4e9}\
.dot.c6,.key.c6{fill:#8a5cd0;background:#8a5cd0}.dot.c7,.key.c7{fill:#7f8790;background:#7f8790}";

/// Makes the page.
pub fn page(report: &Report) -> String {
    let settings = &report.settings;
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">",
    );
    // Writing to a String cannot fail.
    let _ = write!(html, "<title>Balancers compared</title><style>{STYLE}</style></head><body><h1>Balancers compared</h1>");
    let _ = write!(
        html,
        "<p>sluicegate plugin simulate, seed {}: {:?} of simulated time, {} workers, {} endpoints with {} places and a queue of {} each, work {}, load {} of capacity, {} keys of skew {}. The same seed gives the same page.</p>",
        settings.seed,
        settings.duration,
        settings.workers,
        settings.endpoints,
        settings.concurrency,
        settings.queue,
        settings.latency,
        settings.load,
        settings.keys,
        settings.skew
    );
    if !settings.profiles.is_plain() {
        let _ = write!(
            html,
            "<p>Endpoints are not alike: they have {} profiles in turn, of weights, labels, places and speed.</p>",
            settings.profiles.count()
        );
    }
    for played in &report.scenarios {
        section(&mut html, played, settings.duration.as_secs_f64());
    }
    html.push_str("</body></html>\n");
    html
}

fn section(html: &mut String, played: &Played, seconds: f64) {
    let _ = write!(html, "<section><h2>{}</h2><p>{}</p>", played.scenario, escape::html(&played.story));
    table(html, &played.outcomes);
    html.push_str("<div class=\"charts\">");
    let each = |points: &dyn Fn(&Outcome) -> Vec<(f64, f64)>| -> Vec<Series<'_>> {
        let outcomes = played.outcomes.iter().enumerate();
        outcomes.map(|(colour, outcome)| Series { name: &outcome.plugin, colour, points: points(outcome) }).collect()
    };
    let range = |series: &[Series<'_>]| {
        let values = series.iter().flat_map(|s| s.points.iter().map(|(_, value)| *value)).filter(|value| *value > 0.0);
        values.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), value| (least.min(value), most.max(value)))
    };
    let windows = |outcome: &Outcome, value: &dyn Fn(&Window) -> Option<f64>| -> Vec<(f64, f64)> {
        let width = seconds / outcome.windows.len().max(1) as f64;
        let points = outcome.windows.iter().enumerate().map(|(i, window)| (i as f64 * width + width / 2.0, value(window)));
        points.filter_map(|(at, value)| Some((at, value?))).collect()
    };
    let time = Scale::linear(seconds, "");
    let p99 = each(&|outcome| windows(outcome, &|window| window.p99_ms));
    let (least, most) = range(&p99);
    html.push_str(&lines("p99 latency over time", &p99, &time, "seconds", &Scale::logarithmic(least, most, " ms")));
    // Nines: each one to the right is ten times as rare.
    let nines = |part: f64| -(1.0 - part).max(1e-6).log10();
    let curve = each(&|outcome| outcome.percentiles.iter().map(|(part, ms)| (nines(*part), *ms)).collect());
    let (least, most) = range(&curve);
    let marks =
        [(0.0, "p0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p999")].map(|(part, name)| (nines(part), name.to_owned()));
    html.push_str(&lines(
        "Latency by percentile",
        &curve,
        &Scale::marked(3.0, marks.to_vec()),
        "percentile, by nines",
        &Scale::logarithmic(least, most, " ms"),
    ));
    if played.outcomes.iter().any(|outcome| outcome.windows.iter().any(|w| w.errors > 0)) {
        let errors = each(&|outcome| windows(outcome, &|w| (w.requests > 0).then(|| w.errors as f64 / w.requests as f64 * 100.0)));
        let (_, most) = range(&errors);
        html.push_str(&lines("Errors over time", &errors, &time, "seconds", &Scale::linear(most, " %")));
    }
    let busy = each(&|outcome| outcome.endpoints.iter().map(|e| (e.busy * 100.0, 0.0)).collect());
    let most = busy.iter().flat_map(|s| s.points.iter().map(|(busy, _)| *busy)).fold(0.0, f64::max);
    html.push_str(&dots("How busy each endpoint was", &busy, &Scale::linear(most.max(1.0), " %"), "of its places, while in the pool"));
    html.push_str("</div></section>");
}

fn table(html: &mut String, outcomes: &[Outcome]) {
    html.push_str("<div class=\"scroll\"><table><tr>");
    for head in [
        "plugin",
        "requests",
        "errors",
        "retries",
        "mean",
        "p50",
        "p99",
        "p999",
        "max",
        "imbalance",
        "keys moved",
        "needlessly",
        "fallbacks",
    ] {
        let _ = write!(html, "<th>{head}</th>");
    }
    html.push_str("</tr>");
    for (colour, outcome) in outcomes.iter().enumerate() {
        let _ = write!(html, "<tr><td><span class=\"key c{}\"></span>{}</td>", colour % 8, escape::html(&outcome.plugin));
        let ms = |value: f64| format!("{value:.2} ms");
        let moved = |part: fn(&super::Moved) -> f64| {
            outcome.moved.as_ref().filter(|moved| moved.changes > 0).map_or_else(|| "-".to_owned(), |m| format!("{:.1} %", part(m) * 100.0))
        };
        let cells = [
            outcome.requests.to_string(),
            format!("{:.3} %", outcome.error_share() * 100.0),
            outcome.retries.to_string(),
            ms(outcome.mean_ms),
            ms(outcome.p50_ms),
            ms(outcome.p99_ms),
            ms(outcome.p999_ms),
            ms(outcome.max_ms),
            format!("{:.2}", outcome.imbalance),
            moved(|m| m.each_change),
            moved(|m| m.needlessly),
            outcome.fallbacks.to_string(),
        ];
        for cell in cells {
            let _ = write!(html, "<td>{cell}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
}

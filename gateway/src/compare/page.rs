//! A report as one HTML page that needs nothing else: its styles are inline, and it asks no server for anything.

use std::fmt::Write as _;

use sluicegate_model::escape;

use super::effect::Kind;
use super::report::{Report, Row};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5c646e;--line:#d9dde2;--paper:#fff;--card:#f6f7f9;--bar:#0072b2;--bad:#b3261e}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa4b0;--line:#343a42;--paper:#15181c;--card:#1d2126;--bar:#56b4e9;--bad:#f2948c}}\
body{margin:2rem auto;padding:0 1rem;max-width:72rem;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .4rem}p{color:var(--soft);margin:.2rem 0 1rem}\
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.3rem .8rem;border-bottom:1px solid var(--line);text-align:right}th:first-child,td:first-child{text-align:left}\
th{color:var(--soft);font-weight:600}.bar{display:block;height:.6rem;min-width:1px;background:var(--bar);border-radius:.2rem}td.wide{width:16rem}\
section{margin:1rem 0;padding:.8rem 1rem;background:var(--card);border-radius:.5rem}section h2{margin:0 0 .4rem}\
pre{margin:.3rem 0;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.45 ui-monospace,monospace}\
.kind{display:inline-block;margin-right:.4rem;padding:0 .5rem;border:1px solid var(--line);border-radius:1rem;font-size:.8rem}\
.refused{color:var(--bad);border-color:var(--bad)}.soft{color:var(--soft)}";

/// Makes the page. `what`: what was compared.
pub(crate) fn page(report: &Report, what: &str) -> String {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">",
    );
    // Writing to a String cannot fail.
    let _ = write!(html, "<title>Configurations compared</title><style>{STYLE}</style></head><body><h1>Configurations compared</h1>");
    let _ = write!(
        html,
        "<p>{}: of {} requests {} ({:.3} %) are decided otherwise.</p>",
        escape::html(what),
        report.requests,
        report.changed.requests,
        report.changed.percent
    );
    html.push_str("<div class=\"scroll\"><table><tr><th>differs in</th><th>requests</th><th>share</th><th></th></tr>");
    for of in report.kinds.iter().filter(|of| of.count.requests > 0) {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{:.3} %</td><td class=\"wide\"><span class=\"bar\" style=\"width:{:.2}%\"></span></td></tr>",
            of.kind.name(),
            of.count.requests,
            of.count.percent,
            of.count.percent
        );
    }
    html.push_str("</table></div>");
    for row in &report.groups {
        group(&mut html, row);
    }
    if report.beyond > 0 {
        let _ = write!(html, "<p>{} more requests differ in other ways.</p>", report.beyond);
    }
    for note in &report.notes {
        let _ = write!(html, "<p>Note: {}.</p>", escape::html(note));
    }
    html.push_str("</body></html>\n");
    html
}

fn group(html: &mut String, row: &Row) {
    let _ = write!(html, "<section><h2>{} requests ({:.3} %) ", row.count.requests, row.count.percent);
    for kind in &row.kinds {
        let class = if *kind == Kind::Refused { "kind refused" } else { "kind" };
        let _ = write!(html, "<span class=\"{class}\">{}</span>", kind.name());
    }
    let _ = write!(html, "</h2><p>{}</p>", escape::html(&row.listener));
    let _ = write!(html, "<pre>- {}\n+ {}</pre>", escape::html(&row.old.to_string()), escape::html(&row.new.to_string()));
    for one in &row.differences {
        let (old, new) = (escape::html(&one.old), escape::html(&one.new));
        let _ = write!(html, "<pre class=\"soft\">{}: {old} -> {new}</pre>", one.kind.name());
    }
    for example in &row.examples {
        let _ = write!(html, "<pre>{}</pre>", escape::html(example));
    }
    html.push_str("</section>");
}

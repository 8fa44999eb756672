//! The page for people: files that are part of the program. They are written by hand as browsers take them, so nothing builds them; `page/README.md` says why.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What the page may load and do: its own files, and requests to this API. No script or style stands in the document, text never becomes markup
/// (`require-trusted-types-for`), and nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file: its name, its type and its text.
type File = (&'static str, &'static str, &'static str);

const FILES: &[File] = &[
    ("index.html", HTML, include_str!("../page/index.html")),
    ("page.css", CSS, include_str!("../page/page.css")),
    ("icon.svg", SVG, include_str!("../page/icon.svg")),
    ("app.js", JS, include_str!("../page/app.js")),
    ("actions.js", JS, include_str!("../page/actions.js")),
    ("api.js", JS, include_str!("../page/api.js")),
    ("charts.js", JS, include_str!("../page/charts.js")),
    ("dom.js", JS, include_str!("../page/dom.js")),
    ("explain.js", JS, include_str!("../page/explain.js")),
    ("flow.js", JS, include_str!("../page/flow.js")),
    ("format.js", JS, include_str!("../page/format.js")),
    ("lists.js", JS, include_str!("../page/lists.js")),
    ("overview.js", JS, include_str!("../page/overview.js")),
    ("plugin.js", JS, include_str!("../page/plugin.js")),
    ("service.js", JS, include_str!("../page/service.js")),
];

/// `/`: the document.
pub(crate) async fn document() -> Response {
    file(Path("index.html".to_owned())).await
}

/// `/page/NAME`: one of the files.
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else { return StatusCode::NOT_FOUND.into_response() };
    // Another version of the program has other files at the same place.
    let fields = [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (fields, *text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_has_all_its_files() {
        let all: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();
        assert!(all <= 300 << 10, "{all} bytes");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let served = |name: &String| !FILES.iter().any(|(known, ..)| known == name);
        let left: Vec<String> = names.filter(|name| !name.ends_with(".md") && !name.ends_with(".png")).filter(served).collect();
        assert!(left.is_empty(), "not served: {left:?}");
    }

    #[test]
    fn nothing_from_elsewhere_becomes_markup() {
        for (name, kind, text) in FILES {
            let forbidden: &[&str] = match *kind {
                JS => &[
                    "innerHTML",
                    "outerHTML",
                    "insertAdjacentHTML",
                    "document.write",
                    "eval(",
                    "new Function",
                    "DOMParser",
                    "localStorage",
                ],
                HTML => &["<style", " style=", " onclick", "javascript:", "http://", "https://"],
                _ => &["@import", "http://fonts", "https://"],
            };
            for word in forbidden {
                assert!(!text.contains(word), "{name} has {word}");
            }
        }
    }
}

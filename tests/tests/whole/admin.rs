//! The admin API, asked by curl: for which hosts it answers, and what an order needs.

use std::process::Command;

use sluicegate_tests::{Gateway, SERVICE};

/// What curl is answered: the status, and the content.
fn curl(arguments: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .output()
        .expect("curl; `make test-tools` brings it");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let (content, status) = said.rsplit_once('\n').expect("a line with the status");
    (status.parse().expect("a status"), content.to_owned())
}

/// A page of another site can have its own name lead to the loopback, and would then be of one origin with the admin API.
#[test]
fn the_admin_api_answers_for_no_other_host() {
    let gateway = Gateway::with(&[("svc.yaml", SERVICE)], |settled, _| settled.admin.hosts = vec!["gateway.example".to_owned()]);
    let port = gateway.admin().port();
    let get = |host: &str, path: &str| {
        let resolve = format!("{host}:{port}:127.0.0.1");
        curl(&["--resolve", &resolve, &format!("http://{host}:{port}{path}")])
    };
    for path in ["/api/v1/services", "/metrics", "/readyz", "/healthz", "/nothing"] {
        let (status, said) = get("rebound.example", path);
        assert_eq!(status, 421, "{path}: {said}");
        assert!(said.contains(&format!("this is not \"rebound.example:{port}\"")) && said.contains("admin.hosts"), "{said}");
    }
    for host in ["localhost", "127.0.0.1", "gateway.example"] {
        assert_eq!(get(host, "/api/v1/services").0, 200, "{host}");
    }
    let (status, fields) = curl(&["--head", &format!("http://127.0.0.1:{port}/api/v1/services")]);
    for field in [
        "cache-control: no-store",
        "content-security-policy: default-src 'none'; frame-ancestors 'none'",
        "x-content-type-options: nosniff",
    ] {
        assert!(status == 200 && fields.contains(field), "{field} is missing:\n{fields}");
    }
}

#[test]
fn an_order_needs_a_field_that_a_page_of_another_site_cannot_send() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let url = format!("http://{}/api/v1/plugins/nobody/disable", gateway.admin());
    // This is what a form of a page sends.
    let (status, said) = curl(&["--data", "a=b", &url]);
    assert_eq!((status, said.as_str()), (403, "an order needs the field x-sluicegate-request, with any value\n"));
    let (status, said) = curl(&["--request", "POST", "--header", "X-Sluicegate-Request: 1", &url]);
    assert_eq!((status, said.as_str()), (409, "there is no plugin \"nobody\" in use\n"));
    // A browser asks before it sends such a field to another site, and is not told that it may.
    let preflight = ["--request", "OPTIONS", "--include", "--header", "Origin: http://other.example"];
    let (status, said) = curl(&[&preflight[..], &["--header", "Access-Control-Request-Method: POST", &url]].concat());
    assert!(status == 405 && !said.to_lowercase().contains("access-control-allow"), "{said}");
}

//! The peers that users have: nginx as the origin, curl and wrk as clients.

use test_support::nginx::Nginx;
use test_support::process::run;
use test_support::{Config, skip};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    curl_through_to_nginx,
    wrk_through_to_nginx,
}

fn curl_through_to_nginx(plane: Plane) {
    let nginx = match Nginx::start(None) {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    nginx.file("page.html", "<p>a page</p>");
    let Some(stage) = plane.start(Config::proxy_to(&[nginx.address.to_string()])) else { return };
    let curl = |arguments: &[&str]| {
        let mut command = stage.client_command("curl");
        run(command.args(["-sS", "--max-time", "20", "--noproxy", "*"]).args(arguments))
            .unwrap_or_else(|e| panic!("{e}"))
    };
    let (root, page) = (stage.url("/"), stage.url("/file/page.html"));
    assert_eq!(curl(&[&root]), "nginx says hello");
    assert_eq!(curl(&["-0", &page]), "<p>a page</p>");
    assert!(curl(&["-I", &page]).contains("Content-Length: 13"));
    assert_eq!(curl(&["-r", "3-3", &page]), "a");
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &stage.url("/file/absent")]), "404");
    // Two URLs in one call: curl says whether it could use its connection again.
    assert_eq!(curl(&["-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects}", &root, &root]), "10");
    assert_eq!(
        curl(&["-w", " %{http_code}", "-d", "some=form", &stage.url("/file/page.html")]).split(' ').next_back(),
        Some("405")
    );
}

fn wrk_through_to_nginx(plane: Plane) {
    let nginx = match Nginx::start(None) {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    let Some(stage) = plane.start(Config::proxy_to(&[nginx.address.to_string()])) else { return };
    let mut command = stage.client_command("wrk");
    let report = match run(command.args(["-t1", "-c64", "-d2s", &stage.url("/")])) {
        Ok(report) => report,
        Err(reason) => return skip!("e2e-wrk", "{reason}"),
    };
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    let requests = report.lines().find(|l| l.contains("requests in")).expect("wrk says how many");
    let requests: f64 = requests.trim().split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(requests > 100.0, "{report}");
    assert!(stage.gateway.metric("downstream_request_total", "") >= requests);
    let connections = stage.gateway.metric("upstream_connection_total", "");
    assert!(connections <= 70.0, "{connections} connections to the origin for 64 clients");
}

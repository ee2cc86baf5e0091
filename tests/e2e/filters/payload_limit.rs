//! `payload_limit`: bodies with a length and without one, at the limit and above it.

use test_support::Origin;

use super::{config, metric};
use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    bodies_above_the_limit_are_refused,
}

fn bodies_above_the_limit_are_refused(plane: Plane) {
    let origin = Origin::start("one");
    // The key as MOSN's files have it, with the space.
    let filter = "[{type: payload_limit, config: {\"max_entity_size \": 1000, http_status: 416}}]";
    let wide = "{match: {prefix: /echo/wide}, route: {cluster_name: origins}, per_filter_config: {payload_limit: {max_entity_size: 1MiB}}}";
    let Some(stage) = plane.start(config(&origin, filter, &[wide])) else { return };
    for (target, bytes, status) in
        [("/echo", 1000, 200), ("/echo", 1001, 416), ("/echo", 500_000, 416), ("/echo/wide", 500_000, 200)]
    {
        let answer = stage.client().ask("POST", target, "", &vec![b'x'; bytes]);
        assert_eq!(answer.status, status, "{target} {bytes}");
        let mut client = stage.client();
        client
            .send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes())
            .unwrap();
        // The gateway may answer and close before it has all of it.
        let _ = client.send(format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(bytes)).as_bytes());
        assert_eq!(client.answer_to("POST").status, status, "{target} {bytes} in chunks");
    }
    assert_eq!(stage.client().get("/").status, 200);
    assert_eq!(metric(&stage.gateway, "ferrogate_filter_payload_limit_refused", "http"), 4);
    assert!(origin.body_bytes() <= 2 * (1000 + 500_000) + 4000, "{}", origin.body_bytes());
}

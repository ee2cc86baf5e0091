//! `ip_access`: by the address of the connection, by a header, and for one route.

use test_support::{Gateway, Origin};

use super::{metric, start};
use crate::stage::binary;

#[test]
fn clients_are_let_in_by_their_address() {
    let origin = Origin::start("one");
    for (filter, status) in [
        ("{default_action: deny, ips: [{action: allow, addrs: [127.0.0.0/8]}]}", 200),
        ("{default_action: allow, ips: [{action: deny, addrs: [127.0.0.1]}]}", 403),
        ("{default_action: deny}", 403),
    ] {
        let stage = start(&origin, &format!("[{{type: ip_access, config: {filter}}}]"), &[]);
        let mut client = stage.client();
        assert_eq!(client.get("/").status, status, "{filter}");
        assert_eq!(client.ask("POST", "/echo", "", b"body").status, status, "and the connection lives on: {filter}");
        let refused = metric(&stage.gateway, "ferrogate_filter_ip_access_denied", "listener=\"http\"");
        assert_eq!(refused, if status == 403 { 2 } else { 0 }, "{filter}");
    }
    assert_eq!(origin.received().len(), 2, "what is refused reaches no origin");
}

#[test]
fn a_header_and_a_route_of_its_own() {
    let origin = Origin::start("one");
    let filter = "[{type: ip_access, config: {default_action: allow, header: X-Real-IP, ips: [{action: deny, addrs: [10.0.0.0/8]}]}}]";
    let open = "{match: {prefix: /open}, route: {cluster_name: origins}, per_filter_config: {ip_access: {default_action: allow}}}";
    let stage = start(&origin, filter, &[open]);
    let mut client = stage.client();
    for (target, field, status) in [
        ("/", "X-Real-IP: 10.1.1.1\r\n", 403),
        ("/", "X-Real-IP: 11.1.1.1\r\n", 200),
        ("/", "", 200),
        ("/open", "X-Real-IP: 10.1.1.1\r\n", 200),
    ] {
        assert_eq!(client.ask("GET", target, field, b"").status, status, "{target} {field}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let origin = Origin::start("one");
    for (filter, told) in [
        ("{type: ip_acces, config: {}}", "did you mean `ip_access`?"),
        ("{type: ip_access, config: {}}", "default_action"),
        ("{type: ip_access, config: {default_action: maybe}}", "maybe"),
        (
            "{type: ip_access, config: {default_action: deny, ips: [{action: allow, addrs: [10.0.0.0/33]}]}}",
            "10.0.0.0/33",
        ),
    ] {
        let text = super::config(&origin, &format!("[{filter}]"), &[]).text();
        let exited = Gateway::refused(binary(), &text);
        assert!(exited.output.contains(told) && exited.output.contains("stream_filters[0]"), "{}", exited.output);
    }
}

//! What an origin is told about the client.

use test_support::{Config, Origin};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    origins_learn_the_client,
}

fn origins_learn_the_client(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = format!(
        "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine\r\ntraceparent: {trace}\r\n\
         X-Forwarded-Client-Cert: Hash=1\r\n"
    );
    assert_eq!(client.ask("GET", "/", &fields, b"").status, 200);
    let seen = origin.only_request();
    let get = |name: &str| {
        let values: Vec<_> = seen.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).collect();
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0].1.clone()
    };
    let chain = get("x-forwarded-for");
    let (said, added) = chain.rsplit_once(", ").expect("two addresses");
    assert_eq!(said, "1.1.1.1");
    assert!(added.parse::<std::net::IpAddr>().is_ok(), "{chain}");
    assert_eq!(get("x-forwarded-proto"), "http", "what the client says of its scheme is not believed");
    assert_eq!(get("x-request-id").len(), 36);
    assert_eq!(get("traceparent"), trace);
    for name in ["via", "x-forwarded-client-cert"] {
        assert!(seen.fields.iter().all(|(n, _)| !n.eq_ignore_ascii_case(name)), "{name}");
    }
}

#[test]
fn a_gateway_behind_others_believes_them() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let own = "router_config_name: web, use_remote_address: false, via: inner}";
    let text = config.text().replace("router_config_name: web}", own);
    assert!(text.contains(own), "{text}");
    let stage = Plane::Kernel.start(config.verbatim(&text)).expect("always there");
    let fields = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine\r\n";
    assert_eq!(stage.client().ask("GET", "/", fields, b"").status, 200);
    let seen = origin.only_request();
    for (name, value) in
        [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "https"), ("X-Request-Id", "mine"), ("via", "1.1 inner")]
    {
        let values: Vec<_> = seen.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).collect();
        assert!(values.len() == 1 && values[0].1 == value, "{name}: {values:?}");
    }
}

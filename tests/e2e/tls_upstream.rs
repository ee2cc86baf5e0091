//! TLS to origins: what they are shown, asked for and offered, and what is resumed; nginx says what it has seen.

use test_support::certs::Authority;
use test_support::nginx::Nginx;
use test_support::{Config, skip};

use crate::stage::{Plane, on_both_planes, tls_backends};

on_both_planes! {
    origins_see_a_client_as_it_is_configured,
}

/// Each connection is used once, so that the second request takes a second handshake.
const SEEN: &str = "ssl_protocols TLSv1.2 TLSv1.3; keepalive_timeout 0; ssl_verify_client optional; \
     location /seen { return 200 '$ssl_client_verify $ssl_client_s_dn $ssl_session_reused $ssl_server_name $ssl_alpn_protocol $ssl_protocol'; }";

fn origins_see_a_client_as_it_is_configured(plane: Plane) {
    let (ours, authority) = (Authority::new("of clients"), Authority::new("of origins"));
    let (server, client) =
        (authority.issue("origin", &["origin.example"]), ours.issue("gateway", &["gateway.example"]));
    let directives = format!("{SEEN} ssl_client_certificate {};", ours.certificate.display());
    let nginx = match Nginx::start_with(Some((&server.0, &server.1)), &directives) {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    let shown = format!("cert_chain: \"{}\", private_key: \"{}\"", client.0.display(), client.1.display());
    for &backend in tls_backends() {
        for (version, name) in [("tlsv1_2", "TLSv1.2"), ("tlsv1_3", "TLSv1.3")] {
            for (keys, who) in
                [("insecure_skip: false", "NONE "), (shown.as_str(), "SUCCESS CN=gateway.example,O=Test\\, Inc.")]
            {
                let tls = format!(
                    "tls_context: {{status: true, ca_cert: \"{}\", server_name: origin.example, alpn: http/1.1, max_version: {version}, min_version: {version}, {keys}}}",
                    authority.certificate.display()
                );
                let config = Config::proxy_to(&[nginx.address.to_string()]).cluster(&tls);
                let Some(stage) = plane.start(config.extra(&format!("tls_backend: {{backend: {backend}}}\n"))) else {
                    return;
                };
                for reused in [".", "r"] {
                    let seen = stage.client().get("/seen").text();
                    assert_eq!(seen, format!("{who} {reused} origin.example http/1.1 {name}"), "{backend} {keys}");
                }
            }
        }
    }
}

/// An origin whose authority has revoked it is not talked to.
#[test]
fn origins_that_are_revoked_are_left_alone() {
    let authority = Authority::new("of origins");
    let server = authority.issue("origin", &["origin.example"]);
    let nginx = match Nginx::start(Some((&server.0, &server.1))) {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    for &backend in tls_backends() {
        for (revoked, status) in [(&["other.example"][..], 200), (&["origin.example"], 502)] {
            let crl = authority.revoke(revoked);
            let tls = format!(
                "tls_context: {{status: true, ca_cert: \"{}\", crl: \"{}\", server_name: origin.example}}",
                authority.certificate.display(),
                crl.display()
            );
            let config = Config::proxy_to(&[nginx.address.to_string()]).cluster(&tls);
            let config = config.extra(&format!("tls_backend: {{backend: {backend}}}\n"));
            let stage = Plane::Kernel.start(config).expect("always there");
            assert_eq!(stage.client().get("/").status, status, "{backend} {revoked:?}");
        }
    }
}

/// An origin of a mesh is known by its URI (MOSN: `sni_verify`); no other is sent the request, whatever its name is.
#[test]
fn origins_are_known_by_their_uri() {
    let authority = Authority::new("of the mesh");
    let (cart, till) = ("spiffe://mesh.example/ns/shop/sa/cart", "spiffe://mesh.example/ns/shop/sa/till");
    let server = authority.issue("cart", &["cart.example", cart]);
    let nginx = match Nginx::start_with(Some((&server.0, &server.1)), "ssl_protocols TLSv1.2 TLSv1.3;") {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    let stranger = Authority::new("of the mesh");
    for &backend in tls_backends() {
        for version in ["tlsv1_2", "tlsv1_3"] {
            for (trusted, name, uri, status) in [
                (&authority, "cart.example", cart, 200),
                (&authority, "other.example", cart, 200),
                (&authority, "cart.example", till, 502),
                (&stranger, "cart.example", cart, 502),
            ] {
                let tls = format!(
                    "tls_context: {{status: true, ca_cert: \"{}\", server_name: {name}, min_version: {version}, max_version: {version}, \
                     type: sni_verify, extend_verify: {{match_subject_alt_names: \"{uri}\"}}}}",
                    trusted.certificate.display(),
                );
                let config = Config::proxy_to(&[nginx.address.to_string()]).cluster(&tls);
                let config = config.extra(&format!("tls_backend: {{backend: {backend}}}\n"));
                let stage = Plane::Kernel.start(config).expect("always there");
                for time in ["first", "once more"] {
                    assert_eq!(stage.client().get("/").status, status, "{backend} {version} {name} {uri}: {time}");
                }
            }
        }
    }
}

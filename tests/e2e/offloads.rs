//! What a port does for us, and does not when it is told so: net_tap, which fills in checksums and looks at them.

use std::net::{Ipv4Addr, SocketAddr};

use test_support::netns::Namespace;
use test_support::process::{Process, run};
use test_support::{Config, Gateway, skip, wait_until};

use crate::stage::binary;

const HERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// A gateway on a TAP device of a namespace, whose kernel is client and origin.
fn serve(offloads: &str, used: bool) {
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(reason) => return skip!("e2e-tap", "{reason}"),
    };
    let host = Namespace { name: namespace.name.clone() };
    let offloads = offloads.to_owned();
    namespace.inside(move || {
        let mut config = Config::proxy_to(&[SocketAddr::from((THERE, 9100)).to_string()]);
        config.listen.set_port(8080);
        let dataplane = format!(
            "dataplane:\n  type: dpdk\n  workers: 1\n  dpdk:\n    hugepages: false\n    memory_mib: 128\n    ports:\n      \
             - {{device: \"net_tap0,iface=fgtap0\", address: {HERE}/24{offloads}}}\n"
        );
        let gateway = match Gateway::launch(&mut host.command(binary()), &config.dataplane(&dataplane)) {
            Ok(gateway) => gateway,
            Err(exited) if exited.status.code() == Some(3) => {
                return skip!("e2e-tap", "{}", exited.output.lines().last().unwrap_or("the plane can't start"));
            }
            Err(exited) => panic!("{}\n{}", exited.status, exited.output),
        };
        host.ip(&["address", "add", &format!("{THERE}/24"), "dev", "fgtap0"]).expect("an address");
        host.ip(&["link", "set", "fgtap0", "up"]).expect("a link");
        let origin = format!("{THERE}:9100");
        let _origin = Process::start(host.command(binary()).args(["origin", "--listen", &origin]));
        let curl = |path: &str| {
            run(host.command("curl").args(["-sSf", "--max-time", "10", &format!("http://{HERE}:8080{path}")]))
        };
        wait_until("the origin answers", || curl("/").is_ok());
        let long = curl("/bytes/300000").unwrap_or_else(|e| panic!("{offloads}: {e}"));
        assert_eq!(long.len(), 300_000);
        let shown = gateway.admin("/api/v1/dataplane").text().split_whitespace().collect::<String>();
        for name in ["rx_checksum", "tx_checksum"] {
            assert!(shown.contains(&format!("\"{name}\":{{\"port\":true,\"used\":{used}}}")), "{name}: {shown}");
        }
        // What this port could do besides, and is never asked for.
        assert!(shown.contains("\"tso\":{\"port\":true,\"used\":false}"), "{shown}");
        assert_eq!(gateway.metric("ferrogate_dpdk_dropped_frames_total", "reason=\"checksum\""), 0.0);
        gateway.stop();
    });
}

#[test]
fn a_port_does_what_it_can() {
    serve("", true);
}

#[test]
fn what_is_switched_off_software_does() {
    serve(", offloads: {rx_checksum: false, tx_checksum: false}", false);
}

//! Configuration files as a user meets them: what is taken, what is told, and what the reference page says.
//!
//! `FERROGATE_BLESS=1 cargo test -p ferrogate-core --test config` writes the expected reports and the reference page anew.

use std::path::{Path, PathBuf};
use std::{env, fs};

use ferrogate_core::config::dataplane::{Foreign, Offloads};
use ferrogate_core::config::schema::{ClusterChoice, HostPattern, PathMatch, RouteAction};
use ferrogate_core::config::{Config, Diagnostic, Limits, json_schema, reference_page};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn show(found: &[Diagnostic]) -> String {
    found.iter().map(|d| format!("{d}\n")).collect()
}

/// The reports of a text, errors and warnings.
fn reports(text: &str, name: &str) -> Vec<Diagnostic> {
    match Config::parse(text, name) {
        Ok((_, found)) | Err(found) => found,
    }
}

/// Compares with a file of the repository, or writes it when asked to.
fn compare(path: &str, now: &str) {
    let file = repository(path);
    if env::var_os("FERROGATE_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, now).unwrap();
        return;
    }
    let then = fs::read_to_string(&file).unwrap_or_default();
    if let Some((line, (then, now))) = (1..).zip(then.lines().zip(now.lines())).find(|(_, (a, b))| a != b) {
        panic!("{path}:{line} differs\n  there: {then}\n  now:   {now}\n(FERROGATE_BLESS=1 writes it anew)");
    }
    assert_eq!(
        then.lines().count(),
        now.lines().count(),
        "{path} is shorter or longer (FERROGATE_BLESS=1 writes it anew)"
    );
}

#[test]
fn the_shipped_files_load_without_a_word() {
    for name in ["kernel", "dpdk", "demo", "sidecar", "appliance"] {
        let path = repository(&format!("configs/{name}.yaml"));
        match Config::load(&path) {
            Ok((_, found)) => assert!(found.is_empty(), "{}", show(&found)),
            Err(found) => panic!("{}", show(&found)),
        }
    }
}

#[test]
fn the_reference_page_is_up_to_date() {
    compare("docs/reference/configuration.md", &reference_page());
}

#[test]
fn the_schema_for_editors_is_up_to_date() {
    compare("docs/reference/ferrogate.schema.json", &json_schema());
}

/// Two files in MOSN's schema that are to run unchanged. What stands in their reports has no function here yet: the list shrinks.
#[test]
fn files_of_mosn_lack_only_what_has_not_landed() {
    for name in ["mosn_gateway.json", "mosn_sidecar_bolt.json"] {
        let path = format!("core/tests/data/config/{name}");
        let found = reports(&fs::read_to_string(repository(&path)).unwrap(), name);
        for error in found.iter().filter(|d| d.is_error()) {
            let told = error.to_string();
            assert!(["no function yet", "not served yet", "not here yet"].iter().any(|w| told.contains(w)), "{told}");
        }
        compare(&format!("{path}.reports"), &show(&found));
    }
}

#[test]
fn directories_hold_clusters_and_virtual_hosts() {
    let folder = env::temp_dir().join(format!("ferrogate-directories-{}", std::process::id()));
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("clusters/b.json", r#"{"name": "b", "hosts": [{"address": "127.0.0.1:2"}]}"#);
    write("clusters/a.yaml", "name: a\nhosts: [{address: 127.0.0.1:1}]\n");
    write("clusters/notes.txt", "neither JSON: nor: YAML");
    write("clusters/.a.yaml", "[");
    write("hosts/web.json", r#"{"name": "web", "domains": ["*"], "routers": [{"route": {"cluster_name": "b"}}]}"#);
    let main = format!(
        "servers: [{{listeners: [{{address: :1, router_config_name: r}}], routers: [{{router_config_name: r, router_configs: {0}/hosts}}]}}]\ncluster_manager: {{clusters_configs: {0}/clusters}}\n",
        folder.display()
    );
    write("main.yaml", &main);
    let load = || Config::load(&folder.join("main.yaml"));

    let (config, found) = load().unwrap_or_else(|found| panic!("{}", show(&found)));
    assert!(found.is_empty(), "{}", show(&found));
    let names: Vec<&str> = config.clusters.iter().map(|c| c.name.as_str()).collect();
    assert_eq!((names, config.server.routers[0].virtual_hosts[0].name.as_str()), (vec!["a", "b"], "web"));

    write("clusters/b.json", "{\"name\": \"a\",\n \"hosts\": [{\"address\": \"here\"}]}");
    write("clusters/c.json", "{");
    let told = show(&load().unwrap_err());
    for part in [
        "clusters/b.json:1:1: error: cluster_manager.clusters[1]: the cluster `a` stands in ",
        "clusters/a.yaml:1 already",
        "clusters/b.json:2:24: error: cluster_manager.clusters[1].hosts[0].address: `here` is no address",
        "clusters/c.json:1:2: error: ",
        "hosts/web.json:1:74: error: servers[0].routers[0].virtual_hosts[0].routers[0].route.cluster_name: there is no cluster `b`",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }

    write(
        "main.yaml",
        &main.replace("clusters_configs", "clusters: [{name: x}], clusters_configs").replace("/hosts", "/no"),
    );
    let told = show(&load().unwrap_err());
    assert!(told.contains("cluster_manager.clusters_configs: both `clusters` and `clusters_configs`"), "{told}");
    assert!(told.contains("router_configs: the directory can't be read: "), "{told}");
    fs::remove_dir_all(&folder).unwrap();
    // A text from elsewhere opens no files.
    let told = show(&Config::parse(&main, "t").unwrap_err());
    assert!(told.contains("clusters_configs: a directory is read only where the configuration is a file"), "{told}");
}

#[test]
fn files_with_mistakes_are_told_all_of_them() {
    for (name, errors) in [("five_mistakes.yaml", 5), ("edge.json", 5), ("sidecar.json", 0)] {
        let path = format!("core/tests/data/config/{name}");
        let text = fs::read_to_string(repository(&path)).unwrap();
        let found = reports(&text, name);
        assert_eq!(found.iter().filter(|d| d.is_error()).count(), errors, "{name}: {}", show(&found));
        compare(&format!("{path}.reports"), &show(&found));
    }
}

#[test]
fn the_shortest_file_serves() {
    let text = fs::read_to_string(repository("core/tests/data/config/short.yaml")).unwrap();
    let (config, found) = Config::parse(&text, "short.yaml").unwrap();
    assert!(found.is_empty(), "{}", show(&found));
    let (listener, router) = (&config.server.listeners[0], &config.server.routers[0]);
    assert_eq!(
        (listener.name.as_str(), listener.proxy().unwrap().router.as_str()),
        ("127.0.0.1:8080", router.name.as_str())
    );
    assert!(listener.bind_port && listener.tls.is_empty());
    let host = &router.virtual_hosts[0];
    assert_eq!(host.domains[0].host, HostPattern::Default);
    assert_eq!(host.routes[0].matching.path, PathMatch::Prefix("/".into()));
    let RouteAction::Forward(forward) = &host.routes[0].action else { panic!("{host:?}") };
    assert!(matches!(&forward.cluster, ClusterChoice::Name { name, .. } if name == "app"));
    assert_eq!((config.limits, config.admin), (Limits::default(), None));
}

#[test]
fn where_a_thing_stands_makes_no_difference() {
    let text = fs::read_to_string(repository("configs/demo.yaml")).unwrap();
    let (config, _) = Config::parse(&text, "a").unwrap();
    let (moved, _) = Config::parse(&format!("# one\n# two\n{text}"), "a").unwrap();
    assert_eq!(config, moved);
    assert_ne!(config.clusters[0].origin.place, moved.clusters[0].origin.place);
}

#[test]
fn a_file_that_can_t_be_read_is_told() {
    let missing = Config::load(Path::new("/nonexistent/x.yaml")).unwrap_err();
    assert!(show(&missing).starts_with("/nonexistent/x.yaml: error: can't be read: "), "{}", show(&missing));
    let path = env::temp_dir().join(format!("ferrogate-config-{}.yaml", std::process::id()));
    fs::write(&path, b"servers:\n# \xff\n").unwrap();
    let found = Config::load(&path);
    fs::remove_file(&path).unwrap();
    assert!(show(&found.unwrap_err()).contains("error: line 2 is not UTF-8"));
    for (text, report) in [
        ("", "t: error: the file is empty\n"),
        ("# nothing", "t: error: the file is empty\n"),
        ("[1]", "t:1:1: error: a map is expected, not a list\n"),
        ("a: [", "t:1:5: error: "),
        ("{}", "t:1:1: error: the key `servers` is missing\n"),
        ("servers: []", "t:1:10: error: servers: no server (write exactly one)\n"),
    ] {
        let found = show(&reports(text, "t"));
        assert!(found.starts_with(report), "{text}: {found}");
    }
}

/// A file with `piece` as its `section`, and what else it takes to be whole.
fn file_with(section: &str, piece: &str) -> String {
    let mut parts = vec![("listener", "address: 127.0.0.1:1, router_config_name: r"), ("server", ""), ("file", "")];
    parts.extend([
        ("host", "address: 127.0.0.1:2"),
        ("cluster", ""),
        ("route", "route: {cluster_name: c}"),
        ("domains", "[\"*\"]"),
    ]);
    let part = |name: &str| {
        let default = parts.iter().find(|(n, _)| *n == name).map_or("", |(_, text)| text);
        if name == section { piece.to_owned() } else { default.to_owned() }
    };
    format!(
        "servers:\n- routers:\n  - router_config_name: r\n    virtual_hosts:\n    - domains: {}\n      routers: [{{{}}}]\n  listeners:\n  - {{{}}}\n{}\ncluster_manager:\n  clusters:\n  - name: c\n    hosts: [{{{}}}]\n{}\n{}\n",
        part("domains"),
        part("route"),
        part("listener"),
        part("server"),
        part("host"),
        part("cluster"),
        part("file"),
    )
}

#[test]
fn each_kind_of_mistake_is_told_in_its_words() {
    // tidy: table
    // Section, what stands in it, and the reports without their places; empty: nothing is wrong.
    let rows = [
        ("file", "", ""),
        ("file", "limts: {}", "warning: limts: the key `limts` is unknown and has no effect (did you mean `limits`?)"),
        ("file", "limits: 5", "error: limits: a map is expected, not a number"),
        (
            "file",
            "limits: {head_timeout: 0s}",
            "error: limits.head_timeout: a duration of more than nothing is expected",
        ),
        (
            "file",
            "limits: {head_timeout: -1s}",
            "error: limits.head_timeout: a duration of more than nothing is expected",
        ),
        ("file", "limits: {head_timeout: 9000h}", "error: limits.head_timeout: a duration of more than a year"),
        (
            "file",
            "limits: {head_timeout: soon}",
            "error: limits.head_timeout: `soon` is no duration (write numbers with units, like \"300ms\", \"15s\" or \"1h30m\")",
        ),
        (
            "file",
            "limits: {head_timeout: 1000000}",
            "warning: limits.head_timeout: a bare number is a time in nanoseconds: 1000000 is 1ms (write it with a unit, like \"30s\")",
        ),
        (
            "file",
            "limits: {head_bytes_max: 64KB}",
            "error: limits.head_bytes_max: `64KB` is no size (write bytes, or a number with KiB, MiB or GiB)",
        ),
        ("file", "limits: {head_bytes_max: 1}", "error: limits.head_bytes_max: 1 is not between 256 and 16777216"),
        (
            "file",
            "limits: {head_bytes_max: 1GiB}",
            "error: limits.head_bytes_max: 1GiB is not between 256 and 16777216",
        ),
        (
            "file",
            "limits: {head_fields_max: 1.5}",
            "error: limits.head_fields_max: a whole number is expected, not 1.5",
        ),
        ("file", "limits: {head_fields_max: many}", "error: limits.head_fields_max: a number is expected, not a text"),
        ("file", "dataplane: {type: dpkd}", "error: dataplane.type: `dpkd` is not known here (one of kernel, dpdk)"),
        ("file", "dataplane: {workers: 0}", "error: dataplane.workers: 0 is not between 1 and 1024"),
        ("file", "dataplane: {workers: all}", "error: dataplane.workers: `all` is neither a number nor `auto`"),
        (
            "file",
            "dataplane: {type: dpdk}",
            "error: dataplane: `type: dpdk` without a port (write `dpdk: {ports: [{device: ..., address: ...}]}`)",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1}]}}",
            "error: dataplane.dpdk.ports[0].address: an IP address with its network is expected (write it like 10.1.2.3/24 or 2001:db8::3/64)",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1/24, gateway: 10.0.1.1}]}}",
            "error: dataplane.dpdk.ports[0].gateway: the gateway 10.0.1.1 is not in 10.0.0.1/24: it can't be reached",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1/24, gateway6: fe80::1}]}}",
            "error: dataplane.dpdk.ports[0].gateway6: the gateway fe80::1 is not in any network of the port: it can't be reached",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1/24, routes: [{to: \"::/0\", via: 10.0.0.2}]}]}}",
            "error: dataplane.dpdk.ports[0].routes[0].via: `10.0.0.2` is no IPv6 address",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: \"fd00::1/64\", mtu: 1279}]}}",
            "error: dataplane.dpdk.ports[0].mtu: 1279 is less than every link of IPv6 takes (RFC 8200, 5) (write 1280 or more, or leave the IPv6 addresses out)",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1/24, exception: {interface: an-interface-too-long}}]}}",
            "error: dataplane.dpdk.ports[0].exception.interface: no interface can have this name (write 1 to 15 letters, digits, `-`, `_`, `.`: fg0)",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1/24, exception: {interface: fg0, protocols: [tcp, lldp]}}]}}",
            "error: dataplane.dpdk.ports[0].exception.protocols[1]: `lldp` is not told apart (one of arp, icmp, tcp, udp, ip, ethernet)",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1/24, exception: {interface: fg0, tcp_ports: \"22-7\"}}]}}",
            "error: dataplane.dpdk.ports[0].exception.tcp_ports: `22-7` are no ports (write them like `80,8000-8999`)",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1/24, vlans: [{id: 7, address: 10.0.1.1/24}, {id: 7, address: 10.0.2.1/24}]}]}}",
            "error: dataplane.dpdk.ports[0].vlans[1].id: there is a VLAN of this number already",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1/24, vlans: [{address: 10.0.1.1/24}]}]}}",
            "error: dataplane.dpdk.ports[0].vlans[0]: the key `id` is missing",
        ),
        (
            "file",
            "dataplane: {dpdk: {ports: [{device: x, address: 10.0.0.1/24, vlans: [{id: 7, address: 10.0.1.1/24, gateway: 10.0.0.2}]}]}}",
            "error: dataplane.dpdk.ports[0].vlans[0].gateway: the gateway 10.0.0.2 is not in 10.0.1.1/24: it can't be reached",
        ),
        (
            "file",
            "dataplane: {dpdk: {idle: {sleep_us: 100, sleep_us_max: 99}}}",
            "error: dataplane.dpdk.idle.sleep_us_max: 99 is less than `sleep_us`, 100 (write no less)",
        ),
        (
            "file",
            "dataplane: {dpdk: {ack_delay: 501ms}}",
            "error: dataplane.dpdk.ack_delay: an acknowledgement may wait for 500ms at most (RFC 9293, 3.8.6.3) (write 40ms or less)",
        ),
        (
            "file",
            "dataplane: {dpdk: {segment_bytes_max: 100, keepalive_probes_max: 0, keepalive_interval: 0s}}",
            "error: dataplane.dpdk.segment_bytes_max: 100 is not between 536 and 9176
error: dataplane.dpdk.keepalive_probes_max: 0 is not between 1 and 255
error: dataplane.dpdk.keepalive_interval: a duration of more than nothing is expected",
        ),
        (
            "file",
            "dataplane: {dpdk: {rx_ring_bytes: 5000}}",
            "error: dataplane.dpdk.rx_ring_bytes: 5000 is no power of two (write 64KiB, 128KiB, ...)",
        ),
        (
            "file",
            "admin: {address: {socket_address: {address: localhost}}}",
            "error: admin.address.socket_address.address: `localhost` is no IP address (write 127.0.0.1)",
        ),
        (
            "file",
            "admin: {address: {socket_address: {port_value: 65536}}}",
            "error: admin.address.socket_address.port_value: 65536 is not between 0 and 65535",
        ),
        (
            "file",
            "admin: {address: {pipe: {path: /x, mode: 432}}}",
            "warning: admin.address.pipe.mode: `mode` has no function yet: the socket is for the user that the gateway runs as (0600)",
        ),
        ("file", "admin: {address: {pipe: {path: /x}}}", ""),
        ("file", "admin: {address: {pipe: {}}}", "error: admin.address.pipe: the key `path` is missing"),
        (
            "file",
            "admin: {address: {pipe: {path: \"@x\"}}}",
            "error: admin.address.pipe.path: an abstract socket is open to everyone (write a path)",
        ),
        (
            "file",
            "admin: {address: {pipe: {path: /x}, socket_address: {port_value: 1}}}",
            "error: admin.address.pipe: both `socket_address` and `pipe` (keep one of the two)",
        ),
        (
            "file",
            "admin: {address: {socket_address: {port_value: 1}}}",
            "error: servers[0].listeners[0]: the address 127.0.0.1:1 is taken by the admin API",
        ),
        (
            "file",
            "tls_backend: {backend: openssl, ktls: require}",
            "error: tls_backend: `ktls` has no effect with `backend: openssl`: OpenSSL gives no keys of a session out (write `backend: rustls`, or remove `ktls`)",
        ),
        (
            "file",
            "tls_backend: {backend: openssl, ktls: auto}",
            "warning: tls_backend: `ktls` has no effect with `backend: openssl`: OpenSSL gives no keys of a session out (write `backend: rustls`, or remove `ktls`)",
        ),
        (
            "file",
            "tls_backend: {backend: gnutls}",
            "error: tls_backend.backend: `gnutls` is not known here (one of auto, rustls, openssl)",
        ),
        (
            "file",
            "extends: [{type: tunnel_agent}]",
            "error: extends: `extends` has no function yet: the extensions are not started: what they register, tunnel or convert is lost",
        ),
        ("file", "tracing: {enable: true}", "warning: tracing: `tracing` has no function yet: no trace is written"),
        ("file", "tracing: {enable: false, driver: X}", ""),
        ("listener", "router_config_name: r", "error: servers[0].listeners[0]: the key `address` is missing"),
        (
            "listener",
            "address: x, router_config_name: q",
            "error: servers[0].listeners[0].address: `x` is no address (expected IP:PORT, [IPv6]:PORT, :PORT or unix:/PATH)\nerror: servers[0].listeners[0].router_config_name: there is no router `q` (did you mean `r`?)",
        ),
        (
            "listener",
            "address: \"127.0.0.1\", router_config_name: r",
            "error: servers[0].listeners[0].address: `127.0.0.1` is no address (expected IP:PORT, [IPv6]:PORT, :PORT or unix:/PATH)",
        ),
        (
            "listener",
            "address: 80, router_config_name: r",
            "error: servers[0].listeners[0].address: a text is expected, not a number (put it in quotes)",
        ),
        ("listener", "address: /run/x, network: unix, router_config_name: r", ""),
        (
            "listener",
            "address: :80, network: udp, router_config_name: r",
            "error: servers[0].listeners[0]: a listener of `network: udp` has no connections (write a `udp_proxy` filter)",
        ),
        (
            "listener",
            "address: :53, network: udp, filter_chains: [{filters: [{type: udp_proxy, config: {cluster: c, idle_timeout: 5s}}]}]",
            "",
        ),
        (
            "listener",
            "address: :53, filter_chains: [{filters: [{type: udp_proxy, config: {cluster: c}}]}]",
            "error: servers[0].listeners[0]: `udp_proxy` relays datagrams, of which this listener has none (write `network: udp`)",
        ),
        (
            "listener",
            "address: /run/x, network: udp, filter_chains: [{filters: [{type: udp_proxy, config: {cluster: c}}]}]",
            "error: servers[0].listeners[0].address: `/run/x` is no address for datagrams (write an IP address and a port)",
        ),
        (
            "listener",
            "address: :53, network: udp, listener_filters: [{type: tls_inspector}], filter_chains: [{filters: [{type: fault_inject, config: {}}, {type: udp_proxy, config: {routes: [{cluster: c, server_names: [a.example]}]}}]}]",
            "error: servers[0].listeners[0]: `fault_inject` is for connections, and this listener has none\nerror: servers[0].listeners[0].listener_filters: `listener_filters` is for connections, and this listener has none\nerror: servers[0].listeners[0].filter_chains[0].filters[1].config: `server_names` would fit nobody: nothing looks into datagrams (leave it out)",
        ),
        (
            "listener",
            "address: :53, network: udp, filter_chains: [{filters: [{type: udp_proxy}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters[0].config: datagrams would go nowhere (write `cluster`, or `routes`)",
        ),
        ("listener", "address: :80, router_config_name: r, use_original_dst: tproxy", ""),
        (
            "listener",
            "address: :80, router_config_name: r, use_original_dst: nat",
            "error: servers[0].listeners[0].use_original_dst: `nat` is not known here (one of redirect, tproxy)",
        ),
        (
            "listener",
            "address: /x, network: unix, router_config_name: r, use_original_dst: redirect",
            "error: servers[0].listeners[0]: only TCP connections are intercepted (leave `use_original_dst` out, or write `network: tcp`)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, use_original_dst: redirect, listener_filters: [{type: original_dst, config: {type: tproxy}}]",
            "error: servers[0].listeners[0].listener_filters[0].config: `use_original_dst` of the listener says another type (keep one of the two)",
        ),
        (
            "listener",
            "address: :80",
            "error: servers[0].listeners[0]: the listener has no routes (write `router_config_name`, or `routers` with the routes themselves)",
        ),
        (
            "listener",
            "address: :80, router_config_name: R",
            "error: servers[0].listeners[0].router_config_name: there is no router `R` (did you mean `r`?)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, routers: [{route: {cluster_name: c}}]",
            "error: servers[0].listeners[0]: the listener says more than once which routes it has (keep one)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, bind_port: false",
            "warning: servers[0].listeners[0]: a listener with `bind_port: false` takes no connections: none has `use_original_dst`, which hands it some",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, bind_port: \"yes\"",
            "error: servers[0].listeners[0].bind_port: true or false is expected, not a text",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, inspector: false, use_original_dst: \"\", listener_filters: []",
            "",
        ),
        (
            "listener",
            "address: :80, filter_chains: []",
            "error: servers[0].listeners[0].filter_chains: no filter chain (write one)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{filters: [{type: proxy}]}, {filter_chain_match: {source_ports: [7, 8]}, filters: [{type: proxy}]}, {name: c, filter_chain_match: {destination_port: 80}, filters: [{type: tcp_proxy, config: {cluster: c}}]}]",
            "",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{filter_chain_match: {source_ports: [7, 8]}, filters: [{type: proxy}]}, {filter_chain_match: {source_ports: [9, 8]}, filters: [{type: proxy}]}]",
            "error: servers[0].listeners[0].filter_chains[1]: connections that this chain is for are as well for that in line 8 (say by `filter_chain_match` what tells the two apart)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{filter_chain_match: {transport_protocol: tls}, filters: [{type: proxy}]}]",
            "error: servers[0].listeners[0]: `server_names` and the like would fit nobody: nothing looks at what clients ask for (add `listener_filters: [{type: tls_inspector}]`)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: []}]",
            "error: servers[0].listeners[0].filter_chains[0].filters: no network filter (write exactly one)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r}}, {type: proxy}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters: more than one network filter (keep exactly one)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Auto, fallback_for_unknown_protocol: true}}, {type: tcp_proxy, config: {cluster: c}}]}]",
            "",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: fault_inject, config: {abort_percent: 1}}, {type: proxy, config: {router_config_name: r, downstream_protocol: \"Http1,bolt\", fallback_for_unknown_protocol: true}}, {type: tcp_proxy, config: {cluster: c}}]}]",
            "",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Auto, fallback_for_unknown_protocol: true}}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters: `fallback_for_unknown_protocol` would pass connections on to nobody: no `tcp_proxy` is behind the filter (add a `tcp_proxy` filter behind it, or leave the key out)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Auto, fallback_for_unknown_protocol: true}}, {type: proxy, config: {router_config_name: r}}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters: only a `tcp_proxy` can take connections of an unknown protocol (write one here)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Auto, fallback_for_unknown_protocol: true}}, {type: tcp_proxy, config: {cluster: c}}, {type: tcp_proxy, config: {cluster: c}}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters: nothing reaches a filter behind `tcp_proxy` (remove it)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Http2, fallback_for_unknown_protocol: true}}, {type: tcp_proxy, config: {cluster: c}}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters[0].config: `fallback_for_unknown_protocol` has no effect: where one protocol alone is served, none is looked for (write `downstream_protocol: Auto` or a list, or leave the key out)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Auto}}, {type: tcp_proxy, config: {cluster: c}}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters: more than one network filter (keep exactly one, or write `fallback_for_unknown_protocol: true` in the `proxy` filter)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Auto, fallback_for_unknown_protocol: false}}]}]",
            "",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Auto, fallback_for_unknown_protocol: true}}, {type: tcp_proxy, config: {cluster: d}}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters[1].config.cluster: there is no cluster `d` (did you mean `c`?)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Auto, fallback_for_unknown_protocol: true}}, {type: tcp_proxy, config: {routes: [{cluster: c, server_names: [a.example]}]}}]}]",
            "error: servers[0].listeners[0]: `server_names` and the like would fit nobody: nothing looks at what clients ask for (add `listener_filters: [{type: tls_inspector}]`)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: prxy}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters[0].type: there is no network filter `prxy`",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, downstream_protocol: Http3}}]}]",
            "error: servers[0].listeners[0].filter_chains[0].filters[0].config.downstream_protocol: there is no protocol `Http3` (did you mean `Http1`?)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, extend_config: {max_header_size: 1KiB}}}]}]",
            "",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context: {cert_chain: a, status: true}, filters: [{type: proxy}]}]",
            "error: servers[0].listeners[0].filter_chains[0].tls_context: the key `private_key` is missing",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context: {status: true, cert_chain: a, private_key: \"pkcs11:object=b\"}, filters: [{type: proxy}]}]",
            "error: servers[0].listeners[0].filter_chains[0].tls_context: `private_key` names a key that an accelerator holds, and there is no `accelerator` (name one of tls_backend.accelerators)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context: {cert_chain: a, private_key: b}, filters: [{type: proxy}]}]",
            "warning: servers[0].listeners[0].filter_chains[0].tls_context: TLS is on, though `status` does not say so; in MOSN it would be off (write `status: true`)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, inspector: true, filter_chains: [{tls_context: {status: true, cert_chain: a, private_key: b, verify_client: true, require_client_cert: true, ca_cert: c}, filters: [{type: proxy}]}]",
            "warning: servers[0].listeners[0]: `inspector` lets clients in without TLS, and so without the certificate that `require_client_cert` wants of the others (leave `inspector` out, or serve those in clear by a listener of their own)",
        ),
        (
            "listener",
            "address: :80, listener_filters: [{type: tls_inspector}], filter_chains: [{filter_chain_match: {server_names: [a.example]}, tls_context: {status: true, cert_chain: a, private_key: b, verify_client: true, require_client_cert: true, ca_cert: c}, filters: [{type: proxy, config: {router_config_name: r}}]}, {tls_context: {status: true, cert_chain: a, private_key: b}, filters: [{type: proxy, config: {router_config_name: r}}]}]",
            "warning: servers[0].listeners[0]: filter chains with the router `r` ask clients for different certificates: a request's Host may name what another chain guards (give each of them a router of its own)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context: {}, filters: [{type: proxy}]}]",
            "",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context: {status: true, cert_chain: a, private_key: b, max_version: tlsv1_1}, filters: [{type: proxy}]}]",
            "error: servers[0].listeners[0].filter_chains[0].tls_context.max_version: TLS 1.0 and 1.1 are not spoken (write tlsv1_2 or tlsv1_3)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context: {status: true, cert_chain: a, private_key: b, verify_client: true}, filters: [{type: proxy}]}]",
            "error: servers[0].listeners[0].filter_chains[0].tls_context: `verify_client` without `ca_cert`: whoever has a certificate of a public authority would be let in (write `ca_cert`: the authority of your clients)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context: {status: true, cert_chain: a, private_key: b, verify_client: true, require_client_cert: true, ca_cert: c, crl: d}, filters: [{type: proxy}]}]",
            "",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context: {status: true, cert_chain: a, private_key: b, ca_cert: c}, filters: [{type: proxy}]}]",
            "warning: servers[0].listeners[0].filter_chains[0].tls_context: `ca_cert` has no effect: no client is verified (write `verify_client: true`)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context: {status: true, cert_chain: a, private_key: b, require_client_cert: true}, filters: [{type: proxy}]}]",
            "warning: servers[0].listeners[0].filter_chains[0].tls_context: `require_client_cert` without `verify_client` only asks, as in MOSN: clients with any certificate, or none, are let in (write `verify_client: true` and `ca_cert`)",
        ),
        (
            "listener",
            "address: :80, router_config_name: r, filter_chains: [{tls_context_set: [{status: true, cert_chain: a, private_key: b, verify_client: true, ca_cert: c}, {status: true, cert_chain: a, private_key: b}], filters: [{type: proxy}]}]",
            "error: servers[0].listeners[0].filter_chains[0]: the certificates of one chain ask clients for different ones: which holds would be the client's choice (write the same `verify_client`, `require_client_cert`, `ca_cert` and `crl` in each, or a chain with a router of its own for each name)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, forward_client_cert_details: sanitize_set}}]}]",
            "warning: servers[0].listeners[0].filter_chains[0]: `forward_client_cert_details`: no client is asked for a certificate, so origins are told of none (write `verify_client: true` and `ca_cert` in the `tls_context`)",
        ),
        (
            "listener",
            "address: :80, filter_chains: [{filters: [{type: proxy, config: {router_config_name: r, set_current_client_cert_details: {subject: true}}}]}]",
            "warning: servers[0].listeners[0].filter_chains[0].filters[0].config: `set_current_client_cert_details` has no effect: origins are told nothing (write `forward_client_cert_details: SANITIZE_SET`)",
        ),
        (
            "domains",
            "[]",
            "error: servers[0].routers[0].virtual_hosts[0].domains: no domain (write hosts, or \"*\" for every host)",
        ),
        (
            "domains",
            "[a*.b]",
            "error: servers[0].routers[0].virtual_hosts[0].domains[0]: `a*.b`: a `*` that is not the first character of the domain",
        ),
        (
            "domains",
            "[a.b, A.B]",
            "error: servers[0].routers[0].virtual_hosts[0].domains: the same domain stands in line 5 already (remove one of the two)",
        ),
        (
            "domains",
            "[\"*\", \"*:*\"]",
            "error: servers[0].routers[0].virtual_hosts[0].domains: the same domain stands in line 5 already (remove one of the two)",
        ),
        (
            "route",
            "route: {cluster_name: d}",
            "error: servers[0].routers[0].virtual_hosts[0].routers[0].route.cluster_name: there is no cluster `d` (did you mean `c`?)",
        ),
        (
            "route",
            "match: {prefix: /}",
            "error: servers[0].routers[0].virtual_hosts[0].routers[0]: the route does nothing (write `route`, `redirect` or `direct_response`)",
        ),
        (
            "route",
            "match: {}, route: {cluster_name: c}",
            "error: servers[0].routers[0].virtual_hosts[0].routers[0].match: nothing to match (write `prefix`, `path`, `regex`, `headers` or `variables`)",
        ),
        (
            "route",
            "match: {prefix: a}, route: {cluster_name: c}",
            "warning: servers[0].routers[0].virtual_hosts[0].routers[0].match: `a` does not start with `/`: no path matches it",
        ),
        (
            "route",
            "match: {prefix: /a, path: /b}, route: {cluster_name: c}",
            "warning: servers[0].routers[0].virtual_hosts[0].routers[0].match.path: `prefix` wins, `path` has no effect (keep one of the two)",
        ),
        (
            "route",
            "route: {cluster_name: c}, direct_response: {status: 200}",
            "error: servers[0].routers[0].virtual_hosts[0].routers[0]: more than one of `route`, `redirect` and `direct_response` (keep one)",
        ),
        (
            "route",
            "direct_response: {status: 99}",
            "error: servers[0].routers[0].virtual_hosts[0].routers[0].direct_response.status: 99 is not between 200 and 599",
        ),
        (
            "route",
            "direct_response: {body: x}",
            "error: servers[0].routers[0].virtual_hosts[0].routers[0].direct_response: the key `status` is missing",
        ),
        (
            "cluster",
            "    type: EDS",
            "error: cluster_manager.clusters[0].type: the cluster type `EDS` has no function yet: hosts are not fetched from a control plane",
        ),
        (
            "cluster",
            "    lb_type: LB_LEAST_REQUEST\n    lbconfig: {choice_count: 0, active_request_bias: 101}",
            "error: cluster_manager.clusters[0].lbconfig.choice_count: 0 is not between 1 and 1000\n\
             error: cluster_manager.clusters[0].lbconfig.active_request_bias: 101 is not between 0 and 100",
        ),
        (
            "cluster",
            "    lb_type: LB_ROUNDROBBIN",
            "error: cluster_manager.clusters[0].lb_type: there is no balancer `LB_ROUNDROBBIN` (did you mean `LB_ROUNDROBIN`?)",
        ),
        ("cluster", "    lb_type: \"\"\n    health_check: {}\n    circuit_breakers: []\n    tls_context: {}", ""),
        (
            "cluster",
            "    circuit_breakers: [{max_connections: 1}, {max_connections: 2}]",
            "warning: cluster_manager.clusters[0].circuit_breakers: only the first entry counts",
        ),
        (
            "cluster",
            "    tls_context: {status: true, type: sni_verify}",
            "error: cluster_manager.clusters[0].tls_context: `type: sni_verify` without a URI: the origin would be verified by its name (write `extend_verify: {match_subject_alt_names: URI}`, or remove `type`)",
        ),
        (
            "cluster",
            "    tls_context: {status: true, extend_verify: {match_subject_alt_names: \"spiffe://a/b\"}}",
            "error: cluster_manager.clusters[0].tls_context: `extend_verify` without `type`: the origin would not be verified by the URI (write `type: sni_verify`)",
        ),
        (
            "cluster",
            "    tls_context: {status: true, type: other}",
            "error: cluster_manager.clusters[0].tls_context.type: `other` is not known here (one of sni_verify)",
        ),
        (
            "cluster",
            "    tls_context: {status: true, insecure_skip: true}",
            "warning: cluster_manager.clusters[0].tls_context: `insecure_skip`: anyone on the way can pose as the origin (write `ca_cert` instead)",
        ),
        (
            "cluster",
            "    tls_context: {status: true, cert_chain: a}",
            "error: cluster_manager.clusters[0].tls_context: the key `private_key` is missing",
        ),
        ("cluster", "    tls_context: {status: true, cert_chain: a, private_key: b, ca_cert: c, crl: d}", ""),
        (
            "cluster",
            "    cluster_manager_tls: true",
            "error: cluster_manager.clusters[0]: `cluster_manager_tls`, but the `tls_context` of `cluster_manager` is off: requests would go in plain text (write that `tls_context`)",
        ),
        (
            "cluster",
            "  - name: c\n    hosts: [{address: 127.0.0.1:3}]",
            "error: cluster_manager.clusters[1]: the cluster `c` stands in line 12 already (give one of the two another name)",
        ),
        (
            "cluster",
            "  - name: d",
            "warning: cluster_manager.clusters[1]: a cluster without hosts: its requests are answered with 503",
        ),
        (
            "host",
            "address: 10.0.0.256:80",
            "error: cluster_manager.clusters[0].hosts[0].address: `10.0.0.256:80` is no address (expected IP:PORT, [IPv6]:PORT, :PORT or unix:/PATH, or NAME:PORT)",
        ),
        ("host", "address: unix:/run/x.sock", ""),
        (
            "host",
            "address: 127.0.0.1:0",
            "error: cluster_manager.clusters[0].hosts[0].address: a host without a port (write IP:PORT)",
        ),
        ("host", "address: \"a-b.test:80\", weight: 5, priority: 1, locality: here", ""),
        (
            "host",
            "address: \"127.0.0.1:2\", metadata: {filter_metadata: {mosn.lb: {zone: 1}}}",
            "error: cluster_manager.clusters[0].hosts[0].metadata.filter_metadata.mosn.lb.zone: a text is expected, not a number (put it in quotes)",
        ),
        (
            "cluster",
            "    health_check: {protocol: Http1, check_config: {http_check_config: {path: x, codes: [{End: 3}]}}}",
            "error: cluster_manager.clusters[0].health_check.check_config.http_check_config.path: `x` is no path (begin it with `/`)\n\
             error: cluster_manager.clusters[0].health_check.check_config.http_check_config.codes[0]: the key `Start` is missing",
        ),
        (
            "cluster",
            "    outlier_detection: {consecutive_5xx: 3, max_ejection_percent: 200}",
            "error: cluster_manager.clusters[0].outlier_detection.max_ejection_percent: 200 is not between 0 and 100",
        ),
        (
            "cluster",
            "    slow_start: {aggression: 0}",
            "error: cluster_manager.clusters[0].slow_start: the key `slow_start_duration` is missing\n\
             error: cluster_manager.clusters[0].slow_start.aggression: 0 is not between 0.01 and 100",
        ),
        (
            "cluster",
            "    dns_resolvers: {servers: [\"1.2.3.4\", \"ns.test\"]}",
            "error: cluster_manager.clusters[0].dns_resolvers.servers[1]: `ns.test` is no address (write IP or IP:PORT)",
        ),
        (
            "server",
            "  - {address: 127.0.0.1:1, name: two, router_config_name: r}",
            "error: servers[0].listeners[1]: the address 127.0.0.1:1 is taken by the listener in line 8",
        ),
        (
            "server",
            "  - {address: 127.0.0.1:3, name: 127.0.0.1:1, router_config_name: r}",
            "error: servers[0].listeners[1]: the listener `127.0.0.1:1` stands in line 8 already (give one of the two another name)",
        ),
        ("server", "  processor: some", "error: servers[0].processor: `some` is neither a number nor `auto`"),
        ("server", "- {}", "error: servers: more than one server (keep exactly one)"),
    ];
    let mut wrong = Vec::new();
    for (section, piece, expected) in rows {
        let found = reports(&file_with(section, piece), "t");
        let told: Vec<String> = found
            .iter()
            .map(|d| Diagnostic { line: 0, ..d.clone() }.to_string().trim_start_matches("t: ").to_owned())
            .collect();
        let expected: Vec<&str> = expected.lines().collect();
        if told != expected {
            wrong.push(format!("{section}: {piece}\n  expected: {expected:#?}\n  told: {told:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn values_reach_the_data() {
    let text = file_with(
        "file",
        "limits: {idle_timeout: 1m30s, head_bytes_max: 32KiB}
admin: {}
tls_backend: {backend: rustls}
dataplane: {type: dpdk, workers: 3, fallback: kernel, dpdk: {ports: [{device: net_tap0, address: 10.0.0.2/8, addresses: [10.0.0.3/8, \"fd00::2/64\"], gateway: 10.0.0.1, gateway6: \"fe80::1\",
  routes: [{to: 192.0.2.0/24, via: 10.9.9.9}], mtu: 9000,
  vlans: [{id: 4094, address: 10.3.0.1/16, addresses: [\"fd03::1/64\"], gateway: 10.3.0.2}], offloads: {rss: false, vlan_insert: false},
  exception: {interface: fg0, protocols: [tcp, arp], tcp_ports: \"22, 8000-8100\"}}], eal_args: [-v],
  segment_bytes_max: 1200, ack_delay: 0s, nagle: true, keepalive_idle: 2m, keepalive_interval: 20s, keepalive_probes_max: 3}}",
    );
    let (config, found) = Config::parse(&text, "t").unwrap();
    assert!(found.is_empty(), "{}", show(&found));
    assert_eq!((config.limits.idle_timeout.as_secs(), config.limits.head_bytes_max), (90, 32768));
    assert_eq!(config.admin.unwrap().to_string(), "127.0.0.1:9901");
    let plane = config.dataplane;
    assert_eq!((plane.workers, plane.dpdk.eal_args.len()), (Some(3), 1));
    let port = &plane.dpdk.ports[0];
    assert_eq!((port.addresses.len(), port.addresses[0].to_string(), port.mtu), (3, "10.0.0.2/8".to_owned(), 9000));
    assert_eq!(port.offloads, Offloads { rss: false, vlan_insert: false, ..Offloads::default() });
    let vlan = &port.vlans[0];
    assert_eq!((vlan.id, vlan.addresses.len(), vlan.routes.len()), (4094, 2, 1));
    let exception = port.exception.as_ref().unwrap();
    assert_eq!((exception.interface.as_str(), &exception.protocols), ("fg0", &vec![Foreign::Tcp, Foreign::Arp]));
    assert_eq!((&exception.tcp_ports, exception.udp_ports.len()), (&vec![(22, 22), (8000, 8100)], 0));
    let routes: Vec<String> = port.routes.iter().map(|route| format!("{} by {}", route.to, route.via)).collect();
    assert_eq!(routes, ["192.0.2.0/24 by 10.9.9.9", "0.0.0.0/0 by 10.0.0.1", "::/0 by fe80::1"]);
    let tcp = plane.dpdk.flow_limits;
    assert_eq!((tcp.segment_bytes_max, tcp.ack_delay.as_millis(), tcp.nagle), (1200, 0, true));
    let silence = (tcp.keepalive_idle.as_secs(), tcp.keepalive_interval.as_secs(), tcp.keepalive_probes_max);
    assert_eq!(silence, (120, 20, 3));
}

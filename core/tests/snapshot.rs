//! Generations: what a reload keeps, what it makes anew, and what it refuses.

use std::path::PathBuf;
use std::sync::Arc;

use ferrogate_core::config::{Config, Diagnostic};
use ferrogate_core::control::Certificates;
use ferrogate_core::router::{Chosen, RouteAction};
use ferrogate_core::snapshot::{Snapshot, Target};

/// A folder of certificates that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ferrogate-snapshot-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A new certificate and its key under `name.crt` and `name.key`.
    fn certify(&self, name: &str) {
        let (cert, key) = tls_offload::self_signed(["localhost"]).unwrap();
        std::fs::write(self.0.join(format!("{name}.crt")), cert).unwrap();
        std::fs::write(self.0.join(format!("{name}.key")), key).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One listener, router and cluster of each name.
fn file(names: &[&str]) -> String {
    let each = |f: &dyn Fn(usize, &str) -> String| names.iter().enumerate().map(|(i, n)| f(i, n)).collect::<String>();
    let port = |name: &str| 1000 + name.bytes().map(u32::from).sum::<u32>();
    format!(
        "servers:\n- listeners:\n{}  routers:\n{}cluster_manager:\n  clusters:\n{}",
        each(&|_, n| format!("  - {{name: {n}, address: \"127.0.0.1:{}\", router_config_name: {n}}}\n", port(n))),
        each(&|_, n| format!(
            "  - {{router_config_name: {n}, virtual_hosts: [{{routers: [{{route: {{cluster_name: {n}}}}}]}}]}}\n"
        )),
        each(&|_, n| format!("  - {{name: {n}, hosts: [{{address: \"127.0.0.2:{}\"}}]}}\n", port(n))),
    )
}

fn config(text: &str) -> Config {
    Config::parse(text, "t").unwrap_or_else(|found| panic!("{text}\n{found:?}")).0
}

fn build(text: &str, previous: Option<&Snapshot>) -> Snapshot {
    Snapshot::build(&config(text), previous, &mut Certificates::default()).unwrap()
}

/// Every listener's requests reach the cluster of the same name.
fn check_references(snapshot: &Snapshot) {
    for listener in &snapshot.listeners {
        let Target::Http(router) = listener.target else { panic!("{listener:?}") };
        let route = snapshot.router(router).routes().next().unwrap();
        let RouteAction::Forward(forward) = &route.action else { panic!("{route:?}") };
        let Chosen::Cluster(id, None) = forward.choose(|| 0) else { panic!("{forward:?}") };
        assert_eq!(snapshot.cluster_id(&listener.config.name), Some(id));
        assert_eq!(snapshot.cluster(id).config.name, listener.config.name);
    }
}

/// Which listeners, routers and clusters are the very same as before, by name.
fn kept(before: &Snapshot, after: &Snapshot) -> [String; 3] {
    fn names<T>(a: &[Arc<T>], b: &[Arc<T>], name: impl Fn(&T) -> &str) -> String {
        b.iter().filter(|x| a.iter().any(|y| Arc::ptr_eq(x, y))).map(|x| name(x)).collect()
    }
    [
        names(&before.listeners, &after.listeners, |l| &l.config.name),
        names(&before.routers, &after.routers, |r| r.name()),
        names(&before.clusters, &after.clusters, |c| &c.config.name),
    ]
}

#[test]
fn an_accelerator_reaches_the_listener_that_names_it() {
    let (cert, key) = tls_offload::self_signed(["localhost"]).unwrap();
    let text = |name: &str| {
        let tls = format!("{{status: true, cert_chain: {cert:?}, private_key: {key:?}, accelerator: {name}}}");
        let chain = format!("filter_chains: [{{tls_context: {tls}, filters: [{{type: proxy}}]}}]");
        let file = file(&["a"]).replacen("router_config_name: a}", &format!("router_config_name: a, {chain}}}"), 1);
        format!(
            "tls_backend: {{accelerators: [{{name: card0, id: no-such-provider, parameters: {{slots: \"4\"}}, notify: poll}}]}}\n{file}"
        )
    };
    let good = config(&text("card0"));
    let accelerator = good.server.listeners[0].tls[0].accelerated_by.clone().unwrap();
    assert_eq!(accelerator.id, "no-such-provider");
    assert_eq!(accelerator.parameters, [("slots".to_owned(), "4".to_owned())]);
    assert_eq!((accelerator.asynchronous, accelerator.in_flight_max), (true, 1024));
    let found = Snapshot::build(&good, None, &mut Certificates::default()).unwrap_err();
    let words =
        if tls_offload::OPENSSL_BUILT { "the accelerator card0 can't be opened" } else { "built without OpenSSL" };
    assert!(found[0].to_string().contains(words), "{}", found[0]);
    let found = Config::parse(&text("card1"), "t").unwrap_err();
    assert!(found[0].to_string().contains("there is no accelerator `card1`"), "{}", found[0]);
}

#[test]
fn openssl_is_taken_where_it_is_built_in() {
    let (cert, key) = tls_offload::self_signed(["localhost"]).unwrap();
    let chain = format!(
        "filter_chains: [{{tls_context: {{status: true, cert_chain: {cert:?}, private_key: {key:?}}}, filters: [{{type: proxy}}]}}]"
    );
    let text = file(&["a"]).replacen("router_config_name: a}", &format!("router_config_name: a, {chain}}}"), 1);
    let text = format!("tls_backend: {{backend: openssl}}\n{text}");
    match (Snapshot::build(&config(&text), None, &mut Certificates::default()), tls_offload::OPENSSL_BUILT) {
        (Ok(snapshot), true) => {
            let session = snapshot.listeners[0].tls.as_ref().unwrap().session();
            assert!(matches!(session, tls_offload::Session::OpenSsl(_)));
        }
        (Err(found), false) => {
            let message = found[0].to_string();
            assert!(message.contains("built without OpenSSL: set tls_backend.backend to rustls"), "{message}");
        }
        (result, built) => panic!("built with OpenSSL: {built}, but {result:?}"),
    }
}

#[test]
fn a_reload_keeps_what_did_not_change() {
    let first = build(&file(&["a", "b", "c"]), None);
    assert_eq!(first.generation, 1);
    check_references(&first);
    let all = file(&["a", "b", "c"]);
    for (text, what, listeners, routers, clusters) in [
        (all.clone(), "the same file", "abc", "abc", "abc"),
        (format!("# moved\n\n{all}"), "moved by two lines", "abc", "abc", "abc"),
        (file(&["c", "a", "b"]), "in another order", "abc", "abc", "abc"),
        (file(&["x", "a", "b", "c"]), "one more at the start", "abc", "abc", "abc"),
        (file(&["a", "c"]), "one less: what stood behind it moved up", "a", "a", "ac"),
        (file(&["a", "b"]), "the last one less", "ab", "ab", "ab"),
        (all.replace("name: b, hosts", "name: b, connect_timeout: 1s, hosts"), "another timeout", "abc", "abc", "ac"),
        (
            all.replace("cluster_name: b", "cluster_name: c").replace("- {name: b, add", "- {name: c2, add"),
            "another route",
            "ac",
            "ac",
            "abc",
        ),
        (format!("{all}limits: {{idle_timeout: 1m}}\n"), "another limit", "abc", "abc", "abc"),
        (format!("{all}limits: {{request_timeout: 1m1s}}\n"), "the limit that routes carry", "abc", "", "abc"),
    ] {
        let next = build(&text, Some(&first));
        assert_eq!(kept(&first, &next), [listeners, routers, clusters], "{what}");
        assert_eq!(next.generation, 2);
        assert_eq!(Arc::ptr_eq(&first.limits, &next.limits), !text.contains("limits"), "{what}");
        if !what.contains("route") {
            check_references(&next);
        }
    }
}

#[test]
fn a_new_certificate_under_an_old_name_is_taken() {
    let folder = Folder::new("renewed");
    let text = file(&["a", "b"])
        .replace(
            "router_config_name: a}",
            "router_config_name: a, filter_chains: [{tls_context: {status: true, cert_chain: s.crt, private_key: s.key}, filters: [{type: proxy}]}]}",
        )
        .replace("name: b, hosts", "name: b, tls_context: {status: true, ca_cert: c.crt}, hosts");
    let named = |file: &str| folder.0.join(file).display().to_string();
    let text =
        text.replace("s.crt", &named("s.crt")).replace("s.key", &named("s.key")).replace("c.crt", &named("c.crt"));
    let config = config(&text);
    let mut tls = Certificates::default();
    folder.certify("s");
    folder.certify("c");
    let first = Snapshot::build(&config, None, &mut tls).unwrap();
    assert!(first.listeners[0].tls.is_some() && first.listeners[1].tls.is_none());
    assert!(first.clusters[0].tls.is_none() && first.clusters[1].tls.is_some());
    let same = Snapshot::build(&config, Some(&first), &mut tls).unwrap();
    assert_eq!(kept(&first, &same), ["ab", "ab", "ab"]);
    folder.certify("s");
    let second = Snapshot::build(&config, Some(&same), &mut tls).unwrap();
    assert_eq!(kept(&same, &second), ["b", "ab", "ab"]);
    folder.certify("c");
    let third = Snapshot::build(&config, Some(&second), &mut tls).unwrap();
    assert_eq!(kept(&second, &third), ["ab", "ab", "a"]);
    assert_eq!(third.generation, 4);

    std::fs::remove_file(folder.0.join("s.crt")).unwrap();
    std::fs::remove_file(folder.0.join("c.crt")).unwrap();
    let found = Snapshot::build(&config, Some(&third), &mut tls).unwrap_err();
    for (told, start) in found.iter().map(ToString::to_string).zip([
        "t:3:95: error: servers[0].listeners[0].filter_chains[0].tls_context: ",
        "t:11:28: error: cluster_manager.clusters[1].tls_context: ",
    ]) {
        assert!(told.starts_with(start) && told.contains(".crt") && told.contains("No such file"), "{told}");
    }
    assert_eq!(found.len(), 2);
}

#[test]
fn a_configuration_that_no_file_gave_is_checked_too() {
    let mut config = config(&file(&["a", "b"]));
    config.clusters.remove(1);
    config.server.routers.remove(0);
    let found = Snapshot::build(&config, None, &mut Certificates::default()).unwrap_err();
    let messages: Vec<&str> = found.iter().map(|d: &Diagnostic| d.message.as_str()).collect();
    assert_eq!(messages, ["there is no router `a`", "there is no router `b`", "there is no cluster `b`"]);
}

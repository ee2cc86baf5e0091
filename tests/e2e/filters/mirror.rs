//! `mirror`: more copies than one, to one host or to all.

use test_support::Origin;

use super::config;
use crate::stage::Plane;

#[test]
fn copies_are_as_many_as_the_filter_says() {
    let origin = Origin::start("one");
    let (left, right) = (Origin::start("left"), Origin::start("right"));
    let route = |path: &str, own: &str| {
        format!(
            "{{match: {{prefix: {path}}}, route: {{cluster_name: origins}}, request_mirror_policies: {{cluster: shadow, percent: 100}}{own}}}"
        )
    };
    let all = route("/all", ", per_filter_config: {mirror: {amplification: 2, broadcast: true}}");
    let shadow = format!(
        "    - {{name: shadow, hosts: [{{address: \"{}\"}}, {{address: \"{}\"}}]}}\n",
        left.address(),
        right.address()
    );
    let config = config(&origin, "[{type: mirror, config: {amplification: 4}}]", &[&all, &route("/some", "")]);
    let text = config.text().replace("    - name: origins\n", &format!("{shadow}    - name: origins\n"));
    let stage = Plane::Kernel.start(config.verbatim(&text)).expect("always there");
    let mut client = stage.client();
    let copies = || left.received().len() + right.received().len();
    assert_eq!(client.ask("POST", "/some", "", b"body").text(), "one");
    test_support::wait_until("four copies", || copies() == 4);
    assert_eq!(client.ask("POST", "/all", "", b"body").text(), "one");
    test_support::wait_until("two copies to each host", || copies() == 8);
    let of_all = |o: &Origin| o.received().iter().filter(|r| r.head.second() == "/all").count();
    assert_eq!((of_all(&left), of_all(&right)), (2, 2));
    assert_eq!(client.get("/").text(), "one");
    assert_eq!((origin.received().len(), copies()), (3, 8));
}

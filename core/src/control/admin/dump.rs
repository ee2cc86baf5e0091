//! `config_dump`: the configuration in force, whole or one part of it, with MOSN's selectors.
//!
//! **Invariant:** works on the document with its secrets taken out, and on no other.

use serde_json::{Map, Value, json};

/// The part of a configuration that a query asks for. None: there is no such part.
pub(super) fn selected(config: Value, query: &str) -> Option<Value> {
    let (key, name) = query.split_once('=').unwrap_or((query, ""));
    let listeners = || named(&config, "/servers/0/listeners", "name");
    let routers = || named(&config, "/servers/0/routers", "router_config_name");
    let clusters = || named(&config, "/cluster_manager/clusters", "name");
    let one = |mut all: Map<String, Value>| all.remove(&decoded(name));
    match key {
        "" | "mosnconfig" => Some(json!({ "mosn_config": config })),
        "alllisteners" => Some(listeners().into()),
        "allrouters" => Some(routers().into()),
        "allclusters" => Some(clusters().into()),
        "listener" => one(listeners()),
        "router" => one(routers()),
        "cluster" => one(clusters()),
        _ => None,
    }
}

/// The elements of a list by their names.
fn named(config: &Value, list: &str, key: &str) -> Map<String, Value> {
    let elements = config.pointer(list).and_then(Value::as_array).into_iter().flatten();
    // A listener without a name has its address for one.
    let name = |element: &Value| {
        let name = [key, "address"].iter().find_map(|key| element.get(key)?.as_str()).unwrap_or_default();
        (name.to_owned(), element.clone())
    };
    elements.map(name).collect()
}

/// A value of a query with its percent signs resolved.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|d| std::str::from_utf8(d).ok());
        match (byte, digits.and_then(|d| u8::from_str_radix(d, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_selected_as_in_mosn() {
        let config = json!({
            "servers": [{
                "listeners": [{ "name": "a b", "x": 1 }, { "address": ":1" }],
                "routers": [{ "router_config_name": "web" }],
            }],
            "cluster_manager": { "clusters": [{ "name": "c" }] },
        });
        let get = |query: &str| selected(config.clone(), query);
        assert_eq!(get(""), Some(json!({ "mosn_config": config })));
        assert_eq!(get("mosnconfig"), get(""));
        assert_eq!(get("alllisteners").unwrap().as_object().unwrap().len(), 2);
        assert_eq!(get("listener=a%20b"), Some(json!({ "name": "a b", "x": 1 })));
        assert_eq!(get("listener=a+b"), get("listener=a%20b"));
        assert_eq!(get("router=web"), Some(json!({ "router_config_name": "web" })));
        assert_eq!(get("cluster=c"), Some(json!({ "name": "c" })));
        assert_eq!(get("cluster=d"), None);
        assert_eq!(get("nonsense"), None);
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}

//! Changes of the configuration that a client of the admin API sends: a listener, a router or a cluster in the place of the one of its name,
//! and the routes of one virtual host.
//!
//! **Invariant:** only turns one document into another; whether that is any good is for the reloader to say, as of a file.

use std::fmt;

use serde_json::{Value, json};

/// What a client wants changed.
#[derive(Debug)]
pub(super) enum Change {
    /// An element of a list takes the place of the one of its name, or a new one.
    Element { list: &'static str, key: &'static str, config: Value },
    /// A virtual host gets one more route, or loses all of them.
    Routes {
        router: String,
        domain: String,
        /// The route that is added; None: all go.
        added: Option<Value>,
    },
}

/// Why a configuration can't be changed so.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChangeError {
    /// It has no place for such an element.
    Unplaced,
    /// It has no router of this name, but those.
    UnknownRouter { name: String, known: Vec<String> },
    /// Its router has no virtual host of this domain, but of those.
    UnknownDomain { router: String, domain: String, known: Vec<String> },
}

impl Change {
    /// Reads a body such as `{"type": "cluster", "config": {...}}`; the configuration may be a text that holds it, as in MOSN.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let (kind, config) = split(body)?;
        let (list, key) = match &*kind {
            "listener" => ("/servers/0/listeners", "name"),
            "router" => ("/servers/0/routers", ROUTER_NAME),
            "cluster" => ("/cluster_manager/clusters", "name"),
            _ => return Err("`type` is to be `listener`, `router` or `cluster`"),
        };
        if config[key].as_str().is_none_or(str::is_empty) {
            return Err("`config` is to be a map with a name (`router_config_name` of a router)");
        }
        Ok(Self::Element { list, key, config })
    }

    /// Reads a body such as `{"type": "add", "config": {"router_config_name": "web", "domain": "*", "route": {...}}}`, as MOSN's debug API
    /// has it. A domain that is empty or absent is that of the default virtual host.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse_routes(body: &[u8]) -> Result<Self, &'static str> {
        let (kind, mut config) = split(body)?;
        let is_added = match &*kind {
            "add" => true,
            "remove" => false,
            _ => return Err("`type` is to be `add` or `remove`"),
        };
        let Some(router) = config[ROUTER_NAME].as_str().filter(|name| !name.is_empty()).map(str::to_owned) else {
            return Err("`config` is to be a map with the name of a router under `router_config_name`");
        };
        let domain = match &config["domain"] {
            Value::Null => DEFAULT_DOMAIN,
            Value::String(text) if text.is_empty() => DEFAULT_DOMAIN,
            Value::String(text) => text,
            _ => return Err("`domain` is to be a text"),
        };
        let domain = domain.to_owned();
        let added = is_added.then(|| config["route"].take());
        if added.as_ref().is_some_and(|route| !route.is_object()) {
            return Err("`route` is to be a map, a route as under `routers` of a virtual host");
        }
        Ok(Self::Routes { router, domain, added })
    }

    /// Makes it in a configuration.
    ///
    /// # Errors
    /// When the configuration has no place for it.
    pub(super) fn apply(self, document: &mut Value) -> Result<(), ChangeError> {
        match self {
            Self::Element { list, key, config } => put(document, list, key, config),
            Self::Routes { router, domain, added } => {
                let routes = routes_of(document, &router, domain)?;
                match added {
                    Some(route) => routes.push(route),
                    None => routes.clear(),
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unplaced => f.write_str("there is no place for it"),
            Self::UnknownRouter { name, known } if known.is_empty() => {
                write!(f, "there is no router `{name}`: routes within a listener are changed with it, by update_config")
            }
            Self::UnknownRouter { name, known } => {
                write!(f, "there is no router `{name}`: `router_config_name` is one of {}", listed(known))
            }
            Self::UnknownDomain { router, domain, known } => {
                let known = listed(known);
                write!(
                    f,
                    "no virtual host of the router `{router}` has the domain `{domain}`: `domain` is one of {known}"
                )
            }
        }
    }
}

impl std::error::Error for ChangeError {}

/// The `type` of a body and its `config`.
fn split(body: &[u8]) -> Result<(String, Value), &'static str> {
    let mut body: Value = serde_json::from_slice(body).map_err(|_| "the body is no JSON")?;
    let config = match body.get_mut("config").map(Value::take) {
        Some(Value::String(text)) => serde_json::from_str(&text).map_err(|_| "the text of `config` is no JSON")?,
        other => other.unwrap_or_default(),
    };
    Ok((body["type"].as_str().unwrap_or_default().to_owned(), config))
}

/// Puts an element in the place of the one of its name, else behind all others.
fn put(document: &mut Value, list: &str, key: &str, config: Value) -> Result<(), ChangeError> {
    if list.starts_with("/cluster_manager") && document["cluster_manager"].is_null() {
        document["cluster_manager"] = json!({});
    }
    let (parent, name) = list.rsplit_once('/').unwrap_or_default();
    let parent = document.pointer_mut(parent).ok_or(ChangeError::Unplaced)?;
    let list = list_of(parent, name)?;
    match list.iter_mut().find(|element| element[key] == config[key]) {
        Some(element) => *element = config,
        None => list.push(config),
    }
    Ok(())
}

/// The routes of the virtual host of a router that has this domain; upper and lower case are alike, as in a request.
fn routes_of<'d>(document: &'d mut Value, router: &str, domain: String) -> Result<&'d mut Vec<Value>, ChangeError> {
    let routers = document.pointer_mut("/servers/0").ok_or(ChangeError::Unplaced)?;
    let routers = list_of(routers, "routers")?;
    let Some(at) = routers.iter().position(|r| r[ROUTER_NAME] == router) else {
        let known = routers.iter().filter_map(|r| r[ROUTER_NAME].as_str()).map(str::to_owned).collect();
        return Err(ChangeError::UnknownRouter { name: router.to_owned(), known });
    };
    let hosts = list_of(&mut routers[at], "virtual_hosts")?;
    let has = |host: &Value| domains(host).any(|d| d.eq_ignore_ascii_case(&domain));
    let Some(at) = hosts.iter().position(has) else {
        let known = hosts.iter().flat_map(domains).map(str::to_owned).collect();
        return Err(ChangeError::UnknownDomain { router: router.to_owned(), domain, known });
    };
    list_of(&mut hosts[at], "routers")
}

/// The domains of a virtual host: every one where it does not say.
fn domains(host: &Value) -> impl Iterator<Item = &str> {
    let list = host["domains"].as_array();
    let default = list.is_none().then_some(DEFAULT_DOMAIN);
    list.into_iter().flatten().filter_map(Value::as_str).chain(default)
}

/// The list under a key of a map; a new one where there is none.
fn list_of<'d>(map: &'d mut Value, key: &str) -> Result<&'d mut Vec<Value>, ChangeError> {
    let list = map.as_object_mut().ok_or(ChangeError::Unplaced)?.entry(key).or_insert(Value::Null);
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().ok_or(ChangeError::Unplaced)
}

/// Names as a message has them, not more of them than anyone reads.
fn listed(names: &[String]) -> String {
    let more = if names.len() > NAMES_MAX { ", …" } else { "" };
    let shown: Vec<String> = names.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
    shown.join(", ") + more
}

const ROUTER_NAME: &str = "router_config_name";

/// The domain of the default virtual host.
const DEFAULT_DOMAIN: &str = "*";

/// Names in a message, at most.
const NAMES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_takes_the_place_of_its_name_or_a_new_one() {
        let mut document = json!({ "servers": [{ "listeners": [{ "name": "a", "x": 1 }] }] });
        let mut apply =
            |body: &str| Change::parse(body.as_bytes()).unwrap().apply(&mut document).map(|()| document.clone());
        let after = apply(r#"{"type":"listener","config":{"name":"a","x":2}}"#).unwrap();
        assert_eq!(after, json!({ "servers": [{ "listeners": [{ "name": "a", "x": 2 }] }] }));
        let after = apply(r#"{"type":"cluster","config":"{\"name\":\"c\"}"}"#).unwrap();
        assert_eq!(after["cluster_manager"], json!({ "clusters": [{ "name": "c" }] }));
        let after = apply(r#"{"type":"router","config":{"router_config_name":"r"}}"#).unwrap();
        assert_eq!(after["servers"][0]["routers"][0]["router_config_name"], "r");
    }

    /// What the routers of a configuration are after a change of routes, or why they can't be changed.
    fn routers(document: &Value, body: &str) -> Result<Value, String> {
        let mut document = document.clone();
        let change = Change::parse_routes(body.as_bytes()).map_err(str::to_owned)?;
        change.apply(&mut document).map_err(|error| error.to_string())?;
        Ok(document["servers"][0]["routers"].take())
    }

    #[test]
    fn routes_are_added_behind_the_others_and_removed_together() {
        let (first, second, new) = (json!({ "name": "1" }), json!({ "name": "2" }), json!({ "name": "3" }));
        let router = |named: Value, rest: Value| {
            json!([
                { "router_config_name": "other", "virtual_hosts": [{}] },
                { "router_config_name": "web", "virtual_hosts": [
                    { "domains": ["a.test", "B.test:80"], "routers": named },
                    { "routers": rest },
                ] },
            ])
        };
        let document = json!({ "servers": [{ "routers": router(json!([first, second]), Value::Null) }] });
        let body = |kind: &str, domain: &str| {
            format!(r#"{{"type":"{kind}","config":{{"router_config_name":"web"{domain},"route":{new}}}}}"#)
        };
        let added = router(json!([first, second, new]), Value::Null);
        let removed = router(json!([]), Value::Null);
        let default = router(json!([first, second]), json!([new]));
        for (kind, domain, expected) in [
            ("add", r#","domain":"a.test""#, &added),
            ("add", r#","domain":"b.test:80""#, &added),
            ("remove", r#","domain":"B.test:80""#, &removed),
            ("add", "", &default),
            ("add", r#","domain":"""#, &default),
            ("add", r#","domain":"*""#, &default),
        ] {
            assert_eq!(routers(&document, &body(kind, domain)).as_ref(), Ok(expected), "{kind} {domain}");
        }
    }

    #[test]
    fn a_router_or_domain_that_is_not_there_is_told_with_those_that_are() {
        let hosts = json!([{ "domains": ["a.test", "*.a.test"] }]);
        let document = json!({ "servers": [{ "routers": [{ "router_config_name": "web", "virtual_hosts": hosts }] }] });
        let body = |router: &str, domain: &str| {
            format!(r#"{{"type":"remove","config":{{"router_config_name":"{router}","domain":"{domain}"}}}}"#)
        };
        let domain =
            "no virtual host of the router `web` has the domain `b.a.test`: `domain` is one of `a.test`, `*.a.test`";
        assert_eq!(routers(&document, &body("web", "b.a.test")).unwrap_err(), domain);
        assert!(routers(&document, &body("web", "")).unwrap_err().contains("the domain `*`"));
        let router = "there is no router `none`: `router_config_name` is one of `web`";
        assert_eq!(routers(&document, &body("none", "a.test")).unwrap_err(), router);
        let inline = json!({ "servers": [{ "listeners": [] }] });
        assert!(routers(&inline, &body("web", "")).unwrap_err().contains("update_config"));
        assert!(routers(&json!({ "servers": [{ "routers": 5 }] }), &body("web", "")).is_err());
        assert!(routers(&json!({}), &body("web", "")).is_err());
        let many: Vec<String> = (0..1000).map(|n| format!("{n}.test")).collect();
        assert!(listed(&many).len() < 200 && listed(&many).ends_with('…'));
    }

    #[test]
    fn garbage_is_told() {
        for body in [
            r#"{"type":"add"}"#,
            r#"{"type":"add","config":7}"#,
            r#"{"type":"put","config":{"router_config_name":"web","route":{}}}"#,
            r#"{"type":"add","config":{"router_config_name":"web"}}"#,
            r#"{"type":"add","config":{"router_config_name":"web","route":[]}}"#,
            r#"{"type":"add","config":{"router_config_name":"web","domain":7,"route":{}}}"#,
            r#"{"type":"remove","config":{"domain":"*"}}"#,
        ] {
            assert!(Change::parse_routes(body.as_bytes()).is_err(), "{body}");
        }
        for body in [
            "",
            "[]",
            "{}",
            "null",
            r#"{"type":"x"}"#,
            r#"{"type":"cluster","config":{}}"#,
            "\u{0}",
            r#"{"type":"cluster","config":"{"}"#,
            r#"{"type":"listener","config":[1]}"#,
        ] {
            assert!(Change::parse(body.as_bytes()).is_err(), "{body}");
            assert!(Change::parse_routes(body.as_bytes()).is_err(), "{body}");
        }
        let change = Change::parse(br#"{"type":"listener","config":{"name":"a"}}"#).unwrap();
        assert!(change.apply(&mut json!({ "servers": 5 })).is_err());
    }
}

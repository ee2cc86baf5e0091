//! Changes of the configuration that a client of the admin API sends: a listener, a router or a cluster in the place of the one of its name.
//!
//! **Invariant:** only turns one document into another; whether that is any good is for the reloader to say, as of a file.

use serde_json::{Value, json};

/// What a client wants changed.
#[derive(Debug)]
pub(super) struct Change {
    list: &'static str,
    key: &'static str,
    config: Value,
}

impl Change {
    /// Reads a body such as `{"type": "cluster", "config": {...}}`; the configuration may be a text that holds it, as in MOSN.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let mut body: Value = serde_json::from_slice(body).map_err(|_| "the body is no JSON")?;
        let (list, key) = match body["type"].as_str() {
            Some("listener") => ("/servers/0/listeners", "name"),
            Some("router") => ("/servers/0/routers", "router_config_name"),
            Some("cluster") => ("/cluster_manager/clusters", "name"),
            _ => return Err("`type` is to be `listener`, `router` or `cluster`"),
        };
        let config = match body["config"].take() {
            Value::String(text) => serde_json::from_str(&text).map_err(|_| "the text of `config` is no JSON")?,
            other => other,
        };
        if config[key].as_str().is_none_or(str::is_empty) {
            return Err("`config` is to be a map with a name (`router_config_name` of a router)");
        }
        Ok(Self { list, key, config })
    }

    /// Puts it into a configuration: in the place of the element of its name, else behind all others.
    ///
    /// # Errors
    /// When the configuration has no place for it.
    pub(super) fn apply(self, document: &mut Value) -> Result<(), &'static str> {
        if self.list.starts_with("/cluster_manager") && document["cluster_manager"].is_null() {
            document["cluster_manager"] = json!({});
        }
        let (parent, name) = self.list.rsplit_once('/').unwrap_or_default();
        let parent = document.pointer_mut(parent).and_then(Value::as_object_mut).ok_or("there is no place for it")?;
        let list = parent.entry(name).or_insert_with(|| json!([]));
        let list = list.as_array_mut().ok_or("there is no place for it")?;
        match list.iter_mut().find(|element| element[self.key] == self.config[self.key]) {
            Some(element) => *element = self.config,
            None => list.push(self.config),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_takes_the_place_of_its_name_or_a_new_one() {
        let mut document = json!({ "servers": [{ "listeners": [{ "name": "a", "x": 1 }] }] });
        let mut apply = |body: &str| Change::parse(body.as_bytes())?.apply(&mut document).map(|()| document.clone());
        let after = apply(r#"{"type":"listener","config":{"name":"a","x":2}}"#).unwrap();
        assert_eq!(after, json!({ "servers": [{ "listeners": [{ "name": "a", "x": 2 }] }] }));
        let after = apply(r#"{"type":"cluster","config":"{\"name\":\"c\"}"}"#).unwrap();
        assert_eq!(after["cluster_manager"], json!({ "clusters": [{ "name": "c" }] }));
        let after = apply(r#"{"type":"router","config":{"router_config_name":"r"}}"#).unwrap();
        assert_eq!(after["servers"][0]["routers"][0]["router_config_name"], "r");
    }

    #[test]
    fn garbage_is_told() {
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
        }
        let change = Change::parse(br#"{"type":"listener","config":{"name":"a"}}"#).unwrap();
        assert!(change.apply(&mut json!({ "servers": 5 })).is_err());
    }
}

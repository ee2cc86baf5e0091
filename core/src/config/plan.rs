//! What a reload would change: the differences between two configurations, by key path.
//!
//! Compared are the effects, by the tables of keys: `60s` and `1m` are the same, a default that is written out is no change, and neither is
//! a key without function. The elements of a list go by their names, so that a new listener at the top does not change those below.
//!
//! **Invariant:** a plan never shows a secret.

mod diff;
mod value;

use std::fmt;

use super::Document;
use super::keys;
pub(super) use value::redacted_json;

/// The differences between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of the reference page.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key's path; elements of lists by name, as in `cluster_manager.clusters[app].hosts[127.0.0.1:80].weight`.
    pub path: String,
    /// What happens there.
    pub effect: Effect,
    /// Whether a reload leaves this as it is: only a restart changes it.
    pub needs_restart: bool,
}

/// What a [`Change`] does. Values are as JSON prints them, shortened, with secrets taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This was not there.
    Added(String),
    /// This is there no more.
    Removed,
    /// This has another value.
    Changed {
        /// The value in force.
        old: String,
        /// The value to come.
        new: String,
    },
    /// This has another place in a list whose order counts. Places count from 1.
    Moved {
        /// Its place now.
        old: usize,
        /// Its place to be.
        new: usize,
    },
}

impl Plan {
    /// What would change if `new` took the place of `old`. A document that could not be read is taken for an empty one.
    #[must_use]
    pub fn between(old: &Document, new: &Document) -> Self {
        Self { changes: diff::documents(old, new) }
    }
}

impl Change {
    fn new(path: String, effect: Effect) -> Self {
        let needs_restart = keys::takes_restart(&path);
        Self { path, effect, needs_restart }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        let restarts = self.changes.iter().filter(|c| c.needs_restart).count();
        match self.changes.len() {
            0 => f.write_str("nothing would change"),
            n if restarts == 0 => write!(f, "{}", count(n, "change")),
            n => write!(f, "{}, of which {restarts} only by a restart", count(n, "change")),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.effect {
            Effect::Added(value) => write!(f, "+ {}: {value}", self.path),
            Effect::Removed => write!(f, "- {}", self.path),
            Effect::Changed { old, new } => write!(f, "~ {}: {old} -> {new}", self.path),
            Effect::Moved { old, new } => write!(f, "~ {}: place {old} -> {new}", self.path),
        }?;
        f.write_str(if self.needs_restart { " (only by a restart)" } else { "" })
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "
servers:
- default_log_level: INFO
  listeners:
  - {name: web, address: 127.0.0.1:80, router_config_name: r, connection_idle_timeout: 60s}
  - {name: old, address: 127.0.0.1:81, router_config_name: r}
  routers:
  - router_config_name: r
    virtual_hosts:
    - name: shop
      domains: [shop.test]
      routers:
      - {match: {prefix: /a}, route: {cluster_name: app}}
      - {match: {prefix: /b}, route: {cluster_name: app, timeout: 5s}}
      - {match: {path: /c}, direct_response: {status: 200}}
cluster_manager:
  clusters:
  - name: app
    hosts: [{address: 127.0.0.1:9001}, {address: 127.0.0.1:9002}]
limits: {idle_timeout: 90s}
";

    /// The lines of the plan from `OLD` to what it is with these replacements.
    fn plan(replacements: &[(&str, &str)]) -> Vec<String> {
        let mut new = OLD.to_owned();
        for (from, to) in replacements {
            assert!(new.contains(from), "{from}");
            new = new.replace(from, to);
        }
        let plan = Plan::between(&Document::parse(OLD, "old"), &Document::parse(&new, "new"));
        plan.changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_has_the_same_effect_is_no_change() {
        assert!(plan(&[]).is_empty());
        assert!(plan(&[("60s", "1m"), ("limits: {idle_timeout: 90s}", ""), ("INFO", "info")]).is_empty());
        assert!(plan(&[("  listeners:", "  no_such_key: 1\n  listeners:"), ("OLD", "OLD")][..1]).is_empty());
        assert!(plan(&[("- name: app", "- name: app\n    connect_timeout: \"\"\n    hosts_note: x")]).is_empty());
    }

    #[test]
    fn each_kind_of_change_is_told_by_its_path() {
        // tidy: table
        for (from, to, expected) in [
            ("60s", "61s", "~ servers[0].listeners[web].connection_idle_timeout: 60s -> 61s"),
            ("limits: {idle_timeout: 90s}", "limits: {head_timeout: 3s}", "~ limits.head_timeout: 15s (default) -> 3s"),
            ("INFO", "WARN", "~ servers[0].default_log_level: INFO -> WARN"),
            (", {address: 127.0.0.1:9002}", "", "- cluster_manager.clusters[app].hosts[127.0.0.1:9002]"),
            (
                "{address: 127.0.0.1:9001}",
                "{address: 127.0.0.1:9001, weight: 5}",
                "~ cluster_manager.clusters[app].hosts[127.0.0.1:9001].weight: 1 (default) -> 5",
            ),
            ("  - {name: old, address: 127.0.0.1:81, router_config_name: r}\n", "", "- servers[0].listeners[old]"),
            (
                "timeout: 5s",
                "timeout: 6s",
                "~ servers[0].routers[r].virtual_hosts[shop].routers[prefix /b].route.timeout: 5s -> 6s",
            ),
            (
                "direct_response: {status: 200}",
                "direct_response: {status: 404}",
                "~ servers[0].routers[r].virtual_hosts[shop].routers[path /c].direct_response.status: 200 -> 404",
            ),
            (
                "domains: [shop.test]",
                "domains: [shop.test, \"*\"]",
                "~ servers[0].routers[r].virtual_hosts[shop].domains: [\"shop.test\"] -> [\"shop.test\",\"*\"]",
            ),
            (
                "limits:",
                "dataplane: {workers: 2}\nlimits:",
                "~ dataplane.workers: auto (default) -> 2 (only by a restart)",
            ),
            ("limits:", "admin: {}\nlimits:", "+ admin: {} (only by a restart)"),
        ] {
            assert_eq!(plan(&[(from, to)]), [expected], "{from} => {to}");
        }
    }

    #[test]
    fn a_new_element_leaves_the_others_alone() {
        let first = "  - {name: first, address: 127.0.0.1:79, router_config_name: r}\n";
        let listeners = format!("  listeners:\n{first}");
        let added = "+ servers[0].listeners[first]: {\"name\":\"first\",\"address\":\"127.0.0.1:79\",\"router_config_name\":\"r\"}";
        assert_eq!(plan(&[("  listeners:\n", &listeners)]), [added]);
        let c = "      - {match: {path: /c}, direct_response: {status: 200}}\n";
        let moved = plan(&[(c, ""), ("      routers:\n", &format!("      routers:\n{c}"))]);
        assert_eq!(moved, ["~ servers[0].routers[r].virtual_hosts[shop].routers[path /c]: place 3 -> 1"]);
    }

    #[test]
    fn the_last_line_counts() {
        let empty = Plan::default();
        assert_eq!(empty.to_string(), "nothing would change");
        let change = |path: &str| Change::new(path.into(), Effect::Removed);
        let plan = Plan { changes: vec![change("limits.x"), change("admin")] };
        assert_eq!(
            plan.to_string(),
            "- limits.x\n- admin (only by a restart)\n2 changes, of which 1 only by a restart"
        );
    }

    #[test]
    fn no_secret_is_shown() {
        let file = |key: &str| {
            format!(
                "servers: [{{listeners: [{{name: l, address: :1, stream_filters: [{{type: x, config: {{password: {key}}}}}], filter_chains: [{{tls_context: {{cert_chain: a, private_key: \"-----BEGIN PRIVATE KEY-----{key}\"}}}}]}}]}}]
tls_backend: {{accelerators: [{{name: t, id: pkcs11, parameters: {{PIN: {key}}}}}]}}"
            )
        };
        let (one, two) = (Document::parse(&file("oneone"), "a"), Document::parse(&file("twotwo"), "b"));
        for (old, new, count) in [(&one, &two, 3), (&Document::parse("servers: []", "c"), &one, 2), (&one, &one, 0)] {
            let plan = Plan::between(old, new);
            assert_eq!(plan.changes.len(), count, "{plan}");
            // What a running process tells of itself has marks for secrets: they stand for the same.
            let dump = Document::of_dump(&format!("{{\"mosn_config\": {}}}", old.redacted_json()), "dump");
            assert_eq!(Plan::between(&dump, new).changes.len(), count);
            assert!(!plan.to_string().contains("oneone") && !plan.to_string().contains("twotwo"), "{plan}");
        }
    }
}

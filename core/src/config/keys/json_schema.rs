//! The JSON Schema of the configuration, for editors, printed from the tables of keys.
//!
//! Draft 7, which editors know best. A key without function yet is known to it too, with what that means.
//!
//! **Invariant:** nothing is said here of a key that the tables do not say.

use super::planned::{CLUSTER_TYPES, INNER, PLANNED};
use super::working::SECTIONS;
use super::{Key, Kind, Section};
use crate::config::json::write_text;

/// `docs/reference/ferrogate.schema.json`.
#[must_use]
pub fn json_schema() -> String {
    let mut definitions: Vec<String> = SECTIONS.iter().map(section).collect();
    definitions.extend(INNER.iter().map(|(row, _)| within(row)));
    format!("{HEAD}{}\n  }}\n}}\n", definitions.join(",\n"))
}

fn section(section: &Section) -> String {
    let planned = PLANNED.iter().filter(|p| p.section == section.name).map(|row| {
        let description = quoted(&format!("No function yet ({}): {}.", row.severity, row.effect));
        let schema = match row.inner {
            "" => format!("{{\"description\": {description}}}"),
            inner => format!("{{\"description\": {description}, {}}}", one_or_list(inner)),
        };
        property(row.name, &schema)
    });
    let properties: Vec<String> =
        section.keys.iter().map(|k| property(k.name, &key(section, k))).chain(planned).collect();
    let required: Vec<String> = section.keys.iter().filter(|k| k.is_required()).map(|k| quoted(k.name)).collect();
    let mut rest = Vec::new();
    for key in section.keys {
        let Kind::ByType(types) = key.kind else { continue };
        let each = types.iter().map(|(kind, name)| {
            let config = property(key.name, &reference(name));
            format!(
                "        {{\"if\": {{\"properties\": {{\"type\": {{\"enum\": [{}]}}}}}},\n         \"then\": {{\"properties\": {{{}}}}}}}",
                quoted(kind),
                config.trim_start()
            )
        });
        rest.push(format!("      \"allOf\": [\n{}\n      ]", each.collect::<Vec<_>>().join(",\n")));
    }
    object(section.name, &properties, &required, &rest)
}

/// The keys within a key that has no function yet.
fn within(row: &str) -> String {
    let properties: Vec<String> = super::inner(row)
        .map(|(key, within)| match within {
            "" => property(key, "{}"),
            row => property(key, &format!("{{{}}}", one_or_list(row))),
        })
        .collect();
    object(&format!("within_{row}"), &properties, &[], &[])
}

fn object(name: &str, properties: &[String], required: &[String], rest: &[String]) -> String {
    let required = match required {
        [] => String::new(),
        names => format!("      \"required\": [{}],\n", names.join(", ")),
    };
    let properties = properties.join(",\n");
    let rest: String = rest.iter().map(|member| format!(",\n{member}")).collect();
    format!(
        "    {}: {{\n      \"type\": \"object\",\n      \"additionalProperties\": false,\n{required}      \"properties\": {{\n{properties}\n      }}{rest}\n    }}",
        quoted(name)
    )
}

fn property(name: &str, schema: &str) -> String {
    format!("        {}: {schema}", quoted(name))
}

fn key(section: &Section, key: &Key) -> String {
    let mut description = key.meaning.to_owned();
    if !key.default.is_empty() {
        description.push_str(&format!(" Default: {}.", key.default));
    }
    if super::page::takes_restart(section, key) {
        description.push_str(" Takes a restart.");
    }
    format!("{{\"description\": {}{}}}", quoted(description.trim_start()), kind(section, key))
}

/// What a value must look like, as further members of its schema.
fn kind(section: &Section, key: &Key) -> String {
    // tidy: table
    match key.kind {
        Kind::Text | Kind::Address | Kind::Pem => ", \"type\": \"string\"".into(),
        Kind::Bool => ", \"type\": \"boolean\"".into(),
        Kind::Number if key.default == "auto" => ", \"anyOf\": [{\"type\": \"number\"}, {\"enum\": [\"auto\"]}]".into(),
        Kind::Number => ", \"type\": \"number\"".into(),
        Kind::Duration => format!(", \"type\": [\"string\", \"integer\"], \"pattern\": {}", quoted(DURATION)),
        Kind::Size => format!(", \"type\": [\"string\", \"integer\"], \"pattern\": {}", quoted(SIZE)),
        Kind::Choice(words) => format!(", \"enum\": [{}]", choices(section, key, words)),
        Kind::Texts => ", \"type\": \"array\", \"items\": {\"type\": \"string\"}".into(),
        Kind::Numbers => ", \"type\": \"array\", \"items\": {\"type\": \"number\"}".into(),
        // Of the second kind what stands within depends on the type beside it.
        Kind::Any | Kind::ByType(_) => String::new(),
        Kind::Map(name) => format!(", \"allOf\": [{}]", reference(name)),
        Kind::Maps(name) => format!(", \"type\": \"array\", \"items\": {}", reference(name)),
    }
}

/// The words of a choice in both cases, as the reader takes them, and those that have no function yet.
fn choices(section: &Section, key: &Key, words: &[&str]) -> String {
    let variants = match (section.name, key.name) {
        ("cluster", "type") => CLUSTER_TYPES,
        _ => &[],
    };
    let mut all: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    all.extend(words.iter().map(|w| w.to_ascii_lowercase()).filter(|w| !words.contains(&w.as_str())));
    all.extend(variants.iter().map(|v| v.name.to_owned()));
    all.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ")
}

/// A map of this row, a list of them, or nothing.
fn one_or_list(row: &str) -> String {
    let one = reference(&format!("within_{row}"));
    format!("\"anyOf\": [{one}, {{\"type\": \"array\", \"items\": {one}}}, {{\"type\": \"null\"}}]")
}

fn reference(name: &str) -> String {
    format!("{{\"$ref\": {}}}", quoted(&format!("#/definitions/{name}")))
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    write_text(&mut out, text);
    out
}

const HEAD: &str = r##"{
  "$schema": "http://json-schema.org/draft-07/schema#",
  "title": "Ferrogate configuration",
  "description": "Printed from core/src/config/keys: FERROGATE_BLESS=1 cargo test -p ferrogate-core --test config",
  "allOf": [{"$ref": "#/definitions/file"}],
  "definitions": {
"##;

/// A duration as Go writes it.
const DURATION: &str = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

/// A number of bytes.
const SIZE: &str = "^[0-9]+ *(B|KiB|MiB|GiB)?$";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::{self, Node, Value};

    /// Why a value does not fit a schema: the rules of draft 7 that are used here, but patterns.
    fn misfit(root: &Node, schema: &Node, value: &Node) -> Option<String> {
        if let Some(Node { value: Value::Text(reference), .. }) = schema.get("$ref") {
            let name = reference.strip_prefix("#/definitions/").unwrap();
            return misfit(root, root.get("definitions").unwrap().get(name).expect(name), value);
        }
        let list = |key: &str| schema.get(key).map_or(&[][..], Node::elements);
        let (all, any, words) = (list("allOf"), list("anyOf"), list("enum"));
        let told = format!("{}:{}", value.place.line, value.place.column);
        if let Some(found) = all.iter().find_map(|s| misfit(root, s, value)) {
            return Some(found);
        }
        if !any.is_empty() && any.iter().all(|s| misfit(root, s, value).is_some()) {
            return Some(format!("{told}: none of {any:?}"));
        }
        if !words.is_empty() && !words.iter().any(|w| format!("{:?}", w.value) == format!("{:?}", value.value)) {
            return Some(format!("{told}: none of the words"));
        }
        if let Some(types) = schema.get("type") {
            let types: Vec<String> = match &types.value {
                Value::Text(one) => vec![one.clone()],
                _ => types.elements().iter().map(|t| format!("{:?}", t.value)).collect(),
            };
            let is = match value.value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Int(_) => "number integer",
                Value::Float(_) => "number",
                Value::Text(_) => "string",
                Value::List(_) => "array",
                Value::Map(_) => "object",
            };
            if !is.split(' ').any(|is| types.iter().any(|t| t.contains(is))) {
                return Some(format!("{told}: {is} is none of {types:?}"));
            }
        }
        if let (Some(condition), Some(then)) = (schema.get("if"), schema.get("then"))
            && misfit(root, condition, value).is_none()
            && let Some(found) = misfit(root, then, value)
        {
            return Some(found);
        }
        misfit_within(root, schema, value)
    }

    fn misfit_within(root: &Node, schema: &Node, value: &Node) -> Option<String> {
        if let Some(items) = schema.get("items") {
            return value.elements().iter().find_map(|element| misfit(root, items, element));
        }
        let (Some(properties), Value::Map(entries)) = (schema.get("properties"), &value.value) else { return None };
        for name in schema.get("required").map_or(&[][..], Node::elements) {
            let Value::Text(name) = &name.value else { panic!() };
            if value.get(name).is_none() {
                return Some(format!("{}: {name} is missing", value.place.line));
            }
        }
        entries.iter().find_map(|entry| match properties.get(&entry.key) {
            None if schema.get("additionalProperties").is_none() => None,
            None => Some(format!("{}: {} is unknown", entry.place.line, entry.key)),
            Some(schema) => misfit(root, schema, &entry.node),
        })
    }

    fn check(text: &str) -> Option<String> {
        let schema = tree::parse(&json_schema(), 0).unwrap().unwrap();
        misfit(&schema, &schema, &tree::parse(text, 0).unwrap().unwrap())
    }

    #[test]
    fn good_files_fit() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in [
            "../configs/kernel.yaml",
            "../configs/dpdk.yaml",
            "../configs/demo.yaml",
            "tests/data/config/short.yaml",
            "tests/data/config/mosn_gateway.json",
            "tests/data/config/mosn_sidecar_bolt.json",
        ] {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            assert_eq!(check(&text), None, "{file}");
        }
        for text in ["servers: [{default_log_level: info, processor: auto}]", "servers: []\nlimits: {idle_timeout: 5}"]
        {
            assert_eq!(check(text), None, "{text}");
        }
    }

    #[test]
    fn bad_files_do_not() {
        for text in [
            "{}",
            "servers: 5",
            "servers: [{listeners: [{name: x}]}]",
            "servers: [{listeners: [{adress: x}]}]",
            "servers: [{default_log_level: loud}]",
            "servers: []\nlimits: {head_fields_max: many}",
            "servers: []\ndataplane: {workers: some}",
            "servers: []\nmetrics: {sinks: [{tpe: x}]}",
            "servers: [{listeners: [{address: :1, filter_chains: [{filters: [{type: proxy, config: {cluster: x}}]}]}]}]",
            "servers: [{listeners: [{address: :1, filter_chains: [{filters: [{type: tcp_proxy, config: {via: x}}]}]}]}]",
        ] {
            assert!(check(text).is_some(), "{text}");
        }
    }
}

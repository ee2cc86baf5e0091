//! Fields that are added to messages and taken away from them, at any of the three levels.
//!
//! **Invariant:** no edit touches a field that says where a message ends or what becomes of its connection.

use crate::config::keys;
use crate::config::reader::{Fields, Reader, did_you_mean};
use crate::config::schema::{Edits, FieldAdd, Template, Variable};
use crate::config::tree::{Node, Value};

/// The four keys of a router, a virtual host, a route or its action.
pub(super) fn edits(r: &mut Reader, fields: &Fields<'_>) -> Edits {
    let edits = Edits {
        request_add: fields.list(r, "request_headers_to_add", add),
        request_remove: fields.list(r, "request_headers_to_remove", name),
        response_add: fields.list(r, "response_headers_to_add", add),
        response_remove: fields.list(r, "response_headers_to_remove", name),
    };
    of_request(r, fields, "request_headers_to_add", &edits.request_add);
    if edits.request_remove.iter().any(|name| name == "host") {
        let message = "every request has a Host field: it can't be taken away";
        fields.report(r, "request_headers_to_remove", |r, node| r.error(node.place, message, ""));
    }
    edits
}

impl Edits {
    /// What `more` does, behind what this does.
    pub(super) fn append(&mut self, more: Self) {
        self.request_add.extend(more.request_add);
        self.request_remove.extend(more.request_remove);
        self.response_add.extend(more.response_add);
        self.response_remove.extend(more.response_remove);
    }
}

/// What can only be said of an answer is not known when a request leaves.
fn of_request(r: &mut Reader, fields: &Fields<'_>, key: &str, adds: &[FieldAdd]) {
    let Some(node) = fields.get(key) else { return };
    if adds.iter().any(|add| add.name == "host") {
        r.at(key, |r| r.error(node.place, "the Host field is not added", "write `host_rewrite`"));
    }
    if adds.iter().flat_map(|add| add.value.variables()).any(|variable| !variable.is_of_request()) {
        r.at(key, |r| r.error(node.place, "a variable of the answer, which is not known when the request leaves", ""));
    }
}

fn add(r: &mut Reader, node: &Node) -> Option<FieldAdd> {
    let fields = r.map(node, "header_add")?;
    let append = fields.boolean(r, "append").unwrap_or(true);
    if fields.get("header").is_none() {
        fields.missing(r, "header");
    }
    let (name, value) = fields.with(r, "header", |r, node| {
        let fields = r.map(node, "header")?;
        fields.required(r, "key")?;
        let name = fields.with(r, "key", name)?;
        let value = match fields.get("value") {
            None => String::new(),
            Some(node) => match &node.value {
                // As MOSN's own dumps have them; what stands in quotes in JSON may be bare in YAML.
                Value::Int(i) => i.to_string(),
                Value::Bool(b) => b.to_string(),
                _ => r.at("value", |r| r.text(node))?,
            },
        };
        fields.report(r, "value", |r, node| check_value(r, node, &value));
        Some((name, value))
    })?;
    Some(FieldAdd { name, value: Template::parse(&value), append })
}

fn check_value(r: &mut Reader, node: &Node, value: &str) {
    if value.bytes().any(|b| b != b'\t' && (b < 0x20 || b == 0x7f)) {
        r.error(node.place, "a field's value holds no control characters", "");
    }
    let inner = value.strip_prefix('%').and_then(|rest| rest.strip_suffix('%'));
    if let Some(name) = inner.filter(|name| !name.is_empty() && !name.contains(['%', ' ']))
        && Variable::of(name).is_none()
    {
        let nearest = keys::nearest(name, Variable::names());
        r.error(node.place, format!("there is no variable `{name}`"), did_you_mean(nearest));
    }
}

/// The name of a field that may be changed, in lower case.
fn name(r: &mut Reader, node: &Node) -> Option<String> {
    let text = field_name(r, node)?;
    if OURS.contains(&text.as_str()) {
        r.error(node.place, format!("`{text}` is written by the gateway itself: it can't be changed"), "");
        return None;
    }
    Some(text)
}

/// The name of a field, in lower case.
pub(super) fn field_name(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.text(node)?.to_ascii_lowercase();
    if !is_token(&text) {
        r.error(node.place, format!("`{text}` is no name of a field"), "");
        return None;
    }
    Some(text)
}

/// Whether a text is a token (RFC 9110, 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Fields about the length of a message or about its connection.
const OURS: &[&str] = &[
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

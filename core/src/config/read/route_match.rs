//! `match` of a route.
//!
//! **Invariant:** a condition that can't be read takes its route with it: no route becomes wider by a mistake.

use super::edits::field_name;
use crate::config::keys;
use crate::config::reader::{Fields, Reader, did_you_mean};
use crate::config::schema::{FieldMatch, Match, PathMatch, Pattern, ValueMatch, Variable, VariableMatch};
use crate::config::tree::Node;

pub(super) fn matching(r: &mut Reader, node: &Node) -> Option<Match> {
    let fields = r.map(node, "match")?;
    let path = path(r, &fields)?;
    let (header_list, variable_list) = (all(r, &fields, "headers", header), all(r, &fields, "variables", variable));
    let (mut headers, mut variables) = (header_list?, variable_list?);
    let given = |key: &str| fields.get(key).filter(|n| !n.is_neutral());
    match (&path, given("headers"), given("variables")) {
        (Some(path), _, Some(node)) => {
            r.warn(node.place, format!("`{}` wins, `variables` has no effect", kind(path)), "keep one of the two");
            variables.clear();
        }
        (None, Some(node), Some(_)) => {
            r.warn(node.place, "`variables` wins, `headers` has no effect", "write them as variables, too");
            headers.clear();
        }
        (None, Some(_), None) => service(&mut headers),
        (None, None, None) => {
            // A match by something that has no function yet was reported already.
            if node.get("dsl_expressions").is_none() {
                r.error(node.place, "nothing to match", "write `prefix`, `path`, `regex`, `headers` or `variables`");
            }
            return None;
        }
        _ => {}
    }
    // The method is no field, but is written like one.
    let (methods, named) = headers.into_iter().partition::<Vec<_>, _>(|field| field.name == "method");
    let of_method = |m: FieldMatch| VariableMatch { variable: Variable::Method, value: m.value, or: false };
    variables.splice(0..0, methods.into_iter().map(of_method));
    Some(Match { path: path.unwrap_or(PathMatch::Any), fields: named, variables })
}

/// What the path must be: None where it does not matter; the outer None where it can't be read.
#[expect(clippy::option_option, reason = "read or not, and there or not")]
fn path(r: &mut Reader, fields: &Fields<'_>) -> Option<Option<PathMatch>> {
    let (prefix, path) = (fields.text(r, "prefix"), fields.text(r, "path"));
    let regex = fields.text(r, "regex").is_some().then(|| fields.with(r, "regex", pattern));
    for text in prefix.iter().chain(&path) {
        if !text.starts_with('/') {
            r.warn(fields.node.place, format!("`{text}` does not start with `/`: no path matches it"), "");
        }
    }
    let mut given = [("prefix", prefix.is_some()), ("path", path.is_some()), ("regex", regex.is_some())]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key));
    if let Some(first) = given.next() {
        for other in given {
            let message = format!("`{first}` wins, `{other}` has no effect");
            fields.report(r, other, |r, node| r.warn(node.place, message, "keep one of the two"));
        }
    }
    Some(match (prefix, path, regex) {
        (Some(prefix), ..) => Some(PathMatch::Prefix(prefix)),
        (None, Some(path), _) => Some(PathMatch::Path(path)),
        (None, None, Some(regex)) => Some(PathMatch::Regex(regex?)),
        (None, None, None) => None,
    })
}

fn kind(path: &PathMatch) -> &'static str {
    match path {
        PathMatch::Prefix(_) => "prefix",
        PathMatch::Path(_) => "path",
        PathMatch::Regex(_) | PathMatch::Any => "regex",
    }
}

/// Every element of a list; None when one of them can't be read.
fn all<T>(
    r: &mut Reader,
    fields: &Fields<'_>,
    key: &str,
    mut read: impl FnMut(&mut Reader, &Node) -> Option<T>,
) -> Option<Vec<T>> {
    let mut whole = true;
    let list = fields.list(r, key, |r, node| {
        let element = read(r, node);
        whole &= element.is_some();
        element
    });
    whole.then_some(list)
}

pub(super) fn header(r: &mut Reader, node: &Node) -> Option<FieldMatch> {
    let fields = r.map(node, "header_match")?;
    fields.required(r, "name")?;
    let name = fields.with(r, "name", field_name)?;
    let regex = fields.boolean(r, "regex").unwrap_or(false);
    let value = match fields.text(r, "value") {
        None => ValueMatch::Present,
        Some(_) if regex => ValueMatch::Regex(fields.with(r, "value", pattern)?),
        Some(text) => ValueMatch::Exact(text),
    };
    Some(FieldMatch { name, value })
}

/// MOSN's rule for RPC: of a field called `service` alone, `.*` is any value and all else is literal.
fn service(headers: &mut [FieldMatch]) {
    let [FieldMatch { name, value }] = headers else { return };
    if name != "service" {
        return;
    }
    let text = match value {
        ValueMatch::Regex(pattern) => pattern.text().to_owned(),
        ValueMatch::Exact(text) => text.clone(),
        ValueMatch::Present => return,
    };
    *value = if text == ".*" { ValueMatch::Present } else { ValueMatch::Exact(text) };
}

fn variable(r: &mut Reader, node: &Node) -> Option<VariableMatch> {
    let fields = r.map(node, "variable_match")?;
    let name = fields.required(r, "name")?;
    let variable = fields.with(r, "name", |r, node| known(r, node, &name));
    let or = fields.choice(r, "model", &[("and", false), ("or", true)]).unwrap_or(false);
    // As in MOSN, a pattern wins over a value.
    let value = match (fields.text(r, "regex"), fields.text(r, "value")) {
        (Some(_), _) => ValueMatch::Regex(fields.with(r, "regex", pattern)?),
        (None, Some(text)) => ValueMatch::Exact(text),
        (None, None) => {
            r.error(node.place, "nothing to compare with", "write `value` or `regex`");
            return None;
        }
    };
    Some(VariableMatch { variable: variable?, value, or })
}

/// A variable that a request has before it is sent.
pub(super) fn known(r: &mut Reader, node: &Node, name: &str) -> Option<Variable> {
    let variable = Variable::of(name).filter(Variable::is_of_request).filter(|v| *v != Variable::RouteName);
    if variable.is_none() {
        let nearest = keys::nearest(name, Variable::names());
        r.error(node.place, format!("there is no variable `{name}` of a request"), did_you_mean(nearest));
    }
    variable
}

/// A regular expression.
pub(super) fn pattern(r: &mut Reader, node: &Node) -> Option<Pattern> {
    let text = r.text(node)?;
    Pattern::new(&text).map_err(|error| r.error(node.place, format!("`{text}` {error}"), "")).ok()
}

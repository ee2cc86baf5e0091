//! Fields that a route, its virtual host and its router add to messages and take away from them.
//!
//! **Invariant:** a value with a byte that no field may have is not written; a field that is to be set and has no value is taken away, so
//! that what a client sent never passes for ours.

use super::variable::Facts;
use crate::config::schema::{self, FieldAdd, Piece, Template};
use crate::message::{Exchange, HttpHead};

/// All edits of one direction, in order. Empty where there are none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edits(Box<[Edit]>);

#[derive(Debug, PartialEq, Eq)]
enum Edit {
    Add(String, Value),
    Set(String, Value),
    Remove(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Text(Box<[u8]>),
    Template(Template),
}

impl Edits {
    /// For requests, of the levels from the innermost to the outermost.
    pub(super) fn of_requests(levels: &[&schema::Edits]) -> Self {
        Self::new(levels.iter().map(|level| (level.request_add.as_slice(), level.request_remove.as_slice())))
    }

    /// For answers, of the same.
    pub(super) fn of_responses(levels: &[&schema::Edits]) -> Self {
        Self::new(levels.iter().map(|level| (level.response_add.as_slice(), level.response_remove.as_slice())))
    }

    fn new<'c>(levels: impl Iterator<Item = (&'c [FieldAdd], &'c [String])>) -> Self {
        let edits = levels.flat_map(|(add, remove)| {
            let add = add.iter().map(Edit::of);
            add.chain(remove.iter().map(|name| Edit::Remove(name.clone())))
        });
        Self(edits.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Edits the request of `x`.
    pub(super) fn apply_to_request(&self, x: &mut Exchange, route: &str) {
        let mut scratch = Vec::new();
        for edit in &self.0 {
            let known = edit.value().is_none_or(|v| Facts { route, ..Facts::of(x) }.write(v, &mut scratch));
            if let Some(head) = x.request.head.fields_mut() {
                edit.apply(head, known, &scratch);
            }
            scratch.clear();
        }
    }

    /// Edits an answer to `x`.
    pub(super) fn apply_to_response(&self, x: &Exchange, route: &str, head: &mut HttpHead) {
        let mut scratch = Vec::new();
        for edit in &self.0 {
            let facts = Facts { route, response: Some(head), ..Facts::of(x) };
            let known = edit.value().is_none_or(|value| facts.write(value, &mut scratch));
            edit.apply(head, known, &scratch);
            scratch.clear();
        }
    }
}

impl Edit {
    fn of(add: &FieldAdd) -> Self {
        let value = match add.value.0.as_slice() {
            [] => Value::Text(Box::default()),
            [Piece::Text(text)] => Value::Text(text.as_bytes().into()),
            _ => Value::Template(add.value.clone()),
        };
        if add.append { Self::Add(add.name.clone(), value) } else { Self::Set(add.name.clone(), value) }
    }

    fn value(&self) -> Option<&Template> {
        match self {
            Self::Add(_, Value::Template(template)) | Self::Set(_, Value::Template(template)) => Some(template),
            _ => None,
        }
    }

    /// `scratch` is the value of a template; `known` says whether it has one.
    fn apply(&self, head: &mut HttpHead, known: bool, scratch: &[u8]) {
        let text = |value: &'_ Value| match value {
            Value::Text(text) => text.to_vec(),
            Value::Template(_) => scratch.to_vec(),
        };
        match self {
            Self::Remove(name) => drop(head.remove(name)),
            // A cookie of its own line (RFC 6265, 3): a comma would be a part of it.
            Self::Add(name, value) if known && name == "set-cookie" => drop(head.append(name, &text(value))),
            Self::Add(name, value) if known => drop(head.join(name, &text(value))),
            Self::Add(..) => {}
            Self::Set(name, value) => {
                if !known || !head.set(name, &text(value)) {
                    head.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::exchange;

    fn add(name: &str, value: &str, append: bool) -> FieldAdd {
        FieldAdd { name: name.into(), value: Template::parse(value), append }
    }

    fn text(head: &HttpHead) -> Vec<String> {
        head.fields().map(|(_, n, v)| String::from_utf8([n, b"=", v].concat()).unwrap()).collect()
    }

    #[test]
    fn levels_apply_from_the_inside_out() {
        let route = schema::Edits {
            request_add: vec![
                add("x-a", "1", true),
                add("x-set", "%request_method% of %request_header_x-a%", false),
                add("x-none", "%request_header_x-nothing%", true),
                add("x-client", "%request_header_x-nothing%", false),
            ],
            request_remove: vec!["x-gone".into()],
            ..schema::Edits::default()
        };
        let outer = schema::Edits {
            request_add: vec![add("x-a", "2", true), add("x-gone", "back", true)],
            ..schema::Edits::default()
        };
        let sent = [("host", "h"), ("X-A", "0"), ("x-gone", "1"), ("x-client", "forged"), ("x-set", "a")];
        let mut x = exchange("GET", "/", &sent);
        Edits::of_requests(&[&route, &outer]).apply_to_request(&mut x, "r");
        let fields = text(x.request.head.fields().unwrap());
        assert_eq!(fields, ["host=h", "X-A=0,1,2", "x-set=GET of 0,1", "x-gone=back"]);
    }

    #[test]
    fn answers_are_edited_too() {
        let route = schema::Edits {
            response_add: vec![
                add("x-status", "%response_code%", true),
                add("set-cookie", "a=1", true),
                add("server", "edge", false),
                add("x-route", "%route_name%", true),
            ],
            response_remove: vec!["x-powered-by".into()],
            ..schema::Edits::default()
        };
        let mut head = HttpHead::response(203);
        for (name, value) in [("Server", "origin"), ("Set-Cookie", "b=2"), ("X-Powered-By", "x")] {
            assert!(head.append(name, value.as_bytes()));
        }
        Edits::of_responses(&[&route]).apply_to_response(&exchange("GET", "/", &[]), "main", &mut head);
        assert_eq!(text(&head), ["Set-Cookie=b=2", "x-status=203", "set-cookie=a=1", "server=edge", "x-route=main"]);
    }
}

//! What must hold of a request besides its path.
//!
//! **Invariant:** a request that lacks what is asked about does not pass.

use regex::bytes::Regex;

use super::variable::Facts;
use crate::config::schema::{Match, ValueMatch, Variable};

/// The conditions of a route on fields and variables.
#[derive(Debug)]
pub(super) struct Conditions {
    fields: Box<[(String, Test)]>,
    variables: Box<[(Variable, Test, bool)]>,
}

/// What a text must be.
#[derive(Debug)]
enum Test {
    Exact(Box<[u8]>),
    Present,
    Regex(Regex),
}

impl Conditions {
    /// Those of a route; None where there are none.
    pub(super) fn new(matching: &Match) -> Option<Box<Self>> {
        if matching.fields.is_empty() && matching.variables.is_empty() {
            return None;
        }
        let fields = matching.fields.iter().map(|field| (field.name.clone(), Test::new(&field.value)));
        let variables = matching.variables.iter().map(|v| (v.variable.clone(), Test::new(&v.value), v.or));
        Some(Box::new(Self { fields: fields.collect(), variables: variables.collect() }))
    }

    pub(super) fn hold(&self, facts: &Facts<'_>) -> bool {
        let Some(head) = facts.exchange.request.head.fields() else { return false };
        let field = |(name, test): &(String, Test)| head.get(name).is_some_and(|value| test.passes(value));
        self.fields.iter().all(field) && self.variables_hold(facts)
    }

    /// From the left: what is joined by `and` must hold together; `or` ends such a group, and one group is enough.
    fn variables_hold(&self, facts: &Facts<'_>) -> bool {
        let mut group = true;
        for (at, (variable, test, or)) in self.variables.iter().enumerate() {
            group = group && facts.get(variable).map_or_else(|| test.passes(b""), |value| test.passes(&value));
            if *or && group {
                return true;
            }
            // An `or` at the end has nothing behind it: the group before it is the last.
            group |= *or && at + 1 < self.variables.len();
        }
        group
    }
}

impl Test {
    fn new(value: &ValueMatch) -> Self {
        match value {
            ValueMatch::Exact(text) => Self::Exact(text.as_bytes().into()),
            ValueMatch::Present => Self::Present,
            ValueMatch::Regex(pattern) => Self::Regex(pattern.regex().clone()),
        }
    }

    fn passes(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => **text == *value,
            Self::Present => !value.is_empty(),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{FieldMatch, PathMatch, Pattern, VariableMatch};
    use crate::router::tests::exchange;

    fn exact(text: &str) -> ValueMatch {
        ValueMatch::Exact(text.into())
    }

    fn holds(matching: &Match) -> bool {
        let x = exchange("PUT", "/p?a=1", &[("host", "h"), ("x-env", "green-2"), ("X-Env", "blue"), ("x-empty", "")]);
        Conditions::new(matching).unwrap().hold(&Facts::of(&x))
    }

    #[test]
    fn every_field_must_pass() {
        let regex = |text: &str| ValueMatch::Regex(Pattern::new(text).unwrap());
        for (fields, passes) in [
            (vec![("x-env", exact("green-2"))], true),
            (vec![("x-env", exact("blue"))], false),
            (vec![("x-env", exact("Green-2"))], false),
            (vec![("x-env", regex("en-[0-9]$"))], true),
            (vec![("x-env", regex("^en"))], false),
            (vec![("x-env", ValueMatch::Present), ("x-none", ValueMatch::Present)], false),
            (vec![("x-empty", ValueMatch::Present)], false),
            (vec![("host", exact("h")), ("x-env", ValueMatch::Present)], true),
        ] {
            let list = fields.iter().map(|(n, v)| FieldMatch { name: (*n).into(), value: v.clone() }).collect();
            let matching = Match { path: PathMatch::Any, fields: list, variables: Vec::new() };
            assert_eq!(holds(&matching), passes, "{fields:?}");
        }
    }

    #[test]
    fn variables_are_joined_from_the_left() {
        // What each says of itself, and whether an `or` follows.
        for (list, passes) in [
            (vec![(true, false), (true, false)], true),
            (vec![(true, false), (false, false)], false),
            (vec![(true, true), (false, false)], true),
            (vec![(false, true), (true, false)], true),
            (vec![(false, true), (false, false)], false),
            (vec![(false, false), (true, true), (false, false)], false),
            (vec![(false, false), (true, true), (true, false)], true),
            (vec![(false, true)], false),
            (vec![(true, true), (false, true)], true),
        ] {
            let item = |&(is, or): &(bool, bool)| VariableMatch {
                variable: Variable::Method,
                value: exact(if is { "PUT" } else { "GET" }),
                or,
            };
            let variables = list.iter().map(item).collect();
            assert_eq!(holds(&Match { path: PathMatch::Any, fields: Vec::new(), variables }), passes, "{list:?}");
        }
    }
}

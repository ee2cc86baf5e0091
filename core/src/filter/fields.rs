//! Whether a request has the fields that a filter is for.
//!
//! **Invariant:** linear in the length of the head.

use crate::config::schema::{FieldMatch, ValueMatch};
use crate::message::HttpHead;

/// Whether all of `rules` hold for `head`.
pub(super) fn all_hold(rules: &[FieldMatch], head: Option<&HttpHead>) -> bool {
    let holds = |rule: &FieldMatch| match (head.and_then(|h| h.get(&rule.name)), &rule.value) {
        (None, _) => false,
        (Some(value), ValueMatch::Present) => !value.is_empty(),
        (Some(value), ValueMatch::Exact(text)) => value == text.as_bytes(),
        (Some(value), ValueMatch::Regex(pattern)) => pattern.regex().is_match(value),
    };
    rules.iter().all(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::Pattern;

    #[test]
    fn every_rule_must_hold_for_the_first_field_of_its_name() {
        let mut head = HttpHead::request("GET", b"/");
        head.append("X-User", b"anna");
        head.append("x-user", b"bert");
        let rule = |name: &str, value| FieldMatch { name: name.into(), value };
        let anna = rule("x-user", ValueMatch::Exact("anna".into()));
        for (rules, holds) in [
            (vec![], true),
            (vec![anna.clone()], true),
            (vec![rule("x-user", ValueMatch::Exact("bert".into()))], false),
            (vec![anna.clone(), rule("x-other", ValueMatch::Present)], false),
            (vec![anna, rule("X-USER", ValueMatch::Regex(Pattern::new("^a.*a$").unwrap()))], true),
        ] {
            assert_eq!(all_hold(&rules, Some(&head)), holds, "{rules:?}");
        }
        assert!(!all_hold(&[rule("a", ValueMatch::Present)], None));
    }
}

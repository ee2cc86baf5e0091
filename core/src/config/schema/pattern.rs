//! Regular expressions of the file.
//!
//! **Invariant:** what is here has been compiled, within bounds: a pattern can't make a worker hold more than its share of memory, and
//! matching is linear in the text.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// A regular expression in RE2's syntax, searched for anywhere in the text unless it has anchors.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Why a text is no [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// Its syntax is wrong. Holds what the parser says, in one line.
    Syntax(Box<str>),
    /// Its program would be larger than a pattern may be.
    TooLarge,
}

impl Pattern {
    /// Compiles a text. Classes like `\d` are those of ASCII, as in RE2; a pattern that needs more of Unicode gets Unicode's.
    ///
    /// # Errors
    /// When the text is no expression, or too large a one.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let build = |unicode| {
            let mut builder = RegexBuilder::new(text);
            builder.unicode(unicode).size_limit(PROGRAM_BYTES_MAX).dfa_size_limit(CACHE_BYTES_MAX).build()
        };
        let regex = build(false).or_else(|_| build(true)).map_err(|error| PatternError::of(&error))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// As the file has it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it compiled to.
    #[must_use]
    pub fn regex(&self) -> &Regex {
        &self.regex
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl PatternError {
    fn of(error: &regex::Error) -> Self {
        match error {
            regex::Error::CompiledTooBig(_) => Self::TooLarge,
            // The parser draws the place under the pattern; its last line says what is wrong.
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                Self::Syntax(last.trim_start_matches("error: ").into())
            }
        }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(what) => write!(f, "is no regular expression: {what}"),
            Self::TooLarge => write!(f, "is a regular expression larger than {} KiB", PROGRAM_BYTES_MAX >> 10),
        }
    }
}

impl std::error::Error for PatternError {}

/// A compiled pattern, at most, in bytes.
const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// What a thread remembers of a pattern's states while it matches, at most, in bytes.
const CACHE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_search_and_are_bounded() {
        let pattern = Pattern::new("/item/[0-9]+$").unwrap();
        assert!(pattern.regex().is_match(b"/shop/item/12") && !pattern.regex().is_match(b"/item/12/"));
        assert!(!Pattern::new(r"^\d$").unwrap().regex().is_match("٣".as_bytes()), "digits are those of ASCII");
        assert!(Pattern::new(r"^\p{Greek}+$").unwrap().regex().is_match("αβγ".as_bytes()));
        assert!(matches!(Pattern::new("(a"), Err(PatternError::Syntax(what)) if what.contains("unclosed group")));
        assert_eq!(Pattern::new("(a{1000}){1000}"), Err(PatternError::TooLarge));
        assert_eq!(Pattern::new("a").unwrap(), Pattern::new("a").unwrap());
    }
}

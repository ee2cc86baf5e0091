//! Texts with `%variable%`s in them, and what can be asked of a request.
//!
//! **Invariant:** what parses can be written without looking at a name again.

/// A text with variables in it: the value of a field that is added.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Template(pub Vec<Piece>);

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// What the request says.
    Variable(Variable),
}

/// What a route can ask of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `request_header_NAME`: the first field of this name.
    RequestField(String),
    /// `response_header_NAME`: the first field of this name of the answer.
    ResponseField(String),
    /// `request_arg_NAME`: an argument of the query, as it came.
    Argument(String),
    /// `cookie_NAME`.
    Cookie(String),
    /// `request_method`.
    Method,
    /// `request_path`: without the query; decoded and normal where a route is looked for, else as it came.
    Path,
    /// `request_uri`: path and query as they came.
    PathAndQuery,
    /// `request_arg`: the query.
    Query,
    /// `x-mosn-host`: the authority.
    Host,
    /// `request_scheme`: `http` or `https`.
    Scheme,
    /// `protocol`.
    Protocol,
    /// `downstream_remote_address`: the client's address with its port.
    Peer,
    /// `downstream_remote_ip`: the client's address without it.
    PeerIp,
    /// `downstream_local_address`: where the client connected.
    Local,
    /// `upstream_host`: the host that the request went to.
    UpstreamHost,
    /// `response_code`.
    Status,
    /// `route_name`.
    RouteName,
}

impl Template {
    /// Reads a text: `%name%` is a variable where there is one of that name, all else stands as it is.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            rest = after;
            match after.split_once('%').and_then(|(name, behind)| Some((Variable::of(name)?, behind))) {
                None => plain.push('%'),
                Some((variable, behind)) => {
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(Piece::Variable(variable));
                    rest = behind;
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Self(pieces)
    }

    /// Its variables.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(variable) => Some(variable),
            Piece::Text(_) => None,
        })
    }
}

impl Variable {
    /// The variable of this name, in any of MOSN's ways to write it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        if let Some((_, variable)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(variable.clone());
        }
        let plain = name.strip_prefix("Http1_").or_else(|| name.strip_prefix("Http2_")).unwrap_or(name);
        let rest = |prefix: &str| plain.strip_prefix(prefix).filter(|rest| !rest.is_empty());
        if let Some(field) = rest("request_header_") {
            return Some(Self::RequestField(field.to_ascii_lowercase()));
        }
        if let Some(field) = rest("response_header_") {
            return Some(Self::ResponseField(field.to_ascii_lowercase()));
        }
        if let Some(argument) = rest("request_arg_") {
            return Some(Self::Argument(argument.to_owned()));
        }
        if let Some(cookie) = rest("cookie_") {
            return Some(Self::Cookie(cookie.to_owned()));
        }
        let request = |(known, _): &&(&str, Self)| *known == plain && known.starts_with("request_");
        NAMES.iter().find(request).map(|(_, variable)| variable.clone())
    }

    /// Every name that is no pattern, for "did you mean".
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Whether it is known before the request has left.
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        !matches!(self, Self::ResponseField(_) | Self::Status | Self::UpstreamHost)
    }
}

#[rustfmt::skip]
const NAMES: &[(&str, Variable)] = &[
    // tidy: table
    ("request_method", Variable::Method),
    ("request_path", Variable::Path),
    ("request_uri", Variable::PathAndQuery),
    ("request_arg", Variable::Query),
    ("request_scheme", Variable::Scheme),
    ("x-mosn-method", Variable::Method),
    ("x-mosn-path", Variable::Path),
    ("x-mosn-path-original", Variable::Path),
    ("x-mosn-querystring", Variable::Query),
    ("x-mosn-host", Variable::Host),
    ("x-mosn-scheme", Variable::Scheme),
    ("x-mosn-status", Variable::Status),
    ("protocol", Variable::Protocol),
    ("downstream_remote_address", Variable::Peer),
    ("downstream_remote_ip", Variable::PeerIp),
    ("downstream_local_address", Variable::Local),
    ("upstream_host", Variable::UpstreamHost),
    ("response_code", Variable::Status),
    ("route_name", Variable::RouteName),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        let text = |t: &str| Piece::Text(t.into());
        for (given, pieces) in [
            ("", vec![]),
            ("edge", vec![text("edge")]),
            ("%request_method%", vec![Piece::Variable(Variable::Method)]),
            (
                "a%request_header_X-A%b%protocol%",
                vec![
                    text("a"),
                    Piece::Variable(Variable::RequestField("x-a".into())),
                    text("b"),
                    Piece::Variable(Variable::Protocol),
                ],
            ),
            ("100%", vec![text("100%")]),
            ("a%20b%20c", vec![text("a%20b%20c")]),
            ("%%protocol%%", vec![text("%"), Piece::Variable(Variable::Protocol), text("%")]),
            ("%nothing%", vec![text("%nothing%")]),
        ] {
            assert_eq!(Template::parse(given).0, pieces, "{given}");
        }
    }

    #[test]
    fn names_with_prefixes_are_known() {
        for (name, variable) in [
            ("Http1_request_method", Some(Variable::Method)),
            ("Http1_cookie_Sid", Some(Variable::Cookie("Sid".into()))),
            ("request_arg_q", Some(Variable::Argument("q".into()))),
            ("request_arg_", None),
            ("Http1_protocol", None),
        ] {
            assert_eq!(Variable::of(name), variable, "{name}");
        }
    }
}

//! The format of an access log: text with `%variable%`s in MOSN's way, or a JSON object of such texts. Parsed once, when a file is read.
//!
//! **Invariant:** what parses can be rendered without looking at a name again.

use std::fmt;

/// How the lines of one access log look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text.
    Text(Template),
    /// One JSON object a line; names and what stands there.
    Json(Vec<(String, Template)>),
}

/// A text with variables in it.
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

/// What a line can tell of a request. Times are from the moment when the request's head was complete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the variable of its name in docs/operating/access-log.md")]
pub enum Variable {
    StartTime,
    TraceId,
    ConnectionId,
    UpstreamConnectionId,
    RequestReceivedDuration,
    RequestFinishedDuration,
    ResponseReceivedDuration,
    ProcessTimeDuration,
    Duration,
    BytesSent,
    BytesReceived,
    Protocol,
    ResponseCode,
    ResponseFlags,
    UpstreamLocalAddress,
    DownstreamLocalAddress,
    DownstreamRemoteAddress,
    UpstreamHost,
    UpstreamCluster,
    UpstreamTransportFailureReason,
    Attempts,
    RequestedServerName,
    RouteName,
    ListenerName,
    ListenerPort,
    Scheme,
    Host,
    Method,
    Uri,
    Path,
    PathOriginal,
    Query,
    RequestLength,
    RequestHeader(String),
    ResponseHeader(String),
    Arg(String),
    Cookie(String),
    /// A name that nothing is known for: `-`, as in MOSN, so that formats of meshes are taken.
    Unknown(String),
}

/// Why a text is no [`Template`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// `%%`: a variable without a name.
    Empty,
    /// A `%` without its partner.
    Unbalanced,
}

impl LogFormat {
    /// The default of `log_format`, MOSN's.
    ///
    /// # Panics
    /// Never: the text is good, a test reads it.
    #[must_use]
    pub fn default_text() -> Self {
        Self::Text(Template::parse(DEFAULT_TEXT).expect("a test parses it"))
    }

    /// The object of `json: true`.
    #[must_use]
    pub fn default_json() -> Self {
        let field = |name: &&str| ((*name).to_owned(), Template(vec![Piece::Variable(Variable::of(name))]));
        Self::Json(DEFAULT_JSON.iter().map(field).collect())
    }

    /// Every variable in it.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        let (text, fields): (&[Piece], &[_]) = match self {
            Self::Text(template) => (&template.0, &[]),
            Self::Json(fields) => (&[], fields),
        };
        let pieces = text.iter().chain(fields.iter().flat_map(|(_, template)| &template.0));
        pieces.filter_map(|piece| match piece {
            Piece::Variable(variable) => Some(variable),
            Piece::Text(_) => None,
        })
    }
}

impl Template {
    /// Reads a text: `%name%` is a variable, `\%` a percent sign.
    ///
    /// # Errors
    /// When a variable has no name or no end.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('%') {
            let (before, after) = (&rest[..at], &rest[at + 1..]);
            if let Some(before) = before.strip_suffix('\\') {
                plain.push_str(before);
                plain.push('%');
                rest = after;
                continue;
            }
            plain.push_str(before);
            let end = after.find('%').ok_or(TemplateError::Unbalanced)?;
            if end == 0 {
                return Err(TemplateError::Empty);
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Variable(Variable::of(&after[..end])));
            rest = &after[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }
}

impl Variable {
    /// The variable of this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        if let Some((_, variable)) = NAMES.iter().find(|(known, _)| *known == name) {
            return variable.clone();
        }
        let (prefix, name_in) = match name.split_once('_') {
            Some(("Http1" | "Http2", rest)) => (true, rest),
            _ => (false, name),
        };
        if let Some(field) = name_in.strip_prefix("request_header_") {
            return Self::RequestHeader(field.to_ascii_lowercase());
        }
        if let Some(field) = name_in.strip_prefix("response_header_") {
            return Self::ResponseHeader(field.to_ascii_lowercase());
        }
        match name_in.strip_prefix("request_arg_").map(str::to_owned) {
            Some(arg) if prefix => return Self::Arg(arg),
            _ => {}
        }
        match name_in.strip_prefix("cookie_").map(str::to_owned) {
            Some(cookie) if prefix => return Self::Cookie(cookie),
            _ => {}
        }
        let request = NAMES.iter().find(|(known, _)| prefix && *known == name_in && known.starts_with("request_"));
        request.map_or_else(|| Self::Unknown(name.to_owned()), |(_, variable)| variable.clone())
    }

    /// Every name that is no pattern, for "did you mean".
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "`%%` is a variable without a name",
            Self::Unbalanced => "a `%` has no partner",
        })
    }
}

impl std::error::Error for TemplateError {}

#[rustfmt::skip]
const NAMES: &[(&str, Variable)] = &[
    // tidy: table
    ("start_time", Variable::StartTime),
    ("trace_id", Variable::TraceId),
    ("connection_id", Variable::ConnectionId),
    ("upstream_connection_id", Variable::UpstreamConnectionId),
    ("request_received_duration", Variable::RequestReceivedDuration),
    ("request_finished_duration", Variable::RequestFinishedDuration),
    ("response_received_duration", Variable::ResponseReceivedDuration),
    ("process_time_duration", Variable::ProcessTimeDuration),
    ("duration", Variable::Duration),
    ("bytes_sent", Variable::BytesSent),
    ("bytes_received", Variable::BytesReceived),
    ("protocol", Variable::Protocol),
    ("protocol_config", Variable::Protocol),
    ("response_code", Variable::ResponseCode),
    ("response_flag", Variable::ResponseFlags),
    ("response_flags", Variable::ResponseFlags),
    ("upstream_local_address", Variable::UpstreamLocalAddress),
    ("downstream_local_address", Variable::DownstreamLocalAddress),
    ("downstream_remote_address", Variable::DownstreamRemoteAddress),
    ("upstream_host", Variable::UpstreamHost),
    ("upstream_cluster", Variable::UpstreamCluster),
    ("upstream_transport_failure_reason", Variable::UpstreamTransportFailureReason),
    ("upstream_attempts", Variable::Attempts),
    ("requested_server_name", Variable::RequestedServerName),
    ("route_name", Variable::RouteName),
    ("listener_name", Variable::ListenerName),
    ("listener_port", Variable::ListenerPort),
    ("request_scheme", Variable::Scheme),
    ("request_method", Variable::Method),
    ("request_uri", Variable::Uri),
    ("request_path", Variable::Path),
    ("request_path_original", Variable::PathOriginal),
    ("request_arg", Variable::Query),
    ("request_length", Variable::RequestLength),
    ("x-mosn-scheme", Variable::Scheme),
    ("x-mosn-host", Variable::Host),
    ("x-mosn-method", Variable::Method),
    ("x-mosn-path", Variable::Path),
    ("x-mosn-path-original", Variable::PathOriginal),
    ("x-mosn-querystring", Variable::Query),
    ("x-mosn-status", Variable::ResponseCode),
];

/// MOSN's default format.
const DEFAULT_TEXT: &str = "%start_time% %trace_id%  %connection_id% %upstream_connection_id% %request_received_duration% \
    %response_received_duration% %bytes_sent% %bytes_received% %protocol% %response_code% %duration% %response_flag% %response_code% \
    %upstream_local_address% %downstream_local_address% %downstream_remote_address% %upstream_host%";

/// What `json: true` writes.
const DEFAULT_JSON: &[&str] = &[
    "start_time",
    "trace_id",
    "connection_id",
    "downstream_remote_address",
    "downstream_local_address",
    "protocol",
    "request_method",
    "x-mosn-host",
    "request_path_original",
    "response_code",
    "response_flags",
    "bytes_received",
    "bytes_sent",
    "duration",
    "response_received_duration",
    "route_name",
    "upstream_cluster",
    "upstream_host",
    "upstream_attempts",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        let text = |t: &str| Piece::Text(t.into());
        let var = |v| Piece::Variable(v);
        for (given, result) in [
            ("", Ok(vec![])),
            ("plain", Ok(vec![text("plain")])),
            ("%duration%", Ok(vec![var(Variable::Duration)])),
            (
                "a %response_code% 100\\% %request_header_User-Agent%",
                Ok(vec![
                    text("a "),
                    var(Variable::ResponseCode),
                    text(" 100% "),
                    var(Variable::RequestHeader("user-agent".into())),
                ]),
            ),
            ("%nothing_such%", Ok(vec![var(Variable::Unknown("nothing_such".into()))])),
            ("%%", Err(TemplateError::Empty)),
            ("%duration", Err(TemplateError::Unbalanced)),
            ("100%", Err(TemplateError::Unbalanced)),
        ] {
            assert_eq!(Template::parse(given).map(|t| t.0), result, "{given}");
        }
    }

    #[test]
    fn names_with_prefixes_are_known() {
        for (name, variable) in [
            ("Http1_request_method", Variable::Method),
            ("Http2_request_path", Variable::Path),
            ("Http1_request_header_X-A", Variable::RequestHeader("x-a".into())),
            ("Http1_request_arg_q", Variable::Arg("q".into())),
            ("Http1_cookie_Sid", Variable::Cookie("Sid".into())),
            ("response_header_Server", Variable::ResponseHeader("server".into())),
            ("cookie_a", Variable::Unknown("cookie_a".into())),
            ("Http1_duration", Variable::Unknown("Http1_duration".into())),
        ] {
            assert_eq!(Variable::of(name), variable, "{name}");
        }
    }

    #[test]
    fn every_variable_is_documented() {
        let page = include_str!("../../../docs/operating/access-log.md");
        for name in Variable::names() {
            assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/operating/access-log.md");
        }
    }

    #[test]
    fn the_default_formats_hold_no_unknown_name() {
        for format in [LogFormat::default_text(), LogFormat::default_json()] {
            assert!(format.variables().count() >= 17);
            assert!(format.variables().all(|v| !matches!(v, Variable::Unknown(_))), "{format:?}");
        }
    }
}

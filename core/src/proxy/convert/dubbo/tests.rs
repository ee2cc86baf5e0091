//! Calls by name, their results, and what is refused of them.

use std::time::Duration;

use super::*;
use crate::codec::detect::Protocol;
use crate::codec::xprotocol::{RpcFrame, RpcLimits, Step, codec_of};
use crate::config::schema::RpcProtocol;
use crate::message::{Body, Request, Response, RpcKind};
use crate::proxy::convert::Pair;

fn limits() -> Limits {
    Limits { head_bytes_max: 4096, rpc_values_max: 100, rpc_value_depth_max: 8, ..Limits::default() }
}

fn http(target: &str, fields: &[(&str, &str)]) -> Head {
    let mut head = HttpHead::request("POST", target.as_bytes());
    for (name, value) in fields {
        assert!(head.append(name, value.as_bytes()), "{name}");
    }
    Head::Http(head)
}

fn facts(limits: &Limits) -> Facts<'_> {
    Facts { timeout: Some(Duration::from_millis(1500)), host: "10.0.0.1:80", limits }
}

fn ask(head: &Head, body: &'static str) -> Result<RpcFrame, Refused> {
    let Request { head, body } =
        Pair::HttpToDubbo.request(head, &Bytes::from_static(body.as_bytes()), facts(&limits()))?;
    let Body::Full(body) = body else { panic!("a call has a body") };
    Ok(read(&head, &body))
}

/// A frame as its host reads it.
fn read(head: &Head, body: &[u8]) -> RpcFrame {
    let codec = codec_of(RpcProtocol::Dubbo);
    let mut wire = Vec::new();
    codec.encode(head.rpc().unwrap(), 7, body, &mut wire).unwrap();
    let any = RpcLimits { frame_bytes_max: 100_000, fields_max: 100 };
    let Ok(Step::Frame(frame, len)) = codec.decode(&wire, any) else { panic!("no frame") };
    assert_eq!(len, wire.len());
    frame
}

fn back(frame: &RpcFrame) -> Result<(Head, String), Refused> {
    let head = rpc(frame.head.clone());
    assert_eq!(Pair::of(&head, Protocol::Http2), Some(Pair::DubboToHttp));
    let made = Pair::DubboToHttp.request(&head, &frame.content, facts(&limits()))?;
    let Body::Full(body) = made.body else { panic!("a call has a body") };
    Ok((made.head, String::from_utf8(body.to_vec()).unwrap()))
}

fn fields(head: &HttpHead) -> Vec<String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    head.fields().map(|(_, name, value)| format!("{}={}", text(name), text(value))).collect()
}

#[test]
fn a_call_goes_to_dubbo_and_comes_back() {
    for (target, names, body, types, arguments) in [
        ("/com.example.Echo/echo", &[][..], "[\"hi\",1,{\"a\":[1.5,null]}]", None, "[\"hi\",1,{\"a\":[1.5,null]}]"),
        (
            "/com.example.Echo/echo?ignored",
            &[("x-dubbo-types", "java.lang.String, long")],
            "[\"hi\",1]",
            Some("java.lang.String,long"),
            "[\"hi\",1]",
        ),
        ("/any/path/at/all", &[("x-dubbo-service", "com.example.Echo"), ("X-Dubbo-Method", "echo")], "", None, "[]"),
        (
            "/com.example.Echo/echo",
            &[],
            " {\"args\":[[1]],\"types\":[\"int[]\"],\"attachments\":{\"Key\":\"v\"}}",
            Some("int[]"),
            "[[1]]",
        ),
    ] {
        let more = [
            ("x-dubbo-version", "1.0"),
            ("x-dubbo-group", "g"),
            ("x-dubbo-attachment-zone", "blue"),
            ("traceparent", "00-1"),
        ];
        let frame = ask(&http(target, &[names, &more].concat()), body).unwrap();
        let shown = fields(frame.head.fields());
        for expected in [
            "dubbo=2.0.2",
            "service=com.example.Echo",
            "version=1.0",
            "method=$invoke",
            "path=com.example.Echo",
            "interface=com.example.Echo",
            "group=g",
            "generic=true",
            "timeout=1500",
            "zone=blue",
            "traceparent=00-1",
        ] {
            assert!(shown.contains(&expected.to_owned()), "{expected}: {shown:?}");
        }
        assert_eq!(shown.contains(&"Key=v".to_owned()), body.contains("Key"));
        assert_eq!((frame.head.kind, frame.head.timeout), (RpcKind::Request, Some(Duration::from_millis(1500))));
        let (head, body) = back(&frame).unwrap();
        let head = head.fields().unwrap();
        assert_eq!((head.target(), body.as_str()), (&b"/com.example.Echo/echo"[..], arguments));
        let got = |name: &str| head.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(got("x-dubbo-types").as_deref(), types);
        for (name, value) in [
            ("x-dubbo-version", "1.0"),
            ("x-dubbo-group", "g"),
            ("x-dubbo-attachment-zone", "blue"),
            ("traceparent", "00-1"),
            ("x-mosn-global-timeout", "1500"),
            ("content-type", "application/json"),
            ("host", "10.0.0.1:80"),
        ] {
            assert_eq!(got(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(got("x-dubbo-attachment-generic"), None);
    }
    let one_way = ask(&http("/a.B/c", &[("x-rpc-oneway", "true")]), "[]").unwrap();
    assert_eq!(one_way.head.kind, RpcKind::OneWay);
}

/// A call as a client makes it that knows the method's types.
fn plain(method: &[u8], types: &[u8], arguments: &[u8], attachments: &[(&[u8], &[u8])]) -> RpcFrame {
    let mut body = Vec::new();
    for text in [b"2.0.2", &b"com.example.Echo"[..], b"1.0", method, types] {
        put_string(text, &mut body).unwrap();
    }
    body.extend(arguments);
    body.push(b'H');
    for part in attachments.iter().flat_map(|(name, value)| [name, value]) {
        put_string(part, &mut body).unwrap();
    }
    body.push(END);
    read(&rpc(dubbo_request(RpcKind::Request)), &body)
}

#[test]
fn a_call_with_types_of_the_jvm_becomes_http() {
    let (head, body) = back(&plain(b"echo", b"Ljava/lang/String;[[IJ", b"\x02hi\x79\x79\x91\xE2", &[])).unwrap();
    assert_eq!(
        (head.fields().unwrap().get("x-dubbo-types"), body.as_str()),
        (Some(&b"java.lang.String,int[][],long"[..]), "[\"hi\",[[1]],2]")
    );
}

#[test]
fn nothing_is_injected_from_http_into_dubbo() {
    for (what, target, fields, body, refused) in [
        ("no method", "/com.example.Echo", &[][..], "[]", Refused::Call),
        ("a path that goes on", "/com.example.Echo/echo/more", &[], "[]", Refused::Call),
        ("an escape in a service", "/com.example%2eEcho/echo", &[], "[]", Refused::Call),
        ("a space in a service", "/a/b", &[("x-dubbo-service", "a b"), ("x-dubbo-method", "c")], "[]", Refused::Call),
        ("a colon in a service", "/a:1/b", &[], "[]", Refused::Call),
        ("an empty service", "//b", &[], "[]", Refused::Call),
        ("a method of Dubbo's own", "/a.B/$invoke", &[], "[]", Refused::Call),
        ("a method that is none", "/a.B/c", &[("x-dubbo-method", "c()")], "[]", Refused::Call),
        (
            "two services",
            "/a.B/c",
            &[("x-dubbo-service", "a.B"), ("x-dubbo-service", "a.C")],
            "[]",
            Refused::Twice("x-dubbo-service"),
        ),
        ("a version that is none", "/a.B/c", &[("x-dubbo-version", "1 0")], "[]", Refused::Field("x-dubbo-version")),
        ("a group that is none", "/a.B/c", &[("x-dubbo-group", "a/b")], "[]", Refused::Field("x-dubbo-group")),
        ("a type that is none", "/a.B/c", &[("x-dubbo-types", "int x")], "[1]", Refused::Call),
        (
            "types twice",
            "/a.B/c",
            &[("x-dubbo-types", "int")],
            "{\"args\":[1],\"types\":[\"int\"]}",
            Refused::Twice("x-dubbo-types"),
        ),
        (
            "fewer arguments than types",
            "/a.B/c",
            &[("x-dubbo-types", "int,int")],
            "[1]",
            Refused::Shape("as many arguments as it has types"),
        ),
        ("an attachment of ours", "/a.B/c", &[("x-dubbo-attachment-interface", "a.C")], "[]", Refused::Name),
        ("one in the body", "/a.B/c", &[], "{\"args\":[],\"attachments\":{\"Generic\":\"x\"}}", Refused::Name),
        ("the gateway's own id", "/a.B/c", &[("x-dubbo-attachment-X-Request-Id", "x")], "[]", Refused::Name),
        ("it in the body", "/a.B/c", &[], "{\"args\":[],\"attachments\":{\"x-request-id\":\"x\"}}", Refused::Name),
        ("an attachment without a name", "/a.B/c", &[("x-dubbo-attachment-", "x")], "[]", Refused::Name),
        ("another type", "/a.B/c", &[("content-type", "text/plain")], "[]", Refused::Type),
        ("no JSON", "/a.B/c", &[], "[1", Refused::Content(ValueError::Broken)),
        ("JSON and more", "/a.B/c", &[], "[1] [2]", Refused::Content(ValueError::Broken)),
        ("one argument", "/a.B/c", &[], "1", arguments::SHAPE),
        ("an unknown key", "/a.B/c", &[], "{\"args\":[],\"service\":\"x\"}", arguments::SHAPE),
        ("arguments twice", "/a.B/c", &[], "{\"args\":[],\"args\":[1]}", arguments::SHAPE),
        ("too deep", "/a.B/c", &[], "[[[[[[[[[[1]]]]]]]]]]", Refused::Content(ValueError::Depth)),
        ("half a pair", "/a.B/c", &[], "[\"\\ud800\"]", Refused::Content(ValueError::Broken)),
    ] {
        assert_eq!(ask(&http(target, fields), body).map(|frame| frame.content), Err(refused), "{what}");
    }
    let many = format!("[{}0]", "0,".repeat(200)).leak();
    assert_eq!(ask(&http("/a.B/c", &[]), many).map(drop), Err(Refused::Content(ValueError::Values)));
}

#[test]
fn nothing_is_injected_from_dubbo_into_http() {
    for (what, frame, refused) in [
        ("two versions", plain(b"a", b"", b"", &[(b"version", b"2.0")]), Refused::Twice("version")),
        ("CR LF in a method", plain(b"a\r\nb", b"", b"", &[]), Refused::Call),
        ("a slash in a method", plain(b"a/b", b"", b"", &[]), Refused::Call),
        ("a space in a service", plain(b"a", b"", b"", &[(b"interface", b"a b")]), Refused::Call),
        ("a service that leads up", plain(b"a", b"", b"", &[(b"interface", b"../admin")]), Refused::Call),
        ("LF in a group", plain(b"a", b"", b"", &[(b"group", b"g\nx")]), Refused::Field("x-dubbo-group")),
        ("a type that is none", plain(b"a", b"La\r\nb;", b"N", &[]), Refused::Call),
        ("a descriptor that is none", plain(b"a", b"L", b"", &[]), Refused::Call),
        ("CR LF in an attachment's name", plain(b"a", b"", b"", &[(b"a\r\nb", b"c")]), Refused::Name),
        ("a colon there", plain(b"a", b"", b"", &[(b"a:", b"c")]), Refused::Name),
        ("a space there", plain(b"a", b"", b"", &[(b"a b", b"c")]), Refused::Name),
        ("LF in its value", plain(b"a", b"", b"", &[(b"a", b"b\nc: d")]), Refused::Value),
        ("NUL in its value", plain(b"a", b"", b"", &[(b"a", b"\0")]), Refused::Value),
        ("a value that is trimmed", plain(b"a", b"", b"", &[(b"a", b" b")]), Refused::Value),
        ("a head that is too long", plain(b"a", b"", b"", &[(b"a", &[b'b'; 5000])]), Refused::HeadTooLong),
        (
            "nested arguments",
            plain(b"a", b"Ljava/util/List;", &[&[0x79; 20][..], b"N"].concat(), &[]),
            Refused::Content(ValueError::Depth),
        ),
    ] {
        assert_eq!(back(&frame).map(|(_, body)| body), Err(refused), "{what}");
    }
    let mut kryo = plain(b"a", b"", b"", &[]);
    let mut wire = Vec::new();
    codec_of(RpcProtocol::Dubbo).encode(&kryo.head, 1, &kryo.content, &mut wire).unwrap();
    wire[2] = 0xC8;
    let any = RpcLimits { frame_bytes_max: 100_000, fields_max: 100 };
    let Ok(Step::Frame(frame, _)) = codec_of(RpcProtocol::Dubbo).decode(&wire, any) else { panic!("no frame") };
    kryo = frame;
    assert_eq!(back(&kryo).map(drop), Err(Refused::Shape("a call in Hessian 2")));
}

fn result(status: u8, body: &'static [u8]) -> Result<(u16, Vec<String>, String), Refused> {
    let response = Response { head: rpc(dubbo_response(status, 0)), body: Body::Full(Bytes::from_static(body)) };
    let head = read(&response.head, body).head;
    let response = Response { head: rpc(head), ..response };
    let made = Pair::HttpToDubbo.response(&http("/a.B/c", &[]), response, &limits())?;
    let Body::Full(body) = made.body else { panic!("JSON is never empty") };
    let head = made.head.fields().unwrap();
    assert_eq!(head.get("content-type"), Some(JSON));
    let fields = fields(head).into_iter().filter(|field| !field.starts_with("content-type")).collect();
    Ok((head.status(), fields, String::from_utf8(body.to_vec()).unwrap()))
}

#[test]
fn results_of_dubbo_become_http() {
    for (status, body, code, fields, json) in [
        (20, &b"\x91\x02hi"[..], 200, &[][..], "\"hi\""),
        (20, b"\x92", 200, &[], "null"),
        (20, b"\x90\x04oops", 500, &[], "{\"exception\":\"oops\"}"),
        (20, b"\x94\x90H\x05dubbo\x052.0.2\x01a\x01b\x01c\x90Z", 200, &["x-dubbo-attachment-a=b"], "0"),
        (20, b"\x95N", 200, &[], "null"),
        (100, b"\x04busy", 503, &["x-dubbo-status=100"], "{\"error\":\"busy\"}"),
        (60, b"\x00", 404, &["x-dubbo-status=60"], "{\"error\":\"\"}"),
        (31, b"\x04late", 504, &["x-dubbo-status=31"], "{\"error\":\"late\"}"),
    ] {
        assert_eq!(
            result(status, body),
            Ok((code, fields.iter().map(ToString::to_string).collect(), json.into())),
            "{body:?}"
        );
    }
    for (body, refused) in [
        (&b"\x96"[..], Refused::Shape("a result of Dubbo")),
        (b"\x91", Refused::Content(ValueError::Broken)),
        (b"\x95H\x03a\r\n\x01bZ", Refused::Name),
        (b"\x95H\x01a\x03b\r\nZ", Refused::Value),
    ] {
        assert_eq!(result(20, body), Err(refused), "{body:?}");
    }
}

fn answer(status: u16, fields: &[(&str, &str)], body: &'static [u8]) -> Result<(u8, Vec<u8>), Refused> {
    let mut head = HttpHead::response(status);
    for (name, value) in fields {
        assert!(head.append(name, value.as_bytes()), "{name}");
    }
    let asked = rpc(dubbo_request(RpcKind::Request));
    let response = Response { head: Head::Http(head), body: Body::Full(Bytes::from_static(body)) };
    let made = Pair::DubboToHttp.response(&asked, response, &limits())?;
    let Body::Full(body) = made.body else { panic!("an answer has a body") };
    let frame = read(&made.head, &body);
    assert_eq!(frame.head.kind, RpcKind::Response);
    Ok((frame.head.raw()[3], frame.content.to_vec()))
}

#[test]
fn answers_of_http_become_results() {
    let json = ("content-type", "application/json; charset=utf-8");
    for (status, fields, body, own, content) in [
        (200, &[json][..], &b"\"hi\""[..], 20, &b"\x91\x02hi"[..]),
        (201, &[json], b"[1,2.5]", 20, b"\x91XI\0\0\0\x02\x91D\x40\x04\0\0\0\0\0\0"),
        (204, &[], b"", 20, b"\x92"),
        (200, &[("content-type", "text/plain")], b"hi", 20, b"\x91\x02hi"),
        (200, &[json, ("X-Dubbo-Attachment-a", "b")], b"1", 20, b"\x94\x91H\x01a\x01bZ"),
        (404, &[], b"", 60, b"\x1d404|the origin gave no result"),
        (503, &[("x-dubbo-status", "100")], b"busy", 100, b"\x08503|busy"),
        (500, &[("x-dubbo-status", "20")], b"a\r\nb", 70, b"\x1d500|the origin gave no result"),
    ] {
        assert_eq!(answer(status, fields, body), Ok((own, content.to_vec())), "{status} {fields:?}");
    }
    for (fields, body, refused) in [
        (&[("content-type", "text/html")][..], &b"<p>"[..], Refused::Type),
        (&[json], b"{", Refused::Content(ValueError::Broken)),
        (&[("content-type", "text/plain")], b"\xFF", Refused::Value),
    ] {
        assert_eq!(answer(200, fields, body), Err(refused), "{fields:?}");
    }
}

//! One message each way, as the layers above use the codec.
use ferrogate_core::codec::Codec;
use ferrogate_core::codec::http1::{
    ConnectionField, Frame, RequestDecoder, RequestEncoder, ResponseDecoder, ResponseEncoder,
};
use ferrogate_core::message::{BodyLength, HttpHead, Method};

#[test]
fn a_request_and_its_response_pass_through() {
    let src = b"POST /a?b HTTP/1.1\r\nHost: x.example\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nContent-Length: 5\r\nX-A:  1 \r\nx-b: 2\r\n\r\nhelloGET";
    let mut decoder = RequestDecoder::new(Default::default());
    let (frame, used) = decoder.decode(src).unwrap().unwrap();
    let Frame::Head(head, length, options) = frame else { panic!() };
    assert_eq!((length, options.keep_alive), (BodyLength::Exact(5), true));
    let mut out = Vec::new();
    let encoder = RequestEncoder::new(&head, length);
    encoder.encode(&mut out).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out),
        "POST /a?b HTTP/1.1\r\nHost: x.example\r\nContent-Length: 5\r\nX-A: 1\r\nx-b: 2\r\n\r\n"
    );
    assert_eq!(out.len(), encoder.head_len());
    assert_eq!(decoder.body_left(), Some(5));
    let (frame, more) = decoder.decode(&src[used..]).unwrap().unwrap();
    assert!(matches!(frame, Frame::Data(b"hello")) && more == 5 && decoder.is_body_done());

    let src =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nx-t: 1\r\nCookie: 1\r\n\r\n";
    let mut decoder = ResponseDecoder::new(Default::default());
    decoder.expect_response(Method::Get);
    let mut at = 0;
    let mut shown = Vec::new();
    while let Some((frame, used)) = decoder.decode(&src[at..]).unwrap() {
        at += used;
        shown.push(format!("{frame:?}"));
    }
    assert!(decoder.is_body_done() && at == src.len());
    assert_eq!(shown.len(), 3, "{shown:#?}");

    let head = HttpHead::response(503);
    let mut encoder = ResponseEncoder::new(&head, BodyLength::Exact(3), Method::Get);
    encoder.connection = ConnectionField::Close;
    encoder.extra = &[("Server", b"x")];
    let mut out = Vec::new();
    encoder.encode(&mut out).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\nConnection: close\r\nServer: x\r\n\r\n"
    );
}

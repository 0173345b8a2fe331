//! HTTP/1.1 as far as an invoker speaks it to an action container: one request per connection, with a length.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Ends one activation's output, on each stream.
pub const SENTINEL: &str = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX";

/// Longest head, and longest body: 48 MiB of code in base64, and what stands around it.
const HEAD_LIMIT: u64 = 64 << 10;
const BODY_LIMIT: u64 = 65 << 20;

/// What came.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub version: String,
    /// In the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads one request; none if the connection was closed instead, or what came is no HTTP.
    pub fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut head = reader.by_ref().take(HEAD_LIMIT);
        let mut line = String::new();
        let mut next = || {
            line.clear();
            let read = head.read_line(&mut line).ok()?;
            (read > 0).then(|| line.trim_end().to_owned())
        };
        let first = next()?;
        let mut parts = first.split(' ').map(str::to_owned);
        let (method, path, version) = (parts.next()?, parts.next()?, parts.next()?);
        let mut headers = Vec::new();
        loop {
            let line = next()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let is_length = |name: &str| name.eq_ignore_ascii_case("content-length");
        let length = headers.iter().find(|(name, _)| is_length(name));
        let length: u64 = length.map_or(Some(0), |(_, value)| value.parse().ok())?;
        let mut body = Vec::new();
        reader.take(length.min(BODY_LIMIT)).read_to_end(&mut body).ok()?;
        (body.len() as u64 == length).then_some(Self {
            method,
            path,
            version,
            headers,
            body,
        })
    }
}

/// Answers with JSON and its length.
///
/// # Errors
/// The caller is gone.
pub fn answer(mut stream: &TcpStream, status: u16, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // In one piece: small answers are one packet.
    let mut whole = head.into_bytes();
    whole.extend_from_slice(body);
    stream.write_all(&whole)
}

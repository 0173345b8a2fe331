//! HTTP to what runs in a container: `/init`, `/run`, and `/ffs/*` of our own runtime.
//!
//! A connection of its own per request (C-02). What an answer means is `completion/response.rs`'s
//! business. Source: `ApacheBlockingContainerClient.scala`; contract C-01, C-20 … C-45.
//!
//! A request ends with its container. The system goes on trying to connect to an address for a minute or more, and by
//! then another container may have it: one tenant's request must not reach another's code.

use super::Address;
use crate::metrics;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes as Chunk, Incoming};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use proto::unit::Bytes;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// One request and what became of it.
#[derive(Debug)]
pub struct Exchange {
    /// When it was begun.
    pub began: SystemTime,
    pub took: Duration,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    Response {
        status: u16,
        body: Body,
        /// Header `FFS-Timing`, from the head of a pipeline.
        timing: Option<String>,
    },
    /// The limit passed first.
    TimedOut,
    /// Nobody could be connected to: nothing was sent.
    Refused,
    /// No connection could be made for want of something of our own, such as ports or open files:
    /// nothing was sent, and the container is not to blame (S-44).
    Unsendable(std::io::Error),
    /// The connection broke after the request was sent, or was closed without an answer.
    Broken,
    /// A clean answer that has no entity, such as 204 (C-32).
    NoResponse,
}

/// An answer's body, as far as it is kept.
#[derive(Debug)]
pub struct Body {
    kept: Vec<u8>,
    /// What was really sent.
    pub length: Bytes,
    too_long: bool,
}

impl Body {
    /// A body that came whole, or of which `kept` is left of `length` bytes.
    #[cfg(test)]
    pub fn of(kept: &[u8], length: u64, too_long: bool) -> Self {
        Self {
            kept: kept.to_vec(),
            length: Bytes(length),
            too_long,
        }
    }

    /// Whether it was longer than allowed. Of a body just above the limit all may have been kept.
    pub fn is_cut(&self) -> bool {
        self.too_long
    }

    /// UTF-8, with replacement characters for what was cut in the middle (C-31).
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.kept)
    }

    /// Length in UTF-16 units; of a cut body in bytes (C-33).
    pub fn units(&self) -> u64 {
        if self.is_cut() || self.kept.is_ascii() {
            self.length.0
        } else {
            self.text().encode_utf16().count() as u64
        }
    }
}

/// How much of an answer is read.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    pub most: Bytes,
    /// What is kept of a longer one.
    pub cut: Bytes,
}

/// How long to go on trying to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// Until the limit is used up: the server may still be starting (C-40).
    Patiently,
    Once,
}

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long an answer may still be on its way when its container has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Posts `body` to `path` and waits for the answer, all of it within `limit`, and not for longer than the container lives:
/// `ended` returns when it is known to have gone, and its address may be another's.
pub async fn post<E>(
    address: &Address,
    path: &str,
    body: Chunk,
    limit: Duration,
    kept: BodyLimit,
    connect: Connect,
    ended: impl Future<Output = E>,
) -> Exchange {
    let (began, clock) = (SystemTime::now(), Instant::now());
    let sent = AtomicBool::new(false);
    let exchanged = async {
        let exchanged = exchange(address, path, body, kept, connect, &sent);
        tokio::pin!(exchanged);
        tokio::select! {
            biased;
            _ = ended => {
                if !sent.load(Ordering::Relaxed) {
                    return Outcome::Refused;
                }
                let outcome = tokio::time::timeout(LAST_WORDS, exchanged).await;
                outcome.unwrap_or(Outcome::Broken)
            }
            outcome = &mut exchanged => outcome,
        }
    };
    let outcome = tokio::time::timeout(limit, exchanged).await;
    Exchange {
        began,
        took: clock.elapsed(),
        outcome: outcome.unwrap_or(Outcome::TimedOut),
    }
}

/// Whether a connection can be made at all.
pub async fn listens(address: &Address) -> bool {
    match address {
        Address::Tcp(to) => TcpStream::connect(to).await.is_ok(),
        Address::Unix(to) => UnixStream::connect(to).await.is_ok(),
    }
}

/// `sent` is set before the first byte leaves.
async fn exchange(
    address: &Address,
    path: &str,
    body: Chunk,
    kept: BodyLimit,
    connect: Connect,
    sent: &AtomicBool,
) -> Outcome {
    match address {
        Address::Tcp(to) => match patiently(connect, || TcpStream::connect(to)).await {
            Ok(stream) => {
                sent.store(true, Ordering::Relaxed);
                let _ = stream.set_nodelay(true); // a slower answer is still an answer
                send(stream, &to.to_string(), path, body, kept).await
            }
            Err(error) => not_connected(error),
        },
        Address::Unix(to) => match patiently(connect, || UnixStream::connect(to)).await {
            Ok(stream) => {
                sent.store(true, Ordering::Relaxed);
                send(stream, "localhost", path, body, kept).await
            }
            Err(error) => not_connected(error),
        },
    }
}

fn not_connected(error: std::io::Error) -> Outcome {
    let is_our_fault = match error.kind() {
        // Every local port is taken, or memory is short.
        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory => true,
        _ => {
            matches!(error.raw_os_error(), Some(code) if [nix::libc::EMFILE, nix::libc::ENFILE, nix::libc::ENOBUFS].contains(&code))
        }
    };
    if is_our_fault {
        Outcome::Unsendable(error)
    } else {
        Outcome::Refused
    }
}

async fn patiently<S, F: Future<Output = std::io::Result<S>>>(
    connect: Connect,
    mut open: impl FnMut() -> F,
) -> std::io::Result<S> {
    let (mut pause, mut retries) = (FIRST_PAUSE, 0);
    loop {
        match open().await {
            Err(error) if is_worth_waiting(error.kind(), connect) => {
                retries += 1;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            outcome => {
                if retries > 0 {
                    metrics::client_retries(retries);
                }
                return outcome;
            }
        }
    }
}

fn is_worth_waiting(error: ErrorKind, connect: Connect) -> bool {
    match error {
        // Nobody listens yet, or the route is not there yet.
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NotFound => {
            connect == Connect::Patiently
        }
        // A Unix socket at which too many wait.
        ErrorKind::WouldBlock => true,
        _ => false,
    }
}

async fn send<S>(stream: S, host: &str, path: &str, body: Chunk, kept: BodyLimit) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Names of headers are written as OpenWhisk writes them, and in its order: servers written by
    // hand may compare them as they stand.
    let client = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream));
    let Ok((mut sender, connection)) = client.await else {
        return Outcome::Broken;
    };
    let request = Request::post(path)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_LENGTH, body.len())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .expect("the path is one of ours");
    let answer = async {
        match sender.send_request(request).await {
            Ok(response) => read(response, kept).await,
            Err(_) => Outcome::Broken,
        }
    };
    // The connection does its work here, so that dropping this future closes it.
    tokio::pin!(answer);
    tokio::select! {
        outcome = &mut answer => outcome,
        _ = connection => answer.await,
    }
}

async fn read(response: hyper::Response<Incoming>, limit: BodyLimit) -> Outcome {
    let status = response.status().as_u16();
    let timing = response.headers().get(proto::ffs::timing::TIMING_HEADER);
    let timing = timing.and_then(|value| value.to_str().ok()).map(str::to_owned);
    if matches!(status, 204 | 205 | 304) {
        return Outcome::NoResponse;
    }
    let announced = response.headers().get(header::CONTENT_LENGTH);
    let announced: Option<u64> = announced
        .and_then(|value| value.to_str().ok())
        .and_then(|n| n.parse().ok());
    let [most, cut] = [limit.most, limit.cut].map(|bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX));
    let mut body = response.into_body();
    let expected = announced.map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX).min(most.max(cut)));
    let (mut kept, mut length) = (Vec::with_capacity(expected), 0_u64);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Outcome::Broken };
        let Ok(chunk) = frame.into_data() else { continue };
        length += chunk.len() as u64;
        let room = most.max(cut).saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        // A body of known length need not be read to its end to know how long it is.
        if let Some(announced) = announced.filter(|n| *n > limit.most.0 && kept.len() >= cut) {
            length = announced;
            break;
        }
    }
    let too_long = length > limit.most.0;
    if too_long {
        kept.truncate(cut);
    }
    Outcome::Response {
        status,
        body: Body {
            kept,
            length: Bytes(length),
            too_long,
        },
        timing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket, UnixListener};

    const LONG: Duration = Duration::from_secs(60);
    const LIMIT: BodyLimit = BodyLimit {
        most: Bytes(10),
        cut: Bytes(4),
    };

    /// The container lives on.
    async fn post(
        address: &Address,
        path: &str,
        body: Chunk,
        limit: Duration,
        kept: BodyLimit,
        connect: Connect,
    ) -> Exchange {
        super::post(
            address,
            path,
            body,
            limit,
            kept,
            connect,
            std::future::pending::<()>(),
        )
        .await
    }

    #[tokio::test]
    async fn nothing_is_sent_to_whoever_has_the_address_after_the_container() {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(([127, 0, 0, 1], 0).into())
            .expect("an address that refuses");
        let address = Address::Tcp(socket.local_addr().expect("bound"));
        let soon = tokio::time::sleep(Duration::from_millis(50));
        let exchange = super::post(
            &address,
            "/run",
            "{}".into(),
            LONG,
            LIMIT,
            Connect::Patiently,
            soon,
        )
        .await;
        assert!(matches!(exchange.outcome, Outcome::Refused), "{exchange:?}");
        let next = socket.listen(1).expect("another one listens there");
        let came = tokio::time::timeout(LONGEST_PAUSE * 4, next.accept()).await;
        assert!(came.is_err(), "{came:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_on_its_way_when_the_container_ends_counts() {
        for (answers, whole) in [(true, true), (false, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let address = Address::Tcp(listener.local_addr().expect("bound"));
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                read_request(&mut stream).await;
                drop(end);
                if answers {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                    stream.write_all(answer).await.expect("answered");
                }
                std::future::pending::<()>().await; // it neither answers nor closes
            });
            let exchange =
                super::post(&address, "/run", "{}".into(), LONG, LIMIT, Connect::Once, ended).await;
            let is_whole = matches!(exchange.outcome, Outcome::Response { status: 200, .. });
            let is_broken = matches!(exchange.outcome, Outcome::Broken);
            assert_eq!((is_whole, is_broken), (whole, !whole), "{exchange:?}");
        }
    }

    /// C-01, C-02: method, path, headers in their order, the exact body, one connection a request.
    #[tokio::test]
    async fn a_request_is_whole_compact_and_has_a_connection_of_its_own() {
        let server = Server::answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        let mut requests = Vec::new();
        for _ in 0..2 {
            let exchange = server.post("/init", "{\"value\":{}}", Connect::Once).await;
            assert!(
                matches!(exchange.outcome, Outcome::Response { status: 200, .. }),
                "{exchange:?}"
            );
            requests.push(server.request().await);
        }
        assert_eq!(server.connections(), 2);
        for request in requests {
            let (head, body) = request.split_once("\r\n\r\n").expect("a whole head");
            let expected = format!(
                "POST /init HTTP/1.1\r\nAccept: application/json\r\nContent-Length: 12\r\n\
                 Content-Type: application/json\r\nHost: {}\r\nConnection: close",
                server.address
            );
            assert_eq!(head, expected);
            assert_eq!(body, "{\"value\":{}}");
        }
    }

    #[tokio::test]
    async fn a_unix_socket_is_as_good() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("proxy");
        let listener = UnixListener::bind(&path).expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            read_request(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\nFFS-Timing: {\"lanes\":[]}\r\nContent-Length: 2\r\n\r\n{}";
            stream.write_all(answer).await.expect("answered");
        });
        let exchange = post(
            &Address::Unix(path),
            "/run",
            "{}".into(),
            LONG,
            LIMIT,
            Connect::Once,
        )
        .await;
        let Outcome::Response { timing, body, .. } = exchange.outcome else {
            panic!("{exchange:?}")
        };
        assert_eq!((timing.as_deref(), &*body.text()), (Some("{\"lanes\":[]}"), "{}"));
    }

    /// C-30: exactly the limit is not too long.
    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_whole() {
        let (body, is_cut) = body_of(b"Content-Length: 10\r\n\r\n0123456789", LIMIT).await;
        assert_eq!(
            (&*body.text(), body.length, is_cut),
            ("0123456789", Bytes(10), false)
        );
    }

    /// C-30, C-32a, C-33: chunked and without a length too, the real length is known.
    #[tokio::test]
    async fn a_longer_body_is_cut_and_its_length_known_however_it_is_sent() {
        for answer in [
            &b"Content-Length: 11\r\n\r\n0123456789a"[..],
            b"Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n5\r\n6789a\r\n0\r\n\r\n",
            b"Connection: close\r\n\r\n0123456789a",
        ] {
            let (body, is_cut) = body_of(answer, LIMIT).await;
            assert_eq!((&*body.text(), body.length, is_cut), ("0123", Bytes(11), true));
            assert_eq!(body.units(), 11);
        }
    }

    /// C-30: a body shorter than the cut length is kept whole.
    #[tokio::test]
    async fn what_fits_into_the_cut_is_kept_though_it_is_too_long() {
        let limit = BodyLimit {
            most: Bytes(3),
            cut: Bytes(8),
        };
        let (body, is_cut) = body_of(b"Content-Length: 5\r\n\r\n01234", limit).await;
        assert_eq!((&*body.text(), body.length, is_cut), ("01234", Bytes(5), true));
    }

    /// C-31, C-33: replacement characters; sizes are UTF-16 units.
    #[tokio::test]
    async fn a_character_cut_in_the_middle_is_replaced() {
        let (body, _) = body_of("Content-Length: 13\r\n\r\nab€€€cd".as_bytes(), LIMIT).await;
        assert_eq!(body.text(), "ab\u{fffd}");
        let (body, _) = body_of("Content-Length: 7\r\n\r\na€€".as_bytes(), LIMIT).await;
        assert_eq!((&*body.text(), body.units()), ("a€€", 3));
    }

    /// C-32: 204 and its like.
    #[tokio::test]
    async fn an_answer_without_entity_is_no_response() {
        for status in ["204 No Content", "205 Reset Content", "304 Not Modified"] {
            let server = Server::answer(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
            let exchange = server.post("/run", "{}", Connect::Patiently).await;
            assert!(matches!(exchange.outcome, Outcome::NoResponse), "{exchange:?}");
            assert_eq!(server.connections(), 1, "it is not sent again");
        }
    }

    /// C-32, C-41: closed early is a broken connection, and nothing is sent twice.
    #[tokio::test]
    async fn an_answer_that_stops_half_way_or_never_comes_is_broken_and_not_asked_for_again() {
        for answer in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012",
            b"SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            let server = Server::answer(answer).await;
            let exchange = server.post("/run", "{}", Connect::Patiently).await;
            assert!(matches!(exchange.outcome, Outcome::Broken), "{exchange:?}");
            assert_eq!(server.connections(), 1);
        }
    }

    /// C-40: a refused connection is tried again until somebody listens.
    #[tokio::test]
    async fn a_server_that_is_still_starting_is_waited_for() {
        let starting = not_listening();
        let to = Address::Tcp(starting.local_addr().expect("bound"));
        let exchange = post(&to, "/init", "{}".into(), LONG, LIMIT, Connect::Patiently);
        tokio::pin!(exchange);
        assert!(exchange.as_mut().now_or_never().is_none(), "nobody listens yet");
        let _server = Server::on(
            starting.listen(8).expect("bound"),
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        );
        let exchange = exchange.await;
        assert!(
            matches!(exchange.outcome, Outcome::Response { status: 200, .. }),
            "{exchange:?}"
        );
    }

    /// C-41, C-43: `/run` is connected to once.
    #[tokio::test]
    async fn who_may_not_wait_is_told_that_nobody_listens() {
        let socket = not_listening();
        let to = Address::Tcp(socket.local_addr().expect("bound"));
        let exchange = post(&to, "/run", "{}".into(), LONG, LIMIT, Connect::Once).await;
        assert!(matches!(exchange.outcome, Outcome::Refused), "{exchange:?}");
        let to = Address::Unix("/nonexistent/proxy".into());
        let exchange = post(&to, "/run", "{}".into(), LONG, LIMIT, Connect::Once).await;
        assert!(matches!(exchange.outcome, Outcome::Refused), "{exchange:?}");
    }

    /// C-20, C-21, C-40: one deadline for connecting and for a body that trickles.
    #[tokio::test]
    async fn the_limit_holds_for_all_of_an_exchange() {
        let limit = Duration::from_millis(50);
        let socket = not_listening();
        let nobody = Address::Tcp(socket.local_addr().expect("bound"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let trickle = Address::Tcp(listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            read_request(&mut stream).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        for to in [nobody, trickle] {
            let exchange = post(&to, "/run", "{}".into(), limit, LIMIT, Connect::Patiently).await;
            assert!(matches!(exchange.outcome, Outcome::TimedOut), "{exchange:?}");
            assert!(exchange.took >= limit);
        }
    }

    async fn body_of(answer: &[u8], limit: BodyLimit) -> (Body, bool) {
        let server = Server::answer(&[b"HTTP/1.1 200 OK\r\n", answer].concat()).await;
        let to = Address::Tcp(server.address);
        let exchange = post(&to, "/run", "{}".into(), LONG, limit, Connect::Once).await;
        let Outcome::Response { body, .. } = exchange.outcome else {
            panic!("{exchange:?}")
        };
        let is_cut = body.is_cut();
        (body, is_cut)
    }

    /// A port that nobody else can have, and at which nobody listens.
    fn not_listening() -> TcpSocket {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .expect("a free port");
        socket
    }

    /// Reads one request a connection, answers with fixed bytes and closes.
    struct Server {
        address: SocketAddr,
        connections: Arc<AtomicUsize>,
        requests: tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<String>>,
    }

    impl Server {
        async fn answer(answer: &[u8]) -> Self {
            Self::on(
                TcpListener::bind("127.0.0.1:0").await.expect("a free port"),
                answer,
            )
        }

        fn on(listener: TcpListener, answer: &[u8]) -> Self {
            let address = listener.local_addr().expect("bound");
            let connections = Arc::new(AtomicUsize::new(0));
            let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
            let (answer, count) = (answer.to_vec(), Arc::clone(&connections));
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = sender.send(read_request(&mut stream).await);
                    // The client may have read enough.
                    let _ = stream.write_all(&answer).await;
                }
            });
            Self {
                address,
                connections,
                requests: tokio::sync::Mutex::new(requests),
            }
        }

        async fn post(&self, path: &str, body: &'static str, connect: Connect) -> Exchange {
            post(
                &Address::Tcp(self.address),
                path,
                body.into(),
                LONG,
                LIMIT,
                connect,
            )
            .await
        }

        async fn request(&self) -> String {
            self.requests.lock().await.recv().await.expect("the server runs")
        }

        fn connections(&self) -> usize {
            self.connections.load(Ordering::SeqCst)
        }
    }

    /// Head and body, by Content-Length.
    async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Content-Length: "));
                if body.len() >= length.and_then(|n| n.parse().ok()).unwrap_or(0) {
                    return text;
                }
            }
            let mut chunk = [0; 1024];
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => bytes.extend_from_slice(&chunk[..n]),
                _ => return text,
            }
        }
    }
}

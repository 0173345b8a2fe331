//! Requests to one CouchDB, over connections that are kept, and what can go wrong with them.
//!
//! Source: `CouchDbRestClient.scala`; contract D-01, D-02, D-08.

use super::CouchSettings;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, IF_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use openssl::ssl::{SslConnector, SslMethod};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// An unused connection is closed after this long.
const IDLE: Duration = Duration::from_secs(60);
/// What is quoted of an answer that was not expected, in bytes.
const QUOTED: usize = 300;

/// What stays as it is within one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the settings of CouchDB make no address: {at}")]
    Address { at: String },
    #[error("there are no certificates to check CouchDB's with")]
    Certificates(#[source] openssl::error::ErrorStack),
    #[error("CouchDB at {at} cannot be reached")]
    Connect {
        at: String,
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    #[error("the connection to CouchDB at {at} broke")]
    Broken {
        at: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("CouchDB at {at} did not answer within {within:?}")]
    TimedOut { at: String, within: Duration },
    #[error("CouchDB at {at} refuses user {user}: {status}, {text}")]
    Credentials {
        at: String,
        user: String,
        status: StatusCode,
        text: String,
    },
    #[error("CouchDB at {at} answered {status}, {text}")]
    Status {
        at: String,
        status: StatusCode,
        text: String,
    },
    #[error("the answer of CouchDB at {at} cannot be read: {reason}")]
    Unreadable { at: String, reason: String },
}

impl Failure {
    /// Whether the request may not have reached the database at all.
    pub(super) fn is_connection(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Broken { .. })
    }

    /// Whether the database itself said that it cannot do it now.
    pub(super) fn is_overload(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error())
    }

    /// Whether the same request will never do: it is too large, or wrong (D-54).
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Status { status, .. }
            if matches!(*status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE))
    }
}

/// Status and whole body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// One request. Ids in `path` are encoded by [`segment`].
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Behind `<protocol>://<host>:<port>/`.
    pub(super) path: String,
    /// `If-Match`, without quotes.
    pub(super) revision: Option<String>,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) body: Bytes,
}

impl Ask {
    pub(super) fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            revision: None,
            content_type: None,
            body: Bytes::new(),
        }
    }

    pub(super) fn json(method: Method, path: String, body: impl Into<Bytes>) -> Self {
        Self {
            method,
            path,
            revision: None,
            content_type: Some(HeaderValue::from_static("application/json")),
            body: body.into(),
        }
    }
}

/// Text as one segment of a path, or as one value of a query (D-01).
pub(super) fn segment(text: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(text, SEGMENT)
}

/// Where the database is, who we are there, and the open connections.
#[derive(Debug)]
pub(super) struct Client {
    pool: Connections,
    /// `http://db:5984`
    at: String,
    user: String,
    authorization: HeaderValue,
    timeout: Duration,
}

#[derive(Debug)]
enum Connections {
    Plain(Pool<HttpConnector, Full<Bytes>>),
    Secure(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// `Address`, `Certificates`.
    pub(super) fn new(settings: &CouchSettings) -> Result<Self, Failure> {
        let CouchSettings {
            protocol, host, port, ..
        } = settings;
        let host = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let at = format!("{protocol}://{host}:{port}");
        let no_address = || Failure::Address { at: at.clone() };
        at.parse::<hyper::Uri>().map_err(|_| no_address())?;
        let credentials = STANDARD.encode(format!("{}:{}", settings.username, settings.password));
        let mut authorization =
            HeaderValue::from_str(&format!("Basic {credentials}")).expect("base64 is plain text");
        authorization.set_sensitive(true);

        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let mut pool = Pool::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.max_connections);
        let pool = match protocol.as_str() {
            "http" => Connections::Plain(pool.build(tcp)),
            "https" => {
                tcp.enforce_http(false);
                let mut tls = SslConnector::builder(SslMethod::tls()).map_err(Failure::Certificates)?;
                tls.set_alpn_protos(b"\x08http/1.1")
                    .map_err(Failure::Certificates)?;
                let tls = HttpsConnector::with_connector(tcp, tls).map_err(Failure::Certificates)?;
                Connections::Secure(pool.build(tls))
            }
            _ => return Err(no_address()),
        };
        Ok(Self {
            pool,
            at,
            user: settings.username.clone(),
            authorization,
            timeout: settings.timeout,
        })
    }

    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// One exchange, whatever the status of its answer.
    ///
    /// # Errors
    /// `Connect`, `Broken`, `TimedOut`.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Answer, Failure> {
        let exchange = tokio::time::timeout(self.timeout, self.exchange(ask)).await;
        exchange.unwrap_or_else(|_| {
            Err(Failure::TimedOut {
                at: self.at.clone(),
                within: self.timeout,
            })
        })
    }

    async fn exchange(&self, ask: &Ask) -> Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(format!("{}/{}", self.at, ask.path))
            .header(AUTHORIZATION, &self.authorization)
            .header(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(revision) = &ask.revision {
            request = request.header(IF_MATCH, format!("\"{revision}\""));
        }
        if let Some(content_type) = &ask.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let request = request
            .body(Full::new(ask.body.clone()))
            .map_err(|source| self.broken(source))?;
        let response = match &self.pool {
            Connections::Plain(pool) => pool.request(request),
            Connections::Secure(pool) => pool.request(request),
        };
        let response = response.await.map_err(|source| {
            if source.is_connect() {
                let at = self.at.clone();
                Failure::Connect { at, source }
            } else {
                self.broken(source)
            }
        })?;
        let status = response.status();
        let body = response.into_body().collect().await;
        Ok(Answer {
            status,
            body: body.map_err(|source| self.broken(source))?.to_bytes(),
        })
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
        Failure::Broken {
            at: self.at.clone(),
            source: source.into(),
        }
    }

    /// The failure that an answer with this status is.
    pub(super) fn refused(&self, answer: &Answer) -> Failure {
        let (at, status) = (self.at.clone(), answer.status);
        let quoted = &answer.body[..answer.body.len().min(QUOTED)];
        let text = String::from_utf8_lossy(quoted).trim().to_owned();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Credentials {
                at,
                user: self.user.clone(),
                status,
                text,
            },
            _ => Failure::Status { at, status, text },
        }
    }

    /// The answer as a `T`. What it holds is not quoted.
    ///
    /// # Errors
    /// `Unreadable`.
    pub(super) fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body).map_err(|error| self.unreadable(error))
    }

    pub(super) fn unreadable(&self, reason: impl ToString) -> Failure {
        Failure::Unreadable {
            at: self.at.clone(),
            reason: reason.to_string(),
        }
    }
}

//! `ffs-invoker plan --live`: what a running daemon has placed where, and why.

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use comfy_table::{Table, presets};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use hyper::{Request, StatusCode, Uri};
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use openssl::ssl::{SslConnector, SslMethod};
use proto::ffs::migs::{MigsDocument, SliceState};
use serde::Deserialize;
use std::fmt::Write;
use std::time::Duration;

/// Where `standalone` listens unless it is told otherwise.
pub(super) const ADDRESS: &str = "http://127.0.0.1:3233";
const PATH: &str = "/status.json";
/// Longest wait for the whole answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What is shown of the admin API's `/status.json`.
#[derive(Debug, Deserialize)]
struct Status {
    invoker: String,
    enabled: bool,
    ready: bool,
    because: Option<String>,
    migs: Option<MigsDocument>,
    instances: Vec<Instance>,
    waiting: Vec<Waiting>,
    decisions: Vec<Decision>,
}

#[derive(Debug, Deserialize)]
struct Instance {
    instance: String,
    function: String,
    state: String,
    plan: String,
    slices: Vec<String>,
    in_flight: usize,
    limit: usize,
}

#[derive(Debug, Deserialize)]
struct Waiting {
    function: String,
    activations: usize,
    waits: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Decision {
    /// Milliseconds since the daemon's start.
    at: f64,
    what: String,
    function: String,
    instance: Option<String>,
    chosen: Option<String>,
    because: String,
    #[serde(default)]
    rejected: Vec<Rejected>,
}

#[derive(Debug, Deserialize)]
struct Rejected {
    key: String,
    because: String,
}

/// The daemon's status as it sends it.
///
/// # Errors
/// If the daemon cannot be reached there, or refuses.
pub(super) fn fetch(address: &str, credentials: Option<&str>) -> anyhow::Result<Bytes> {
    let address = address.trim_end_matches('/');
    let uri: Uri = format!("{address}{PATH}")
        .parse()
        .with_context(|| format!("{address:?} is no address: expected one such as {ADDRESS}"))?;
    let mut request = Request::get(uri);
    if let Some(credentials) = credentials {
        let credentials = STANDARD.encode(credentials);
        request = request.header(AUTHORIZATION, format!("Basic {credentials}"));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let exchange = async {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let tls = HttpsConnector::with_connector(tcp, SslConnector::builder(SslMethod::tls())?)?;
        let answer = Client::builder(TokioExecutor::new())
            .build::<_, Empty<Bytes>>(tls)
            .request(request)
            .await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok::<_, anyhow::Error>((status, body))
    };
    let answer = runtime.block_on(async { tokio::time::timeout(LIMIT, exchange).await });
    let (status, body) = answer
        .with_context(|| format!("the daemon at {address} did not answer within {LIMIT:?}"))?
        .with_context(|| format!("the daemon at {address} cannot be reached"))?;
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::UNAUTHORIZED => bail!(
            "the daemon at {address} wants --auth USER:PASSWORD, those of its admin API (INVOKER_USERNAME, …)"
        ),
        _ => bail!(
            "the daemon at {address} answered {status}: {}",
            String::from_utf8_lossy(&body)
        ),
    }
}

/// Slices with their owners, instances with their states, who waits, and the last decisions with what
/// was not chosen.
///
/// # Errors
/// If this is not a daemon's status.
pub(super) fn text(body: &[u8]) -> anyhow::Result<String> {
    let status: Status = proto::decode::decode(body).context("this is not the status of a daemon")?;
    let mut text = String::new();
    let enabled = if status.enabled { "enabled" } else { "disabled" };
    let ready = match (status.ready, status.because) {
        (true, _) => "ready".to_owned(),
        (false, because) => format!("not ready: {}", because.unwrap_or_default()),
    };
    writeln!(text, "{}: {enabled}, {ready}", status.invoker)?;
    let migs = status.migs.as_ref();
    let slices = migs.map_or(&[][..], |migs| &migs.slices);
    let slices = slices.iter().map(|slice| {
        let owners: Vec<&str> = slice.owners.iter().map(|owner| owner.as_str()).collect();
        [
            slice.uuid.to_string(),
            slice.profile.to_string(),
            slice.memory_bytes.to_string(),
            state(slice.state).to_owned(),
            owners.join(" "),
        ]
    });
    push_table(
        &mut text,
        ["slice", "profile", "memory", "state", "owners"],
        slices,
    );
    let instances = status.instances.into_iter().map(|instance| {
        [
            instance.instance,
            instance.function,
            instance.state,
            instance.plan,
            format!("{} of {}", instance.in_flight, instance.limit),
            instance.slices.join(" "),
        ]
    });
    let header = ["instance", "function", "state", "plan", "in flight", "slices"];
    push_table(&mut text, header, instances);
    for waiting in status.waiting {
        let waits = waiting.waits.unwrap_or_default();
        writeln!(
            text,
            "{} of {} wait {waits}",
            waiting.activations, waiting.function
        )?;
    }
    writeln!(text, "\nThe last decisions:")?;
    for decision in status.decisions {
        let Decision {
            at,
            what,
            function,
            because,
            ..
        } = decision;
        let instance = decision.instance.map(|id| format!(" {id}")).unwrap_or_default();
        let chosen = decision
            .chosen
            .map(|chosen| format!("{chosen}: "))
            .unwrap_or_default();
        writeln!(
            text,
            "{:10.3} s {what}{instance} of {function}: {chosen}{because}",
            at / 1e3
        )?;
        for rejected in decision.rejected {
            writeln!(text, "             not {}: {}", rejected.key, rejected.because)?;
        }
    }
    Ok(text)
}

fn push_table<const N: usize>(text: &mut String, header: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    let mut any = false;
    for row in rows {
        any = true;
        table.add_row(row);
    }
    if any {
        text.push_str(&table.trim_fmt());
        text.push('\n');
    }
}

const fn state(state: SliceState) -> &'static str {
    match state {
        SliceState::Free => "free",
        SliceState::Hot => "hot",
        SliceState::Shared => "shared",
        SliceState::Fenced => "fenced",
    }
}

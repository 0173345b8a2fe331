//! Lines in OpenWhisk's shape: `[2026-01-01T00:00:00.123Z] [INFO] [#tid_<id>] [Component] text`.
//!
//! Source: `logback.xml`, `Logging.scala`; contract N-20 … N-23.

use std::fmt::{self, Write};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The field, of spans and events, that says for whom something is done.
const TRANSACTION: &str = "transid";
/// The field whose value ends a line, in brackets (N-21).
const MARKER: &str = "marker";

/// Keeps the transaction of each span, for the lines inside it.
pub(super) struct Transactions;

/// The transaction of a span.
struct Transaction(String);

impl<S> Layer<S> for Transactions
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        keep(fields, id, &context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        keep(fields, id, &context);
    }
}

fn keep<S>(fields: Fields, id: &Id, context: &Context<'_, S>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if let (Some(transaction), Some(span)) = (fields.transaction, context.span(id)) {
        span.extensions_mut().replace(Transaction(transaction));
    }
}

/// Writes one line per event.
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (mut root, mut own) = (None::<String>, fields.transaction.take());
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(Transaction(id)) = span.extensions().get::<Transaction>() {
                match &root {
                    None => root = Some(id.clone()),
                    Some(_) => own = own.or_else(|| Some(id.clone())),
                }
            }
        }
        let target = event.metadata().target();
        let now = OffsetDateTime::now_utc().format(TIME).map_err(|_| fmt::Error)?;
        let level = level(event.metadata().level());
        let first = root
            .as_deref()
            .or(own.as_deref())
            .unwrap_or_else(|| system(target));
        write!(line, "[{now}] [{level}] [#tid_{first}]")?;
        if let Some(own) = own.as_deref().filter(|own| *own != first) {
            write!(line, " [#tid_{own}]")?;
        }
        write!(line, " [{}]", component(target))?;
        for text in [&fields.message, &fields.rest] {
            if !text.is_empty() {
                write!(line, " {}", text.trim())?;
            }
        }
        if let Some(marker) = &fields.marker {
            write!(line, " [marker:{marker}]")?;
        }
        writeln!(line)
    }
}

fn level(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

/// For whom a part works when it works for no activation (N-22).
fn system(target: &str) -> &'static str {
    let path = target.strip_prefix("ffs_invoker::").unwrap_or(target);
    let begins = |part: &str| path == part || path.starts_with(&format!("{part}::"));
    match path {
        _ if begins("activation::feed") || begins("bus") => "sid_dispatcher",
        _ if begins("store") => "sid_dbBatcher",
        _ if begins("container") || begins("dispatcher") => "sid_invokerNanny",
        _ => "sid_invoker",
    }
}

/// The last module of a target, as the name of a class: `activation::config_layer` → `ConfigLayer`.
fn component(target: &str) -> String {
    let module = match target.strip_prefix("ffs_invoker::") {
        Some(own) if own.starts_with("cli") || own.starts_with("daemon") => "invoker",
        Some(own) => own.rsplit("::").next().unwrap_or(own),
        None => target.split("::").next().unwrap_or(target),
    };
    let words = module.split('_').filter(|word| !word.is_empty());
    words
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect::<String>()
}

/// The fields of an event or span.
#[derive(Default)]
struct Fields {
    transaction: Option<String>,
    marker: Option<String>,
    message: String,
    /// ` key=value` of all others.
    rest: String,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &str) {
        // A line stays a line, whatever is in it.
        let value = value
            .split(['\n', '\r'])
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let value = value.collect::<Vec<_>>().join(" ");
        match field.name() {
            "message" => self.message = value,
            TRANSACTION => self.transaction = Some(value),
            MARKER => self.marker = Some(value),
            name => {
                // Writing into a text cannot fail.
                let _ = if value.contains(' ') {
                    write!(self.rest, " {name}={value:?}")
                } else {
                    write!(self.rest, " {name}={value}")
                };
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }

    /// With its causes.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.put(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing::{error, info, info_span, warn};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `work` runs, without the times in front.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let memory = Memory::default();
        let writer = memory.clone();
        let lines = tracing_subscriber::fmt::layer()
            .event_format(Lines)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(Transactions).with(lines);
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let cut = |line: &str| {
            let (time, rest) = line.split_once("] ").unwrap();
            let time = time.strip_prefix('[').unwrap();
            let parsed = OffsetDateTime::parse(time, &time::format_description::well_known::Rfc3339);
            assert!(
                parsed.is_ok() && time.len() == 24 && time.ends_with('Z'),
                "{time}"
            );
            rest.to_owned()
        };
        text.lines().map(cut).collect()
    }

    /// N-20, N-23: level, transaction and component stand in brackets before the text.
    #[test]
    fn a_line_names_the_transaction_of_its_span() {
        let lines = logged(|| {
            let span = info_span!("run", transid = "abc", activation = "x");
            let _inside = span.enter();
            info!(container = "wsk00_1", took = 3, "started");
            let nested = info_span!("child", transid = "def");
            let _deeper = nested.enter();
            warn!("it waits");
        });
        assert_eq!(
            lines,
            [
                "[INFO] [#tid_abc] [Invoker] started container=wsk00_1 took=3",
                "[WARN] [#tid_abc] [#tid_def] [Invoker] it waits",
            ]
        );
    }

    /// N-20, N-22: work for no activation has an id of the system's own.
    #[test]
    fn a_line_about_no_activation_has_a_system_id() {
        let lines = logged(|| {
            info!(target: "ffs_invoker::daemon", "started");
            info!(target: "ffs_invoker::activation::feed", "reading");
            info!(target: "ffs_invoker::pipeline::config_layer", transid = "t", "written");
            error!(target: "rdkafka::client", "away");
        });
        assert_eq!(
            lines,
            [
                "[INFO] [#tid_sid_invoker] [Invoker] started",
                "[INFO] [#tid_sid_dispatcher] [Feed] reading",
                "[INFO] [#tid_t] [ConfigLayer] written",
                "[ERROR] [#tid_sid_invoker] [Rdkafka] away",
            ]
        );
    }

    /// N-21: a marker ends the line, in the brackets that log pipelines look for.
    #[test]
    fn a_marker_ends_the_line_and_nothing_breaks_it() {
        let lines = logged(|| {
            info!(target: "ffs_invoker::activation::run", transid = "t", marker = "invoker_activationRun_finish:212:41");
            let error = io::Error::other(io::Error::other("inner\ncause"));
            let error = &error as &(dyn std::error::Error + 'static);
            info!(target: "ffs_invoker::activation::run", error, "two\nlines");
        });
        assert_eq!(
            lines,
            [
                "[INFO] [#tid_t] [Run] [marker:invoker_activationRun_finish:212:41]",
                "[INFO] [#tid_sid_invoker] [Run] two lines error=\"inner cause\"",
            ]
        );
    }
}

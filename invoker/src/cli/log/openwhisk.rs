//! Lines in OpenWhisk's shape: `[2026-01-01T00:00:00.123Z] [INFO] [#tid_<id>] [Component] text`.
//!
//! Source: `logback.xml`, `Logging.scala`; contract N-20 … N-23.

use super::output::Output;
use std::cell::RefCell;
use std::fmt::{self, Write};
use std::io;
use std::sync::Arc;
use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The field, of spans and events, that says for whom something is done.
const TRANSACTION: &str = "transid";
/// The field whose value ends a line, in brackets (N-21).
const MARKER: &str = "marker";

/// Writes one line per event; warnings and errors at once.
pub(super) struct Lines<W>(pub(super) Output<W>);

/// The transaction of a span.
struct Transaction(Arc<str>);

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What one line is made in; kept from line to line.
#[derive(Default)]
struct Scratch {
    fields: Fields,
    line: String,
    stamp: Stamp,
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: io::Write + Send + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().fields().field(TRANSACTION).is_some() {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            keep(&fields, id, &context);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        keep(&fields, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let is_urgent = *event.metadata().level() <= Level::WARN;
        SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => self.0.line(scratch.format(event, &context), is_urgent),
            // A value that logs while it is shown.
            Err(_) => self.0.line(Scratch::default().format(event, &context), is_urgent),
        });
    }
}

fn keep<S>(fields: &Fields, id: &Id, context: &Context<'_, S>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if let (Some(transaction), Some(span)) = (fields.transaction(), context.span(id)) {
        span.extensions_mut().replace(Transaction(transaction.into()));
    }
}

impl Scratch {
    fn format<S>(&mut self, event: &Event<'_>, context: &Context<'_, S>) -> &[u8]
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        self.fields.clear();
        self.line.clear();
        event.record(&mut self.fields);
        // Writing into a text cannot fail.
        let _ = self.write(event, context);
        self.line.as_bytes()
    }

    fn write<S>(&mut self, event: &Event<'_>, context: &Context<'_, S>) -> fmt::Result
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Self { fields, line, stamp } = self;
        let (mut root, mut nested) = (None::<Arc<str>>, None::<Arc<str>>);
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(Transaction(id)) = span.extensions().get::<Transaction>() {
                match &root {
                    None => root = Some(Arc::clone(id)),
                    Some(_) => nested = nested.or_else(|| Some(Arc::clone(id))),
                }
            }
        }
        let own = fields.transaction().or(nested.as_deref());
        let target = event.metadata().target();
        let first = root.as_deref().or(own).unwrap_or_else(|| system(target));
        line.push('[');
        stamp.write(line)?;
        write!(line, "] [{}] [#tid_{first}]", level(event.metadata().level()))?;
        if let Some(own) = own.filter(|own| *own != first) {
            write!(line, " [#tid_{own}]")?;
        }
        line.push_str(" [");
        component(target, line);
        line.push(']');
        for text in [&fields.message, &fields.rest] {
            if !text.is_empty() {
                line.push(' ');
                line.push_str(text.trim());
            }
        }
        if !fields.marker.is_empty() {
            write!(line, " [marker:{}]", fields.marker)?;
        }
        line.push('\n');
        Ok(())
    }
}

/// The time down to its second, which many lines have in common.
#[derive(Default)]
struct Stamp {
    /// Seconds since the epoch.
    second: i64,
    text: String,
}

impl Stamp {
    /// `2026-01-01T00:00:00.123Z`
    fn write(&mut self, line: &mut String) -> fmt::Result {
        let now = OffsetDateTime::now_utc();
        if self.second != now.unix_timestamp() || self.text.is_empty() {
            self.second = now.unix_timestamp();
            self.text.clear();
            let (year, month, day) = now.to_calendar_date();
            let (hour, minute, second) = now.to_hms();
            write!(
                self.text,
                "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}",
                u8::from(month)
            )?;
        }
        line.push_str(&self.text);
        write!(line, ".{:03}Z", now.millisecond())
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
    let begins = |part: &str| {
        path.strip_prefix(part)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    match path {
        _ if begins("activation::feed") || begins("bus") => "sid_dispatcher",
        _ if begins("store") => "sid_dbBatcher",
        _ if begins("container") || begins("dispatcher") => "sid_invokerNanny",
        _ => "sid_invoker",
    }
}

/// The last module of a target, as the name of a class: `activation::config_layer` → `ConfigLayer`.
fn component(target: &str, line: &mut String) {
    let module = match target.strip_prefix("ffs_invoker::") {
        Some(own) if own.starts_with("cli") || own.starts_with("daemon") => "invoker",
        Some(own) => own.rsplit("::").next().unwrap_or(own),
        None => target.split("::").next().unwrap_or(target),
    };
    for word in module.split('_') {
        let mut letters = word.chars();
        line.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        line.push_str(letters.as_str());
    }
}

/// The fields of an event or span.
#[derive(Default)]
struct Fields {
    transaction: String,
    marker: String,
    message: String,
    /// ` key=value` of all others.
    rest: String,
    /// A value while it is being read.
    value: String,
}

impl Fields {
    fn clear(&mut self) {
        let Self {
            transaction,
            marker,
            message,
            rest,
            value: _,
        } = self;
        for text in [transaction, marker, message, rest] {
            text.clear();
        }
    }

    fn transaction(&self) -> Option<&str> {
        Some(&*self.transaction).filter(|transaction| !transaction.is_empty())
    }

    fn put(&mut self, field: &Field, value: &str) {
        // A line stays a line, whatever is in it.
        if value.contains(['\n', '\r']) {
            let parts = value
                .split(['\n', '\r'])
                .map(str::trim)
                .filter(|part| !part.is_empty());
            return self.put_line(field, &parts.collect::<Vec<_>>().join(" "));
        }
        self.put_line(field, value.trim());
    }

    fn put_line(&mut self, field: &Field, value: &str) {
        let whole = match field.name() {
            "message" => &mut self.message,
            TRANSACTION => &mut self.transaction,
            MARKER => &mut self.marker,
            name => {
                // Writing into a text cannot fail.
                let _ = if value.contains(' ') {
                    write!(self.rest, " {name}={value:?}")
                } else {
                    write!(self.rest, " {name}={value}")
                };
                return;
            }
        };
        whole.clear();
        whole.push_str(value);
    }

    fn show(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut text = std::mem::take(&mut self.value);
        text.clear();
        let _ = text.write_fmt(value);
        self.put(field, &text);
        self.value = text;
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.show(field, format_args!("{value:?}"));
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
    use std::sync::Mutex;
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
        let output = Output::start(memory.clone()).expect("a thread");
        let subscriber = tracing_subscriber::registry().with(Lines(output.clone()));
        tracing::subscriber::with_default(subscriber, work);
        output.flush();
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

//! The status page: one HTML document without scripts, which loads itself again every two seconds.

use crate::dispatcher::Picture;
use std::fmt::Write;

const HEAD: &str = r#"<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="refresh" content="2"><title>ffs-invoker</title><style>
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2430;background:#f7f8fa}
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:1.8rem 0 .5rem}
table{border-collapse:collapse;width:100%;background:#fff;border:1px solid #dde2ea}
th,td{text-align:left;padding:.35rem .7rem;border-bottom:1px solid #eceff4;vertical-align:top}
th{font-weight:600;color:#55607a;font-size:.85rem}
.gpu{display:flex;gap:.4rem;margin:.4rem 0}.slice{border-radius:6px;padding:.5rem .7rem;border:1px solid #c9d1dd;background:#fff;min-width:6rem}
.hot{background:#ffe3d3;border-color:#f0a37a}.fenced{background:#e5e5e5;color:#777}.free{background:#e4f5e7;border-color:#9ccfa5}
small{color:#55607a}pre{background:#fff;border:1px solid #dde2ea;padding:.8rem;overflow-x:auto}
</style></head><body><h1>ffs-invoker</h1>"#;

/// The whole page.
pub(super) fn render(standing: &str, picture: &Picture) -> String {
    let view = &picture.view;
    let mut html = String::from(HEAD);
    let _ = write!(
        html,
        "<p>{}. Memory of containers: {} of {}.</p>",
        escape(standing),
        view.memory.used,
        view.memory.budget
    );
    pool(&mut html, picture);
    slices(&mut html, picture);
    let rows = view.instances.iter().map(|i| {
        let in_flight = format!("{} of {}", i.in_flight, i.limit);
        [
            i.instance.clone(),
            i.function.clone(),
            i.state.to_owned(),
            i.plan.clone(),
            in_flight,
        ]
    });
    table(
        &mut html,
        "Instances",
        ["instance", "function", "state", "stages", "in flight"],
        rows,
    );
    let rows = view.waiting.iter().map(|w| {
        [
            w.function.clone(),
            w.activations.to_string(),
            w.waits.clone().unwrap_or_default(),
        ]
    });
    table(&mut html, "Waiting", ["function", "activations", "for"], rows);
    let rows = picture.decisions.iter().rev().map(|d| {
        let at = format!("{:.1} s", d.at.0.as_secs_f64());
        let rejected: Vec<String> = d
            .rejected
            .iter()
            .map(|r| format!("not {}: {}", r.key, r.because))
            .collect();
        let what = format!("{:?}", d.what).to_lowercase();
        let chosen = d.chosen.clone().unwrap_or_default();
        [
            at,
            d.function.clone(),
            what,
            chosen,
            format!("{}\n{}", d.because, rejected.join("\n")),
        ]
    });
    table(
        &mut html,
        "Decisions, newest first",
        ["at", "function", "what", "chosen", "because"],
        rows,
    );
    for (function, text) in &picture.explanations {
        let _ = write!(html, "<h2>{}</h2><pre>{}</pre>", escape(function), escape(text));
    }
    html.push_str("</body></html>");
    html
}

/// Ordinary containers, what waits for one, and what went (O-13, O-22, O-23).
fn pool(html: &mut String, picture: &Picture) {
    let view = &picture.view;
    let groups = [
        ("with runs", view.containers.active),
        ("idle", view.containers.idle),
        ("stem cells", view.containers.stem_cells),
        ("activations that wait for one", view.containers.waiting),
    ];
    let rows = groups.map(|(name, (count, memory))| [name.to_owned(), count.to_string(), memory.to_string()]);
    table(html, "Containers", ["", "count", "memory"], rows.into_iter());
    let rows = view.queue.iter().map(|w| {
        [
            w.activation.clone(),
            w.action.clone(),
            w.namespace.clone(),
            w.memory.to_string(),
            format!("{:.1} s", w.age.as_secs_f64()),
            w.waits.clone(),
        ]
    });
    let header = ["activation", "action", "for", "memory", "age", "waits"];
    table(html, "Waiting for a container, oldest first", header, rows);
    let rows = picture.removals.iter().map(|r| {
        let at = format!("{:.1} s", r.at.0.as_secs_f64());
        [at, r.container.clone().unwrap_or_default(), r.because.clone()]
    });
    table(
        html,
        "Removed, newest first",
        ["at", "container", "because"],
        rows,
    );
}

fn slices(html: &mut String, picture: &Picture) {
    let Some(migs) = &picture.view.migs else { return };
    html.push_str("<h2>Slices</h2>");
    for gpu in &migs.gpus {
        let _ = write!(
            html,
            "<small>GPU {} {}</small><div class=gpu>",
            gpu.index,
            escape(&gpu.model)
        );
        for slice in migs.slices.iter().filter(|slice| slice.gpu_uuid == gpu.uuid) {
            let state = format!("{:?}", slice.state).to_lowercase();
            let owners: Vec<String> = slice.owners.iter().map(ToString::to_string).collect();
            let _ = write!(
                html,
                "<div class='slice {state}' title='{}'><b>{}</b><br>{}<br><small>{state} {}</small></div>",
                escape(slice.uuid.as_str()),
                escape(slice.profile.as_str()),
                slice.memory_bytes,
                escape(&owners.join(", "))
            );
        }
        html.push_str("</div>");
    }
}

fn table<const N: usize>(
    html: &mut String,
    title: &str,
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let mut rows = rows.peekable();
    let _ = write!(html, "<h2>{title}</h2>");
    if rows.peek().is_none() {
        html.push_str("<p><small>None.</small></p>");
        return;
    }
    html.push_str("<table><tr>");
    for name in header {
        let _ = write!(html, "<th>{name}</th>");
    }
    html.push_str("</tr>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escape(&cell).replace('\n', "<br>"));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
}

/// What names of functions and sentences may contain must not become markup.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

//! The page for people: the status as tables, refreshed every few seconds, without scripts.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Display, Write};

use super::status::{ShardStatus, SourceStatus, Status, duration, timestamp};

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="3">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dynaurora</title><style>
:root { color-scheme: light dark; --faint: #8884; --good: #1a7f37; --bad: #cf222e }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem }
h2 { margin-top: 2.5rem } table { border-collapse: collapse; width: 100%; margin: .75rem 0 }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--faint) }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
.good { color: var(--good) } .bad { color: var(--bad); font-weight: 600 }
svg { width: 100%; height: 4rem; border-bottom: 1px solid var(--faint) }
polyline { fill: none; stroke: currentColor; stroke-width: 1.5; vector-effect: non-scaling-stroke }
</style></head><body>
"#;

/// The lags of the last minutes by source, in seconds, oldest first.
pub(super) type History = BTreeMap<String, VecDeque<f64>>;

/// The whole page.
pub(super) fn render(status: &Status, history: &History) -> String {
    let mut html = String::from(HEAD);
    write_page(&mut html, status, history).expect("writing to a string cannot fail");
    html
}

fn write_page(html: &mut String, status: &Status, history: &History) -> fmt::Result {
    let (class, word) = if status.ready { ("good", "ready") } else { ("bad", "not ready") };
    write!(html, "<h1>dynaurora {} ", Escaped(&status.version))?;
    writeln!(html, "<span class=\"{class}\">{word}</span></h1>")?;
    for reason in &status.reasons {
        writeln!(html, "<p class=\"bad\">{}</p>", Escaped(reason))?;
    }
    for source in &status.sources {
        write_source(html, source)?;
        let lags: Vec<f64> = history.get(&source.source).into_iter().flatten().copied().collect();
        write_lag(html, &lags)?;
        write_shards(html, &source.shards)?;
    }
    html.push_str("<p><a href=\"/status\">status</a> · <a href=\"/metrics\">metrics</a> · ");
    html.push_str("<a href=\"/readyz\">readyz</a> · <a href=\"/livez\">livez</a></p>");
    html.push_str("</body></html>\n");
    Ok(())
}

fn write_source(html: &mut String, source: &SourceStatus) -> fmt::Result {
    let (name, table) = (Escaped(&source.source), Escaped(&source.table));
    writeln!(html, "<h2>{name} <small>table {table}</small></h2>")?;
    if let Some(reason) = &source.halted {
        writeln!(html, "<p class=\"bad\">halted: {}</p>", Escaped(reason))?;
    }
    for warning in &source.warnings {
        writeln!(html, "<p class=\"bad\">{}</p>", Escaped(warning))?;
    }
    let time = |at: Option<_>| at.map_or_else(|| "unknown".into(), timestamp);
    let span = |secs: Option<f64>| secs.map_or_else(|| "unknown".into(), duration);
    let backfill = source
        .backfill_progress_ratio
        .map_or_else(|| "none".to_owned(), |ratio| format!("{:.0} %", ratio * 100.0));
    let count = &source.partitions;
    let partitions = format!(
        "{} owned, {} open, {} waiting, {} drained, {} lost",
        count.owned, count.open, count.waiting, count.drained, count.lost
    );
    html.push_str("<table>\n");
    for (label, value) in [
        ("state", source.state.clone()),
        ("synced up to", time(source.synced_up_to)),
        ("lag", span(source.lag_secs)),
        ("newest change", time(source.last_event_at)),
        ("last poll", time(source.last_poll_at)),
        ("retention headroom", span(source.retention_headroom_secs)),
        ("backfill", backfill),
        ("generation", source.generation.to_string()),
        ("partitions", partitions),
    ] {
        writeln!(html, "<tr><th>{label}</th><td>{}</td></tr>", Escaped(&value))?;
    }
    for (label, value) in [("dead letters", source.dead_letters), ("gaps", source.gaps)] {
        let class = if value > 0 { "bad" } else { "good" };
        writeln!(html, "<tr><th>{label}</th><td class=\"{class}\">{value}</td></tr>")?;
    }
    html.push_str("</table>\n");
    Ok(())
}

/// The lag of the last minutes as a line; nothing with fewer than two samples.
fn write_lag(html: &mut String, lags: &[f64]) -> fmt::Result {
    if lags.len() < 2 {
        return Ok(());
    }
    let most = lags.iter().copied().fold(1.0, f64::max);
    writeln!(html, "<p>lag over the last minutes, at most {}</p>", duration(most))?;
    let width = lags.len() - 1;
    write!(html, "<svg viewBox=\"0 -2 {width} 104\" preserveAspectRatio=\"none\">")?;
    html.push_str("<polyline points=\"");
    for (at, lag) in lags.iter().enumerate() {
        write!(html, "{at},{:.1} ", 100.0 - 100.0 * lag.clamp(0.0, most) / most)?;
    }
    html.push_str("\"/></svg>\n");
    Ok(())
}

fn write_shards(html: &mut String, shards: &[ShardStatus]) -> fmt::Result {
    if shards.is_empty() {
        return Ok(());
    }
    html.push_str("<table>\n<tr><th>shard</th><th>continues</th><th>state</th><th>owner</th>");
    html.push_str("<th>position</th></tr>\n");
    for shard in shards {
        let class = if shard.state == "lost" { "bad" } else { "" };
        let (parent, owner) = (shard.parent.as_deref(), shard.owner.as_deref());
        write!(html, "<tr><td>{}</td>", Escaped(&shard.id))?;
        write!(html, "<td>{}</td>", Escaped(parent.unwrap_or_default()))?;
        write!(html, "<td class=\"{class}\">{}</td>", Escaped(&shard.state))?;
        write!(html, "<td>{}</td>", Escaped(owner.unwrap_or_default()))?;
        writeln!(html, "<td>{}</td></tr>", Escaped(&shard.position))?;
    }
    html.push_str("</table>\n");
    Ok(())
}

/// Text escaped for HTML, in content and in quoted attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_a_line_only_once_there_are_two_samples() {
        let mut html = String::new();
        write_lag(&mut html, &[3.0]).unwrap();
        assert!(html.is_empty());
        write_lag(&mut html, &[0.0, 10.0]).unwrap();
        assert!(html.contains("points=\"0,100.0 1,0.0 \""), "{html}");
    }
}

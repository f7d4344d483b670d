//! What a scrape costs by the number of series.
//!
//! In: nothing. Out: a Markdown table. The series are those of `telltale_connections_total`, made
//! of every tool, role, purpose and verdict until there are enough.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use telltale::clock::WallClock;
use telltale::core::attribute::{Attribution, Role};
use telltale::core::catalog::{Catalog, PURPOSES, Tool};
use telltale::core::event::Event;
use telltale::core::policy::PolicyConfig;
use telltale::core::policy::judgement::Verdict;
use telltale::core::report::{Effect, FlowReport, ProcessView};
use telltale::metrics::encode::Format;
use telltale::metrics::{BuildInfo, Metrics};

use super::streams;

/// Scrapes of which the median is shown.
const SCRAPES: usize = 21;
const ROLES: [Role; 4] = [Role::Main, Role::Helper, Role::Shell, Role::OtherChild];

/// Prints the time of a scrape for a few numbers of series.
///
/// # Errors
///
/// If no stream of this benchmark has a flow of a tool.
pub fn print_table() -> Result<()> {
    println!("| series | bytes | ms per scrape |");
    println!("|--:|--:|--:|");
    for series in [0, 1_000, 10_000] {
        let metrics = metrics_with(series)?;
        let mut times = Vec::new();
        let mut text = String::new();
        for _ in 0..SCRAPES {
            let start = Instant::now();
            text = metrics.encode(Format::Text);
            times.push(start.elapsed());
        }
        times.sort();
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        let median = times[SCRAPES / 2].as_secs_f64() * 1000.0;
        println!("| {series} | {} | {median:.2} |", text.len());
    }
    Ok(())
}

fn metrics_with(series: usize) -> Result<Metrics> {
    let catalog = Arc::new(Catalog::embedded()?);
    let tools: Vec<Arc<Tool>> = catalog.tools().cloned().collect();
    let metrics = Metrics::new(
        tools.iter().map(|it| &*it.id),
        &BuildInfo::default(),
        "bench",
    )?;
    let flow = tool_flow(catalog)?;
    let flows = Verdict::ALL.into_iter().flat_map(|verdict| {
        let (flow, tools) = (&flow, &tools);
        PURPOSES.into_iter().flat_map(move |purpose| {
            ROLES.into_iter().flat_map(move |role| {
                tools
                    .iter()
                    .map(move |tool| variant(flow, tool, role, purpose, verdict))
            })
        })
    });
    for flow in flows.take(series) {
        metrics.record(&Effect::Flow(Box::new(flow)), &WallClock::default());
    }
    Ok(metrics)
}

/// The flow as if it were another tool's, and judged otherwise.
fn variant(
    (flow, attribution): &(FlowReport, Attribution),
    tool: &Arc<Tool>,
    role: Role,
    purpose: &str,
    verdict: Verdict,
) -> FlowReport {
    let mut flow = flow.clone();
    let attribution = Attribution {
        tool: Arc::clone(tool),
        role,
        ..attribution.clone()
    };
    flow.process = Arc::new(ProcessView {
        tool: Some(Arc::new(attribution)),
        ..ProcessView::clone(&flow.process)
    });
    flow.judgement.purpose = Some(purpose.into());
    flow.judgement.verdict = verdict;
    flow
}

/// A flow of a tool, as the collector reports it.
fn tool_flow(catalog: Arc<Catalog>) -> Result<(FlowReport, Attribution)> {
    let mut collector = super::collector(catalog, PolicyConfig::default());
    for (_, records) in streams::all() {
        for record in records {
            let event = Event::decode(&record)?;
            let now = event.time();
            for effect in collector.apply(event, now) {
                let Effect::Flow(flow) = effect else { continue };
                if let Some(attribution) = flow.process.tool.as_deref().cloned() {
                    return Ok((*flow, attribution));
                }
            }
        }
    }
    None.context("no stream holds a flow of a tool")
}

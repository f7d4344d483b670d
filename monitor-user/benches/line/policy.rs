//! What judging costs by the number of rules.
//!
//! In: policies that are made here, as large as a policy can be. Out: a Markdown table.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use telltale::config::policy::{World, parse};
use telltale::core::catalog::Catalog;
use telltale::core::policy::PolicyConfig;

use super::{Line, streams};

/// Prints the table.
pub fn print_table() -> Result<()> {
    println!("| rules | records | collect | records/s |");
    println!("|--:|--:|--:|--:|");
    let records = streams::named_connections();
    for count in [0, 10, 1_000, 10_000] {
        let times = Line::new(policy(count)?)?.run(&records);
        let each = times.collect.as_nanos() / records.len().max(1) as u128;
        let rate = records.len() as f64 / times.collect.as_secs_f64();
        println!("| {count} | {} | {each} | {rate:.0} |", records.len());
    }
    println!();
    Ok(())
}

/// Rules of every kind, none of which fits, so that each is ruled out.
fn policy(count: usize) -> Result<PolicyConfig> {
    let rule = |number: usize| {
        let (low, high) = (number % 250, number / 250);
        let (day, hour) = (
            ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][number % 7],
            number % 23,
        );
        let matchers = match number % 10 {
            0 => format!("tool = [\"claude-code\"]\nendpoint = [\"*.zone-{number}.example\"]"),
            1 => format!("tool = [\"*\"]\nendpoint = [\"10.{high}.{low}.0/24\"]"),
            2 => format!(
                "tool = [\"claude-code\"]\nport = [\"{}-{}\"]",
                10_000 + number,
                20_000 + number
            ),
            3 => format!(
                "tool = [\"claude-code\"]\nuser = [\"{}\"]",
                100_000 + number
            ),
            4 => format!("tool = [\"*\"]\ncountry = [\"KP\"]\nunless = {{ port = [{number}] }}"),
            5 => "provider = [\"mistral\", \"deepseek\"]\nprotocol = [\"udp\"]".to_owned(),
            6 => format!("tool = [\"codex-cli\"]\nunit = [\"runner-*-{number}.service\"]"),
            7 => format!("tool = [\"claude-code\"]\nversion = \">=3.{number}\""),
            8 => format!(
                "tool = [\"*\"]\nduring = [\"{day} {hour:02}:{:02}-{:02}:30\"]\nrole = [\"git\"]",
                number % 60,
                hour + 1
            ),
            _ => "tool = [\"*\"]\nrole = [\"mcp-server\"]\npurpose = [\"telemetry\"]".to_owned(),
        };
        let action = ["allow", "alert", "deny"][number % 3];
        format!("[[rule]]\nid = \"rule-{number}\"\naction = \"{action}\"\n{matchers}\n")
    };
    let text: String = (0..count).map(rule).collect();
    let world = World {
        catalog: &Catalog::embedded()?,
        users: &|_| None,
        addresses: Arc::default(),
    };
    Ok(parse(Path::new("bench"), &text, &[], &world)?.policy)
}

//! What one process may make the monitor remember.
//!
//! In: a budget in the kernel's map, of this very process. Out: whether its next new flow is
//! listed, or counted as over budget.

use aya::maps::{HashMap, Map, MapData};
use monitor_common::flow::ProcessKey;
use monitor_tests::bpffs::BpfFs;
use monitor_tests::scene::temp_dir;
use monitor_tests::turn::Turn;
use zerocopy::FromBytes;

use crate::survival::{connect, layout, pinned};

/// `Budget` of monitor-ebpf/src/maps.rs: when it was filled, when it was told, refused, tokens.
type Budget = [u64; 4];

/// Two threads of a process may look at the clock in one order and at its budget in the other. The
/// difference is below zero then, and was once taken for five hundred years' worth of tokens.
#[test]
fn a_clock_that_is_behind_fills_no_budget() {
    const LATER_NS: u64 = 3_600_000_000_000; // Not reached by this test.
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let telltale = pinned(dir.path(), &bpf.pins());
    let map = MapData::from_pin(layout(&bpf.pins()).join("BUDGETS")).unwrap();
    let mut budgets = HashMap::<_, [u8; 16], Budget>::try_from(Map::HashMap(map)).unwrap();
    connect("127.0.0.1:4001".parse().unwrap());
    let is_own = |key: &[u8; 16]| {
        let key = ProcessKey::read_from_bytes(key).unwrap();
        key.tgid == std::process::id()
    };
    let own = budgets.keys().map(Result::unwrap).find(is_own).unwrap();
    let [filled_ns, ..] = budgets.get(&own, 0).unwrap();
    let spent = [filled_ns + LATER_NS, 0, 0, 0];
    budgets.insert(own, spent, 0).unwrap();

    connect("127.0.0.1:4002".parse().unwrap());
    let [_, told_ns, refused, tokens] = budgets.get(&own, 0).unwrap();
    assert!(refused >= 1 && told_ns > 0, "{refused} at {told_ns}");
    assert_eq!(tokens, 0);
    telltale.wait_for("the overrun", |event| {
        event.action() == "flows-over-budget" && event.pid() == Some(std::process::id())
    });
    let _ = telltale.stop();
}

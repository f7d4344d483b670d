//! What one process may make the monitor remember: a token bucket of new flows.
//!
//! In: a process about to open a flow that is new. Out: whether there is a token; if not, an
//! [`OverBudget`] record, at most one a second, that names the process.
//! Without it, one process that sends to random addresses would fill the flow map and the ring,
//! and the first contact of another would go unseen.

use monitor_common::{
    counter::GAP_BUDGETS_FULL,
    flow::ProcessKey,
    limits::{BUDGET_BURST, BUDGET_PER_SECOND},
    record::{self, OverBudget},
};

use crate::{
    emit, kernel,
    maps::{BUDGETS, Budget, CONTROL},
};

/// Nanoseconds in which one token is added.
const REFILL_NS: u64 = 1_000_000_000 / BUDGET_PER_SECOND as u64;
/// A process is named at most this often.
const TELL_NS: u64 = 1_000_000_000;

/// Takes a token of the process. Two CPUs may take the same one: the bound is not exact, the
/// count of refusals is.
#[inline(always)]
pub fn take(process: &ProcessKey, now: u64) -> bool {
    let key = ProcessKey {
        exec_id: 0,
        ..*process
    };
    let Some(budget) = BUDGETS.get_ptr_mut(key) else {
        let fresh = Budget {
            filled_ns: now,
            told_ns: 0,
            refused: 0,
            tokens: u64::from(BUDGET_BURST) - 1,
        };
        if BUDGETS.insert(key, &fresh, 0).is_err() {
            emit::count(GAP_BUDGETS_FULL);
        }
        return true;
    };
    // SAFETY: a map value that was checked for null; see above for what races do.
    let budget = unsafe { &mut *budget };
    // Another thread may have filled it just now, by the clock of a CPU that is ahead of this one.
    let earned = now.saturating_sub(budget.filled_ns) / REFILL_NS;
    if earned > 0 {
        let tokens = budget.tokens + earned;
        let most = u64::from(BUDGET_BURST);
        budget.tokens = if tokens > most { most } else { tokens };
        budget.filled_ns += earned * REFILL_NS;
    }
    if budget.tokens > 0 {
        budget.tokens -= 1;
        return true;
    }
    // SAFETY: an aligned number of a map value.
    unsafe { kernel::add(&raw mut budget.refused, 1) };
    if now.saturating_sub(budget.told_ns) > TELL_NS {
        budget.told_ns = now;
        tell(process, budget.refused);
    }
    false
}

/// Forgets a process that ended, telling its last count.
#[inline(always)]
pub fn close(process: &ProcessKey) {
    let key = ProcessKey {
        exec_id: 0,
        ..*process
    };
    let Some(budget) = BUDGETS.get_ptr_mut(key) else {
        return;
    };
    // SAFETY: a map value that was checked for null.
    let refused = unsafe { (*budget).refused };
    if refused > 0 {
        tell(process, refused);
    }
    // It was there a moment ago; if another CPU was faster, it is gone as wanted.
    let _ = BUDGETS.remove(key);
}

#[inline(always)]
fn tell(process: &ProcessKey, refused: u64) {
    let header = emit::header::<OverBudget>(record::KIND_OVER_BUDGET);
    emit::aside(
        &CONTROL,
        &OverBudget {
            header,
            process: *process,
            refused,
        },
    );
}

//! What the service manager is told: ready, alive, stopping.
//!
//! In: the line's progress. Out: messages of sd_notify(3), if a service manager waits for them
//! (`NOTIFY_SOCKET`); else nothing. A message that cannot be sent is not missed: the manager acts
//! on silence.

use sd_notify::NotifyState;

/// Everything is attached, and the line runs.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The kernel side, the line and the outputs have all moved since the last time.
pub fn alive() {
    tell(NotifyState::Watchdog);
}

/// The line is coming to its end.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}

//! What the outputs did.
//!
//! In: the counts of the event log and of each sink. Out: the metrics of the section Outputs.

use super::define::{Counter, Definer, Gauge, Mirror};
use super::labels::*;
use super::signed;

/// What the event log did since it was opened.
/// Every line that was offered is written, dropped, or still pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventLogStats {
    /// Whole lines that reached the file.
    pub lines_written: u64,
    /// Lines that found no room in the buffer, because the file took none.
    pub lines_dropped: u64,
    /// Bytes that reached the file.
    pub bytes_written: u64,
    /// Bytes in the buffer.
    pub bytes_pending: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Times that it went on in a new file.
    pub files_changed: u64,
    /// Times that the disk kept what was written, and that it could not.
    pub syncs: u64,
    /// See `syncs`.
    pub sync_errors: u64,
}

/// Why the web server did not answer a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebRefusal {
    /// It sent no request, and others were waiting.
    NoRequest,
    /// It took longer than a connection may.
    TooSlow,
    /// Its TLS handshake failed.
    Tls,
    /// It has no name and password that the web configuration knows.
    Unauthorized,
}

impl WebRefusal {
    /// All there are.
    pub const ALL: [WebRefusal; 4] = [
        WebRefusal::NoRequest,
        WebRefusal::TooSlow,
        WebRefusal::Tls,
        WebRefusal::Unauthorized,
    ];

    /// Name for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WebRefusal::NoRequest => "no_request",
            WebRefusal::TooSlow => "too_slow",
            WebRefusal::Tls => "tls",
            WebRefusal::Unauthorized => "unauthorized",
        }
    }
}

/// What a sink did since it was started.
/// Every item that was offered is delivered, superseded, dropped, or still waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkStats {
    /// Items that wait, the ones being delivered included.
    pub queue_length: u64,
    /// Items that the receiver took.
    pub delivered: u64,
    /// Deliveries that were tried again.
    pub retries: u64,
    /// Repetitions left out because their alert was waiting already.
    pub superseded: u64,
    /// Items that wait in memory alone, because the spool could not be written.
    pub unwritten: u64,
    /// Items dropped because there was no room for them.
    pub dropped_queue_full: u64,
    /// Items that the receiver refused for good.
    pub dropped_rejected: u64,
    /// Items left, and kept nowhere, when Telltale stopped.
    pub dropped_shutdown: u64,
}

/// What the outputs did.
pub(super) struct Outputs {
    pub(super) log: EventLog,
    pub(super) queue_length: Gauge<1>,
    pub(super) delivered: Mirror<1>,
    pub(super) retries: Mirror<1>,
    pub(super) superseded: Mirror<1>,
    pub(super) unwritten: Mirror<1>,
    pub(super) dropped: Mirror<2>,
}

/// What the event log did.
pub(super) struct EventLog {
    lines: Mirror<0>,
    dropped: Mirror<0>,
    bytes: Mirror<0>,
    errors: Mirror<0>,
    files: Mirror<0>,
    syncs: Mirror<0>,
    sync_errors: Mirror<0>,
    pending: Gauge<0>,
}

impl EventLog {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
        Ok(EventLog {
            lines: define.mirror(
                "telltale_event_log_lines_total",
                "Lines written to the event log.",
                [],
            )?,
            dropped: define.mirror(
                "telltale_event_log_dropped_lines_total",
                "Lines that found no room in the buffer because the event log took none.",
                [],
            )?,
            bytes: define.mirror(
                "telltale_event_log_written_bytes_total",
                "Bytes written to the event log.",
                [],
            )?,
            errors: define.mirror(
                "telltale_event_log_write_errors_total",
                "Writes to the event log that failed.",
                [],
            )?,
            files: define.mirror(
                "telltale_event_log_rotations_total",
                "Times that the event log went on in a new file.",
                [],
            )?,
            syncs: define.mirror(
                "telltale_event_log_syncs_total",
                "Times that the disk confirmed what was written to the event log (events.sync_seconds).",
                [],
            )?,
            sync_errors: define.mirror(
                "telltale_event_log_sync_errors_total",
                "Times that the disk could not confirm what was written to the event log.",
                [],
            )?,
            pending: define.gauge(
                "telltale_event_log_pending_bytes",
                "Bytes that wait to be written to the event log.",
                [],
            )?,
        })
    }

    pub(super) fn record(&self, stats: &EventLogStats) {
        self.lines.follow([], stats.lines_written);
        self.dropped.follow([], stats.lines_dropped);
        self.bytes.follow([], stats.bytes_written);
        self.errors.follow([], stats.write_errors);
        self.files.follow([], stats.files_changed);
        self.syncs.follow([], stats.syncs);
        self.sync_errors.follow([], stats.sync_errors);
        self.pending.set([], signed(stats.bytes_pending));
    }
}

/// What the web server says of its clients.
pub(super) struct WebServer {
    pub(super) refused: Counter<1>,
    pub(super) config: Gauge<0>,
}

impl Outputs {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Outputs", "Sinks that are not configured have no series.");
        Ok(Outputs {
            log: EventLog::define(define)?,
            queue_length: define.gauge(
                "telltale_sink_queue_length",
                "Items that wait for a sink, the ones being delivered and those of an earlier run \
                 included.",
                [SINK],
            )?,
            delivered: define.mirror(
                "telltale_sink_delivered_total",
                "Items that a sink delivered.",
                [SINK],
            )?,
            retries: define.mirror(
                "telltale_sink_retries_total",
                "Deliveries that a sink tried again.",
                [SINK],
            )?,
            superseded: define.mirror(
                "telltale_sink_superseded_total",
                "Repetitions that a sink left out because their alert was waiting already.",
                [SINK],
            )?,
            unwritten: define.mirror(
                "telltale_sink_spool_errors_total",
                "Items that wait in memory alone, because the spool could not be written.",
                [SINK],
            )?,
            dropped: define.mirror(
                "telltale_sink_dropped_total",
                "Items that a sink dropped.",
                [SINK, DROP_REASON],
            )?,
        })
    }
}

impl WebServer {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Web server", "");
        let web = WebServer {
            refused: define.counter(
                "telltale_web_refused_total",
                "Clients of the web server that got no answer.",
                [WEB_REFUSAL],
            )?,
            config: define.gauge(
                "telltale_web_config_last_reload_successful",
                "1 if the web configuration was usable when it was last read, or there is none; \
                 at 0 the one before it is in force.",
                [],
            )?,
        };
        for refusal in WebRefusal::ALL {
            web.refused.add([refusal.name()], 0);
        }
        web.config.set([], 1);
        Ok(web)
    }
}

//! The answers of systemd-resolved, which processes get from it without a packet (`nss-resolve`).
//!
//! In: its Varlink interface `io.systemd.Resolve.Monitor`, in a thread of its own. Out: records of
//! the names in its answers, and what became of the connection.
//!
//! Whoever was answered connects only afterwards, and systemd-resolved tells its subscribers
//! first. Records of the kernel are held back longer than that takes, so the name is there before
//! the flow. What was answered while nobody was subscribed is not told later.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use monitor_common::record::{Header, KIND_NAME_RESOLVED, NameResolved};
use zerocopy::IntoBytes;

use crate::core::event::BootNs;
use crate::core::report::{ResolvedState, ResolvedStatus};
use crate::core::wire::HostName;
use crate::core::wire::resolved::{self, Message, Refusal};
use crate::host::clock;
use crate::sandbox::{self, Role};

/// What is asked, once.
const SUBSCRIBE: &[u8] =
    b"{\"method\":\"io.systemd.Resolve.Monitor.SubscribeQueryResults\",\"more\":true}\0";

/// Longest message that is looked at. The largest answer that DNS can carry has 4 000 addresses of
/// some 150 bytes each, but names have a few dozen; a longer message is passed over, and counted.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Records that may wait for the line: a second of the most that a host asks.
const RECORDS_MAX: usize = 4096;

/// How long until the next attempt to connect, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The line's end of the thread.
pub struct Resolved {
    records: Receiver<Vec<u8>>,
    status: Arc<Mutex<ResolvedStatus>>,
}

impl Resolved {
    /// Starts the thread, which asks at the socket `path` until the monitor ends.
    ///
    /// # Errors
    ///
    /// There can be no further thread.
    pub fn start(path: PathBuf) -> io::Result<Resolved> {
        let (send, records) = sync_channel(RECORDS_MAX);
        let status = Arc::new(Mutex::new(ResolvedStatus {
            state: ResolvedState::Connecting,
            ..ResolvedStatus::default()
        }));
        let listener = Listener {
            path,
            records: send,
            status: Arc::clone(&status),
        };
        // Never joined: it waits for words that may never come.
        thread::Builder::new()
            .name("resolved".to_owned())
            .spawn(move || {
                if let Err(error) = sandbox::enter(Role::Resolved) {
                    tracing::warn!(
                        "systemd-resolved is listened to with all privileges: {error:#}"
                    );
                }
                listener.run();
            })?;
        Ok(Resolved { records, status })
    }

    /// The records that came since the last call.
    pub fn take(&self) -> impl Iterator<Item = Vec<u8>> {
        // A bound, so that no flood of answers can hold up the line.
        self.records.try_iter().take(RECORDS_MAX)
    }

    /// What became of it so far.
    #[must_use]
    pub fn status(&self) -> ResolvedStatus {
        *lock(&self.status)
    }
}

fn lock(status: &Mutex<ResolvedStatus>) -> MutexGuard<'_, ResolvedStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's end.
struct Listener {
    path: PathBuf,
    records: SyncSender<Vec<u8>>,
    status: Arc<Mutex<ResolvedStatus>>,
}

/// Nobody wants to hear any more.
struct LineEnded;

impl Listener {
    fn run(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            let Ok(state) = self.listen() else { return };
            let before = std::mem::replace(&mut lock(&self.status).state, state);
            if before == ResolvedState::Connected {
                pause = PAUSE_MIN;
            }
            if before != state {
                self.explain(state);
            }
            thread::sleep(pause);
            pause = PAUSE_MAX.min(2 * pause);
        }
    }

    /// Listens until there is nothing more to hear, and says why.
    fn listen(&self) -> Result<ResolvedState, LineEnded> {
        let mut stream = match UnixStream::connect(&self.path) {
            Ok(stream) => stream,
            Err(error) => return Ok(why_not(&error)),
        };
        if let Err(error) = stream.write_all(SUBSCRIBE) {
            return Ok(why_not(&error));
        }
        let mut messages = Messages::default();
        let mut chunk = [0; 4096];
        loop {
            let bytes = match stream.read(&mut chunk) {
                Ok(0) => return Ok(self.hung_up()),
                Ok(count) => chunk.get(..count).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Ok(self.hung_up()),
            };
            for message in messages.take_in(bytes) {
                if let Some(refused) = self.hear(message)? {
                    return Ok(refused);
                }
            }
        }
    }

    /// systemd-resolved closes the connection of who may not listen, without a word (before 256).
    fn hung_up(&self) -> ResolvedState {
        match lock(&self.status).state {
            ResolvedState::Connected => ResolvedState::Absent,
            _ => ResolvedState::Refused,
        }
    }

    /// Takes one message. Returns why there will be no more, if there will not.
    fn hear(&self, message: Piece) -> Result<Option<ResolvedState>, LineEnded> {
        let Piece::Whole(bytes) = message else {
            lock(&self.status).oversized += 1;
            return Ok(None);
        };
        match resolved::parse(&bytes) {
            Ok(Message::Ready) => {
                lock(&self.status).state = ResolvedState::Connected;
                tracing::info!("systemd-resolved tells its answers");
            }
            Ok(Message::Answer(pairs)) if pairs.is_empty() => lock(&self.status).nameless += 1,
            Ok(Message::Answer(pairs)) => {
                lock(&self.status).answers += 1;
                let now = clock::now();
                for (name, ip) in pairs {
                    self.tell(record(&name, ip, now))?;
                }
            }
            Ok(Message::Refused(Refusal::Denied)) => return Ok(Some(ResolvedState::Refused)),
            Ok(Message::Refused(Refusal::Unsupported)) => {
                return Ok(Some(ResolvedState::Unsupported));
            }
            Err(_) => lock(&self.status).malformed += 1,
        }
        Ok(None)
    }

    fn tell(&self, record: Vec<u8>) -> Result<(), LineEnded> {
        match self.records.try_send(record) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                lock(&self.status).dropped += 1;
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(LineEnded),
        }
    }

    fn explain(&self, state: ResolvedState) {
        let path = self.path.display();
        match state {
            ResolvedState::Refused => tracing::warn!(
                "systemd-resolved does not tell this user its answers at {path}: names that \
                 processes ask it for without a packet are not seen; enable \
                 telltale-resolved.socket, or set [names] resolved = \"off\""
            ),
            ResolvedState::Unsupported => tracing::warn!(
                "whoever listens at {path} does not tell answers: names that processes ask \
                 systemd-resolved for without a packet are not seen; it needs systemd 252"
            ),
            // Most hosts have none; docs/names.md says what is seen then.
            _ => tracing::debug!("systemd-resolved is not at {path}"),
        }
    }
}

fn why_not(error: &io::Error) -> ResolvedState {
    match error.kind() {
        ErrorKind::PermissionDenied => ResolvedState::Refused,
        _ => ResolvedState::Absent,
    }
}

fn record(name: &HostName, ip: IpAddr, now: BootNs) -> Vec<u8> {
    let name = name.as_str().as_bytes();
    let ip = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let head = NameResolved {
        header: Header {
            time_ns: now.0,
            kind: KIND_NAME_RESOLVED,
            bytes: u32::try_from(size_of::<NameResolved>() + name.len()).unwrap_or_default(),
        },
        addr: ip.octets(),
        name_bytes: u16::try_from(name.len()).unwrap_or_default(), // At most 253.
        reserved: [0; 3],
    };
    [head.as_bytes(), name].concat()
}

/// A stream, cut at its NULs.
#[derive(Default)]
struct Messages {
    begun: Vec<u8>,
    /// What has begun is longer than [`MESSAGE_BYTES_MAX`], and passed over.
    too_long: bool,
}

/// One message of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Whole(Vec<u8>),
    TooLong,
}

impl Messages {
    /// The messages that end in these bytes.
    fn take_in(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut ended = Vec::new();
        let mut parts = bytes.split(|byte| *byte == 0).peekable();
        while let Some(part) = parts.next() {
            self.too_long |= self.begun.len() + part.len() > MESSAGE_BYTES_MAX;
            if self.too_long {
                self.begun = Vec::new();
            } else {
                self.begun.extend_from_slice(part);
            }
            if parts.peek().is_some() {
                let begun = std::mem::take(&mut self.begun);
                ended.push(match std::mem::take(&mut self.too_long) {
                    true => Piece::TooLong,
                    false => Piece::Whole(begun),
                });
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;
    use crate::core::event::Event;

    #[test]
    fn a_stream_is_cut_at_its_nuls_however_it_comes() {
        let whole = |text: &str| Piece::Whole(text.as_bytes().to_vec());
        for size in 1..9 {
            let mut messages = Messages::default();
            let pieces = b"one\0\0three\0rest".chunks(size);
            let pieces: Vec<_> = pieces.flat_map(|bytes| messages.take_in(bytes)).collect();
            assert_eq!(pieces, [whole("one"), whole(""), whole("three")]);
        }
    }

    #[test]
    fn a_message_without_end_takes_no_room() {
        let mut messages = Messages::default();
        for _ in 0..100 {
            assert!(messages.take_in(&[b'a'; 4096]).is_empty());
            assert!(messages.begun.capacity() <= 2 * MESSAGE_BYTES_MAX);
        }
        let after = messages.take_in(b"a\0b\0");
        assert_eq!(after, [Piece::TooLong, Piece::Whole(b"b".to_vec())]);
    }

    /// Listens to a server that says these, one connection each; then looks at the status.
    #[track_caller]
    fn check(said: &[&str], wanted: impl Fn(&Resolved, &mut Vec<Event>) -> bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = UnixListener::bind(&path).unwrap();
        let resolved = Resolved::start(path).unwrap();
        let mut events = Vec::new();
        let mut open = Vec::new();
        for said in said {
            let (mut client, _) = server.accept().unwrap();
            let mut asked = vec![0; SUBSCRIBE.len()];
            client.read_exact(&mut asked).unwrap();
            assert_eq!(asked, SUBSCRIBE);
            let text = said.strip_suffix('…').unwrap_or(said).replace('\n', "\0");
            client.write_all(text.as_bytes()).unwrap();
            if said.ends_with('…') {
                open.push(client); // Stays connected.
            }
        }
        let start = Instant::now();
        while !wanted(&resolved, &mut events) {
            assert!(start.elapsed().as_secs() < 10, "{:?}", resolved.status());
            thread::sleep(Duration::from_millis(5));
        }
    }

    const READY: &str = r#"{"parameters":{"ready":true},"continues":true}"#;
    const ANSWER: &str = r#"{"parameters":{"state":"success","question":[{"class":1,"type":1,"name":"a.example"}],"answer":[{"rr":{"key":{"class":1,"type":1,"name":"a.example"},"address":[192,0,2,1]}}]},"continues":true}"#;

    #[test]
    fn answers_become_records() {
        check(&[&format!("{READY}\n{ANSWER}\n…")], |resolved, events| {
            events.extend(resolved.take().map(|it| Event::decode(&it).unwrap()));
            let [Event::NameResolved(told)] = &events[..] else {
                return false;
            };
            assert_eq!(
                (&*told.name, told.ip),
                ("a.example", "192.0.2.1".parse().unwrap())
            );
            let status = resolved.status();
            assert_eq!(
                (status.state, status.answers),
                (ResolvedState::Connected, 1)
            );
            true
        });
    }

    #[test]
    fn it_comes_back_after_the_connection_is_lost() {
        let session = format!("{READY}\n{ANSWER}\n");
        check(&[&session, &format!("{session}…")], |resolved, _| {
            let status = resolved.status();
            status.answers == 2 && status.state == ResolvedState::Connected
        });
    }

    #[test]
    fn nobody_there_and_nobody_willing_are_told_apart() {
        let state = |wanted| move |it: &Resolved, _: &mut Vec<Event>| it.status().state == wanted;
        check(&[""], state(ResolvedState::Refused));
        let denied = "{\"error\":\"org.varlink.service.PermissionDenied\"}\n…";
        check(&[denied], state(ResolvedState::Refused));
        let unknown = "{\"error\":\"org.varlink.service.MethodNotFound\"}\n…";
        check(&[unknown], state(ResolvedState::Unsupported));
        check(&[&format!("{READY}\n")], state(ResolvedState::Absent));
        let nowhere = Resolved::start(PathBuf::from("/nonexistent/socket")).unwrap();
        let start = Instant::now();
        while nowhere.status().state != ResolvedState::Absent {
            assert!(start.elapsed().as_secs() < 10);
        }
    }

    #[test]
    fn what_is_no_answer_is_counted() {
        let long = "a".repeat(MESSAGE_BYTES_MAX + 1);
        let said =
            format!("{READY}\nnonsense\n{long}\n{{\"parameters\":{{\"state\":\"timeout\"}}}}\n…");
        check(&[&said], |resolved, _| {
            let status = resolved.status();
            (status.malformed, status.oversized, status.nameless) == (1, 1, 1)
        });
    }
}

//! A thread that asks the host, and the bounded patience with which its answers are waited for.
//!
//! In: questions. Out: their answers, in order. A file system may hang (a server that is away, a
//! FUSE program that is stopped), and so may a look into another process's memory; the line must
//! not. Once an answer does not come in time, nothing more is asked or waited for until the thread
//! has caught up.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::sandbox::{self, Role};

/// Questions that may wait for the thread: more than a host can ask between two polls, and what
/// there is to ask on a large host when the monitor starts.
pub(super) const QUESTIONS_MAX: usize = 4096;

/// A thread with its questions and answers.
pub struct Asker<Q, A> {
    questions: SyncSender<Q>,
    answers: Receiver<A>,
    /// Questions without an answer.
    open: usize,
    /// An answer did not come in time: nothing is asked before the thread has caught up.
    behind: bool,
}

impl<Q: Send + 'static, A: Send + 'static> Asker<Q, A> {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// There can be no further thread.
    pub fn start(name: &str, answer: impl FnMut(Q) -> A + Send + 'static) -> io::Result<Self> {
        let (questions, asked) = sync_channel(QUESTIONS_MAX);
        let (answered, answers) = channel();
        // Never joined: where a file system hangs, the thread may never end.
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Err(error) = sandbox::enter(Role::Files) {
                    tracing::warn!("the host is asked with all privileges: {error:#}");
                }
                serve(&asked, &answered, answer);
            })?;
        Ok(Asker {
            questions,
            answers,
            open: 0,
            behind: false,
        })
    }

    /// Asks. `false`: the thread is behind, or has too much to do.
    #[must_use]
    pub fn ask(&mut self, question: Q) -> bool {
        let asked = !self.behind && self.questions.try_send(question).is_ok();
        self.open += usize::from(asked);
        asked
    }

    /// Hands out answers until there are no more to come, for `limit` at most; a thread that is
    /// behind is not waited for.
    pub fn wait(&mut self, limit: Duration, mut each: impl FnMut(A)) {
        let end = Instant::now() + if self.behind { Duration::ZERO } else { limit };
        while self.open > 0 {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(answer) = self.answers.recv_timeout(left) else {
                self.behind = true;
                return;
            };
            self.open -= 1;
            each(answer);
        }
        self.behind = false;
    }

    /// Whether an answer did not come in time and is still awaited.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Questions without an answer.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }
}

/// The thread: answers until nobody asks any more.
fn serve<Q, A>(questions: &Receiver<Q>, answers: &Sender<A>, mut answer: impl FnMut(Q) -> A) {
    for question in questions {
        if answers.send(answer(question)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_thread_that_hangs_is_waited_for_once() {
        let (go, gate) = channel();
        let answer = move |number: u32| {
            if number == 1 {
                let _ = gate.recv();
            }
            number * 10
        };
        let mut asker = Asker::start("test", answer).unwrap();
        let mut told = Vec::new();
        assert!(asker.ask(1) && asker.ask(2));
        asker.wait(Duration::from_millis(10), |answer| told.push(answer));
        assert!(asker.is_behind() && told.is_empty());
        assert!(!asker.ask(3), "it is behind");
        let start = Instant::now();
        asker.wait(PATIENCE, |answer| told.push(answer));
        assert!(start.elapsed() < PATIENCE && told.is_empty());
        go.send(()).unwrap();
        while asker.open() > 0 {
            asker.wait(PATIENCE, |answer| told.push(answer));
        }
        assert_eq!(told, [10, 20]);
        assert!(!asker.is_behind() && asker.ask(3));
        asker.wait(PATIENCE, |answer| told.push(answer));
        assert_eq!(told, [10, 20, 30]);
    }
}

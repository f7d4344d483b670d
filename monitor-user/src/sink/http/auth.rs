//! Who may ask: HTTP basic authentication against bcrypt hashes.
//!
//! In: an `Authorization` header and the users of the web configuration. Out: yes or no.
//! bcrypt is slow on purpose, so answers are remembered, and only one password is checked at a
//! time: guessing costs one core at most.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

/// Answers that are remembered: the passwords of some scrapers, and some wrong ones.
const REMEMBERED_MAX: usize = 100;

/// Checked for users that there are not, so that the time tells nobody who there is.
const NOBODYS_HASH: &str = "$2b$10$0DuC.q1uTyAR1NPdcZDYOO231j8RUSq1MmFkkCGg8SsXgxuY8dbvi";

/// Checks passwords.
#[derive(Debug, Default)]
pub struct Gate {
    /// By a digest of user, password and hash.
    answers: Mutex<HashMap<[u8; 32], bool>>,
    /// Held while bcrypt runs.
    turn: Mutex<()>,
}

impl Gate {
    /// Whether this `Authorization` header is one of `users`.
    pub async fn admits(self: &Arc<Self>, users: &BTreeMap<String, String>, header: &str) -> bool {
        let Some((user, password)) = credentials(header) else {
            return false;
        };
        let hash = users.get(&user);
        let known = hash.is_some();
        let hash = hash.map_or(NOBODYS_HASH, String::as_str).to_owned();
        let mut digest = Sha256::new();
        for part in [&user, &password, &hash] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let key: [u8; 32] = digest.finalize().into();
        if let Some(answer) = self.answer(&key) {
            return answer;
        }
        let gate = Arc::clone(self);
        let checked = spawn_blocking(move || {
            let _turn = gate.turn.lock().unwrap_or_else(PoisonError::into_inner);
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        let answer = checked.await.unwrap_or(false) && known;
        self.remember(key, answer);
        answer
    }

    fn answer(&self, key: &[u8; 32]) -> Option<bool> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(key).copied()
    }

    fn remember(&self, key: [u8; 32], answer: bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= REMEMBERED_MAX {
            // Wrong guesses go first: they must not make true scrapers wait.
            answers.retain(|_, right| *right);
        }
        if answers.len() >= REMEMBERED_MAX {
            answers.clear();
        }
        answers.insert(key, answer);
    }
}

/// User and password of a header (RFC 7617).
fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(text))
    }

    #[tokio::test]
    async fn only_the_right_password_is_admitted_and_guesses_are_bounded() {
        let hash = bcrypt::hash("se:cret", 4).unwrap();
        let users = BTreeMap::from([("alice".to_owned(), hash)]);
        let gate = Arc::new(Gate::default());
        for _ in 0..2 {
            assert!(gate.admits(&users, &header("alice:se:cret")).await);
            assert!(!gate.admits(&users, &header("alice:wrong")).await);
        }
        for wrong in [
            "",
            "Basic",
            "Basic !!!",
            "Bearer x",
            &header("alice"),
            &header(":"),
            &header("\0:\0"),
        ] {
            assert!(!gate.admits(&users, wrong).await, "{wrong:?}");
        }
        for guess in 0..2 * REMEMBERED_MAX {
            let guess = header(&format!("alice:{guess}"));
            assert!(!gate.admits(&users, &guess).await);
            assert!(gate.answers.lock().unwrap().len() <= REMEMBERED_MAX);
        }
        assert!(gate.admits(&users, &header("alice:se:cret")).await);
        // A new password makes the old one wrong at once.
        let users = BTreeMap::from([("alice".to_owned(), bcrypt::hash("new", 4).unwrap())]);
        assert!(!gate.admits(&users, &header("alice:se:cret")).await);
    }

    #[tokio::test]
    async fn who_is_not_there_is_not_admitted() {
        let gate = Arc::new(Gate::default());
        assert!(!gate.admits(&BTreeMap::new(), &header("bob:x")).await);
        assert!(NOBODYS_HASH.parse::<bcrypt::HashParts>().is_ok());
    }
}

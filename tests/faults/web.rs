//! Those who ask too much of the web server.
//!
//! In: many at once, slow ones, long headers. Out: who asks as one should is answered in time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use monitor_tests::http;
use monitor_tests::scene::Scene;

/// An answer among all that, on a busy host.
const ANSWER: Duration = Duration::from_secs(5);

#[test]
fn many_slow_and_endless_requests() {
    const MANY: usize = 100;
    let scene = Scene::new();
    let telltale = scene.telltale().start();
    let address = telltale.address;
    // They begin a request and never end it.
    let slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
            stream
        })
        .collect();
    let begin = Instant::now();
    let askers: Vec<_> = (0..MANY)
        .map(|_| thread::spawn(move || http::get(address, "/metrics").map(|it| it.status)))
        .collect();
    let answers: Vec<_> = askers.into_iter().map(|it| it.join().unwrap()).collect();
    let answered = answers.iter().filter(|it| **it == Ok(200)).count();
    let took = begin.elapsed();
    // More than are served at one time are told so, at once.
    assert!(answered > 0, "{answers:?}");
    let mut endless = TcpStream::connect(address).unwrap();
    endless.set_read_timeout(Some(ANSWER)).unwrap();
    let header = vec![b'x'; 1 << 20];
    let _ = endless
        .write_all(b"GET / HTTP/1.1\r\nX: ")
        .and_then(|()| endless.write_all(&header));
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.contains("200 OK"), "{answer}");
    drop(slow);
    let begin = Instant::now();
    assert_eq!(http::get(address, "/-/ready").unwrap().status, 200);
    assert!(begin.elapsed() < ANSWER);
    println!(
        "web: {answered} of {MANY} scrapes at once answered in {took:.1?}, 20 slow ones beside them"
    );
}

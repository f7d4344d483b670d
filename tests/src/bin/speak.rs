//! A client that is a Rust program: `speak tls|quic|tls-post-quantum|quic-post-quantum ADDR NAME`.
//!
//! In: how to speak, to which address and port, to whom by name. Out: its first flight, sent; it
//! does not wait for an answer.

use std::env;
use std::error::Error;

use monitor_tests::clients;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<_> = env::args().skip(1).collect();
    let [protocol, address, name] = &words[..] else {
        return Err("speak PROTOCOL ADDRESS:PORT NAME".into());
    };
    let address = address.parse()?;
    match protocol.as_str() {
        "tls" => clients::speak_tls(address, name, false),
        "tls-post-quantum" => clients::speak_tls(address, name, true),
        "quic" => clients::speak_quic(address, name, false),
        "quic-post-quantum" => clients::speak_quic(address, name, true),
        other => return Err(format!("no protocol {other}").into()),
    }
    Ok(())
}

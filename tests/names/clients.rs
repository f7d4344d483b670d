//! What clients claim when nobody asked a resolver, and what they resolved.
//!
//! In: TLS, QUIC and HTTP clients that are given the address. Out: the name in their first bytes.

use monitor_tests::python;
use monitor_tests::scene::Scene;

use crate::stage::Stage;

const NAME: &str = "api.telltale.example";

/// What is said of a flow whose name comes from `source`.
fn named<'a>(name: &'a str, source: &'a str) -> [(&'a str, &'a str); 2] {
    [
        ("destination.domain", name),
        ("telltale.name.source", source),
    ]
}

#[test]
fn tls_clients_name_their_server() {
    const SERVER: &str = "203.0.113.21";
    let scene = Scene::new();
    let stage = Stage::new(&scene, SERVER);
    let sni = named(NAME, "sni");
    let to_name = format!("{NAME}:443:{SERVER}");
    stage.check(
        &[
            "curl",
            "-sk",
            "--resolve",
            &to_name,
            &format!("https://{NAME}/"),
        ],
        &sni,
    );
    let server = format!("{SERVER}:443");
    let s_client = [
        "openssl",
        "s_client",
        "-connect",
        &server,
        "-servername",
        NAME,
    ];
    stage.check(&s_client, &sni);
    let node = format!(
        "require('tls').connect({{host:'{SERVER}',port:443,servername:'{NAME}'}})\
         .on('error',()=>{{}})"
    );
    stage.check(&["node", "-e", &node], &sni);
    let python = format!(
        "import socket, ssl\n\
         sock = socket.create_connection(('{SERVER}', 443))\n\
         ssl.create_default_context().wrap_socket(sock, server_hostname='{NAME}')"
    );
    stage.check(&["python3", "-c", &python], &sni);
    stage.check(&["speak", "tls", &server, NAME], &sni);
    stage.check(&["speak", "tls-post-quantum", &server, NAME], &sni);
    let nameless = ["openssl", "s_client", "-connect", &server, "-noservername"];
    stage.check(&nameless, &[("destination.domain", "null")]);
}

#[test]
fn quic_clients_name_their_server() {
    const SERVER: &str = "203.0.113.22";
    let scene = Scene::new();
    let stage = Stage::new(&scene, SERVER);
    let server = format!("{SERVER}:443");
    for protocol in ["quic", "quic-post-quantum"] {
        stage.check(
            &["speak", protocol, &server, NAME],
            &named(NAME, "quic-sni"),
        );
    }
}

/// QUIC 2 (RFC 9369), which no Rust client speaks.
#[test]
fn a_client_of_quic_2_names_its_server() {
    const SERVER: &str = "203.0.113.28";
    let scene = Scene::new();
    let stage = Stage::new(&scene, SERVER);
    let client = format!(
        "import asyncio\n\
         from aioquic.asyncio import connect\n\
         from aioquic.quic.configuration import QuicConfiguration\n\
         from aioquic.quic.packet import QuicProtocolVersion\n\
         two = QuicProtocolVersion.VERSION_2\n\
         it = QuicConfiguration(alpn_protocols=['h3'], server_name='{NAME}', idle_timeout=1,\n\
             original_version=two, supported_versions=[two])\n\
         async def run():\n\
         \x20   async with connect('{SERVER}', 443, configuration=it): pass\n\
         try: asyncio.run(run())\n\
         except ConnectionError: pass\n"
    );
    let python = python::program("python").get_program().to_owned();
    let expect = [
        ("destination.domain", NAME),
        ("telltale.name.source", "quic-sni"),
        ("network.transport", "udp"),
        ("tls.client.server_name", NAME),
        ("telltale.hello.alpn", r#"["h3"]"#),
    ];
    stage.check(&[python.to_str().unwrap(), "-c", &client], &expect);
}

/// The connection is reset in the middle of a hello.
#[test]
fn a_hello_that_breaks_off_names_nobody() {
    const SERVER: &str = "203.0.113.29";
    let scene = Scene::new();
    let stage = Stage::new(&scene, SERVER);
    let python = format!(
        "import socket, struct\n\
         sock = socket.create_connection(('{SERVER}', 443))\n\
         sock.send(bytes([22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]) + bytes(100))\n\
         linger = struct.pack('ii', 1, 0)\n\
         sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)\n\
         sock.close()"
    );
    let nobody = [
        ("destination.domain", "null"),
        ("tls.client.server_name", "null"),
    ];
    stage.check(&["python3", "-c", &python], &nobody);
    stage
        .telltale
        .wait_for_metrics("an incomplete hello", |metrics| {
            metrics
                .sum(
                    "telltale_name_claims_total",
                    &[("protocol", "tls"), ("outcome", "incomplete")],
                )
                .is_some_and(|count| count >= 1.0)
        });
}

#[test]
fn http_clients_name_their_server() {
    const SERVER: &str = "203.0.113.23";
    let scene = Scene::new();
    let stage = Stage::new(&scene, SERVER);
    let to_name = format!("{NAME}:80:{SERVER}");
    let curl = [
        "curl",
        "-s",
        "--resolve",
        &to_name,
        &format!("http://{NAME}/"),
    ];
    stage.check(&curl, &named(NAME, "http-host"));
}

#[test]
fn each_client_has_the_name_that_it_means() {
    const SERVER: &str = "203.0.113.24";
    let scene = Scene::new();
    let stage = Stage::new(&scene, SERVER);
    for name in ["a.telltale.example", "b.telltale.example"] {
        let to_name = format!("{name}:443:{SERVER}");
        let curl = [
            "curl",
            "-sk",
            "--resolve",
            &to_name,
            &format!("https://{name}/"),
        ];
        stage.check(&curl, &named(name, "sni"));
    }
    // What a process resolves is its own as well.
    for name in ["c.telltale.example", "d.telltale.example"] {
        scene.dns.answer(name, &[SERVER]);
        let curl = ["curl", "-sk", &format!("https://{name}/")];
        stage.check(&curl, &[("destination.domain", name)]);
    }
}

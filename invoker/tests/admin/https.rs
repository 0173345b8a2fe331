//! https with a keystore as OpenWhisk's deployment makes it: `openssl` for key and certificate, `keytool` for the
//! authority (contract H-02).

use crate::node::Node;
use ffs_invoker::admin::Server;
use ffs_invoker::config::{AdminSettings, HttpsSettings};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

fn shell(folder: &Path, script: &str) {
    let output = Command::new("bash")
        .args(["-euc", script])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, a server's key in `store.p12`, and the keys of a client that it knows and one that it does not.
fn keys(folder: &Path) {
    shell(
        folder,
        r#"
        new=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
        authority() { openssl req -x509 "${new[@]}" -days 2 -subj "/CN=$1" -keyout $1.key -out $1.pem; }
        signed() {
            openssl req "${new[@]}" -subj "/CN=$1" -keyout $1.key -out $1.csr
            openssl x509 -req -days 2 -in $1.csr -CA $2.pem -CAkey $2.key -CAcreateserial -out $1.pem \
                -extfile <(echo "subjectAltName=DNS:localhost"; echo "extendedKeyUsage=$3")
        }
        authority ca; authority other
        signed server ca serverAuth; signed client ca clientAuth; signed stranger other clientAuth
        openssl pkcs12 -export -name server -passout pass:openwhisk -inkey server.key -in server.pem -out store.p12
        keytool -import -noprompt -trustcacerts -alias ca -file ca.pem \
            -keystore store.p12 -storetype PKCS12 -storepass openwhisk
        "#,
    );
}

fn https(folder: &Path, store: &str, client_auth: bool) -> HttpsSettings {
    HttpsSettings {
        keystore: folder.join(store),
        password: "openwhisk".to_owned(),
        client_auth,
    }
}

/// `GET /ping` over TLS, with a client's certificate if one is named.
async fn ping(address: SocketAddr, folder: &Path, client: Option<&str>) -> Result<Bytes, String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_ca_file(folder.join("ca.pem")).unwrap();
    if let Some(client) = client {
        let file = |kind: &str| folder.join(format!("{client}.{kind}"));
        connector
            .set_certificate_file(file("pem"), SslFiletype::PEM)
            .unwrap();
        connector
            .set_private_key_file(file("key"), SslFiletype::PEM)
            .unwrap();
    }
    let ssl = connector
        .build()
        .configure()
        .unwrap()
        .into_ssl("localhost")
        .unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = SslStream::new(ssl, stream).unwrap();
    Pin::new(&mut stream).connect().await.map_err(|e| say(&e))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| say(&e))?;
    tokio::spawn(connection);
    let request = hyper::Request::get("/ping").header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.map_err(|e| say(&e))?;
    Ok(answer
        .into_body()
        .collect()
        .await
        .map_err(|e| say(&e))?
        .to_bytes())
}

/// H-02, P-89, P-90, P-113: the deployment's probe with a client certificate of the store's authority gets its answer; one
/// without, one of a stranger, and plain HTTP do not.
#[tokio::test]
async fn with_client_auth_only_clients_of_the_stores_authority_are_let_in() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path());
    let node = Node::with(|wishes| wishes.admin.https = Some(https(folder.path(), "store.p12", true))).await;

    assert_eq!(
        ping(node.address, folder.path(), Some("client")).await.unwrap(),
        "pong"
    );
    assert_eq!(
        ping(node.address, folder.path(), Some("client")).await.unwrap(),
        "pong"
    );
    for client in [None, Some("stranger")] {
        let refused = ping(node.address, folder.path(), client).await;
        assert!(refused.is_err(), "{client:?}: {refused:?}");
    }
    let plain = TcpStream::connect(node.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(plain))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get("/ping").header("host", "localhost");
    let answer = sender
        .send_request(request.body(Empty::<Bytes>::new()).unwrap())
        .await;
    assert!(answer.is_err(), "{answer:?}");
    node.stop().await;
}

/// H-02, P-90: without client-auth any client is let in; stores of older tools open as well, and a silent client holds
/// up nobody.
#[tokio::test]
async fn without_client_auth_a_store_of_any_age_serves() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path());
    shell(
        folder.path(),
        "openssl pkcs12 -export -legacy -name server -passout pass:openwhisk -inkey server.key -in server.pem -out old.p12",
    );
    for store in ["store.p12", "old.p12"] {
        let node = Node::with(|wishes| wishes.admin.https = Some(https(folder.path(), store, false))).await;
        let silent = TcpStream::connect(node.address).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), ping(node.address, folder.path(), None));
        assert_eq!(answer.await.unwrap().unwrap(), "pong", "{store}");
        drop(silent);
        node.stop().await;
    }
}

/// P-90: what is wrong with the keystore is said before anything starts.
#[tokio::test]
async fn a_keystore_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path());
    shell(
        folder.path(),
        "keytool -import -noprompt -alias ca -file ca.pem -keystore keyless.p12 -storetype PKCS12 -storepass openwhisk",
    );
    std::fs::write(folder.path().join("text.p12"), "no store").unwrap();
    let refusal = async |store: &str, password: &str| {
        let https = HttpsSettings {
            password: password.to_owned(),
            ..https(folder.path(), store, true)
        };
        let settings = AdminSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            username: String::new(),
            password: String::new(),
            https: Some(https),
            transaction_header: "X-Request-ID".to_owned(),
        };
        let refusal = Server::bind(settings).await.unwrap_err().to_string();
        let path = folder.path().join(store).display().to_string();
        assert!(refusal.contains(&path), "{refusal}");
        refusal.replace(&path, "STORE")
    };
    assert_eq!(
        refusal("nowhere.p12", "openwhisk").await,
        "keystore STORE cannot be read"
    );
    for (store, password) in [("text.p12", "openwhisk"), ("store.p12", "wrong")] {
        assert_eq!(
            refusal(store, password).await,
            "keystore STORE is not PKCS12, or its password is another one"
        );
    }
    assert_eq!(
        refusal("keyless.p12", "openwhisk").await,
        "keystore STORE has no private key with its certificate"
    );
}

//! The least that an activation can cost: a program that takes messages from Kafka and answers them, with
//! a container in between or without, and nothing else: no store, no logs, no journal, no pool.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use proto::decode::decode;
use proto::json::Json;
use proto::unit::Bytes as Size;
use proto::whisk::acknowledgement::Acknowledgement;
use proto::whisk::activation::{Activation, Response};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::instance::InvokerId;
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use stand_in_controller::topics::Topics;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Answers what comes on `invoker<id>` until the process ends.
///
/// # Errors
/// When Kafka cannot be used.
pub async fn serve(hosts: &str, id: u32, containers: Vec<SocketAddr>) -> Result<(), Cause> {
    let topic = format!("invoker{id}");
    let admin = ClientConfig::new().set("bootstrap.servers", hosts).create()?;
    let made = Topics::default().make_invoker(&admin, id).await;
    made.map_err(|(topic, source)| format!("topic {topic} could not be made: {source}"))?;
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", hosts)
        .set("group.id", &topic)
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "500")
        .create()?;
    consumer.subscribe(&[&topic])?;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", hosts)
        .set("linger.ms", "0")
        .set("acks", "1")
        .create()?;
    let floor = Arc::new(Floor {
        producer,
        instance: InvokerId::new(id, Size::mib(2048)),
    });
    let (give_back, mut free) = mpsc::unbounded_channel();
    let direct = containers.is_empty();
    for container in containers {
        give_back.send(container)?;
    }
    loop {
        let message = consumer.recv().await?;
        let message: ActivationMessage = decode(message.payload().unwrap_or_default())?;
        if direct {
            let answer = Json::from(json!({ "ok": true }));
            tokio::spawn(Arc::clone(&floor).answer(message, answer));
            continue;
        }
        let container = free.recv().await.ok_or("every container is lost")?;
        let (floor, give_back) = (Arc::clone(&floor), give_back.clone());
        tokio::spawn(async move {
            match run(container, &message).await {
                Ok(answer) => {
                    // Free before the answer is sent: a successor need not wait for Kafka.
                    let _ = give_back.send(container);
                    floor.answer(message, answer).await;
                }
                Err(error) => eprintln!("{container} is lost: {error}"),
            }
        });
    }
}

struct Floor {
    producer: FutureProducer,
    instance: InvokerId,
}

impl Floor {
    /// One combined message: result and completion.
    async fn answer(self: Arc<Self>, message: ActivationMessage, answer: Json) {
        let now = message.transid.start;
        let topic = format!("completed{}", message.root_controller_index.as_string);
        let size = answer.as_str().len() as u64;
        let activation = Activation {
            activation_id: message.activation_id,
            annotations: Default::default(),
            cause: None,
            duration: Some(0),
            end: now,
            logs: Vec::new(),
            name: message.action.name.clone(),
            namespace: message.user.namespace.name.clone().into(),
            publish: false,
            response: Response::success(Some(answer), Some(size)),
            start: now,
            subject: message.user.subject.clone(),
            version: Default::default(),
        };
        let ack = Acknowledgement::combined(message.transid, activation, self.instance.clone());
        let payload = serde_json::to_vec(&ack).expect("an ack is JSON");
        let record = FutureRecord::<(), _>::to(&topic).payload(&payload);
        if let Err((error, _)) = self.producer.send(record, Duration::from_secs(60)).await {
            eprintln!("an answer is lost: {error}");
        }
    }
}

async fn run(container: SocketAddr, message: &ActivationMessage) -> Result<Json, Cause> {
    let value = message.content.clone().unwrap_or_else(Json::empty_object);
    let body = format!(
        r#"{{"value":{value},"activation_id":"{}","deadline":"{}"}}"#,
        message.activation_id,
        message.transid.start + 60_000
    );
    let answer = post(container, "/run", body).await?;
    Ok(decode(&answer)?)
}

/// One request on a connection of its own (C-02).
///
/// # Errors
/// When there is no answer, or none that says 200.
pub async fn post(container: SocketAddr, path: &str, body: String) -> Result<Bytes, Cause> {
    let stream = TcpStream::connect(container).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", container.to_string())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    if status.is_success() {
        Ok(body)
    } else {
        Err(format!(
            "{path} was answered with {status}: {}",
            String::from_utf8_lossy(&body)
        )
        .into())
    }
}

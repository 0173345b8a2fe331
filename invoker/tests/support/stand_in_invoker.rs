//! Stands in for the invoker, on the real bus and the real store: reads activation messages, and does
//! what the first line of the action's code says instead of running it.
//!
//! | first line | what happens |
//! | --- | --- |
//! | `# echo` | the arguments come back, a line is logged |
//! | `# list` | the result is a list |
//! | `# fail` | application error `no` |
//! | `# crash` | developer error |
//! | `# lost` | whisk error |
//! | `# large` | the ack has only the id, the record has the result |
//! | `# unanswered` | there is a record and no ack |
//! | `# silent` | nothing |

use base64::Engine;
use ffs_invoker::bus::Bus;
use ffs_invoker::store::{Database, Store};
use proto::decode::decode;
use proto::json::Json;
use proto::unit::Bytes;
use proto::whisk::acknowledgement::Acknowledgement;
use proto::whisk::action::ActionDocument;
use proto::whisk::activation::{Activation, Response, Status};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::exec::{Code, Place};
use proto::whisk::instance::InvokerId;
use proto::whisk::record::Record;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) struct StandInInvoker {
    task: JoinHandle<()>,
    /// Every message, as it was read.
    pub(crate) messages: mpsc::UnboundedReceiver<Value>,
}

impl StandInInvoker {
    pub(crate) async fn start(bus: Arc<dyn Bus>, store: Arc<dyn Store>) -> Self {
        let mut reader = bus.subscribe("invoker0", "invoker0").await.unwrap();
        let (seen, messages) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok(batch) = reader.next(16).await {
                reader.commit(batch.last().unwrap()).await.unwrap();
                for message in batch {
                    // Nobody may look.
                    let _ = seen.send(serde_json::from_slice(&message.payload).unwrap());
                    answer(&*bus, &*store, decode(&message.payload).unwrap()).await;
                }
            }
        });
        Self { task, messages }
    }

    pub(crate) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn answer(bus: &dyn Bus, store: &dyn Store, message: ActivationMessage) {
    let action = action(store, &message).await;
    let order = code(store, &action)
        .await
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    let arguments = message.content.clone().unwrap_or_else(Json::empty_object);
    let response = match &*order {
        "# silent" => return,
        "# list" => Response::success(Some(json!([1, "two", arguments]).into()), Some(9)),
        "# fail" => Response::failure(Status::ApplicationError, "no"),
        "# crash" => Response::failure(
            Status::DeveloperError,
            "The action did not initialize and exited unexpectedly.",
        ),
        "# lost" => Response::failure(Status::WhiskError, "Action could not be fetched."),
        _ => Response::success(Some(arguments), Some(2)),
    };
    let activation = activation(&message, &action, response);
    let record = serde_json::to_value(Record::new(activation.clone(), activation.end)).unwrap();
    let (id, body) = (record["_id"].as_str().unwrap().to_owned(), without_id(record));
    store.put(Database::Activation, &id, None, &body).await.unwrap();
    if order == "# unanswered" {
        return;
    }
    let instance = InvokerId::new(0, Bytes(256 << 20));
    let transid = message.transid.clone();
    let completion = Acknowledgement::completion(transid.clone(), &activation, instance);
    let mut acks = vec![completion];
    if message.blocking {
        let result = Acknowledgement::result(transid, activation);
        acks.insert(
            0,
            if order == "# large" {
                result.shrunk()
            } else {
                result
            },
        );
    }
    for ack in acks {
        bus.send("completed0", serde_json::to_vec(&ack).unwrap())
            .await
            .unwrap();
    }
}

async fn action(store: &dyn Store, message: &ActivationMessage) -> ActionDocument {
    let id = message.action.to_string();
    let document = store
        .get(Database::Entity, &id, None)
        .await
        .unwrap()
        .expect("the action is there");
    assert_eq!(message.revision.as_ref(), Some(&document.revision));
    let mut body = document.body;
    body["_id"] = id.into();
    serde_json::from_value(body).expect("an action that an invoker can read")
}

async fn code(store: &dyn Store, action: &ActionDocument) -> String {
    let bytes = match action.exec.code() {
        None => return String::new(),
        Some(Code::Inline(text)) => return text.clone(),
        Some(Code::Attachment(attachment)) => {
            assert!(
                action.agrees_with(attachment),
                "the attachment is the one that the document names"
            );
            match attachment.place() {
                Place::Name(text) => base64::engine::general_purpose::URL_SAFE.decode(text).unwrap(),
                Place::Document(name) => {
                    let bytes = store
                        .attachment(Database::Entity, &action.id, None, name)
                        .await
                        .unwrap();
                    bytes.expect("the attachment is there")
                }
                Place::Store { scheme, .. } => panic!("scheme {scheme}"),
            }
        }
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn activation(message: &ActivationMessage, action: &ActionDocument, response: Response) -> Activation {
    let start = message.transid.start + 5;
    let annotations = [
        ("path", json!(message.action.to_string())),
        ("waitTime", json!(5)),
        ("kind", json!(action.exec.kind())),
        ("timeout", json!(false)),
        ("limits", json!(action.limits)),
        ("initTime", json!(3)),
    ];
    let binding = message
        .action
        .binding
        .iter()
        .map(|b| ("binding", json!(b.to_string())));
    Activation {
        activation_id: message.activation_id,
        annotations: binding.chain(annotations).collect(),
        cause: None,
        duration: Some(7),
        end: start + 7,
        logs: vec!["2026-01-01T00:00:00.000000001Z stdout: hello from the stand-in".into()],
        name: message.action.name.clone(),
        namespace: message.user.namespace.name.clone().into(),
        publish: false,
        response,
        start,
        subject: message.user.subject.clone(),
        version: action.version,
    }
}

fn without_id(mut record: Value) -> Value {
    record.as_object_mut().unwrap().shift_remove("_id");
    record
}

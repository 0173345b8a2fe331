//! An action as it can be run: its document and its code, read once per revision.

use crate::completion::record::ActionFacts;
use crate::container::Image;
use crate::runtimes::{ImageName, InvalidImage, Runtimes};
use proto::ffs::annotation::Annotation;
use proto::unit::Bytes;
use proto::whisk::action::ActionDocument;
use proto::whisk::exec::Exec;
use proto::whisk::limits::{EffectiveLimits, SystemLimits};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// Everything that starting and calling a container of the action takes.
#[derive(Clone, Debug)]
pub struct Executable {
    /// `namespace/[package/]name`.
    pub qualified_name: String,
    /// Without the package.
    pub name: String,
    /// Empty if unknown.
    pub revision: String,
    /// Equal exactly if two versions may share a warm container (L-31).
    pub identity: String,
    pub image: Image,
    /// Kind of the manifest; none for an image of the user's own.
    pub managed_kind: Option<String>,
    pub main: String,
    /// Text, or base64 if `binary`.
    pub code: Option<Arc<str>>,
    pub binary: bool,
    pub limits: EffectiveLimits,
    /// Whether each run ends with a sentinel on both streams (C-64).
    pub sentinels: bool,
    /// Whether the caller's key is handed to the container (W-12).
    pub provides_api_key: bool,
    pub facts: ActionFacts,
    /// The annotation `ffs`, or what is wrong with it.
    pub ffs: Option<Result<Arc<Annotation>, String>>,
}

/// The document is no action that this invoker can run (D-30, D-31).
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotExecutable {
    #[error("kind {0} is not in the runtimes manifest")]
    UnknownKind(String),
    #[error(transparent)]
    Image(#[from] InvalidImage),
    #[error("an action of kind {0} names the function to call in the member main")]
    NoMain(String),
    #[error("a sequence is not run by an invoker")]
    Sequence,
}

impl Executable {
    /// `code`: what `/init` gets, resolved from its attachment if it had one.
    pub fn new(
        document: &ActionDocument,
        code: Option<String>,
        runtimes: &Runtimes,
        limits: &SystemLimits,
    ) -> Result<Self, NotExecutable> {
        let (image, managed_kind, sentinels) = match &document.exec {
            Exec::Managed(exec) => {
                let unknown = || NotExecutable::UnknownKind(exec.kind.as_str().to_owned());
                let runtime = runtimes.resolve(exec.kind.as_str()).ok_or_else(unknown)?;
                if runtime.require_main && exec.main.is_none() {
                    return Err(NotExecutable::NoMain(runtime.kind.clone()));
                }
                let image = Image {
                    kind: runtime.kind.clone(),
                    name: runtime.image.to_string(),
                    pull: false,
                };
                (image, Some(runtime.kind.clone()), runtime.sentinelled_logs)
            }
            Exec::Blackbox(exec) => {
                let name: ImageName = exec.image.parse()?;
                let native = runtimes.is_native(&name);
                let image = Image {
                    kind: "blackbox".to_owned(),
                    name: name.to_string(),
                    pull: !native,
                };
                (image, None, native)
            }
            Exec::Sequence(_) => return Err(NotExecutable::Sequence),
        };
        let limits = limits.fill(&document.limits);
        let ffs = document
            .annotations
            .get("ffs")
            .and_then(|value| match Annotation::parse(value) {
                Ok(annotation) => annotation.map(|annotation| Ok(Arc::new(annotation))),
                Err(error) => Some(Err(error.to_string())),
            });
        let facts = ActionFacts {
            kind: image.kind.clone(),
            version: document.version,
            limits: serde_json::json!({
                "concurrency": limits.concurrency,
                "logs": limits.logs,
                "memory": limits.memory,
                "timeout": limits.timeout,
            }),
        };
        Ok(Self {
            qualified_name: document.qualified_name().to_string(),
            name: document.name.as_str().to_owned(),
            revision: document.rev.clone().unwrap_or_default(),
            identity: identity(document, code.as_deref()),
            image,
            managed_kind,
            main: document.exec.main().to_owned(),
            binary: document.exec.is_binary(),
            code: code.map(Arc::from),
            limits,
            sentinels,
            provides_api_key: document.annotations.is_truthy("provide-api-key", true),
            facts,
            ffs,
        })
    }

    pub fn memory(&self) -> Bytes {
        Bytes::mib(self.limits.memory)
    }

    pub fn time_limit(&self) -> Duration {
        Duration::from_millis(self.limits.timeout)
    }

    pub fn log_limit(&self) -> Bytes {
        Bytes::mib(self.limits.logs)
    }
}

/// Digest of all that two versions must have in common to share a warm container: not the revision.
fn identity(document: &ActionDocument, code: Option<&str>) -> String {
    let mut digest = Sha256::new();
    let mut part = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    };
    part(document.namespace.as_str());
    part(document.name.as_str());
    part(&document.version.to_string());
    for json in [
        serde_json::to_string(&document.exec),
        serde_json::to_string(&document.parameters),
        serde_json::to_string(&document.limits),
        serde_json::to_string(&document.annotations),
    ] {
        part(&json.expect("a document that was read can be written"));
    }
    part(&document.publish.to_string());
    part(code.unwrap_or_default());
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

//! Actions: written, read, listed, deleted. `Actions.scala`, `WhiskAction.scala`.

use super::activations::Page;
use super::put::{self, ActionPut, LimitsPut};
use super::refusal::{ON_BINDING, OTHER_COLLECTION};
use super::{Address, Controller, Refusal, code};
use crate::store::{Database, Document, Query};
use proto::whisk::action::{ActionDocument, ActionType};
use proto::whisk::exec::{Code, Exec};
use proto::whisk::identity::Identity;
use proto::whisk::limits::{ActionLimits, Limit, UserLimits};
use proto::whisk::name::EntityPath;
use proto::whisk::parameter::{Annotations, Parameter};
use proto::whisk::version::Version;
use serde_json::{Value, json};

/// An action as it is called: what it is, and what its package and a binding bring along.
pub(super) struct Resolved {
    pub(super) action: ActionDocument,
    /// Of the package, then the binding, then the action.
    pub(super) parameters: Vec<Parameter>,
    /// The binding that it was called through.
    pub(super) binding: Option<EntityPath>,
}

impl Controller {
    /// Creates the action, or changes it if there is one and `overwrite` allows that.
    pub async fn put_action(
        &self,
        user: &Identity,
        address: &Address,
        put: ActionPut,
        overwrite: bool,
    ) -> Result<Value, Refusal> {
        self.check_limits(user, put.limits)?;
        self.check_package(address).await?;
        let before = self.action(&address.to_string()).await?;
        let action = match before {
            Some(_) if !overwrite => return Err(Refusal::conflict("resource already exists")),
            Some(before) => self.changed(before, put).await?,
            None => self.created(address, put)?,
        };
        let code = match action.exec.code() {
            Some(Code::Inline(code)) => Some(code.clone()),
            _ => None,
        };
        let view = view(&action, code.as_deref());
        self.write_action(action, code).await?;
        Ok(view)
    }

    /// The action with the parameters of its package merged in.
    pub async fn get_action(&self, address: &Address, with_code: bool) -> Result<Value, Refusal> {
        let Resolved {
            mut action,
            parameters,
            ..
        } = self.resolve(address).await?;
        action.parameters = parameters;
        let code = match with_code {
            true => code::detach(&*self.store, &action).await?,
            false => None,
        };
        Ok(view(&action, code.as_deref()))
    }

    pub async fn delete_action(&self, address: &Address) -> Result<Value, Refusal> {
        self.check_package(address).await?;
        let action = self
            .action(&address.to_string())
            .await?
            .ok_or_else(Refusal::not_found)?;
        let code = code::detach(&*self.store, &action).await?;
        let revision = action.rev.as_deref().unwrap_or_default();
        self.store.delete(Database::Entity, &action.id, revision).await?;
        Ok(view(&action, code.as_deref()))
    }

    /// The actions of a namespace, or of a package or binding.
    pub async fn list_actions(&self, path: &EntityPath, page: Page) -> Result<Value, Refusal> {
        let query = Query {
            namespace: self.provider(path).await?,
            kind: Some("action".into()),
            skip: page.skip,
            limit: page.limit,
            ..Query::default()
        };
        if page.count {
            return Ok(json!({ "actions": self.store.count(Database::Entity, &query).await? }));
        }
        let found = self.store.list(Database::Entity, &query).await?;
        Ok(found.iter().map(|document| summary(&document.body)).collect())
    }

    /// The action as it is called, with what its package brings along.
    pub(super) async fn resolve(&self, address: &Address) -> Result<Resolved, Refusal> {
        let Some(package) = address.package() else {
            let action = self
                .action(&address.to_string())
                .await?
                .ok_or_else(Refusal::not_found)?;
            let parameters = action.parameters.clone();
            return Ok(Resolved {
                action,
                parameters,
                binding: None,
            });
        };
        let provider = self.resolve_package(&package).await?;
        let id = format!("{}/{}", provider.path, address.name);
        let action = self.action(&id).await?.ok_or_else(Refusal::not_found)?;
        let parameters = put::merged(provider.parameters, action.parameters.clone());
        let bound = provider.path != address.path();
        Ok(Resolved {
            action,
            parameters,
            binding: bound.then(|| address.path()),
        })
    }

    async fn action(&self, id: &str) -> Result<Option<ActionDocument>, Refusal> {
        let document = self.store.get(Database::Entity, id, None).await?;
        document.map(read).transpose()
    }

    /// An action in a package needs the package to be there, and to be no binding.
    async fn check_package(&self, address: &Address) -> Result<(), Refusal> {
        let Some(package) = address.package() else {
            return Ok(());
        };
        let package = self.package(&package).await?.ok_or_else(Refusal::not_found)?;
        match package.binding {
            Some(_) => Err(Refusal::bad_request(ON_BINDING)),
            None => Ok(()),
        }
    }

    fn check_limits(&self, user: &Identity, asked: Option<LimitsPut>) -> Result<(), Refusal> {
        let Some(asked) = asked else { return Ok(()) };
        let mut limits = self.settings.limits.fill(&self.limits(asked, None));
        while let Err(violation) = self
            .settings
            .limits
            .check(&limits, &user.limits, &UserLimits::default())
        {
            // Only what was asked for is checked here; the invoker checks everything.
            let (is_asked, filled) = match violation.limit {
                Limit::Timeout => (asked.timeout.is_some(), &mut limits.timeout),
                Limit::Memory => (asked.memory.is_some(), &mut limits.memory),
                Limit::Concurrency => (asked.concurrency.is_some(), &mut limits.concurrency),
                Limit::Logs => (asked.logs.is_some(), &mut limits.logs),
            };
            if is_asked {
                return Err(violation.into());
            }
            *filled = violation.threshold;
        }
        Ok(())
    }

    /// What is not asked for stays as it was, or is the standard.
    fn limits(&self, asked: LimitsPut, before: Option<&ActionLimits>) -> ActionLimits {
        let std = self.settings.limits.std;
        ActionLimits {
            concurrency: asked
                .concurrency
                .or(before.map_or(Some(std.concurrency), |b| b.concurrency)),
            instances: asked.instances.or(before.and_then(|b| b.instances)),
            logs: asked.logs.or(before.map_or(Some(std.logs), |b| b.logs)),
            memory: asked.memory.unwrap_or(before.map_or(std.memory, |b| b.memory)),
            timeout: asked.timeout.unwrap_or(before.map_or(std.timeout, |b| b.timeout)),
        }
    }

    fn created(&self, address: &Address, put: ActionPut) -> Result<ActionDocument, Refusal> {
        let exec = put.exec.ok_or_else(|| Refusal::bad_request("exec undefined"))?;
        let mut annotations = put.annotations.unwrap_or_default();
        if annotations.get("provide-api-key").is_none() {
            annotations.set("provide-api-key", false);
        }
        annotations.set("exec", exec.kind());
        Ok(ActionDocument {
            id: address.to_string(),
            rev: None,
            annotations,
            entity_type: Some(ActionType::Action),
            exec,
            limits: self.limits(put.limits.unwrap_or_default(), None),
            name: address.name.clone(),
            namespace: address.path(),
            parameters: put.parameters.unwrap_or_default(),
            publish: put.publish.unwrap_or(false),
            updated: Some(super::now_ms()),
            version: put.version.unwrap_or_default(),
            attachments: None,
        })
    }

    async fn changed(&self, before: ActionDocument, put: ActionPut) -> Result<ActionDocument, Refusal> {
        let exec = match put.exec {
            Some(exec) => exec,
            None => self.unchanged_exec(&before).await?,
        };
        let removed = put.del_annotations.unwrap_or_default();
        let kept = before
            .annotations
            .0
            .into_iter()
            .filter(|a| !removed.contains(&a.key));
        let mut annotations = Annotations(kept.collect());
        for annotation in put.annotations.unwrap_or_default().0 {
            annotations.set(&annotation.key, annotation.value);
        }
        annotations.set("exec", exec.kind());
        Ok(ActionDocument {
            annotations,
            exec,
            limits: self.limits(put.limits.unwrap_or_default(), Some(&before.limits)),
            parameters: put.parameters.unwrap_or(before.parameters),
            publish: put.publish.unwrap_or(before.publish),
            updated: Some(super::now_ms()),
            version: put.version.unwrap_or_else(|| Version::next(before.version)),
            attachments: None,
            id: before.id,
            rev: before.rev,
            entity_type: Some(ActionType::Action),
            name: before.name,
            namespace: before.namespace,
        })
    }

    /// What it was, with its code in place, because a new state of the document has attachments of its own.
    async fn unchanged_exec(&self, before: &ActionDocument) -> Result<Exec, Refusal> {
        if self
            .settings
            .runtimes
            .resolve(before.exec.kind())
            .is_some_and(|r| r.deprecated)
        {
            return Err(put::deprecated(before.exec.kind()));
        }
        let code = code::detach(&*self.store, before).await?;
        let mut exec = before.exec.clone();
        match (&mut exec, code) {
            (Exec::Managed(exec), Some(code)) => exec.code = Code::Inline(code),
            (Exec::Blackbox(exec), code) => exec.code = code.map(Code::Inline),
            (Exec::Managed(_), None) => {
                return Err(Refusal::conflict(
                    "The code of this action was lost: send it again.",
                ));
            }
            (Exec::Sequence(_), _) => {}
        }
        Ok(exec)
    }

    /// Writes the document, and the code where that is kept beside it.
    async fn write_action(&self, mut action: ActionDocument, code: Option<String>) -> Result<(), Refusal> {
        let kept_inline = match self.settings.runtimes.resolve(action.exec.kind()) {
            Some(runtime) => !runtime.is_attached(),
            None => false,
        };
        let mut beside = None;
        if let Some(code) = code.filter(|_| !kept_inline) {
            let attached = code::attach(&code)?;
            beside = attached
                .beside
                .map(|(name, bytes)| (name, attached.attachment.attachment_type.clone(), bytes));
            match &mut action.exec {
                Exec::Managed(exec) => exec.code = Code::Attachment(attached.attachment),
                Exec::Blackbox(exec) => exec.code = Some(Code::Attachment(attached.attachment)),
                Exec::Sequence(_) => {}
            }
        }
        let (id, revision) = (action.id.clone(), action.rev.take());
        let body = without(serde_json::to_value(&action), &["_id", "_rev"]);
        let written = self
            .store
            .put(Database::Entity, &id, revision.as_deref(), &body)
            .await?;
        if let Some((name, kind, bytes)) = beside {
            self.store
                .put_attachment(Database::Entity, &id, &written, &name, &kind, bytes)
                .await?;
        }
        Ok(())
    }
}

/// A document of the entities as an action.
pub(super) fn read(document: Document) -> Result<ActionDocument, Refusal> {
    let mut body = document.body;
    if body["entityType"].as_str().is_some_and(|kind| kind != "action") {
        return Err(Refusal::conflict(OTHER_COLLECTION));
    }
    body["_id"] = document.id.into();
    body["_rev"] = document.revision.into();
    serde_json::from_value(body).map_err(|error| Refusal::internal(&error))
}

/// As a client sees it: not the database's members, and its code, if at all, in place.
fn view(action: &ActionDocument, code: Option<&str>) -> Value {
    let mut view = without(
        serde_json::to_value(action),
        &["_id", "_rev", "_attachments", "entityType"],
    );
    if let Some(exec) = view["exec"].as_object_mut() {
        exec.shift_remove("code");
        exec.shift_remove("jar");
        if let Some(code) = code {
            exec.insert("code".into(), code.into());
        }
    }
    view
}

fn summary(body: &Value) -> Value {
    json!({
        "annotations": body["annotations"],
        "exec": { "binary": body["exec"]["binary"].as_bool().unwrap_or(false) },
        "limits": body["limits"],
        "name": body["name"],
        "namespace": body["namespace"],
        "publish": body["publish"],
        "updated": body["updated"],
        "version": body["version"],
    })
}

/// A document without some of its members.
pub(super) fn without(document: serde_json::Result<Value>, members: &[&str]) -> Value {
    let mut value = document.expect("a document of ours is JSON");
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| !members.contains(&&**name));
    }
    value
}

//! Packages and bindings: `Packages.scala`, `WhiskPackage.scala`.

use super::activations::Page;
use super::put;
use super::refusal::OTHER_COLLECTION;
use super::{Address, Controller, Refusal};
use crate::store::{Database, Document, Query};
use proto::decode::decode;
use proto::whisk::identity::Identity;
use proto::whisk::name::{EntityName, EntityPath};
use proto::whisk::parameter::{Annotations, Parameter};
use proto::whisk::version::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

/// A package's document, without what the database adds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Package {
    annotations: Annotations,
    /// The package that this one stands for; written as `{}` where there is none.
    #[serde(serialize_with = "binding_or_empty", deserialize_with = "empty_or_binding")]
    pub(super) binding: Option<Binding>,
    name: EntityName,
    namespace: EntityPath,
    parameters: Vec<Parameter>,
    publish: bool,
    updated: i64,
    version: Version,
    #[serde(skip)]
    revision: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Binding {
    name: EntityName,
    namespace: EntityName,
}

impl Binding {
    fn address(&self) -> Address {
        Address {
            namespace: self.namespace.clone(),
            package: None,
            name: self.name.clone(),
        }
    }
}

/// What a client sends to create or change a package.
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
pub struct PackagePut {
    annotations: Option<Annotations>,
    #[serde(default, deserialize_with = "empty_or_binding")]
    binding: Option<Binding>,
    parameters: Option<Vec<Parameter>>,
    publish: Option<bool>,
    version: Option<Version>,
}

impl PackagePut {
    /// Reads the body of a request.
    pub fn read(body: &[u8], parameter_bytes: usize) -> Result<Self, Refusal> {
        let mut put: Self = decode(body).map_err(Refusal::malformed)?;
        put.annotations = put.annotations.map(put::unique_annotations);
        put.parameters = put.parameters.map(put::unique);
        put::check_parameters(
            put.parameters.as_deref(),
            put.annotations.as_ref(),
            parameter_bytes,
        )?;
        Ok(put)
    }
}

/// Where actions of a package really are, and what it brings along.
pub(super) struct Provider {
    pub(super) path: EntityPath,
    /// Of the package, then the binding.
    pub(super) parameters: Vec<Parameter>,
}

impl Controller {
    /// Creates the package or binding, or changes it if there is one and `overwrite` allows that.
    pub async fn put_package(
        &self,
        user: &Identity,
        address: &Address,
        mut put: PackagePut,
        overwrite: bool,
    ) -> Result<Value, Refusal> {
        if address.name.as_str() == "default" {
            return Err(Refusal::bad_request("Package name 'default' is reserved."));
        }
        if let Some(binding) = &mut put.binding {
            if binding.namespace.as_str() == "_" {
                binding.namespace = user.namespace.name.clone();
            }
            self.check_binding(user, binding).await?;
        }
        let package = match self.package(address).await? {
            Some(_) if !overwrite => return Err(Refusal::conflict("resource already exists")),
            Some(before) => changed(before, put)?,
            None => created(address, put),
        };
        let mut body = serde_json::to_value(&package).expect("a document of ours is JSON");
        let view = body.clone();
        body["entityType"] = "package".into();
        let revision = package.revision.as_deref();
        self.store
            .put(Database::Entity, &address.to_string(), revision, &body)
            .await?;
        Ok(view)
    }

    /// The package, or the one that it is bound to with the parameters of both, and its actions.
    pub async fn get_package(&self, address: &Address) -> Result<Value, Refusal> {
        let mut package = self.package(address).await?.ok_or_else(Refusal::not_found)?;
        let provider = self.resolve_package(address).await?;
        package.parameters = provider.parameters;
        let actions = self.actions_in(&provider.path).await?;
        let (feeds, actions): (Vec<_>, Vec<_>) =
            actions.iter().map(|d| in_package(&d.body)).partition(is_feed);
        let mut view = serde_json::to_value(&package).expect("a document of ours is JSON");
        view["actions"] = actions.into();
        view["feeds"] = feeds.into();
        Ok(view)
    }

    /// Deletes the package; with `force` also what is in it.
    pub async fn delete_package(&self, address: &Address, force: bool) -> Result<Value, Refusal> {
        let package = self.package(address).await?.ok_or_else(Refusal::not_found)?;
        if package.binding.is_none() {
            let path = format!("{}/{}", address.namespace, address.name);
            let actions = self
                .actions_in(&path.parse().expect("names joined by / are a path"))
                .await?;
            if !actions.is_empty() && !force {
                let entities = if actions.len() == 1 { "entity" } else { "entities" };
                return Err(Refusal::conflict(format!(
                    "Package not empty (contains {} {entities}). Set force param or delete package contents.",
                    actions.len()
                )));
            }
            for action in actions {
                self.store
                    .delete(Database::Entity, &action.id, &action.revision)
                    .await?;
            }
        }
        let revision = package.revision.as_deref().unwrap_or_default();
        self.store
            .delete(Database::Entity, &address.to_string(), revision)
            .await?;
        Ok(serde_json::to_value(&package).expect("a document of ours is JSON"))
    }

    pub async fn list_packages(&self, namespace: &EntityName, page: Page) -> Result<Value, Refusal> {
        let query = Query {
            namespace: namespace.to_string(),
            kind: Some("package".into()),
            skip: page.skip,
            limit: page.limit,
            ..Query::default()
        };
        if page.count {
            return Ok(json!({ "packages": self.store.count(Database::Entity, &query).await? }));
        }
        let found = self.store.list(Database::Entity, &query).await?;
        Ok(found.iter().map(|document| summary(&document.body)).collect())
    }

    pub(super) async fn package(&self, address: &Address) -> Result<Option<Package>, Refusal> {
        let document = self
            .store
            .get(Database::Entity, &address.to_string(), None)
            .await?;
        document.map(read).transpose()
    }

    /// Follows a binding to the package that it stands for.
    pub(super) async fn resolve_package(&self, address: &Address) -> Result<Provider, Refusal> {
        let package = self.package(address).await?.ok_or_else(Refusal::not_found)?;
        let provider = |package: &Package, parameters| Provider {
            path: format!("{}/{}", package.namespace, package.name)
                .parse()
                .expect("names joined by / are a path"),
            parameters,
        };
        let Some(binding) = &package.binding else {
            return Ok(provider(&package, package.parameters.clone()));
        };
        let bound = self
            .package(&binding.address())
            .await?
            .ok_or_else(Refusal::not_found)?;
        let parameters = put::merged(bound.parameters.clone(), package.parameters.clone());
        Ok(provider(&bound, parameters))
    }

    /// The path whose actions are listed for `path`, which may be a binding.
    pub(super) async fn provider(&self, path: &EntityPath) -> Result<String, Refusal> {
        let Some(package) = path.package() else {
            return Ok(path.to_string());
        };
        let address = Address {
            namespace: super::entity_name(path.root())?,
            package: None,
            name: super::entity_name(package)?,
        };
        Ok(self.resolve_package(&address).await?.path.to_string())
    }

    async fn actions_in(&self, path: &EntityPath) -> Result<Vec<Document>, Refusal> {
        let query = Query {
            namespace: path.to_string(),
            kind: Some("action".into()),
            limit: usize::MAX,
            ..Query::default()
        };
        Ok(self.store.list(Database::Entity, &query).await?)
    }

    async fn check_binding(&self, user: &Identity, binding: &Binding) -> Result<(), Refusal> {
        let no_package = |refusal: Refusal| match refusal.text == OTHER_COLLECTION {
            true => Refusal::conflict("Cannot bind to a resource that is not a package."),
            false => refusal,
        };
        let bound = self.package(&binding.address()).await.map_err(no_package)?;
        let bound =
            bound.ok_or_else(|| Refusal::bad_request("Binding references a package that does not exist."))?;
        if binding.namespace != user.namespace.name && !bound.publish {
            return Err(Refusal::forbidden(binding.address()));
        }
        match bound.binding {
            Some(_) => Err(Refusal::bad_request("Cannot bind to another package binding.")),
            None => Ok(()),
        }
    }
}

fn created(address: &Address, put: PackagePut) -> Package {
    Package {
        annotations: annotated(put.annotations.unwrap_or_default(), put.binding.as_ref()),
        binding: put.binding,
        name: address.name.clone(),
        namespace: address.path(),
        parameters: put.parameters.unwrap_or_default(),
        publish: put.publish.unwrap_or(false),
        updated: super::now_ms(),
        version: put.version.unwrap_or_default(),
        revision: None,
    }
}

fn changed(before: Package, put: PackagePut) -> Result<Package, Refusal> {
    if put.binding.is_some() && before.binding.is_none() {
        return Err(Refusal::conflict(
            "Resource is a package and cannot be converted into a binding.",
        ));
    }
    let binding = put.binding.or(before.binding);
    Ok(Package {
        annotations: annotated(put.annotations.unwrap_or(before.annotations), binding.as_ref()),
        binding,
        parameters: put.parameters.unwrap_or(before.parameters),
        publish: put.publish.unwrap_or(before.publish),
        updated: super::now_ms(),
        version: put.version.unwrap_or_else(|| before.version.next()),
        name: before.name,
        namespace: before.namespace,
        revision: before.revision,
    })
}

/// The annotation `binding` is the controller's alone.
fn annotated(mut annotations: Annotations, binding: Option<&Binding>) -> Annotations {
    annotations.0.retain(|annotation| annotation.key != "binding");
    if let Some(binding) = binding {
        annotations.set("binding", json!(binding));
    }
    annotations
}

fn read(document: Document) -> Result<Package, Refusal> {
    if document.body["entityType"] != "package" {
        return Err(Refusal::conflict(OTHER_COLLECTION));
    }
    let package: Package =
        serde_json::from_value(document.body).map_err(|error| Refusal::internal(&error))?;
    Ok(Package {
        revision: Some(document.revision),
        ..package
    })
}

fn summary(body: &Value) -> Value {
    let bound = body["binding"]
        .as_object()
        .is_some_and(|binding| !binding.is_empty());
    json!({
        "annotations": body["annotations"],
        "binding": if bound { body["binding"].clone() } else { false.into() },
        "name": body["name"],
        "namespace": body["namespace"],
        "publish": body["publish"],
        "updated": body["updated"],
        "version": body["version"],
    })
}

fn in_package(body: &Value) -> Value {
    json!({"annotations": body["annotations"], "name": body["name"], "version": body["version"]})
}

fn is_feed(action: &Value) -> bool {
    let annotations = action["annotations"].as_array();
    annotations
        .into_iter()
        .flatten()
        .any(|annotation| annotation["key"] == "feed")
}

fn binding_or_empty<S: Serializer>(binding: &Option<Binding>, serializer: S) -> Result<S::Ok, S::Error> {
    match binding {
        Some(binding) => binding.serialize(serializer),
        None => json!({}).serialize(serializer),
    }
}

fn empty_or_binding<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Binding>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Value::Object(empty)) if empty.is_empty() => Ok(None),
        Some(binding) => serde_json::from_value(binding)
            .map(Some)
            .map_err(serde::de::Error::custom),
    }
}

//! Where an entity is: `namespace/name`, or `namespace/package/name`.

use super::Refusal;
use axum::http::StatusCode;
use proto::whisk::identity::Identity;
use proto::whisk::name::{EntityName, EntityPath};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub namespace: EntityName,
    pub package: Option<EntityName>,
    pub name: EntityName,
}

impl Address {
    /// # Errors
    /// `Forbidden` outside the user's namespace, `BadRequest` for names that are none. `_` is the user's
    /// namespace.
    pub fn new(user: &Identity, namespace: &str, package: Option<&str>, name: &str) -> Result<Self, Refusal> {
        let names = [package.unwrap_or_default(), name].map(|n| if n.is_empty() { None } else { Some(n) });
        let resource = names.into_iter().flatten().collect::<Vec<_>>().join("/");
        Ok(Self {
            namespace: own_namespace(user, namespace, &resource)?,
            package: package.map(entity_name).transpose()?,
            name: entity_name(name)?,
        })
    }

    /// The namespace, or the package in it.
    pub fn path(&self) -> EntityPath {
        let path = match &self.package {
            None => self.namespace.to_string(),
            Some(package) => format!("{}/{package}", self.namespace),
        };
        EntityPath::try_from(path).expect("names joined by / are a path")
    }

    /// The package that the entity is in.
    pub fn package(&self) -> Option<Self> {
        self.package.clone().map(|name| Self {
            namespace: self.namespace.clone(),
            package: None,
            name,
        })
    }
}

/// The id of the entity's document.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.path(), self.name)
    }
}

/// The namespace that a request names, where it is the user's own.
///
/// # Errors
/// `Forbidden` for somebody else's; `resource` is what was asked for in it.
pub fn own_namespace(user: &Identity, given: &str, resource: &str) -> Result<EntityName, Refusal> {
    if given == "_" || given == user.namespace.name.as_str() {
        return Ok(user.namespace.name.clone());
    }
    check_length("Namespace", given)?;
    given
        .parse::<EntityName>()
        .map_err(|_| Refusal::bad_request("The namespace contains illegal characters."))?;
    let slash = if resource.is_empty() { "" } else { "/" };
    Err(Refusal::forbidden(format_args!("{given}{slash}{resource}")))
}

/// # Errors
/// `BadRequest` for a text that is no name.
pub fn entity_name(text: &str) -> Result<EntityName, Refusal> {
    check_length("Name segement", text)?;
    text.parse()
        .map_err(|_| Refusal::bad_request("The name of the entity contains illegal characters."))
}

fn check_length(what: &str, text: &str) -> Result<(), Refusal> {
    match text.encode_utf16().count() {
        0..=256 => Ok(()),
        length => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("{what} longer than allowed: {length} > 256."),
        )),
    }
}

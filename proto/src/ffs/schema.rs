//! JSON Schemas of our documents, for those who do not write Rust; published in `proto/schemas/`.

use super::{
    Document, annotation, assignment, build, control, dag, migs, profile, ranking, state, timing, weights,
};
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// Name of the file without `.json`, and the schema (draft 2020-12).
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("dag", document::<dag::DagDocument>()),
        ("profile", document::<profile::ProfileDocument>()),
        ("ranking", document::<ranking::RankingDocument>()),
        ("assignment", document::<assignment::AssignmentDocument>()),
        ("migs", document::<migs::MigsDocument>()),
        ("state", document::<state::StateDocument>()),
        ("annotation", of::<annotation::Annotation>()),
        ("control-lane", of::<control::LaneMessage>()),
        ("control-invoker", of::<control::InvokerMessage>()),
        ("weights-request", of::<weights::WeightsRequest>()),
        ("weights-answer", of::<weights::WeightsAnswer>()),
        ("build-request", of::<build::BuildRequest>()),
        ("profile-request", of::<build::ProfileRequest>()),
        ("profile-rows", of::<build::ProfileRows>()),
        ("timing", of::<timing::Timing>()),
        ("record-annotation", of::<timing::RecordAnnotation>()),
    ]
}

fn document<D: Document>() -> Schema {
    let mut schema = of::<D>();
    schema.insert("$id".to_owned(), D::NAME.into());
    schema
}

fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(AbsentIsNotNull);
    settings.into_generator().into_root_schema_for::<T>()
}

/// A member that may be absent need not be allowed to be null as well.
#[derive(Clone, Debug)]
struct AbsentIsNotNull;

impl Transform for AbsentIsNotNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let required = schema.get("required").cloned().unwrap_or_default();
        let is_required = |name: &str| {
            required
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one == name))
        };
        let Some(Value::Object(properties)) = schema.get_mut("properties") else {
            return;
        };
        for (name, property) in properties {
            if let Value::Object(property) = property
                && !is_required(name)
            {
                without_null(property);
            }
        }
    }
}

fn without_null(property: &mut serde_json::Map<String, Value>) {
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            property.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = property.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|one| one != "null"));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            property.shift_remove("anyOf");
            property.extend(only);
        }
    }
}

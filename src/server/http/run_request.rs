//! Requests that carry [`RunOptions`] and one key more: the body that starts a run (`dry_run`) and the query of a plan
//! (`show`). The options are read by their own type, so that a new option is accepted here without a change.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::query::Bounded;
use crate::sync::RunOptions;

/// The body of a request that starts a run.
pub(super) type StartRunRequest = OptionsWith<DryRunKey>;

/// The query of a plan.
pub(super) type PlanQuery = OptionsWith<ShowKey>;

/// How many changes of a plan are listed. With 0 there are only its counts.
pub(super) type ShownChanges = Bounded<0, 1_000, 20>;

/// A key that accompanies the options.
pub(super) trait ExtraKey {
    const NAME: &'static str;
    const DESCRIPTION: &'static str;
    /// Whether the request's keys come from a query, which has no lists.
    const IN_QUERY: bool;
    type Value: for<'de> Deserialize<'de> + JsonSchema;
}

/// `dry_run`.
pub(super) struct DryRunKey;

impl ExtraKey for DryRunKey {
    const NAME: &'static str = "dry_run";
    const DESCRIPTION: &'static str = "Only show what the run would do; nothing is written.";
    const IN_QUERY: bool = false;
    type Value = bool;
}

/// `show`.
pub(super) struct ShowKey;

impl ExtraKey for ShowKey {
    const NAME: &'static str = "show";
    const DESCRIPTION: &'static str = "How many changes to list.";
    const IN_QUERY: bool = true;
    type Value = ShownChanges;
}

/// The options of a run, and the value of the key beside them, if it is given.
pub(super) struct OptionsWith<K: ExtraKey> {
    pub(super) options: RunOptions,
    pub(super) extra: Option<K::Value>,
}

impl<K: ExtraKey> Default for OptionsWith<K> {
    fn default() -> Self {
        OptionsWith { options: RunOptions::default(), extra: None }
    }
}

impl<'de, K: ExtraKey> Deserialize<'de> for OptionsWith<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OptionsVisitor(PhantomData))
    }
}

struct OptionsVisitor<K>(PhantomData<K>);

impl<'de, K: ExtraKey> Visitor<'de> for OptionsVisitor<K> {
    type Value = OptionsWith<K>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the options of a run")
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<OptionsWith<K>, A::Error> {
        let mut extra = None;
        let without_extra: ExtraTaken<'_, A, K> = ExtraTaken { inner, extra: &mut extra };
        let options = RunOptions::deserialize(MapAccessDeserializer::new(without_extra))?;
        Ok(OptionsWith { options, extra })
    }
}

/// Takes the extra key out of a map; what is left are options.
struct ExtraTaken<'a, A, K: ExtraKey> {
    inner: A,
    extra: &'a mut Option<K::Value>,
}

impl<'de, A: MapAccess<'de>, K: ExtraKey> MapAccess<'de> for ExtraTaken<'_, A, K> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        while let Some(key) = self.inner.next_key::<String>()? {
            if key != K::NAME {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            if self.extra.replace(self.inner.next_value()?).is_some() {
                return Err(A::Error::duplicate_field(K::NAME));
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// Takes the list out of what may also be written as one value.
fn without_list(property: &mut serde_json::Value) {
    let Some(keys) = property.as_object_mut() else { return };
    if let Some(types) = keys.get_mut("type").and_then(serde_json::Value::as_array_mut) {
        types.retain(|of| of != "array");
    }
    for key in ["items", "minItems", "maxItems"] {
        keys.remove(key);
    }
}

impl<K: ExtraKey> JsonSchema for OptionsWith<K> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        if K::IN_QUERY { "PlanQuery" } else { "StartRunRequest" }.into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RunOptions::json_schema(generator);
        let mut extra = generator.subschema_for::<K::Value>();
        extra.insert("description".to_owned(), K::DESCRIPTION.into());
        if let Some(properties) = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
            if K::IN_QUERY {
                // A query has neither lists nor objects.
                let is_plain =
                    |property: &serde_json::Value| property["type"] != "array" && property["anyOf"].is_null();
                properties.retain(|_, property| is_plain(property));
                for property in properties.values_mut() {
                    without_list(property);
                }
            }
            properties.insert(K::NAME.to_owned(), extra.into());
        }
        schema
    }
}

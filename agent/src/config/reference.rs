//! What is made of the configuration's shape: its JSON Schema, and the table of its keys in the documentation.

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::Config;

/// The schema (JSON Schema 2020-12), for editors.
pub fn schema() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = false;
    let mut schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".to_owned(), "Wirespan's configuration file".into());
    }
    schema
}

/// Every key with what it means, as a table.
pub fn table() -> String {
    let schema = schema();
    let empty = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    let mut text = "| key | meaning |\n|---|---|\n".to_owned();
    rows(&schema, "", definitions, &mut text);
    text
}

/// Deeper than any key lies.
const DEPTH_LIMIT: usize = 12;

fn rows(schema: &Value, path: &str, definitions: &Map<String, Value>, text: &mut String) {
    if path.split('.').count() > DEPTH_LIMIT {
        return;
    }
    let schema = resolved(schema, definitions);
    // An enum's variants are keys of maps with one key each.
    for variant in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        rows(variant, path, definitions, text);
    }
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let meaning =
            inner.get("description").or_else(|| resolved(inner, definitions).get("description"));
        let meaning = meaning.and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        // Keys of `not` are those beside it.
        let beside = name == "not";
        // Writing to a string cannot fail.
        writeln!(text, "| `{key}` | {} |", meaning.replace('|', "\\|")).unwrap_or_default();
        let inner = some(inner, definitions);
        if beside {
            continue;
        }
        match inner.get("items") {
            Some(items) => rows(items, &format!("{key}[]"), definitions, text),
            None => rows(inner, &key, definitions, text),
        }
    }
}

/// What an optional key is if it is there.
fn some<'a>(schema: &'a Value, definitions: &'a Map<String, Value>) -> &'a Value {
    let schema = resolved(schema, definitions);
    let choices = schema.get("anyOf").and_then(Value::as_array);
    let null = |choice: &&Value| choice.get("type").and_then(Value::as_str) == Some("null");
    match choices {
        Some(choices) if choices.iter().any(|choice| null(&choice)) => {
            let found = choices.iter().find(|choice| !null(choice));
            found.map_or(schema, |choice| resolved(choice, definitions))
        }
        _ => schema,
    }
}

fn resolved<'a>(schema: &'a Value, definitions: &'a Map<String, Value>) -> &'a Value {
    let mut found = schema;
    for _ in 0..DEPTH_LIMIT {
        let name = found.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|name| name.strip_prefix("#/$defs/"));
        match name.and_then(|name| definitions.get(name)) {
            Some(definition) => found = definition,
            None => break,
        }
    }
    found
}

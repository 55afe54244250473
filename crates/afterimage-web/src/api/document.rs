//! What the API is: the OpenAPI document, and a page to try it on.

use askama::Template;
use axum::response::Response;
use serde_json::Value as Json;

use super::answer;
use crate::address::encoded;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::page::{self, Shell};

/// The document, but for where it is served.
const DOCUMENT: &str = include_str!("openapi.json");

fn document(base: &str) -> Json {
    let mut document: Json = serde_json::from_str(DOCUMENT).unwrap_or_default();
    document["servers"] = serde_json::json!([{ "url": if base.is_empty() { "/" } else { base } }]);
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document
}

pub(crate) async fn openapi(asked: Asked) -> Result<Response, Failure> {
    answer(&asked, &document(&asked.links.base))
}

struct Parameter {
    name: String,
    said: String,
    required: bool,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    parameters: Vec<Parameter>,
    /// Whether it can be tried from a page: what only reads.
    tries: bool,
}

#[derive(Template)]
#[template(path = "explorer.html")]
struct Explorer {
    shell: Shell,
    here: String,
    operations: Vec<Operation>,
}

/// Each operation, with a form that leads to its answer.
pub(crate) async fn explorer(asked: Asked) -> Result<Response, Failure> {
    let operations = operations(&document(&asked.links.base));
    if let Some(id) = asked.parameters.first("operation") {
        let operation = operations.iter().find(|operation| operation.id == id && operation.tries);
        let operation = operation.ok_or_else(|| Failure::missing("There is no such operation."))?;
        return Ok(page::see_other(&asked.links.to(&address(&asked, operation))));
    }
    page::html(&Explorer { here: asked.links.to("/api"), shell: Shell::new(&asked, "", "API"), operations })
}

/// The address of an operation with the parameters that were filled in.
fn address(asked: &Asked, operation: &Operation) -> String {
    let mut path = operation.path.clone();
    let mut query = Vec::new();
    for parameter in &operation.parameters {
        let place = format!("{{{}}}", parameter.name);
        let value = asked.parameters.first(&parameter.name).unwrap_or_default();
        if path.contains(&place) {
            path = path.replace(&place, &encoded(value));
        } else if !value.is_empty() {
            query.push(format!("{}={}", encoded(&parameter.name), encoded(value)));
        }
    }
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

fn operations(document: &Json) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let text = |of: &Json| of.as_str().unwrap_or_default().to_owned();
            let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| {
                let parameter = resolved(document, parameter);
                Parameter {
                    name: text(&parameter["name"]),
                    said: text(&parameter["description"]),
                    required: parameter["required"].as_bool().unwrap_or(false),
                }
            });
            operations.push(Operation {
                id: text(&operation["operationId"]),
                method: method.to_ascii_uppercase(),
                path: path.clone(),
                summary: text(&operation["summary"]),
                parameters: parameters.collect(),
                tries: method == "get",
            });
        }
    }
    operations
}

/// What a reference refers to.
fn resolved<'d>(document: &'d Json, value: &'d Json) -> &'d Json {
    match value["$ref"].as_str().and_then(|reference| document.pointer(reference.trim_start_matches('#'))) {
        Some(target) => target,
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{Answer, ROUTES};

    #[test]
    fn every_address_that_answers_in_json_is_described_and_no_other() {
        let mut described: Vec<String> =
            operations(&document("")).iter().map(|o| format!("{} {}", o.method, o.path)).collect();
        let json = ROUTES.iter().filter(|route| route.answer == Answer::Json);
        let mut there: Vec<String> = json.map(|route| format!("{} {}", route.method, route.path)).collect();
        described.sort();
        there.sort();
        assert_eq!(described, there);
    }

    #[test]
    fn every_parameter_of_a_path_is_described() {
        let document = document("");
        for operation in operations(&document) {
            for part in operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            {
                let described = operation.parameters.iter().any(|p| p.name == part && p.required);
                assert!(described, "{} {part}", operation.path);
            }
        }
    }
}

//! Pods and namespaces: get and list, as objects or as a table.

use super::{
    accept::{Representation, representation},
    answer::{Refusal, json as answer_json},
    gate::{Caller, Look, Named, PodPlace},
    object,
    query::Query,
    recheck::Question,
    selector::Selector,
    table::{self, RowObject},
    watch,
};
use crate::pod::PodSnapshot;
use axum::{
    extract::{Path, rejection::PathRejection},
    response::Response,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Uri};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use wsstream::{proto::status::Status, remotecommand::Spelling};

/// Path parameters that are not UTF-8 get our kind of answer, not axum's.
pub(crate) type Names<T> = Result<Path<T>, PathRejection>;

pub(crate) fn names<T>(path: Names<T>) -> Result<T, Refusal> {
    path.map(|Path(names)| names).map_err(|error| Refusal::bad_request(error.to_string()))
}

pub(crate) async fn list_all(caller: Caller, uri: Uri, headers: HeaderMap) -> Result<Response, Refusal> {
    list(&caller, None, &uri, &headers).await
}

pub(crate) async fn list_namespaced(
    caller: Caller,
    path: Names<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // A namespace without pods is an empty list, as upstream has it, whether or not it exists.
    list(&caller, Some(&names(path)?), &uri, &headers).await
}

async fn list(
    caller: &Caller,
    namespace: Option<&str>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let query = Query::of(uri);
    let representation = representation(headers)?;
    let selector = Selector::parse(namespace, &query)?;
    let watch = query.flag("watch");
    let verb = if watch { "watch" } else { "list" };
    let name = selector.only_name().unwrap_or_default();
    let api = caller.collection(verb, "pods", namespace.unwrap_or_default(), name).await?;
    if watch {
        let question = Question {
            verb,
            subresource: "",
            namespace: namespace.unwrap_or_default().to_owned(),
            name: name.to_owned(),
            container: String::new(),
        };
        let place = api.sessions().stream(Some(caller.identity().clone()), question)?;
        return watch::start(api, place, selector, &query, representation);
    }
    let (all, version) = api.pods().list();
    let mut selected: Vec<_> = all.into_iter().filter(|pod| selector.matches(pod)).collect();
    if let Some(token) = query.text("continue") {
        let after = Position::decode(token)?;
        selected.retain(|pod| Position::of(pod) > after);
    }
    let mut metadata = Map::from_iter([("resourceVersion".to_owned(), json!(version.to_string()))]);
    if let Some(limit) = query.number("limit")?.filter(|limit| *limit > 0) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let remaining = selected.len().saturating_sub(limit);
        selected.truncate(limit);
        if let (Some(last), true) = (selected.last(), remaining > 0) {
            metadata.insert("continue".to_owned(), json!(Position::of(last).encode()));
            metadata.insert("remainingItemCount".to_owned(), json!(remaining));
        }
    }
    let metadata = Value::Object(metadata);
    Ok(answer_json(&match representation {
        Representation::Object => {
            let items: Vec<_> = selected.iter().map(|pod| object::pod(pod)).collect();
            json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items})
        }
        Representation::Table(form) => {
            let (now, with) = (Timestamp::now(), RowObject::parse(query.text("includeObject")));
            let rows: Vec<_> = selected.iter().map(|pod| table::pod_row(pod, now, form, with)).collect();
            table::table(form, &metadata, &table::pod_columns(), &rows)
        }
    }))
}

pub(crate) async fn get(
    caller: Caller,
    path: Names<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (namespace, pod) = names(path)?;
    let (namespace, pod) = (namespace.as_str(), pod.as_str());
    let named = Named { namespace, pod, uid: None, container: None, spelling: Spelling::ApiServer };
    let PodPlace { snapshot: pod, .. } = caller.pod::<Look>(named).await?;
    Ok(answer_json(&match representation(&headers)? {
        Representation::Object => object::pod(&pod),
        Representation::Table(form) => {
            let with = RowObject::parse(Query::of(&uri).text("includeObject"));
            let metadata = json!({"resourceVersion": pod.resource_version.to_string()});
            let row = table::pod_row(&pod, Timestamp::now(), form, with);
            table::table(form, &metadata, &table::pod_columns(), &[row])
        }
    }))
}

pub(crate) async fn list_namespaces(
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let api = caller.collection("list", "namespaces", "", "").await?;
    let all: Vec<_> = api.pods().namespaces().into_iter().collect();
    let (_, version) = api.pods().list();
    namespaces(&all, version, true, &uri, &headers)
}

pub(crate) async fn get_namespace(
    caller: Caller,
    path: Names<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = names(path)?;
    // Upstream has a namespace lie in itself.
    let api = caller.collection("get", "namespaces", &name, &name).await?;
    let found = api.pods().namespaces().remove_entry(&name);
    let found = found.ok_or_else(|| Status::not_found("namespaces", &name))?;
    let (_, version) = api.pods().list();
    namespaces(&[found], version, false, &uri, &headers)
}

fn namespaces(
    all: &[(String, Option<Timestamp>)],
    version: u64,
    list: bool,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let query = Query::of(uri);
    if list && query.flag("watch") {
        return Err(Status::method_not_allowed("watch is not supported on namespaces").into());
    }
    let metadata = json!({"resourceVersion": version.to_string()});
    Ok(answer_json(&match representation(headers)? {
        Representation::Object => {
            let mut items = all.iter().map(|(name, created)| object::namespace(name, *created));
            if list {
                let items: Vec<_> = items.collect();
                json!({"kind": "NamespaceList", "apiVersion": "v1", "metadata": metadata, "items": items})
            } else {
                items.next().unwrap_or_default()
            }
        }
        Representation::Table(form) => {
            let (now, with) = (Timestamp::now(), RowObject::parse(query.text("includeObject")));
            let row = |(name, created): &(String, _)| table::namespace_row(name, *created, now, form, with);
            let rows: Vec<_> = all.iter().map(row).collect();
            table::table(form, &metadata, &table::namespace_columns(), &rows)
        }
    }))
}

/// Where a list goes on: after this pod, in the order of namespace and name. Unlike upstream's, a continued list shows
/// the pods as they are when it is continued; nothing expires.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    namespace: String,
    name: String,
}

impl Position {
    fn of(pod: &Arc<PodSnapshot>) -> Self {
        Self { namespace: pod.namespace.clone(), name: pod.name.clone() }
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}/{}", self.namespace, self.name))
    }

    fn decode(token: &str) -> Result<Self, Refusal> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let found = text.as_deref().and_then(|text| text.split_once('/'));
        let (namespace, name) = found.ok_or_else(|| Refusal::bad_request("continue key is not valid"))?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

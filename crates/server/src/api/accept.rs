//! What representation the client asks for. kubectl prints what a server-side `Table` says; others want the objects.

use super::answer::Refusal;
use http::{HeaderMap, header::ACCEPT};
use wsstream::proto::status::Status;

/// How to render an object or a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Representation {
    /// As itself, in JSON.
    Object,
    /// As a `Table` of `meta.k8s.io` in this version.
    Table(TableVersion),
}

/// The two versions of `meta.k8s.io` that clients ask for; they differ in name only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableVersion {
    V1,
    V1Beta1,
}

impl TableVersion {
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// The first of the client's media ranges that we can produce.
pub(crate) fn representation(headers: &HeaderMap) -> Result<Representation, Refusal> {
    let mut asked = false;
    for value in headers.get_all(ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            asked = true;
            if let Some(found) = range_representation(range) {
                return Ok(found);
            }
        }
    }
    if asked {
        let accepted =
            "only the following media types are accepted: application/json, application/json;as=Table";
        return Err(Status::not_acceptable(accepted).into());
    }
    Ok(Representation::Object)
}

fn range_representation(range: &str) -> Option<Representation> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    if !matches!(media_type.as_str(), "application/json" | "application/*" | "*/*") {
        return None;
    }
    let (mut kind, mut group, mut version) = (None, None, None);
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key.trim() {
            "as" => kind = Some(value.trim()),
            "g" => group = Some(value.trim()),
            "v" => version = Some(value.trim()),
            // `q` and `stream=watch`: we take the client's order, and a watch streams whatever it is called.
            _ => {}
        }
    }
    match (kind, group, version) {
        (None, ..) => Some(Representation::Object),
        (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(Representation::Table(TableVersion::V1)),
        (Some("Table"), Some("meta.k8s.io"), Some("v1beta1")) => {
            Some(Representation::Table(TableVersion::V1Beta1))
        }
        // `as=APIGroupDiscoveryList`, `as=PartialObjectMetadata`: the plain type follows in the client's list.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &[&str]) -> Option<Representation> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        representation(&headers).ok()
    }

    #[test]
    fn the_first_range_that_we_can_produce_wins() {
        use Representation::{Object, Table};
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let discovery =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        for (accept, expected) in [
            (&[][..], Some(Object)),
            (&[""], Some(Object)),
            (&["*/*"], Some(Object)),
            (&["application/json"], Some(Object)),
            (&["Application/JSON; q=0.9"], Some(Object)),
            (&["application/json;stream=watch"], Some(Object)),
            (&[kubectl], Some(Table(TableVersion::V1))),
            (&["application/json;as=Table;g=meta.k8s.io;v=v1beta1"], Some(Table(TableVersion::V1Beta1))),
            (&["application/vnd.kubernetes.protobuf, application/json"], Some(Object)),
            (&["application/vnd.kubernetes.protobuf", "application/json"], Some(Object)),
            (&[discovery], Some(Object)),
            (&["application/vnd.kubernetes.protobuf"], None),
            (&["application/json;as=Table;g=other;v=v1"], None),
            (&["text/html"], None),
        ] {
            assert_eq!(of(accept), expected, "{accept:?}");
        }
    }
}

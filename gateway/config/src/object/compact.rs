//! Saves memory on objects that come by the thousand. Once they were checked, only discovery plugins look at what they say of endpoints, and these are
//! given JSON.

use std::sync::Arc;

use super::{Body, Object};

/// The label of EndpointSlices that names their Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl Object {
    /// The same object in less memory. Its content is kept as text. Of an EndpointSlice only the Service that it names is kept typed. Of an EndpointSlice and
    /// a Pod no place is kept but that of the name.
    #[must_use]
    pub fn compact(mut self) -> Self {
        self.value.compact();
        match &mut self.body {
            Body::EndpointSlice(slice) => {
                let service = slice.metadata.labels.as_mut().and_then(|labels| labels.remove(SERVICE_NAME));
                self.body = Body::CheckedSlice(service.map(Into::into));
            }
            Body::Pod(_) => {}
            _ => return self,
        }
        self.origin = Arc::new(self.origin.compact());
        self
    }

    /// The whole object as JSON.
    pub fn json(&self) -> Arc<str> {
        self.value.json()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::{manifest, object};

    #[test]
    fn a_compact_slice_says_what_it_said() {
        let text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e, labels: {a: \"b\\\"\"}}\naddressType: IPv4\nports: []\nendpoints:\n- {addresses: [10.0.0.1], conditions: {ready: true}}\n- {addresses: [10.0.0.2]}\n";
        let read = || object::decode(manifest::parse(Path::new("e.yaml"), text).documents.remove(0)).0.expect("an object");
        let (whole, compact) = (read(), read().compact());
        let said = |object: &Object| serde_json::from_str::<Value>(&object.json()).expect("JSON");
        assert_eq!((said(&compact), said(&whole)), (Value::clone(&whole.value.tree()), Value::clone(&compact.value.tree())));
        assert!(whole.value == compact.value && said(&whole) == said(&compact));
        assert_eq!(compact.origin.place("metadata.name"), whole.origin.place("metadata.name"));
    }
}

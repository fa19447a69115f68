//! Label selectors of our specs: all labels must be there.

use std::collections::BTreeMap;

use kube::Resource;

/// Whether an object has all labels of a selector.
pub fn selects(selector: &BTreeMap<String, String>, object: &impl Resource) -> bool {
    let labels = object.meta().labels.as_ref();
    selector
        .iter()
        .all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

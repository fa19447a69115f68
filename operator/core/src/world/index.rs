//! Objects of one kind by namespace and name.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kube::{Resource, ResourceExt};

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Id {
    /// An id.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The id of an object.
    pub fn of(object: &impl Resource) -> Self {
        Self::new(
            object.meta().namespace.clone().unwrap_or_default(),
            object.meta().name.clone().unwrap_or_default(),
        )
    }
}

/// Namespace and name, owned or not: an object is found without an [`Id`] being made first.
trait Named {
    fn named(&self) -> (&str, &str);
}

impl Named for Id {
    fn named(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl Named for (&str, &str) {
    fn named(&self) -> (&str, &str) {
        *self
    }
}

impl<'a> Borrow<dyn Named + 'a> for Id {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

// The same order as that of `Id`: by namespace, then by name.
impl Ord for dyn Named + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((namespace, name), (others_namespace, others_name)) = (self.named(), other.named());
        namespace
            .cmp(others_namespace)
            .then_with(|| name.cmp(others_name))
    }
}

impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.named() == other.named()
    }
}

impl Eq for dyn Named + '_ {}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// All objects of one kind.
#[derive(Clone, Debug)]
pub struct Index<T> {
    objects: BTreeMap<Id, T>,
    /// Versions of objects that were deleted, so that a late event does not bring them back.
    buried: BTreeMap<Id, String>,
    /// What changed since somebody asked.
    changed: BTreeSet<Id>,
    /// How often anything changed.
    version: u64,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            buried: BTreeMap::new(),
            changed: BTreeSet::new(),
            version: 0,
        }
    }
}

impl<T: Resource + ResourceExt> Index<T> {
    /// Takes an object in, unless a newer version of it is known. Returns whether anything changed.
    pub fn apply(&mut self, object: T) -> bool {
        let id = Id::of(&object);
        let same_or_newer =
            |known: &T| known.uid() == object.uid() && version(known) >= version(&object);
        if self.objects.get(&id).is_some_and(same_or_newer) {
            return false;
        }
        if let Some(uid) = object.uid()
            && self.buried.get(&id) == Some(&uid)
        {
            return false;
        }
        self.buried.remove(&id);
        self.note(&id);
        self.objects.insert(id, object);
        true
    }

    /// Forgets an object that is gone. A younger object of the same name stays.
    pub fn delete(&mut self, object: &T) -> bool {
        self.bury(&Id::of(object), object.uid().as_deref())
    }

    /// Forgets the object of this name and uid.
    pub fn bury(&mut self, id: &Id, uid: Option<&str>) -> bool {
        if self
            .objects
            .get(id)
            .is_some_and(|known| known.uid().as_deref() != uid)
        {
            return false;
        }
        if let Some(uid) = uid {
            self.buried.insert(id.clone(), uid.to_owned());
        }
        self.note(id);
        self.objects.remove(id).is_some()
    }

    /// Forgets whatever is not in `present`: the listing that a watch started with.
    pub fn retain(&mut self, present: &BTreeSet<Id>) -> bool {
        let gone: Vec<Id> = self
            .objects
            .keys()
            .filter(|id| !present.contains(*id))
            .cloned()
            .collect();
        for id in &gone {
            self.note(id);
            self.objects.remove(id);
        }
        self.buried.clear();
        !gone.is_empty()
    }
}

impl<T> Index<T> {
    fn note(&mut self, id: &Id) {
        self.changed.insert(id.clone());
        self.version += 1;
    }

    /// What changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<Id> {
        std::mem::take(&mut self.changed)
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One object.
    pub fn get(&self, id: &Id) -> Option<&T> {
        self.objects.get(id)
    }

    /// The object of this namespace and name, with its id.
    pub fn find(&self, namespace: &str, name: &str) -> Option<(&Id, &T)> {
        let key: &dyn Named = &(namespace, name);
        self.objects.get_key_value(key)
    }

    /// All objects, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &T)> {
        self.objects.iter()
    }

    /// The objects of one namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Id, &'a T)> {
        self.objects
            .range(Id::new(namespace, "")..)
            .take_while(move |(id, _)| id.namespace == namespace)
    }

    /// The objects of one namespace whose names begin with `prefix`.
    pub fn with_prefix<'a, 'b>(
        &'a self,
        namespace: &'b str,
        prefix: &'b str,
    ) -> impl Iterator<Item = (&'a Id, &'a T)> {
        self.objects
            .range(Id::new(namespace, prefix)..)
            .take_while(move |(id, _)| id.namespace == namespace && id.name.starts_with(prefix))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

/// Resource versions are comparable numbers since Kubernetes 1.35, and were in practice before.
fn version(object: &impl ResourceExt) -> u64 {
    object
        .resource_version()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;

    use super::*;

    fn node(uid: &str, version: &str) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some("a".into());
        node.metadata.uid = Some(uid.into());
        node.metadata.resource_version = Some(version.into());
        node
    }

    #[test]
    fn an_object_is_found_by_its_namespace_and_name_alone() {
        let mut index = Index::default();
        for (namespace, name) in [("a", "b"), ("a", "c"), ("ab", "a"), ("", "ab")] {
            let mut one = node("u", "1");
            one.metadata.namespace = Some(namespace.into());
            one.metadata.name = Some(name.into());
            index.apply(one);
        }
        for (id, _) in index.iter() {
            let found = index.find(&id.namespace, &id.name).map(|(id, _)| id);
            assert_eq!(found, Some(id));
        }
        assert!(index.find("a", "a").is_none());
        assert!(index.find("", "b").is_none());
    }

    #[test]
    fn an_older_version_never_replaces_a_newer_one() {
        let mut index = Index::default();
        assert!(index.apply(node("u", "10")));
        assert!(!index.apply(node("u", "9")));
        assert!(!index.apply(node("u", "10")));
        assert!(index.apply(node("u", "11")));
    }

    #[test]
    fn a_late_event_does_not_bring_a_deleted_object_back() {
        let mut index = Index::default();
        index.apply(node("u", "10"));
        assert!(index.delete(&node("u", "11")));
        assert!(!index.apply(node("u", "10")));
        assert!(index.apply(node("v", "12")));
        assert!(!index.delete(&node("u", "13")));
        assert_eq!(index.len(), 1);
    }
}

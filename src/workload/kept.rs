//! Objects that run nothing themselves and that orund keeps for those that do: ConfigMaps, Secrets, claims and Services.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

use super::document::Document;
use super::model::Metadata;
use super::scalar;

/// The kinds of kept objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeptKind {
    /// Text by key.
    ConfigMap,
    /// A directory that outlives containers.
    PersistentVolumeClaim,
    /// Secret text by key.
    Secret,
    /// An address and ports for pods.
    Service,
}

impl KeptKind {
    /// All of them.
    pub const ALL: [KeptKind; 4] =
        [KeptKind::ConfigMap, KeptKind::PersistentVolumeClaim, KeptKind::Secret, KeptKind::Service];

    /// As a file calls it: `ConfigMap`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KeptKind::ConfigMap => "ConfigMap",
            KeptKind::PersistentVolumeClaim => "PersistentVolumeClaim",
            KeptKind::Secret => "Secret",
            KeptKind::Service => "Service",
        }
    }

    /// The kind that a file calls `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<KeptKind> {
        KeptKind::ALL.into_iter().find(|k| k.name() == name)
    }

    /// As paths and command lines call it: `configmap`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            KeptKind::ConfigMap => "configmap",
            KeptKind::PersistentVolumeClaim => "persistentvolumeclaim",
            KeptKind::Secret => "secret",
            KeptKind::Service => "service",
        }
    }

    /// The kind that `word` stands for, in any case, in the plural, or as kubectl abbreviates it.
    #[must_use]
    pub fn from_word(word: &str) -> Option<KeptKind> {
        let word = word.to_lowercase();
        match word.as_str() {
            "cm" => Some(KeptKind::ConfigMap),
            "pvc" => Some(KeptKind::PersistentVolumeClaim),
            "svc" => Some(KeptKind::Service),
            other => {
                let is = |k: &KeptKind| other == k.word() || other.strip_suffix('s') == Some(k.word());
                KeptKind::ALL.into_iter().find(is)
            }
        }
    }
}

/// One of them, as its owner wrote it; what a Secret has in `stringData` is in `data`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptObject {
    /// As it was written: `v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: KeptKind,
    /// Name, labels and annotations.
    pub metadata: Metadata,
    /// `data`, `spec` and the others.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl fmt::Debug for KeptObject {
    /// Without what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.data().into_keys().collect();
        write!(f, "{} {:?} {keys:?}", self.kind.name(), self.metadata.name)
    }
}

impl KeptObject {
    /// The object of a checked document; None for another kind.
    pub fn new(d: &Document<'_>) -> Option<KeptObject> {
        let kind = KeptKind::from_name(d.kind)?;
        let mut fields = d.value.clone();
        for gone in ["apiVersion", "kind", "metadata", "status"] {
            fields.remove(gone);
        }
        let plain = fields.remove("stringData").filter(|_| kind == KeptKind::Secret);
        if let Some(plain) = plain.as_ref().and_then(Value::as_object).filter(|p| !p.is_empty()) {
            let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
            if !data.is_object() {
                *data = Value::Object(Map::new());
            }
            let encoded = plain.iter().filter_map(|(k, v)| {
                Some((k.clone(), Value::from(scalar::to_base64(v.as_str()?.as_bytes()))))
            });
            if let Some(data) = data.as_object_mut() {
                data.extend(encoded);
            }
        }
        let metadata = super::document::metadata(d);
        Some(KeptObject { api_version: "v1".to_owned(), kind, metadata, fields })
    }

    /// The bytes by key of a ConfigMap or a Secret.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, Vec<u8>> {
        let of = |name: &str| self.fields.get(name).and_then(Value::as_object).into_iter().flatten();
        let encoded = |(k, v): (&String, &Value)| Some((k.clone(), scalar::base64(v.as_str()?)?));
        let plain = |(k, v): (&String, &Value)| Some((k.clone(), v.as_str()?.as_bytes().to_vec()));
        match self.kind {
            KeptKind::Secret => of("data").filter_map(encoded).collect(),
            KeptKind::ConfigMap => {
                of("binaryData").filter_map(encoded).chain(of("data").filter_map(plain)).collect()
            }
            KeptKind::PersistentVolumeClaim | KeptKind::Service => BTreeMap::new(),
        }
    }

    /// Its content must not change.
    #[must_use]
    pub fn is_immutable(&self) -> bool {
        self.fields.get("immutable") == Some(&Value::Bool(true))
    }

    /// A text of `spec`, or of the object itself.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let own = self.fields.get(name).and_then(Value::as_str);
        own.or_else(|| self.fields.get("spec")?.get(name)?.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Object, read};

    fn kept(text: &str) -> KeptObject {
        match read("f", text, None).objects.remove(0) {
            Object::Kept(object) => object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kept_objects_read_back_as_they_are_sent() {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, labels: {a: b}}\ntype: Opaque\ndata: {a: aGlkZGVu, b: eA==}\nstringData: {b: plain}\n";
        let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: d}\nspec: {accessModes: [ReadWriteOnce]}\nstatus: {x: 1}\n";
        for text in [secret, claim] {
            let object = kept(text);
            let sent = serde_json::to_string(&object).unwrap();
            assert_eq!(kept(&sent), object, "{sent}");
            assert_eq!(serde_json::from_str::<KeptObject>(&sent).unwrap(), object);
        }
        let object = kept(secret);
        assert_eq!(object.data()["a"], b"hidden");
        assert_eq!(object.data()["b"], b"plain", "stringData goes before data");
        assert_eq!((object.text("type"), kept(claim).fields.get("status")), (Some("Opaque"), None));
        assert_eq!(format!("{object:?}"), "Secret \"s\" [\"a\", \"b\"]");
    }

    #[test]
    fn kinds_have_the_names_of_kubectl() {
        for (word, kind) in [
            ("cm", KeptKind::ConfigMap),
            ("ConfigMap", KeptKind::ConfigMap),
            ("secrets", KeptKind::Secret),
            ("pvc", KeptKind::PersistentVolumeClaim),
            ("services", KeptKind::Service),
        ] {
            assert_eq!(KeptKind::from_word(word), Some(kind), "{word}");
        }
        assert_eq!(KeptKind::from_word("pods"), None);
    }
}

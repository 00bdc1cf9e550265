//! The ConfigMaps and Secrets that the containers of a workload are made from.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::kept::KeptKind;
use super::model::{Container, EnvSource, Spec};
use super::pod::{ConfigMapVolume, ConfigRef, KeyToPath, Volume};

/// One object, and what of it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    pub kind: KeptKind,
    pub name: String,
    /// Nobody needs it to exist.
    #[serde(default)]
    pub optional: bool,
    /// Keys that must exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

impl Input {
    /// Why `data`, the object's, is not enough, in kubectl's words. `None`: it is enough. `data` is `None` for a missing object.
    #[must_use]
    pub fn lack(&self, data: Option<&BTreeMap<String, Vec<u8>>>) -> Option<String> {
        let Some(data) = data else {
            return (!self.optional).then(|| format!("{} {:?} not found", self.kind.word(), self.name));
        };
        let key = self.keys.iter().find(|key| !data.contains_key(*key))?;
        Some(format!("couldn't find key {key} in {} default/{}", self.kind.name(), self.name))
    }
}

/// The inputs of `spec`, by kind and name.
#[must_use]
pub fn inputs(spec: &Spec) -> Vec<Input> {
    let mut found = Found::default();
    for c in spec.all_containers() {
        found.container(c);
    }
    spec.volumes.iter().for_each(|v| found.volume(v));
    let input = |((kind, name), (optional, mut keys)): ((KeptKind, String), (bool, Vec<String>))| {
        keys.sort();
        keys.dedup();
        Input { kind, name, optional, keys }
    };
    found.0.into_iter().map(input).collect()
}

/// Whether it is optional, and the keys.
#[derive(Default)]
struct Found(BTreeMap<(KeptKind, String), (bool, Vec<String>)>);

impl Found {
    fn add<'k>(
        &mut self,
        kind: KeptKind,
        name: &str,
        optional: bool,
        keys: impl IntoIterator<Item = &'k String>,
    ) {
        let entry = self.0.entry((kind, name.to_owned())).or_insert((true, Vec::new()));
        entry.0 &= optional;
        if !optional {
            entry.1.extend(keys.into_iter().cloned());
        }
    }

    fn container(&mut self, c: &Container) {
        let mut of = |kind, r: &ConfigRef| self.add(kind, &r.name, r.optional, &r.key);
        for from in &c.env_from {
            from.config_map_ref.iter().for_each(|r| of(KeptKind::ConfigMap, r));
            from.secret_ref.iter().for_each(|r| of(KeptKind::Secret, r));
        }
        for source in c.env.iter().filter_map(|e| e.value_from.as_ref()) {
            match source {
                EnvSource::ConfigMapKeyRef(r) => of(KeptKind::ConfigMap, r),
                EnvSource::SecretKeyRef(r) => of(KeptKind::Secret, r),
                EnvSource::FieldRef(_) | EnvSource::ResourceFieldRef(_) => {}
            }
        }
    }

    fn volume(&mut self, v: &Volume) {
        let keys = |items: &[KeyToPath]| items.iter().map(|i| i.key.clone()).collect::<Vec<_>>();
        let mut of = |kind, v: &ConfigMapVolume| self.add(kind, &v.name, v.optional, &keys(&v.items));
        v.config_map.iter().for_each(|v| of(KeptKind::ConfigMap, v));
        for source in v.projected.iter().flat_map(|p| &p.sources) {
            source.config_map.iter().for_each(|v| of(KeptKind::ConfigMap, v));
            source.secret.iter().for_each(|v| of(KeptKind::Secret, v));
        }
        if let Some(v) = &v.secret {
            self.add(KeptKind::Secret, &v.secret_name, v.optional, &keys(&v.items));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::read;

    #[test]
    fn what_one_reference_needs_is_needed() {
        let text = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  volumes:
  - {name: a, configMap: {name: c, optional: true, items: [{key: maybe, path: x}]}}
  - {name: b, secret: {secretName: s, items: [{key: tls, path: y}]}}
  - {name: d, projected: {sources: [{configMap: {name: extra, optional: true}}]}}
  initContainers:
  - {name: first, image: 'bundle:/b', env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: k}}}]}
  containers:
  - {name: main, image: 'bundle:/b', envFrom: [{secretRef: {name: s}}]}
";
        let w = read("f", text, None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
        let input = |kind, name: &str, optional, keys: &[&str]| Input {
            kind,
            name: name.to_owned(),
            optional,
            keys: keys.iter().map(|k| (*k).to_owned()).collect(),
        };
        let found = inputs(&w.spec);
        let expected = [
            input(KeptKind::ConfigMap, "c", false, &["k"]),
            input(KeptKind::ConfigMap, "extra", true, &[]),
            input(KeptKind::Secret, "s", false, &["tls"]),
        ];
        assert_eq!(found, expected);
        let data = BTreeMap::from([("other".to_owned(), Vec::new())]);
        assert_eq!(found[0].lack(None).unwrap(), "configmap \"c\" not found");
        assert_eq!(found[0].lack(Some(&data)).unwrap(), "couldn't find key k in ConfigMap default/c");
        assert_eq!((found[1].lack(None), found[1].lack(Some(&data))), (None, None));
    }
}

//! Kept objects: what is desired besides the workloads.

use super::refusal::Refusal;
use super::revision::Stamp;
use super::spec::{Pinned, PodTemplate};
use crate::workload::environment;
use crate::workload::inputs::Input;
use crate::workload::kept::{KeptKind, KeptObject};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// All kept objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Objects {
    kinds: BTreeMap<KeptKind, BTreeMap<String, StoredObject>>,
    /// The last identity given out.
    last: u64,
    /// Previous data of changed or deleted objects that a revision uses. By [`digest`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    past: BTreeMap<String, KeptObject>,
}

/// A short text that differs when kind, name or data of an object do: FNV-1a, 128 bits.
#[must_use]
pub fn digest(object: &KeptObject) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut field = |bytes: &[u8]| {
        // The length keeps neighbours apart.
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    };
    field(object.kind.name().as_bytes());
    field(object.metadata.name.as_bytes());
    for (key, value) in object.data() {
        field(key.as_bytes());
        field(&value);
    }
    format!("{hash:032x}")
}

/// One object, and what is known of it besides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredObject {
    pub object: KeptObject,
    /// Never used twice among kept objects: one that was deleted and applied again has a new one.
    pub uid: u64,
    /// Counts the changes that its owner made.
    pub generation: u64,
    /// When and why it was created.
    pub created: Stamp,
}

impl Objects {
    /// Whether there has never been one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last == 0
    }

    /// All of them, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = &StoredObject> {
        self.kinds.values().flat_map(BTreeMap::values)
    }

    #[must_use]
    pub fn get(&self, kind: KeptKind, name: &str) -> Option<&StoredObject> {
        self.kinds.get(&kind)?.get(name)
    }

    /// Whether `object` may take the place of the one of its name.
    pub(super) fn check_keep(&self, object: &KeptObject) -> Result<(), Refusal> {
        let Some(known) = self.get(object.kind, &object.metadata.name) else { return Ok(()) };
        let same = known.object.data() == object.data() && object.is_immutable();
        if known.object.is_immutable() && !same {
            let (kind, name) = (object.kind, object.metadata.name.clone());
            return Err(Refusal::Immutable { what: format!("{} {name:?}", kind.name()) });
        }
        Ok(())
    }

    pub(super) fn check_discard(&self, kind: KeptKind, name: &str) -> Result<(), Refusal> {
        self.get(kind, name).map(drop).ok_or(Refusal::NotFound)
    }

    /// The inputs of a revision: the data of its objects when it was created.
    #[must_use]
    pub fn inputs_of(&self, template: &PodTemplate) -> environment::Objects {
        let one = |pinned: &Pinned| {
            let Input { kind, name, .. } = &pinned.input;
            let digest = pinned.digest.as_deref()?;
            let current = self.get(*kind, name).map(|e| &e.object).filter(|o| self::digest(o) == digest);
            let object = current.or_else(|| self.past.get(digest))?;
            Some(((*kind == KeptKind::Secret, name.clone()), object.data()))
        };
        template.inputs.iter().filter_map(one).collect()
    }

    /// Gives a template the digests of its inputs as they are now.
    pub(super) fn pin(&self, template: &mut PodTemplate) {
        for pinned in &mut template.inputs {
            let object = self.get(pinned.input.kind, &pinned.input.name).map(|e| &e.object);
            pinned.digest = object.map(digest);
            pinned.lack = pinned.input.lack(object.map(KeptObject::data).as_ref());
        }
    }

    /// Whether a template is made from what its inputs hold now.
    #[must_use]
    pub fn is_current(&self, template: &PodTemplate) -> bool {
        let mut now = template.clone();
        self.pin(&mut now);
        now.inputs == template.inputs
    }

    /// Gives a template the inputs that it had to wait for: objects that were not there, and those without a key. Nothing
    /// was ever made from a template that lacks something.
    pub(super) fn fill(&self, template: &mut PodTemplate) {
        let mut now = template.clone();
        self.pin(&mut now);
        for (pinned, now) in template.inputs.iter_mut().zip(now.inputs) {
            if pinned.lack.is_some() {
                *pinned = now;
            }
        }
    }

    /// Forgets what objects held that no revision is made from.
    pub(super) fn sweep<'t>(&mut self, templates: impl Iterator<Item = &'t PodTemplate>) {
        if self.past.is_empty() {
            return;
        }
        let inputs = templates.flat_map(|t| &t.inputs);
        let used: BTreeSet<&str> = inputs.filter_map(|i| i.digest.as_deref()).collect();
        self.past.retain(|digest, _| used.contains(digest.as_str()));
    }

    pub(super) fn keep(&mut self, object: &KeptObject, stamp: &Stamp) {
        let of_kind = self.kinds.entry(object.kind).or_default();
        match of_kind.get_mut(&object.metadata.name) {
            Some(known) => {
                known.generation += u64::from(known.object != *object);
                let before = std::mem::replace(&mut known.object, object.clone());
                self.past.insert(digest(&before), before);
            }
            None => {
                self.last += 1;
                let (uid, created) = (self.last, stamp.clone());
                let entry = StoredObject { object: object.clone(), uid, generation: 1, created };
                of_kind.insert(object.metadata.name.clone(), entry);
            }
        }
    }

    pub(super) fn discard(&mut self, kind: KeptKind, name: &str) {
        let entry = self.kinds.get_mut(&kind).and_then(|of_kind| of_kind.remove(name));
        self.past.extend(entry.map(|e| (digest(&e.object), e.object)));
    }
}

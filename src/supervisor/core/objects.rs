//! Kept objects: what is desired besides the workloads.

use super::desired::Refusal;
use super::history::Stamp;
use crate::workload::kept::{KeptKind, KeptObject};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All kept objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Objects {
    kinds: BTreeMap<KeptKind, BTreeMap<String, Entry>>,
    /// The last identity given out.
    last: u64,
}

/// One object, and what is known of it besides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub object: KeptObject,
    /// Never used twice among kept objects: one that was deleted and applied again has a new one.
    pub uid: u64,
    /// Counts the changes that its owner made.
    pub generation: u64,
    /// When and why it was created.
    pub created: Stamp,
}

impl Objects {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.values().all(BTreeMap::is_empty)
    }

    /// All of them, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.kinds.values().flat_map(BTreeMap::values)
    }

    #[must_use]
    pub fn get(&self, kind: KeptKind, name: &str) -> Option<&Entry> {
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

    pub(super) fn keep(&mut self, object: &KeptObject, stamp: &Stamp) {
        let of_kind = self.kinds.entry(object.kind).or_default();
        match of_kind.get_mut(&object.metadata.name) {
            Some(known) => {
                known.generation += u64::from(known.object != *object);
                known.object = object.clone();
            }
            None => {
                self.last += 1;
                let (uid, created) = (self.last, stamp.clone());
                let entry = Entry { object: object.clone(), uid, generation: 1, created };
                of_kind.insert(object.metadata.name.clone(), entry);
            }
        }
    }

    pub(super) fn discard(&mut self, kind: KeptKind, name: &str) {
        if let Some(of_kind) = self.kinds.get_mut(&kind) {
            of_kind.remove(name);
        }
    }
}

//! The objects of a file, of any format.

use super::kept::KeptObject;
use super::model::Workload;
use crate::config::document::diagnostic::Diagnostics;

/// An object of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Something that runs.
    Workload {
        /// As the file calls it: `Deployment`.
        kind: String,
        /// It, as orund's own format has it.
        workload: Box<Workload>,
    },
    /// Something that is kept for the workloads.
    Kept(KeptObject),
    /// Something that was checked and has no effect.
    Inert {
        /// `Role`, `Ingress` ...
        kind: String,
        /// Name in its metadata.
        name: String,
    },
}

impl Object {
    /// `Deployment`, `ConfigMap` ...
    pub fn kind(&self) -> &str {
        match self {
            Object::Workload { kind, .. } | Object::Inert { kind, .. } => kind,
            Object::Kept(object) => object.kind.name(),
        }
    }

    /// Its kind in orund: `workload`, `configmap` ...
    pub fn word(&self) -> String {
        match self {
            Object::Workload { .. } => "workload".to_owned(),
            Object::Kept(object) => object.kind.word().to_owned(),
            Object::Inert { kind, .. } => kind.to_lowercase(),
        }
    }

    /// Whether both are the same object to orund, which has one name for all kinds of workloads.
    pub fn is_same(&self, other: &Object) -> bool {
        self.word() == other.word() && self.name() == other.name() && !matches!(self, Object::Inert { .. })
    }

    /// Name in its metadata.
    pub fn name(&self) -> &str {
        match self {
            Object::Workload { workload, .. } => &workload.metadata.name,
            Object::Inert { name, .. } => name,
            Object::Kept(object) => &object.metadata.name,
        }
    }
}

/// The objects of a file, and what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// In the order of the file.
    pub objects: Vec<Object>,
    /// Errors and warnings.
    pub findings: Diagnostics,
}

impl Read {
    /// The workloads, when there is no error.
    ///
    /// # Errors
    /// All findings.
    pub fn workloads(self) -> Result<Vec<Workload>, Box<Diagnostics>> {
        if self.findings.errors() > 0 {
            return Err(Box::new(self.findings));
        }
        let workload = |o| match o {
            Object::Workload { workload, .. } => Some(*workload),
            Object::Kept(_) | Object::Inert { .. } => None,
        };
        Ok(self.objects.into_iter().filter_map(workload).collect())
    }

    /// All objects, when there is no error.
    ///
    /// # Errors
    /// All findings.
    pub fn checked(self) -> Result<Vec<Object>, Box<Diagnostics>> {
        if self.findings.errors() > 0 { Err(Box::new(self.findings)) } else { Ok(self.objects) }
    }
}

//! The list of operations under construction, each with the property that asks for it.

use super::op::Op;

/// The configuration of an engine has some 80.
const ROOM: usize = 100;

/// Operations in order, and for each the property of config.json that asks for it (empty: always done).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Steps {
    pub ops: Vec<Op>,
    pub properties: Vec<String>,
}

impl Steps {
    /// An empty list with room for the operations of most containers: as it grew it would be copied again and again.
    pub fn with_room() -> Steps {
        Steps { ops: Vec::with_capacity(ROOM), properties: Vec::with_capacity(ROOM) }
    }

    /// Appends an operation.
    pub fn push(&mut self, op: Op, property: impl Into<String>) {
        self.ops.push(op);
        self.properties.push(property.into());
    }

    /// Appends another list.
    pub fn append(&mut self, mut other: Steps) {
        self.ops.append(&mut other.ops);
        self.properties.append(&mut other.properties);
    }
}

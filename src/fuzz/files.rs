//! The files of workloads.

use std::path::Path;

use crate::workload::object::{Object, Read};
use crate::workload::read::read;
use crate::workload::{corrected, write};

/// Findings are lines without control characters; a file without an error has objects, and they are written as they were
/// read.
fn checked(text: &str, found: &Read) {
    let said = found.findings.to_string();
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    if found.findings.errors() > 0 {
        let (fixed, count) = corrected(text, &found.findings.list);
        assert!(count > 0 || fixed == text);
        return;
    }
    for object in &found.objects {
        assert!(!object.name().is_empty() || matches!(object, Object::Inert { .. }));
        if let Object::Workload { workload, .. } = object {
            let (value, _) = write::kubernetes(workload);
            assert!(value.is_object());
        }
    }
}

/// A Kubernetes, OpenShift or native file, in YAML or JSON.
pub fn workload(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    checked(text, &read("fuzz.yaml", text, Some(Path::new("/nowhere"))));
}

/// A Compose file, which names no other.
pub fn compose(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Whatever it is: it has the mapping that makes it a Compose file.
    let text = if text.contains("services:") {
        text.to_owned()
    } else {
        format!("services:\n  a:\n    image: b\n{text}")
    };
    checked(&text, &read("compose.yaml", &text, Some(Path::new("/nowhere"))));
}

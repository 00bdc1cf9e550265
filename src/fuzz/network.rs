//! Inputs from registries and archives.

use std::io::Read;

use crate::image::configuration::Configuration;
use crate::image::manifest::{self, Document};
use crate::image::reference::{Reference, Remote};
use crate::image::tar::Entries;

/// The name of an image.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Reference::parse(text) {
        Err(e) => {
            let said = crate::log::printable(&e.to_string()).into_owned();
            assert!(!said.contains(char::is_control), "{said:?}");
        }
        Ok(Reference::Registry(remote)) => {
            let Remote { registry, repository, .. } = &remote;
            assert!(
                !registry.is_empty() && !repository.is_empty() && !repository.contains(".."),
                "{remote:?}"
            );
        }
        Ok(_) => {}
    }
}

/// A manifest, an index or a configuration.
pub fn manifest(data: &[u8]) {
    if let Ok(Document::Index(list)) = Document::parse(data, "fuzz") {
        let _ = manifest::choose(&list, "fuzz");
    }
    let _ = Configuration::parse(data, "fuzz");
}

/// A layer: it has no more content than bytes.
pub fn layer(data: &[u8]) {
    let mut entries = Entries::new(data);
    let mut count = 0;
    let mut block = [0; 4096];
    while let Ok(Some(entry)) = entries.next_entry() {
        assert!(entry.path.len() <= crate::image::tar::LONGEST_PATH);
        let mut content = 0;
        while let Ok(n @ 1..) = entries.read(&mut block) {
            content += n;
        }
        assert!(content <= data.len());
        count += 1;
        assert!(count <= data.len() / 512);
    }
    let mut rest = Vec::new();
    let _ = entries.into_inner().read_to_end(&mut rest);
}

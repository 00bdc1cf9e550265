//! Removing images: what is in use stays.

use crate::is_root;
use crate::made::{Entry, Image, Layer};
use orun::image::store::{Named, Store};
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

/// Runs `orund image` with the store of the test.
fn orund(image: &Image, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orund"));
    command.arg("image").arg("--dir").arg(&image.store).args(words).output().unwrap()
}

fn image(test: &str) -> (Image, Layer, String, Store) {
    let image = Image::new(test);
    let layer = Layer::gzip(&[Entry::file("a", b"1")]);
    image.write(std::slice::from_ref(&layer));
    let digest = image.fetch().unwrap();
    let store = Store::open(&image.store).unwrap();
    (image, layer, digest, store)
}

#[test]
fn layers_of_an_image_in_use_stay_when_its_documents_are_damaged() {
    if !is_root() {
        return;
    }
    let (image, layer, digest, store) = image("sweep-damaged");
    let named = Named { digest: digest.clone(), image: "web:1".into(), ..Named::default() };
    store.change_names(|n| n.pins.insert("1.1.0".into(), named.clone()).is_none()).unwrap();
    let blobs: Vec<_> = fs::read_dir(image.store.join("blobs/sha256")).unwrap().flatten().collect();
    for blob in blobs {
        let good = fs::read(blob.path()).unwrap();
        fs::write(blob.path(), b"{}").unwrap();
        for words in [&["prune", "--all"][..], &["prune"]] {
            let out = orund(&image, words);
            let text = String::from_utf8_lossy(&out.stderr);
            assert!(!out.status.success() && text.contains("web:1") && text.contains(&digest), "{text}");
            assert!(image.layer(&layer).join("a").exists(), "{words:?}");
        }
        fs::write(blob.path(), good).unwrap();
    }
    let out = orund(&image, &["prune", "--all"]);
    assert!(out.status.success() && image.layer(&layer).join("a").exists(), "{out:?}");
    store.change_names(|n| n.pins.remove("1.1.0").is_some()).unwrap();
    let held = store.lock_image(&digest).unwrap();
    fs::remove_file(image.store.join("blobs").join(digest.replace(':', "/"))).unwrap();
    drop(held);
    let out = orund(&image, &["prune", "--all"]);
    assert!(out.status.success() && !image.layer(&layer).exists(), "{out:?}");
}

#[test]
fn names_are_changed_while_images_are_removed() {
    if !is_root() {
        return;
    }
    let (_image, _, digest, store) = image("sweep-names");
    std::thread::scope(|s| {
        let changes = s.spawn(|| {
            for n in 0..300 {
                store.set_name(&format!("name{n}"), &digest, false).unwrap();
            }
        });
        while !changes.is_finished() {
            assert!(store.sweep(&|_, _| false).unwrap().failed.is_empty());
        }
        changes.join().unwrap();
    });
}

#[test]
fn an_image_is_removed_by_its_digest() {
    if !is_root() {
        return;
    }
    let (image, layer, digest, store) = image("sweep-digest");
    store.set_name("docker.io/library/web:1", &digest, false).unwrap();
    let out = orund(&image, &["rm", &digest]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("removed image \"docker.io/library/web:1\""), "{out:?}");
    assert!(text.contains("freed") && !image.layer(&layer).exists(), "{text}");
    assert!(store.names().unwrap().names.is_empty());
    assert!(!orund(&image, &["rm", &digest]).status.success(), "it is gone");
    // Without a name, but in use.
    image.fetch().unwrap();
    let named = Named { digest: digest.clone(), image: "web:1".into(), ..Named::default() };
    store
        .change_names(|n| {
            n.names.clear();
            n.pins.insert("1.1.0".into(), named.clone()).is_none()
        })
        .unwrap();
    let out = orund(&image, &["rm", &digest]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("is in use"), "{out:?}");
    assert!(image.layer(&layer).exists());
}

#[test]
fn what_nobody_needs_goes_after_a_time() {
    if !is_root() {
        return;
    }
    let (image, layer, digest, store) = image("sweep-age");
    let day = Duration::from_secs(86_400);
    let names = || store.names().unwrap().names.len();
    // A name that somebody has given stays.
    assert_eq!((store.collect(Duration::ZERO).unwrap().layers, names()), (0, 1));
    store.change_names(|n| n.names.pop_first().is_some()).unwrap();
    let part = image.store.join(format!("blobs/sha256/{}.part", "0".repeat(64)));
    store.set_name("localhost/web:1", &digest, true).unwrap();
    let pin = Named { digest: digest.clone(), image: "web:1".into(), ..Named::default() };
    store.change_names(|n| n.pins.insert("1.1.0".into(), pin).is_none()).unwrap();
    // In use, then not, and not for a day.
    assert_eq!(store.collect(day).unwrap().names.len(), 0);
    assert_eq!(store.names().unwrap().names["localhost/web:1"].unused, 0);
    store.change_names(|n| n.pins.pop_first().is_some()).unwrap();
    let held = store.lock_image(&digest).unwrap();
    assert_eq!(store.collect(Duration::ZERO).unwrap().names.len(), 0, "a process uses it");
    drop(held);
    fs::write(&part, b"1").unwrap();
    assert_eq!(store.collect(day).unwrap().names.len(), 0);
    let since = store.names().unwrap().names["localhost/web:1"].unused;
    assert!(since > 0 && part.exists());
    assert!(
        store
            .change_names(|n| {
                n.names.get_mut("localhost/web:1").is_some_and(|n| {
                    n.unused -= 86_400;
                    true
                })
            })
            .is_ok()
    );
    let swept = store.collect(day).unwrap();
    assert_eq!((swept.names.as_slice(), names()), (&["localhost/web:1".to_owned()][..], 0));
    // The layer has been needed until now.
    assert!(image.layer(&layer).exists() && swept.layers == 0);
    let adding = store.adding().unwrap();
    assert_eq!(store.collect(Duration::ZERO).unwrap().layers, 0, "images are being added");
    drop(adding);
    let swept = store.collect(Duration::from_nanos(1)).unwrap();
    assert!(swept.layers == 1 && !image.layer(&layer).exists() && !part.exists(), "{swept:?}");
    assert!(fs::read_dir(image.store.join("tmp")).unwrap().next().is_none());
}

#[test]
fn a_name_that_somebody_has_given_stays_theirs() {
    if !is_root() {
        return;
    }
    let (_image, _, digest, store) = image("sweep-theirs");
    let automatic = |name: &str| store.names().unwrap().names[name].automatic;
    store.set_name("a", &digest, true).unwrap();
    assert!(automatic("a"));
    store.set_name("a", &digest, false).unwrap();
    assert!(!automatic("a"));
    store.set_name("a", &format!("sha256:{}", "1".repeat(64)), true).unwrap();
    assert!(!automatic("a"), "a workload has had it pulled again");
}

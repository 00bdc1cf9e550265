//! `apply --build`: images of a Compose file that the installed builder makes.

use crate::client::{command, fails, write};
use crate::daemon::{Daemon, can_run, wait_for};
use crate::skip::skip;
use std::fs;
use std::path::Path;

const DOCKERFILE: &str = "FROM scratch
ARG TEXT
ENV TEXT=$TEXT PATH=/bin
COPY root /
CMD [\"sh\", \"-c\", \"echo $TEXT $(busybox cat /text); exec busybox sleep 1000\"]
";

/// Applies with the builder's storage in the directory of the test; what was printed.
fn build(d: &Daemon, words: &str) -> String {
    let images = d.dir.join("data/images");
    let mut command = command(d, &format!("apply -f compose.yaml --build --builder podman {words}"));
    command.arg("--image-dir").arg(images).env("CONTAINERS_STORAGE_CONF", d.dir.join("storage.conf"));
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success(), "{text}\n{}", d.output());
    text
}

#[test]
fn services_are_built_and_a_changed_image_is_a_rollout() {
    if !can_run() {
        return;
    }
    if !Path::new("/usr/bin/podman").exists() {
        skip("needs podman");
        return;
    }
    let d = Daemon::start("build", &[]);
    fs::create_dir_all(d.dir.join("web/root/bin")).unwrap();
    fs::copy("/bin/busybox", d.dir.join("web/root/bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", d.dir.join("web/root/bin/sh")).unwrap();
    write(&d, "web/Dockerfile", DOCKERFILE);
    let dir = d.dir.display();
    write(
        &d,
        "storage.conf",
        &format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{dir}/graph\"\nrunroot = \"{dir}/builder\"\n"),
    );
    write(&d, "web/root/text", "one\n");
    let service =
        "build: {context: web, args: {TEXT: shop}}\n    restart: always\n    stop_grace_period: 0s\n";
    write(&d, "compose.yaml", &format!("name: shop\nservices:\n  web:\n    {service}"));
    let (code, said) = fails(&d, "apply -f compose.yaml");
    assert!(code == 1 && said.contains("must be built: web; hint: `orund apply --build`"), "{said}");
    let said = build(&d, "--wait --timeout 60");
    assert!(
        said.contains("workload/web created") && said.contains("loaded image \"localhost/shop-web:"),
        "{said}"
    );
    wait_for("its words", || d.logged_by("web", 0, "web").contains(&"shop one".to_owned()).then_some(()));
    assert!(build(&d, "").contains("workload/web unchanged"));
    write(&d, "web/root/text", "two\n");
    assert!(build(&d, "--wait --timeout 60").contains("workload/web configured"));
    wait_for("its words", || d.logged_by("web", 0, "web").contains(&"shop two".to_owned()).then_some(()));
    // What cannot be built changes nothing.
    write(&d, "web/Dockerfile", "FROM scratch\nCOPY missing /\n");
    let mut command = command(&d, "apply -f compose.yaml --build --builder podman");
    let out = command.env("CONTAINERS_STORAGE_CONF", d.dir.join("storage.conf")).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("building the image of service \"web\""), "{said}");
    assert_eq!(d.workload("web")["status"]["revision"], 2);
}

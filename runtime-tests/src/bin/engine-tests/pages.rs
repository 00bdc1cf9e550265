//! The pages of `docs/`, followed word for word: the shell blocks of a page are run in order at the top of a copy of the
//! repository, and where a block of text follows one, that is what it has to print.

use crate::engine::{ARCHIVE, tail};
use crate::env::{Cases, Env};
use runtime_tests::check::{Done, Result, fail, same};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The copy of the repository in the world.
pub const TOP: &str = "/keep";

/// There is no service manager in the world: this starts the daemons that the pages restart, with the image loaded.
const SYSTEMCTL: &str = r#"#!/bin/bash
set -eu
[ "$1" = restart ] || { echo "systemctl: only restart is supported, not $1" >&2; exit 1; }
pidfile=/run/$2.test.pid
if [ -s $pidfile ]; then
	kill "$(cat $pidfile)"
	for i in $(seq 300); do kill -0 "$(cat $pidfile)" 2>/dev/null || break; sleep 0.1; done
fi
case $2 in
docker) daemon="dockerd --storage-driver overlay2 --oom-score-adjust 0" ready="docker version"
	load="docker load -i IMAGE; docker tag localhost/busybox:1 busybox" ;;
containerd) daemon=containerd ready="ctr version"
	load="ctr images import IMAGE; ctr images tag --force localhost/busybox:1 docker.io/library/busybox:latest" ;;
esac
setsid $daemon </dev/null >>/tmp/engine/daemon.log 2>&1 &
echo $! >$pidfile
for i in $(seq 300); do $ready >/dev/null 2>&1 && break; sleep 0.1; done
bash -ec "$load" >/dev/null
"#;

/// Prepares the world: `systemctl`, the program where `scripts/build` leaves it, the image.
pub fn start(e: &Env) -> Done {
    let path = "/usr/local/sbin/systemctl";
    fs::write(path, SYSTEMCTL.replace("IMAGE", ARCHIVE))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    e.ok(&format!(
        "mkdir -p {TOP}/target/dist; cp $R {TOP}/target/dist/orun; cp {TOP}/orund {TOP}/target/dist/"
    ))?;
    // What Podman needs on a host like this one has nothing to do with the pages.
    let podman = "[containers]\ndefault_sysctls = []\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
                  [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
    Ok(fs::write("/etc/containers/containers.conf", podman)?)
}

/// One case a page whose engine can run here.
pub fn cases() -> Cases {
    let mut c = Cases::of("pages");
    for page in ["docker", "swarm", "containerd", "podman"] {
        c.alone(&format!("docs/{page}.md"), move |e| {
            match page {
                "podman" => e.ok(&format!(
                    "podman load -q -i {ARCHIVE}; podman tag localhost/busybox:1 docker.io/library/busybox"
                ))?,
                "swarm" => String::new(),
                name => e.ok(&format!("systemctl restart {name}"))?,
            };
            follow(e, &Path::new(TOP).join(format!("docs/{page}.md")))
        });
    }
    c.alone("scripts/install, scripts/uninstall: the configurations come back as they were", undone);
    c.alone("scripts/register asks, and changes nothing without an answer", asks);
    c.alone("the Debian package: install, register, remove", package);
    c
}

/// A block of a page: the text after its opening fence, and its lines.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(kind) => {
                inside = true;
                found.push((kind, String::new()));
            }
            None if inside => {
                if let Some((_, block)) = found.last_mut() {
                    block.push_str(line);
                    block.push('\n');
                }
            }
            None => {}
        }
    }
    found
}

fn follow(e: &Env, page: &Path) -> Done {
    let text = fs::read_to_string(page)?;
    let blocks = blocks(&text);
    if !blocks.iter().any(|(kind, _)| *kind == "sh") {
        return fail(format!("{} has no commands", page.display()));
    }
    for (at, (kind, block)) in blocks.iter().enumerate() {
        if *kind != "sh" {
            continue;
        }
        let out = run(e, block)?;
        if let Some(("text", expected)) = blocks.get(at + 1).map(|(kind, text)| (*kind, text)) {
            same(block, out.trim(), expected.trim())?;
        }
    }
    Ok(())
}

/// Runs a block at the top of the repository and returns what it prints.
fn run(e: &Env, block: &str) -> Result<String> {
    let out = e.command(block).cwd(TOP).output()?;
    if !out.status.success() {
        let log = tail(Path::new("/tmp/engine/daemon.log"));
        return fail(format!("{}; the daemon says: {log}", out.describe()));
    }
    Ok(out.stdout)
}

const CONFIGURED: &str = "mkdir -p /etc/docker /etc/containerd /etc/containers/containers.conf.d
    printf '{\\n\\t\"debug\": false,  \"runtimes\": {\"other\": {\"path\": \"/bin/true\"}}\\n}\\n' >/etc/docker/daemon.json
    printf 'version = 2\\n# mine\\n' >/etc/containerd/config.toml";
const SUMS: &str = "cd /etc; find docker containerd containers/containers.conf.d -type f | sort | xargs md5sum; ls -d /var/lib/orun 2>/dev/null || true";

fn undone(e: &Env) -> Done {
    e.ok(CONFIGURED)?;
    let before = e.ok(SUMS)?;
    run(e, "scripts/install --yes")?;
    e.prints(
        "jq -c '[.runtimes.orun.path, .runtimes.other.path, .debug]' /etc/docker/daemon.json",
        "[\"/usr/local/bin/orun\",\"/bin/true\",false]",
    )?;
    e.shows("orun doctor || true", "orun is registered as /usr/local/bin/orun")?;
    run(e, "scripts/install --yes --default && scripts/uninstall --yes")?;
    same("the configurations", e.ok(SUMS)?, before.clone())?;
    e.prints("find /usr/local -name 'orun*'", "")?;
    // What somebody has changed meanwhile stays, without orun.
    run(e, "scripts/install --yes")?;
    e.ok(
        "jq '.debug = true' /etc/docker/daemon.json >/tmp/d.json && cp /tmp/d.json /etc/docker/daemon.json",
    )?;
    run(e, "scripts/uninstall --yes")?;
    e.prints(
        "jq -c . /etc/docker/daemon.json; rm /etc/docker/daemon.json /etc/containerd/config.toml",
        "{\"debug\":true,\"runtimes\":{\"other\":{\"path\":\"/bin/true\"}}}",
    )
}

fn asks(e: &Env) -> Done {
    run(e, "scripts/install --no-engines")?;
    let before = e.ok(SUMS)?;
    let question = "script -qec 'scripts/register --engine docker' /dev/null";
    let refused = run(e, &format!("echo n | {question}"))?;
    runtime_tests::ensure!(
        refused.contains("+") && refused.contains("/usr/local/bin/orun"),
        "no change was shown: {refused}"
    );
    same("after a no", e.ok(SUMS)?, before.clone())?;
    let nobody = e.command("setsid --wait scripts/register --engine docker").cwd(TOP).output()?.fails()?;
    runtime_tests::check::has("message", &nobody.stderr, "no terminal to ask on")?;
    same("without an answer", e.ok(SUMS)?, before.clone())?;
    run(e, &format!("echo y | {question}"))?;
    e.prints("jq -r .runtimes.orun.path /etc/docker/daemon.json", "/usr/local/bin/orun")?;
    run(e, "scripts/uninstall --yes").map(drop)
}

fn package(e: &Env) -> Done {
    let file = run(e, "scripts/package")?;
    let before = e.ok(SUMS)?;
    run(e, &format!("dpkg -i {}", file.trim()))?;
    same("after the installation", e.ok(SUMS)?, before.clone())?;
    e.shows("/usr/bin/orun --version", "orun version")?;
    run(e, "/usr/share/orun/register --engine docker --yes")?;
    e.prints("jq -r .runtimes.orun.path /etc/docker/daemon.json", "/usr/bin/orun")?;
    run(e, "dpkg -r orun")?;
    same("after the removal", e.ok(SUMS)?, before.clone())?;
    e.prints("find /usr -name 'orun*' -o -name '*.orun'", "")
}

//! The flags of `checkpoint` and `restore`: each with a container that needs it.

use crate::bundle::Bundle;
use crate::case::T;
use crate::cases::checkpoint::{Saved, again_and_again, count, counts_on, needs_criu, with_a_terminal};
use crate::cases::process::apparmor_profile;
use crate::cases::updates::is_pidfd_of;
use crate::cgroup;
use crate::check::{Context, Done, Result, fail, has, same, skip};
use crate::command::{VERB_DEADLINE, poll};
use crate::console::FdSocket;
use crate::container::Container;
use crate::ensure;
use crate::matrix::Matrix;
use crate::proc;
use serde_json::json;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Adds the cases of this file.
pub fn register(m: &mut Matrix) {
    of_restore(m);
    parents(m);
    resources(m);
    pages(m);
    without_effect(m);
    host(m);
    other_users(m);
}

fn of_restore(m: &mut Matrix) {
    m.case("checkpoint/restore-with-a-pidfd-socket", "runc contract: --pidfd-socket", |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        let path = t.path("pidfd");
        let socket = FdSocket::listen(&path)?;
        s.restore_cmd().args(["--detach", "--pidfd-socket"]).arg(&path).arg(&s.c.id).ok()?;
        is_pidfd_of(&socket, s.c.pid()?)?;
        s.c.end()
    });
    m.case("checkpoint/restore-with-another-configuration", "crun contract: --config", |t| {
        t.only("orun")?;
        let s = Saved::counter(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        let at = count(&s.c.bundle);
        // The hooks show which of the two was read.
        let note = t.path("note");
        let hook = json!([{"path": "/bin/busybox", "args": ["touch", note]}]);
        s.c.bundle.clone().set("/hooks/poststart", hook).save()?;
        let other = t.path("other.json");
        fs::rename(s.c.bundle.dir.join("config.json"), &other)?;
        s.c.bundle.save()?;
        s.restore_cmd().args(["--detach", "--config"]).arg(&other).arg(&s.c.id).ok()?;
        ensure!(note.exists(), "the hook of the other configuration did not run");
        counts_on(&s.c.bundle, at)?;
        s.c.end()
    });
    m.case("checkpoint/restore-without-pivot-root", "runc contract: --no-pivot", |t| {
        let s = Saved::counter(t, t.bundle()?.file("/etc/mine", "of the container", 0o644)?)?;
        s.checkpoint(&[])?;
        let at = count(&s.c.bundle);
        s.restore_cmd().args(["--detach", "--no-pivot"]).arg(&s.c.id).ok()?;
        counts_on(&s.c.bundle, at)?;
        same("a file of the root", s.c.exec(&["cat", "/etc/mine"])?.ok()?.stdout, "of the container")?;
        // Nothing of the host is reachable from it.
        s.c.exec(&["ls", &t.dir.to_string_lossy()])?.fails()?;
        s.c.end()
    });
}

/// Flags that this container does not need: with them it is saved and restored all the same.
fn without_effect(m: &mut Matrix) {
    for (name, at_checkpoint, at_restore) in [
        ("ext-unix-sk", &["--ext-unix-sk"][..], &["--ext-unix-sk"][..]),
        ("shell-job", &["--shell-job"], &["--shell-job"]),
        ("tcp-flags", &["--tcp-established", "--tcp-skip-in-flight"], &["--tcp-close"]),
        ("auto-dedup", &["--auto-dedup"], &["--auto-dedup"]),
        ("empty-ns", &["--empty-ns", "network"], &["--empty-ns", "network"]),
        ("manage-cgroups-mode", &["--manage-cgroups-mode", "full"], &["--manage-cgroups-mode", "full"]),
    ] {
        m.case(
            format!("checkpoint/with-{name}"),
            "runc contract: flags of checkpoint and restore",
            move |t| {
                let s = Saved::counter(t, t.bundle()?)?;
                s.checkpoint(at_checkpoint)?;
                let at = count(&s.c.bundle);
                s.restore_cmd().arg("--detach").args(at_restore.iter().copied()).arg(&s.c.id).ok()?;
                counts_on(&s.c.bundle, at)?;
                s.c.end()
            },
        );
    }
}

/// Who becomes the parent of an orphan in a restored container without a pid namespace of its own.
fn parents(m: &mut Matrix) {
    const SUBREAPER: &str = "runc contract: --no-subreaper";
    const SCRIPT: &str = "until test -e /tmp/end; do busybox sleep 0.05; done; \
         (busybox sh -c 'busybox sleep 0.4; busybox cut -d\" \" -f4 /proc/$$/stat > /tmp/parent' &); busybox sleep 1";
    for (name, options) in [("takes-in-orphans", &[][..]), ("with-no-subreaper", &["--no-subreaper"])] {
        m.case(format!("checkpoint/restore-{name}"), SUBREAPER, move |t| {
            needs_criu(t)?;
            let bundle = t.bundle()?.without_ns("pid").shell(SCRIPT);
            let s = Saved::of(t, t.start(&bundle)?);
            s.checkpoint(&[])?;
            let restore = s.restore_cmd().args(options.iter().copied()).arg(&s.c.id).spawn()?;
            s.c.becomes("running")?;
            let want = if options.is_empty() { restore.pid } else { std::process::id() as i32 };
            fs::write(bundle.rootfs().join("tmp/end"), "")?;
            restore.wait()?.ok()?;
            let parent = fs::read_to_string(bundle.rootfs().join("tmp/parent"))?;
            same("parent of the orphan", parent.trim(), want.to_string().as_str())?;
            s.c.verb("delete").arg("--force").output().map(drop)
        });
    }
}

fn resources(m: &mut Matrix) {
    m.case("checkpoint/a-stream-that-a-shell-has-set-aside", "runc contract: checkpoint and restore", |t| {
        needs_criu(t)?;
        // As long as the loop runs the container's standard output is descriptor 10 or so, and not 1.
        let script = "i=0; while ! test -e /tmp/end; do i=$((i+1)); echo $i > /tmp/count; sleep 0.05; done > /tmp/aside; \
             echo back; sleep 1000";
        let s = Saved::of(t, t.start(&t.bundle()?.shell(script))?);
        counts_on(&s.c.bundle, 2)?;
        s.checkpoint(&[])?;
        let at = count(&s.c.bundle);
        s.restore()?;
        counts_on(&s.c.bundle, at)?;
        fs::write(s.c.bundle.rootfs().join("tmp/end"), "")?;
        s.c.await_output("back")?;
        s.c.end()
    });
    m.case("checkpoint/file-locks", "runc contract: --file-locks", |t| {
        needs_criu(t)?;
        let s =
            Saved::of(t, t.start(&t.bundle()?.args(&["probe", "count-locked", "/tmp/lock", "/tmp/count"]))?);
        counts_on(&s.c.bundle, 2)?;
        let out = s.paths(t.verb("checkpoint")).arg(&s.c.id).output()?;
        out.fails_with(&["criu failed: type DUMP"]).context("without the flag")?;
        s.checkpoint(&["--file-locks"])?;
        s.restore_cmd().args(["--detach", "--file-locks"]).arg(&s.c.id).ok()?;
        counts_on(&s.c.bundle, count(&s.c.bundle))?;
        let lock = s.c.exec(&["probe", "try", "lock", "/tmp/lock"])?.ok()?;
        same("the lock", lock.stdout.trim(), "EAGAIN")?;
        s.c.end()
    });
    m.case("checkpoint/link-remap", "runc contract: --link-remap", |t| {
        needs_criu(t)?;
        // The file keeps its other name.
        let script = "echo first > /tmp/kept; busybox ln /tmp/kept /tmp/gone; exec 3>> /tmp/gone; busybox rm /tmp/gone; \
             i=0; while :; do i=$((i+1)); echo $i > /tmp/count; echo $i >&3; sleep 0.05; done";
        let s = Saved::of(t, t.start(&t.bundle()?.shell(script))?);
        counts_on(&s.c.bundle, 2)?;
        let out = s.paths(t.verb("checkpoint")).arg(&s.c.id).output()?;
        out.fails_with(&["criu failed: type DUMP"]).context("without the flag")?;
        s.checkpoint(&["--link-remap"])?;
        let kept = s.c.bundle.rootfs().join("tmp/kept");
        let before = fs::metadata(&kept)?.len();
        s.restore_cmd().args(["--detach", "--link-remap"]).arg(&s.c.id).ok()?;
        counts_on(&s.c.bundle, count(&s.c.bundle))?;
        ensure!(fs::metadata(&kept)?.len() > before, "nothing is written to the file any more");
        s.c.end()
    });
    m.case("checkpoint/socket-of-the-host", "runc contract: --ext-unix-sk", |t| {
        needs_criu(t)?;
        let volume = t.volume()?;
        let socket = UnixDatagram::bind(volume.join("socket"))?;
        socket.set_nonblocking(true)?;
        let number = || {
            let mut bytes = [0; 4];
            let mut last = None;
            while socket.recv(&mut bytes).is_ok() {
                last = Some(i64::from(u32::from_ne_bytes(bytes)));
            }
            last
        };
        // CRIU sees the sockets of the container's network namespace, and connects to the name that the host's has.
        let (path, socket_path) = (volume.to_string_lossy(), volume.join("socket"));
        let bundle = t.bundle()?.without_ns("network").bind(&volume, &path, &[]);
        let s = Saved::of(
            t,
            t.start(&bundle.args(&[
                "probe",
                "count-to-socket",
                &socket_path.to_string_lossy(),
                "/tmp/count",
            ]))?,
        );
        counts_on(&s.c.bundle, 2)?;
        let out = s.paths(t.verb("checkpoint")).arg(&s.c.id).output()?;
        out.fails_with(&["criu failed: type DUMP"]).context("without the flag")?;
        number();
        s.checkpoint(&["--ext-unix-sk"])?;
        let at = number().unwrap_or_else(|| count(&s.c.bundle));
        s.restore_cmd().args(["--detach", "--ext-unix-sk"]).arg(&s.c.id).ok()?;
        poll("a later number", VERB_DEADLINE, || number().filter(|n| *n > at))?;
        s.c.end()
    });
    m.case("checkpoint/apparmor-profile", "runc contract: --lsm-profile", |t| {
        needs_criu(t)?;
        let (first, second) = (apparmor_profile(t, "first")?, apparmor_profile(t, "second")?);
        let s = Saved::counter(t, t.bundle()?.set("/process/apparmorProfile", first.as_str()))?;
        let wears = |profile: &str| {
            let label = fs::read_to_string(format!("/proc/{}/attr/apparmor/current", s.c.pid()?))?;
            has("the profile of its process", &label, profile)
        };
        s.checkpoint(&[])?;
        s.restore()?;
        wears(&first)?;
        s.checkpoint(&[])?;
        s.restore_cmd()
            .args(["--detach", "--lsm-profile", &format!("apparmor:{second}")])
            .arg(&s.c.id)
            .ok()?;
        wears(&second)?;
        s.c.end()?;
        ["first", "second"].iter().try_for_each(|file| {
            t.host("apparmor_parser").args(["--remove"]).arg(t.dir.join(file)).ok().map(drop)
        })
    });
    m.case("checkpoint/tcp-connections", "runc contract: --tcp-established", |t| {
        needs_criu(t)?;
        let s = Saved::of(t, t.start(&t.bundle()?.args(&["probe", "count-over-tcp", "/tmp/count"]))?);
        counts_on(&s.c.bundle, 2)?;
        let out = s.paths(t.verb("checkpoint")).arg(&s.c.id).output()?;
        out.fails_with(&["criu failed: type DUMP"]).context("without the flag")?;
        let out = s.paths(t.verb("checkpoint")).arg("--tcp-established").arg(&s.c.id).output()?;
        if out.stderr.contains("Can't get 1:16 opt: Operation not supported") {
            return skip("this kernel, Linux 6.16 or newer, refuses what CRIU asks of every socket");
        }
        out.ok()?;
        let at = count(&s.c.bundle);
        s.restore_cmd().args(["--detach", "--tcp-established"]).arg(&s.c.id).ok()?;
        counts_on(&s.c.bundle, at)?;
        s.c.end()
    });
}

/// A program of CRIU's own that runs beside the runtime, in the directory `dir`.
fn companion(t: &T<'_>, mode: &str, dir: &Path, port: u16) -> Result<crate::command::Running> {
    let line = format!("exec criu {mode} --images-dir {} --work-dir {0} --port {port}", dir.display());
    let running = t.host("/bin/busybox").args(["sh", "-c", &line]).spawn()?;
    t.own_process(running.pid);
    Ok(running)
}

fn listens(port: u16) -> Done {
    let hex = format!(":{port:04X} ");
    let seen = || {
        let text = fs::read_to_string("/proc/net/tcp").ok()?
            + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
        text.lines().any(|l| l.contains(&hex) && l.contains(" 0A ")).then_some(())
    };
    poll(&format!("a listener on port {port}"), VERB_DEADLINE, seen)
}

fn pages(m: &mut Matrix) {
    const PORT: u16 = 7001;
    m.case("checkpoint/page-server", "runc contract: --page-server", |t| {
        let s = Saved::counter(t, t.bundle()?)?;
        let elsewhere = t.volume()?;
        let server = companion(t, "page-server", &elsewhere, PORT)?;
        listens(PORT)?;
        s.checkpoint(&["--page-server", &format!("127.0.0.1:{PORT}")])?;
        server.wait()?.ok()?;
        let pages = |dir: &Path| -> Result<Vec<std::path::PathBuf>> {
            let all = fs::read_dir(dir)?.flatten().map(|e| e.path());
            Ok(all.filter(|p| p.to_string_lossy().contains("/page")).collect())
        };
        ensure!(pages(&s.images)?.is_empty(), "pages were written here: {:?}", pages(&s.images)?);
        for file in pages(&elsewhere)? {
            fs::copy(&file, s.images.join(file.file_name().unwrap_or_default()))?;
        }
        let at = count(&s.c.bundle);
        s.restore()?;
        counts_on(&s.c.bundle, at)?;
        s.c.end()
    });
    m.case("checkpoint/lazy-pages", "runc contract: --lazy-pages, --status-fd", |t| lazy_pages(t));
}

/// Pages that a second container fetches from the first one, which is frozen until all have arrived.
fn lazy_pages(t: &T<'_>) -> Done {
    const PORT: u16 = 7002;
    // The second one is in another cgroup, that of its name.
    let s = Saved::counter(t, t.bundle()?.set("/linux/cgroupsPath", json!(null)))?;
    let feature = t.host("/bin/busybox").args(["sh", "-c", "exec criu check --feature uffd-noncoop"]);
    if !feature.output()?.status.success() {
        return skip("this kernel fills in no pages later");
    }
    if !proc::has_capability(24) {
        return skip("without CAP_SYS_RESOURCE, which raises limits, CRIU fails to pass pages on");
    }
    let (ready, tell) = nix::unistd::pipe()?;
    let address = format!("127.0.0.1:{PORT}");
    let checkpoint = s.paths(t.verb("checkpoint")).fd(tell, 5);
    let checkpoint = checkpoint.args(["--lazy-pages", "--status-fd", "5", "--page-server", &address]);
    let checkpoint = checkpoint.args(["--manage-cgroups-mode", "ignore"]).arg(&s.c.id).spawn()?;
    nix::fcntl::fcntl(&ready, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    let (mut ready, mut byte) = (fs::File::from(ready), [1]);
    let seen = || ready.read(&mut byte).ok();
    if poll("a byte of --status-fd, or its end", VERB_DEADLINE, seen)? == 0 {
        checkpoint.wait()?.ok()?;
        return fail("nothing was written to --status-fd");
    }
    same("the byte that says that pages can be fetched", byte, [0])?;
    let at = count(&s.c.bundle);
    let work = t.volume()?;
    let line = format!(
        "exec criu lazy-pages --page-server --address 127.0.0.1 --port {PORT} --images-dir {} --work-dir {}",
        s.images.display(),
        work.display()
    );
    let fetcher = t.host("/bin/busybox").args(["sh", "-c", &line]).spawn()?;
    t.own_process(fetcher.pid);
    let socket = work.join("lazy-pages.socket");
    poll("the socket of lazy pages", VERB_DEADLINE, || socket.exists().then_some(()))?;
    let second = Container::new(t, t.id(), &s.c.bundle);
    let restore = t.verb("restore").args(["--detach", "--lazy-pages", "--manage-cgroups-mode", "ignore"]);
    let restore = restore.arg("--image-path").arg(&s.images).arg("--work-path").arg(&work);
    let restore = restore.arg("--bundle").arg(&s.c.bundle.dir).streams(&s.c.stdout, &s.c.stderr);
    restore.arg(&second.id).ok()?;
    fetcher.wait()?.ok()?;
    checkpoint.wait()?.ok()?;
    counts_on(&s.c.bundle, at)?;
    second.is("running")?;
    s.c.verb("state").output()?.fails_with(&["does not exist"])?;
    second.end()
}

fn host(m: &mut Matrix) {
    m.case("checkpoint/the-hierarchy-keeps-its-options", "cgroups(7): nsdelegate is the host's", |t| {
        t.only("orun")?;
        let want = cgroup::options_at_start();
        let s = Saved::counter(t, t.bundle()?)?;
        // Another case's CRIU may take them off at this moment.
        let back = || {
            poll(&format!("the options {want:?}"), VERB_DEADLINE, || {
                (cgroup::options() == want).then_some(())
            })
        };
        s.checkpoint(&[])?;
        back().context("after the checkpoint")?;
        s.restore()?;
        back().context("after the restore")?;
        s.c.end()
    });
}

/// A container with a user namespace that counts, and says so on standard output when asked.
fn of_other_user<'t>(t: &'t T<'t>, bundle: Bundle) -> Result<Saved<'t>> {
    const SCRIPT: &str = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; \
         if test -e /tmp/say; then busybox rm /tmp/say; echo said; fi; sleep 0.05; done";
    t.only("orun")?;
    needs_criu(t)?;
    let bundle = bundle.shell(SCRIPT).userns(100_000, 65_536);
    for dir in ["", "tmp", "mnt"] {
        chown(bundle.rootfs().join(dir), Some(100_000), Some(100_000))?;
    }
    let c = t.start(&bundle)?;
    counts_on(&c.bundle, 2)?;
    Ok(Saved::of(t, c))
}

/// Containers with a user namespace, whose root is another user on the host.
fn other_users(m: &mut Matrix) {
    const SPEC: &str = "checkpoint and restore of a container with a user namespace";
    m.case("checkpoint/with-a-user-namespace", SPEC, |t| {
        let s = of_other_user(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        let at = count(&s.c.bundle);
        s.restore()?;
        counts_on(&s.c.bundle, at)?;
        fs::write(s.c.bundle.rootfs().join("tmp/say"), "")?;
        chown(s.c.bundle.rootfs().join("tmp/say"), Some(100_000), Some(100_000))?;
        s.c.await_output("said")?;
        same("owner of the file of its output", fs::metadata(&s.c.stdout)?.uid(), 0)?;
        same("mode of the image directory", fs::metadata(&s.images)?.mode() & 0o777, 0o700)?;
        let maps = s.c.exec(&["cat", "/proc/self/uid_map"])?.ok()?.stdout;
        same("uid_map", maps.split_whitespace().collect::<Vec<_>>(), vec!["0", "100000", "65536"])?;
        s.c.end()
    });
    m.case("checkpoint/with-a-user-namespace-again-and-again", SPEC, |t| {
        again_and_again(of_other_user(t, t.bundle()?)?)
    });
    m.case("checkpoint/with-a-user-namespace-and-volumes", SPEC, |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "on the host")?;
        let bundle = t.bundle()?.bind(&volume, "/mnt/volume", &["ro"]);
        let s = of_other_user(t, bundle.mount("/mnt/tmp", "tmpfs", "tmpfs", &["noexec", "size=1m"]))?;
        s.c.exec(&["sh", "-c", "echo kept > /mnt/tmp/file"])?.ok()?;
        s.checkpoint(&[])?;
        s.restore()?;
        same("the volume", s.c.exec(&["cat", "/mnt/volume/file"])?.ok()?.stdout, "on the host")?;
        same("the tmpfs", s.c.exec(&["cat", "/mnt/tmp/file"])?.ok()?.stdout.trim(), "kept")?;
        s.c.exec(&["sh", "-c", "echo x > /mnt/volume/new"])?.fails()?;
        s.c.end()
    });
    m.case("checkpoint/user-namespace-with-images-of-the-owner-alone", SPEC, |t| {
        let s = of_other_user(t, t.bundle()?)?;
        s.checkpoint(&[])?;
        let core = s.images.join("core-1.img");
        fs::set_permissions(&core, fs::Permissions::from_mode(0o600))?;
        s.restore_cmd().arg("--detach").arg(&s.c.id).output()?.fails_with(&["core-1.img", "0644"])?;
        t.nothing_left()?;
        fs::set_permissions(&core, fs::Permissions::from_mode(0o644))?;
        s.restore()?;
        s.c.end()
    });
    m.case("checkpoint/user-namespace-with-auto-dedup-is-an-error", SPEC, |t| {
        let s = of_other_user(t, t.bundle()?)?;
        s.checkpoint(&["--auto-dedup"])?;
        let restore = s.restore_cmd().args(["--detach", "--auto-dedup"]).arg(&s.c.id);
        restore.output()?.fails_with(&["--auto-dedup", "user namespace"])?;
        t.nothing_left()?;
        s.restore()?;
        s.c.end()
    });
    m.case("checkpoint/user-namespace-with-mounts-below-a-volume-is-an-error", SPEC, |t| {
        // Its /sys is the host's.
        let s = of_other_user(t, t.bundle()?.without_ns("network"))?;
        let out = s.paths(t.verb("checkpoint")).arg(&s.c.id).output()?;
        out.fails_with(&["\"/sys\" in a user namespace", "network namespace of its own"])?;
        counts_on(&s.c.bundle, count(&s.c.bundle))?;
        s.c.end()
    });
    m.case("checkpoint/with-a-user-namespace-and-a-terminal", SPEC, |t| {
        t.only("orun")?;
        with_a_terminal(t, t.bundle()?.userns(100_000, 65_536))
    });
    m.case("checkpoint/joined-user-namespace-is-an-error", SPEC, |t| {
        let holder = of_other_user(t, t.bundle()?)?;
        let path = format!("/proc/{}/ns/user", holder.c.pid()?);
        let s = Saved::of(t, t.sleeper(t.bundle()?.join_ns("user", &path))?);
        let out = s.paths(t.verb("checkpoint")).arg(&s.c.id).output()?;
        out.fails_with(&["linux.namespaces[", "joins a user namespace"])?;
        s.c.is("running")?;
        s.c.delete_force()?;
        holder.c.end()
    });
}

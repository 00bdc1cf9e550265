//! Hooks: the six kinds, their order, state, namespaces, timeout, and what follows from a failure.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Done, Result, has, same};
use crate::command::Output;
use crate::ensure;
use crate::matrix::Matrix;
use crate::proc;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const SPEC: &str = "config.md POSIX-platform Hooks";
const LIFE: &str = "runtime.md Lifecycle";

/// Kind, whether it runs in the runtime's namespaces, the status in its state document.
const KINDS: [(&str, bool, &str); 6] = [
    ("prestart", true, "creating"),
    ("createRuntime", true, "creating"),
    ("createContainer", false, "creating"),
    ("startContainer", false, "created"),
    ("poststart", true, "running"),
    ("poststop", true, "stopped"),
];

/// What one hook wrote down about itself.
struct Seen(Value);

/// Where hooks of this kind write: on the host, or for the one that runs after the pivot, below the root.
fn notes(bundle: &Bundle, kind: &str) -> PathBuf {
    if kind == "startContainer" { bundle.rootfs().join("tmp/hooks") } else { bundle.dir.join("hooks") }
}

fn seen(bundle: &Bundle) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    for path in [bundle.dir.join("hooks"), bundle.rootfs().join("tmp/hooks")] {
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            all.push(Seen(serde_json::from_str(line).context("a hook's note")?));
        }
    }
    Ok(all)
}

fn seen_by(bundle: &Bundle, name: &str) -> Result<Seen> {
    match seen(bundle)?.into_iter().find(|s| s.0["hook"] == name) {
        Some(seen) => Ok(seen),
        None => crate::check::fail(format!("hook {name} did not run")),
    }
}

/// A hook that runs the probe with these options.
fn hook(t: &T<'_>, bundle: &Bundle, kind: &str, name: &str, options: &[&str]) -> Value {
    let (program, file) = if kind == "startContainer" {
        ("/bin/probe".into(), "/tmp/hooks".into())
    } else {
        (t.host_probe().to_string_lossy().into_owned(), notes(bundle, kind).to_string_lossy().into_owned())
    };
    let mut args = vec!["probe".to_owned(), "hook".into(), file, name.to_owned()];
    args.extend(options.iter().map(|o| (*o).to_owned()));
    json!({"path": program, "args": args})
}

fn with_hook(t: &T<'_>, bundle: Bundle, kind: &str, name: &str, options: &[&str]) -> Bundle {
    let hook = hook(t, &bundle, kind, name, options);
    bundle.push(&format!("/hooks/{kind}"), hook)
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for (kind, outside, status) in KINDS {
        each_kind(m, kind, outside, status);
    }
    order(m);
    details(m);
    surroundings(m);
    failures(m);
    refusals(m);
}

fn each_kind(m: &mut Matrix, kind: &'static str, outside: bool, status: &'static str) {
    let label = kind.to_lowercase();
    m.case(format!("hooks/{label}-runs-once"), LIFE, move |t| {
        let bundle = with_hook(t, t.bundle()?, kind, "it", &[]).args(&["true"]);
        t.run(&bundle)?.ok()?;
        same("notes", seen(&bundle)?.len(), 1)
    });
    m.case(format!("hooks/{label}-state"), "runtime.md State; config.md: state on stdin", move |t| {
        let bundle =
            with_hook(t, t.bundle()?.set("/annotations", json!({"a.b": "c"})), kind, "it", &[]).sleeps();
        let c = t.start(&bundle)?;
        let pid = c.pid()?;
        c.stop()?;
        c.delete()?;
        let note = seen_by(&bundle, "it")?.0;
        let state = &note["state"];
        ensure!(state.is_object(), "standard input was {:?}", note["stdin"]);
        same("id", &state["id"], &json!(c.id))?;
        same("status", &state["status"], &json!(status))?;
        same("bundle", &state["bundle"], &json!(bundle.dir))?;
        same("annotations", &state["annotations"], &json!({"a.b": "c"}))?;
        ensure!(state["ociVersion"].is_string(), "ociVersion is {}", state["ociVersion"]);
        if outside && kind != "poststop" {
            same("pid", &state["pid"], &json!(pid))?;
        }
        Ok(())
    });
    m.case(format!("hooks/{label}-namespaces"), SPEC, move |t| {
        let bundle = with_hook(t, t.bundle()?, kind, "it", &[]).sleeps();
        let c = t.start(&bundle)?;
        let pid = if outside { std::process::id() as i32 } else { c.pid()? };
        let want: Vec<_> = ["net", "mnt", "ipc", "uts"].map(|ns| proc::namespace(pid, ns)).into();
        c.stop()?;
        c.delete()?;
        let note = seen_by(&bundle, "it")?.0;
        let got: Vec<_> =
            ["net", "mnt", "ipc", "uts"].map(|ns| note["ns"][ns].as_str().map(str::to_owned)).into();
        same("namespaces net, mnt, ipc, uts", got, want)
    });
    if kind != "poststop" {
        m.case(format!("hooks/{label}-failure"), LIFE, move |t| failure(t, kind));
        m.case(format!("hooks/{label}-timeout"), "config.md Hooks: timeout", move |t| timeout(t, kind));
    }
}

/// A failing hook stops the container; create or start fails with runc's phrase; poststop hooks run.
fn failure(t: &mut T<'_>, kind: &str) -> Done {
    let bundle = with_hook(t, t.bundle()?, kind, "bad", &["exit=3", "stderr=my-reason"]);
    let bundle = with_hook(t, bundle, "poststop", "after", &[]).sleeps();
    let out = refuses(t, &bundle, kind)?;
    has("the hook's own words", &out.stderr, "my-reason").or_else(|e| match kind {
        // Only what the runtime can capture: a hook in the container may have lost its output.
        "startContainer" => Ok(()),
        _ => Err(e),
    })?;
    same("poststop ran", seen(&bundle)?.iter().filter(|s| s.0["hook"] == "after").count(), 1)
}

/// Demands an error and that nothing is left. An error of the container's own process need not be in the log.
fn refuses(t: &T<'_>, bundle: &Bundle, kind: &str) -> Result<Output> {
    if kind != "startContainer" {
        return t.refuses(bundle, &["hook"]);
    }
    let out = t.run(bundle)?.fails()?;
    t.nothing_left()?;
    Ok(out)
}

fn timeout(t: &mut T<'_>, kind: &str) -> Done {
    let bundle = t.bundle()?;
    let mut slow = hook(t, &bundle, kind, "slow", &["sleep=600000"]);
    slow["timeout"] = json!(1);
    let bundle = bundle.push(&format!("/hooks/{kind}"), slow).sleeps();
    refuses(t, &bundle, kind).map(drop)
}

fn order(m: &mut Matrix) {
    m.case("hooks/all-kinds-in-the-order-of-the-life-cycle", LIFE, |t| {
        let mut bundle = t.bundle()?;
        // One file for all of them, which the one inside the container reaches through a bind.
        let volume = t.volume()?;
        bundle = bundle.bind(&volume, "/mnt", &["rw"]);
        let program = t.host_probe();
        for (kind, _, _) in KINDS {
            for number in ["1", "2"] {
                let name = format!("{kind}{number}");
                let inside = kind == "startContainer";
                let path = if inside { Path::new("/bin/probe") } else { &program };
                let file = if inside { "/mnt/hooks".into() } else { format!("{}/hooks", volume.display()) };
                let hook = json!({"path": path, "args": ["probe", "hook", file, name]});
                bundle = bundle.push(&format!("/hooks/{kind}"), hook);
            }
        }
        let report = json!(["probe", "hook", "/mnt/hooks", "program", "no-stdin"]);
        let c = t.create(&bundle.set("/process/args", report))?;
        let names = || -> Vec<String> {
            let text = fs::read_to_string(volume.join("hooks")).unwrap_or_default();
            let name = |l: &str| Some(serde_json::from_str::<Value>(l).ok()?["hook"].as_str()?.to_owned());
            text.lines().filter_map(name).collect()
        };
        let mut want: Vec<String> = Vec::new();
        let mut expect = |kinds: &[&str]| {
            for kind in kinds {
                want.extend([format!("{kind}1"), format!("{kind}2")]);
            }
            want.clone()
        };
        same("after create", names(), expect(&["prestart", "createRuntime", "createContainer"]))?;
        c.start()?;
        c.becomes("stopped")?;
        let mut seen = names();
        // The program runs beside the poststart hooks.
        let program = seen.iter().position(|n| n == "program");
        let last_start = seen.iter().position(|n| n == "startContainer2");
        ensure!(program > last_start, "the program ran before the startContainer hooks: {seen:?}");
        seen.retain(|n| n != "program");
        same("after start", seen, expect(&["startContainer", "poststart"]))?;
        c.delete()?;
        let mut seen = names();
        seen.retain(|n| n != "program");
        same("after delete", seen, expect(&["poststop"]))
    });
}

fn details(m: &mut Matrix) {
    m.case("hooks/first-argument-is-the-name", "config.md Hooks: args as in execv", |t| {
        let bundle = t.bundle()?;
        let mut it = hook(t, &bundle, "createRuntime", "it", &[]);
        it["args"][0] = json!("another-name");
        let bundle = bundle.push("/hooks/createRuntime", it).args(&["true"]);
        t.run(&bundle)?.ok()?;
        same("argv[0]", &seen_by(&bundle, "it")?.0["argv0"], &json!("another-name"))
    });
    m.case("hooks/environment-is-the-given-one", "config.md Hooks: env", |t| {
        let bundle = t.bundle()?;
        let mut it = hook(t, &bundle, "createRuntime", "it", &[]);
        it["env"] = json!(["ONE=1", "TWO=2"]);
        let bundle = bundle.push("/hooks/createRuntime", it).args(&["true"]);
        t.run_cmd(&bundle)?.env("LEAKED", "yes").ok()?;
        same("environment", &seen_by(&bundle, "it")?.0["env"], &json!({"ONE": "1", "TWO": "2"}))
    });
    absent_or_empty(m);
    m.case("hooks/createcontainer-sees-mounts-before-the-pivot", LIFE, |t| {
        let bundle = t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &[]);
        let target = bundle.rootfs().join("mnt/made-by-hook");
        let option = format!("touch={}", target.display());
        let bundle = with_hook(t, bundle, "createContainer", "it", &[&option]);
        t.report(&bundle.clone().args(&["probe", "report", "--path", "/mnt/made-by-hook"]))?
            .path("/mnt/made-by-hook")?;
        ensure!(!target.exists(), "the hook wrote to the bundle, not to the container's mount");
        Ok(())
    });
    m.case("hooks/createcontainer-may-write-to-a-read-only-root", LIFE, |t| {
        let bundle = t.bundle()?.set("/root/readonly", true);
        let option = format!("touch={}", bundle.rootfs().join("etc/made-by-hook").display());
        let bundle = with_hook(t, bundle, "createContainer", "it", &[&option]);
        t.report(&bundle.args(&["probe", "report", "--path", "/etc/made-by-hook"]))?
            .path("/etc/made-by-hook")
            .map(drop)
    });
    m.case("hooks/startcontainer-is-in-the-container's-root", LIFE, |t| {
        let bundle = with_hook(t, t.bundle()?, "startContainer", "it", &[]).args(&["true"]);
        t.run(&bundle)?.ok()?;
        same("a file of the host is seen", &seen_by(&bundle, "it")?.0["old_root"], &json!(false))
    });
    m.case("hooks/not-reading-standard-input-is-fine", SPEC, |t| {
        let annotations: Value = (0..3000).map(|n| (format!("key{n}"), json!("v".repeat(60)))).collect();
        let mut bundle = t.bundle()?.set("/annotations", annotations);
        for (kind, _, _) in KINDS {
            bundle = with_hook(t, bundle, kind, kind, &["no-stdin"]);
        }
        t.run(&bundle.args(&["true"]))?.ok().map(drop)
    });
    m.case("hooks/flood-of-output-is-no-harm", SPEC, |t| {
        let bundle = t.bundle()?;
        let flood = json!({"path": t.host_probe(), "args": ["probe", "flood"]});
        let bundle = bundle.push("/hooks/createRuntime", flood).args(&["true"]);
        // Whether such a hook counts as failed is the runtime's choice; it must neither hang nor leave anything.
        t.run(&bundle)?;
        t.nothing_left()
    });
}

fn surroundings(m: &mut Matrix) {
    let shell = |command: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", command]});
    m.case("hooks/createcontainer-starts-in-the-root", "runc contract", move |t| {
        let bundle = t.bundle()?.push("/hooks/createContainer", shell("echo here > ./from-hook"));
        let bundle = bundle.args(&["true"]);
        t.run(&bundle)?.ok()?;
        let found = fs::read_to_string(bundle.rootfs().join("from-hook")).unwrap_or_default();
        same("from-hook in the root", found.trim(), "here")
    });
    m.case("hooks/startcontainer-has-the-environment-of-the-program", "runc contract", move |t| {
        let bundle = t.bundle()?.set("/process/env", json!(["PATH=/bin", "ONE=two"]));
        let bundle = bundle.push("/hooks/startContainer", shell("echo $ONE ${HOME:+home} > /tmp/from-hook"));
        let bundle = bundle.args(&["true"]);
        t.run(&bundle)?.ok()?;
        let found = fs::read_to_string(bundle.rootfs().join("tmp/from-hook")).unwrap_or_default();
        same("variables", found.trim(), "two home")
    });
    m.case("hooks/startcontainer-with-an-environment-of-its-own", SPEC, move |t| {
        let mut hook = shell("echo $ONE$TWO > /tmp/from-hook");
        hook["env"] = json!(["TWO=three"]);
        let bundle = t.bundle()?.set("/process/env", json!(["PATH=/bin", "ONE=two"]));
        let bundle = bundle.push("/hooks/startContainer", hook).args(&["true"]);
        t.run(&bundle)?.ok()?;
        let found = fs::read_to_string(bundle.rootfs().join("tmp/from-hook")).unwrap_or_default();
        same("variables", found.trim(), "three")
    });
    for verb in ["run", "delete"] {
        m.case(format!("hooks/poststop-of-{verb}-runs-without-the-state"), LIFE, move |t| {
            let note = t.path("note");
            // Whatever else the runtime may have there, the container's own directory has its id for a name.
            let listed = format!("ls {} | grep -q {}", t.root().display(), t.marker());
            let command = format!("{listed} && echo there > {0} || echo gone > {0}", note.display());
            let bundle = t.bundle()?.push("/hooks/poststop", shell(&command));
            if verb == "run" {
                t.run(&bundle.args(&["true"]))?.ok()?;
            } else {
                let c = t.create(&bundle.sleeps())?;
                c.delete_force()?;
            }
            same("the container's state", fs::read_to_string(&note)?.trim(), "gone")
        });
    }
}

fn failures(m: &mut Matrix) {
    for (kind, _, _) in KINDS.into_iter().filter(|(kind, _, _)| *kind != "poststop") {
        let label = kind.to_lowercase();
        m.case(
            format!("hooks/{label}-failure-is-named"),
            "runc contract: error running KIND hook #N",
            move |t| {
                let bundle = with_hook(t, t.bundle()?, kind, "fine", &[]);
                let bundle = with_hook(t, bundle, kind, "bad", &["exit=9"]);
                let out = refuses(t, &bundle.sleeps(), kind)?;
                has("message", &out.stderr, &format!("error running {kind} hook #1"))
            },
        );
    }
    m.case("hooks/poststart-failure-at-start-ends-the-container", LIFE, |t| {
        let bundle = with_hook(t, t.bundle()?, "poststart", "bad", &["exit=9"]);
        let bundle = with_hook(t, bundle, "poststop", "after", &[]).sleeps();
        let c = t.create(&bundle)?;
        c.verb("start").output()?.fails_with(&["error running poststart hook #0"])?;
        c.verb("state").output()?.fails_with(&["does not exist"])?;
        seen_by(&bundle, "after")?;
        t.nothing_left()
    });
    m.case("hooks/failure-ends-the-list", LIFE, |t| {
        let bundle = with_hook(t, t.bundle()?, "createRuntime", "bad", &["exit=9"]);
        let bundle = with_hook(t, bundle, "createRuntime", "late", &[]);
        t.refuses(&bundle.clone().args(&["true"]), &["hook"])?;
        same("hooks that ran", seen(&bundle)?.len(), 1)
    });
    m.case("hooks/failure-keeps-the-program-from-running", LIFE, |t| {
        let bundle = with_hook(t, t.bundle()?, "startContainer", "bad", &["exit=9"]);
        t.run(&bundle.clone().args(&["probe", "touch", "/tmp/ran"]))?.fails()?;
        ensure!(!bundle.rootfs().join("tmp/ran").exists(), "the program ran");
        Ok(())
    });
    m.case("hooks/poststop-failure-is-a-warning", "runtime.md Lifecycle: poststop errors are logged", |t| {
        let bundle = with_hook(t, t.bundle()?, "poststop", "bad", &["exit=9"]);
        let bundle = with_hook(t, bundle, "poststop", "next", &[]).sleeps();
        let c = t.start(&bundle)?;
        c.stop()?;
        c.delete()?;
        seen_by(&bundle, "next")?;
        t.nothing_left()
    });
    m.case("hooks/killed-by-a-signal-is-a-failure", LIFE, |t| {
        let hook = json!({"path": t.host_probe(), "args": ["probe", "fault"]});
        let bundle = t.bundle()?.push("/hooks/createRuntime", hook).args(&["true"]);
        t.refuses(&bundle, &["hook"]).map(drop)
    });
    m.case("hooks/missing-program-is-an-error", SPEC, |t| {
        let bundle = t.bundle()?.push("/hooks/createRuntime", json!({"path": "/none/such"})).args(&["true"]);
        t.refuses(&bundle, &["no such file"]).map(drop)
    });
}

fn refusals(m: &mut Matrix) {
    m.case("hooks/relative-path-is-an-error", "config.md Hooks: path MUST be absolute", |t| {
        let bundle = t.bundle()?.push("/hooks/createRuntime", json!({"path": "bin/true"})).args(&["true"]);
        t.refuses(&bundle, &["hook", "bin/true"]).map(drop)
    });
    m.case("hooks/missing-path-is-an-error", "config.md Hooks: path is REQUIRED", |t| {
        let bundle = t.bundle()?.push("/hooks/createRuntime", json!({"args": ["x"]})).args(&["true"]);
        t.refuses(&bundle, &["hook", "path"]).map(drop)
    });
    for seconds in [0, -1] {
        m.case(
            format!("hooks/timeout-of-{seconds}-is-an-error"),
            "config.md Hooks: timeout MUST be positive",
            move |t| {
                let bundle = t.bundle()?;
                let mut it = hook(t, &bundle, "createRuntime", "it", &[]);
                it["timeout"] = json!(seconds);
                t.refuses(&bundle.push("/hooks/createRuntime", it).args(&["true"]), &["hook", "timeout"])
                    .map(drop)
            },
        );
    }
}

/// What a hook has that asks for no environment, for an empty one, and where it starts.
fn absent_or_empty(m: &mut Matrix) {
    const ENV: &str =
        "config.md Hooks: env is OPTIONAL; runc contract: without it the runtime's is passed on";
    const DIRECTORY: &str = "runc contract: hooks on the host start in the bundle";
    for (kind, outside, _) in KINDS {
        let name = kind.to_lowercase();
        m.case(format!("hooks/{name}-without-env"), ENV, move |t| {
            let bundle = t.bundle()?.push("/process/env", "OF=the-program");
            let bundle = with_hook(t, bundle, kind, "it", &[]).args(&["true"]);
            t.run_cmd(&bundle)?.env("OF", "the-runtime").ok()?;
            let want = if outside { "the-runtime" } else { "the-program" };
            same("OF", &seen_by(&bundle, "it")?.0["env"]["OF"], &json!(want))
        });
        m.case(format!("hooks/{name}-with-empty-env"), ENV, move |t| {
            let bundle = t.bundle()?.push("/process/env", "OF=the-program");
            let mut it = hook(t, &bundle, kind, "it", &[]);
            it["env"] = json!([]);
            let bundle = bundle.push(&format!("/hooks/{kind}"), it).args(&["true"]);
            t.run_cmd(&bundle)?.env("OF", "the-runtime").ok()?;
            same("environment", &seen_by(&bundle, "it")?.0["env"], &json!({}))
        });
        if !outside {
            continue;
        }
        m.case(format!("hooks/{name}-starts-in-the-bundle"), DIRECTORY, move |t| {
            let bundle = with_hook(t, t.bundle()?, kind, "it", &[]).args(&["true"]);
            t.run_cmd(&bundle)?.cwd("/").ok()?;
            same("directory", &seen_by(&bundle, "it")?.0["cwd"], &json!(bundle.dir))
        });
    }
    m.case("hooks/poststop-of-a-bundle-that-is-gone", DIRECTORY, |t| {
        t.only("orun")?;
        let (bundle, out) = (t.bundle()?.sleeps(), t.path("where"));
        let args = ["sh", "-c", "pwd >$0", out.to_str().unwrap_or("")];
        let bundle = bundle.push("/hooks/poststop", json!({"path": "/bin/sh", "args": args}));
        let c = t.start(&bundle)?;
        c.stop()?;
        fs::rename(&bundle.dir, t.path("elsewhere"))?;
        c.delete()?;
        same("directory", fs::read_to_string(&out)?.as_str(), "/\n")
    });
}

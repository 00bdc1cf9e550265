//! Odd callers: whatever a process has set before it becomes the runtime, a container is the same as one of an ordinary
//! caller, or there is one clear error and nothing is left.

use super::caller_table::{self, Caller, Expect};
use super::checkpoint::Saved;
use super::rootless;
use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Done, Result, fail, same, same_set};
use crate::command::{Cmd, Output, VERB_DEADLINE, poll};
use crate::ensure;
use crate::matrix::Matrix;
use crate::odd::Odd;
use crate::report::Report;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

const SPEC: &str = "execve(2) and prctl(2): what a program inherits";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for caller in caller_table::table() {
        let (a, b, c) = (caller.clone(), caller.clone(), caller.clone());
        m.case(format!("callers/run-{}", caller.name), SPEC, move |t| run(t, &a));
        m.case(format!("callers/life-{}", caller.name), SPEC, move |t| life(t, &b));
        m.case(format!("callers/hooks-{}", caller.name), SPEC, move |t| hooks(t, &c));
    }
    for caller in ordinary_users() {
        let name = format!("callers/rootless-{}", caller.name);
        m.case(name, SPEC, move |t| of_a_user(t, &caller));
    }
    for caller in restoring() {
        let name = format!("callers/restore-{}", caller.name);
        m.case(name, SPEC, move |t| restore(t, &caller));
    }
    no_more_processes(m);
    files_may_not_grow(m);
    limits_are_the_callers(m);
    terminals(m);
}

/// What a program can see of its caller, from the probe's report.
fn inherited(report: &Report, with_limits: bool) -> Value {
    const KEYS: [&str; 18] = [
        "argv",
        "environ",
        "cwd",
        "umask",
        "caps",
        "uids",
        "gids",
        "groups",
        "no_new_privs",
        "seccomp_filters",
        "signals",
        "oom_score_adj",
        "securebits",
        "dumpable",
        "parent_death_signal",
        "threads",
        "sid",
        "tty",
    ];
    let mut all: Map<String, Value> =
        KEYS.iter().map(|k| ((*k).to_owned(), report.at(&format!("/{k}")).clone())).collect();
    all.insert("descriptors".into(), json!(report.map("/fds").into_keys().collect::<Vec<_>>()));
    if with_limits {
        all.insert("rlimits".into(), report.at("/rlimits").clone());
    }
    Value::Object(all)
}

/// A bundle whose program reports to a file and ends with 7: its output may be gone.
fn bundle(t: &T<'_>) -> Result<Bundle> {
    let args = ["probe", "report", "--to", "/tmp/report", "--then", "exit", "7"];
    Ok(t.bundle()?.args(&args).set("/process/noNewPrivileges", false))
}

fn take_report(path: &Path) -> Result<Report> {
    let text = fs::read_to_string(path).context(&format!("reading {}", path.display()))?;
    fs::remove_file(path)?;
    Report::parse(&text)
}

fn reported(bundle: &Bundle) -> Result<Report> {
    take_report(&bundle.rootfs().join("tmp/report"))
}

/// Demands that the two do not differ, but for what `caller` is known to leave.
fn compare(caller: &Caller, what: &str, usual: &Report, found: &Report) -> Done {
    let filtered = caller.odd.iter().any(|o| matches!(o, Odd::Filtered(..)));
    let view = |report: &Report| {
        let mut all = inherited(report, !caller.limits());
        if filtered {
            // A filter stays for good.
            all["seccomp_filters"] = Value::Null;
        }
        if caller.odd.contains(&Odd::Prctl(libc::PR_SET_NO_NEW_PRIVS, 1)) {
            // So does this.
            all["no_new_privs"] = Value::Null;
        }
        if caller.odd.iter().any(|o| matches!(o, Odd::Without(_))) {
            // The runtime cannot give what it does not have; it warns of that.
            all["caps"] = Value::Null;
        }
        all
    };
    same(what, view(found), view(usual))
}

/// Whether `out` is the failure of a command that says why: an exit status of its own and a message.
fn refused(caller: &Caller, out: &Output) -> Result<bool> {
    let words = match caller.expect {
        Expect::Same | Expect::SilentlySame => return Ok(false),
        Expect::SameOrError => &[][..],
        Expect::Error(words) => words,
    };
    if out.status.success() || out.status.code() == 7 {
        ensure!(words.is_empty(), "{}: it had to fail", out.describe());
        return Ok(false);
    }
    ensure!(out.status.signal().is_none(), "{}: killed", out.describe());
    out.clone().fails_with(words)?;
    Ok(true)
}

fn run(t: &mut T<'_>, caller: &Caller) -> Done {
    let bundle = bundle(t)?;
    t.run(&bundle)?.exits(7)?;
    let usual = reported(&bundle)?;
    let out = caller.call(t.run_cmd(&bundle)?)?.output()?;
    if !refused(caller, &out)? {
        let code = out.status.code();
        ensure!(code == 7, "{}, instead of status 7", out.describe());
        compare(caller, "what the program finds", &usual, &reported(&bundle)?)?;
    }
    t.nothing_left()
}

/// Every process of exec leads a session of its own; then its number says nothing.
fn at_home(mut report: Report) -> Report {
    if report.at("/sid") == report.at("/pid") {
        report.0["sid"] = json!("own");
    }
    report
}

/// Verbs that act on a running container, with what they may print to.
const VERBS: [(&[&str], bool); 8] = [
    (&["state"], true),
    (&["ps"], true),
    (&["events", "--stats"], true),
    (&["update", "--cpu-share", "512"], false),
    (&["pause"], false),
    (&["resume"], false),
    (&["exec", "--detach"], false),
    (&["kill"], false),
];

fn life(t: &mut T<'_>, caller: &Caller) -> Done {
    // It prints nothing, because that may fail.
    let bundle = t.bundle()?.args(&["sleep", "1000"]).set("/process/noNewPrivileges", false);
    bundle.save()?;
    let id = t.id();
    let (out, root) = (t.path("out"), t.root().to_owned());
    let create = t.verb("create").arg("--bundle").arg(&bundle.dir).streams(&out, &out).arg(&id);
    let made = caller.call(create)?.output()?;
    if refused(caller, &made)? {
        ensure!(!root.join(&id).exists(), "a record is left after {}", made.describe());
        return t.nothing_left();
    }
    made.ok()?;
    let call =
        |words: &[&str]| -> Result<Output> { caller.call(t.runtime().args(words.iter().copied()))?.output() };
    verb(caller, &call(&["start", &id])?, false)?;
    let probe = ["probe", "report", "--to", "/tmp/report"];
    let ordinary = t.verb("exec").arg(&id).args(probe).output()?;
    // Of a caller that lacks something it may be gone.
    if ordinary.status.success() || caller.expect != Expect::SameOrError {
        ordinary.ok()?;
        let usual = at_home(reported(&bundle)?);
        let words = ["exec", &id, "probe", "report", "--to", "/tmp/report", "--then", "exit", "9"];
        let out = call(&words)?;
        if out.status.code() == 9 {
            let mut found = at_home(reported(&bundle)?);
            found.0["argv"] = usual.at("/argv").clone();
            compare(caller, "what a program of exec finds", &usual, &found)?;
        } else {
            ensure!(refused(caller, &out)?, "{}, instead of status 9", out.describe());
        }
    }
    verb(caller, &call(&["list"])?, true)?;
    for (words, prints) in VERBS {
        let mut all = words.to_vec();
        all.push(&id);
        match words[0] {
            "exec" => all.push("true"),
            "kill" => all.push("KILL"),
            _ => {}
        }
        verb(caller, &call(&all)?, prints)?;
    }
    verb(caller, &call(&["delete", "--force", &id])?, false)?;
    if root.join(&id).exists() {
        ensure!(caller.expect == Expect::SameOrError, "`delete` has left the record");
        t.verb("delete").args(["--force", &id]).ok()?;
    }
    t.nothing_left()
}

/// A verb ends well, or says why not; what cannot be printed is an error where it is one for every program.
fn verb(caller: &Caller, out: &Output, prints: bool) -> Done {
    let silent = caller.expect == Expect::SilentlySame && prints;
    if out.status.success() || silent && out.status.signal().is_none() || refused(caller, out)? {
        return Ok(());
    }
    fail(format!("{}, although nothing may differ", out.describe()))
}

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A bundle with a hook of each kind that reports, and where each does.
fn hooked(t: &T<'_>) -> Result<(Bundle, Vec<(&'static str, std::path::PathBuf)>)> {
    let mut bundle = bundle(t)?;
    let mut files = Vec::new();
    for kind in KINDS {
        let inside = kind == "startContainer";
        let name = format!("hook-{kind}");
        let program = if inside { "/bin/probe".into() } else { t.host_probe() };
        let file = if inside { bundle.rootfs().join("tmp").join(&name) } else { bundle.dir.join(&name) };
        let to = if inside { Path::new("/tmp").join(&name) } else { file.clone() };
        let hook = json!({"path": program, "args": ["probe", "report", "--to", to], "env": ["A=b"]});
        bundle = bundle.push(&format!("/hooks/{kind}"), hook);
        files.push((kind, file));
    }
    Ok((bundle, files))
}

fn hooks(t: &mut T<'_>, caller: &Caller) -> Done {
    let (bundle, files) = hooked(t)?;
    t.run(&bundle)?.exits(7)?;
    let usual: Vec<Report> = files.iter().map(|(_, f)| take_report(f)).collect::<Result<_>>()?;
    reported(&bundle)?;
    let out = caller.call(t.run_cmd(&bundle)?)?.output()?;
    if refused(caller, &out)? {
        return t.nothing_left();
    }
    ensure!(out.status.code() == 7, "{}, instead of status 7", out.describe());
    for ((kind, file), usual) in files.iter().zip(&usual) {
        let found = take_report(file).context(&format!("the {kind} hook"))?;
        let open: Vec<_> = found.map("/fds").into_keys().collect();
        same_set(&format!("descriptors of the {kind} hook"), &open, &["0", "1", "2"])?;
        let signals = |r: &Report| r.at("/signals").clone();
        same(&format!("signals of the {kind} hook"), signals(&found), signals(usual))?;
        same(&format!("environment of the {kind} hook"), found.at("/environ"), usual.at("/environ"))?;
        same(&format!("directory of the {kind} hook"), found.at("/cwd"), usual.at("/cwd"))?;
    }
    compare(caller, "what the program finds", &reported(&bundle)?, &reported_again(t, &bundle)?)?;
    t.nothing_left()
}

/// The report of one more ordinary run.
fn reported_again(t: &T<'_>, bundle: &Bundle) -> Result<Report> {
    t.run(bundle)?.exits(7)?;
    reported(bundle)
}

/// Those that a user without privileges can be, too.
fn ordinary_users() -> Vec<Caller> {
    let all = [
        caller_table::signals(),
        caller_table::streams(),
        caller_table::limits(),
        caller_table::attributes(),
    ];
    // With a hard limit on processes the user's own command would not start.
    let plain = |c: &Caller| !c.name.contains("nproc") && c.name != "with-an-empty-dev";
    all.into_iter().flatten().filter(plain).collect()
}

fn of_a_user(t: &mut T<'_>, caller: &Caller) -> Done {
    let args = ["probe", "report", "--to", "/tmp/report", "--then", "exit", "7"];
    let bundle = rootless::bundle(t)?.args(&args).unset("/process/rlimits");
    bundle.save()?;
    let words = |cmd: Cmd| cmd.arg("run").arg("--bundle").arg(&bundle.dir).arg(t.id());
    words(rootless::as_user(t)?).output()?.exits(7)?;
    let usual = reported(&bundle)?;
    let out = caller.call(words(rootless::as_user(t)?))?.output()?;
    if !refused(caller, &out)? {
        ensure!(out.status.code() == 7, "{}, instead of status 7", out.describe());
        compare(caller, "what the program finds", &usual, &reported(&bundle)?)?;
    }
    t.nothing_left()
}

fn no_more_processes(m: &mut Matrix) {
    m.case("callers/a-user-who-may-have-no-more-processes", "getrlimit(2): RLIMIT_NPROC", |t| {
        t.only("orun")?;
        let bundle = rootless::bundle(t)?.args(&["true"]);
        bundle.save()?;
        let script = "ulimit -u 1; exec \"$@\"";
        let cmd = rootless::as_user_by(t, &["/bin/busybox", "sh", "-c", script, "sh"])?;
        let out = cmd.arg("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).output()?;
        out.fails_with(&["rlimit_nproc"])?;
        t.nothing_left()
    });
}

/// CRIU takes only streams of the kind that the container had: here files.
fn restoring() -> Vec<Caller> {
    let mut all = caller_table::signals();
    all.extend(caller_table::streams().into_iter().filter(|c| c.name == "with-open-files"));
    all.extend(caller_table::attributes().into_iter().filter(|c| {
        ["with-umask-0777", "with-umask-0", "with-a-death-signal", "in-a-deleted-directory"]
            .contains(&&*c.name)
    }));
    all
}

fn restore(t: &mut T<'_>, caller: &Caller) -> Done {
    let saved = Saved::counter(t, t.bundle()?)?;
    saved.checkpoint(&[])?;
    let at = super::checkpoint::count(&saved.c.bundle);
    let cmd = saved.restore_cmd().arg("--detach").arg(&saved.c.id);
    caller.call(cmd)?.ok()?;
    super::checkpoint::counts_on(&saved.c.bundle, at)?;
    let pid = saved.c.pid()?;
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let open: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    same_set("descriptors of the restored program", &open, &["0", "1", "2"])?;
    let out = caller.call(saved.c.exec_cmd(&[], &["sh", "-c", "exit 9"]))?.output()?;
    ensure!(out.status.code() == 9, "{}, instead of status 9", out.describe());
    saved.c.delete_force()?;
    t.nothing_left()
}

/// Files may not grow: the program's own neither, so that it writes none, and nor do the outputs go to files.
fn files_may_not_grow(m: &mut Matrix) {
    for (name, hard) in [("soft", None), ("hard", Some(0))] {
        let odd = [Odd::Limit(libc::RLIMIT_FSIZE, 0, hard)];
        m.case(format!("callers/run-with-a-{name}-limit-fsize"), SPEC, move |t| {
            let bundle = t.bundle()?.args(&["probe", "exit", "7"]);
            let (out, write) = std::io::pipe()?;
            let cmd = t.run_cmd(&bundle)?.pipes(write.try_clone()?.into(), write.into());
            let status = cmd.odd(&odd).output()?.status.code();
            let said = std::io::read_to_string(out)?;
            let refused = hard.is_some() && status == 1 && said.contains("file too large");
            ensure!(status == 7 || refused, "status {status}, {said:?}");
            t.nothing_left()
        });
    }
}

fn limits_are_the_callers(m: &mut Matrix) {
    const GETRLIMIT: &str = "getrlimit(2): limits are inherited";
    for (name, resource, value, asks, says) in [
        ("nofile", libc::RLIMIT_NOFILE, 9, "ulimit -n", "9"),
        ("stack", libc::RLIMIT_STACK, 256 << 10, "ulimit -s", "256"),
        ("fsize", libc::RLIMIT_FSIZE, 1 << 20, "ulimit -f", "2048"),
        ("data", libc::RLIMIT_DATA, 16 << 20, "ulimit -d", "16384"),
    ] {
        let odd = [Odd::Limit(resource, value, None)];
        m.case(format!("callers/the-program-has-the-caller's-{name}"), GETRLIMIT, move |t| {
            let bundle = t.bundle()?.unset("/process/rlimits").shell(asks);
            let out = t.run_cmd(&bundle)?.odd(&odd).ok()?;
            same("limit", out.stdout.trim(), says)?;
            let c = t.sleeper(t.bundle()?.unset("/process/rlimits"))?;
            let out = c.exec_cmd(&[], &["sh", "-c", asks]).odd(&odd).ok()?;
            same("limit of exec", out.stdout.trim(), says)
        });
    }
}

fn terminals(m: &mut Matrix) {
    const NOHUP: &str = "nohup(1); sh(1): a background job ignores ^C";
    m.case("callers/the-terminal's-signals-are-not-for-a-background-job", NOHUP, |t| {
        same("an ordinary caller", interrupted(t, &[])?.as_str(), "up\ngot\n")?;
        let background = [Odd::Ignores(vec![libc::SIGINT])];
        same("a background job", interrupted(t, &background)?.as_str(), "up\n")
    });
}

/// What a container without a terminal writes whose caller, on a terminal of its own, gets ^C there and then SIGTERM.
fn interrupted(t: &T<'_>, odd: &[Odd]) -> Result<String> {
    let pair = nix::pty::openpty(None, None)?;
    let (out, err) = (t.path("out"), t.path("err"));
    let program = "trap 'echo got' INT; trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let bundle = t.bundle()?.shell(program);
    bundle.save()?;
    let cmd = t.host("/bin/busybox").args(["sh", "-c", "exec \"$@\" >\"$OUT\" 2>\"$ERR\"", "sh"]);
    let cmd = cmd.env("OUT", out.to_string_lossy()).env("ERR", err.to_string_lossy());
    let cmd = cmd.arg(&t.runtime.path).args(t.globals()).arg("--root").arg(t.root());
    let cmd = cmd.arg("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).terminal(pair.slave);
    let running = cmd.odd(odd).spawn()?;
    let wrote = || fs::read_to_string(&out).is_ok_and(|text| text.contains("up")).then_some(());
    poll("the program to run", VERB_DEADLINE, wrote)?;
    nix::unistd::write(&pair.master, &[3])?;
    // It comes after the other, which has the lower number.
    running.signal(libc::SIGTERM)?;
    running.wait()?.exits(7)?;
    Ok(fs::read_to_string(&out)?)
}

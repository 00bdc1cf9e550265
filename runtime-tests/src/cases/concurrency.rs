//! Several verbs on one container at once.

use crate::check::{has, same};
use crate::command::Running;
use crate::ensure;
use crate::matrix::Matrix;

const CONTRACT: &str = "runc contract: concurrent verbs on one id";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    m.case("concurrency/one-of-eight-creates-wins", CONTRACT, |t| {
        let id = t.id();
        let mut running: Vec<Running> = Vec::new();
        for _ in 0..8 {
            let bundle = t.bundle()?.sleeps();
            bundle.save()?;
            running.push(t.verb("create").arg("--bundle").arg(&bundle.dir).arg(&id).spawn()?);
        }
        let mut won = 0;
        for one in running {
            let out = one.wait()?;
            if out.status.success() {
                won += 1;
            } else {
                ensure!(!out.stderr.trim().is_empty(), "{}", out.describe());
            }
        }
        same("creates that succeeded", won, 1)?;
        t.verb("start").arg(&id).ok()?;
        t.verb("delete").args(["--force", &id]).ok()?;
        t.nothing_left()
    });
    m.case("concurrency/one-of-eight-starts-wins", CONTRACT, |t| {
        let c = t.create(&t.bundle()?.sleeps())?;
        let running: Vec<Running> = (0..8).map(|_| c.verb("start").spawn()).collect::<Result<_, _>>()?;
        let mut won = 0;
        for one in running {
            won += usize::from(one.wait()?.status.success());
        }
        same("starts that succeeded", won, 1)?;
        c.is("running")?;
        c.end()
    });
    m.case("concurrency/state-during-create-and-delete", CONTRACT, |t| {
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        for _ in 0..5 {
            let id = t.id();
            let create = t.verb("create").arg("--bundle").arg(&bundle.dir).arg(&id).spawn()?;
            for _ in 0..6 {
                let out = t.verb("state").arg(&id).output()?;
                if !out.status.success() {
                    has("message", &out.stderr, "does not exist")?;
                }
            }
            create.wait()?.ok()?;
            let delete = t.verb("delete").args(["--force", &id]).spawn()?;
            for _ in 0..6 {
                let out = t.verb("state").arg(&id).output()?;
                if !out.status.success() {
                    has("message", &out.stderr, "does not exist")?;
                }
            }
            delete.wait()?.ok()?;
        }
        t.nothing_left()
    });
    m.case("concurrency/list-during-create-and-delete", CONTRACT, |t| {
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        for _ in 0..5 {
            let id = t.id();
            let create = t.verb("create").arg("--bundle").arg(&bundle.dir).arg(&id).spawn()?;
            for _ in 0..4 {
                t.verb("list").args(["--format", "json"]).ok()?;
            }
            create.wait()?.ok()?;
            let delete = t.verb("delete").args(["--force", &id]).spawn()?;
            for _ in 0..4 {
                t.verb("list").args(["--format", "json"]).ok()?;
            }
            delete.wait()?.ok()?;
        }
        t.nothing_left()
    });
    m.case("concurrency/delete-force-during-create", CONTRACT, |t| {
        for _ in 0..8 {
            let bundle = t.bundle()?.sleeps();
            bundle.save()?;
            let id = t.id();
            let create = t.verb("create").arg("--bundle").arg(&bundle.dir).arg(&id).spawn()?;
            t.verb("delete").args(["--force", &id]).output()?;
            create.wait()?;
            t.verb("delete").args(["--force", &id]).ok()?;
            t.nothing_left()?;
        }
        Ok(())
    });
    m.case("concurrency/eight-deletes-of-one", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let delete = || c.verb_with("delete", &["--force"]).spawn();
        let running: Vec<Running> = (0..8).map(|_| delete()).collect::<Result<_, _>>()?;
        for one in running {
            one.wait()?;
        }
        c.verb("state").output()?.fails()?;
        t.nothing_left()
    });
    m.case("concurrency/ten-execs-at-once", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let exec = || c.exec_cmd(&[], &["probe", "echo", "here"]).spawn();
        let running: Vec<Running> = (0..10).map(|_| exec()).collect::<Result<_, _>>()?;
        for one in running {
            same("stdout", one.wait()?.ok()?.stdout.as_str(), "here\n")?;
        }
        c.end()
    });
    m.case("concurrency/kill-while-exec-runs", CONTRACT, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let exec = c.exec_cmd(&[], &["probe", "sleep"]).spawn()?;
        let ready = || exec.stdout().contains("ready").then_some(());
        crate::command::poll("the program", crate::command::VERB_DEADLINE, ready)?;
        c.kill("KILL")?;
        exec.wait()?.exits(137)?;
        c.becomes("stopped")?;
        c.delete()?;
        t.nothing_left()
    });
    m.case("concurrency/ten-containers-at-once", CONTRACT, |t| {
        let mut running = Vec::new();
        for _ in 0..10 {
            running.push(t.run_cmd(&t.bundle()?)?.spawn()?);
        }
        for one in running {
            crate::report::Report::parse(&one.wait()?.ok()?.stdout)?.is("/pid", 1)?;
        }
        t.nothing_left()
    });
}

//! What a case of an engine is written with: shell commands in the engine's world, and what they have to show.

use runtime_tests::check::{Context, Done, Result, fail, has};
use runtime_tests::command::{Cmd, Output, poll, search_path};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The image that every engine is given: busybox. The name has a registry, so that no engine looks for one.
pub const IMAGE: &str = "localhost/busybox:1";

/// How long one command line may take, and how long a case waits for something to come true.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The runtime in an engine's world.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// `orun`, `runc`, `crun`.
    pub name: String,
    /// Where it is in the world.
    pub path: PathBuf,
}

/// One case's tools.
#[derive(Debug)]
pub struct Env {
    /// The runtime that the engine uses.
    pub runtime: Runtime,
    /// A name that no other case uses: `$N` of the shell commands.
    pub name: String,
    /// An empty directory: `$D`.
    pub dir: PathBuf,
}

impl Env {
    /// Makes the case's directory.
    pub fn new(runtime: &Runtime, name: &str) -> Result<Env> {
        let dir = Path::new("/tmp").join(name);
        std::fs::create_dir_all(dir.join("log"))?;
        Ok(Env { runtime: runtime.clone(), name: name.to_owned(), dir })
    }

    /// Shell commands, of which the first that fails ends all. `$N`, `$D`, `$I` (image), `$R` (the runtime's
    /// program) and `$RN` (its name) are set.
    pub fn command(&self, script: &str) -> Cmd {
        Cmd::new("/bin/bash", &self.dir.join("log"))
            .args(["-eu", "-o", "pipefail", "-c", script])
            .env("PATH", search_path("/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"))
            .env("HOME", "/root")
            .env("N", self.name.as_str())
            .env("D", self.dir.to_string_lossy())
            .env("I", IMAGE)
            .env("R", self.runtime.path.to_string_lossy())
            .env("RN", self.runtime.name.as_str())
            .deadline(DEADLINE)
    }

    /// Runs shell commands to their end, whatever that is.
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.command(script).output()
    }

    /// Runs shell commands that succeed, and returns what they print, trimmed.
    pub fn ok(&self, script: &str) -> Result<String> {
        Ok(self.sh(script)?.ok()?.stdout.trim().to_owned())
    }

    /// Demands that the commands succeed and print exactly this.
    pub fn prints(&self, script: &str, want: &str) -> Done {
        let out = self.sh(script)?.ok()?;
        if out.stdout.trim() == want { Ok(()) } else { fail(format!("{}, not {want:?}", out.describe())) }
    }

    /// Demands that the commands succeed and print this among other things.
    pub fn shows(&self, script: &str, part: &str) -> Done {
        let out = self.sh(script)?.ok()?;
        has(&out.describe(), &format!("{}{}", out.stdout, out.stderr), part)
    }

    /// Demands that the commands fail with this exit code and say this (in any case of letters).
    pub fn fails(&self, script: &str, code: i32, part: &str) -> Done {
        self.sh(script)?.exits(code)?.fails_with(&[part]).map(drop)
    }

    /// Waits until the commands succeed and print exactly this.
    pub fn until(&self, script: &str, want: &str) -> Done {
        self.until_within(DEADLINE, script, want)
    }

    /// The same with a deadline of its own.
    pub fn until_within(&self, deadline: Duration, script: &str, want: &str) -> Done {
        let mut last = String::new();
        let found = poll(&format!("{want:?} of `{script}`"), deadline, || {
            std::thread::sleep(Duration::from_millis(50));
            let out = self.sh(script).ok()?;
            last = out.describe();
            (out.status.success() && out.stdout.trim() == want).then_some(())
        });
        found.context(&last)
    }
}

type Body = Box<dyn Fn(&Env) -> Done + Send + Sync>;

/// One case: something that the engine does with a runtime.
pub struct Case {
    /// `engine/feature`.
    pub name: String,
    /// Whether no other case may run beside it.
    pub alone: bool,
    body: Body,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish()
    }
}

impl Case {
    /// Runs it.
    pub fn run(&self, env: &Env) -> Done {
        (self.body)(env)
    }
}

/// The list of cases of one engine.
#[derive(Debug)]
pub struct Cases {
    engine: &'static str,
    /// In the order in which they start.
    pub list: Vec<Case>,
}

impl Cases {
    /// No cases yet.
    pub fn of(engine: &'static str) -> Cases {
        Cases { engine, list: Vec::new() }
    }

    fn push(&mut self, feature: &str, alone: bool, body: Body) {
        let name = format!("{}/{feature}", self.engine);
        assert!(self.list.iter().all(|c| c.name != name), "two cases are named {name:?}");
        self.list.push(Case { name, alone, body });
    }

    /// A case that others may run beside.
    pub fn case(&mut self, feature: &str, body: impl Fn(&Env) -> Done + Send + Sync + 'static) {
        self.push(feature, false, Box::new(body));
    }

    /// A case that needs the engine, or the machine, for itself. These run after the others.
    pub fn alone(&mut self, feature: &str, body: impl Fn(&Env) -> Done + Send + Sync + 'static) {
        self.push(feature, true, Box::new(body));
    }
}

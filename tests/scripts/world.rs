//! A world in which scripts may write where they like.

use nix::sys::stat::{Mode, SFlag};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What is mounted over the machine before the script runs: `$1` is a directory whose upper layers stay from call to call. Prints
/// after the script what has changed: files, and directories that were not there.
const INSIDE: &str = r#"
world=$1 top=$2
shift 2
mkdir -p "$world/report"
layer() {
    local upper=$world/upper$1
    mkdir -p "$upper" "$world/work$1"
    [ -d "$1" ] || return 0
    mount -t overlay -o "lowerdir=$1,upperdir=$upper,workdir=$world/work$1" overlay "$1"
}
mkdir -p "$world/lower"
for dir in /etc /usr/local /var/lib "$top"; do
    mkdir -p "$world/lower$dir"
    mount --bind "$dir" "$world/lower$dir"
    layer "$dir"
done
mount -t tmpfs tmpfs /run
cd "$top"
setsid --wait "$@" </dev/null
status=$?
cd /
for dir in /etc /usr/local /var/lib "$top"; do
    (cd "$world/upper$dir" && find . -mindepth 1) | while read -r entry; do
        entry=${entry#.}
        if [ -d "$world/upper$dir$entry" ] && [ -d "$world/lower$dir$entry" ]; then continue; fi
        echo "$dir$entry"
    done
done >"$world/report/changed"
exit $status
"#;

pub struct Outcome {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    /// Paths of files and directories that differ from the machine's.
    pub changed: Vec<String>,
}

pub struct World(tempfile::TempDir);

impl World {
    pub fn new() -> Self {
        // On a tmpfs: an overlay cannot be the upper layer of another.
        let world = World(tempfile::Builder::new().prefix("orun-scripts").tempdir_in("/dev/shm").unwrap());
        let dist = world.0.path().join("dist");
        fs::create_dir(&dist).unwrap();
        for (name, program) in [("orun", env!("CARGO_BIN_EXE_orun")), ("orund", env!("CARGO_BIN_EXE_orund"))]
        {
            std::os::unix::fs::symlink(program, dist.join(name)).unwrap();
        }
        world
    }

    /// Runs a script at the top of the repository, without a terminal and without cargo.
    pub fn run(&self, words: &[&str]) -> Outcome {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private", "bash", "-uc", INSIDE, "bash"]);
        command.arg(self.0.path()).arg(env!("CARGO_MANIFEST_DIR")).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/nonexistent");
        command.env("ORUN_DIST", self.0.path().join("dist")).stdin(Stdio::null()).process_group(0);
        let out = command.output().unwrap();
        let changed = fs::read_to_string(self.0.path().join("report/changed")).unwrap();
        Outcome {
            status: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8(out.stdout).unwrap(),
            stderr: String::from_utf8(out.stderr).unwrap(),
            changed: changed.lines().map(str::to_owned).collect(),
        }
    }

    /// A file of this world, as a script will see it.
    fn upper(&self, file: &Path) -> std::path::PathBuf {
        self.0.path().join("upper").join(file.strip_prefix("/").unwrap())
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.upper(Path::new(file));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.upper(Path::new(file))).unwrap()
    }

    /// A file of the machine is not seen here.
    pub fn hide(&self, file: &str) {
        if Path::new(file).exists() {
            let upper = self.upper(Path::new(file));
            fs::create_dir_all(upper.parent().unwrap()).unwrap();
            // What an overlay takes for a file that was removed.
            nix::sys::stat::mknod(&upper, SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        }
    }

    /// Every file and directory that differs from the machine's, with its mode and its text.
    pub fn tree(&self) -> Vec<(String, u32, String)> {
        self.run(&["/bin/true"])
            .changed
            .into_iter()
            .map(|path| {
                let file = self.upper(Path::new(&path));
                let mode = fs::symlink_metadata(&file).map_or(0, |m| m.permissions().mode());
                let text = fs::read_to_string(&file).unwrap_or_default();
                (path, mode, text)
            })
            .collect()
    }
}

/// The one line of what a script says on standard error.
pub fn one_line(out: &Outcome) -> &str {
    let line = out.stderr.trim_end_matches('\n');
    assert!(!line.is_empty() && !line.contains('\n'), "not one line: {:?}", out.stderr);
    line
}

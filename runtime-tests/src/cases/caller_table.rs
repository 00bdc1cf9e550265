//! The table of odd callers.

use crate::check::Result;
use crate::command::Cmd;
use crate::odd::Odd;
use std::fs::File;

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// Nothing may differ.
    Same,
    /// As `Same`, save for what is printed.
    SilentlySame,
    /// As `Same`, or an error.
    SameOrError,
    /// An error with one of these words.
    Error(&'static [&'static str]),
}

/// One row of the table.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub name: String,
    pub odd: Vec<Odd>,
    how: fn(Cmd) -> Result<Cmd>,
    pub expect: Expect,
}

impl Caller {
    /// `cmd`, called by this caller.
    pub fn call(&self, cmd: Cmd) -> Result<Cmd> {
        Ok((self.how)(cmd)?.odd(&self.odd))
    }

    pub fn limits(&self) -> bool {
        self.odd.iter().any(|o| matches!(o, Odd::Limit(..)))
    }
}

fn plain(cmd: Cmd) -> Result<Cmd> {
    Ok(cmd)
}

fn row(name: impl Into<String>, expect: Expect, odd: Vec<Odd>) -> Caller {
    Caller { name: name.into(), odd, how: plain, expect }
}

fn shaped(name: &str, expect: Expect, how: fn(Cmd) -> Result<Cmd>) -> Caller {
    Caller { name: name.into(), odd: Vec::new(), how, expect }
}

/// Every caller there is a case for.
pub(super) fn table() -> Vec<Caller> {
    let mut all = signals();
    all.extend(streams());
    all.extend(limits());
    all.extend(privileges());
    all.extend(filters());
    all.extend(attributes());
    all
}

pub(super) fn signals() -> Vec<Caller> {
    vec![
        row("that-ignores-sigchld", Expect::Same, vec![Odd::Ignores(vec![libc::SIGCHLD])]),
        row("under-nohup", Expect::Same, vec![Odd::Ignores(vec![libc::SIGHUP, libc::SIGINT, libc::SIGQUIT])]),
        row("that-ignores-real-time-signals", Expect::Same, vec![Odd::Ignores((32..=64).collect())]),
        row("that-ignores-every-signal", Expect::Same, vec![Odd::ignores_all()]),
        row("that-blocks-every-signal", Expect::Same, vec![Odd::BlocksAll]),
        row("that-ignores-and-blocks", Expect::Same, vec![Odd::ignores_all(), Odd::BlocksAll]),
    ]
}

pub(super) fn streams() -> Vec<Caller> {
    fn open(mut cmd: Cmd) -> Result<Cmd> {
        for number in (3..20).chain([64, 255, 390]) {
            cmd = cmd.fd(File::open("/etc/passwd")?.into(), number);
        }
        Ok(cmd)
    }
    fn full(cmd: Cmd) -> Result<Cmd> {
        let full = || File::options().write(true).open("/dev/full");
        Ok(cmd.pipes(full()?.into(), full()?.into()))
    }
    fn gone(cmd: Cmd) -> Result<Cmd> {
        // Its reading end is closed at once.
        let (_, writer) = std::io::pipe()?;
        Ok(cmd.pipes(writer.try_clone()?.into(), writer.into()))
    }
    let mut all = vec![
        shaped("with-open-files", Expect::Same, open),
        shaped("whose-output-is-full", Expect::SilentlySame, full),
        shaped("whose-output-has-no-reader", Expect::SilentlySame, gone),
    ];
    for mask in 1..8 {
        let closed: Vec<i32> = (0..3).filter(|n| mask >> n & 1 == 1).collect();
        let names: Vec<_> = closed.iter().map(i32::to_string).collect();
        let name = format!("without-descriptor-{}", names.join("-"));
        all.push(row(name, Expect::SilentlySame, vec![Odd::Closes(closed)]));
    }
    all
}

pub(super) fn limits() -> Vec<Caller> {
    const KIB: u64 = 1 << 10;
    let mut all = Vec::new();
    for (name, resource, tiny) in [
        ("nofile", libc::RLIMIT_NOFILE, 5),
        ("stack", libc::RLIMIT_STACK, 64 * KIB),
        ("as", libc::RLIMIT_AS, 16 * KIB * KIB),
        // With less than these two the kernel or the C library ends the program before its first line.
        ("data", libc::RLIMIT_DATA, 4 * KIB * KIB),
        ("core", libc::RLIMIT_CORE, 0),
        ("memlock", libc::RLIMIT_MEMLOCK, 0),
        ("nproc", libc::RLIMIT_NPROC, 1),
        ("sigpending", libc::RLIMIT_SIGPENDING, 0),
        ("msgqueue", libc::RLIMIT_MSGQUEUE, 0),
    ] {
        all.push(row(
            format!("with-a-soft-limit-{name}"),
            Expect::Same,
            vec![Odd::Limit(resource, tiny, None)],
        ));
        let hard = vec![Odd::Limit(resource, tiny, Some(tiny))];
        all.push(row(format!("with-a-hard-limit-{name}"), Expect::SameOrError, hard));
    }
    all
}

/// The numbers of capabilities(7).
const CAPABILITIES: [(&str, u64); 15] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_MKNOD", 27),
    ("CAP_SETFCAP", 31),
];

fn privileges() -> Vec<Caller> {
    let mut all: Vec<Caller> = CAPABILITIES
        .iter()
        .map(|(name, number)| {
            let expect = match *name {
                "CAP_SETPCAP" => Expect::Error(&["cap_setpcap"]),
                "CAP_SYS_ADMIN" => Expect::Error(&["cap_sys_admin"]),
                _ => Expect::SameOrError,
            };
            let short = name.trim_start_matches("CAP_").to_lowercase().replace('_', "-");
            row(format!("without-{short}"), expect, vec![Odd::Without(*number)])
        })
        .collect();
    // SECBIT_*: root has no capabilities after execve(2) with the first.
    for (name, bits, expect) in [
        ("noroot", 0x1, Expect::SameOrError),
        ("no-setuid-fixup", 0x4, Expect::Same),
        ("keep-caps", 0x10, Expect::Same),
        ("no-cap-ambient-raise", 0x40, Expect::Same),
        ("no-setuid-fixup-locked", 0xc, Expect::SameOrError),
    ] {
        let odd = vec![Odd::Prctl(libc::PR_SET_SECUREBITS, bits)];
        all.push(row(format!("with-securebits-{name}"), expect, odd));
    }
    all
}

fn filters() -> Vec<Caller> {
    const HINT: &[&str] = &["seccomp filter"];
    let mut all = Vec::new();
    for (name, number, expect) in [
        ("openat2", libc::SYS_openat2, Expect::Error(HINT)),
        ("close_range", libc::SYS_close_range, Expect::Error(HINT)),
        ("clone3", libc::SYS_clone3, Expect::Error(HINT)),
        ("open_tree", libc::SYS_open_tree, Expect::Error(HINT)),
        ("move_mount", libc::SYS_move_mount, Expect::Error(HINT)),
        ("mount_setattr", libc::SYS_mount_setattr, Expect::Error(HINT)),
        ("fsopen", libc::SYS_fsopen, Expect::SameOrError),
        ("pidfd_open", libc::SYS_pidfd_open, Expect::SameOrError),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, Expect::SameOrError),
        ("faccessat2", libc::SYS_faccessat2, Expect::SameOrError),
        ("keyctl", libc::SYS_keyctl, Expect::SameOrError),
        ("prlimit64", libc::SYS_prlimit64, Expect::SameOrError),
    ] {
        let filtered = |errno| vec![Odd::Filtered(vec![number], errno)];
        all.push(row(format!("whose-kernel-lacks-{name}"), expect, filtered(libc::ENOSYS)));
        all.push(row(format!("who-may-not-{name}"), Expect::SameOrError, filtered(libc::EPERM)));
    }
    all
}

pub(super) fn attributes() -> Vec<Caller> {
    vec![
        row("with-umask-0777", Expect::Same, vec![Odd::Umask(0o777)]),
        row("with-umask-0", Expect::Same, vec![Odd::Umask(0)]),
        row("with-no-new-privs", Expect::Same, vec![Odd::Prctl(libc::PR_SET_NO_NEW_PRIVS, 1)]),
        row("that-is-not-dumpable", Expect::Same, vec![Odd::Prctl(libc::PR_SET_DUMPABLE, 0)]),
        row("that-takes-in-orphans", Expect::Same, vec![Odd::Prctl(libc::PR_SET_CHILD_SUBREAPER, 1)]),
        row(
            "with-a-death-signal",
            Expect::Same,
            vec![Odd::Prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as u64)],
        ),
        row("with-timer-slack", Expect::Same, vec![Odd::Prctl(libc::PR_SET_TIMERSLACK, 1)]),
        row("with-an-empty-dev", Expect::SameOrError, vec![Odd::EmptyDev]),
        row("in-a-deleted-directory", Expect::Same, vec![Odd::DeletedDirectory("/run/gone".into())]),
        shaped("without-environment", Expect::Same, |cmd| Ok(cmd.no_env())),
        shaped("without-a-name", Expect::Same, |cmd| Ok(cmd.arg0(""))),
    ]
}

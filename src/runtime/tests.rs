//! The verbs on real processes that stand for a container's first one, without cgroups.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::container::Container;
use super::{Runtime, delete, kill, list, ps, start, state, update, wait};
use crate::config::resources::Resources;
use crate::config::spec::Hook;
use crate::error::{Errno, Kind};
use crate::state::id::ContainerId;
use crate::state::lifecycle::{Phase, Status};
use crate::state::model::{Cgroup, CgroupManager, ProcessId, Record, VERSION};
use crate::state::store::{ContainerDir, Store};
use crate::sys::socket;

struct Fixture {
    _dir: tempfile::TempDir,
    rt: Runtime,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let rt = Runtime {
        store: Store::new(dir.path().join("orun")),
        cgroup_manager: CgroupManager::Disabled,
        listen_fds: 0,
        notify_socket: None,
        rootless: None,
        root_given: false,
    };
    Fixture { _dir: dir, rt }
}

/// A process that is killed when the test is over.
struct Running(Child);

impl Running {
    fn of(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::null()).spawn().unwrap())
    }

    fn sleep() -> Running {
        Running::of(Command::new("sleep").arg("100"))
    }

    fn id(&self) -> ProcessId {
        ProcessId::read_process(self.0.id() as i32).unwrap().unwrap()
    }

    fn ended_by(&mut self, signal: i32) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.signal() == Some(signal);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Fixture {
    fn record(&self, id: &str, phase: Phase, init: Option<ProcessId>) -> Record {
        Record {
            version: VERSION,
            id: id.to_owned(),
            phase,
            bundle: "/bundle".into(),
            rootfs: "/bundle/rootfs".into(),
            created: "2026-11-23T21:34:57Z".to_owned(),
            owner: 0,
            creator: ProcessId { pid: i32::MAX, start_time: 0 },
            init,
            own_pid_namespace: true,
            cgroup: Cgroup::default(),
            resources: None,
            intel_rdt: None,
            terminal: false,
            rootless: false,
            restored: false,
            annotations: BTreeMap::new(),
            start: None,
            poststart: vec![],
            poststop: vec![],
        }
    }

    fn add(&self, record: &Record) -> ContainerDir {
        let entry = self.rt.store.create(&ContainerId::new(record.id.clone()).unwrap()).unwrap();
        entry.write_record(record).unwrap();
        entry.write_config(b"{}").unwrap();
        entry
    }

    fn container(&self, id: &str, init: &Running) {
        drop(self.add(&self.record(id, Phase::Running, Some(init.id()))));
    }

    fn status(&self, id: &str) -> Status {
        state::state(&self.rt, id).unwrap().status
    }

    fn exists(&self, id: &str) -> bool {
        self.rt.store.root().join(id).exists()
    }
}

#[test]
fn a_container_is_what_its_process_is() {
    let f = fixture();
    let mut init = Running::sleep();
    f.container("c1", &init);
    let s = state::state(&f.rt, "c1").unwrap();
    assert_eq!((s.status, s.pid), (Status::Running, init.0.id() as i32));
    assert_eq!(ps::pids(&f.rt, "c1").unwrap(), [s.pid]);

    kill::kill(&f.rt, "c1", libc::SIGTERM, false).unwrap();
    assert!(init.ended_by(libc::SIGTERM));
    let s = state::state(&f.rt, "c1").unwrap();
    assert_eq!((s.status, s.pid), (Status::Stopped, 0));
    assert!(ps::pids(&f.rt, "c1").unwrap().is_empty());

    let e = kill::kill(&f.rt, "c1", libc::SIGTERM, false).unwrap_err();
    assert!(e.to_string().starts_with("container not running"), "{e}");
    kill::kill(&f.rt, "c1", libc::SIGKILL, true).unwrap();
    let e = update::update(&f.rt, "c1", &Resources::default()).unwrap_err();
    assert!(e.to_string().starts_with("container not running"), "{e}");
    assert_eq!(wait::wait(&f.rt, "c1").unwrap(), None);

    delete::delete(&f.rt, "c1", false).unwrap();
    assert!(!f.exists("c1"));
    for e in [
        state::state(&f.rt, "c1").unwrap_err(),
        kill::kill(&f.rt, "c1", 9, true).unwrap_err(),
        delete::delete(&f.rt, "c1", false).unwrap_err(),
        wait::wait(&f.rt, "c1").unwrap_err(),
        ps::pids(&f.rt, "c1").unwrap_err(),
    ] {
        assert_eq!(e.to_string(), "container does not exist: c1");
        assert_eq!(e.kind(), Kind::NotFound);
    }
    delete::delete(&f.rt, "c1", true).unwrap();
}

#[test]
fn bad_ids_never_become_paths() {
    let f = fixture();
    for id in ["..", "../orun", "", "a/b"] {
        assert_eq!(state::state(&f.rt, id).unwrap_err().kind(), Kind::Usage);
        assert_eq!(delete::delete(&f.rt, id, true).unwrap_err().kind(), Kind::Usage);
    }
}

#[test]
fn a_process_with_the_same_pid_is_left_alone() {
    let f = fixture();
    let mut other = Running::sleep();
    let before = ProcessId { start_time: other.id().start_time - 1, ..other.id() };
    drop(f.add(&f.record("c1", Phase::Running, Some(before))));
    assert_eq!(f.status("c1"), Status::Stopped);
    assert!(kill::kill(&f.rt, "c1", libc::SIGKILL, false).is_err());
    kill::kill(&f.rt, "c1", libc::SIGKILL, true).unwrap();
    delete::delete(&f.rt, "c1", true).unwrap();
    assert!(other.0.try_wait().unwrap().is_none(), "it was not the container's");
}

#[test]
fn a_running_container_is_deleted_by_force_only() {
    let f = fixture();
    let mut init = Running::sleep();
    f.container("c1", &init);
    let e = delete::delete(&f.rt, "c1", false).unwrap_err().to_string();
    assert!(e.starts_with("cannot delete container c1 that is not stopped: running"), "{e}");
    assert!(f.exists("c1") && init.0.try_wait().unwrap().is_none());
    delete::delete(&f.rt, "c1", true).unwrap();
    assert!(init.ended_by(libc::SIGKILL) && !f.exists("c1"));
}

#[test]
fn a_created_container_may_be_deleted() {
    let f = fixture();
    let mut init = Running::sleep();
    drop(f.add(&f.record("c1", Phase::Created, Some(init.id()))));
    assert_eq!(f.status("c1"), Status::Created);
    delete::delete(&f.rt, "c1", false).unwrap();
    assert!(init.ended_by(libc::SIGKILL) && !f.exists("c1"));
}

#[test]
fn what_a_killed_creator_leaves_is_deleted() {
    let f = fixture();
    // Before the record, after it, with a damaged one, and with a process that was made.
    drop(f.rt.store.create(&ContainerId::new("empty").unwrap()).unwrap());
    drop(f.add(&f.record("early", Phase::Creating, None)));
    drop(f.add(&f.record("damaged", Phase::Creating, None)));
    std::fs::write(f.rt.store.root().join("damaged/state.json"), "{\"version\":1,").unwrap();
    let mut init = Running::sleep();
    drop(f.add(&f.record("late", Phase::Creating, Some(init.id()))));
    assert_eq!(f.status("early"), Status::Stopped);
    assert_eq!(f.status("late"), Status::Creating);
    assert!(delete::delete(&f.rt, "damaged", false).is_err());
    assert!(delete::delete(&f.rt, "late", false).is_err());
    for id in ["empty", "early", "damaged", "late"] {
        delete::delete(&f.rt, id, true).unwrap();
        assert!(!f.exists(id), "{id}");
    }
    assert!(init.ended_by(libc::SIGKILL));
}

#[test]
fn a_creator_that_hangs_is_ended_by_force() {
    let f = fixture();
    let entry = f.add(&f.record("c1", Phase::Creating, None));
    // flock(1) keeps the lock of the directory and becomes sleep(1), as a creator whose hook never ends.
    let mut creator =
        Running::of(Command::new("flock").arg("-F").arg(entry.path()).args(["sleep", "100"]).arg0("flock"));
    let record = Record { creator: creator.id(), ..f.record("c1", Phase::Creating, None) };
    entry.write_record(&record).unwrap();
    drop(entry);
    let deadline = Instant::now() + Duration::from_secs(10);
    let locked =
        || !f.rt.store.open(&ContainerId::new("c1").unwrap()).unwrap().try_lock(Duration::ZERO).unwrap();
    while !locked() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(f.status("c1"), Status::Creating);
    let start = Instant::now();
    let e = delete::delete(&f.rt, "c1", false).unwrap_err().to_string();
    assert!(e.starts_with("cannot delete container c1 that is not stopped: creating"), "{e}");
    assert!(start.elapsed() < Duration::from_secs(2), "there is nothing to wait for");
    delete::delete(&f.rt, "c1", true).unwrap();
    assert!(creator.ended_by(libc::SIGKILL) && !f.exists("c1"));
}

#[test]
fn poststop_hooks_run_when_the_container_is_gone_and_their_failure_is_no_error() {
    let f = fixture();
    let seen = f.rt.store.root().with_file_name("seen");
    let script = format!(
        "test -e {} && echo there >> {seen}; cat >> {seen}; exit $1",
        f.rt.store.root().join("c1").display(),
        seen = seen.display()
    );
    let hook = |status: &str| Hook {
        path: "/bin/sh".to_owned(),
        args: ["sh", "-c", &script, "hook", status].map(str::to_owned).to_vec(),
        env: Some(vec!["PATH=/bin:/usr/bin".to_owned()]),
        timeout: Some(10),
    };
    let record = Record { poststop: vec![hook("1"), hook("0")], ..f.record("c1", Phase::Running, None) };
    drop(f.add(&record));
    delete::delete(&f.rt, "c1", false).unwrap();
    let seen = std::fs::read_to_string(seen).unwrap();
    let states: Vec<serde_json::Value> =
        serde_json::Deserializer::from_str(&seen).into_iter().map(Result::unwrap).collect();
    assert_eq!(states.len(), 2, "both ran, and the directory was gone: {seen}");
    assert!(states.iter().all(|s| s["status"] == "stopped" && s["id"] == "c1"));
}

#[test]
fn the_list_passes_over_what_cannot_be_read() {
    let f = fixture();
    let init = Running::sleep();
    f.container("b", &init);
    drop(f.add(&f.record("a", Phase::Running, None)));
    drop(f.add(&f.record("damaged", Phase::Running, None)));
    std::fs::write(f.rt.store.root().join("damaged/state.json"), "").unwrap();
    drop(f.rt.store.create(&ContainerId::new("empty").unwrap()).unwrap());
    let found: Vec<_> = list::list(&f.rt).unwrap().into_iter().map(|s| (s.id, s.status, s.owner)).collect();
    let expected = [("a", Status::Stopped), ("b", Status::Running)];
    assert_eq!(found, expected.map(|(id, status)| (id.to_owned(), status, "root".to_owned())));
}

#[test]
fn wait_lasts_until_the_end() {
    let f = fixture();
    let mut init = Running::of(Command::new("sh").args(["-c", "sleep 0.2; exit 7"]));
    f.container("c1", &init);
    let code = std::thread::scope(|s| {
        let waiting = s.spawn(|| wait::wait(&f.rt, "c1").unwrap());
        assert_eq!(init.0.wait().unwrap().code(), Some(7));
        waiting.join().unwrap()
    });
    // The kernel reports it since Linux 6.15.
    assert!(matches!(code, Some(7) | None), "{code:?}");
    assert_eq!(f.status("c1"), Status::Stopped);
}

#[test]
fn who_listens_no_more_runs_its_program() {
    let f = fixture();
    let init = Running::sleep();
    f.container("c1", &init);
    let c = || Container::open(&f.rt, "c1").unwrap();
    let path = CString::new(f.rt.store.root().join("c1/start").to_str().unwrap()).unwrap();
    let listener = socket::unix_socket(socket::SocketKind::Seqpacket, true).unwrap();
    socket::bind(listener.as_raw_fd(), &path).unwrap();
    socket::listen(listener.as_raw_fd(), 1).unwrap();
    assert!(!start::is_unrecorded(&c()));
    // It was not let go by the question.
    assert_eq!(socket::accept(listener.as_raw_fd()).unwrap_err(), Errno(libc::EAGAIN));
    drop(listener);
    assert!(start::is_unrecorded(&c()));
}

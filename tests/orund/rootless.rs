//! The supervisor of an ordinary user, on the real kernel: it makes its own user, mount and network namespace.

use crate::client::{ok, run, write};
use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::images::layout;
use crate::network::{get, has_tools, in_network};
use crate::skip::skip;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

/// The first of the users. Each test has one of its own.
const USERS: u32 = 54_321;

/// The first of the IDs that are granted to a user.
fn granted(user: u32) -> u32 {
    700_000 + (user - USERS) * 65_536
}

fn can_be_user() -> bool {
    if !has_tools() {
        return false;
    }
    let found = |name: &str| Path::new("/usr/bin").join(name).exists();
    let all = found("newuidmap") && found("slirp4netns");
    if !all {
        skip("needs newuidmap and slirp4netns");
    }
    all
}

/// The directories of a user's supervisor, which starts in a mount and a network namespace that stand for the host's: the user exists
/// there, and is granted IDs.
fn prepare(test: &str, number: u32) -> Daemon {
    let user = USERS + number;
    let mut d = Daemon::prepare(test, &[]);
    let at = |name: &str| d.dir.join(name);
    let grants = format!("tester:{}:65536\n", granted(user));
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    fs::write(at("passwd"), format!("{passwd}tester:x:{user}:{user}::/:/bin/sh\n")).unwrap();
    fs::write(at("subids"), grants).unwrap();
    fs::create_dir(at("xdg")).unwrap();
    // The cleaner of a test looks there.
    std::os::unix::fs::symlink("xdg/orund", at("run")).unwrap();
    for name in ["", "xdg", "output"] {
        fs::OpenOptions::new().create(true).append(true).open(at("output")).unwrap();
        chown(at(name), Some(user), Some(user)).unwrap();
    }
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 &&
         mount --bind {0}/passwd /etc/passwd && mount --bind {0}/subids /etc/subuid && mount --bind {0}/subids /etc/subgid &&
         ip link set lo up && ip address add 192.0.2.1/32 dev lo &&
         exec setpriv --reuid {user} --regid {user} --clear-groups --inh-caps=-all --bounding-set=+all -- \"$@\"",
        d.dir.display()
    );
    d.wrapper = ["unshare", "--mount", "--net", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    let directory = |name: &str, value: &str| (name.to_owned(), at(value).to_str().unwrap().to_owned());
    d.environment = vec![
        directory("HOME", "home"),
        directory("XDG_RUNTIME_DIR", "xdg"),
        directory("XDG_DATA_HOME", "home/data"),
        directory("XDG_STATE_HOME", "home/state"),
    ];
    d.user = Some(user);
    d
}

fn start(d: &mut Daemon) {
    d.spawn();
    wait_for("the supervisor to answer", || run(d, "get all").status.success().then_some(()));
}

/// The processes of the user and of the granted IDs, with their names.
fn processes(d: &Daemon) -> Vec<(i32, u32, String)> {
    let user = d.user.unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    let ours = |pid: i32| {
        let uid = fs::metadata(format!("/proc/{pid}/stat")).ok()?.uid();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned();
        let live = !fs::read_to_string(format!("/proc/{pid}/status")).ok()?.contains("State:\tZ");
        (live && (uid == user || (granted(user)..granted(user) + 65536).contains(&uid)))
            .then_some((pid, uid, name))
    };
    pids.filter_map(ours).collect()
}

fn deployment(image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: {image}
        command: [sh, -c, 'id > /work/index.html; hostname >> /work/index.html; exec /bin/busybox httpd -f -p 8080 -h /work']
        resources: {{limits: {{memory: 64Mi}}}}
        ports: [{{containerPort: 8080, hostPort: 8080}}]
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
"
    )
}

#[test]
fn a_user_runs_pods_of_images_behind_a_port() {
    if !can_run() || !can_be_user() {
        return;
    }
    let mut d = prepare("user", 0);
    let image = layout(&d, "image", "word");
    write(&d, "web.yaml", &deployment(&format!("oci:{}:1", image.display())));
    start(&mut d);
    ok(&d, "apply -f web.yaml --wait");
    let page = get(d.main(), "127.0.0.1:8080").unwrap();
    assert!(page.starts_with("uid=33(web) gid=34") && page.contains("web-"), "{page}");
    // User 33 of the image: the first granted ID is 1.
    let program = granted(d.user.unwrap()) + 32;
    let programs: Vec<_> = processes(&d).into_iter().filter(|(_, uid, _)| *uid == program).collect();
    assert_eq!(programs.len(), 2, "the image's user is one of the granted IDs: {:?}", processes(&d));
    assert!(d.output().contains("no limits"), "{}", d.output());
    // The way out: a server of the host, which the namespace of the pods has no address of.
    let server = in_network(d.main(), || TcpListener::bind("192.0.2.1:8765").unwrap());
    let answered = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nof the host\n").unwrap();
    });
    let fetched = ok(&d, "exec web-0 -- /bin/busybox wget -q -O - http://192.0.2.1:8765/");
    assert_eq!(fetched, "of the host\n");
    answered.join().unwrap();

    // A restart of the supervisor finds the pods in the namespaces that they have.
    let before = processes(&d);
    d.stop();
    let alive = |(pid, _, _): &(i32, u32, String)| Path::new(&format!("/proc/{pid}")).exists();
    assert!(programs.iter().all(alive), "pods run without a supervisor");
    start(&mut d);
    assert_eq!(ok(&d, "get pods").matches("Running").count(), 2);
    wait_for("the port", || get(d.main(), "127.0.0.1:8080"));
    let same = |name: &str| {
        let of = |all: &[(i32, u32, String)]| -> Vec<i32> {
            let mut pids: Vec<i32> = all.iter().filter(|p| p.2 == name).map(|p| p.0).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(of(&before), of(&processes(&d)), "{name}");
    };
    same("busybox");
    same("orund-holder");
    same("slirp4netns");

    // With the last pod everything goes.
    ok(&d, "delete -f web.yaml --wait");
    d.stop();
    wait_for("the processes of the user to end", || processes(&d).is_empty().then_some(()));
}

#[test]
fn a_user_s_supervisor_that_is_killed_finds_its_pods_again() {
    if !can_run() || !can_be_user() {
        return;
    }
    let mut d = prepare("user-killed", 1);
    write(&d, "web.yaml", &deployment("bundle:./bundle").replace("/work", "/bin"));
    start(&mut d);
    ok(&d, "apply -f web.yaml --wait");
    let before = ok(&d, "get pods -o wide");
    // The process outside, with which the one inside ends.
    kill(d.main(), libc::SIGKILL);
    wait_for("its end", || run(&d, "get pods").status.code().filter(|code| *code != 0));
    d.stop();
    start(&mut d);
    let pids = |text: &str| -> Vec<String> {
        let lines = text.lines().skip(1).map(|l| l.split_whitespace().nth(6).unwrap_or_default().to_owned());
        lines.collect()
    };
    assert_eq!(pids(&before), pids(&ok(&d, "get pods -o wide")), "{before}");
    wait_for("the port", || get(d.main(), "127.0.0.1:8080"));

    // Another program has a port.
    let other = in_network(d.main(), || TcpListener::bind("127.0.0.1:8081").unwrap());
    write(
        &d,
        "two.yaml",
        &deployment("bundle:./bundle")
            .replace("/work", "/bin")
            .replace("web", "two")
            .replace("hostPort: 8080", "hostPort: 8081"),
    );
    ok(&d, "apply -f two.yaml");
    let reported = || Some(ok(&d, "get deployment two")).filter(|text| text.contains("cannot be published"));
    // Only root may see the process.
    assert!(wait_for("a report", reported).contains("port tcp *:8081 cannot be published: "));
    drop(other);
    wait_for("the port", || get(d.main(), "127.0.0.1:8081"));
    ok(&d, "delete --all --wait");
    d.stop();
    wait_for("the processes of the user to end", || processes(&d).is_empty().then_some(()));
}

/// `orund WORDS` as the user, in the namespaces that stand for the host's.
fn orund(d: &Daemon, words: &str) -> Command {
    let mut command = Command::new(&d.wrapper[0]);
    command.args(&d.wrapper[1..]).arg(env!("CARGO_BIN_EXE_orund")).args(words.split_whitespace());
    command.envs(d.environment.iter().cloned()).current_dir(&d.dir).stdin(Stdio::null());
    command
}

#[test]
fn a_user_runs_replicas_in_the_foreground() {
    if !can_run() || !can_be_user() {
        return;
    }
    let d = prepare("user-run", 2);
    let image = layout(&d, "image", "word");
    let words = format!("run --restart never --publish 8080:80 --name one oci:{}:1 a b", image.display());
    let mut child = orund(&d, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.find_map(|line| line.ok().filter(|line| line.contains("word"))).unwrap();
    assert!(said.contains("a image 33:34 word /work b"), "{said}");
    kill(child.id() as i32, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    wait_for("the processes of the user to end", || processes(&d).is_empty().then_some(()));
    // Files of others are the user's to remove.
    let removed = orund(&d, &format!("image rm oci:{}:1", image.display())).output().unwrap();
    assert!(removed.status.success(), "{removed:?}");
    let layers = fs::read_dir(d.dir.join("home/data/orund/images/layers")).unwrap().count();
    assert_eq!(layers, 0);
    wait_for("the processes of the user to end", || processes(&d).is_empty().then_some(()));
}

#[test]
fn a_user_without_grants_is_root_alone() {
    if !can_run() || !can_be_user() {
        return;
    }
    let d = prepare("user-alone", 3);
    fs::write(d.dir.join("subids"), "").unwrap();
    let out =
        orund(&d, "run --restart never --name one bundle:bundle cat /proc/self/uid_map").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let words: Vec<String> = text(&out.stdout).split_whitespace().map(str::to_owned).collect();
    assert!(words.ends_with(&["0", &d.user.unwrap().to_string(), "1"].map(str::to_owned)), "{out:?}");
    assert!(text(&out.stderr).contains("/etc/subuid"), "{out:?}");
    let image = layout(&d, "image", "word");
    let out = orund(&d, &format!("image pull oci:{}:1", image.display())).output().unwrap();
    let said = text(&out.stderr);
    assert!(!out.status.success() && said.contains("too few IDs"), "{said}");
}

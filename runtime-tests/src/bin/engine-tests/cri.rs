//! containerd through CRI (`runtime.v1`), as a kubelet calls it. Pods have the host's network, so that no CNI plugin is
//! needed. Numbers of fields are those of `api.proto` of CRI.

use crate::env::{Cases, DEADLINE, Env, IMAGE};
use crate::grpc::{self, Fields, Message};
use runtime_tests::check::{Context, Done, Result, fail, has, same};
use runtime_tests::command::poll;
use std::fs;
use std::path::Path;

/// Where containerd listens.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// NamespaceMode.NODE.
const NODE: i64 = 2;
/// ContainerState.CONTAINER_RUNNING and CONTAINER_EXITED.
const RUNNING: u64 = 1;
const EXITED: u64 = 2;

fn call(method: &str, request: &Message) -> Result<Fields> {
    grpc::call(Path::new(SOCKET), &format!("/runtime.v1.RuntimeService/{method}"), request)
}

/// Waits until the CRI plugin knows the image.
pub fn await_image(name: &str) -> Done {
    let request = Message::new().message(1, &Message::new().text(1, name));
    poll(&format!("the image {name}"), DEADLINE, || {
        let answer = grpc::call(Path::new(SOCKET), "/runtime.v1.ImageService/ImageStatus", &request).ok()?;
        (!answer.message(1).is_empty()).then_some(())
    })
}

/// One pod.
struct Pod {
    id: String,
    config: Message,
}

impl Pod {
    fn run(e: &Env, security: &Message) -> Result<Pod> {
        let metadata = Message::new().text(1, &e.name).text(2, format!("uid-{}", e.name)).text(3, "default");
        let namespaces = Message::new().number(1, NODE);
        let security = security.clone().message(1, &namespaces);
        let linux = Message::new().text(1, format!("/kubepods/{}", e.name)).message(2, &security);
        let config = Message::new().message(1, &metadata).text(3, e.dir.to_string_lossy().as_bytes());
        let config = config.message(8, &linux);
        let id = call("RunPodSandbox", &Message::new().message(1, &config))?.text(1);
        Ok(Pod { id, config })
    }

    fn create(
        &self,
        name: &str,
        command: &[&str],
        more: impl FnOnce(Message) -> Message,
    ) -> Result<Container> {
        let config = Message::new().message(1, &Message::new().text(1, name));
        let config = config.message(2, &Message::new().text(1, IMAGE)).texts(3, command);
        let config = more(config.text(11, format!("{name}.log")));
        let request = Message::new().text(1, &self.id).message(2, &config).message(3, &self.config);
        Ok(Container { id: call("CreateContainer", &request)?.text(1) })
    }

    fn start(
        &self,
        name: &str,
        command: &[&str],
        more: impl FnOnce(Message) -> Message,
    ) -> Result<Container> {
        let container = self.create(name, command, more)?;
        container.call("StartContainer")?;
        Ok(container)
    }

    fn end(self) -> Done {
        let request = Message::new().text(1, &self.id);
        call("StopPodSandbox", &request)?;
        call("RemovePodSandbox", &request).map(drop)
    }
}

/// Runs a case in a new pod. The pod is removed with its containers, whatever has come of the case.
fn in_pod(e: &Env, security: &Message, case: impl FnOnce(&Pod) -> Done) -> Done {
    let pod = Pod::run(e, security)?;
    let result = case(&pod);
    let ended = pod.end();
    result.and(ended)
}

struct Container {
    id: String,
}

impl Container {
    fn request(&self) -> Message {
        Message::new().text(1, &self.id)
    }

    fn call(&self, method: &str) -> Result<Fields> {
        call(method, &self.request())
    }

    fn status(&self) -> Result<Fields> {
        Ok(self.call("ContainerStatus")?.message(1))
    }

    fn becomes(&self, state: u64) -> Result<Fields> {
        poll(&format!("state {state}"), DEADLINE, || self.status().ok().filter(|s| s.number(3) == state))
    }

    /// Standard output and exit status of a command in it.
    fn exec(&self, command: &[&str]) -> Result<(String, u64)> {
        let answer = call("ExecSync", &self.request().texts(2, command).number(3, 30))?;
        Ok((answer.text(1).trim().to_owned(), answer.number(3)))
    }

    fn prints(&self, command: &str, want: &str) -> Done {
        same(command, self.exec(&["sh", "-c", command])?, (want.to_owned(), 0))
    }
}

const IDLE: [&str; 3] = ["sh", "-c", "trap 'exit 6' TERM; echo started; while :; do sleep 1 & wait $!; done"];
const MEMORY: &str =
    "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true";

/// The options of a container's `linux` part: resources and security context.
fn linux(resources: &Message, security: &Message) -> impl FnOnce(Message) -> Message {
    let linux = Message::new()
        .message(1, resources)
        .message(2, &security.clone().message(3, &Message::new().number(1, NODE)));
    move |config| config.message(15, &linux)
}

/// Adds the cases.
pub fn cases(c: &mut Cases) {
    let none = Message::new;
    c.case("CRI: pod, container, exec, log, stop with grace", move |e| {
        in_pod(e, &none(), |pod| {
            let one = pod.start("one", &IDLE, linux(&none(), &none()))?;
            one.becomes(RUNNING)?;
            one.prints("echo inside", "inside")?;
            same("exit status", one.exec(&["sh", "-c", "exit 9"])?.1, 9)?;
            e.until("cut -d' ' -f4 $D/one.log", "started")?;
            call("StopContainer", &one.request().number(2, 30))?;
            same("exit status", one.becomes(EXITED)?.number(7), 6)?;
            one.call("RemoveContainer")?;
            Ok(())
        })
    });
    c.case("CRI: exit status, a killed container", move |e| {
        in_pod(e, &none(), |pod| {
            let one = pod.start("one", &["sh", "-c", "exit 3"], linux(&none(), &none()))?;
            same("exit status", one.becomes(EXITED)?.number(7), 3)?;
            let two = pod.start("two", &["sleep", "1000"], linux(&none(), &none()))?;
            call("StopContainer", &two.request().number(2, 0))?;
            same("exit status", two.becomes(EXITED)?.number(7), 137)?;
            Ok(())
        })
    });
    c.case("CRI: limits, their update, statistics", move |e| {
        in_pod(e, &none(), |pod| {
            let one = pod.start("one", &IDLE, linux(&none().number(4, 64 << 20).number(3, 512), &none()))?;
            one.prints(MEMORY, "67108864")?;
            call(
                "UpdateContainerResources",
                &one.request().message(2, &none().number(4, 128 << 20).number(3, 1024)),
            )?;
            one.prints(MEMORY, "134217728")?;
            one.prints("echo written >/dev/null && echo devices exist", "devices exist")?;
            let statistics = || {
                one.call("ContainerStats").ok().filter(|s| s.message(1).message(3).message(2).number(1) > 0)
            };
            poll("statistics of memory", DEADLINE, statistics)?;
            Ok(())
        })
    });
    c.case("CRI: security contexts", move |e| {
        in_pod(e, &none(), |pod| {
            let security = none().message(5, &none().number(1, 1000)).number(7, 1).number(11, 1);
            let one = pod.start("one", &IDLE, linux(&none(), &security))?;
            one.prints(
            "id -u; touch /x 2>/dev/null || echo read-only; grep NoNewPrivs /proc/self/status | tr '\\t' ' '",
            "1000\nread-only\nNoNewPrivs: 1",
        )?;
            Ok(())
        })
    });
    c.case("CRI: a privileged container", move |e| {
        in_pod(e, &none().number(6, 1), |pod| {
            let one = pod.start("one", &IDLE, linux(&none(), &none().number(2, 1)))?;
            one.prints("mount -t tmpfs x /tmp && echo mounted", "mounted")?;
            Ok(())
        })
    });
    c.case("CRI: a program that cannot be executed", move |e| {
        e.ok("echo 'not a program' >$D/text; chmod 755 $D/text")?;
        in_pod(e, &none(), |pod| {
            let mount = none().text(1, "/text").text(2, e.dir.join("text").to_string_lossy().as_bytes());
            let one =
                pod.start("one", &["/text"], |c| linux(&none(), &none())(c.message(7, &mount.number(3, 1))))?;
            let code = one.becomes(EXITED)?.number(7);
            if code == 0 {
                return fail("its exit status is 0");
            }
            e.until("grep -ci 'exec format error' $D/one.log", "1")?;
            one.call("RemoveContainer").map(drop)
        })
    });
    c.case("CRI: error: a missing program", move |e| {
        in_pod(e, &none(), |pod| {
            let one = pod.create("one", &["/none/such"], linux(&none(), &none()))?;
            if one.call("StartContainer").is_ok() {
                return fail("a container without its program has been started");
            }
            let log = fs::read_to_string("/tmp/engine/daemon.log").context("containerd's log")?;
            let line = log
                .lines()
                .find(|l| l.contains("StartContainer") && l.contains(&one.id) && l.contains("failed"));
            has("the error for the kubelet", line.unwrap_or(""), "no such file or directory")?;
            Ok(())
        })
    });
}

#!/usr/bin/env python3
"""bench-pods ORUND BUSYBOX [--rounds N] [--replicas N]: what pods cost the supervisor, as a table in Markdown.

Starts a supervisor of its own, with its own directories and cgroups and without a network; everything is removed at the end.
Called by `scripts/bench pods`, as root.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time


class Daemon:
    def __init__(self, orund, busybox):
        self.orund = orund
        self.dir = tempfile.mkdtemp(prefix="orund-bench-", dir="/dev/shm")
        self.parent = "/" + os.path.basename(self.dir)
        root = os.path.join(self.dir, "bundle/rootfs/bin")
        os.makedirs(root)
        shutil.copy(busybox, os.path.join(root, "busybox"))
        for name in ["sh", "sleep", "true"]:
            os.symlink("busybox", os.path.join(root, name))
        namespaces = [{"type": kind} for kind in ["pid", "mount", "ipc", "uts"]]
        config = {
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "process": {"args": ["sh"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": namespaces},
        }
        with open(os.path.join(self.dir, "bundle/config.json"), "w") as f:
            json.dump(config, f)
        dirs = [f"--{name}-dir={self.dir}/{name}" for name in ["data", "run", "log"]]
        command = [orund, "serve", f"--socket={self.dir}/sock", "--network=none", f"--cgroup-parent={self.parent}"]
        self.output = open(os.path.join(self.dir, "output"), "w")
        self.process = subprocess.Popen(command + dirs, stdout=self.output, stderr=self.output)
        self.until("the supervisor", lambda: self.ask("GET", "/healthz")[0] == 200)

    def ask(self, method, path, body=""):
        try:
            s = socket.socket(socket.AF_UNIX)
            s.connect(f"{self.dir}/sock")
            head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            s.sendall((head + body).encode())
            answer = b"".join(iter(lambda: s.recv(65536), b"")).decode()
            s.close()
        except OSError:
            return 0, {}
        at, end = answer.find("{"), answer.rfind("}")
        return int(answer.split(" ")[1]), json.loads(answer[at : end + 1]) if at >= 0 else {}

    def until(self, what, reached, patience=120):
        begun = time.monotonic()
        while not reached():
            if time.monotonic() - begun > patience:
                sys.exit(f"bench-pods: waited {patience} s for {what}")
            time.sleep(0.0005)
        return (time.monotonic() - begun) * 1000

    def apply(self, name, replicas, containers, **spec):
        spec.update(replicas=replicas, terminationGracePeriodSeconds=0, containers=containers)
        w = {"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": name}, "spec": spec}
        status, answer = self.ask("POST", "/v1/workloads", json.dumps(w))
        if status != 200:
            sys.exit(f"bench-pods: {answer}")

    def container(self, name="app", **more):
        command = ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"]
        return {"name": name, "bundle": f"{self.dir}/bundle", "command": command, **more}

    def ready(self, name, replicas):
        status = self.ask("GET", f"/v1/workloads/{name}")[1].get("status", {})
        return status.get("ready") == replicas

    def pid(self, replica):
        containers = self.ask("GET", f"/v1/replicas/{replica}")[1].get("containers", [{}])
        return containers[0].get("pid")

    def delete(self, name):
        self.ask("DELETE", f"/v1/workloads/{name}?gracePeriodSeconds=0")
        self.until("the end of " + name, lambda: self.ask("GET", f"/v1/workloads/{name}")[0] == 404)

    def own(self):
        """The keeper and the supervisor."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        children = [int(pid) for pid in open(path).read().split()]
        serve = lambda pid: b"\0serve\0" in open(f"/proc/{pid}/cmdline", "rb").read()
        return [self.process.pid] + [pid for pid in children if serve(pid)]

    def memory(self):
        def pss(pid):
            lines = open(f"/proc/{pid}/smaps_rollup").read().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

        return sum(pss(pid) for pid in self.own())

    def cpu(self):
        def ticks(pid):
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])

        return sum(ticks(pid) for pid in self.own()) * 1000 / os.sysconf("SC_CLK_TCK")

    def end(self):
        for w in self.ask("GET", "/v1/workloads")[1].get("items", []):
            self.delete(w["metadata"]["name"])
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        find = ["find", "/sys/fs/cgroup", "-depth", "-path", f"*{self.parent}*", "-type", "d", "-exec", "rmdir", "{}", "+"]
        subprocess.run(find, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


def restarts(d, rounds, **spec):
    """From the death of a container to the pid of its replacement, ms."""
    quick = {"initial": 0.001, "factor": 1, "max": 0.001}
    d.apply("restart", 1, [d.container()], backoff=quick, **spec)
    d.until("its start", lambda: d.pid("restart-0"))
    took = []
    for _ in range(rounds):
        old = d.pid("restart-0")
        os.kill(old, signal.SIGKILL)
        took.append(d.until("the restart", lambda: d.pid("restart-0") not in (None, old)))
        time.sleep(0.05)
    d.delete("restart")
    return statistics.median(took)


def validate(d, files):
    where = os.path.join(d.dir, "files")
    os.mkdir(where)
    for n in range(files):
        text = f"""apiVersion: apps/v1
kind: Deployment
metadata: {{name: web-{n}, labels: {{app: web}}}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: app
        image: nginx:1.27
        env: [{{name: A, value: b}}, {{name: C, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
        resources: {{limits: {{cpu: 500m, memory: 64Mi}}, requests: {{cpu: 100m}}}}
        readinessProbe: {{httpGet: {{path: /, port: 80}}, periodSeconds: 5}}
        volumeMounts: [{{name: data, mountPath: /data}}]
      volumes: [{{name: data, emptyDir: {{}}}}]
"""
        with open(os.path.join(where, f"{n}.yaml"), "w") as f:
            f.write(text)
    begun = time.monotonic()
    subprocess.run([d.orund, "validate", "-f", where], stdout=subprocess.DEVNULL, check=True)
    return (time.monotonic() - begun) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("orund")
    parser.add_argument("busybox")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--replicas", type=int, default=1000)
    a = parser.parse_args()
    load = os.getloadavg()[0]
    d = Daemon(a.orund, a.busybox)
    rows = []
    try:
        took = validate(d, 300)
        rows.append(("`validate` of 300 files", f"{took:.0f} ms", "1000 ms"))
        took = []
        for _ in range(a.rounds):
            begun = time.monotonic()
            d.apply("pod", 1, [d.container("a"), d.container("b")], pod={"labels": {"app": "pod"}}, minReadySeconds=0)
            d.until("the pod", lambda: d.ready("pod", 1))
            took.append((time.monotonic() - begun) * 1000)
            d.delete("pod")
        rows.append(("a pod of two containers, from `apply` to ready", f"{statistics.median(took):.1f} ms", "25 ms"))
        plain = restarts(d, a.rounds)
        pod = restarts(d, a.rounds, pod={"labels": {"app": "x"}})
        rows.append(("restart of a plain container", f"{plain:.2f} ms", ""))
        rows.append(("restart of a container in a pod", f"{pod:.2f} ms", f"{plain + 0.3:.2f} ms"))
        base = d.memory()
        probe = {"exec": {"command": ["true"]}, "periodSeconds": 60}
        d.apply("many", a.replicas, [d.container(readinessProbe=probe)], pod={"labels": {"app": "many"}})
        d.until("the replicas", lambda: d.ready("many", a.replicas), 600)
        time.sleep(3)
        each = (d.memory() - base) / a.replicas
        rows.append((f"memory of a pod with a probe, of {a.replicas}", f"{each:.1f} kB", "10 kB"))
        before = d.cpu()
        time.sleep(60)
        rows.append((f"CPU time of a minute, {a.replicas} probes a minute apart", f"{d.cpu() - before:.0f} ms", ""))
    finally:
        d.end()
    print(f"Linux {os.uname().release}, {os.cpu_count()} processors, load average {load:.2f} at the start, {a.rounds} rounds. Medians.\n")
    print("| | measured | at most |\n|---|---:|---:|")
    for row in rows:
        print(f"| {row[0]} | {row[1]} | {row[2]} |")


main()

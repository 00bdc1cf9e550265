"""bench-images.py DIST ROUNDS: what images cost, as Markdown: unpacking a layer of 256 MB and 14,000 files beside umoci and podman,
pulling an image of ten layers from a registry on the loopback interface, and starting a container whose root file system is made
of layers beside one of a bundle. Called by scripts/bench images, in a mount and a network namespace of its own."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

dist, rounds = sys.argv[1], int(sys.argv[2])
FILES, BYTES = 14_000, 256 << 20
work = tempfile.mkdtemp(prefix="orun-bench-images.", dir="/var/tmp")


def text(rng, size):
    """Bytes that compress to about two fifths, as programs and libraries do."""
    return b"".join(rng.choices(WORDS, k=size // 8 + 1))[:size]


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def put(layout, data, kind):
    path = f"{layout}/blobs/" + digest(data).replace(":", "/")
    with open(path, "wb") as file:
        file.write(data)
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}


def layout(name, layers):
    """An image of layers, each a list of paths and contents."""
    path = f"{work}/{name}"
    os.makedirs(f"{path}/blobs/sha256")
    ids, blobs = [], []
    for files in layers:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for path_in, data, mode in files:
                info = tarfile.TarInfo(path_in)
                info.size, info.mode = len(data), mode
                tar.addfile(info, io.BytesIO(data))
        ids.append(digest(plain.getvalue()))
        blobs.append(put(path, gzip.compress(plain.getvalue(), 6, mtime=0), "layer.v1.tar+gzip"))
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]}, "rootfs": {"type": "layers", "diff_ids": ids}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": put(path, json.dumps(config).encode(), "config.v1+json"), "layers": blobs}
    entry = put(path, json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    with open(f"{path}/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
    with open(f"{path}/oci-layout", "w") as file:
        file.write('{"imageLayoutVersion": "1.0.0"}')
    return path


def measure(command):
    """Seconds of the clock, CPU seconds with all children, and the largest resident set of one of them in kB."""
    begun = time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
sys.stderr.buffer.write(done.stderr[-2000:] if done.returncode else b"")
print(done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss)
""", *command], stdout=subprocess.PIPE, text=True)
    code, cpu, rss = child.communicate()[0].split()
    if code != "0":
        sys.exit(f"bench-images: error: {command[0]} failed with status {code}")
    return time.monotonic() - begun, float(cpu), int(rss)


def median(values):
    return sorted(values)[len(values) // 2]


def fresh(name):
    path = f"{work}/{name}"
    shutil.rmtree(path, ignore_errors=True)
    return path


def table(peers):
    print("| | wall | CPU | peak memory of a process |\n|---|---:|---:|---:|")
    for name, command in peers:
        if not shutil.which(command(0)[0]):
            print(f"| {name} | not installed | | |")
            continue
        all_of = [measure(command(n)) for n in range(max(1, rounds // 10))]
        wall, cpu, rss = (median([m[i] for m in all_of]) for i in range(3))
        print(f"| {name} | {wall:.2f} s | {cpu:.2f} s | {rss / 1000:.1f} MB |", flush=True)


def podman(source):
    def command(n):
        root = fresh("podman")
        return ["podman", "--root", root, "--runroot", f"{work}/podman-run", "--storage-driver", "overlay",
                "pull", "--quiet", "--tls-verify=false", source]
    return command


def orund(source):
    return lambda n: [f"{dist}/orund", "image", "--dir", fresh("store"), "pull", source]


class Line:
    """A line of so many bytes a second, which all connections share. A busy machine may catch up on a second of it."""

    def __init__(self, rate):
        self.rate, self.free, self.lock = rate, 0.0, threading.Lock()

    def send(self, file, body):
        for at in range(0, len(body), 64 << 10):
            part = body[at:at + (64 << 10)]
            with self.lock:
                self.free = max(self.free, time.monotonic() - 1) + len(part) / self.rate
                wait = self.free - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            file.write(part)


class Registry(BaseHTTPRequestHandler):
    """Serves a layout, as the distribution-spec has it."""

    protocol_version = "HTTP/1.1"
    layout = ""
    line = None

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        if self.path == "/v2/":
            return self.answer(b"{}", "application/json")
        if not name.startswith("sha256:"):
            with open(f"{self.layout}/index.json") as file:
                name = json.load(file)["manifests"][0]["digest"]
        kind = "application/octet-stream" if "/blobs/" in self.path else "application/vnd.oci.image.manifest.v1+json"
        with open(f"{self.layout}/blobs/" + name.replace(":", "/"), "rb") as file:
            self.answer(file.read(), kind, name)

    do_HEAD = do_GET

    def answer(self, body, kind, name=None):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if name:
            self.send_header("docker-content-digest", name)
        self.end_headers()
        if self.command == "GET" and self.line:
            self.line.send(self.wfile, body)
        elif self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def start():
    """Median milliseconds of `orun run` of /bin/true: the root a directory, one layer, five layers; in turn, so that each run has its
    pairs. CPU time with that of the container is what a busy machine changes little."""
    busybox = shutil.which("busybox")
    bundles = {}
    for name, layers in (("a directory", 0), ("one layer", 1), ("five layers", 5)):
        bundle = f"{work}/bundle-{layers}"
        os.makedirs(f"{bundle}/rootfs")
        tops = [f"{bundle}/layer-{n}" for n in range(layers)] or [f"{bundle}/rootfs"]
        for top in tops:
            os.makedirs(f"{top}/bin")
        for empty in ("proc", "dev", "sys"):
            os.makedirs(f"{tops[-1]}/{empty}")
        shutil.copy(busybox, f"{tops[-1]}/bin/busybox")
        os.symlink("busybox", f"{tops[-1]}/bin/true")
        subprocess.run([f"{dist}/orun", "spec", "--bundle", bundle], check=True)
        with open(f"{bundle}/config.json") as file:
            config = json.load(file)
        config["process"].update(args=["/bin/true"], terminal=False)
        if layers:
            config["annotations"] = {"run.orun.rootfs.lower": ":".join(tops), "run.orun.rootfs.upper": f"{bundle}/upper",
                                     "run.orun.rootfs.work": f"{bundle}/work", "run.orun.rootfs.volatile": "true"}
            config["root"]["readonly"] = False
            os.makedirs(f"{bundle}/upper")
            os.makedirs(f"{bundle}/work")
        with open(f"{bundle}/config.json", "w") as file:
            json.dump(config, file)
        bundles[name] = (bundle, [])
    state = f"{work}/state"
    for n in range(rounds * 5):
        for bundle, times in bundles.values():
            # The kernel takes no upper directory a second time that it has not written to the disk.
            for changes in ("upper", "work") if os.path.exists(f"{bundle}/upper") else ():
                shutil.rmtree(f"{bundle}/{changes}")
                os.mkdir(f"{bundle}/{changes}")
            begun = time.monotonic()
            child = subprocess.Popen([f"{dist}/orun", "--root", state, "run", "--bundle", bundle, f"bench-{n}"])
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                sys.exit(f"bench-images: error: orun run failed with status {child.returncode}")
            times.append((time.monotonic() - begun, used.ru_utime + used.ru_stime))
    print("| root file system | `orun run` of /bin/true, wall | CPU | more CPU than a directory, median of the pairs |\n|---|---:|---:|---:|")
    base = [cpu for _, cpu in bundles["a directory"][1]]
    for name, (_, times) in bundles.items():
        wall, cpu = (median([t[i] for t in times]) * 1000 for i in range(2))
        more = median([cpu - of_directory for (_, cpu), of_directory in zip(times, base)]) * 1000
        print(f"| {name} | {wall:.2f} ms | {cpu:.2f} ms | {more:.2f} ms |")


try:
    rng = random.Random(1)
    WORDS = [rng.randbytes(8) for _ in range(2200)]
    size = BYTES // FILES
    big = [(f"d{n % 140}/f{n}", text(rng, size), 0o755 if n % 9 == 0 else 0o644) for n in range(FILES)]
    one = layout("one", [big])
    ten = layout("ten", [big[n::10] for n in range(10)])
    blob = sum(os.path.getsize(f"{one}/blobs/sha256/{b}") for b in os.listdir(f"{one}/blobs/sha256"))
    load = os.getloadavg()[0]
    print(f"Linux {os.uname().release}, {os.cpu_count()} processors, load average {load:.2f} at the start; medians.\n")
    print(f"### A layer of {FILES} files, {BYTES >> 20} MiB, {blob >> 20} MiB compressed\n")
    table([
        ("`orund image pull`", orund(f"oci:{one}")),
        ("`umoci raw unpack`", lambda n: ["umoci", "raw", "unpack", "--image", f"{one}:latest", fresh("umoci")]),
        ("`podman pull`", podman(f"oci:{one}")),
    ])
    Registry.layout = ten
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = f"127.0.0.1:{server.server_port}/bench/ten:latest"
    print("\n### The same in ten layers, from a registry on the loopback interface\n")
    table([("`orund image pull`", orund(name)), ("`podman pull`", podman(f"docker://{name}"))])
    rate = 12_500_000
    size = sum(os.path.getsize(f"{ten}/blobs/sha256/{b}") for b in os.listdir(f"{ten}/blobs/sha256"))
    print(f"\n### The same over a line of 100 Mbit/s, which needs {size / rate:.2f} s for {size >> 20} MiB\n")
    Registry.line = Line(rate)
    table([("`orund image pull`", orund(name)), ("`podman pull`", podman(f"docker://{name}"))])
    print("\n### A start from layers\n")
    start()
finally:
    shutil.rmtree(work, ignore_errors=True)

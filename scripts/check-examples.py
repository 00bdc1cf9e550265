"""check-examples.py DIR ORUND: the verdicts of `orund validate` on a tree of Kubernetes files."""

import collections
import json
import pathlib
import re
import subprocess
import sys

import yaml

WORKLOADS = "Pod Deployment ReplicaSet ReplicationController StatefulSet DaemonSet Job CronJob".split()
KEPT = "ConfigMap Secret PersistentVolumeClaim Service".split()
# Errors that are verdicts of orund's tables. Every other error is a mistake, of the file or of the tables.
VERDICTS = [
    ("not yet", r"is not supported yet$"),
    ("refused", r"is not supported$|^this host has no resource |Windows containers do not run here"),
    ("no object", r'^field "(apiVersion|kind)" is missing$|Helm|kustomize|variables are not replaced'),
]
WORDS = ["accepted", "with a warning", "not yet", "refused", "no object", "mistake"]


class Lines(yaml.SafeLoader):
    """Tags of others are of no interest."""


Lines.add_multi_constructor("", lambda loader, tag, node: None)


def objects(text):
    """Kind, first and last line of each object of a file, those of lists included."""
    found = []

    def take(node):
        get = {k.value: v for k, v in node.value} if isinstance(node, yaml.MappingNode) else {}
        if "items" in get and getattr(get.get("kind"), "value", "").endswith("List"):
            for item in get["items"].value:
                take(item)
        elif get:
            kind = getattr(get.get("kind"), "value", None)
            found.append((kind, node.start_mark.line + 1, max(node.start_mark.line + 1, node.end_mark.line)))

    for node in yaml.compose_all(text, Loader=Lines):
        if node is not None:
            take(node)
    return found


def verdict(findings):
    """The verdict on an object with these findings, and the errors that led to it."""
    errors = [f for f in findings if f.get("severity", "error") == "error"]
    if not errors:
        return ("with a warning" if findings else "accepted"), []
    texts = [(f["message"], f.get("hint", "")) for f in errors]
    names = {next((n for n, words in VERDICTS if any(re.search(words, t) for t in text)), "mistake") for text in texts}
    return next(name for name in reversed(WORDS) if name in names), errors


def reason(finding):
    """A finding without what differs from file to file."""
    return re.sub(r"\[\d+\]", "[]", f"{finding.get('path', '')}: {finding['message']}")


def main(folder, orund):
    root = pathlib.Path(folder)
    paths = sorted(p for p in root.rglob("*") if p.suffix in (".yaml", ".yml", ".json") and p.is_file())
    if not paths:
        sys.exit(f"check-examples: error: no .yaml, .yml or .json file in {folder!r}")
    command = [orund, "validate", "--json"] + [f"--filename={p}" for p in paths]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    files = {f["file"]: f for f in json.loads(done.stdout)["files"]}

    counts = collections.defaultdict(collections.Counter)
    reasons, mistakes = collections.Counter(), []
    for path in paths:
        findings = files[str(path)]["findings"]
        try:
            parts = objects(path.read_text())
        except yaml.YAMLError:
            parts = [("(no YAML)", 1, sys.maxsize)]
        for kind, first, last in parts or [("(empty)", 1, sys.maxsize)]:
            # Of a file with one object all findings are its own, wherever they are.
            own = findings if len(parts) == 1 else [f for f in findings if first <= f["line"] <= last]
            word, errors = verdict(own)
            group = "workloads" if kind in WORKLOADS else "kept" if kind in KEPT else "other kinds"
            counts[group][word] += 1
            for text in {reason(f) for f in errors}:
                reasons[(word, text)] += 1
            if word == "mistake":
                mistakes.append((path.relative_to(root), kind, [f"{f['line']}: {reason(f)}" for f in errors]))

    print("| objects | all | " + " | ".join(WORDS) + " | accepted, of all |")
    print("| --- |" + " ---: |" * (len(WORDS) + 2))
    for group in ("workloads", "kept", "other kinds"):
        row, total = counts[group], sum(counts[group].values())
        share = f"{100 * (row['accepted'] + row['with a warning']) / total:.0f} %" if total else ""
        print(f"| {group} | {total} | " + " | ".join(str(row[w]) for w in WORDS) + f" | {share} |")
    print(f"\n{len(paths)} files; no object: a template, or a file of another program.\n")
    for (word, text), count in sorted(reasons.items(), key=lambda r: (r[0][0], -r[1], r[0][1])):
        print(f"{count:4} {word}: {text}")
    for path, kind, errors in mistakes:
        print(f"\n{path} ({kind})", *errors, sep="\n  ")
    return 0


sys.exit(main(*sys.argv[1:]))

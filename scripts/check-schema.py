"""check-schema.py MODELS TABLE: compares the fields of Kubernetes' API with the rows of our table."""

import ast
import pathlib
import re
import sys

# Kinds, and the structures of the table whose name is not that of the API.
KINDS = "Pod Deployment ReplicaSet ReplicationController StatefulSet DaemonSet Job CronJob ConfigMap Secret PersistentVolumeClaim Service".split()
# Fields of ours, which Kubernetes writes as keys of a map.
MAPS = {"Limits", "Requests"}
# Fields of ours that the reader of a StatefulSet writes in place of its volumeClaimTemplates.
FIELDS = {("ClaimVolume", "perReplica")}
# Not a model of the package.
OWN = {"List"}


def models(folder):
    """The fields of each model: {model: {field: type}}."""
    found = {}
    for path in pathlib.Path(folder).glob("*.py"):
        text = path.read_text()
        name = re.search(r"^class (\w+)\(", text, re.M)
        types = re.search(r"openapi_types\b[^=]*= (\{.*?\n    \}|\{\})", text, re.S)
        keys = re.search(r"attribute_map\b[^=]*= (\{.*?\n    \}|\{\})", text, re.S)
        if name and types and keys:
            types, keys = ast.literal_eval(types[1]), ast.literal_eval(keys[1])
            found[name[1]] = {keys[field]: kind for field, kind in types.items()}
    return found


def rows(path):
    """The rows of the table: {structure: {field: (type, class)}}."""
    table = {}
    for line in pathlib.Path(path).read_text().splitlines():
        if line and not line.startswith("#"):
            name, kind, verdict, _, _ = line.split("\t")
            owner, field = name.split(".", 1)
            table.setdefault(owner, {})[field] = (kind.rstrip("!"), verdict)
    return table


def main(folder, path):
    api, table = models(folder), rows(path)
    complaints, seen, paths = [], set(), 0
    todo = [(kind, "V1" + kind, kind) for kind in KINDS]
    while todo:
        owner, model, at = todo.pop()
        if (owner, model) in seen:
            continue
        seen.add((owner, model))
        ours, theirs = table.get(owner, {}), api.get(model, {})
        if not theirs:
            complaints.append(f"{at}: the API has no model {model}")
        for field, kind in theirs.items():
            paths += 1
            if field not in ours:
                complaints.append(f"{at}.{field}: no row {owner}.{field} ({kind})")
                continue
            inner = re.findall(r"@(\w+)", ours[field][0])
            named = [name for name in re.findall(r"\w+", kind) if name in api]
            if inner and named:
                todo.append((inner[0], named[0], f"{at}.{field}"))
            elif inner and inner[0] not in MAPS:
                complaints.append(f"{at}.{field}: {kind} in the API, {ours[field][0]} in the table")
            elif named and ours[field][0] not in ("any", "list any"):
                complaints.append(f"{at}.{field}: {kind} in the API, {ours[field][0]} in the table")
        complaints += [f"{at}.{field}: the API has no such field" for field in ours if field not in theirs and (owner, field) not in FIELDS]
    checked = {owner for owner, _ in seen} | MAPS | OWN
    complaints += [f"{owner}: not reached from a kind" for owner in table if owner not in checked]
    for complaint in sorted(complaints):
        print(complaint)
    print(f"{paths} fields of {len(seen)} structures of the API compared, {len(complaints)} complaints")
    return 1 if complaints or paths < 350 else 0


sys.exit(main(*sys.argv[1:]))

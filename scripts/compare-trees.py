"""compare-trees.py DIR DIR...: whether directories have the same files, by path, mode, owner, device, link, hard links, time, extended
attributes and content. Prints what differs. Times of directories are left out: some tools set them before they fill them."""

import hashlib
import os
import stat
import sys


def describe(path, inodes):
    info = os.lstat(path)
    facts = {"mode": oct(info.st_mode), "owner": (info.st_uid, info.st_gid)}
    facts["attributes"] = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
    if stat.S_ISLNK(info.st_mode):
        facts["link"] = os.readlink(path)
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        facts["device"] = info.st_rdev
    if not stat.S_ISDIR(info.st_mode):
        facts["time"] = int(info.st_mtime)
        facts["first name"] = inodes.setdefault(info.st_ino, os.fsencode(path)) if info.st_nlink > 1 else None
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            facts["content"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts


def tree(top):
    found, inodes = {}, {}
    for at, dirs, files in os.walk(top):
        dirs.sort()
        for name in [""] + sorted(dirs + files):
            if name == "" and at != top:
                continue
            path = os.path.join(at, name) if name else at
            facts = describe(path, inodes)
            if facts.get("first name"):
                facts["first name"] = os.path.relpath(os.fsdecode(facts["first name"]), top)
            found[os.path.relpath(path, top)] = facts
    return found


first, *others = sys.argv[1:]
ours = tree(first)
differences = 0
for other in others:
    theirs = tree(other)
    for path in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(path), theirs.get(path)
        if a != b:
            differences += 1
            keys = [k for k in a.keys() | b.keys() if a.get(k) != b.get(k)] if a and b else ["only in one"]
            print(f"{path}: {', '.join(sorted(keys))}: {a and [a.get(k) for k in sorted(keys)]} {b and [b.get(k) for k in sorted(keys)]}")
    print(f"{first} and {other}: {len(ours)} files, {differences} differences")
sys.exit(differences > 0)

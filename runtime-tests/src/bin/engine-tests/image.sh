# shellcheck shell=bash
# image.sh NAME OUT COMMAND: an image of one layer with busybox, as the kind of archive that every engine reads.
set -eu
t=$(mktemp -d)
r=$t/root
mkdir -p "$r"/bin "$r"/etc "$r"/tmp "$r"/proc "$r"/sys "$r"/dev "$r"/root "$r"/var/run "$r"/usr/bin "$r"/home
cp "$(command -v busybox)" "$r/bin/busybox"
for applet in $(busybox --list); do
	[ "$applet" = busybox ] || ln -s busybox "$r/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home:/bin/sh\n' >"$r/etc/passwd"
printf 'root:x:0:\napp:x:1000:\n' >"$r/etc/group"
chmod 1777 "$r/tmp"
tar -C "$r" -cf "$t/layer.tar" .
layer=$(sha256sum <"$t/layer.tar" | cut -d' ' -f1)
mkdir -p "$t/out/$layer"
mv "$t/layer.tar" "$t/out/$layer/layer.tar"
cat >"$t/config" <<CONFIG
{"architecture": "$(dpkg --print-architecture)", "os": "linux", "created": "2020-01-01T00:00:00Z",
 "config": {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/sh", "-c", "$3"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]},
 "history": [{"created": "2020-01-01T00:00:00Z"}]}
CONFIG
config=$(sha256sum <"$t/config" | cut -d' ' -f1)
mv "$t/config" "$t/out/$config.json"
printf '[{"Config": "%s.json", "RepoTags": ["%s"], "Layers": ["%s/layer.tar"]}]' "$config" "$1" "$layer" >"$t/out/manifest.json"
tar -C "$t/out" -cf "$2" .
rm -rf "$t"

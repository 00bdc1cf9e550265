//! `volumes`, `tmpfs`, `configs`, `secrets`, `shm_size` and `volumes_from` of a service.

use std::path::Path;

use super::load::is_path;
use super::state::{Project, Service};
use super::{kept, merge, values};
use crate::config::document::Node;
use crate::config::quantity::{self, Bytes};
use crate::workload::pod::{
    ClaimVolume, ConfigMapVolume, EmptyDir, HostPath, HostPathType, KeyToPath, SecretVolume, Volume,
    VolumeMount,
};

/// The permission bits of a tmpfs of Docker's.
const TMPFS: u32 = 0o1777;

/// Kind of a volume of a service.
struct Mount {
    source: Source,
    target: String,
    read_only: bool,
    propagation: Option<String>,
    sub_path: Option<String>,
}

enum Source {
    Host { path: String, make: bool },
    Named(String),
    Anonymous,
    Memory { size: Option<u64>, mode: u32 },
}

type Wrong = (String, Option<String>);

/// The volumes of a service, and what is mounted besides.
pub fn read(project: &mut Project<'_, '_>, s: &mut Service<'_>) {
    let mut lists = vec![(s.name.to_owned(), s.node, false)];
    for (n, from) in values::texts(s.node, "volumes_from").iter().enumerate() {
        let (name, mode) = from.split_once(':').unwrap_or((from, "rw"));
        match project.services.iter().find(|(other, _)| *other == name) {
            Some((_, node)) => lists.push((name.to_owned(), node, mode == "ro")),
            None => {
                let at = values::get(s.node, "volumes_from").map(|v| &values::list(v)[n]).unwrap_or(s.node);
                let hint = Some("volumes are those of a service of the project".to_owned());
                project.error(at, &s.path("volumes_from"), format!("no service has the name {name:?}"), hint);
            }
        }
    }
    for (owner, node, read_only) in lists {
        let list = values::get(node, "volumes").map(values::list_or_one).unwrap_or_default();
        for (n, entry) in list.iter().enumerate() {
            let path = format!("services.{owner}.volumes[{n}]");
            match mount(entry) {
                Ok(mut mount) => {
                    mount.read_only |= read_only;
                    add(project, s, entry, &path, mount);
                }
                Err((message, hint)) => project.error(entry, &path, message, hint),
            }
        }
    }
    memory(project, s);
    files(project, s, "configs");
    files(project, s, "secrets");
}

fn mount(entry: &Node) -> Result<Mount, Wrong> {
    match entry.data.text() {
        Some(text) => short(text),
        None => long(entry),
    }
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn short(text: &str) -> Result<Mount, Wrong> {
    let hint = || Some("write SOURCE:TARGET or SOURCE:TARGET:ro".to_owned());
    let windows = text.as_bytes().get(1) == Some(&b':') && text.as_bytes().get(2) == Some(&b'\\');
    if windows {
        return Err(("paths of Windows are not supported".to_owned(), hint()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        // A path and options of an anonymous volume.
        [target, options @ ("ro" | "rw")] => ("", target, options),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err((format!("{text:?} is not a volume"), hint())),
    };
    if source.is_empty() && parts.len() > 2 || target.is_empty() {
        return Err((format!("{text:?} is not a volume"), hint()));
    }
    let source = match source {
        "" => Source::Anonymous,
        path if is_path(path) => Source::Host { path: path.to_owned(), make: true },
        name => Source::Named(name.to_owned()),
    };
    let mut mount =
        Mount { source, target: target.to_owned(), read_only: false, propagation: None, sub_path: None };
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => mount.read_only = true,
            "rw" | "z" | "Z" | "nocopy" | "copy" | "cached" | "delegated" | "consistent" | "rprivate"
            | "private" => {}
            "rshared" | "shared" => mount.propagation = Some("Bidirectional".to_owned()),
            "rslave" | "slave" => mount.propagation = Some("HostToContainer".to_owned()),
            other => {
                let hint = "options are ro, rw, z, Z, nocopy, rshared and rslave".to_owned();
                return Err((format!("unknown option {other:?} of a volume"), Some(hint)));
            }
        }
    }
    Ok(mount)
}

fn long(entry: &Node) -> Result<Mount, Wrong> {
    let source = values::text(entry, "source").unwrap_or_default().to_owned();
    let bind = values::get(entry, "bind");
    let needs = |what: &str| (format!("a {what} needs a source"), Some("write `source: PATH`".to_owned()));
    let source = match values::text(entry, "type").unwrap_or_default() {
        "bind" if source.is_empty() => return Err(needs("bind")),
        "bind" => {
            let make = bind.and_then(|b| values::value(b, "create_host_path", values::flag)).unwrap_or(true);
            Source::Host { path: source, make }
        }
        "volume" if source.is_empty() => Source::Anonymous,
        "volume" => Source::Named(source),
        "tmpfs" => {
            let of = values::get(entry, "tmpfs");
            let size = of.and_then(|t| values::value(t, "size", quantity::docker_bytes));
            let mode = of.and_then(|t| values::value(t, "mode", mode)).unwrap_or(TMPFS);
            Source::Memory { size, mode }
        }
        other => {
            let hint = "types are bind, volume and tmpfs".to_owned();
            return Err((format!("volumes of type {other:?} are not supported"), Some(hint)));
        }
    };
    let propagation = bind.and_then(|b| values::text(b, "propagation")).and_then(|p| match p {
        "shared" | "rshared" => Some("Bidirectional".to_owned()),
        "slave" | "rslave" => Some("HostToContainer".to_owned()),
        _ => None,
    });
    let sub_path = values::get(entry, "volume").and_then(|v| values::text(v, "subpath")).map(str::to_owned);
    let target = values::text(entry, "target").unwrap_or_default().to_owned();
    Ok(Mount { source, target, read_only: values::is_set(entry, "read_only"), propagation, sub_path })
}

/// Permission bits: octal, with or without a leading 0.
fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8).ok().filter(|m| *m <= 0o7777)
}

/// Mounts `mount`, which `entry` says.
fn add(project: &mut Project<'_, '_>, s: &mut Service<'_>, entry: &Node, path: &str, mount: Mount) {
    let target = values::get(entry, "target").unwrap_or(entry);
    if !mount.target.starts_with('/') || mount.target.split('/').any(|p| p == "..") {
        let message = format!("{:?} must be an absolute path in the container", mount.target);
        return project.error(target, path, message, Some("begin it with \"/\"".to_owned()));
    }
    let at = |m: &VolumeMount| m.mount_path.trim_end_matches('/') == mount.target.trim_end_matches('/');
    if s.container.volume_mounts.iter().any(at) {
        if path.contains(&format!(".{}.", s.name)) {
            let hint = Some("choose another path".to_owned());
            let message = format!("another volume is mounted at {:?}", mount.target);
            project.error(target, path, message, hint);
        }
        return;
    }
    let mut volume = Volume::default();
    match mount.source {
        Source::Host { path: host, make } => {
            socket(project, entry, path, &host);
            let kind = match (project.loader.host.is_file(Path::new(&host)), make) {
                (true, _) | (_, false) => HostPathType::Any,
                (false, true) if is_socket(&host) => HostPathType::Any,
                (false, true) => HostPathType::DirectoryOrCreate,
            };
            volume.host_path = Some(HostPath { path: host, kind });
        }
        Source::Named(name) => match kept::volume(project, &name) {
            Some(kept::VolumeSource::Claim(claim_name)) => {
                volume.persistent_volume_claim = Some(ClaimVolume { claim_name, ..ClaimVolume::default() });
            }
            Some(kept::VolumeSource::Host(path)) => {
                volume.host_path = Some(HostPath { path, kind: HostPathType::DirectoryOrCreate });
            }
            None => {
                return project.undefined(
                    values::get(entry, "source").unwrap_or(entry),
                    s.name,
                    "volumes",
                    &name,
                );
            }
        },
        Source::Anonymous => {
            let name = format!("{}{}", s.name, merge::mount_target(entry).unwrap_or_default());
            let claim_name = kept::claim(project, &name, None);
            volume.persistent_volume_claim = Some(ClaimVolume { claim_name, ..ClaimVolume::default() });
        }
        Source::Memory { size, mode } => volume.empty_dir = Some(in_memory(size, mode)),
    }
    push(
        s,
        volume,
        VolumeMount {
            name: String::new(),
            mount_path: mount.target,
            read_only: mount.read_only,
            recursive_read_only: None,
            sub_path: mount.sub_path,
            sub_path_expr: None,
            mount_propagation: mount.propagation,
        },
    );
}

fn push(s: &mut Service<'_>, volume: Volume, mount: VolumeMount) {
    let name = format!("v{}", s.spec.volumes.len());
    s.container.volume_mounts.push(VolumeMount { name: name.clone(), ..mount });
    s.spec.volumes.push(Volume { name, ..volume });
}

fn in_memory(size: Option<u64>, mode: u32) -> EmptyDir {
    EmptyDir {
        medium: Some("Memory".to_owned()),
        mode: Some(mode),
        size_limit: size.filter(|s| *s > 0).map(Bytes),
    }
}

fn plain(path: &str) -> VolumeMount {
    VolumeMount {
        name: String::new(),
        mount_path: path.to_owned(),
        read_only: false,
        recursive_read_only: None,
        sub_path: None,
        sub_path_expr: None,
        mount_propagation: None,
    }
}

fn is_socket(path: &str) -> bool {
    path.ends_with(".sock") || path.starts_with("/dev/")
}

/// Programs that control Docker find none here.
fn socket(project: &mut Project<'_, '_>, entry: &Node, path: &str, host: &str) {
    if host.ends_with("/docker.sock") {
        let hint = "programs that watch or control Docker see nothing of orund's containers";
        project.warn(entry, path, "there may be no Docker here", hint);
    }
}

/// `tmpfs`: `PATH[:OPTIONS]`; and `/dev/shm`.
fn memory(project: &mut Project<'_, '_>, s: &mut Service<'_>) {
    let list = values::get(s.node, "tmpfs").map(values::list).unwrap_or_default();
    for (n, entry) in list.iter().enumerate() {
        let text = entry.data.text().unwrap_or_default();
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let (mut size, mut bits) = (None, TMPFS);
        for (name, value) in options.split(',').filter_map(|o| o.split_once('=')) {
            match name {
                "size" => size = quantity::docker_bytes(value),
                "mode" => bits = mode(value).unwrap_or(TMPFS),
                _ => {}
            }
        }
        let source = Source::Memory { size, mode: bits };
        let mount =
            Mount { source, target: target.to_owned(), read_only: false, propagation: None, sub_path: None };
        add(project, s, entry, &s.path(&format!("tmpfs[{n}]")), mount);
    }
    if let Some(size) = values::value(s.node, "shm_size", quantity::docker_bytes) {
        let volume = Volume { empty_dir: Some(in_memory(Some(size), TMPFS)), ..Volume::default() };
        push(s, volume, plain("/dev/shm"));
    }
}

/// `configs` and `secrets`: one file each.
fn files(project: &mut Project<'_, '_>, s: &mut Service<'_>, section: &str) {
    let list = values::get(s.node, section).map(values::list).unwrap_or_default();
    for entry in list {
        let Some(source) = entry.data.text().or_else(|| values::text(entry, "source")) else { continue };
        let Some(object) = kept::file(project, section, source) else { continue };
        let secret = section == "secrets";
        let default = if secret { format!("/run/secrets/{source}") } else { format!("/{source}") };
        let target = match values::text(entry, "target") {
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(name) if secret => format!("/run/secrets/{name}"),
            Some(name) => format!("/{name}"),
            None => default,
        };
        let mode = values::value(entry, "mode", mode).map(|m| m & 0o777);
        let key = object.key.clone();
        let items = vec![KeyToPath { key: key.clone(), path: key.clone(), mode }];
        let mut volume = Volume::default();
        if secret {
            let (secret_name, default_mode) = (object.name, Some(0o444));
            volume.secret = Some(SecretVolume { secret_name, items, default_mode, optional: false });
        } else {
            let (name, default_mode) = (object.name, Some(0o444));
            volume.config_map = Some(ConfigMapVolume { name, items, default_mode, optional: false });
        }
        push(s, volume, VolumeMount { sub_path: Some(key), read_only: true, ..plain(&target) });
    }
}

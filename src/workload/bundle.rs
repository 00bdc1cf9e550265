//! The configuration of a container of a pod: config.json of its bundle with what the workload says.

use serde_json::{Map, Value, json};

use super::model::Container;
use super::pod::{AppArmorProfile, SeccompProfile, VolumeMount};
use super::replica::Sandbox;

/// Source of a mount that every container gets for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Volume(VolumeMount),
    /// The volume that the image declares at that path.
    ImageVolume(String),
    Hosts,
    ResolvConf,
    Hostname,
    /// Where the container leaves its last words.
    TerminationMessage,
}

/// A configuration, and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedConfig {
    pub config: Value,
    /// Entries of `mounts` by their place, and what each shows.
    pub given: Vec<(usize, Source)>,
}

/// Inputs from the host and the image.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// All capabilities that the kernel has, as `CAP_CHOWN`.
    pub capabilities: Vec<String>,
    /// Entries of `linux.devices`, for privileged containers.
    pub devices: Vec<Value>,
    /// The profile of [`localhost_profile`], as `linux.seccomp` has it.
    pub seccomp: Option<Value>,
    /// The paths of volumes that the image declares.
    pub image_volumes: Vec<String>,
}

/// The namespaces that the containers of a pod share, by their names in config.json. Their paths are known when a
/// container is made; until then this is one.
pub const SHARED: [&str; 4] = ["network", "ipc", "uts", "pid"];
const UNKNOWN: &str = "/proc/self/ns/";

/// Where containers leave their last words, when the file does not say.
const MESSAGE_PATH: &str = "/dev/termination-log";

/// The sets of capabilities(7) of a program.
const SETS: [&str; 3] = ["bounding", "effective", "permitted"];

/// Which of [`SHARED`] a pod does not have of the host.
pub fn shared(pod: &Sandbox) -> Vec<&'static str> {
    let host = |kind: &str| match kind {
        "ipc" => pod.host_ipc,
        // Without a shared one each container has its own.
        "pid" => !pod.share_process_namespace,
        _ => pod.host_network,
    };
    SHARED.into_iter().filter(|kind| !host(kind)).collect()
}

/// The file with the seccomp profile of container `c` of `pod`, when it is one of the host.
pub fn localhost_profile<'a>(pod: &'a Sandbox, c: &'a Container) -> Option<&'a str> {
    let profile = seccomp_profile(pod, c).filter(|p| p.kind == "Localhost")?;
    if c.security_context.privileged { None } else { profile.localhost_profile.as_deref() }
}

fn seccomp_profile<'a>(pod: &'a Sandbox, c: &'a Container) -> Option<&'a SeccompProfile> {
    c.security_context.seccomp_profile.as_ref().or(pod.security.seccomp_profile.as_ref())
}

/// The configuration of container `c` of `pod`, whose bundle has `raw`.
///
/// # Errors
/// It is not JSON, or the workload asks for what cannot be.
pub fn config(raw: &[u8], pod: &Sandbox, c: &Container, host: &Host) -> Result<GeneratedConfig, String> {
    let bad = |e: serde_json::Error| format!("reading config.json: {e}");
    let mut config: Map<String, Value> = serde_json::from_slice(raw).map_err(bad)?;
    process(object(&mut config, "process"), pod, c, host)?;
    namespaces(&mut config, pod);
    linux(object(&mut config, "linux"), pod, c, host);
    engine(&mut config, c, host)?;
    if c.security_context.privileged {
        writable_kernel(&mut config);
    }
    if let Some(read_only) = c.security_context.read_only_root_filesystem {
        object(&mut config, "root").insert("readonly".to_owned(), read_only.into());
    }
    let given = mounts(&mut config, pod, c, &host.image_volumes);
    if c.tty {
        terminals(&mut config);
    }
    Ok(GeneratedConfig { config: Value::Object(config), given })
}

/// The object `name` of `of`, which is made when there is none.
fn object<'a>(of: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = of.entry(name.to_owned()).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    // It is one now.
    value.as_object_mut().unwrap_or_else(|| unreachable!())
}

fn process(
    process: &mut Map<String, Value>,
    pod: &Sandbox,
    c: &Container,
    host: &Host,
) -> Result<(), String> {
    let own = &c.security_context;
    if let Some(dir) = &c.working_dir {
        process.insert("cwd".to_owned(), dir.clone().into());
    }
    let all = &pod.security;
    let user = object(process, "user");
    if let Some(uid) = own.run_as_user.or(all.run_as_user) {
        user.insert("uid".to_owned(), uid.into());
    }
    if let Some(gid) = own.run_as_group.or(all.run_as_group) {
        user.insert("gid".to_owned(), gid.into());
    }
    let root = user.get("uid").and_then(Value::as_u64).unwrap_or(0) == 0;
    if root && own.run_as_non_root.or(all.run_as_non_root) == Some(true) {
        return Err(format!(
            "container {:?} must not run as root (runAsNonRoot), and would: set runAsUser",
            c.name
        ));
    }
    let mut groups: Vec<u64> = user
        .get("additionalGids")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    for gid in all.supplemental_groups.iter().chain(&all.fs_group).map(|gid| u64::from(*gid)) {
        if !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    if !groups.is_empty() {
        user.insert("additionalGids".to_owned(), groups.into());
    }
    capabilities(process, c, host)?;
    match own.allow_privilege_escalation {
        Some(allow) => drop(process.insert("noNewPrivileges".to_owned(), (!allow).into())),
        None if own.privileged => drop(process.insert("noNewPrivileges".to_owned(), false.into())),
        None => {}
    }
    app_armor(process, own.app_armor_profile.as_ref().or(all.app_armor_profile.as_ref()), own.privileged);
    Ok(())
}

fn capabilities(process: &mut Map<String, Value>, c: &Container, host: &Host) -> Result<(), String> {
    let own = &c.security_context;
    let named = |list: &[String]| -> Result<Option<Vec<String>>, String> {
        let mut names = Vec::new();
        for name in list {
            let upper = name.to_ascii_uppercase();
            let full = format!("CAP_{}", upper.strip_prefix("CAP_").unwrap_or(&upper));
            match full.as_str() {
                "CAP_ALL" => return Ok(None),
                _ if host.capabilities.contains(&full) => names.push(full),
                _ => return Err(format!("container {:?}: no capability has the name {name:?}", c.name)),
            }
        }
        Ok(Some(names))
    };
    if own.capabilities.is_empty() && !own.privileged {
        return Ok(());
    }
    let (add, drop) = (named(&own.capabilities.add)?, named(&own.capabilities.drop)?);
    let sets = object(process, "capabilities");
    for name in SETS.into_iter().chain(["inheritable", "ambient"]) {
        let mut set: Vec<String> = match sets.get(name).and_then(Value::as_array) {
            Some(list) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            None => Vec::new(),
        };
        let grows = SETS.contains(&name);
        // `drop: [ALL]` goes before what is added; `add: [ALL]` before what is dropped.
        if drop.is_none() {
            set.clear();
        }
        match &add {
            _ if own.privileged && grows => set.clone_from(&host.capabilities),
            None if grows => set.clone_from(&host.capabilities),
            Some(add) if grows => {
                set.extend(add.iter().filter(|a| !set.contains(a)).cloned().collect::<Vec<_>>())
            }
            _ => {}
        }
        set.retain(|cap| drop.as_ref().is_none_or(|d| !d.contains(cap)));
        sets.insert(name.to_owned(), set.into());
    }
    Ok(())
}

fn app_armor(process: &mut Map<String, Value>, profile: Option<&AppArmorProfile>, privileged: bool) {
    match profile.map(|p| (p.kind.as_str(), &p.localhost_profile)) {
        Some(("Localhost", Some(name))) => {
            process.insert("apparmorProfile".to_owned(), name.clone().into());
        }
        Some(("Unconfined", _)) => drop(process.remove("apparmorProfile")),
        None if privileged => drop(process.remove("apparmorProfile")),
        _ => {}
    }
}

/// The namespaces of the pod instead of the bundle's; mounts and processes are the container's own.
fn namespaces(config: &mut Map<String, Value>, pod: &Sandbox) {
    // The uts namespace has the pod's name already.
    config.remove("hostname");
    config.remove("domainname");
    let linux = object(config, "linux");
    let mut list = linux.get("namespaces").and_then(Value::as_array).cloned().unwrap_or_default();
    list.retain(|n| !SHARED.iter().any(|kind| n["type"] == *kind));
    if !list.iter().any(|n| n["type"] == "mount") {
        list.push(json!({"type": "mount"}));
    }
    if !pod.host_pid && !pod.share_process_namespace {
        list.push(json!({"type": "pid"}));
    }
    list.extend(
        shared(pod).into_iter().map(|kind| json!({"type": kind, "path": format!("{UNKNOWN}{kind}")})),
    );
    linux.insert("namespaces".to_owned(), list.into());
}

fn linux(linux: &mut Map<String, Value>, pod: &Sandbox, c: &Container, host: &Host) {
    let own = &c.security_context;
    let profile = seccomp_profile(pod, c);
    if own.privileged || profile.is_some_and(|p| p.kind == "Unconfined") {
        linux.remove("seccomp");
    } else if let Some(seccomp) = &host.seccomp {
        linux.insert("seccomp".to_owned(), seccomp.clone());
    }
    if own.privileged || own.proc_mount.as_deref() == Some("Unmasked") {
        linux.remove("maskedPaths");
        linux.remove("readonlyPaths");
    }
    if own.privileged {
        let resources = object(linux, "resources");
        resources.insert("devices".to_owned(), json!([{"allow": true, "access": "rwm"}]));
        let mut devices = linux.get("devices").and_then(Value::as_array).cloned().unwrap_or_default();
        let new = host.devices.iter().filter(|d| !devices.iter().any(|own| own["path"] == d["path"]));
        devices.extend(new.cloned().collect::<Vec<_>>());
        linux.insert("devices".to_owned(), devices.into());
    }
}

/// Settings from files of container engines.
fn engine(config: &mut Map<String, Value>, c: &Container, host: &Host) -> Result<(), String> {
    let own = &c.engine;
    let process = object(config, "process");
    if let Some(score) = own.oom_score_adj {
        process.insert("oomScoreAdj".to_owned(), score.into());
    }
    if !own.ulimits.is_empty() {
        let mut list = process.get("rlimits").and_then(Value::as_array).cloned().unwrap_or_default();
        for limit in &own.ulimits {
            let kind = format!("RLIMIT_{}", limit.name.to_uppercase());
            list.retain(|l| l["type"] != kind.as_str());
            // The kernel's word for no limit.
            let number = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
            list.push(json!({"type": kind, "soft": number(limit.soft), "hard": number(limit.hard)}));
        }
        process.insert("rlimits".to_owned(), list.into());
    }
    if own.devices.is_empty() {
        return Ok(());
    }
    let linux = object(config, "linux");
    let mut devices = linux.get("devices").and_then(Value::as_array).cloned().unwrap_or_default();
    let resources = object(linux, "resources");
    let mut rules = resources.get("devices").and_then(Value::as_array).cloned().unwrap_or_default();
    for device in &own.devices {
        // The device itself, or those in a directory: the path in the container, and what it is.
        let target = |d: &Value| {
            let rest = d["path"].as_str()?.strip_prefix(device.source.trim_end_matches('/'))?;
            let whole = rest.is_empty() || rest.starts_with('/');
            whole.then(|| format!("{}{rest}", device.target.trim_end_matches('/')))
        };
        let found: Vec<(String, &Value)> =
            host.devices.iter().filter_map(|d| Some((target(d)?, d))).collect();
        if found.is_empty() {
            return Err(format!("container {:?}: the host has no device {:?}", c.name, device.source));
        }
        for (target, d) in found {
            devices.retain(|own| own["path"] != target.as_str());
            let mut entry = d.clone();
            entry["path"] = target.into();
            devices.push(entry);
            let access = &device.permissions;
            rules.push(
                json!({"allow": true, "type": d["type"], "major": d["major"], "minor": d["minor"], "access": access}),
            );
        }
    }
    resources.insert("devices".to_owned(), rules.into());
    linux.insert("devices".to_owned(), devices.into());
    Ok(())
}

/// sysfs and the cgroups of a privileged container can be written to.
fn writable_kernel(config: &mut Map<String, Value>) {
    for mount in config.get_mut("mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        let kernel = matches!(mount["type"].as_str(), Some("sysfs" | "cgroup" | "cgroup2" | "proc"));
        if let Some(options) = mount["options"].as_array_mut().filter(|_| kernel) {
            options.retain(|o| o != "ro");
        }
    }
}

/// Adds the volumes and the files in /etc behind the bundle's own mounts, instead of those at the same path.
fn mounts(
    config: &mut Map<String, Value>,
    pod: &Sandbox,
    c: &Container,
    of_image: &[String],
) -> Vec<(usize, Source)> {
    let list = config.entry("mounts").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return Vec::new() };
    let at: Vec<String> = c.volume_mounts.iter().map(|m| plain(&m.mount_path)).collect();
    list.retain(|m| !at.contains(&plain(m["destination"].as_str().unwrap_or_default())));
    let mut given = Vec::new();
    let mut entry = |destination: &str, options: Vec<&str>, source: Source, list: &mut Vec<Value>| {
        given.push((list.len(), source));
        // The source is a descriptor; the name is for errors.
        list.push(json!({"destination": destination, "type": "bind", "source": "/proc/self/fd", "options": options}));
    };
    let etc = [
        ("/etc/hosts", Source::Hosts),
        ("/etc/resolv.conf", Source::ResolvConf),
        ("/etc/hostname", Source::Hostname),
    ];
    for (path, source) in etc {
        let there = |m: &Value| plain(m["destination"].as_str().unwrap_or_default()) == path;
        let covered = at.iter().any(|m| m == path || m == "/etc") || list.iter().any(there);
        if !covered {
            entry(path, vec!["bind", "rprivate"], source, list);
        }
    }
    let mut order: Vec<(&str, Vec<&str>, Source)> = c
        .volume_mounts
        .iter()
        .map(|m| (m.mount_path.as_str(), options(m, pod), Source::Volume(m.clone())))
        .collect();
    let message = c.termination_message_path.as_deref().unwrap_or(MESSAGE_PATH);
    if !at.contains(&plain(message)) {
        let options = vec!["bind", "rprivate", "nosuid", "nodev", "noexec"];
        order.push((message, options, Source::TerminationMessage));
    }
    // A mount that every container has at a path takes precedence over the image, as does one of the workload.
    let own =
        |path: &String| list.iter().any(|m| is_below(path, m["destination"].as_str().unwrap_or_default()));
    let left = of_image.iter().filter(|path| c.engine.image_volumes && !at.contains(path) && !own(path));
    order.extend(
        left.map(|path| (path.as_str(), vec!["bind", "rprivate"], Source::ImageVolume(path.clone()))),
    );
    // Those that others are mounted into come first.
    order.sort_by_key(|(path, ..)| plain(path).matches('/').count());
    for (path, options, source) in order {
        entry(path, options, source, list);
    }
    given
}

/// Adds the file system of terminals, unless the container has one: a bundle may come without it. It goes behind all others,
/// so that no index of theirs changes.
fn terminals(config: &mut Map<String, Value>) {
    let Some(list) = config.get_mut("mounts").and_then(Value::as_array_mut) else { return };
    let path = |m: &Value| plain(m["destination"].as_str().unwrap_or_default());
    let last = list.iter().rfind(|m| matches!(path(m).as_str(), "/dev" | "/dev/pts"));
    // A recursive bind mount of /dev has the host's.
    let recursive = |m: &Value| m["options"].as_array().is_some_and(|o| o.contains(&json!("rbind")));
    if !last.is_some_and(|m| path(m) == "/dev/pts" || recursive(m)) {
        let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
        list.push(
            json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options}),
        );
    }
}

/// An absolute path without slashes at its end.
fn plain(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

/// Whether `path` is `above` or lies below it.
fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn options(mount: &VolumeMount, pod: &Sandbox) -> Vec<&'static str> {
    let mut options = vec!["rbind"];
    options.push(match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => "rslave",
        Some("Bidirectional") => "rshared",
        _ => "rprivate",
    });
    let volume = pod.volume(&mount.name);
    let claim = volume.and_then(|v| v.persistent_volume_claim.as_ref()).is_some_and(|c| c.read_only);
    let written = volume.is_some_and(super::pod::Volume::is_written);
    if mount.read_only || claim || written {
        let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        options.push(if recursive { "rro" } else { "ro" });
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::pod::{Capabilities, ConfigMapVolume, PodSecurity, Security, Volume};

    const BUNDLE: &str = r#"{"root": {"path": "rootfs"}, "hostname": "bundle",
        "process": {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0, "additionalGids": [7]},
            "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"]}},
        "mounts": [{"destination": "/proc", "type": "proc"}, {"destination": "/sys", "type": "sysfs", "options": ["ro"]},
            {"destination": "/data", "type": "tmpfs"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/x"}, {"type": "cgroup"}],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}, "maskedPaths": ["/proc/kcore"]}}"#;

    fn host() -> Host {
        let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"].map(str::to_owned).to_vec();
        Host { capabilities, devices: vec![json!({"path": "/dev/sda", "type": "b"})], ..Host::default() }
    }

    fn container(security_context: Security) -> Container {
        Container { name: "app".into(), security_context, ..Container::default() }
    }

    fn made(pod: &Sandbox, c: &Container) -> GeneratedConfig {
        config(BUNDLE.as_bytes(), pod, c, &host()).unwrap()
    }

    #[test]
    fn namespaces_are_the_pods() {
        let m = made(&Sandbox::default(), &container(Security::default())).config;
        let shared = |kind: &str| json!({"type": kind, "path": format!("/proc/self/ns/{kind}")});
        let expected = json!([{"type": "cgroup"}, {"type": "mount"}, {"type": "pid"}, shared("network"), shared("ipc"), shared("uts")]);
        assert_eq!((&m["linux"]["namespaces"], m.get("hostname")), (&expected, None));
        let pod = Sandbox { host_network: true, host_pid: true, ..Sandbox::default() };
        let m = made(&pod, &container(Security::default())).config;
        assert_eq!(m["linux"]["namespaces"], json!([{"type": "cgroup"}, {"type": "mount"}, shared("ipc")]));
    }

    #[test]
    fn a_container_wins_over_its_pod() {
        let security = PodSecurity {
            run_as_user: Some(1000),
            run_as_group: Some(1001),
            supplemental_groups: vec![7, 8],
            fs_group: Some(9),
            run_as_non_root: Some(true),
            ..PodSecurity::default()
        };
        let pod = Sandbox { security, ..Sandbox::default() };
        let own =
            Security { run_as_user: Some(5), read_only_root_filesystem: Some(true), ..Security::default() };
        let m = made(&pod, &container(own)).config;
        assert_eq!(m["process"]["user"], json!({"uid": 5, "gid": 1001, "additionalGids": [7, 8, 9]}));
        assert_eq!(m["root"]["readonly"], true);
        let own = Security { run_as_user: Some(0), ..Security::default() };
        let e = config(BUNDLE.as_bytes(), &pod, &container(own), &host()).unwrap_err();
        assert!(e.contains("must not run as root (runAsNonRoot)"), "{e}");
    }

    #[test]
    fn capabilities_are_added_to_and_dropped_from_the_bundles() {
        let sets = |add: &[&str], drop: &[&str]| {
            let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            let capabilities = Capabilities { add: list(add), drop: list(drop) };
            let c = container(Security { capabilities, ..Security::default() });
            config(BUNDLE.as_bytes(), &Sandbox::default(), &c, &host()).map(|m| {
                ["bounding", "effective", "ambient"].map(|s| m.config["process"]["capabilities"][s].clone())
            })
        };
        let drop_all = sets(&["net_raw"], &["ALL"]).unwrap();
        assert_eq!(drop_all, [json!(["CAP_NET_RAW"]), json!(["CAP_NET_RAW"]), json!([])]);
        let one = sets(&[], &["CAP_KILL"]).unwrap();
        assert_eq!(one, [json!(["CAP_CHOWN"]), json!([]), json!([])]);
        let all = sets(&["ALL"], &["KILL"]).unwrap();
        assert_eq!(all[0], json!(["CAP_CHOWN", "CAP_NET_RAW"]));
        assert!(sets(&["NO_SUCH"], &[]).unwrap_err().contains("no capability has the name \"NO_SUCH\""));
    }

    #[test]
    fn a_profile_of_the_host_takes_the_place_of_the_bundles() {
        let profile = |kind: &str| SeccompProfile {
            kind: kind.to_owned(),
            localhost_profile: (kind == "Localhost").then(|| "p/a.json".to_owned()),
        };
        let security = PodSecurity { seccomp_profile: Some(profile("Localhost")), ..PodSecurity::default() };
        let pod = Sandbox { security, ..Sandbox::default() };
        let c = container(Security::default());
        assert_eq!(localhost_profile(&pod, &c), Some("p/a.json"));
        let host = Host { seccomp: Some(json!({"defaultAction": "SCMP_ACT_ERRNO"})), ..host() };
        let m = config(BUNDLE.as_bytes(), &pod, &c, &host).unwrap().config;
        assert_eq!(m["linux"]["seccomp"], json!({"defaultAction": "SCMP_ACT_ERRNO"}));
        let own = Security { seccomp_profile: Some(profile("RuntimeDefault")), ..Security::default() };
        assert_eq!(localhost_profile(&pod, &container(own)), None);
        let privileged = Security { privileged: true, ..Security::default() };
        assert_eq!(localhost_profile(&pod, &container(privileged)), None);
    }

    #[test]
    fn privileged_means_everything() {
        let m = made(&Sandbox::default(), &container(Security { privileged: true, ..Security::default() }))
            .config;
        assert_eq!(m["process"]["capabilities"]["effective"], json!(host().capabilities));
        let linux = &m["linux"];
        assert_eq!((linux.get("seccomp"), linux.get("maskedPaths")), (None, None));
        assert_eq!(linux["devices"], json!([{"path": "/dev/sda", "type": "b"}]));
        assert_eq!(linux["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
        assert_eq!(m["mounts"][1]["options"], json!([]));
        assert_eq!(m["process"]["noNewPrivileges"], false);
    }

    #[test]
    fn volumes_come_behind_and_in_place_of_the_bundles_mounts() {
        let mount = |name: &str, path: &str| VolumeMount {
            name: name.into(),
            mount_path: path.into(),
            read_only: false,
            recursive_read_only: None,
            sub_path: None,
            sub_path_expr: None,
            mount_propagation: None,
        };
        let config_map = Some(ConfigMapVolume::default());
        let volumes = vec![
            Volume { name: "conf".into(), config_map, ..Volume::default() },
            Volume { name: "data".into(), ..Volume::default() },
        ];
        let pod = Sandbox { volumes, ..Sandbox::default() };
        let mut c = container(Security::default());
        c.volume_mounts = vec![mount("conf", "/data/conf"), mount("data", "/data/")];
        c.volume_mounts[1].mount_propagation = Some("HostToContainer".into());
        let m = made(&pod, &c);
        let list: Vec<(&str, &Value)> = m.config["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| (m["destination"].as_str().unwrap(), &m["options"]))
            .collect();
        let bind = json!(["bind", "rprivate"]);
        let words = json!(["bind", "rprivate", "nosuid", "nodev", "noexec"]);
        let (data, conf) = (json!(["rbind", "rslave"]), json!(["rbind", "rprivate", "ro"]));
        let expected = [
            ("/etc/hosts", &bind),
            ("/etc/resolv.conf", &bind),
            ("/etc/hostname", &bind),
            ("/data/", &data),
            ("/data/conf", &conf),
            ("/dev/termination-log", &words),
        ];
        assert_eq!(list[2..], expected);
        assert_eq!(m.given.iter().map(|g| g.0).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
        assert_eq!(m.given[3].1, Source::Volume(c.volume_mounts[1].clone()));
        c.volume_mounts = vec![mount("data", "/etc")];
        assert_eq!(made(&pod, &c).given.len(), 2, "files in /etc do not cover a volume there");
    }

    #[test]
    fn a_terminal_has_its_file_system_in_any_bundle() {
        let of = |tty: bool, more: &[(&str, &[&str])]| {
            let mut bundle: Value = serde_json::from_str(BUNDLE).unwrap();
            let list = bundle["mounts"].as_array_mut().unwrap();
            list.extend(more.iter().map(|(at, options)| json!({"destination": at, "options": options})));
            let c = Container { tty, ..container(Security::default()) };
            let made = config(bundle.to_string().as_bytes(), &Sandbox::default(), &c, &host()).unwrap();
            let all = made.config["mounts"].as_array().unwrap().clone();
            assert!(made.given.iter().all(|(n, _)| all[*n]["type"] == "bind"));
            all.iter().filter(|m| m["type"] == "devpts" && m["destination"] == "/dev/pts").count()
        };
        assert_eq!(of(false, &[]), 0);
        assert_eq!(of(true, &[]), 1);
        assert_eq!(of(true, &[("/dev", &[])]), 1);
        assert_eq!(of(true, &[("/dev", &[]), ("/dev/pts/", &[])]), 0, "it has its own");
        assert_eq!(of(true, &[("/dev/pts", &[]), ("/dev", &["bind"])]), 1, "its own is covered");
        assert_eq!(of(true, &[("/dev", &["rbind"])]), 0, "it has the host's");
    }
}

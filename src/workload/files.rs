//! The files that orund writes for a pod: volumes of ConfigMaps, Secrets and fields of the pod, and those in /etc.

use super::environment::Objects;
use super::pod::{ConfigMapVolume, DownwardVolume, KeyToPath, Projection, Volume};
use super::replica::{Replica, Sandbox};

/// One file of a volume.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Relative, without `..`.
    pub path: String,
    pub data: Vec<u8>,
    pub mode: u32,
}

impl std::fmt::Debug for File {
    /// Without what is in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:o} ({} bytes)", self.path, self.mode, self.data.len())
    }
}

/// Permission bits of files whose volume does not say.
const MODE: u32 = 0o644;

/// Whether a path stays below where it begins.
pub fn is_inside(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && !path.contains('\0') && path.split('/').all(|p| p != "..")
}

/// Whether a key can be a file's name: letters, digits, `-`, `_` and `.`, as Kubernetes demands.
pub fn is_key(key: &str) -> bool {
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    plain && !key.is_empty() && key.len() <= 253 && !matches!(key, "." | "..") && !key.starts_with("..")
}

/// The content of `volume`.
///
/// # Errors
/// A ConfigMap, Secret, key or field that it needs does not exist; a key that cannot be the name of a file.
pub fn volume_files(
    volume: &Volume,
    pod: &Sandbox,
    replica: &Replica,
    objects: &Objects,
) -> Result<Vec<File>, String> {
    let cx = Writer { pod, replica, objects };
    let mut files = Vec::new();
    if let Some(v) = &volume.config_map {
        cx.object(false, v, v.default_mode.unwrap_or(MODE), &mut files)?;
    }
    if let Some(v) = &volume.secret {
        let same = ConfigMapVolume {
            name: v.secret_name.clone(),
            items: v.items.clone(),
            default_mode: v.default_mode,
            optional: v.optional,
        };
        cx.object(true, &same, v.default_mode.unwrap_or(MODE), &mut files)?;
    }
    if let Some(v) = &volume.downward_api {
        cx.downward(v, v.default_mode.unwrap_or(MODE), &mut files)?;
    }
    if let Some(v) = &volume.projected {
        for source in &v.sources {
            cx.projection(source, v.default_mode.unwrap_or(MODE), &mut files)?;
        }
    }
    match files.iter().find(|f| !is_inside(&f.path)) {
        Some(bad) => Err(format!("the path {:?} leads out of the volume", bad.path)),
        None => Ok(files),
    }
}

struct Writer<'a> {
    pod: &'a Sandbox,
    replica: &'a Replica,
    objects: &'a Objects,
}

impl Writer<'_> {
    fn object(
        &self,
        secret: bool,
        v: &ConfigMapVolume,
        mode: u32,
        files: &mut Vec<File>,
    ) -> Result<(), String> {
        let called = format!("{} {:?}", if secret { "Secret" } else { "ConfigMap" }, v.name);
        let data = match self.objects.get(&(secret, v.name.clone())) {
            Some(data) => data,
            None if v.optional => return Ok(()),
            None => return Err(format!("{called} does not exist")),
        };
        let all = data.keys().map(|key| KeyToPath { key: key.clone(), path: key.clone(), mode: None });
        let items: Vec<KeyToPath> = if v.items.is_empty() { all.collect() } else { v.items.clone() };
        for item in items {
            if v.items.is_empty() && !is_key(&item.key) {
                return Err(format!("key {:?} of {called} cannot be the name of a file", item.key));
            }
            match data.get(&item.key) {
                Some(data) => {
                    files.push(File { path: item.path, data: data.clone(), mode: item.mode.unwrap_or(mode) });
                }
                None if v.optional => {}
                None => return Err(format!("{called} has no key {:?}", item.key)),
            }
        }
        Ok(())
    }

    fn downward(&self, v: &DownwardVolume, mode: u32, files: &mut Vec<File>) -> Result<(), String> {
        for item in &v.items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(f), None) => self.replica.field(self.pod, &f.field_path),
                (None, Some(r)) => self.replica.resource(self.pod, "", r),
                _ => Err("either fieldRef or resourceFieldRef must be set".to_owned()),
            };
            let text = text.map_err(|e| format!("file {:?}: {e}", item.path))?;
            let (path, mode) = (item.path.clone(), item.mode.unwrap_or(mode));
            files.push(File { path, data: text.into_bytes(), mode });
        }
        Ok(())
    }

    fn projection(&self, p: &Projection, mode: u32, files: &mut Vec<File>) -> Result<(), String> {
        for (secret, source) in [(false, &p.config_map), (true, &p.secret)] {
            if let Some(source) = source {
                self.object(secret, source, mode, files)?;
            }
        }
        p.downward_api.as_ref().map_or(Ok(()), |v| self.downward(v, mode, files))
    }
}

/// /etc/hosts of a pod. `host` is the host's own, for pods in its network.
pub fn hosts(pod: &Sandbox, replica: &Replica, host: &str) -> String {
    let (short, full) = replica.names(pod);
    let mut text = match pod.host_network {
        true => host.to_owned(),
        false => {
            let own = replica.pod_ip.as_deref().unwrap_or("127.0.0.1");
            let names = full.map_or(short.clone(), |full| format!("{full}\t{short}"));
            format!(
                "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                 ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n{own}\t{names}\n"
            )
        }
    };
    for alias in &pod.host_aliases {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
    }
    text
}

/// The address of a pod's own resolver.
pub const RESOLVER: &str = "127.0.0.11";

/// /etc/resolv.conf of a pod. `host` is the host's own. `resolver`: the pod has one of its own, which asks those of the host.
pub fn resolv_conf(pod: &Sandbox, host: &str, resolver: bool) -> String {
    let from_host = pod.dns_policy.as_deref() != Some("None");
    let own = resolver.then(|| own_resolv_conf(host));
    let host = own.as_deref().unwrap_or(host);
    let Some(config) = &pod.dns_config else {
        return if from_host { host.to_owned() } else { String::new() };
    };
    let words = |key: &str| -> Vec<String> {
        let lines = host.lines().filter(|_| from_host).map(str::split_whitespace);
        lines
            .filter_map(|mut words| {
                (words.next() == Some(key)).then(|| words.map(str::to_owned).collect::<Vec<_>>())
            })
            .flatten()
            .collect()
    };
    let distinct = |mut list: Vec<String>, more: &[String]| {
        for word in more {
            if !list.contains(word) {
                list.push(word.clone());
            }
        }
        list
    };
    let servers = distinct(words("nameserver"), &config.nameservers);
    let searches = distinct(words("search"), &config.searches);
    let mut options = words("options");
    for option in &config.options {
        let whole = option.value.as_ref().map_or(option.name.clone(), |v| format!("{}:{v}", option.name));
        options.retain(|o| o.split(':').next() != Some(&option.name));
        options.push(whole);
    }
    let mut text = String::new();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    text.extend(servers.iter().map(|server| format!("nameserver {server}\n")));
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

/// As a pod of Kubernetes has it: `web` is found by its whole name first.
fn own_resolv_conf(host: &str) -> String {
    let searches = host.lines().filter_map(|line| line.trim().strip_prefix("search ")).next_back();
    let searches = searches.map(|s| format!(" {}", s.trim())).unwrap_or_default();
    format!(
        "search default.svc.cluster.local svc.cluster.local cluster.local{searches}\nnameserver {RESOLVER}\noptions ndots:5\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::pod::{DnsConfig, DnsOption, DownwardFile, FieldRef, HostAlias, ProjectedVolume};
    use std::collections::BTreeMap;

    fn objects() -> Objects {
        let data = |keys: &[&str]| {
            keys.iter().map(|k| ((*k).to_owned(), b"data".to_vec())).collect::<BTreeMap<_, _>>()
        };
        Objects::from([
            ((false, "c".into()), data(&["a.conf", "b"])),
            ((true, "s".into()), data(&["pw"])),
            ((false, "evil".into()), data(&["../x"])),
        ])
    }

    fn config(name: &str, items: &[(&str, &str)], optional: bool) -> ConfigMapVolume {
        let item = |(key, path): &(&str, &str)| KeyToPath {
            key: (*key).into(),
            path: (*path).into(),
            mode: Some(0o400),
        };
        ConfigMapVolume {
            name: name.into(),
            items: items.iter().map(item).collect(),
            default_mode: None,
            optional,
        }
    }

    fn of(config_map: ConfigMapVolume) -> Result<Vec<String>, String> {
        let volume = Volume { config_map: Some(config_map), ..Volume::default() };
        let files = super::volume_files(&volume, &Sandbox::default(), &Replica::default(), &objects())?;
        Ok(files.iter().map(|f| format!("{f:?}")).collect())
    }

    #[test]
    fn a_config_map_is_files_and_none_of_them_leaves_the_volume() {
        assert_eq!(of(config("c", &[], false)).unwrap(), ["a.conf 644 (4 bytes)", "b 644 (4 bytes)"]);
        assert_eq!(of(config("c", &[("b", "sub/x")], false)).unwrap(), ["sub/x 400 (4 bytes)"]);
        assert_eq!(of(config("gone", &[], true)).unwrap(), [""; 0]);
        assert_eq!(of(config("c", &[("gone", "x")], true)).unwrap(), [""; 0]);
        for (volume, expected) in [
            (config("gone", &[], false), "ConfigMap \"gone\" does not exist"),
            (config("c", &[("gone", "x")], false), "ConfigMap \"c\" has no key \"gone\""),
            (config("evil", &[], false), "key \"../x\" of ConfigMap \"evil\" cannot be the name of a file"),
            (config("c", &[("b", "../x")], false), "the path \"../x\" leads out of the volume"),
            (config("c", &[("b", "/etc/x")], false), "the path \"/etc/x\" leads out of the volume"),
            (config("c", &[("b", "a/../../x")], false), "the path \"a/../../x\" leads out of the volume"),
        ] {
            assert_eq!(of(volume).unwrap_err(), expected);
        }
        for key in ["..", "..data", ".", "a/b", "", "a\0"] {
            assert!(!is_key(key), "{key:?}");
        }
    }

    #[test]
    fn several_sources_are_one_directory() {
        let file = DownwardFile {
            path: "name".into(),
            field_ref: Some(FieldRef { field_path: "metadata.name".into() }),
            ..DownwardFile::default()
        };
        let downward = DownwardVolume { items: vec![file], default_mode: None };
        let sources = vec![
            Projection { secret: Some(config("s", &[], false)), ..Projection::default() },
            Projection { downward_api: Some(downward), ..Projection::default() },
        ];
        let projected = Some(ProjectedVolume { sources, default_mode: Some(0o440) });
        let volume = Volume { projected, ..Volume::default() };
        let replica = Replica { name: "web-0".into(), ..Replica::default() };
        let files = super::volume_files(&volume, &Sandbox::default(), &replica, &objects()).unwrap();
        assert_eq!(files[1], File { path: "name".into(), data: b"web-0".to_vec(), mode: 0o440 });
        assert_eq!((files[0].path.as_str(), files[0].mode), ("pw", 0o440));
    }

    #[test]
    fn names_are_resolved_as_the_file_says() {
        let option = |name: &str, value: Option<&str>| DnsOption {
            name: name.into(),
            value: value.map(str::to_owned),
        };
        let config = DnsConfig {
            nameservers: vec!["9.9.9.9".into()],
            searches: vec!["b.org".into()],
            options: vec![option("ndots", Some("2")), option("edns0", None)],
        };
        let host = "# x\nnameserver 1.1.1.1\nsearch a.org b.org\noptions ndots:5 rotate\n";
        let mut pod = Sandbox { dns_config: Some(config), ..Sandbox::default() };
        let both =
            "search a.org b.org\nnameserver 1.1.1.1\nnameserver 9.9.9.9\noptions rotate ndots:2 edns0\n";
        assert_eq!(resolv_conf(&pod, host, false), both);
        pod.dns_policy = Some("None".into());
        assert_eq!(
            resolv_conf(&pod, host, false),
            "search b.org\nnameserver 9.9.9.9\noptions ndots:2 edns0\n"
        );
        pod.dns_config = None;
        assert_eq!(resolv_conf(&pod, host, false), "");
        assert_eq!(resolv_conf(&Sandbox::default(), host, false), host);
        let own = "search default.svc.cluster.local svc.cluster.local cluster.local a.org b.org\nnameserver 127.0.0.11\noptions ndots:5\n";
        assert_eq!(resolv_conf(&Sandbox::default(), host, true), own);
        pod.host_aliases = vec![HostAlias { ip: "10.0.0.1".into(), hostnames: vec!["a".into(), "b".into()] }];
        let replica = Replica { name: "web-0".into(), ..Replica::default() };
        assert!(hosts(&pod, &replica, "").ends_with("127.0.0.1\tweb-0\n10.0.0.1\ta\tb\n"));
        pod.host_network = true;
        assert_eq!(hosts(&pod, &replica, "1.2.3.4 host"), "1.2.3.4 host\n10.0.0.1\ta\tb\n");
    }
}

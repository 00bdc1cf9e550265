//! Users, rights, limits and namespaces of a service.

use super::load::Loader;
use super::state::Service;
use super::values;
use crate::config::document::Node;
use crate::config::quantity::{self, Bytes, MilliCpu, Signal};
use crate::workload::engine::{Device, LIMITS, Ulimit};
use crate::workload::pod::{AppArmorProfile, SeccompProfile, Sysctl};

/// Everything that its own file does not read.
pub fn read(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    user(loader, s);
    rights(s);
    security(loader, s);
    resources(loader, s);
    limits(loader, s);
    devices(loader, s);
    namespaces(loader, s);
    s.spec.stop_signal = values::value(s.node, "stop_signal", Signal::parse);
    if let Some(driver) = values::get(s.node, "logging").and_then(|l| values::text(l, "driver")) {
        let ours = ["json-file", "local", "journald", "none", "default", "k8s-file"];
        if !ours.contains(&driver) {
            let hint = "orund keeps the output: `orund logs` shows it";
            s.warn(loader, "logging", format!("the driver {driver} has no effect"), hint);
        }
    }
}

fn user(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    if let Some(text) = values::text(s.node, "user").filter(|t| !t.is_empty()) {
        let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
        match (user.parse(), group.map(str::parse)) {
            (Ok(uid), None) => s.container.security_context.run_as_user = Some(uid),
            (Ok(uid), Some(Ok(gid))) => {
                s.container.security_context.run_as_user = Some(uid);
                s.container.security_context.run_as_group = Some(gid);
            }
            _ => s.container.engine.user = Some(text.to_owned()),
        }
    }
    for group in values::texts(s.node, "group_add") {
        match group.parse() {
            Ok(gid) => s.spec.security_context.supplemental_groups.push(gid),
            Err(_) => {
                let message = format!("group {group:?} must be a number");
                s.error(loader, "group_add", message, Some("`getent group NAME` shows it"));
            }
        }
    }
}

fn rights(s: &mut Service<'_>) {
    let own = &mut s.container.security_context;
    own.privileged = values::is_set(s.node, "privileged");
    own.read_only_root_filesystem = values::is_set(s.node, "read_only").then_some(true);
    own.capabilities.add = values::texts(s.node, "cap_add");
    own.capabilities.drop = values::texts(s.node, "cap_drop");
    for (name, value, _) in
        values::get(s.node, "sysctls").map(|n| values::pairs(n, &['='])).unwrap_or_default()
    {
        let sysctl = Sysctl { name: name.into_owned(), value: value.unwrap_or_default() };
        s.spec.security_context.sysctls.push(sysctl);
    }
}

fn security(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    for option in values::texts(s.node, "security_opt") {
        let (name, value) = option.split_once([':', '=']).unwrap_or((&option, ""));
        let own = &mut s.container.security_context;
        match (name, value) {
            ("no-new-privileges", "" | "true") => own.allow_privilege_escalation = Some(false),
            ("no-new-privileges", "false") | ("label", _) => {}
            ("seccomp", "unconfined") => {
                own.seccomp_profile =
                    Some(SeccompProfile { kind: "Unconfined".to_owned(), localhost_profile: None });
            }
            ("apparmor", "unconfined") => {
                let kind = "Unconfined".to_owned();
                own.app_armor_profile = Some(AppArmorProfile { kind, localhost_profile: None });
            }
            ("apparmor", profile) if !profile.is_empty() => {
                let (kind, localhost_profile) = ("Localhost".to_owned(), Some(profile.to_owned()));
                own.app_armor_profile = Some(AppArmorProfile { kind, localhost_profile });
            }
            ("systempaths", "unconfined") => own.proc_mount = Some("Unmasked".to_owned()),
            ("seccomp", _) => {
                let hint = "the profile is orund's own, or `seccomp:unconfined`";
                s.error(loader, "security_opt", "profiles of seccomp are not supported yet", Some(hint));
            }
            _ => {
                let hint = "options are no-new-privileges, seccomp, apparmor, label and systempaths";
                s.error(loader, "security_opt", format!("unknown option {option:?}"), Some(hint));
            }
        }
    }
}

fn resources(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let resources = values::get(s.node, "deploy").and_then(|d| values::get(d, "resources"));
    let part = |name: &str| resources.and_then(|r| values::get(r, name));
    let (limits, reservations) = (part("limits"), part("reservations"));
    let of = |part: Option<&Node>, name: &str, parse: fn(&str) -> Option<u64>| {
        part.and_then(|p| values::value(p, name, parse)).filter(|n| *n > 0)
    };
    let own =
        |name: &str, parse: fn(&str) -> Option<u64>| values::value(s.node, name, parse).filter(|n| *n > 0);
    let number = |text: &str| values::integer(text).and_then(|n| u64::try_from(n).ok());
    let quota = || {
        let quota = own("cpu_quota", number)?;
        let period = own("cpu_period", number).unwrap_or(100_000);
        Some((quota * 1000).div_ceil(period))
    };
    let all = &mut s.container.resources;
    all.limits.cpu =
        of(limits, "cpus", values::cpus).or(own("cpus", values::cpus)).or_else(quota).map(MilliCpu);
    all.limits.memory =
        of(limits, "memory", quantity::docker_bytes).or(own("mem_limit", quantity::docker_bytes)).map(Bytes);
    all.limits.pids = of(limits, "pids", number).or(own("pids_limit", number));
    let shares = own("cpu_shares", number).map(|n| n * 1000 / 1024);
    all.requests.cpu = of(reservations, "cpus", values::cpus).or(shares).filter(|n| *n > 0).map(MilliCpu);
    all.requests.memory = of(reservations, "memory", quantity::docker_bytes)
        .or(own("mem_reservation", quantity::docker_bytes))
        .map(Bytes);
    if let (Some(limit), Some(reserved)) = (all.limits.memory, all.requests.memory)
        && reserved.0 > limit.0
    {
        all.requests.memory = Some(limit);
        let hint = "it may be at most the limit";
        s.warn(loader, "mem_reservation", "more memory is reserved than the limit allows", hint);
    }
    s.container.engine.cpuset = values::text(s.node, "cpuset").filter(|t| !t.is_empty()).map(str::to_owned);
    let score = values::value(s.node, "oom_score_adj", values::integer);
    s.container.engine.oom_score_adj = score.and_then(|n| i32::try_from(n).ok());
}

fn limits(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let entries = values::get(s.node, "ulimits").map(values::entries).unwrap_or_default();
    for (key, node) in entries {
        let name = key.data.text().unwrap_or_default().to_owned();
        if !LIMITS.contains(&name.as_str()) {
            let hint = format!("limits are {}", LIMITS.join(", "));
            loader.error(
                key.place,
                &s.path("ulimits"),
                format!("no limit has the name {name:?}"),
                Some(hint),
            );
            continue;
        }
        let both = node.data.text().and_then(values::integer);
        let field = |name: &str| both.or_else(|| values::value(node, name, values::integer)).unwrap_or(-1);
        let (soft, hard) = (field("soft"), field("hard"));
        if hard >= 0 && (soft > hard || soft < 0) {
            let message = format!("the soft limit {soft} of {name} is over the hard one {hard}");
            loader.error(node.place, &s.path("ulimits"), message, None);
        }
        s.container.engine.ulimits.push(Ulimit { name, soft, hard });
    }
}

fn devices(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let list = values::get(s.node, "devices").map(values::list_or_one).unwrap_or_default();
    for (n, entry) in list.iter().enumerate() {
        let device = match entry.data.text() {
            None => {
                let source = values::text(entry, "source").unwrap_or_default().to_owned();
                let target = values::text(entry, "target").map_or_else(|| source.clone(), str::to_owned);
                let permissions = values::text(entry, "permissions").unwrap_or("rwm").to_owned();
                Device { source, target, permissions }
            }
            Some(text) => {
                let parts: Vec<&str> = text.split(':').collect();
                let (source, target, permissions) = match parts[..] {
                    [source, permissions] if !permissions.starts_with('/') => (source, source, permissions),
                    [source, target] => (source, target, "rwm"),
                    [source, target, permissions] => (source, target, permissions),
                    _ => (text, text, "rwm"),
                };
                let [source, target, permissions] = [source, target, permissions].map(str::to_owned);
                Device { source, target, permissions }
            }
        };
        let valid = |path: &str| path.starts_with("/dev/") && !path.contains("..");
        let rights = device.permissions.chars().all(|c| "rwm".contains(c)) && !device.permissions.is_empty();
        if !valid(&device.source) || !device.target.starts_with('/') || !rights {
            let hint = "write /dev/NAME, /dev/NAME:/dev/OTHER or /dev/NAME:/dev/OTHER:rw".to_owned();
            let text = entry.data.text().unwrap_or(&device.source).to_owned();
            let path = s.path(&format!("devices[{n}]"));
            loader.error(entry.place, &path, format!("{text:?} is not a device"), Some(hint));
            continue;
        }
        s.container.engine.devices.push(device);
    }
}

fn namespaces(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    for (field, own) in [("pid", &[][..]), ("ipc", &["private", "shareable", "none"][..])] {
        let Some(text) = values::text(s.node, field).filter(|t| !t.is_empty()) else { continue };
        match text {
            "host" if field == "pid" => s.spec.host_pid = true,
            "host" => s.spec.host_ipc = true,
            text if own.contains(&text) => {}
            other => {
                let message = format!("{field} cannot be {other:?}");
                s.error(loader, field, message, Some("it is host, or left out"));
            }
        }
    }
}

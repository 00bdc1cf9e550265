use super::*;
use crate::plan::cgroup::tests::unified;
use crate::plan::compile::{Input, Options, compile};
use crate::plan::facts::HostFacts;
use crate::plan::validate::testing::{add_namespace, facts, spec};
use serde_json::{Value, json};

fn plan(change: impl FnOnce(&mut Value)) -> Plan {
    let spec = spec(change);
    let options = Options::default();
    let input = Input { id: "c1", bundle: Path::new("/srv/bundle"), spec: &spec, options: &options };
    let facts = HostFacts { cgroup: unified(&["memory", "pids"]), ..facts() };
    compile(input, &facts).unwrap()
}

fn mount(v: &mut Value, destination: &str, kind: &str, source: &str, options: &[&str]) {
    let m = json!({"destination": destination, "type": kind, "source": source, "options": options});
    v["mounts"].as_array_mut().unwrap().push(m);
}

fn named(list: &[External]) -> Vec<(&str, &str)> {
    list.iter().map(|e| (e.name.as_str(), e.source.to_str().unwrap())).collect()
}

#[test]
fn what_comes_from_the_host_is_external() {
    let p = plan(|v| {
        v["linux"]["maskedPaths"] = json!(["/proc/keys"]);
        mount(v, "/a", "bind", "/srv/a", &["rbind"]);
        mount(v, "/b", "bind", "rel", &["bind"]);
        mount(v, "/a", "bind", "/srv/later", &["bind"]);
        mount(v, "/t", "tmpfs", "tmpfs", &[]);
    });
    let all = external_mounts(&p).unwrap();
    let named = named(&all);
    // The first one on /a is not seen.
    for expected in [("/b", "/srv/bundle/rel"), ("/a", "/srv/later"), ("/dev/null", "/dev/null")] {
        assert!(named.contains(&expected), "{expected:?} in {named:?}");
    }
    assert!(!named.iter().any(|(name, source)| *name == "/t" || *source == "/srv/a"), "{named:?}");
    assert_eq!(all.iter().filter(|e| e.mask).count(), 1);
}

#[test]
fn in_a_user_namespace_devices_are_external() {
    let p = plan(|v| {
        add_namespace(v, "user", "");
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        v["linux"]["uidMappings"] = map.clone();
        v["linux"]["gidMappings"] = map;
    });
    let all = external_mounts(&p).unwrap();
    assert!(named(&all).contains(&("/dev/full", "/dev/full")));
}

#[test]
fn an_id_mapped_mount_is_refused() {
    let p = plan(|v| {
        mount(v, "/a", "bind", "/srv/a", &["bind"]);
        let i = v["mounts"].as_array().unwrap().len() - 1;
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        v["mounts"][i]["uidMappings"] = map.clone();
        v["mounts"][i]["gidMappings"] = map;
    });
    let violations = external_mounts(&p).unwrap_err();
    assert_eq!(violations.len(), 1);
    assert!(violations[0].to_string().contains("an id-mapped mount cannot be restored"), "{violations:?}");
    assert!(violations[0].property.starts_with("mounts["));
}

#[test]
fn mount_points_come_in_the_order_of_the_mounts() {
    let p = plan(|v| {
        mount(v, "/data", "bind", "/srv/a", &["bind"]);
        mount(v, "/data/deep", "tmpfs", "tmpfs", &[]);
    });
    let all = mount_points(&p);
    let at = |target: &str| all.iter().position(|(m, _)| m.target.to_str() == Ok(target)).unwrap();
    assert!(at("data") < at("data/deep"));
    assert_eq!(all[at("data")].0.source.as_deref(), Some(c"/srv/a"));
    assert_eq!(all[at("data/deep")].0.source, None);
    assert!(all[at("data")].1.starts_with("mounts["));
}

/// Whether `part` is somewhere in a request.
fn holds(request: &[u8], part: &[u8]) -> bool {
    request.windows(part.len()).any(|w| w == part)
}

#[test]
fn flags_are_asked_for_only_when_they_are_given() {
    let plain = Dump { pid: 7, ..Dump::default() };
    let all = Dump {
        flags: Flags {
            tcp_established: true,
            shell_job: true,
            cgroups: CgroupMode::Strict,
            ..Flags::default()
        },
        places: Places { external: vec!["mnt[/a]:/a".into()], ..Places::default() },
        parent: Some("../before".into()),
        page_server: PageServer::parse("[::1]:77"),
        leave_running: true,
        ..plain.clone()
    };
    let (shell_job, leave_running) = ([0x38, 1], [0x18, 1]);
    assert!(holds(&all.request(), &shell_job) && holds(&all.request(), &leave_running));
    assert!(!holds(&plain.request(), &leave_running));
    assert!(holds(&all.request(), b"mnt[/a]:/a") && holds(&all.request(), b"../before"));
    assert!(holds(&all.request(), b"\x0a\x03::1\x10\x4d"), "the page server");
    assert!(holds(&all.request(), &[0x90, 0x02, 5]), "the mode of cgroups");
    assert!(holds(&plain.request(), &[0x90, 0x02, 6]), "the usual mode of cgroups");
    assert_eq!((plain.request()[1], Dump { pre: true, ..plain }.request()[1]), (1, 4));
}

#[test]
fn a_restore_passes_descriptors_by_name() {
    let r = Restore {
        inherit: vec![("pipe:[12]".into(), 1), ("extRootNetNS".into(), 4)],
        lsm_profile: Some("apparmor:x".into()),
        tcp_close: true,
        ..Restore::default()
    };
    for part in [&b"pipe:[12]\x10\x01"[..], b"extRootNetNS\x10\x04", b"apparmor:x", &[0xa0, 0x03, 1]] {
        assert!(holds(&r.request(), part), "{part:?}");
    }
}

#[test]
fn page_servers() {
    let parsed = |text| PageServer::parse(text).map(|s| (s.address, s.port));
    assert_eq!(parsed("0.0.0.0:27277"), Some(("0.0.0.0".into(), 27277)));
    assert_eq!(parsed("[fe80::1]:1"), Some(("fe80::1".into(), 1)));
    for wrong in ["", "host", "host:", ":1", "host:0", "host:70000", "host:x"] {
        assert_eq!(parsed(wrong), None, "{wrong}");
    }
}

#[test]
fn only_names_of_files_without_a_path_are_inherited() {
    for good in ["pipe:[4711]", "file[1f:3a]", "tty[8803:17]"] {
        assert!(is_inheritable(good), "{good}");
    }
    for wrong in
        ["", "/dev/null", "pipe:[]", "pipe:[x]", "pipe:[1", "file[1]", "file[x:1]", "socket:[1]", "mnt[/]:/"]
    {
        assert!(!is_inheritable(wrong), "{wrong}");
    }
}

#[test]
fn the_log_is_searched_for_errors() {
    let log = "(00.1) Warn  (criu/a.c:1): no\n(00.2)     12: Error (criu/b.c:2): one\n(00.2) Error (criu/b.c:2): one\n\
               (00.3) Error (criu/c.c:3): two\x1b[0m\nthe end\n";
    assert_eq!(log_errors(log, 5), ["Error (criu/b.c:2): one", "Error (criu/c.c:3): two[0m"]);
    assert_eq!(log_errors(log, 1), ["Error (criu/c.c:3): two[0m"]);
    assert!(log_errors("all is well", 3).is_empty());
}

#[test]
fn cgroups_by_controller() {
    let text = "4:cpu,cpuacct:/a\n2:name=systemd:/b:c\n0::/u\n";
    let expected = [("cpu", "/a"), ("cpuacct", "/a"), ("name=systemd", "/b:c"), ("", "/u")];
    assert_eq!(cgroup_roots(text), expected.map(|(c, p)| (c.to_owned(), p.to_owned())));
}

#[test]
fn the_annotation_chooses_the_configuration() {
    let of = |v: &[(&str, &str)]| {
        let map = v.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        config_file(&map).map(str::to_owned)
    };
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[(CONFIG_ANNOTATION, "")]), Some(String::new()));
    assert_eq!(of(&[(CONFIG_ANNOTATION, "/x")]), Some("/x".into()));
}

#[test]
fn versions_as_people_write_them() {
    assert_eq!((version_text(40101), version_text(OLDEST_CRIU)), ("4.1.1".into(), "3.16.0".into()));
}

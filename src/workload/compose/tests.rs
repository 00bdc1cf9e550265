//! Projects as a whole: the objects that they become, and the errors of wrong ones.

mod joined;
mod mistakes;

use super::load::{Host, Source};
use super::{ALIASES, Found, Options, PROJECT, read};
use crate::workload::kept::{KeptKind, KeptObject};
use crate::workload::model::{FailureAction, RestartPolicy, Workload};
use crate::workload::object::Object;
use crate::workload::pod::Port;
use crate::workload::probe::Probe;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::Path;

/// Files and variables in memory.
#[derive(Default)]
struct Memory {
    files: BTreeMap<&'static str, &'static str>,
    variables: BTreeMap<&'static str, &'static str>,
}

impl Host for Memory {
    fn read(&self, path: &Path) -> Result<Option<String>, String> {
        Ok(path.to_str().and_then(|p| self.files.get(p)).map(|t| (*t).to_owned()))
    }

    fn is_file(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|p| self.files.contains_key(p))
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|v| (*v).to_owned())
    }
}

fn project(texts: &[&str], host: &Memory, options: Options) -> Found {
    let source = |(n, text): (usize, &&str)| Source { name: format!("f{n}.yaml"), text: (*text).to_owned() };
    let sources: Vec<Source> = texts.iter().enumerate().map(source).collect();
    read(&sources, &Options { dir: "/srv/shop".into(), ..options }, host)
}

/// All findings: file, line, column, message and hint.
fn findings(found: &Found) -> Vec<String> {
    let mut all = Vec::new();
    for (source, read) in &found.files {
        for d in &read.findings.list {
            let severity = if d.is_error() { "" } else { "warning: " };
            let hint = d.hint.as_ref().map(|h| format!(" [{h}]")).unwrap_or_default();
            let (line, column) = (d.place.line, d.place.column);
            all.push(format!("{severity}{}:{line}:{column} {}{hint}", source.name, d.message));
        }
    }
    all
}

fn wrong(text: &str) -> Vec<String> {
    findings(&project(&[text], &Memory::default(), Options::default()))
        .into_iter()
        .map(|f| f.replacen("f0.yaml:", "", 1))
        .collect()
}

/// The objects of a project without findings.
fn objects(found: &Found) -> Vec<Object> {
    assert_eq!(findings(found), Vec::<String>::new());
    found.files.iter().flat_map(|(_, r)| r.objects.clone()).collect()
}

fn workloads(found: &Found) -> Vec<Workload> {
    let workload = |o| match o {
        Object::Workload { workload, .. } => Some(*workload),
        _ => None,
    };
    objects(found).into_iter().filter_map(workload).collect()
}

/// The only service of a file, whose fields are `fields`.
fn service(fields: &str) -> Workload {
    let indented: String = fields.lines().map(|l| format!("    {l}\n")).collect();
    let text = format!("services:\n  web:\n    image: nginx:1.27\n{indented}volumes: {{data: }}\n");
    workloads(&project(&[&text], &Memory::default(), Options::default())).remove(0)
}

fn kept(found: &Found, kind: KeptKind) -> Vec<KeptObject> {
    let of = |o| match o {
        Object::Kept(k) if k.kind == kind => Some(k),
        _ => None,
    };
    objects(found).into_iter().filter_map(of).collect()
}

#[test]
fn a_service_is_a_workload_of_its_name() {
    let w = service(
        "command: nginx -g 'daemon off;'\nentrypoint: [/entry, $$(x)]\nuser: 1000:1001\nworking_dir: /srv\nlabels: {a.b: c, rule: \"Host(`x`)\"}\nstop_signal: SIGQUIT\nstop_grace_period: 1m30s",
    );
    assert_eq!((w.metadata.name.as_str(), w.spec.replicas), ("web", 1));
    assert_eq!(w.metadata.labels[PROJECT], "shop");
    assert_eq!(
        (w.metadata.labels["a.b"].as_str(), w.metadata.annotations["rule"].as_str()),
        ("c", "Host(`x`)")
    );
    let c = &w.spec.containers[0];
    assert_eq!(c.image.as_deref(), Some("nginx:1.27"));
    assert_eq!(c.command, ["/entry", "$$(x)"], "nothing is a variable of the pod");
    assert_eq!(c.args.as_deref().unwrap(), ["nginx", "-g", "daemon off;"]);
    assert_eq!((c.security_context.run_as_user, c.security_context.run_as_group), (Some(1000), Some(1001)));
    assert_eq!(c.working_dir.as_deref(), Some("/srv"));
    assert_eq!(w.spec.stop_signal.unwrap().0, libc::SIGQUIT);
    assert_eq!(w.spec.termination_grace_period, Duration::from_secs(90));
    // Docker's defaults.
    let w = service("");
    assert_eq!(w.spec.termination_grace_period, Duration::from_secs(10));
    assert_eq!(w.spec.restart_policy, RestartPolicy::Never);
}

#[test]
fn restarts_have_dockers_and_swarms_meaning() {
    use RestartPolicy::{Always, Never, OnFailure};
    for (fields, policy, most) in [
        ("restart: \"no\"", Never, None),
        ("restart: no", Never, None),
        ("restart: always", Always, None),
        ("restart: unless-stopped", Always, None),
        ("restart: on-failure", OnFailure, None),
        ("restart: on-failure:3", OnFailure, Some(3)),
        ("deploy: {replicas: 2}", Always, None),
        ("deploy: {restart_policy: {condition: none}}", Never, None),
        (
            "deploy: {restart_policy: {condition: on-failure, max_attempts: 4, window: 2m}}",
            OnFailure,
            Some(4),
        ),
        ("deploy: {restart_policy: {max_attempts: 0}}", Always, None),
        ("deploy: {mode: replicated-job, replicas: 2}", OnFailure, None),
    ] {
        let w = service(fields);
        assert_eq!((w.spec.restart_policy, w.spec.backoff.max_restarts), (policy, most), "{fields}");
    }
    let job = service("deploy: {mode: replicated-job, replicas: 2}").spec;
    assert!(job.replicas == 2 && job.controller.unwrap().is_job());
    let update = "deploy: {replicas: 3, update_config: {parallelism: 2, order: start-first, delay: 3s, monitor: 10s, failure_action: rollback}}";
    let spec = service(update).spec;
    let rolling = spec.strategy.rolling_update;
    assert_eq!(
        (rolling.max_surge.to_string(), rolling.max_unavailable.to_string()),
        ("2".into(), "0".into())
    );
    assert_eq!(
        (spec.min_ready, spec.failure_action),
        (Some(Duration::from_secs(10)), FailureAction::Rollback)
    );
    let ratio = |text: &str| {
        let spec =
            service(&format!("deploy: {{replicas: 8, update_config: {{max_failure_ratio: {text}}}}}")).spec;
        spec.max_failures.to_string()
    };
    assert_eq!(["0", "0.25", "0.29", "0.125", "1"].map(ratio), ["0", "25%", "29%", "1", "100%"]);
    let all = service("deploy: {update_config: {failure_action: continue}}").spec;
    assert_eq!((all.failure_action, all.max_failures.to_string()), (FailureAction::None, "100%".into()));
    let back = "deploy: {rollback_config: {parallelism: 0, order: start-first, monitor: 0s, max_failure_ratio: 0.5}}";
    let back = service(back).spec.rollback.unwrap();
    assert_eq!(back.rolling_update.max_surge.to_string(), "100%");
    assert_eq!((back.min_ready, back.failure_action), (None, FailureAction::Pause));
    assert_eq!(back.max_failures.to_string(), "50%");
    let rolling = service("").spec.strategy.rolling_update;
    assert_eq!(
        (rolling.max_surge.to_string(), rolling.max_unavailable.to_string()),
        ("0".into(), "1".into())
    );
}

#[test]
fn health_checks_are_probes() {
    let numbers =
        |p: &Option<Probe>| p.as_ref().map(|p| (p.period_seconds.unwrap(), p.failure_threshold.unwrap()));
    let check =
        "healthcheck: {test: curl -f localhost, interval: 90s, timeout: 500ms, retries: 5, start_period: 1m}";
    let c = service(&format!("restart: always\n{check}")).spec.containers.remove(0);
    let readiness = c.readiness_probe.clone().unwrap();
    assert_eq!(readiness.exec.unwrap().command, ["/bin/sh", "-c", "curl -f localhost"]);
    assert_eq!(readiness.timeout_seconds, Some(1));
    assert_eq!((numbers(&c.readiness_probe), numbers(&c.liveness_probe)), (Some((90, 5)), Some((90, 5))));
    // As long as Docker waits: the start, and then five failures.
    assert_eq!(numbers(&c.startup_probe), Some((5, (60 + 5 * 90) / 5)));
    let c = service(check).spec.containers.remove(0);
    assert!(c.liveness_probe.is_none() && c.readiness_probe.is_some(), "who is not restarted is not killed");
    let c = service("healthcheck: {test: [CMD, /up, \"1\"]}").spec.containers.remove(0);
    assert_eq!(c.readiness_probe.unwrap().exec.unwrap().command, ["/up", "1"]);
    for none in ["test: NONE", "test: [NONE]", "disable: true"] {
        let c = service(&format!("healthcheck: {{{none}}}")).spec.containers.remove(0);
        assert!(c.readiness_probe.is_none() && c.engine.image_health_check.is_none(), "{none}");
    }
    // Settings that the file omits come from the image.
    let of_image = |text: &str| service(text).spec.containers.remove(0).engine.image_health_check;
    let none = of_image("restart: always").unwrap();
    assert!(none.command.is_empty() && none.restart && none.interval.is_none(), "{none:?}");
    let part = of_image("healthcheck: {timeout: 2s, retries: 0}").unwrap();
    assert!(part.timeout == Some(Duration::from_secs(2)) && part.retries.is_none() && !part.restart);
    assert_eq!(of_image(check).unwrap().command, ["/bin/sh", "-c", "curl -f localhost"]);
    assert_eq!(of_image(&check.replace('}', ", start_interval: 1s}")), None, "nothing is left out");
}

#[test]
fn limits_and_rights_are_those_of_the_file() {
    let w = service(
        "mem_limit: 64m\ncpus: '0.5'\npids_limit: 100\ncpu_shares: 512\nulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}\ncap_add: [NET_ADMIN]\ncap_drop: [ALL]\nread_only: true\nsecurity_opt: ['no-new-privileges:true', 'seccomp=unconfined', 'apparmor:unconfined']\nsysctls: [net.core.somaxconn=1024]\ndevices: ['/dev/null:/dev/x:rw', /dev/dri]\ngroup_add: ['44']\noom_score_adj: -5\ncpuset: 0-1\nshm_size: 128m\nuser: app",
    );
    let c = &w.spec.containers[0];
    assert_eq!(c.resources.limits.memory.unwrap().0, 64 << 20);
    assert_eq!((c.resources.limits.cpu.unwrap().0, c.resources.limits.pids), (500, Some(100)));
    assert_eq!(c.resources.requests.cpu.unwrap().0, 500);
    let e = &c.engine;
    let limits: Vec<_> = e.ulimits.iter().map(|u| (u.name.as_str(), u.soft, u.hard)).collect();
    assert_eq!(limits, [("nofile", 10, 20), ("nproc", 5, 5)]);
    let devices: Vec<_> =
        e.devices.iter().map(|d| format!("{} {} {}", d.source, d.target, d.permissions)).collect();
    assert_eq!(devices, ["/dev/null /dev/x rw", "/dev/dri /dev/dri rwm"]);
    assert_eq!(
        (e.oom_score_adj, e.cpuset.as_deref(), e.user.as_deref()),
        (Some(-5), Some("0-1"), Some("app"))
    );
    let own = &c.security_context;
    assert_eq!((own.allow_privilege_escalation, own.read_only_root_filesystem), (Some(false), Some(true)));
    assert_eq!(own.seccomp_profile.as_ref().unwrap().kind, "Unconfined");
    assert_eq!(
        (own.capabilities.add.join(","), own.capabilities.drop.join(",")),
        ("NET_ADMIN".into(), "ALL".into())
    );
    assert_eq!(w.spec.security_context.sysctls[0].value, "1024");
    assert_eq!(w.spec.security_context.supplemental_groups, [44]);
    let shm = w.spec.volumes[0].empty_dir.as_ref().unwrap();
    assert_eq!((shm.size_limit.unwrap().0, c.volume_mounts[0].mount_path.as_str()), (128 << 20, "/dev/shm"));
}

#[test]
fn volumes_are_claims_paths_and_memory() {
    let text = "services:
  web:
    image: x
    volumes:
    - data:/data
    - ./conf/a.conf:/etc/a.conf:ro
    - ../up:/up
    - /var/anon
    - {type: tmpfs, target: /t, tmpfs: {size: 1m}}
    - {type: bind, source: ./must, target: /must, bind: {create_host_path: false}}
    - named:/n
    tmpfs: [/run:size=2m]
volumes: {data: , named: {name: Big_Disk}, unused: }
";
    let host = Memory { files: BTreeMap::from([("/srv/shop/conf/a.conf", "")]), ..Memory::default() };
    let found = project(&[text], &host, Options::default());
    let w = workloads(&found).remove(0);
    let mounts = w.spec.containers[0].volume_mounts.iter().zip(&w.spec.volumes).map(|(m, v)| {
        let claim = v.persistent_volume_claim.as_ref().map(|c| format!("claim {}", c.claim_name));
        let host = v.host_path.as_ref().map(|h| format!("{} {:?}", h.path, h.kind));
        let memory = v.empty_dir.as_ref().map(|e| format!("memory {}", e.size_limit.unwrap().0));
        let ro = if m.read_only { " ro" } else { "" };
        format!("{}: {}{ro}", m.mount_path, claim.or(host).or(memory).unwrap())
    });
    let expected = [
        "/data: claim shop-data",
        "/etc/a.conf: /srv/shop/conf/a.conf Any ro",
        "/up: /srv/up DirectoryOrCreate",
        "/var/anon: claim shop-web-var-anon",
        "/t: memory 1048576",
        "/must: /srv/shop/must Any",
        "/n: claim big-disk",
        "/run: memory 2097152",
    ];
    assert_eq!(mounts.collect::<Vec<_>>(), expected);
    let claims: Vec<String> =
        kept(&found, KeptKind::PersistentVolumeClaim).into_iter().map(|k| k.metadata.name).collect();
    assert_eq!(claims, ["shop-data", "shop-web-var-anon", "big-disk"]);
}

#[test]
fn configs_and_secrets_are_files() {
    let text = "services:
  web:
    image: x
    configs: [plain, {source: long, target: /etc/long, mode: 0440}]
    secrets: [pw, token]
configs: {plain: {content: 'a $$ b'}, long: {file: ./long.txt}, unused: {file: ./gone}}
secrets: {pw: {file: ./pw.txt}, token: {environment: TOKEN}}
";
    let host = Memory {
        files: BTreeMap::from([("/srv/shop/long.txt", "long"), ("/srv/shop/pw.txt", "hidden")]),
        variables: BTreeMap::from([("TOKEN", "t")]),
    };
    let found = project(&[text], &host, Options::default());
    let data = |kind| -> Vec<String> {
        let of = |k: KeptObject| {
            let (key, bytes) = k.data().into_iter().next().unwrap();
            format!("{} {key}={}", k.metadata.name, String::from_utf8(bytes).unwrap())
        };
        kept(&found, kind).into_iter().map(of).collect()
    };
    assert_eq!(data(KeptKind::ConfigMap), ["shop-plain plain=a $ b", "shop-long long=long"]);
    assert_eq!(data(KeptKind::Secret), ["shop-pw pw=hidden", "shop-token token=t"]);
    let c = workloads(&found).remove(0).spec.containers.remove(0);
    let at: Vec<&str> = c.volume_mounts.iter().map(|m| m.mount_path.as_str()).collect();
    assert_eq!(at, ["/plain", "/etc/long", "/run/secrets/pw", "/run/secrets/token"]);
    assert!(c.volume_mounts.iter().all(|m| m.sub_path.is_some() && m.read_only));
}

#[test]
fn names_lead_to_the_pods_of_a_service() {
    let text = "services:
  my_db: {image: x, container_name: the-db, networks: {back: {aliases: [store]}}, expose: [5432]}
  app: {image: x, links: ['my_db:db'], ports: ['80:8080'], networks: [back]}
networks: {back: }
";
    let found = project(&[text], &Memory::default(), Options::default());
    let services = kept(&found, KeptKind::Service);
    assert_eq!(services[0].metadata.name, "my-db");
    assert_eq!(services[0].metadata.annotations[ALIASES], "db,my_db,store@shop_back,the-db");
    assert_eq!(services[0].fields["spec"]["selector"]["com.docker.compose.service"], "my-db");
    assert_eq!(services[0].fields["spec"]["ports"][0]["port"], 5432);
    assert_eq!(services[1].metadata.annotations.get(ALIASES), None);
}

#[test]
fn services_reach_as_much_as_their_networks() {
    let text = "services:
  db: {image: x, networks: [back]}
  app: {image: x, networks: {back: , front: }}
  alone: {image: x, network_mode: none}
  other: {image: x}
networks: {back: {internal: true}, front: }
";
    let found = project(&[text], &Memory::default(), Options::default());
    let of = |w: &Workload| w.spec.pod.as_ref().unwrap().annotations.get("orun.dev/network").cloned();
    let networks: Vec<_> = workloads(&found).iter().map(|w| (w.metadata.name.clone(), of(w))).collect();
    let expected = [("alone", Some("none")), ("app", None), ("db", Some("internal")), ("other", None)];
    let expected = expected.map(|(name, network)| (name.to_owned(), network.map(str::to_owned)));
    assert_eq!(networks.into_iter().collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
    let of = |w: &Workload| w.spec.pod.as_ref().unwrap().annotations.get("orun.dev/networks").cloned();
    let networks: BTreeMap<_, _> =
        workloads(&found).iter().map(|w| (w.metadata.name.clone(), of(w))).collect();
    assert_eq!(networks["db"].as_deref(), Some("shop_back"));
    assert_eq!(networks["app"].as_deref(), Some("shop_back, shop_front"));
    assert_eq!((&networks["alone"], &networks["other"]), (&None, &None));
    let text = "services:
  a: {image: x, networks: [default, named, far, old]}
networks: {named: {name: n}, far: {external: true}, old: {external: {name: ancient}}}
";
    let found = project(&[text], &Memory::default(), Options::default());
    assert_eq!(of(&workloads(&found)[0]).as_deref(), Some("ancient, default, far, n"));
    let bad = wrong("services: {a: {image: x, networks: [bad]}}\nnetworks: {bad: {name: a b}}\n");
    assert!(bad[0].contains("\"a b\" cannot be the name of a network"), "{bad:?}");
    let of = |w: &Workload| w.spec.pod.as_ref().unwrap().annotations.get("orun.dev/network").cloned();
    let text = "services: {a: {image: x}, b: {image: x, networks: [default]}}\nnetworks: {default: {internal: true}}\n";
    let found = project(&[text], &Memory::default(), Options::default());
    assert_eq!(workloads(&found).iter().filter(|w| of(w).as_deref() == Some("internal")).count(), 2);
}

#[test]
fn services_that_share_a_network_are_one_pod() {
    let text = "services:
  vpn: {image: v, container_name: gate, ports: ['80:80'], volumes: ['a:/a'], restart: always, networks: [n]}
  web: {image: w, network_mode: 'service:vpn', volumes: ['b:/b'], depends_on: [vpn, db], stop_grace_period: 1m}
  log: {image: l, network_mode: 'container:gate', restart: always}
  deep: {image: d, network_mode: 'service:web', restart: always}
  db: {image: x}
  page: {image: y, depends_on: {web: {condition: service_healthy}}}
volumes: {a: , b: }
networks: {n: }
";
    let found = project(&[text], &Memory::default(), Options::default());
    assert_eq!(findings(&found), [""; 0]);
    let all = workloads(&found);
    let names: Vec<&str> = all.iter().map(|w| w.metadata.name.as_str()).collect();
    assert_eq!(names, ["vpn", "db", "page"]);
    let vpn = &all[0].spec;
    let containers: Vec<&str> = vpn.all_containers().map(|c| c.name.as_str()).collect();
    assert_eq!(containers, ["vpn", "deep", "log", "web"]);
    let policies = vpn.all_containers().map(|c| c.restart_policy);
    let (always, never) = (Some(RestartPolicy::Always), Some(RestartPolicy::Never));
    assert_eq!(policies.collect::<Vec<_>>(), [always, None, None, never]);
    // One of the others depends on it.
    assert_eq!(vpn.init_containers.len(), 1);
    let volumes: Vec<&str> = vpn.volumes.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(volumes, ["v0", "web-v0"]);
    assert_eq!(vpn.containers[2].volume_mounts[0].name, "web-v0");
    assert_eq!(vpn.termination_grace_period.as_secs(), 60);
    assert_eq!(vpn.depends_on.iter().map(|d| d.workload.as_str()).collect::<Vec<_>>(), ["db"]);
    assert_eq!(all[2].spec.depends_on[0].workload, "vpn");
    let services: Vec<String> =
        kept(&found, KeptKind::Service).into_iter().map(|s| s.metadata.name).collect();
    assert!(services.iter().all(|name| ["vpn", "db", "page"].contains(&name.as_str())), "{services:?}");
    for (text, message) in [
        (
            "a: {image: x}, b: {image: x, network_mode: 'service:a', ports: ['80:80']}",
            "ports cannot be combined",
        ),
        ("a: {image: x, scale: 2}, b: {image: x, network_mode: 'service:a'}", "the same number of replicas"),
        (
            "a: {image: x, network_mode: 'service:b'}, b: {image: x, network_mode: 'service:a'}",
            "its own in the end",
        ),
        ("abc: {image: x}, b: {image: x, network_mode: 'service:abd'}", "did you mean \"abc\"?"),
        (
            "a: {image: x}, b: {image: x, network_mode: 'service:a', depends_on: [c]}, c: {image: x, depends_on: [a]}",
            "pods wait for each other",
        ),
        ("a: {image: x}, b: {build: ., network_mode: 'service:a'}", "cannot join the network"),
    ] {
        let found = wrong(&format!("services: {{{text}}}\n"));
        assert!(found.iter().any(|f| f.contains(message)), "{text}: {found:?}");
    }
}

#[test]
fn variables_come_from_files_and_the_environment() {
    let text = "services:
  web:
    image: x:${TAG:-latest}
    env_file: [a.env, {path: raw.env, format: raw}, {path: gone.env, required: false}]
    environment: {A: own, FROM: , GONE: , N: 1.50, B: true}
";
    let host = Memory {
        files: BTreeMap::from([
            ("/srv/shop/.env", "TAG=2\nFROM=file"),
            ("/srv/shop/a.env", "A=file\nC=$TAG"),
            ("/srv/shop/raw.env", "D=$TAG"),
        ]),
        variables: BTreeMap::from([("FROM", "environment")]),
    };
    let found = project(&[text], &host, Options::default());
    let c = workloads(&found).remove(0).spec.containers.remove(0);
    assert_eq!(c.image.as_deref(), Some("x:2"));
    let env: Vec<String> = c.env.iter().map(|e| format!("{}={}", e.name, e.value)).collect();
    assert_eq!(env, ["A=own", "B=true", "C=2", "D=$TAG", "FROM=environment", "N=1.50"]);
    let options = Options { env_files: vec!["/srv/shop/a.env".into()], ..Options::default() };
    let c = workloads(&project(&[text], &host, options)).remove(0).spec.containers.remove(0);
    assert_eq!(c.image.as_deref(), Some("x:latest"), "{:?}", c.env);
}

#[test]
fn later_files_and_other_services_go_over_the_first() {
    let base = "name: other\nservices:\n  web: {image: a, ports: ['80:80'], environment: [A=1]}\n  dev: {image: d, profiles: [debug]}\n";
    let over = "services:\n  web:\n    image: b\n    ports: !override ['81:80']\n    environment: {B: 2}\n  log:\n    extends: {file: lib/base.yaml, service: logger}\n    command: two\n";
    let host = Memory {
        files: BTreeMap::from([(
            "/srv/shop/lib/base.yaml",
            "services:\n  logger: {extends: root, command: one, volumes: ['./x:/x']}\n  root: {image: r, user: '5'}\n",
        )]),
        ..Memory::default()
    };
    let found = project(&[base, over], &host, Options::default());
    assert_eq!(workloads(&found)[0].metadata.labels[PROJECT], "other");
    let all = workloads(&found);
    assert_eq!(all.iter().map(|w| w.metadata.name.as_str()).collect::<Vec<_>>(), ["web", "log"]);
    let web = &all[0].spec.containers[0];
    assert_eq!((web.image.as_deref(), web.env.len()), (Some("b"), 2));
    let port = Port { container_port: 80, name: None, protocol: None, host_port: Some(81), host_ip: None };
    assert_eq!(web.ports, [port]);
    let log = &all[1].spec;
    assert_eq!(
        log.volumes[0].host_path.as_ref().unwrap().path,
        "/srv/shop/lib/x",
        "from where it is written"
    );
    assert_eq!(log.containers[0].args.as_deref().unwrap(), ["two"]);
    assert_eq!(
        (log.containers[0].image.as_deref(), log.containers[0].security_context.run_as_user),
        (Some("r"), Some(5))
    );
    let options =
        Options { project: Some("Named".into()), profiles: vec!["debug".into()], ..Options::default() };
    let found = project(&[base, over], &host, options);
    assert_eq!(
        (workloads(&found)[0].metadata.labels[PROJECT].as_str(), workloads(&found).len()),
        ("named", 3)
    );
}

#[test]
fn included_files_have_their_own_directory_and_variables() {
    let text = "include: [sub/compose.yaml]\nservices:\n  web: {image: w, depends_on: [db]}\n";
    let host = Memory {
        files: BTreeMap::from([
            (
                "/srv/shop/sub/compose.yaml",
                "services:\n  db: {image: 'd:${V}', volumes: ['./d:/d', 'v:/v']}\nvolumes: {v: }\n",
            ),
            ("/srv/shop/sub/.env", "V=9"),
        ]),
        ..Memory::default()
    };
    let all = workloads(&project(&[text], &host, Options::default()));
    let db = all.iter().find(|w| w.metadata.name == "db").unwrap();
    assert_eq!(db.spec.containers[0].image.as_deref(), Some("d:9"));
    assert_eq!(db.spec.volumes[0].host_path.as_ref().unwrap().path, "/srv/shop/sub/d");
    let host = Memory {
        files: BTreeMap::from([("/srv/shop/sub/compose.yaml", "services:\n  web: {imag: d}\n")]),
        ..Memory::default()
    };
    let found = findings(&project(&[text], &host, Options::default()));
    assert!(
        found.contains(
            &"/srv/shop/sub/compose.yaml:2:9 unknown field \"imag\" [did you mean \"image\"?]".to_owned()
        ),
        "{found:?}"
    );
    assert!(found.iter().any(|f| f.contains("an included file has a service \"web\", too")), "{found:?}");
    let again = Memory { files: BTreeMap::from([("/srv/shop/a", "include: [a]\n")]), ..Memory::default() };
    let found = findings(&project(&["include: [a]\n"], &again, Options::default()));
    assert!(found.iter().any(|f| f.contains("include each other")), "{found:?}");
}

#[test]
fn what_is_read_is_what_the_supervisor_reads() {
    let text = "x-common: &common {restart: always, environment: {A: '$$(B) $$$$'}}
services:
  web:
    <<: *common
    image: nginx
    ports: ['80:80', '53:53/udp']
    volumes: ['data:/data', '/etc/x:/x:ro', /anon]
    tmpfs: /run
    healthcheck: {test: [CMD, 'true']}
    ulimits: {nofile: -1}
    user: app
    deploy: {replicas: 2, resources: {limits: {memory: 64M, cpus: 0.5}}}
    depends_on: {db: {condition: service_healthy}}
  db: {image: db, depends_on: {job: {condition: service_completed_successfully}}}
  job: {image: job, deploy: {mode: replicated-job}}
volumes: {data: }
";
    let found = project(&[text], &Memory::default(), Options::default());
    for object in objects(&found) {
        let sent = match &object {
            Object::Workload { workload, .. } => serde_json::to_string(workload).unwrap(),
            Object::Kept(kept) => serde_json::to_string(kept).unwrap(),
            Object::Inert { .. } => continue,
        };
        let read = crate::workload::read("sent", &sent, None);
        assert_eq!(read.findings.errors(), 0, "{}", read.findings);
        if let Object::Workload { .. } = &object {
            assert_eq!(read.objects[0], object);
        }
    }
}

//! An image's configuration and what a container asks for become a config.json. Pure.

use super::configuration::Configuration;
use crate::config::defaults;
use crate::error::{Error, Kind, Result};
use serde_json::{Value, json};

/// Default capabilities of Docker and Podman.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The annotation with the stop signal of the image (OCI image-spec, "Conversion to OCI Runtime Configuration").
pub const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// Changes by the container to the image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Kubernetes' `command`: instead of the entrypoint.
    pub command: Option<&'a [String]>,
    /// Kubernetes' `args`: instead of the default arguments.
    pub args: Option<&'a [String]>,
    /// `NAME=VALUE`, instead of the image's of that name or behind them.
    pub env: &'a [String],
    pub user: Option<&'a str>,
    pub working_dir: Option<&'a str>,
    /// Empty: none is set.
    pub hostname: &'a str,
    pub read_only_root: bool,
}

/// The numbers that [`user`] stands for in the image's own passwd(5) and group(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    pub additional: Vec<u32>,
}

/// Whom the program runs as, as it is written: `USER[:GROUP]`, never empty.
pub fn user<'a>(image: &'a Configuration, wanted: &Wanted<'a>) -> &'a str {
    let user = wanted.user.unwrap_or(&image.config.user);
    if user.is_empty() { "0:0" } else { user }
}

/// The command line: Kubernetes' table, "Define a Command and Arguments for a Container". With a command the image's
/// default arguments do not count.
pub fn arguments(image: &Configuration, wanted: &Wanted) -> Vec<String> {
    let given = |list: Option<&[String]>| list.filter(|l| !l.is_empty()).map(<[String]>::to_vec);
    let (command, args) = (given(wanted.command), given(wanted.args));
    let of_image = &image.config;
    let args = match (&command, args) {
        (_, Some(args)) => args,
        (Some(_), None) => Vec::new(),
        (None, None) => of_image.cmd.clone(),
    };
    let mut line = command.unwrap_or_else(|| of_image.entrypoint.clone());
    line.extend(args);
    line
}

/// The config.json of a container of `image`. Its root file system is at `rootfs`.
///
/// # Errors
/// The image names no program and nothing takes its place; it is for another system; a value of it is invalid.
pub fn config(image: &Configuration, wanted: &Wanted, ids: &Ids) -> Result<Value> {
    if !matches!(image.os.as_str(), "" | "linux") {
        let what = format!("the image is for {:?}, not for linux", image.os);
        return Err(Error::new(Kind::Unsupported, what));
    }
    let args = arguments(image, wanted);
    if args.is_empty() {
        let what = "the image has neither an entrypoint nor a command";
        return Err(Error::new(Kind::Config, what).hint("set the program to run"));
    }
    let cwd = wanted.working_dir.unwrap_or(&image.config.working_dir);
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    if !cwd.starts_with('/') {
        let what = format!("the working directory {cwd:?} is not absolute");
        return Err(Error::new(Kind::Config, what));
    }
    let mut spec = defaults::spec();
    let process = json!({
        "user": { "uid": ids.uid, "gid": ids.gid, "additionalGids": ids.additional },
        "args": args,
        "env": environment(image, wanted)?,
        "cwd": cwd,
        "capabilities": capabilities(ids.uid),
    });
    spec["process"] = process;
    spec["root"] = json!({ "path": "rootfs", "readonly": wanted.read_only_root });
    spec["hostname"] = json!(wanted.hostname);
    if wanted.hostname.is_empty()
        && let Some(all) = spec.as_object_mut()
    {
        all.remove("hostname");
    }
    let mut annotations = serde_json::Map::new();
    let named = &image.config;
    if !named.stop_signal.is_empty() {
        annotations.insert(STOP_SIGNAL.into(), json!(named.stop_signal));
    }
    if !named.exposed_ports.is_empty() {
        let ports: Vec<_> = named.exposed_ports.keys().map(String::as_str).collect();
        annotations.insert("org.opencontainers.image.exposedPorts".into(), json!(ports.join(",")));
    }
    // Annotations of orun and of other runtimes change what happens on the host: labels of an image must not.
    spec["annotations"] = annotations.into();
    Ok(spec)
}

/// A user but root gets no capability from the start; the bounding set lets set-user-id programs have them, as in Docker.
fn capabilities(uid: u32) -> Value {
    let own: &[&str] = if uid == 0 { &CAPABILITIES } else { &[] };
    json!({ "bounding": CAPABILITIES, "effective": own, "permitted": own })
}

/// PATH, the image's variables and those of the container; of two with one name the last counts, at the place of the
/// first.
fn environment(image: &Configuration, wanted: &Wanted) -> Result<Vec<String>> {
    let mut env: Vec<String> = vec![PATH.to_owned()];
    for variable in image.config.env.iter().chain(wanted.env) {
        let name = variable.split('=').next().unwrap_or_default();
        if name.is_empty() || !variable.contains('=') || variable.contains('\0') {
            let what = format!("the environment of the image has {variable:?}, which is not NAME=VALUE");
            return Err(Error::new(Kind::Config, what));
        }
        let same = |other: &&mut String| other.split('=').next() == Some(name);
        match env.iter_mut().find(same) {
            Some(place) => variable.clone_into(place),
            None => env.push(variable.clone()),
        }
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::Spec;
    use crate::plan::facts::HostFacts;

    const IMAGE: &str = r#"{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z",
        "config":{"User":"web","Env":["PATH=/opt/bin","A=1"],"Entrypoint":["/entry","-x"],"Cmd":["serve"],
          "WorkingDir":"/srv","StopSignal":"SIGQUIT","ExposedPorts":{"80/tcp":{},"443/tcp":{}},
          "Volumes":null,"Labels":{"run.orun.rootfs.lower":"/etc"},"ArgsEscaped":true},
        "rootfs":{"type":"layers","diff_ids":["sha256:00"]},"history":[]}"#;

    fn image(text: &str) -> Configuration {
        Configuration::parse(text.as_bytes(), "image").unwrap()
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').filter(|w| !w.is_empty()).map(ToOwned::to_owned).collect()
    }

    #[test]
    fn the_table_of_command_and_arguments() {
        let image = image(IMAGE);
        // "Define a Command and Arguments for a Container": command, args, what runs.
        for (command, args, expected) in [
            (None, None, "/entry -x serve"),
            (Some("/other"), None, "/other"),
            (None, Some("a b"), "/entry -x a b"),
            (Some("/other y"), Some("a b"), "/other y a b"),
            (Some(""), Some(""), "/entry -x serve"),
        ] {
            let (command, args) = (command.map(words), args.map(words));
            let wanted = Wanted { command: command.as_deref(), args: args.as_deref(), ..Wanted::default() };
            assert_eq!(arguments(&image, &wanted), words(expected), "{wanted:?}");
        }
    }

    #[test]
    fn an_image_becomes_a_configuration_that_orun_takes() {
        let image = image(IMAGE);
        let env = ["B=2".to_owned(), "A=3".to_owned()];
        let wanted = Wanted { env: &env, hostname: "web-0", ..Wanted::default() };
        assert_eq!(user(&image, &wanted), "web");
        let ids = Ids { uid: 33, gid: 34, additional: vec![35] };
        let config = config(&image, &wanted, &ids).unwrap();
        let golden = json!({
            "user": {"uid": 33, "gid": 34, "additionalGids": [35]},
            "args": ["/entry", "-x", "serve"],
            "env": ["PATH=/opt/bin", "A=3", "B=2"],
            "cwd": "/srv",
            "capabilities": {"bounding": CAPABILITIES, "effective": [], "permitted": []},
        });
        assert_eq!(config["process"], golden);
        assert_eq!(config["root"], json!({"path": "rootfs", "readonly": false}));
        assert_eq!(config["hostname"], "web-0");
        let annotations = json!({
            "org.opencontainers.image.stopSignal": "SIGQUIT",
            "org.opencontainers.image.exposedPorts": "443/tcp,80/tcp",
        });
        assert_eq!(config["annotations"], annotations, "labels of the image do not become annotations");
        let kinds: Vec<_> =
            config["linux"]["namespaces"].as_array().unwrap().iter().map(|n| &n["type"]).collect();
        assert_eq!(kinds, ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
        assert!(config["linux"]["maskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
        let spec: Spec = serde_json::from_value(config).unwrap();
        let facts = HostFacts { initial_userns: true, cap_last: 40, ..HostFacts::default() };
        assert_eq!(crate::plan::validate::validate(&spec, &facts).0, []);
    }

    #[test]
    fn an_image_that_says_little() {
        let image = image(r#"{"config":{"Cmd":["/bin/sh"],"Env":null,"Entrypoint":null},"rootfs":null}"#);
        assert_eq!(user(&image, &Wanted::default()), "0:0");
        assert_eq!(user(&image, &Wanted { user: Some("5"), ..Wanted::default() }), "5");
        let config = config(&image, &Wanted::default(), &Ids::default()).unwrap();
        assert_eq!(config["process"]["cwd"], "/");
        assert_eq!(config["process"]["env"], json!([PATH]));
        assert_eq!(config["process"]["capabilities"]["effective"], json!(CAPABILITIES));
        assert_eq!(config.get("hostname"), None);
        assert_eq!(config["process"].get("noNewPrivileges"), None, "set-user-id programs work");
    }

    #[test]
    fn what_is_refused() {
        let refused = |text: &str, word: &str| {
            let e = config(&image(text), &Wanted::default(), &Ids::default()).expect_err(text).to_string();
            assert!(e.contains(word), "{e}");
        };
        refused("{}", "neither an entrypoint nor a command");
        refused(r#"{"os":"windows","config":{"Cmd":["x"]}}"#, "is for \"windows\"");
        refused(r#"{"config":{"Cmd":["x"],"WorkingDir":"a"}}"#, "\"a\" is not absolute");
        for bad in ["A", "=x", "A=\\u0000"] {
            refused(&format!(r#"{{"config":{{"Cmd":["x"],"Env":["{bad}"]}}}}"#), "is not NAME=VALUE");
        }
        for bad in ["[]", "{\"config\":{\"Cmd\":\"x\"}}", "", "{\"config\":{\"Volumes\":[]}}"] {
            assert!(Configuration::parse(bad.as_bytes(), "image").is_err(), "{bad}");
        }
    }
}

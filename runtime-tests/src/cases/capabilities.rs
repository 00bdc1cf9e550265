//! The five capability sets.

use crate::check::same_set;
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;

const SPEC: &str = "config.md Linux Process: capabilities";
const NONE: [&str; 0] = [];
const SETS: [&str; 5] = ["bounding", "effective", "permitted", "inheritable", "ambient"];

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    combinations(m);
    m.case("capabilities/each-set-is-its-own", SPEC, |t| {
        let caps = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_CHOWN"],
            "ambient": ["CAP_CHOWN"],
        });
        // Root gets permitted and effective from the bounding and inheritable sets at exec (capabilities(7)), so
        // the difference shows only for another user, who keeps no more than the ambient set.
        let user = json!({"uid": 1000, "gid": 1000});
        let report = t.report(&t.bundle()?.set("/process/capabilities", caps).set("/process/user", user))?;
        same_set(
            "bounding",
            &report.list("/caps/bounding"),
            &["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_RAW"],
        )?;
        for set in ["permitted", "effective", "inheritable", "ambient"] {
            same_set(set, &report.list(&format!("/caps/{set}")), &["CAP_CHOWN"])?;
        }
        Ok(())
    });
    m.case("capabilities/root-gets-the-bounding-set", SPEC, |t| {
        let report = t.report(&t.bundle()?.capabilities(&["CAP_CHOWN", "CAP_SYS_ADMIN"]))?;
        for set in ["bounding", "permitted", "effective"] {
            same_set(set, &report.list(&format!("/caps/{set}")), &["CAP_CHOWN", "CAP_SYS_ADMIN"])?;
        }
        same_set("inheritable", &report.list("/caps/inheritable"), &NONE)?;
        same_set("ambient", &report.list("/caps/ambient"), &NONE)
    });
    m.case("capabilities/user-without-ambient-has-none", SPEC, |t| {
        let bundle =
            t.bundle()?.capabilities(&["CAP_CHOWN"]).set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let report = t.report(&bundle)?;
        for set in ["effective", "permitted", "ambient", "inheritable"] {
            same_set(set, &report.list(&format!("/caps/{set}")), &NONE)?;
        }
        same_set("bounding", &report.list("/caps/bounding"), &["CAP_CHOWN"])
    });
    m.case("capabilities/absent-means-none", "runc contract: no capabilities object, empty sets", |t| {
        let report = t.report(&t.bundle()?.unset("/process/capabilities"))?;
        for set in SETS {
            same_set(set, &report.list(&format!("/caps/{set}")), &NONE)?;
        }
        Ok(())
    });
    m.case("capabilities/empty-lists-mean-none", SPEC, |t| {
        let caps =
            json!({"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []});
        let report = t.report(&t.bundle()?.set("/process/capabilities", caps))?;
        for set in SETS {
            same_set(set, &report.list(&format!("/caps/{set}")), &NONE)?;
        }
        Ok(())
    });
    m.case("capabilities/all-that-the-runtime-has", SPEC, |t| {
        let all =
            ["CAP_CHOWN", "CAP_BPF", "CAP_PERFMON", "CAP_CHECKPOINT_RESTORE", "CAP_AUDIT_READ", "CAP_SYSLOG"];
        let report = t.report(&t.bundle()?.capabilities(&all))?;
        same_set("effective", &report.list("/caps/effective"), &all)
    });
    m.case("capabilities/inheritable-only-when-listed", "CVE-2022-29162", |t| {
        let c = t.sleeper(t.bundle()?.capabilities(&["CAP_CHOWN"]))?;
        let report = c.exec_report(&["--cap", "CAP_NET_RAW"])?;
        same_set("inheritable", &report.list("/caps/inheritable"), &NONE)
    });
    unusual(m);
}

fn unusual(m: &mut Matrix) {
    const WARN: &str = "config.md: a capability that cannot be mapped or granted is a warning, not an error";
    m.case("capabilities/unknown-is-a-warning", WARN, |t| {
        let report = t.report(&t.bundle()?.capabilities(&["CAP_CHOWN", "CAP_MOON"]))?;
        same_set("effective", &report.list("/caps/effective"), &["CAP_CHOWN"])
    });
    m.case("capabilities/ungrantable-is-a-warning", WARN, |t| {
        let bundle = t.bundle()?.capabilities(&["CAP_CHOWN", "CAP_SYS_RESOURCE"]);
        let out = t.run_cmd(&bundle)?.without_capabilities(&[24]).ok()?;
        let report = crate::report::Report::parse(&out.stdout)?;
        same_set("effective", &report.list("/caps/effective"), &["CAP_CHOWN"])
    });
    m.case("capabilities/ambient-without-inheritable-is-dropped", WARN, |t| {
        let caps = json!({"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"],
                          "ambient": ["CAP_CHOWN"]});
        let report = t.report(&t.bundle()?.set("/process/capabilities", caps))?;
        same_set("ambient", &report.list("/caps/ambient"), &NONE)
    });
    m.case("capabilities/exec-has-those-of-the-configuration", SPEC, |t| {
        let c = t.sleeper(t.bundle()?.capabilities(&["CAP_CHOWN", "CAP_KILL"]))?;
        let report = c.exec_report(&[])?;
        same_set("effective", &report.list("/caps/effective"), &["CAP_CHOWN", "CAP_KILL"])?;
        same_set("bounding", &report.list("/caps/bounding"), &["CAP_CHOWN", "CAP_KILL"])
    });
    m.case("capabilities/exec-can-add-one", "runc contract: exec --cap adds", |t| {
        let c = t.sleeper(t.bundle()?.capabilities(&["CAP_CHOWN"]))?;
        let report = c.exec_report(&["--cap", "CAP_KILL"])?;
        same_set("effective", &report.list("/caps/effective"), &["CAP_CHOWN", "CAP_KILL"])
    });
    m.case("capabilities/securebits-are-clear", "capabilities(7)", |t| {
        let report = t.report(&t.bundle()?.set("/process/user", json!({"uid": 1000, "gid": 1000})))?;
        ensure!(
            report.num("/securebits")? & 1 << 4 == 0,
            "SECBIT_KEEP_CAPS is set: {}",
            report.at("/securebits")
        );
        Ok(())
    });
}

/// The sets that a program has after execve(2), by the rules of capabilities(7): `given` are those before it, in the order
/// of [`SETS`]. Root's program counts as one whose file has every capability; without new privileges it keeps what it has.
fn after_exec(root: bool, no_new_privs: bool, given: [u64; 5]) -> [u64; 5] {
    let [bounding, _, permitted, inheritable, ambient] = given;
    let ambient = ambient & permitted & inheritable;
    let permitted = match (root, no_new_privs) {
        (true, true) => permitted & (bounding | inheritable),
        (true, false) => bounding | inheritable,
        (false, _) => ambient,
    };
    [bounding, permitted, permitted, inheritable, ambient]
}

/// Every choice of two capabilities for four of the sets: what the program has follows from capabilities(7) alone.
fn combinations(m: &mut Matrix) {
    const NAMES: [&str; 2] = ["CAP_CHOWN", "CAP_KILL"];
    const BITS: [u64; 2] = [1 << 0, 1 << 5];
    let names = |mask: u64| -> Vec<&str> {
        NAMES.iter().zip(BITS).filter(|(_, bit)| mask & bit != 0).map(|(name, _)| *name).collect()
    };
    let masks = [0, BITS[0], BITS[0] | BITS[1]];
    for uid in [0, 1000] {
        for (kind, own_users, no_new_privs) in
            [("plain", false, false), ("no-new-privs", false, true), ("user-namespace", true, false)]
        {
            let bundle = move |t: &crate::case::T<'_>| -> crate::check::Result<crate::bundle::Bundle> {
                let bundle = t.bundle()?.set("/process/user", json!({"uid": uid, "gid": uid}));
                let bundle = bundle.set("/process/noNewPrivileges", no_new_privs);
                Ok(if own_users { bundle.userns(100_000, 65_536) } else { bundle })
            };
            m.case(format!("capabilities/combinations-{kind}-uid-{uid}"), SPEC, move |t| {
                let shared = t.sleeper(bundle(t)?)?;
                for permitted in masks {
                    for inheritable in masks {
                        for ambient in masks {
                            let given = [BITS[0] | BITS[1], permitted, permitted, inheritable, ambient];
                            let sets: serde_json::Map<_, _> = SETS
                                .iter()
                                .zip(given)
                                .map(|(s, mask)| ((*s).to_owned(), json!(names(mask))))
                                .collect();
                            let process = json!({
                                "args": ["probe", "report"], "cwd": "/", "env": ["PATH=/bin"],
                                "user": {"uid": uid, "gid": uid}, "capabilities": sets,
                                "noNewPrivileges": no_new_privs,
                            });
                            let file = t.path("process.json");
                            std::fs::write(&file, process.to_string())?;
                            let out = t.verb("exec").arg("--process").arg(&file).arg(&shared.id).ok()?;
                            let report = crate::report::Report::parse(&out.stdout)?;
                            for (set, want) in SETS.iter().zip(after_exec(uid == 0, no_new_privs, given)) {
                                let found = report.list(&format!("/caps/{set}"));
                                same_set(&format!("{set} of {process}"), &found, &names(want))?;
                            }
                        }
                    }
                }
                Ok(())
            });
        }
        m.case(
            format!("capabilities/inheritable-alone-uid-{uid}"),
            "capset(2): what a runtime of old Docker is given",
            move |t| {
                let caps = json!({"bounding": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"]});
                let bundle =
                    t.bundle()?.set("/process/capabilities", caps).set("/process/noNewPrivileges", false);
                let report = t.report(&bundle.set("/process/user", json!({"uid": uid, "gid": uid})))?;
                same_set("inheritable", &report.list("/caps/inheritable"), &["CAP_CHOWN"])?;
                let root: &[&str] = if uid == 0 { &["CAP_CHOWN"] } else { &[] };
                same_set("permitted", &report.list("/caps/permitted"), root)?;
                same_set("ambient", &report.list("/caps/ambient"), &NONE)
            },
        );
    }
}

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

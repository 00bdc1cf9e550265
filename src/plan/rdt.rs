//! `linux.intelRdt` (config-linux.md, "IntelRdt"): the class of the container below a mounted resctrl, the lines written
//! to it, and its monitoring group.

use super::Violation;
use super::facts::HostFacts;
use crate::config::linux::IntelRdt;
use std::path::PathBuf;

/// Directories that resctrl itself makes, which are not classes (Documentation/filesystems/resctrl.rst).
const RESERVED: [&str; 3] = ["info", "mon_data", "mon_groups"];

/// Operations below resctrl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdtPlan {
    /// The directory of the class.
    pub class: PathBuf,
    /// The class is one that the configuration names: it stays when the container goes.
    pub named: bool,
    /// A named class without schemata must already exist.
    pub must_exist: bool,
    /// Lines that an existing named class must have.
    pub expected: Vec<String>,
    /// Lines for `schemata`, in order.
    pub schemata: Vec<String>,
    /// The directory of the monitoring group.
    pub monitor: Option<PathBuf>,
}

impl RdtPlan {
    /// Compiles what `rdt` asks for container `id`; `facts` have the resctrl, or validation has reported it.
    ///
    /// # Errors
    /// A class of that name cannot be made.
    pub fn compile(rdt: &IntelRdt, id: &str, facts: &HostFacts) -> Result<RdtPlan, Violation> {
        let given = rdt.clos_id.as_deref().unwrap_or_default();
        let name = if given.is_empty() { id } else { given };
        if RESERVED.contains(&name) {
            let what = format!("resctrl has a directory {name:?} of its own, which is not a class");
            return Err(Violation::new("linux.intelRdt.closID", what).hint("give another name"));
        }
        let root = PathBuf::from(facts.resctrl.clone().unwrap_or_default());
        let class = if name == "/" { root } else { root.join(name) };
        let one = |line: &Option<String>| line.clone().filter(|l| !l.is_empty());
        let expected: Vec<_> =
            [&rdt.l3_cache_schema, &rdt.mem_bw_schema].into_iter().filter_map(one).collect();
        let mut schemata = expected.clone();
        schemata.extend(rdt.schemata.iter().flatten().cloned());
        Ok(RdtPlan {
            monitor: rdt.enable_monitoring.then(|| class.join("mon_groups").join(id)),
            named: !given.is_empty(),
            must_exist: !given.is_empty() && schemata.is_empty(),
            class,
            expected,
            schemata,
        })
    }
}

/// The first of `expected` lines that `schemata`, the content of a class's file, does not have. Lines are compared by
/// resource and domain: `L3:0=0ff` has `L3: 0=FF; 1=7ff`.
pub fn first_mismatch<'a>(expected: &'a [String], schemata: &str) -> Option<&'a str> {
    let has = |resource: &str, domain: (String, String)| {
        let mut lines = schemata.lines().filter_map(|l| l.split_once(':'));
        lines.any(|(r, domains)| r.trim() == resource && parts(domains).any(|d| d == domain))
    };
    expected.iter().map(String::as_str).find(|line| match line.split_once(':') {
        Some((resource, domains)) => !parts(domains).all(|d| has(resource.trim(), d)),
        None => true,
    })
}

/// Domains and their values, without what does not matter.
fn parts(domains: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let plain = |n: &str| {
        let digits = n.trim().trim_start_matches('0').to_ascii_lowercase();
        if digits.is_empty() { "0".to_owned() } else { digits }
    };
    let all = domains.split(';').filter(|d| !d.trim().is_empty());
    all.map(move |d| {
        d.split_once('=').map_or_else(|| (plain(d), String::new()), |(n, v)| (plain(n), plain(v)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(rdt: &IntelRdt) -> Result<RdtPlan, Violation> {
        let facts = HostFacts { resctrl: Some("/sys/fs/resctrl".into()), ..HostFacts::default() };
        RdtPlan::compile(rdt, "c1", &facts)
    }

    #[test]
    fn a_class_of_its_own_bears_the_containers_id() {
        let p = compile(&IntelRdt { enable_monitoring: true, ..IntelRdt::default() }).unwrap();
        assert_eq!(p.class, PathBuf::from("/sys/fs/resctrl/c1"));
        assert_eq!(p.monitor, Some(PathBuf::from("/sys/fs/resctrl/c1/mon_groups/c1")));
        assert!(!p.named && !p.must_exist);
        assert!(p.schemata.is_empty());
    }

    #[test]
    fn a_named_class_without_schemata_must_be_there() {
        let named = |name: &str, schema: Option<&str>| IntelRdt {
            clos_id: Some(name.into()),
            mem_bw_schema: schema.map(Into::into),
            ..IntelRdt::default()
        };
        assert!(compile(&named("gold", None)).unwrap().must_exist);
        let p = compile(&named("gold", Some("MB:0=20"))).unwrap();
        assert!(p.named && !p.must_exist);
        assert_eq!(p.class, PathBuf::from("/sys/fs/resctrl/gold"));
        assert_eq!(compile(&named("/", None)).unwrap().class, PathBuf::from("/sys/fs/resctrl"));
        assert!(compile(&named("info", None)).unwrap_err().message.contains("not a class"));
    }

    #[test]
    fn the_cache_comes_first_and_the_list_last() {
        let p = compile(&IntelRdt {
            schemata: Some(vec!["L2:0=f".into(), "L3:0=1".into()]),
            l3_cache_schema: Some("L3:0=f".into()),
            mem_bw_schema: Some("MB:0=20".into()),
            ..IntelRdt::default()
        })
        .unwrap();
        assert_eq!(p.schemata, ["L3:0=f", "MB:0=20", "L2:0=f", "L3:0=1"]);
        assert_eq!(p.expected, ["L3:0=f", "MB:0=20"]);
    }

    #[test]
    fn lines_are_compared_by_domain() {
        let file = "    MB:0= 20;1=100\n    L3:0=07ff;1=7f0\n";
        let all = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(first_mismatch(&all(&["L3:0=7FF", "MB:1=100;0=20", "L3:00=7ff;1=7f0;"]), file), None);
        for bad in ["L3:0=7fe", "L3:2=7ff", "L2:0=7ff", "MB:0=20;1=90", "7ff", "L3CODE:0=7ff"] {
            assert_eq!(first_mismatch(&all(&["MB:0=20", bad]), file), Some(bad));
        }
    }
}

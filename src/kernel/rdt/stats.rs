//! The figures of resctrl for a container, in the shape of the `intel_rdt` of runc's `events --stats`.

use serde::Serialize;
use std::fs;
use std::path::Path;

/// The class of a container and what was counted for it. What the processor or the kernel does not have is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<L3CacheInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema_root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemBwInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema_root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// All lines of the class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory bandwidth, one entry a domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<Bandwidth>,
    /// Occupancy of the last cache, one entry a domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<Occupancy>,
}

/// `info/L3`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct L3CacheInfo {
    pub cbm_mask: String,
    pub min_cbm_bits: u64,
    pub num_closids: u64,
}

/// `info/MB`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemBwInfo {
    pub bandwidth_gran: u64,
    pub delay_linear: u64,
    pub min_bandwidth: u64,
    pub num_closids: u64,
}

/// Bytes since the group was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Bandwidth {
    pub mbm_total_bytes: u64,
    pub mbm_local_bytes: u64,
}

/// Bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    pub llc_occupancy: u64,
}

/// Reads the figures of the class `class`; the counters are those of the group `monitor`, or of the class.
pub fn read(class: &Path, monitor: Option<&Path>) -> Stats {
    let Some(root) = class.ancestors().find(|d| d.join("info").is_dir()) else { return Stats::default() };
    let (all, own) = (lines(root), lines(class));
    let mut s = Stats {
        l3_cache_info: l3_cache(&root.join("info/L3")),
        l3_cache_schema_root: schema(&all, "L3"),
        l3_cache_schema: schema(&own, "L3"),
        mem_bw_info: memory_bandwidth(&root.join("info/MB")),
        mem_bw_schema_root: schema(&all, "MB:"),
        mem_bw_schema: schema(&own, "MB:"),
        schemata: own,
        ..Stats::default()
    };
    for domain in domains(monitor.unwrap_or(class)) {
        let counted = |file: &str| number(&domain, file);
        if let (Some(mbm_total_bytes), Some(mbm_local_bytes)) =
            (counted("mbm_total_bytes"), counted("mbm_local_bytes"))
        {
            s.mbm_stats.push(Bandwidth { mbm_total_bytes, mbm_local_bytes });
        }
        s.cmt_stats.extend(counted("llc_occupancy").map(|llc_occupancy| Occupancy { llc_occupancy }));
    }
    s
}

fn text(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok().map(|t| t.trim().to_owned())
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    text(dir, file)?.parse().ok()
}

fn lines(class: &Path) -> Vec<String> {
    let text = text(class, "schemata").unwrap_or_default();
    text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
}

/// The lines about one resource; with code and data prioritised, the L3 cache has two.
fn schema(lines: &[String], prefix: &str) -> Option<String> {
    let about: Vec<_> = lines.iter().filter(|l| l.starts_with(prefix)).map(String::as_str).collect();
    (!about.is_empty()).then(|| about.join("\n"))
}

fn l3_cache(dir: &Path) -> Option<L3CacheInfo> {
    Some(L3CacheInfo {
        cbm_mask: text(dir, "cbm_mask")?,
        min_cbm_bits: number(dir, "min_cbm_bits")?,
        num_closids: number(dir, "num_closids")?,
    })
}

fn memory_bandwidth(dir: &Path) -> Option<MemBwInfo> {
    Some(MemBwInfo {
        bandwidth_gran: number(dir, "bandwidth_gran")?,
        delay_linear: number(dir, "delay_linear")?,
        min_bandwidth: number(dir, "min_bandwidth")?,
        num_closids: number(dir, "num_closids")?,
    })
}

/// `mon_data/mon_L3_00` and so on, in order.
fn domains(group: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(group.join("mon_data")).into_iter().flatten().flatten();
    let mut dirs: Vec<_> = entries.map(|e| e.path()).filter(|p| p.is_dir()).collect();
    dirs.sort();
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(top: &Path, files: &[(&str, &str)]) {
        for (name, content) in files {
            let path = top.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    #[test]
    fn the_figures_have_the_names_of_runc() {
        let top = tempfile::tempdir().unwrap();
        write(
            top.path(),
            &[
                ("info/L3/cbm_mask", "7ff\n"),
                ("info/L3/min_cbm_bits", "1\n"),
                ("info/L3/num_closids", "16\n"),
                ("schemata", "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n"),
                ("c1/schemata", "    L3:0=f;1=f\n"),
                ("c1/mon_groups/c1/mon_data/mon_L3_00/mbm_total_bytes", "9\n"),
                ("c1/mon_groups/c1/mon_data/mon_L3_00/mbm_local_bytes", "4\n"),
                ("c1/mon_groups/c1/mon_data/mon_L3_00/llc_occupancy", "7\n"),
                ("c1/mon_groups/c1/mon_data/mon_L3_01/llc_occupancy", "Unavailable\n"),
            ],
        );
        let class = top.path().join("c1");
        let s = read(&class, Some(&class.join("mon_groups/c1")));
        assert_eq!(
            serde_json::to_value(s).unwrap(),
            json!({
                "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 1, "num_closids": 16},
                "l3_cache_schema_root": "L3:0=7ff;1=7ff", "l3_cache_schema": "L3:0=f;1=f",
                "mem_bw_schema_root": "MB:0=100;1=100", "schemata": ["L3:0=f;1=f"],
                "mbm_stats": [{"mbm_total_bytes": 9, "mbm_local_bytes": 4}], "cmt_stats": [{"llc_occupancy": 7}],
            })
        );
    }

    #[test]
    fn without_resctrl_there_is_nothing() {
        let top = tempfile::tempdir().unwrap();
        assert_eq!(serde_json::to_value(read(&top.path().join("c1"), None)).unwrap(), json!({}));
    }
}

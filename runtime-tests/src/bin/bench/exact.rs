//! Figures that are the same whenever they are taken on one machine, recorded in a file and compared with it: system calls,
//! instructions in user mode, peak memory, page faults.
//!
//! Between machines they differ a little: a kernel has other hierarchies and other files to mask, a processor other variants
//! of memcpy(3), and how many pages the kernel maps around a fault depends on what it has in memory.

use std::collections::BTreeMap;

use crate::bundle::{Kind, Workshop};
use crate::count::{self, Counter};
use crate::measure;
use crate::peer::{self, Peer, Stand};

/// By how much a figure may grow on the machine where it was recorded, and on another one.
const GROWTH: (f64, f64) = (1.03, 1.15);

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Run,
    Create,
    Start,
    Exec,
    State,
    Kill,
    List,
    Delete,
}

impl Verb {
    pub const ALL: [Verb; 8] =
        [Verb::Run, Verb::Create, Verb::Start, Verb::Exec, Verb::State, Verb::Kill, Verb::List, Verb::Delete];

    fn name(self) -> &'static str {
        match self {
            Verb::Run => "run",
            Verb::Create => "create",
            Verb::Start => "start",
            Verb::Exec => "exec",
            Verb::State => "state",
            Verb::Kill => "kill",
            Verb::List => "list",
            Verb::Delete => "delete",
        }
    }
}

/// Calls `count` with the command line of a verb when the container is as the verb needs it.
pub fn with(
    stand: &Stand,
    verb: Verb,
    count: &mut dyn FnMut(&[&str]) -> Result<(), String>,
) -> Result<(), String> {
    let mut counted = |words: Vec<String>| count(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let step = match verb {
        Verb::Run => Some(peer::Step::Run),
        Verb::Exec => Some(peer::Step::Exec),
        Verb::State => Some(peer::Step::State),
        Verb::Kill => Some(peer::Step::Kill),
        Verb::Create | Verb::Start | Verb::Delete | Verb::List => None,
    };
    if let Some(words) = step.and_then(|step| stand.words(step)) {
        return counted(words);
    }
    if verb == Verb::List {
        return counted(stand.list_words());
    }
    let done = match verb {
        Verb::Create => counted(stand.create_words("cycle")),
        // The process of the container is not one of its descendants.
        Verb::Start => stand.create("cycle").and_then(|()| counted(stand.start_words("cycle"))),
        _ => stand
            .create("cycle")
            .and_then(|()| stand.start("cycle"))
            .and_then(|()| counted(stand.delete_words("cycle"))),
    };
    stand.remove("cycle");
    measure::reap_orphans();
    done
}

/// Counts something of a command; `None` when it cannot be counted here.
type Count<'a> = dyn Fn(&[&str]) -> Result<Option<u64>, String> + 'a;

/// Takes all figures of `runtime`: the name of each and its value.
fn take(workshop: &Workshop, runtime: &Peer, limit: u64) -> Result<BTreeMap<String, u64>, String> {
    let mut figures = BTreeMap::new();
    let counter = Counter::find(limit);
    for kind in Kind::ALL {
        let mut stand = Stand::new(workshop, runtime, kind).map_err(|e| format!("making a bundle: {e}"))?;
        stand.open()?;
        for verb in Verb::ALL {
            // The others do not depend on what is in config.json. What create leaves waiting cannot be traced to its end.
            let counted = match kind {
                Kind::Plain => verb != Verb::Create,
                Kind::Docker => matches!(verb, Verb::Run | Verb::Exec | Verb::Start),
            };
            if !counted {
                continue;
            }
            let mut add = |what: &str, count: &Count<'_>| {
                with(&stand, verb, &mut |words| {
                    if let Some(figure) = count(words)? {
                        figures.insert(format!("{} {} {what}", kind.name(), verb.name()), figure);
                    }
                    Ok(())
                })
            };
            add("system-calls", &|words| count::system_calls(words).map(Some))?;
            add("page-faults", &|words| count::page_faults(words).map(Some))?;
            add("peak-kB", &|words| count::peak_memory(words).map(Some))?;
            if let Some(counter) = counter {
                add("instructions", &|words| counter.count(words))?;
            }
        }
        stand.close();
    }
    Ok(figures)
}

/// What the figures depend on besides the program.
fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let hierarchies = peer::hierarchies().len();
    format!("# Linux {}, {hierarchies} hierarchies,{}", kernel.trim(), model.trim_start_matches(['\t', ':']))
}

/// Prints the figures in the form of the file.
pub fn record(workshop: &Workshop, runtime: &Peer, limit: u64) -> Result<(), String> {
    println!("{}", machine());
    for (name, value) in take(workshop, runtime, limit)? {
        println!("{name} {value}");
    }
    Ok(())
}

/// Compares with the recorded figures.
///
/// # Errors
/// Those that have grown.
pub fn check(workshop: &Workshop, runtime: &Peer, limit: u64, file: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("reading {file}: {e}"))?;
    let same = text.lines().next() == Some(machine().as_str());
    let growth = if same { GROWTH.0 } else { GROWTH.1 };
    if !same {
        println!(
            "recorded on another machine, so figures may be {:.0} % larger here",
            (growth - 1.0) * 100.0
        );
    }
    let recorded = parse(&text).map_err(|e| format!("{file}: {e}"))?;
    let taken = take(workshop, runtime, limit)?;
    let grown = compare(&recorded, &taken, growth);
    let smaller = taken
        .iter()
        .filter(|(name, value)| recorded.get(*name).is_some_and(|was| (**value as f64) * 1.03 < *was as f64));
    for (name, value) in smaller {
        println!("{name}: {value}, less than {}", recorded[name]);
    }
    match grown.as_slice() {
        [] => {
            println!("{} figures, none has grown by more than {:.0} %", taken.len(), (growth - 1.0) * 100.0);
            Ok(())
        }
        grown => Err(format!("grown: {}", grown.join("; "))),
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, u64>, String> {
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(' ').ok_or(format!("not a figure: {line:?}"))?;
        Ok((name.to_string(), value.parse().map_err(|e| format!("{line:?}: {e}"))?))
    };
    text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(line).collect()
}

fn compare(recorded: &BTreeMap<String, u64>, taken: &BTreeMap<String, u64>, growth: f64) -> Vec<String> {
    recorded
        .iter()
        .filter_map(|(name, was)| match taken.get(name) {
            None => Some(format!("{name} was {was} and is not counted any more")),
            Some(now) if *now as f64 > *was as f64 * allowed(name, growth) => {
                Some(format!("{name} was {was} and is {now}"))
            }
            Some(_) => None,
        })
        .collect()
}

/// Page faults and peak memory depend on what the kernel has in its page cache.
fn allowed(name: &str, growth: f64) -> f64 {
    if name.ends_with("page-faults") || name.ends_with("peak-kB") { growth.max(GROWTH.1) } else { growth }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_grows_is_reported_and_one_that_shrinks_is_not() {
        let recorded =
            parse("# a machine\nplain run peak-kB 1000\nplain run system-calls 100\nplain run gone 1\n")
                .unwrap();
        let taken = parse("plain run peak-kB 1100\nplain run system-calls 104\nplain run new 5\n").unwrap();
        let grown = compare(&recorded, &taken, 1.03);
        assert_eq!(grown.len(), 2, "{grown:?}");
        assert!(
            grown[0].starts_with("plain run gone") && grown[1] == "plain run system-calls was 100 and is 104"
        );
        assert!(compare(&recorded, &recorded, 1.0).is_empty());
        assert!(parse("plain run x\n").is_err());
    }
}

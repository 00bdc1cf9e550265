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

/// The machine, on which the figures depend: the kernel, the hierarchies, the processor.
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

/// Compares with the recorded figures of this machine, or of one with as many hierarchies; without any there is nothing to
/// compare with.
///
/// # Errors
/// Those that have grown.
pub fn check(workshop: &Workshop, runtime: &Peer, limit: u64, file: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("reading {file}: {e}"))?;
    let (here, sets) = (machine(), parse(&text).map_err(|e| format!("{file}: {e}"))?);
    let Some((recorded, growth)) = choose(&sets, &here) else {
        println!("SKIP: {file} has no figures for a host such as this one: {here}");
        return Ok(());
    };
    if growth != GROWTH.0 {
        println!(
            "recorded on another machine, so figures may be {:.0} % larger here",
            (growth - 1.0) * 100.0
        );
    }
    let taken = take(workshop, runtime, limit)?;
    let (grown, noted) = compare(recorded, &taken, growth);
    for note in noted {
        println!("{note}");
    }
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

/// The figures of one machine.
type Figures = BTreeMap<String, u64>;

/// The set to compare with, and by how much a figure may be larger.
fn choose<'a>(sets: &'a [(String, Figures)], here: &str) -> Option<(&'a Figures, f64)> {
    let hierarchies =
        |line: &str| line.split(", ").find(|part| part.ends_with("hierarchies")).map(str::to_string);
    let own = sets.iter().find(|(line, _)| line == here).map(|(_, set)| (set, GROWTH.0));
    own.or_else(|| {
        let like = |line: &str| hierarchies(line) == hierarchies(here);
        sets.iter().find(|(line, _)| like(line)).map(|(_, set)| (set, GROWTH.1))
    })
}

/// The sets of a file: each begins with the line of its machine.
fn parse(text: &str) -> Result<Vec<(String, Figures)>, String> {
    let mut sets: Vec<(String, Figures)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            sets.push((line.to_string(), Figures::new()));
            continue;
        }
        let (name, value) = line.rsplit_once(' ').ok_or(format!("not a figure: {line:?}"))?;
        let value = value.parse().map_err(|e| format!("{line:?}: {e}"))?;
        let (_, set) = sets.last_mut().ok_or("the first line is not that of a machine")?;
        set.insert(name.to_string(), value);
    }
    Ok(sets)
}

/// The figures that have grown too much, and others that are larger: page faults and peak memory depend on what the kernel has in its page
/// cache, so that they are no reason to fail.
fn compare(recorded: &Figures, taken: &Figures, growth: f64) -> (Vec<String>, Vec<String>) {
    let (mut grown, mut noted) = (Vec::new(), Vec::new());
    for (name, was) in recorded {
        match taken.get(name) {
            // Instructions cannot be counted everywhere.
            None if name.ends_with("instructions") => noted.push(format!("{name} cannot be counted here")),
            None => grown.push(format!("{name} was {was} and is not counted any more")),
            Some(now) if *now as f64 > *was as f64 * growth => {
                let cached = name.ends_with("page-faults") || name.ends_with("peak-kB");
                let list = if cached { &mut noted } else { &mut grown };
                list.push(format!("{name} was {was} and is {now}"));
            }
            Some(_) => {}
        }
    }
    (grown, noted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_grows_is_reported_and_one_that_shrinks_is_not() {
        let one = |text: &str| parse(text).unwrap().remove(0).1;
        let recorded = one("# m\nrun peak-kB 1000\nrun system-calls 100\nrun gone 1\nrun instructions 9\n");
        let taken = one("# m\nrun peak-kB 1200\nrun system-calls 104\nrun new 5\n");
        let (grown, noted) = compare(&recorded, &taken, 1.03);
        assert_eq!(
            grown,
            ["run gone was 1 and is not counted any more", "run system-calls was 100 and is 104"]
        );
        assert_eq!(noted, ["run instructions cannot be counted here", "run peak-kB was 1000 and is 1200"]);
        assert_eq!(compare(&recorded, &recorded, 1.0), (Vec::new(), Vec::new()));
        assert!(parse("# m\nplain run x\n").is_err() && parse("plain run 1\n").is_err());
    }

    #[test]
    fn figures_are_those_of_the_machine_or_of_one_with_as_many_hierarchies() {
        let sets = parse("# Linux 6, 9 hierarchies, A\nx 1\n# Linux 6, 0 hierarchies, A\nx 2\n").unwrap();
        let chosen = |here: &str| choose(&sets, here).map(|(set, growth)| (set["x"], growth));
        assert_eq!(chosen("# Linux 6, 0 hierarchies, A"), Some((2, GROWTH.0)));
        assert_eq!(chosen("# Linux 7, 0 hierarchies, B"), Some((2, GROWTH.1)));
        assert_eq!(chosen("# Linux 6, 9 hierarchies, B"), Some((1, GROWTH.1)));
        assert_eq!(chosen("# Linux 6, 12 hierarchies, A"), None);
    }
}

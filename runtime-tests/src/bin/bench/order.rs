//! The functions of a program in the order in which its verbs first execute them, for the linker.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;

use crate::bundle::{Kind, Workshop};
use crate::count;
use crate::exact::{self, Verb};
use crate::peer::{Peer, Stand};
use crate::sys;

/// Endings of the names of functions of which the C library has one for each kind of processor, and takes the fitting one
/// when the program starts.
const VARIANTS: [&str; 6] = ["_avx512", "_avx2", "_avx", "_evex512", "_evex", "_sse2"];

/// The symbols of a program, by address.
struct Symbols {
    /// Address in the file, and name.
    functions: Vec<(u64, String)>,
    /// Behind the last one.
    end: u64,
}

impl Symbols {
    fn of(program: &str) -> Result<Symbols, String> {
        let output = std::process::Command::new("nm")
            .args(["--defined-only", "--numeric-sort", program])
            .output()
            .map_err(|e| format!("starting nm: {e}"))?;
        let mut functions = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut fields = line.split(' ');
            let (Some(address), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if let (true, Ok(address)) =
                (matches!(kind, "t" | "T" | "w" | "W" | "i"), u64::from_str_radix(address, 16))
            {
                functions.push((address, name.to_string()));
            }
        }
        let end = functions
            .last()
            .map(|(address, _)| address + 4096)
            .ok_or(format!("{program} has no symbols: it is stripped"))?;
        Ok(Symbols { functions, end })
    }

    /// The function that an address in the file belongs to.
    fn find(&self, address: u64) -> Option<usize> {
        if address >= self.end {
            return None;
        }
        self.functions.partition_point(|(start, _)| *start <= address).checked_sub(1)
    }

    /// The name of a function, and those of its variants for other processors.
    fn with_variants(&self, index: usize) -> Vec<&str> {
        let name = self.functions[index].1.as_str();
        let all = VARIANTS.iter().filter_map(|v| name.find(v));
        let Some(stem) = all.min().map(|at| &name[..at]) else { return vec![name] };
        let others = self.functions.iter().map(|(_, other)| other.as_str());
        let is_variant = |other: &&str| {
            other.strip_prefix(stem).is_some_and(|rest| VARIANTS.iter().any(|v| rest.starts_with(v)))
        };
        std::iter::once(name).chain(others.filter(|other| *other != name).filter(is_variant)).collect()
    }
}

/// Where the program lies in the memory of process `pid`; `None` when it runs another one. It is known by its inode: from a
/// detached mount it has no path.
fn base(pid: i32, inode: &str) -> Option<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let first = maps.lines().find(|line| line.split_ascii_whitespace().nth(4) == Some(inode))?;
    u64::from_str_radix(first.split('-').next()?, 16).ok()
}

/// Prints the names, one in a line, of what the verbs of `runtime` execute with both bundles, on the cgroups of this host.
pub fn print(workshop: &Workshop, runtime: &Peer) -> Result<(), String> {
    let symbols = Symbols::of(&runtime.path)?;
    let inode =
        std::fs::metadata(&runtime.path).map_err(|e| format!("{}: {e}", runtime.path))?.ino().to_string();
    let (mut seen, mut order) = (HashSet::new(), Vec::new());
    for kind in Kind::ALL {
        let mut stand = Stand::new(workshop, runtime, kind).map_err(|e| format!("making a bundle: {e}"))?;
        stand.open()?;
        let recorded = Verb::ALL.iter().try_for_each(|verb| {
            exact::with(&stand, *verb, &mut |words| record(words, &inode, &symbols, &mut seen, &mut order))
        });
        stand.close();
        recorded?;
    }
    let mut names = HashSet::new();
    for index in order {
        for name in symbols.with_variants(index) {
            if names.insert(name) {
                println!("{name}");
            }
        }
    }
    Ok(())
}

fn record(
    words: &[&str],
    inode: &str,
    symbols: &Symbols,
    seen: &mut HashSet<usize>,
    order: &mut Vec<usize>,
) -> Result<(), String> {
    // Per process; a new one has the memory of its parent until it executes another program.
    let mut bases: HashMap<i32, Option<u64>> = HashMap::new();
    let mut last = None;
    count::trace(words, libc::PTRACE_SINGLESTEP, 0, |pid, signal, event| {
        if event == libc::PTRACE_EVENT_EXEC {
            bases.remove(&pid);
        }
        if signal == libc::SIGTRAP
            && event == 0
            && let Some(base) = *bases.entry(pid).or_insert_with(|| base(pid, inode))
            && let Some(index) = symbols.find(sys::instruction_pointer(pid).wrapping_sub(base))
            && last != Some(index)
        {
            last = Some(index);
            if seen.insert(index) {
                order.push(index);
            }
        }
        true
    })
    .map(drop)
}

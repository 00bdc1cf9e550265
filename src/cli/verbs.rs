//! From the arguments of a verb to the verb, and from its result to text and exit code.

use std::io::Read;
use std::path::Path;

use super::args::{Events, List, Ps, Update, Verb};
use super::render::{json, print_json};
use super::{launch, print, render};
use crate::config::bundle::read_document;
use crate::config::parse;
use crate::config::resources::{Pids, Resources};
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::runtime::{
    Runtime, delete, doctor, events, features, kill, list, pause, ps, spec, start, state, update, wait,
};

/// Runs `verb` and returns the exit code.
///
/// # Errors
/// Those of the verb.
pub fn run(rt: &Runtime, verb: &Verb) -> Result<u8> {
    match verb {
        Verb::Create(args) => return launch::create(rt, args),
        Verb::Run(args) => return launch::run(rt, args),
        Verb::Exec(args) => return launch::exec(rt, args),
        Verb::Plan(args) => return launch::plan(rt, args),
        Verb::Checkpoint(args) => return launch::checkpoint(rt, args),
        Verb::Restore(args) => return launch::restore(rt, args),
        Verb::Start(args) => start::start(rt, &args.id)?,
        Verb::Kill(args) => kill::kill(rt, &args.id, args.signal, args.all)?,
        Verb::Delete(args) => delete::delete(rt, &args.id, args.force)?,
        Verb::State(args) => print_json(&state::state(rt, &args.id)?)?,
        Verb::List(args) => print_list(rt, args)?,
        Verb::Ps(args) => print_processes(rt, args)?,
        Verb::Events(args) => print_events(rt, args)?,
        Verb::Pause(args) => pause::pause(rt, &args.id)?,
        Verb::Resume(args) => pause::resume(rt, &args.id)?,
        Verb::Update(args) => {
            let new = resources(args)?;
            let schemata = update::schemata(args.l3_cache_schema.as_deref(), args.mem_bw_schema.as_deref())?;
            if !schemata.is_empty() {
                update::update_schemata(rt, &args.id, &schemata)?;
            }
            update::update(rt, &args.id, &new)?;
        }
        Verb::Wait(args) => match wait::wait(rt, &args.id)? {
            Some(code) => print(&format!("{code}\n"))?,
            None => log::warn(format!("the exit status of container {} is not known", args.id)),
        },
        Verb::Spec(args) => {
            spec::spec(args.bundle.as_deref().unwrap_or(Path::new(".")), rt.rootless == Some(true))?;
        }
        Verb::Doctor(_) => {
            let found = doctor::doctor();
            print(&render::findings(&found))?;
            return Ok(u8::from(found.iter().any(|f| f.verdict == doctor::Verdict::Broken)));
        }
        Verb::Features(_) => print_json(&features::features())?,
    }
    Ok(0)
}

fn print_list(rt: &Runtime, args: &List) -> Result<()> {
    let states = list::list(rt)?;
    match args.format.as_str() {
        _ if args.quiet => print(&states.iter().map(|s| format!("{}\n", s.id)).collect::<String>()),
        "json" => print(&(json(&states, serde_json::to_string)? + "\n")),
        _ => print(&render::table(&states)),
    }
}

fn print_processes(rt: &Runtime, args: &Ps) -> Result<()> {
    match args.format.as_str() {
        "json" => print(&(json(&ps::pids(rt, &args.id)?, serde_json::to_string)? + "\n")),
        _ => print(&ps::table(rt, &args.id, &args.options)?),
    }
}

fn print_events(rt: &Runtime, args: &Events) -> Result<()> {
    let line = |event: &events::Event<'_>| Ok::<_, Error>(json(event, serde_json::to_string)? + "\n");
    if args.stats {
        return print(&line(&events::stats(rt, &args.id)?)?);
    }
    events::follow(rt, &args.id, args.interval, |event| super::print_while_read(&line(event)?))
}

/// The limits that `update` is to set: those of a document, or else those of the flags.
fn resources(args: &Update) -> Result<Resources> {
    let Some(path) = &args.resources else { return Ok(flags(args)) };
    if path != Path::new("-") {
        return parse::json(&read_document(path, "resources")?, "resources");
    }
    /// A larger document is not about the resources of one container.
    const LIMIT: u64 = 1 << 20;
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(LIMIT + 1);
    input.read_to_end(&mut bytes).map_err(|e| Error::sys("reading resources from standard input", e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::new(
            Kind::Config,
            format!("the resources on standard input exceed {} MiB", LIMIT >> 20),
        ));
    }
    parse::json(&bytes, "resources")
}

fn flags(args: &Update) -> Resources {
    let mut r = Resources::default();
    r.block_io.weight = args.blkio_weight;
    r.cpu.shares = args.cpu_share;
    r.cpu.quota = args.cpu_quota;
    r.cpu.period = args.cpu_period;
    r.cpu.burst = args.cpu_burst;
    r.cpu.realtime_period = args.cpu_rt_period;
    r.cpu.realtime_runtime = args.cpu_rt_runtime;
    r.cpu.cpus = args.cpuset_cpus.clone().unwrap_or_default();
    r.cpu.mems = args.cpuset_mems.clone().unwrap_or_default();
    r.cpu.idle = args.cpu_idle;
    r.memory.limit = args.memory;
    r.memory.reservation = args.memory_reservation;
    r.memory.swap = args.memory_swap;
    r.pids = args.pids_limit.map(|limit| Pids { limit: Some(limit) });
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_not_given_change_nothing() {
        assert_eq!(flags(&Update::default()), Resources::default());
        let args = Update {
            memory: Some(5),
            pids_limit: Some(-1),
            cpuset_cpus: Some("0".into()),
            ..Update::default()
        };
        let r = flags(&args);
        assert_eq!((r.memory.limit, r.pids.unwrap().limit, r.cpu.cpus.as_str()), (Some(5), Some(-1), "0"));
    }
}

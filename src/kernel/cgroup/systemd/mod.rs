//! Asks systemd for the unit of a container (org.freedesktop.systemd1(5)): start, limits, processes, end.
//!
//! A connection lives from the first question to the start of the unit. None is kept while a container runs: it would
//! have to be read, because systemd reports every job on the host.

mod bus;
mod wire;

#[cfg(any(test, fuzzing))]
pub(crate) use wire::fuzz;

use crate::error::{Error, Kind, Result};
use crate::plan::cgroup::systemd::{Property, Unit, Value};
use crate::plan::facts::SystemdFacts;
use crate::sys::{self, cred, file};
use bus::{Address, Bus, Fault};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use wire::Writer;

/// Inode of the initial user namespace (PROC_USER_INIT_INO of the kernel).
const INITIAL_USER_NAMESPACE: u64 = 0xeffffffd;
/// How often a unit that is on its way out is waited for, 10 ms each.
const PATIENCE: u32 = 200;

thread_local! {
    static OPEN: RefCell<Option<Bus>> = const { RefCell::new(None) };
}

/// Looks at the systemd that is to make the cgroups.
///
/// # Errors
/// None runs, or it cannot be reached.
pub fn probe() -> Result<SystemdFacts> {
    let mut bus = connect()?;
    let manager = "org.freedesktop.systemd1.Manager";
    let asking = |f: Fault| f.error("asking systemd for its version");
    let text = bus.text(None, manager, "Version").map_err(asking)?;
    let control_group = bus.text(None, manager, "ControlGroup").map_err(asking)?;
    OPEN.set(Some(bus));
    Ok(SystemdFacts { version: version(&text), control_group })
}

/// 257 of `257.1-2` or `v257`.
fn version(text: &str) -> u32 {
    let digits: String = text.trim_start_matches('v').chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Whether this is not root of the host, so that the systemd of the user is asked.
pub fn is_user() -> bool {
    let initial =
        file::fstatat(sys::CWD, c"/proc/self/ns/user", 0).is_ok_and(|s| s.ino == INITIAL_USER_NAMESPACE);
    cred::geteuid() != 0 || !initial
}

/// Where systemd may be, the best first.
fn candidates(user: bool) -> Vec<Address> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if !user {
        let mut all = bus::addresses(&variable("DBUS_SYSTEM_BUS_ADDRESS"));
        all.push(Address::path("/run/dbus/system_bus_socket", false));
        all.push(Address::path("/run/systemd/private", true));
        return all;
    }
    let mut all = bus::addresses(&variable("DBUS_SESSION_BUS_ADDRESS"));
    let own = format!("/run/user/{}", host_uid());
    let dirs = [variable("XDG_RUNTIME_DIR"), own];
    let dirs: Vec<PathBuf> = dirs.iter().filter(|d| !d.is_empty()).map(PathBuf::from).collect();
    all.extend(dirs.iter().map(|d| Address::path(d.join("bus"), false)));
    all.extend(dirs.iter().map(|d| Address::path(d.join("systemd/private"), true)));
    all.dedup();
    all
}

/// The user ID on the host: root of a user namespace is another user outside.
fn host_uid() -> u32 {
    let uid = cred::geteuid();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outside = map.lines().find_map(|l| {
        let mut n = l.split_whitespace().map(|n| n.parse::<u32>().ok());
        let (inside, out, count) = (n.next()??, n.next()??, n.next()??);
        (uid >= inside && uid - inside < count).then(|| out + (uid - inside))
    });
    outside.unwrap_or(uid)
}

fn connect() -> Result<Bus> {
    if let Some(mut bus) = OPEN.take() {
        bus.renew();
        return Ok(bus);
    }
    // sd_booted(3)
    if !std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|m| m.is_dir()) {
        let what = "systemd not running on this host, cannot use systemd cgroups manager";
        return Err(Error::new(Kind::Unsupported, what)
            .hint("leave out --systemd-cgroup; orun then manages cgroups itself"));
    }
    let user = is_user();
    let mut told = Vec::new();
    for address in candidates(user) {
        match Bus::connect(&address) {
            Ok(bus) => return Ok(bus),
            Err(e) => told.push(e.to_string()),
        }
    }
    let hint = if user {
        "does \"systemd --user\" run for this user? \"loginctl enable-linger USER\" starts it, XDG_RUNTIME_DIR and \
         DBUS_SESSION_BUS_ADDRESS have its address"
    } else {
        "is dbus.service active, and /run not hidden?"
    };
    Err(Error::new(Kind::System, format!("cannot reach systemd: {}", told.join("; "))).hint(hint))
}

/// Calls `what` on a connection, and once more on a new one when systemd restarted meanwhile.
fn with_bus<T>(doing: &str, mut what: impl FnMut(&mut Bus) -> Result<T, Fault>) -> Result<T> {
    let first = what(&mut connect()?);
    let again = match first {
        Err(Fault::Lost(e)) if e.kind() != Kind::Timeout => what(&mut connect()?),
        r => r,
    };
    again.map_err(|f| f.error(doing))
}

fn properties(w: &mut Writer, list: &[Property], pid: Option<i32>) {
    w.array("(sv)", |w| {
        for p in list {
            w.structure();
            w.string(&p.name);
            w.variant(&p.value);
        }
        if let Some(pid) = pid {
            w.structure();
            w.string("PIDs");
            w.variant(&Value::Array("u".into(), vec![Value::U32(pid as u32)]));
        }
    });
}

/// Starts the unit, a scope around the process `pid`, and waits until it exists. `holders` counts the processes that are
/// in the cgroup of an existing unit of that name.
///
/// # Errors
/// systemd's reason; a unit of that name with processes; the deadline.
pub(super) fn start(unit: &Unit, pid: i32, holders: impl Fn() -> Result<usize>) -> Result<()> {
    let doing = format!("creating systemd unit `{}`", unit.name);
    let mut bus = connect()?;
    let fail = |f: Fault| explain(f, &unit.properties, &doing);
    bus.watch_jobs().map_err(fail)?;
    let mut w = Writer::default();
    w.string(&unit.name);
    w.string("replace");
    properties(&mut w, &unit.properties, unit.is_scope().then_some(pid));
    w.array("(sa(sv))", |_| {});
    let mut left = PATIENCE;
    let mut cleared = false;
    let job = loop {
        match bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", &w.0) {
            Ok(m) => break m.text(),
            Err(f) if f.is("UnitExists") && !unit.is_scope() => {
                // The slice may have another owner, and be for more than this container.
                return set_on(&mut bus, &unit.name, &changeable(&unit.properties)).map_err(fail);
            }
            Err(f) if f.is("UnitExists") && !cleared => {
                clear(&mut bus, &unit.name, &holders)?;
                cleared = true;
            }
            // It goes when systemd comes round to it.
            Err(f) if f.is("UnitExists") && left > 0 => {
                left -= 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(f) => return Err(fail(f)),
        }
    };
    let result = bus.job(&job).map_err(|e| e.context(doing.clone()));
    match result {
        Ok(r) if r == "done" => Ok(()),
        other => {
            reset_failed(&mut bus, &unit.name);
            let result = other?;
            let what = format!("error creating systemd unit `{}`: got `{result}`", unit.name);
            Err(Error::new(Kind::System, what).hint(format!(
                "\"systemctl status {0}\" and \"journalctl -u {0}\" show the details",
                unit.name
            )))
        }
    }
}

/// The properties that can still be set of an existing unit.
fn changeable(list: &[Property]) -> Vec<Property> {
    let fixed = ["Wants", "DefaultDependencies", "Description"];
    list.iter().filter(|p| !fixed.contains(&p.name.as_str())).cloned().collect()
}

/// An error with the property of config.json that it is about.
fn explain(f: Fault, list: &[Property], doing: &str) -> Error {
    let Fault::Answer { text, .. } = &f else { return f.error(doing) };
    let about = list.iter().find(|p| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w == p.name));
    let because = about.map(|p| p.because.clone()).filter(|b| !b.is_empty());
    let denied = f.is("InteractiveAuthorizationRequired") || f.is("AccessDenied");
    let mut e = f.error(doing);
    if let Some(b) = because {
        e = e.property(b);
    }
    if denied { e.hint("only root may make units of the host's systemd") } else { e }
}

/// Makes way for a unit: one that has failed is forgotten, one without processes is stopped.
fn clear(bus: &mut Bus, name: &str, holders: impl Fn() -> Result<usize>) -> Result<()> {
    let doing = format!("inspecting the existing systemd unit `{name}`");
    let mut w = Writer::default();
    w.string(name);
    let unit = bus.call("LoadUnit", "s", &w.0).map_err(|f| f.error(&doing))?.text();
    let state =
        bus.text(Some(&unit), "org.freedesktop.systemd1.Unit", "ActiveState").map_err(|f| f.error(&doing))?;
    if matches!(state.as_str(), "active" | "activating" | "reloading") {
        let n = holders()?;
        if n > 0 {
            let what = format!("container's cgroup is not empty: {n} process(es) found");
            return Err(Error::new(Kind::State, what)
                .property("linux.cgroupsPath of config.json")
                .hint(format!("systemd unit {name:?} belongs to another container or was left by one")));
        }
        stop_on(bus, name).map_err(|f| f.error(&doing))?;
    }
    reset_failed(bus, name);
    Ok(())
}

/// Forgets a failure; a unit without one, or none at all, is fine.
fn reset_failed(bus: &mut Bus, name: &str) {
    let mut w = Writer::default();
    w.string(name);
    let _ = bus.call("ResetFailedUnit", "s", &w.0);
}

fn stop_on(bus: &mut Bus, name: &str) -> Result<(), Fault> {
    bus.watch_jobs()?;
    let mut w = Writer::default();
    w.string(name);
    w.string("replace");
    match bus.call("StopUnit", "ss", &w.0) {
        Ok(m) => bus.job(&m.text()).map(drop).map_err(Fault::Lost),
        Err(f) if f.is("NoSuchUnit") => Ok(()),
        Err(f) => Err(f),
    }
}

/// Ends the unit, whose processes are gone, and makes systemd forget it.
///
/// # Errors
/// systemd cannot be reached, or does not stop it in time.
pub(super) fn end(name: &str) -> Result<()> {
    with_bus(&format!("removing systemd unit `{name}`"), |bus| {
        stop_on(bus, name)?;
        reset_failed(bus, name);
        Ok(())
    })
}

fn set_on(bus: &mut Bus, name: &str, list: &[Property]) -> Result<(), Fault> {
    let mut w = Writer::default();
    w.string(name);
    // Until the unit ends, not forever. A boolean is a number of 32 bits.
    w.value(&Value::Bool(true));
    properties(&mut w, list, None);
    bus.call("SetUnitProperties", "sba(sv)", &w.0).map(drop)
}

/// Sets properties of a unit.
///
/// # Errors
/// systemd's reason, with the property of config.json or of the update.
pub(super) fn set(name: &str, list: &[Property]) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let doing = format!("setting properties of systemd unit `{name}`");
    let mut answer = None;
    let done = with_bus(&doing, |bus| match set_on(bus, name, list) {
        Err(f @ Fault::Answer { .. }) => {
            answer = Some(f);
            Ok(())
        }
        r => r,
    });
    match answer {
        Some(f) => Err(explain(f, list, &doing)),
        None => done,
    }
}

/// Has systemd move process `pid` into the unit's cgroup, or into the cgroup `sub` below it: for users, whose processes
/// are in cgroups that they may not take them out of.
///
/// # Errors
/// systemd's reason.
pub(super) fn attach(name: &str, sub: &str, pid: i32) -> Result<()> {
    let mut w = Writer::default();
    w.string(name);
    w.string(&if sub.is_empty() { String::new() } else { format!("/{sub}") });
    w.value(&Value::Array("u".into(), vec![Value::U32(pid as u32)]));
    with_bus(&format!("adding pid {pid} to systemd unit `{name}`"), |bus| {
        bus.call("AttachProcessesToUnit", "ssau", &w.0).map(drop)
    })
}

/// The finding of `doctor`: the version, or the reason why systemd cannot manage cgroups.
///
/// # Errors
/// As [`probe`].
pub fn running() -> Result<u32> {
    let found = probe().map(|f| f.version);
    OPEN.set(None);
    found
}

/// Whether the host was booted with systemd (sd_booted(3)).
pub fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

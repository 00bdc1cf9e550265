//! Networks of Compose files, on the real kernel: services reach, and resolve the names of, those that share a network with them.

use crate::client::{ok, write};
use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::names::look_up;
use crate::network::{BUSYBOX, Outside, get, has_tools, links, tables, within};
use std::net::Ipv4Addr;

/// A front, a back, an application in both, another project's client of an external network, and a service that names none.
fn projects(d: &Daemon) {
    let script = format!("echo $$SELF > /index.html; exec {BUSYBOX} httpd -f -p 8080 -h /");
    let service = |name: &str, more: &str| {
        format!(
            "  {name}:\n    image: bundle:./bundle\n    entrypoint: [sh, -c]\n    command: ['{script}']\n    \
             environment: {{SELF: {name}}}\n    stop_grace_period: 0s\n{more}"
        )
    };
    let networks = |list: &str| format!("    networks: {list}\n");
    let text = [
        "name: shop\nservices:\n".to_owned(),
        service("page", &networks("[front, meeting]")),
        service("app", &networks("{front: {aliases: [shop-app]}, back: {aliases: [hidden]}}")),
        service("db", &networks("[back]")),
        service("plain", ""),
        "networks: {front: , back: {internal: true}, meeting: {external: true}}\n".to_owned(),
    ];
    write(d, "compose.yaml", &text.concat());
    let guest = ["name: other\nservices:\n".to_owned(), service("guest", &networks("[meeting]"))];
    let guest = guest.concat() + "networks: {meeting: {external: true}}\n";
    write(d, "other.yaml", &guest);
    ok(d, "apply -f compose.yaml --wait --timeout 120");
    ok(d, "apply -f other.yaml --wait --timeout 120");
}

/// The process of the only replica of a service, and its address.
fn pod(d: &Daemon, name: &str) -> (i32, Ipv4Addr) {
    let object = d.wait_running(&format!("{name}-0"));
    let pid = object["containers"][0]["pid"].as_i64().unwrap() as i32;
    (pid, object["podIP"].as_str().unwrap_or_else(|| panic!("{object:#}")).parse().unwrap())
}

/// Who reaches whom, and who knows whose name.
fn check(d: &Daemon) {
    let names = ["page", "app", "db", "plain", "guest"];
    let together = [("page", "app"), ("app", "db"), ("page", "guest")];
    let pods = names.map(|name| (name, pod(d, name)));
    for (from, (pid, _)) in &pods {
        for (to, (_, address)) in &pods {
            let share = from == to || together.contains(&(from, to)) || together.contains(&(to, from));
            let known = look_up(*pid, to).is_some_and(|(_, found)| found.contains(address));
            assert_eq!(known, share, "{from} resolves {to}");
            let target = format!("{address}:8080");
            if share {
                wait_for("the page", || get(*pid, &target).filter(|page| page == to));
                continue;
            }
            // Nothing comes back, by whatever way.
            let (reached, text) = within(*pid, &format!("{BUSYBOX} ping -c 1 -W 1 {address}"));
            assert!(!reached, "{from} reaches {to}: {text}");
        }
    }
}

#[test]
fn services_reach_and_resolve_those_that_share_a_network_with_them() {
    if !can_run() || !has_tools() {
        return;
    }
    let host = Outside::start();
    let mut d = Daemon::prepare("apart", &["--network", "bridge"]);
    d.wrapper = ["nsenter", "-n", "-t", &host.pid().to_string()].map(str::to_owned).to_vec();
    d.start_again();
    within(host.pid(), "echo 1 > /proc/sys/net/ipv4/ip_forward");
    projects(&d);
    check(&d);
    let [(page, _), (app, _), (db, at_db)] = ["page", "app", "db"].map(|name| pod(&d, name));
    let knows = |pid: i32, name: &str| look_up(pid, name).is_some_and(|(_, found)| !found.is_empty());
    assert!(knows(page, "shop-app") && !knows(page, "hidden"), "an alias is one network's");
    assert!(knows(db, "hidden") && !knows(db, "shop-app"));
    let (_, routes) = within(db, "ip route");
    assert!(!routes.contains("default"), "internal: {routes}");
    // Neither the host as a way round nor the address of another makes a difference.
    let way_round = format!("ip route add {at_db}/32 via 10.89.0.1 && {BUSYBOX} ping -c 1 -W 1 {at_db}");
    assert!(!within(page, &way_round).0, "through the host");
    let (_, at_app) = pod(&d, "app");
    let forged = format!("ip addr add {at_app}/32 dev eth0 && {BUSYBOX} ping -I {at_app} -c 1 -W 1 {at_db}");
    assert!(!within(page, &forged).0, "with the address of a pod in both networks");
    assert!(within(app, &format!("{BUSYBOX} ping -c 1 -W 5 {at_db}")).0);
    // The host and its own programs reach everybody.
    assert!(get(host.pid(), &format!("{at_db}:8080")).is_some());
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the supervisor to come back", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    within(page, &format!("ip addr del {at_app}/32 dev eth0"));
    check(&d);
    for name in ["page", "app", "db", "guest"] {
        d.delete(name, Some(0));
    }
    wait_for("the table of networks to go", || (tables(host.pid()) == ["orund_orun0"]).then_some(()));
    d.delete("plain", Some(0));
    wait_for("all interfaces to go", || (links(host.pid()).len() == 1).then_some(()));
    assert_eq!(tables(host.pid()), [""; 0]);
    d.stop();
}

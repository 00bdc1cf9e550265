//! Names in pods, on the real kernel, in network and mount namespaces of the test's own: Services and their pods, and what the
//! resolver of the host answers.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, kill, wait_for};
use crate::network::{apply, get, has_tools, in_network, within};
use crate::ports::{Clients, apply_with_grace, draining, proxy, server};
use serde_json::{Value, json};
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, Question, RCODE, ResourceRecord, TYPE};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

const RESOLVER: &str = "127.0.0.11:53";

/// A supervisor whose host has only its loopback interface, and `text` as its /etc/resolv.conf.
pub fn start(test: &str, text: &str) -> Daemon {
    let mut d = Daemon::prepare(test, &["--network", "bridge"]);
    let file = d.dir.join("resolv.conf");
    fs::write(&file, text).unwrap();
    let script =
        format!("ip link set lo up && mount --bind {} /etc/resolv.conf && exec \"$@\"", file.display());
    d.wrapper = ["unshare", "-n", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    d.start_again();
    d
}

fn sleeper(d: &Daemon) -> Value {
    json!({"containers": [{"name": "main", "bundle": d.dir.join("bundle"), "command": ["sleep", "1000"]}]})
}

fn pod(d: &Daemon, replica: &str) -> (i32, Ipv4Addr) {
    let object = d.wait_running(replica);
    let pid = object["containers"][0]["pid"].as_i64().unwrap() as i32;
    (pid, object["podIP"].as_str().unwrap_or_else(|| panic!("{object:#}")).parse().unwrap())
}

fn query(name: &str) -> Vec<u8> {
    let mut packet = Packet::new_query(0x1234);
    packet.questions.push(Question::new(Name::new(name).unwrap(), TYPE::A.into(), CLASS::IN.into(), false));
    packet.set_flags(simple_dns::PacketFlag::RECURSION_DESIRED);
    packet.build_bytes_vec().unwrap()
}

/// The code and the addresses of an answer.
fn read(answer: &[u8]) -> (RCODE, BTreeSet<Ipv4Addr>) {
    let packet = Packet::parse(answer).unwrap();
    assert_eq!(packet.id(), 0x1234);
    let address = |r: &ResourceRecord<'_>| match &r.rdata {
        RData::A(a) => Some(Ipv4Addr::from(a.clone())),
        _ => None,
    };
    (packet.rcode(), packet.answers.iter().filter_map(address).collect())
}

/// What the pod of process `pid` finds out about `name`; None without an answer.
pub fn look_up(pid: i32, name: &str) -> Option<(RCODE, BTreeSet<Ipv4Addr>)> {
    let query = query(name);
    in_network(pid, move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(RESOLVER).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send(&query).ok()?;
        let mut buffer = [0; 1500];
        let n = socket.recv(&mut buffer).ok()?;
        Some(read(&buffer[..n]))
    })
}

fn found(addresses: &[Ipv4Addr]) -> Option<(RCODE, BTreeSet<Ipv4Addr>)> {
    Some((RCODE::NoError, addresses.iter().copied().collect()))
}

/// The resolver of the host, at `address`: it knows `example.org`, and others send forged answers before its own.
fn host_resolver(d: &Daemon, address: &'static str, knows: Ipv4Addr) {
    let socket = in_network(d.main(), move || UdpSocket::bind(address).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((n, client)) = socket.recv_from(&mut buffer) {
            let asked = Packet::parse(&buffer[..n]).unwrap();
            let name = asked.questions[0].qname.clone();
            if name.to_string() == "end" {
                break;
            }
            let answer = |id: u16, address: Ipv4Addr| {
                let mut reply = Packet::new_reply(id);
                reply.questions.clone_from(&asked.questions);
                match name.to_string().as_str() {
                    "example.org" => {
                        let data = RData::A(A::from(address));
                        reply.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 60, data));
                    }
                    _ => *reply.rcode_mut() = RCODE::NameError,
                }
                reply.build_bytes_vec().unwrap()
            };
            socket.send_to(&answer(asked.id().wrapping_add(1), Ipv4Addr::new(6, 6, 6, 6)), client).unwrap();
            socket.send_to(&answer(asked.id(), knows), client).unwrap();
        }
    });
}

#[test]
fn pods_resolve_services_and_ask_the_host_for_everything_else() {
    if !can_run() || !has_tools() {
        return;
    }
    let mut d = start("names", "search example.com\nnameserver 127.0.0.1\n");
    let known = Ipv4Addr::new(192, 0, 2, 7);
    host_resolver(&d, "127.0.0.1:53", known);
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web, annotations: {orun.dev/aliases: 'www, my_web.local'}}\n\
                spec: {clusterIP: None, selector: {app: web}}\n";
    fs::write(d.dir.join("service.yaml"), text).unwrap();
    ok(&d, "apply -f service.yaml");
    apply(&d, "web", 2, sleeper(&d));
    apply(&d, "client", 1, sleeper(&d));
    let [(in_a, a), (_, b)] = ["web-0", "web-1"].map(|replica| pod(&d, replica));
    let (client, _) = pod(&d, "client-0");
    wait_for("both pods", || (look_up(client, "web") == found(&[a, b])).then_some(()));
    for name in ["web.default", "WEB.default.svc.cluster.local", "www", "my_web.local"] {
        assert_eq!(look_up(client, name), found(&[a, b]), "{name}");
    }
    assert_eq!(look_up(client, "web-1.web"), found(&[b]));
    assert_eq!(look_up(client, "gone.default.svc.cluster.local"), Some((RCODE::NameError, BTreeSet::new())));
    let file = ok(&d, "exec client-0 -- cat /etc/resolv.conf");
    assert!(file.contains("nameserver 127.0.0.11") && file.contains("cluster.local example.com"), "{file}");
    // By TCP, two questions in one connection.
    let two = [query("web"), query("web-0.web")];
    let answers = in_network(client, move || {
        let mut stream = TcpStream::connect(RESOLVER).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        two.map(|query| {
            stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat()).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer).unwrap();
            read(&answer)
        })
    });
    assert_eq!(answers.map(Some), [found(&[a, b]), found(&[a])]);
    // What is not ours comes from the host's resolver, which may be another one later.
    assert_eq!(look_up(client, "example.org"), found(&[known]), "{}", d.output());
    assert_eq!(look_up(client, "example.net").unwrap().0, RCODE::NameError);
    let other = Ipv4Addr::new(192, 0, 2, 8);
    host_resolver(&d, "127.0.0.2:53", other);
    fs::write(d.dir.join("resolv.conf"), "nameserver 127.0.0.2\n").unwrap();
    wait_for("the other resolver", || (look_up(client, "example.org") == found(&[other])).then_some(()));
    // The sockets outlive the proxy and the supervisor: a question waits for an answer.
    let old = proxy(&d).unwrap();
    kill(old, libc::SIGKILL);
    assert_eq!(look_up(client, "web"), found(&[a, b]));
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    assert_eq!(look_up(client, "web"), found(&[a, b]));
    wait_for("the supervisor", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    assert_eq!(look_up(client, "web-1.web"), found(&[b]));
    ok(&d, "scale web=1 --wait --timeout 60");
    assert_eq!(look_up(client, "web"), found(&[a]));
    // Names of nobody, and rubbish, disturb nobody.
    in_network(client, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(RESOLVER).unwrap();
        for n in 0..2000_u32 {
            let bytes: Vec<u8> =
                (0..n % 80).map(|i| (n.wrapping_mul(2_654_435_761) >> (i % 24)) as u8).collect();
            let _ = socket.send(&bytes);
        }
    });
    assert_eq!(look_up(in_a, "web"), found(&[a]));
    // Its own questions may have been lost among all these.
    wait_for("an answer", || (look_up(client, "web") == found(&[a])).then_some(()));
    for address in ["127.0.0.1:53", "127.0.0.2:53"] {
        in_network(d.main(), move || {
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&query("end"), address).unwrap()
        });
    }
    d.delete("web", None);
    d.delete("client", None);
    wait_for("the proxy to end", || proxy(&d).is_none().then_some(()));
    let links = || within(d.main(), "ip -o link").1.lines().count();
    wait_for("all interfaces to go", || (links() == 1).then_some(()));
    d.stop();
}

#[test]
fn a_service_has_an_address_at_which_no_request_is_lost() {
    if !can_run() || !has_tools() {
        return;
    }
    let mut d = start("cluster-ip", "nameserver 127.0.0.1\n");
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: front}\n\
                spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}\n";
    fs::write(d.dir.join("service.yaml"), text).unwrap();
    ok(&d, "apply -f service.yaml");
    apply(&d, "client", 1, sleeper(&d));
    let (client, _) = pod(&d, "client-0");
    let (code, addresses) = look_up(client, "front").unwrap();
    let address = addresses.first().copied().unwrap_or_else(|| panic!("{code:?} {}", d.output()));
    assert_eq!((addresses.len(), address.octets()[2] / 32), (1, 7), "{address}");
    let http = json!([{"containerPort": 8080, "name": "http"}]);
    let page = |n: u32| draining(server(&d, &format!("page-{n}"), http.clone()));
    apply_with_grace(&d, "web", 2, page(0));
    let target = format!("{address}:80");
    wait_for("the page", || get(client, &target));
    assert!(get(d.main(), &target).is_some(), "the host reaches it as well");
    let clients = Clients::start(4, client, &target);
    for n in 1..=2 {
        apply_with_grace(&d, "web", 2, page(n));
        ok(&d, "rollout status web --timeout 120");
    }
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the supervisor", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    clients.wait(50);
    let (asked, lost) = clients.end();
    assert!(lost.is_empty(), "{} of {asked} lost: {:?}\n{}", lost.len(), lost.first(), d.output());
    assert_eq!(look_up(client, "front"), found(&[address]), "it stays the same");
    // A port of the host with the same number, of somebody else.
    apply(&d, "edge", 1, server(&d, "edge", json!([{"containerPort": 8080, "hostPort": 80}])));
    wait_for("the edge", || get(d.main(), "127.0.0.1:80").filter(|page| page == "edge"));
    assert_eq!(get(client, &target).as_deref(), Some("page-2"), "{}", d.output());
    assert_eq!(look_up(client, "front"), found(&[address]));
    // And the other way round: the service comes second.
    fs::write(d.dir.join("second.yaml"), text.replace("front", "second")).unwrap();
    ok(&d, "apply -f second.yaml");
    let second = wait_for("its address", || look_up(client, "second")?.1.first().copied());
    let second = format!("{second}:80");
    wait_for("the page", || get(client, &second).filter(|page| page == "page-2"));
    let shown = ok(&d, "get services");
    let row = shown.lines().find(|l| l.starts_with("front ")).unwrap();
    assert!(row.contains(&format!("{address} ")) && row.contains(":8080"), "{shown}");
    assert!(ok(&d, "describe service second").contains(&second[..second.len() - 3]));
    assert_eq!(ok(&d, "port"), "workload/edge 8080/tcp -> 0.0.0.0:80\n");
    assert_eq!(ok(&d, "port edge 8080"), "0.0.0.0:80\n");
    let metrics = wait_for("the counts", || {
        let text = d.text("/metrics");
        let line =
            text.lines().find(|l| l.starts_with("orun_port_connections_total") && l.contains("edge"))?;
        (!line.ends_with(" 0")).then(|| line.to_owned())
    });
    assert!(metrics.contains("address=\"*\",port=\"80\",workload=\"edge\""), "{metrics}");
    d.delete("edge", None);
    d.delete("web", None);
    d.delete("client", None);
    d.stop();
}

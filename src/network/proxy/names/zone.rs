//! The names that are known, and answers from them. Pure.

use crate::network::proxy::{MapName, MapPod};
use crate::workload::annotations::DEFAULT_NETWORK;
use simple_dns::rdata::{A, OPT, PTR, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

/// Default and maximum size of a UDP answer (the maximum is that of the DNS flag day of 2020).
pub const UDP_SHORTEST: usize = 512;
const UDP_LONGEST: usize = 1232;
/// How long an answer may be remembered, in seconds.
const TTL: u32 = 1;
/// Bytes of a header.
const HEADER: usize = 12;
/// The domain of Services, and the namespace that all objects of this host are in.
const DOMAIN: &str = "cluster.local";
const NAMESPACE: &str = "default";

/// The answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing: it cannot be answered.
    None,
    Known(Vec<u8>),
    /// The answer of another resolver.
    Ask,
}

/// All names.
#[derive(Default)]
pub struct Zone {
    /// Those of Services and of pods behind them, without a domain: `web`, `web-0.web`.
    services: HashMap<String, Known>,
    /// Names that stand for themselves.
    aliases: HashMap<String, Vec<Alias>>,
    /// Of each Compose project the names and aliases of its Services: two projects may both have a `db`.
    projects: HashMap<String, HashMap<String, Vec<Alias>>>,
    pods: HashMap<Ipv4Addr, (String, Networks)>,
    turn: Cell<usize>,
}

/// Names of networks; none: the default one alone.
type Networks = Rc<[String]>;

/// Records of a name.
#[derive(Default)]
struct Known {
    /// One of its own. None: those of the pods.
    address: Option<Ipv4Addr>,
    pods: Vec<(Ipv4Addr, Networks)>,
}

/// Another name of a Service, for pods in a network or for all.
struct Alias {
    network: Option<String>,
    service: String,
}

impl Known {
    /// The addresses that a pod in `networks` gets; None: it shares no network with the pods, and knows no such name.
    fn addresses(&self, networks: &[String]) -> Option<Vec<Ipv4Addr>> {
        let reached = self.pods.iter().filter(|(_, own)| share(own, networks));
        let reached: Vec<Ipv4Addr> = reached.map(|(address, _)| *address).collect();
        match self.address {
            _ if reached.is_empty() && !self.pods.is_empty() => None,
            Some(address) => Some(vec![address]),
            None => Some(reached),
        }
    }
}

/// Whether two pods share a network.
fn share(one: &[String], other: &[String]) -> bool {
    let in_default =
        |networks: &[String]| networks.is_empty() || networks.iter().any(|n| n == DEFAULT_NETWORK);
    one.iter().any(|name| other.contains(name)) || (in_default(one) && in_default(other))
}

impl Zone {
    pub fn new(names: &[MapName]) -> Zone {
        let mut zone = Zone::default();
        for name in names {
            let service = name.service.to_lowercase();
            let mut known = Known { address: name.address, pods: Vec::new() };
            for MapPod { host, address, networks } in &name.pods {
                let networks: Networks = networks.clone().into();
                let pod = format!("{}.{service}", host.to_lowercase());
                let full = || (format!("{pod}.{NAMESPACE}.svc.{DOMAIN}"), Rc::clone(&networks));
                zone.pods.entry(*address).or_insert_with(full);
                known.pods.push((*address, Rc::clone(&networks)));
                zone.services.entry(pod).or_default().pods.push((*address, networks));
            }
            let mut aliases = Vec::new();
            for alias in &name.aliases {
                let (alias, network) = match alias.split_once('@') {
                    Some((alias, network)) => (alias, Some(network.to_owned())),
                    None => (alias.as_str(), None),
                };
                aliases.push((alias.to_lowercase(), network));
            }
            let of = |network: &Option<String>| Alias { network: network.clone(), service: service.clone() };
            if let Some(project) = &name.project {
                let own = zone.projects.entry(project.clone()).or_default();
                own.entry(service.clone()).or_default().push(of(&None));
                for (alias, network) in &aliases {
                    own.entry(alias.clone()).or_default().push(of(network));
                }
            }
            for (alias, network) in aliases {
                zone.aliases.entry(alias).or_default().push(of(&network));
            }
            zone.services.insert(service, known);
        }
        zone
    }

    /// The addresses of a name, in lower case; None: a pod in `networks` and of `project` knows no such name of ours.
    fn find(&self, name: &str, networks: &[String], project: Option<&str>) -> Option<Vec<Ipv4Addr>> {
        let own = project.and_then(|p| self.projects.get(p)?.get(name));
        own.and_then(|list| self.of_aliases(list, networks)).or_else(|| self.find_of_all(name, networks))
    }

    /// The addresses of the Services that a pod in `networks` knows by one of these names.
    fn of_aliases(&self, list: &[Alias], networks: &[String]) -> Option<Vec<Ipv4Addr>> {
        let asker = |a: &&Alias| a.network.as_ref().is_none_or(|n| share(std::slice::from_ref(n), networks));
        let of_service = |a: &Alias| self.services.get(&a.service)?.addresses(networks);
        let found: Vec<Vec<Ipv4Addr>> = list.iter().filter(asker).filter_map(of_service).collect();
        (!found.is_empty()).then(|| found.concat())
    }

    fn find_of_all(&self, name: &str, networks: &[String]) -> Option<Vec<Ipv4Addr>> {
        let inside = name.strip_suffix(&format!(".{DOMAIN}")).unwrap_or(name);
        // The namespace may be any: objects keep none.
        let of_namespace = inside.strip_suffix(".svc").and_then(|rest| Some(rest.rsplit_once('.')?.0));
        let short = name.strip_suffix(&format!(".{NAMESPACE}")).unwrap_or(name);
        let of_service = |name: &str| self.services.get(name)?.addresses(networks);
        let service = of_service(of_namespace.unwrap_or(short));
        service.or_else(|| self.of_aliases(self.aliases.get(name)?, networks))
    }

    /// The answer to `query` of a pod in `networks` and of `project`, of `longest` bytes at most unless the client takes more.
    pub fn answer(&self, query: &[u8], longest: usize, networks: &[String], project: Option<&str>) -> Reply {
        // A message without a header, or an answer: answering it could loop forever.
        if query.len() < HEADER || query[2] & 0x80 != 0 {
            return Reply::None;
        }
        let Ok(packet) = Packet::parse(query) else {
            return Reply::Known(bare(query, RCODE::FormatError));
        };
        if packet.opcode() != OPCODE::StandardQuery {
            return Reply::Known(bare(query, RCODE::NotImplemented));
        }
        let [asked] = &packet.questions[..] else {
            return Reply::Known(bare(query, RCODE::FormatError));
        };
        // A name in the question that is compressed has no name before it to refer to.
        if question(query).is_none() {
            return Reply::Known(bare(query, RCODE::FormatError));
        }
        let Some(name) = text(&asked.qname).filter(|_| asked.qclass == QCLASS::CLASS(CLASS::IN)) else {
            return Reply::Ask;
        };
        let known = self.find(&name, networks, project);
        let reverse = reverse(&name).and_then(|address| self.pods.get(&address));
        let reverse = reverse.filter(|(_, own)| share(own, networks)).map(|(name, _)| name);
        let ours = known.is_some() || reverse.is_some();
        let inside = |domain: &str| name == domain || name.ends_with(&format!(".{domain}"));
        if !ours && !inside(DOMAIN) && !inside("svc") {
            return Reply::Ask;
        }
        let mut answers = Vec::new();
        if matches!(asked.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY) {
            answers.extend(self.in_turn(known).into_iter().map(|a| RData::A(A::from(a))));
        }
        if matches!(asked.qtype, QTYPE::TYPE(TYPE::PTR) | QTYPE::ANY) {
            let target = reverse.and_then(|name| Name::new(name).ok());
            answers.extend(target.map(|name| RData::PTR(PTR(name))));
        }
        let code = if ours { RCODE::NoError } else { RCODE::NameError };
        let most = packet
            .opt()
            .map_or(longest, |opt| longest.max(usize::from(opt.udp_packet_size).min(UDP_LONGEST)));
        Reply::Known(build(&packet, answers, code, most).unwrap_or_else(|| failure(query)))
    }

    /// Each time another one is the first.
    fn in_turn(&self, addresses: Option<Vec<Ipv4Addr>>) -> Vec<Ipv4Addr> {
        let mut addresses = addresses.unwrap_or_default();
        if !addresses.is_empty() {
            let turn = self.turn.get();
            self.turn.set(turn.wrapping_add(1));
            let count = addresses.len();
            addresses.rotate_left(turn % count);
        }
        addresses
    }
}

fn build(query: &Packet<'_>, answers: Vec<RData<'_>>, code: RCODE, most: usize) -> Option<Vec<u8>> {
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    *reply.rcode_mut() = code;
    reply.questions.clone_from(&query.questions);
    let name = &query.questions.first()?.qname;
    let record = |data| ResourceRecord::new(name.clone(), CLASS::IN, TTL, data);
    reply.answers = answers.into_iter().map(record).collect();
    if query.opt().is_some() {
        let opt = OPT { opt_codes: Vec::new(), udp_packet_size: UDP_LONGEST as u16, version: 0 };
        *reply.opt_mut() = Some(opt);
    }
    let whole = reply.build_bytes_vec_compressed().ok()?;
    if whole.len() <= most {
        return Some(whole);
    }
    // The client asks again by TCP.
    reply.answers.clear();
    reply.set_flags(PacketFlag::TRUNCATION);
    reply.build_bytes_vec_compressed().ok()
}

/// A name as text, in lower case; None: one that is not made of letters, digits, `-` and `_`.
fn text(name: &Name<'_>) -> Option<String> {
    let mut text = String::new();
    for label in name.as_bytes() {
        let plain = label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !plain || label.is_empty() {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    Some(text)
}

/// The address that a name of in-addr.arpa stands for.
fn reverse(name: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = name.strip_suffix(".in-addr.arpa")?.parse().ok()?;
    let [a, b, c, d] = address.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}

/// The bytes of the question of a message, which is not compressed: its name, type and class.
pub fn question(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        match usize::from(*message.get(at)?) {
            0 => break,
            length @ 1..=63 => at += 1 + length,
            _ => return None,
        }
    }
    message.get(HEADER..at + 5)
}

pub fn set_id(message: &mut [u8], id: u16) {
    message[..2].copy_from_slice(&id.to_be_bytes());
}

/// The answer to a question that cannot be answered now.
pub fn failure(query: &[u8]) -> Vec<u8> {
    bare(query, RCODE::ServerFailure)
}

/// An answer without more than the question.
fn bare(query: &[u8], code: RCODE) -> Vec<u8> {
    let asked = question(query).unwrap_or_default();
    let mut reply = vec![0; HEADER];
    reply[..2].copy_from_slice(&query[..2]);
    // An answer, with the operation and the wish for recursion of the question; recursion is available.
    reply[2] = 0x80 | query[2] & 0x79;
    reply[3] = 0x80 | (code as u8 & 0x0f);
    reply[5] = u8::from(!asked.is_empty());
    reply.extend(asked);
    reply
}

#[cfg(any(test, fuzzing))]
fn pod(host: &str, address: Ipv4Addr, networks: &[&str]) -> MapPod {
    MapPod { host: host.to_owned(), address, networks: networks.iter().map(|n| (*n).to_owned()).collect() }
}

/// A question of a pod, and the answer of another resolver.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    let pods = (0..3).map(|n| pod(&format!("web-{n}"), Ipv4Addr::new(10, 89, 0, n + 2), &[])).collect();
    let zone = Zone::new(&[MapName {
        service: "web".into(),
        aliases: vec!["www".into()],
        project: None,
        address: None,
        pods,
    }]);
    for longest in [UDP_SHORTEST, usize::from(u16::MAX)] {
        if let Reply::Known(reply) = zone.answer(data, longest, &[], Some("shop")) {
            // An answer, to this question.
            assert!(
                reply.len() <= longest.max(UDP_LONGEST) && reply[..2] == data[..2] && reply[2] & 0x80 != 0
            );
        }
    }
    if data.len() >= HEADER {
        let reply = failure(data);
        assert!(reply.len() <= data.len() && reply[..2] == data[..2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::Question;

    fn zone() -> Zone {
        let web_pod = |n: u8| pod(&format!("web-{n}"), Ipv4Addr::new(10, 89, 0, n + 2), &[]);
        let web = MapName {
            service: "web".into(),
            aliases: vec!["www".into(), "my_web.local".into()],
            project: None,
            address: None,
            pods: (0..3).map(web_pod).collect(),
        };
        let many = MapName {
            service: "many".into(),
            aliases: Vec::new(),
            project: None,
            address: None,
            pods: (0..=255).map(|n| pod(&format!("p{n}"), Ipv4Addr::new(10, 90, 0, n), &[])).collect(),
        };
        let address = Some(Ipv4Addr::new(10, 89, 224, 1));
        let fixed = MapName { service: "fixed".into(), address, ..web.clone() };
        let fixed = MapName { aliases: Vec::new(), ..fixed };
        let none = MapName { service: "none".into(), address: None, pods: Vec::new(), ..fixed.clone() };
        let db = MapName {
            service: "db".into(),
            aliases: vec!["store@back".into(), "sql".into()],
            project: None,
            address: None,
            pods: vec![pod("db-0", Ipv4Addr::new(10, 89, 1, 1), &["back", "store"])],
        };
        // A second project that has a web, too.
        let other = MapName {
            service: "shop-web".into(),
            aliases: vec!["web".into(), "www".into()],
            project: Some("shop".into()),
            address: Some(Ipv4Addr::new(10, 89, 224, 2)),
            pods: vec![pod("shop-web-0", Ipv4Addr::new(10, 91, 0, 1), &[])],
        };
        Zone::new(&[web, many, fixed, none, db, other])
    }

    fn query(name: &str, qtype: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        let name = Name::new(name).unwrap();
        packet.questions.push(Question::new(name, qtype.into(), CLASS::IN.into(), false));
        packet.build_bytes_vec().unwrap()
    }

    /// The answer as text.
    fn ask(name: &str, qtype: TYPE, longest: usize) -> String {
        ask_in(name, qtype, longest, &[])
    }

    /// The same for a pod in `networks`.
    fn ask_in(name: &str, qtype: TYPE, longest: usize, networks: &[&str]) -> String {
        ask_of(None, name, qtype, longest, networks)
    }

    /// The same for a pod of `project`.
    fn ask_of(project: Option<&str>, name: &str, qtype: TYPE, longest: usize, networks: &[&str]) -> String {
        let networks: Vec<String> = networks.iter().map(|n| (*n).to_owned()).collect();
        match zone().answer(&query(name, qtype), longest, &networks, project) {
            Reply::None => "nothing".to_owned(),
            Reply::Ask => "ask".to_owned(),
            Reply::Known(bytes) => {
                let packet = Packet::parse(&bytes).unwrap();
                assert_eq!((packet.id(), packet.questions.len()), (7, 1));
                let data = |r: &ResourceRecord<'_>| match &r.rdata {
                    RData::A(a) => Ipv4Addr::from(a.clone()).to_string(),
                    RData::PTR(PTR(name)) => name.to_string(),
                    other => panic!("{other:?}"),
                };
                let truncated = if packet.has_flags(PacketFlag::TRUNCATION) { " truncated" } else { "" };
                let answers: Vec<String> = packet.answers.iter().map(data).collect();
                format!("{:?}{truncated} {}", packet.rcode(), answers.join(" "))
            }
        }
    }

    #[test]
    fn services_pods_and_aliases_have_names() {
        let all = "NoError 10.89.0.2 10.89.0.3 10.89.0.4";
        for name in
            ["web", "WEB", "web.default", "web.default.svc", "web.prod.svc", "web.default.svc.cluster.local"]
        {
            assert_eq!(ask(name, TYPE::A, 512), all, "{name}");
        }
        assert_eq!(ask("my_web.local", TYPE::A, 512), all);
        for name in ["web-1.web", "web-1.web.default", "web-1.web.default.svc.cluster.local"] {
            assert_eq!(ask(name, TYPE::A, 512), "NoError 10.89.0.3", "{name}");
        }
        assert_eq!(ask("web", TYPE::AAAA, 512), "NoError ", "there is no IPv6, and the name exists");
        assert_eq!(ask("none", TYPE::A, 512), "NoError ");
        assert_eq!(ask("fixed.default.svc", TYPE::A, 512), "NoError 10.89.224.1");
        assert_eq!(ask("web-2.fixed", TYPE::A, 512), "NoError 10.89.0.4");
        for name in ["gone.default.svc.cluster.local", "x.web.svc.cluster.local", "cluster.local", "a.b.svc"]
        {
            assert_eq!(ask(name, TYPE::A, 512), "NameError ", "{name}");
        }
        for name in ["web.com", "example.com", "gone", "web.prod", "www.default", "my-web.local"] {
            assert_eq!(ask(name, TYPE::A, 512), "ask", "{name}");
        }
        let host = "NoError web-0.web.default.svc.cluster.local";
        assert_eq!(ask("2.0.89.10.in-addr.arpa", TYPE::PTR, 512), host);
        assert_eq!(ask("9.9.9.9.in-addr.arpa", TYPE::PTR, 512), "ask");
    }

    #[test]
    fn names_are_those_of_pods_that_share_a_network() {
        let back = "NoError 10.89.1.1";
        for (name, networks, answer) in [
            ("db", &["back"][..], back),
            ("db", &["front", "store"], back),
            ("db", &["front"], "ask"),
            ("db", &[], "ask"),
            ("db.default.svc.cluster.local", &["default"], "NameError "),
            ("db-0.db", &["back"], back),
            ("db-0.db", &["front"], "ask"),
            ("store", &["back"], back),
            ("store", &["store"], "ask"),
            ("sql", &["store"], back),
            ("sql", &["front"], "ask"),
            ("web", &["back"], "ask"),
            ("web", &["back", "default"], "NoError 10.89.0.2 10.89.0.3 10.89.0.4"),
            ("fixed", &["back"], "ask"),
            ("none", &["back"], "NoError "),
        ] {
            assert_eq!(ask_in(name, TYPE::A, 512, networks), answer, "{name} {networks:?}");
        }
        let reverse = |networks| ask_in("1.1.89.10.in-addr.arpa", TYPE::PTR, 512, networks);
        assert_eq!(reverse(&["back"]), "NoError db-0.db.default.svc.cluster.local");
        assert_eq!(reverse(&["front"]), "ask");
    }

    #[test]
    fn names_of_the_own_project_go_first() {
        for name in ["web", "www", "shop-web"] {
            assert_eq!(ask_of(Some("shop"), name, TYPE::A, 512, &[]), "NoError 10.89.224.2", "{name}");
        }
        let all = "NoError 10.89.0.2 10.89.0.3 10.89.0.4";
        for project in [None, Some("blog")] {
            assert_eq!(ask_of(project, "web", TYPE::A, 512, &[]), all);
        }
        assert_eq!(ask_of(Some("shop"), "fixed", TYPE::A, 512, &[]), "NoError 10.89.224.1");
    }

    #[test]
    fn what_does_not_fit_is_asked_for_by_tcp() {
        assert_eq!(ask("many", TYPE::A, 512), "NoError truncated ");
        assert_eq!(ask("many", TYPE::A, 65_535).split(' ').count(), 257);
    }

    #[test]
    fn malformed_questions_get_an_error_or_nothing() {
        let good = query("web", TYPE::A);
        let code = |bytes: &[u8]| match zone().answer(bytes, 512, &[], None) {
            Reply::Known(answer) => Some(answer[3] & 0x0f),
            Reply::None | Reply::Ask => None,
        };
        assert_eq!(code(&good), Some(0));
        assert_eq!(code(&good[..8]), None, "not even a header");
        assert_eq!(code(&good[..15]), Some(1), "cut off");
        let mut answer = good.clone();
        answer[2] |= 0x80;
        assert_eq!(code(&answer), None, "an answer");
        let mut status = good.clone();
        status[2] |= 0x10;
        assert_eq!(code(&status), Some(4));
        // A name that refers to itself.
        let mut looped = good[..12].to_vec();
        looped.extend([0xc0, 0x0c, 0, 1, 0, 1]);
        assert_eq!(code(&looped), Some(1));
        // 255 bytes, and one label more.
        let label = [&[63][..], &[b'a'; 63]].concat();
        let long = |labels: usize| [&good[..12], &label.repeat(labels), &[0, 0, 1, 0, 1]].concat();
        assert_eq!(code(&long(3)), None, "a long name is asked for elsewhere");
        assert_eq!(code(&long(5)), Some(1));
    }

    proptest! {
        #[test]
        fn no_message_does_harm(message in prop::collection::vec(any::<u8>(), 0..600)) {
            zone().answer(&message, 512, &[], None);
        }

        #[test]
        fn no_change_of_a_good_question_does_harm(at in 0usize..40, value: u8, cut in 0usize..40) {
            let mut message = query("web-1.web.default", TYPE::A);
            if let Some(byte) = message.get_mut(at) {
                *byte = value;
            }
            message.truncate(message.len().saturating_sub(cut % 20));
            if let Reply::Known(answer) = zone().answer(&message, 512, &[], None) {
                prop_assert_eq!(&answer[..2], &message[..2]);
                prop_assert!(answer[2] & 0x80 != 0 && answer.len() <= 512);
            }
        }
    }
}

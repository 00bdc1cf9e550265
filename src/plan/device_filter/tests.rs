use super::model::{model, run, v1};
use super::*;
use proptest::prelude::*;

fn number() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![2 => Just(None), 5 => (0u32..4).prop_map(Some)]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let devices = prop_oneof![
        1 => Just(None),
        9 => (any::<bool>(), number(), number()).prop_map(|(c, major, minor)| {
            Some(Devices { kind: if c { DeviceKind::Char } else { DeviceKind::Block }, major, minor })
        }),
    ];
    (any::<bool>(), devices, 1u8..=7).prop_map(|(allow, devices, access)| {
        let access = if devices.is_none() { ALL } else { access };
        Rule { allow, devices, access, index: None }
    })
}

fn accesses() -> impl Iterator<Item = (DeviceKind, u32, u32, u8)> {
    let kinds = [DeviceKind::Char, DeviceKind::Block].into_iter();
    kinds
        .flat_map(|k| (0..5).flat_map(move |a| (0..5).flat_map(move |i| (0..8u8).map(move |x| (k, a, i, x)))))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_program_means_what_the_rules_mean(rules in prop::collection::vec(any_rule(), 0..12)) {
        let program = program(&rules).unwrap();
        for (kind, major, minor, access) in accesses() {
            let got = program.as_ref().is_none_or(|p| run(p, kind as u32, major, minor, access));
            let want = model(&rules, kind, major, minor, access);
            prop_assert_eq!(got, want, "{:?} {}:{} {:03b}", kind, major, minor, access);
        }
    }

    #[test]
    fn version_1_means_what_the_rules_mean_or_refuses(rules in prop::collection::vec(any_rule(), 0..6)) {
        let Ok(writes) = v1_writes(&rules) else { return Ok(()) };
        for (kind, major, minor, access) in accesses() {
            // mknod(2) and open(2) are separate checks in version 1.
            if access == 0 || (access & MKNOD != 0 && access != MKNOD) {
                continue;
            }
            let got = v1(&writes, kind, major, minor, access);
            let want = model(&rules, kind, major, minor, access);
            // Two partial wildcards that only together allow reading and writing: no line of version 1 says that.
            if !(want && access == READ | WRITE) {
                prop_assert_eq!(got, want, "{:?} {}:{} {:03b}", kind, major, minor, access);
            } else {
                prop_assert!(got || v1(&writes, kind, major, minor, READ));
            }
        }
    }

    #[test]
    fn the_verifier_follows_few_instructions(rules in prop::collection::vec(any_rule(), 0..30)) {
        if let Some(code) = program(&rules).unwrap() {
            // Each instruction once, and behind a jump to a leaf at most six more.
            prop_assert!(followed(&code) <= 7 * code.len(), "{} of {}", followed(&code), code.len());
        }
    }

    #[test]
    fn no_instruction_is_unreachable(rules in prop::collection::vec(any_rule(), 0..12)) {
        let Some(code) = program(&rules).unwrap() else { return Ok(()) };
        let mut reached = vec![false; code.len()];
        let mut todo = vec![0];
        while let Some(pc) = todo.pop() {
            prop_assert!(pc < code.len(), "the program runs off its end");
            if std::mem::replace(&mut reached[pc], true) {
                continue;
            }
            let target = pc + 1 + code[pc].offset.max(0) as usize;
            match code[pc].code {
                0x95 => {}
                0x05 => todo.push(target),
                0x15 | 0x55 | 0x45 => todo.extend([pc + 1, target]),
                _ => todo.push(pc + 1),
            }
        }
        prop_assert!(reached.iter().all(|r| *r), "{:?}", code);
    }
}

/// How many instructions there are on all paths together. The kernel's verifier follows at most a million, and prunes
/// some of them only.
fn followed(code: &[Instruction]) -> usize {
    let mut paths = vec![0; code.len()];
    for (pc, i) in code.iter().enumerate().rev() {
        let target = pc + 1 + i.offset.max(0) as usize;
        paths[pc] = 1 + match i.code {
            0x95 => 0,
            0x05 => paths[target],
            0x15 | 0x55 | 0x45 => paths[pc + 1] + paths[target],
            _ => paths[pc + 1],
        };
    }
    paths[0]
}

fn config(text: &str) -> Vec<DeviceRule> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn without_rules_the_defaults_apply() {
    let rules = rules(&[], &[]).unwrap();
    let p = program(&rules).unwrap().unwrap();
    let (c, b) = (DeviceKind::Char as u32, DeviceKind::Block as u32);
    assert!(run(&p, c, 1, 3, READ | WRITE), "/dev/null");
    assert!(run(&p, c, 136, 77, READ | WRITE), "a pty");
    assert!(run(&p, c, 10, 200, READ | WRITE), "/dev/net/tun");
    assert!(run(&p, b, 8, 0, MKNOD));
    assert!(!run(&p, b, 8, 0, READ), "a disk");
    assert!(!run(&p, c, 1, 1, READ), "/dev/mem");
    assert!(run(&p, b, 8, 0, 0), "asking for nothing");
    assert!(p.len() <= 40, "{} instructions", p.len());
    let w = v1_writes(&rules).unwrap();
    assert_eq!((w[0].file.as_ref(), w[0].value.as_str()), ("devices.deny", "a"));
    assert_eq!(w.len(), 12);
    assert!(w.iter().any(|w| w.value == "c 136:* rwm") && w.iter().any(|w| w.value == "b *:* m"));
}

#[test]
fn the_usual_rules_of_engines() {
    let docker = config(
        r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},
            {"allow":true,"type":"b","major":8,"minor":0,"access":"r"},{"allow":true,"type":"c","major":10,"minor":229}]"#,
    );
    let r = rules(&docker, &[]).unwrap();
    let p = program(&r).unwrap().unwrap();
    assert!(run(&p, 1, 8, 0, READ) && !run(&p, 1, 8, 0, WRITE) && !run(&p, 1, 8, 0, READ | WRITE));
    assert!(run(&p, 2, 10, 229, READ | WRITE));
    assert!(v1_writes(&r).unwrap().iter().any(|w| w.value == "b 8:0 r"));

    let privileged = rules(&config(r#"[{"allow":false},{"allow":true,"access":"rwm"}]"#), &[]).unwrap();
    assert_eq!(program(&privileged).unwrap(), None, "everything is allowed");
    let w = v1_writes(&privileged).unwrap();
    assert_eq!(w.len(), 1);
    assert_eq!((w[0].file.as_ref(), w[0].value.as_str()), ("devices.allow", "a"));
}

#[test]
fn a_device_of_the_bundle_replaces_the_default_one() {
    let r = rules(&[], &["/dev/random"]).unwrap();
    let p = program(&r).unwrap().unwrap();
    assert!(!run(&p, 2, 1, 8, READ));
    assert!(run(&p, 2, 1, 9, READ));
}

#[test]
fn wrong_rules_are_refused_all_at_once() {
    let wrong = config(
        r#"[{"type":"x"},{"type":"c","major":-2},{"type":"c","minor":4294967296},{"access":"rx"},{"type":"c","access":"r"}]"#,
    );
    let v = rules(&wrong, &[]).unwrap_err();
    let places: Vec<&str> = v.iter().map(|v| v.property.as_str()).collect();
    assert_eq!(
        places,
        [
            "linux.resources.devices[0].type",
            "linux.resources.devices[1].major",
            "linux.resources.devices[2].minor",
            "linux.resources.devices[3].access"
        ]
    );
}

#[test]
fn version_1_refuses_a_hole_in_a_wildcard_and_version_2_makes_it() {
    let hole = config(
        r#"[{"allow":true,"type":"c","major":9,"access":"rw"},{"allow":false,"type":"c","major":9,"minor":1,"access":"w"}]"#,
    );
    let r = rules(&hole, &[]).unwrap();
    let v = v1_writes(&r).unwrap_err();
    assert_eq!(v.property, "linux.resources.devices[1]");
    assert!(v.message.contains("\"c 9:1 w\" is part of \"c 9:* rw\""), "{v}");
    let p = program(&r).unwrap().unwrap();
    assert!(run(&p, 2, 9, 1, READ) && !run(&p, 2, 9, 1, READ | WRITE) && run(&p, 2, 9, 2, READ | WRITE));
}

#[test]
fn too_many_rules_are_an_error_and_as_many_as_fit_are_not() {
    // No two can be tested together, so that the program is as long as it can be.
    let rules = |n: u32| -> Vec<Rule> {
        let rule = |i| Rule {
            allow: true,
            devices: Some(Devices { kind: DeviceKind::Char, major: Some(i), minor: Some(7) }),
            access: READ,
            index: None,
        };
        (0..n).map(rule).collect()
    };
    let p = program(&rules(4096)).unwrap().unwrap();
    assert!(run(&p, 2, 0, 7, READ) && run(&p, 2, 4095, 7, READ) && !run(&p, 2, 4095, 7, WRITE));
    assert!(followed(&p) < 50_000, "{}", followed(&p));
    assert!(program(&rules(4097)).unwrap_err().message.contains("too many"));
}

#[test]
fn thousands_of_rules_for_single_accesses_are_followed_in_no_time() {
    let rule = |n: u32| Rule {
        allow: n.is_multiple_of(2),
        devices: Some(Devices { kind: DeviceKind::Char, major: Some(n >> 8), minor: Some(n & 255) }),
        access: READ | WRITE,
        index: None,
    };
    let mut rules: Vec<Rule> = (0..4000).map(rule).collect();
    rules.insert(
        0,
        Rule {
            allow: true,
            devices: Some(Devices { kind: DeviceKind::Char, major: None, minor: None }),
            access: MKNOD,
            index: None,
        },
    );
    let p = program(&rules).unwrap().unwrap();
    assert!(
        run(&p, 2, 7, 208, READ | WRITE | MKNOD) && !run(&p, 2, 7, 207, READ) && run(&p, 2, 7, 207, MKNOD)
    );
    assert!(followed(&p) < 50_000, "{}", followed(&p));
}

#[test]
fn a_filter_that_grows_with_rules_times_rules_is_refused() {
    let devices = |major, minor| Some(Devices { kind: DeviceKind::Char, major, minor });
    let rule = |devices| Rule { allow: true, devices, access: READ, index: None };
    let rules: Vec<Rule> = (0..2000)
        .flat_map(|n| [rule(devices(Some(n), None)), Rule { access: WRITE, ..rule(devices(None, Some(n))) }])
        .collect();
    let e = program(&rules).unwrap_err();
    assert!(e.message.contains("4000 rules make a filter of over"), "{e}");
}

use super::*;
use proptest::prelude::*;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
    # comment\n\
    broken:x\n\
    :x:7:7::/nameless:/bin/sh\n\
    plus:x:+8:8::/plus:\n\
    big:x:4294967296:0::/big:\n\
    minus:x:4294967295:0::/minus:\n\
    app:x:1000:1001:App:/home/app:/bin/sh\n\
    app:x:2000:2000:second:/second:/bin/sh\n\
    nohome:x:1002:1002::\n\
    empty:x:1003:1003:::/bin/sh\n\
    relative:x:1004:1004::home:/bin/sh\n\
    \xff\xfe:x:1005:1005::/h\xff:/bin/sh\n\
    short:x:1006:1006::/short";

const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,app\nbad:x:ten:app\napp:x:1001:app\nvideo:x:44:apple,app\n\
    wheel2:x:10:app\nnomembers:x:55";

fn p(text: &str) -> Option<UserSpec> {
    parse(text).ok()
}

fn r(text: &str) -> Result<Resolved> {
    resolve(&parse(text).unwrap(), PASSWD, GROUP)
}

#[test]
fn users_by_number() {
    let n = |user, group: Option<u32>| UserSpec { user: Id::Number(user), group: group.map(Id::Number) };
    assert_eq!(p("1"), Some(n(1, None)));
    assert_eq!(p("1:1"), Some(n(1, Some(1))));
    assert_eq!(p("01"), Some(n(1, None)));
    assert_eq!(p("0"), Some(n(0, None)));
    assert_eq!(p("4294967294:0"), Some(n(4294967294, Some(0))));
}

#[test]
fn what_is_no_user() {
    for bad in [
        "",
        ":",
        "1:",
        ":1",
        "+1",
        "-1",
        "1:-1",
        "1:+1",
        "4294967295",
        "4294967296",
        "1:4294967296",
        "1x",
        "0x0",
        "1 ",
        " 1",
        "a b",
        "a:b:c",
        "1:2:3",
        "\0",
        "a\n",
        "18446744073709551616",
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    let e = parse("1:").unwrap_err();
    assert_eq!(e.kind(), Kind::Usage);
    assert_eq!(
        e.to_string(),
        "invalid user \"1:\": the group is empty; hint: give UID[:GID] or NAME[:GROUP], for example 1000:1000"
    );
}

#[test]
fn names_are_looked_up_in_the_containers_files() {
    assert_eq!(r("app").unwrap(), Resolved { uid: 1000, gid: Some(1001), additional_gids: vec![10, 44] });
    assert_eq!(r("app:video").unwrap(), Resolved { uid: 1000, gid: Some(44), additional_gids: vec![] });
    assert_eq!(r("1000").unwrap(), Resolved { uid: 1000, gid: None, additional_gids: vec![] });
    assert_eq!(r("7:wheel").unwrap(), Resolved { uid: 7, gid: Some(10), additional_gids: vec![] });
    assert_eq!(r("app:nomembers").unwrap().gid, Some(55));
}

#[test]
fn a_name_whose_line_is_malformed_is_missing_and_not_root() {
    for name in ["nobody", "broken", "plus", "big", "minus", "root:bad", "App", "#"] {
        let e = r(name).unwrap_err().to_string();
        assert!(e.contains("no matching entries"), "{name}: {e}");
    }
}

fn env(vars: &[&str]) -> Environment {
    environment(&vars.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
}

#[test]
fn of_a_repeated_variable_the_last_value_stays() {
    let e = env(&["A=1", "PATH=/a", "A=2", "B=", "PATH=/b"]);
    assert_eq!(e.vars, ["A=2", "B=", "PATH=/b"]);
}

#[test]
fn one_home_and_an_empty_one_is_none() {
    assert!(!env(&["A=1"]).home);
    assert_eq!(env(&["HOME=/a", "HOME=/b"]), Environment { vars: vec!["HOME=/b".into()], home: true });
    assert_eq!(env(&["HOME=/a", "HOME="]), Environment::default(), "the last value is the empty one");
    assert_eq!(env(&["HOME=", "HOME=/b"]).vars, ["HOME=/b"]);
    assert!(!env(&["HOMER=1"]).home);
}

#[test]
fn values_keep_newlines_and_equal_signs() {
    assert_eq!(env(&["A=x\ny=z", "bad", "=x"]).vars, ["A=x\ny=z"]);
}

/// Spellings that a lenient parser would take for a number.
fn near_numbers() -> impl Strategy<Value = String> {
    let part = prop_oneof!["[0-9]{0,12}", "[-+ 0-9a-fx]{0,6}", "[a-z]{0,4}", Just(String::new())];
    let more = proptest::option::of(part.clone());
    (part, more).prop_map(|(a, b)| b.map_or(a.clone(), |b| format!("{a}:{b}")))
}

proptest! {
    /// User 0 comes from a text of zeros or from a line of passwd that says so, and from nothing else.
    #[test]
    fn nothing_but_zeros_is_user_0(text in near_numbers()) {
        if let Ok(spec) = parse(&text) {
            let (user, group) = text.split_once(':').map_or((text.as_str(), None), |(u, g)| (u, Some(g)));
            match spec.user {
                Id::Number(n) => {
                    prop_assert!(user.bytes().all(|b| b.is_ascii_digit()) && !user.is_empty());
                    prop_assert_eq!(n == 0, user.bytes().all(|b| b == b'0'));
                    prop_assert_eq!(n, user.parse::<u32>().unwrap());
                }
                Id::Name(n) => prop_assert_eq!(n, user),
            }
            prop_assert_eq!(spec.group.is_some(), group.is_some());
            if let Some(Id::Number(n)) = spec.group {
                prop_assert_eq!(Some(n), group.and_then(|g| g.parse().ok()));
            }
        }
    }

    /// Whatever a line has instead of its ids, the user is the first line's whose ids are numbers in full.
    #[test]
    fn a_hostile_line_is_skipped(
        lines in proptest::collection::vec(("[ab]", "[0-9]{0,11}|[-+ 0x]{0,3}[0-9]{0,2}", "[0-9]{0,11}|-1"), 1..6),
    ) {
        let file: String = lines.iter().map(|(n, u, g)| format!("{n}:x:{u}:{g}::/h:\n")).collect();
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        let expected = lines.iter().filter(|(n, ..)| n == "a").find_map(|(_, u, g)| {
            let id = |t: &str| t.parse::<u64>().ok().filter(|n| digits(t) && *n < 4294967295);
            id(u).zip(id(g))
        });
        let found = resolve(&parse("a").unwrap(), file.as_bytes(), b"").ok();
        prop_assert_eq!(found.map(|f| (u64::from(f.uid), u64::from(f.gid.unwrap()))), expected);
    }

    #[test]
    fn any_bytes_are_answered(file in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = resolve(&parse("a").unwrap(), &file, &file);
    }

    #[test]
    fn a_line_of_passwd_round_trips(uid in 0..=MAX_ID, gid in 0..=MAX_ID, name in "[a-z][a-z0-9-]{0,8}") {
        let file = format!("x:x:1\n{name}:x:{uid}:{gid}::/h:/bin/sh\n");
        let found = resolve(&parse(&name).unwrap(), file.as_bytes(), b"").unwrap();
        prop_assert_eq!(found, Resolved { uid, gid: Some(gid), additional_gids: vec![] });
    }

    #[test]
    fn an_environment_has_each_name_once(vars in proptest::collection::vec("(A|B|HOME|)(=|)[a-z]{0,2}", 0..10)) {
        let e = environment(&vars);
        let names: Vec<_> = e.vars.iter().map(|v| v.split_once('=').unwrap().0).collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), names.len());
        prop_assert_eq!(e.home, names.contains(&"HOME"));
        prop_assert!(!e.vars.contains(&"HOME=".to_owned()));
    }
}

#[test]
fn a_user_without_a_group_has_the_one_of_passwd() {
    assert_eq!(primary_group(b"a:x:5:6::/:\nb:x:7:8::/:/bin/sh\n", 7), Some(8));
    assert_eq!(primary_group(b"a:x:5:6::/:\n", 9), None);
    assert_eq!(primary_group(b"a:x:+5:6::/:\nb:x:5:-1::/:\nc:x:5:9::/:", 5), Some(9), "numbers are digits");
}

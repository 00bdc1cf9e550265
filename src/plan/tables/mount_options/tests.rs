use super::*;
use libc::{MS_BIND, MS_NOATIME, MS_NODEV, MS_NOSUID, MS_RDONLY, MS_REC, MS_RELATIME, MS_STRICTATIME};

fn parse(options: &[&str]) -> MountOptions {
    parse_options(&options.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
}

/// Every option of the table in config.md of runtime-spec 1.3.
const SPEC: &str = "async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime \
    nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
    rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid \
    rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw \
    shared silent slave strictatime suid symfollow sync tmpcopyup unbindable";

#[test]
fn the_table_is_sorted_and_holds_the_specifications() {
    assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    let known = names();
    assert!(known.is_sorted());
    for option in SPEC.split_whitespace() {
        assert!(known.contains(&option), "{option}");
        let m = parse(&[option]);
        assert!(m.data.is_empty(), "{option} went to the file system");
        assert_eq!(m == MountOptions::default(), option == "defaults", "{option}");
    }
}

#[test]
fn flags_are_set_and_cleared_and_the_last_one_wins() {
    let m = parse(&["ro", "nosuid", "rw", "nodev"]);
    assert_eq!(m.flags_set, MS_NOSUID | MS_NODEV);
    assert_eq!(m.flags_cleared, MS_RDONLY);
    assert_eq!(m.attr_set, attr::NOSUID | attr::NODEV);
    assert_eq!(m.attr_clear, attr::RDONLY);
    assert_eq!(parse(&["rw", "ro"]).flags_set, MS_RDONLY);
    assert_eq!(parse(&["rw", "ro"]).flags_cleared, 0);
}

#[test]
fn flags_of_the_super_block_are_no_attributes() {
    let m = parse(&["sync", "dirsync", "lazytime", "mand", "iversion", "silent", "ro"]);
    assert_eq!(m.flags_set, 16 | 128 | 1 << 25 | 64 | 1 << 23 | 1 << 15 | 1);
    assert_eq!(m.attr_set, attr::RDONLY);
    assert_eq!(m.super_block_flags().collect::<Vec<_>>(), ["ro", "sync", "mand", "dirsync", "lazytime"]);
    let m = parse(&["async", "nolazytime", "nomand", "noiversion", "loud"]);
    assert_eq!((m.flags_set, m.attr_clear), (0, 0));
    assert_eq!(m.flags_cleared, 16 | 1 << 25 | 64 | 1 << 23 | 1 << 15);
}

#[test]
fn symfollow_is_bit_8_and_its_attribute_bit_21() {
    let m = parse(&["nosymfollow"]);
    assert_eq!((m.flags_set, m.attr_set), (0x100, 0x20_0000));
    assert_eq!(parse(&["nosymfollow", "symfollow"]).attr_clear, 0x20_0000);
}

#[test]
fn the_access_time_mode_is_one_setting() {
    let m = parse(&["noatime"]);
    assert_eq!((m.attr_set, m.attr_clear), (attr::NOATIME, attr::ATIME));
    assert_eq!((m.flags_set, m.flags_cleared), (MS_NOATIME, MS_RELATIME | MS_STRICTATIME));
    let m = parse(&["noatime", "strictatime"]);
    assert_eq!((m.attr_set, m.attr_clear), (attr::STRICTATIME, attr::ATIME));
    assert_eq!(m.flags_set, MS_STRICTATIME);
    // relatime is the value 0: only the cleared mask shows that it was requested.
    let m = parse(&["strictatime", "relatime"]);
    assert_eq!((m.attr_set, m.attr_clear), (0, attr::ATIME));
    assert_eq!(m.flags_set, MS_RELATIME);
}

#[test]
fn the_opposite_of_an_access_time_mode_is_the_default() {
    for o in ["atime", "norelatime", "nostrictatime"] {
        assert_eq!(parse(&[o]).flags_set, MS_RELATIME, "{o}");
        assert_eq!((parse(&[o]).attr_set, parse(&[o]).attr_clear), (0, attr::ATIME), "{o}");
    }
    assert_eq!(parse(&["noatime", "atime"]).attr_set, 0);
    assert_eq!(parse(&["noatime", "nostrictatime"]).attr_set, attr::NOATIME, "another mode stays");
    // nodiratime is a bit of its own.
    assert_eq!(parse(&["nodiratime"]).attr_set, attr::NODIRATIME);
    assert_eq!(parse(&["nodiratime"]).attr_clear, 0);
    assert_eq!(parse(&["nodiratime", "diratime"]).attr_clear, attr::NODIRATIME);
}

#[test]
fn recursive_attributes_touch_nothing_else() {
    let m = parse(&["rro", "rnosuid", "rnodev", "rnoexec", "rnodiratime", "rnosymfollow"]);
    assert_eq!(m.rec_attr_set, 0x20_008f);
    assert_eq!((m.flags_set, m.attr_set, m.rec_attr_clear), (0, 0, 0));
    assert!(m.changes_attributes_recursively() && !m.changes_attributes());
    let m = parse(&["rrw", "rsuid", "rdev", "rexec", "rdiratime", "rsymfollow"]);
    assert_eq!((m.rec_attr_set, m.rec_attr_clear), (0, 0x20_008f));
    assert_eq!(parse(&["rrw", "rro"]).rec_attr_clear, 0);
}

#[test]
fn recursive_access_time_modes_clear_the_whole_field() {
    for (o, set) in [
        ("rnoatime", attr::NOATIME),
        ("rstrictatime", attr::STRICTATIME),
        ("rrelatime", 0),
        ("ratime", 0),
        ("rnorelatime", 0),
        ("rnostrictatime", 0),
    ] {
        let m = parse(&[o]);
        assert_eq!((m.rec_attr_set, m.rec_attr_clear), (set, attr::ATIME), "{o}");
        assert_eq!((m.attr_clear, m.flags_set), (0, 0), "{o}");
    }
}

#[test]
fn bind_recursive_remount_and_propagation() {
    let m = parse(&["rbind", "rslave", "private", "remount"]);
    assert!(m.bind && m.recursive && m.remount);
    assert_eq!(m.flags_set, MS_BIND | MS_REC | libc::MS_REMOUNT);
    assert_eq!(m.propagation, [libc::MS_SLAVE | MS_REC, libc::MS_PRIVATE]);
    let m = parse(&["bind"]);
    assert!(m.bind && !m.recursive && !m.remount);
    assert!(!m.changes_attributes());
}

#[test]
fn the_file_systems_options_keep_their_order_one_each() {
    let m = parse(&["mode=755", "size=64k,nr_inodes=10", "acl", "", "ro,noexec", "newinstance"]);
    assert_eq!(m.data, ["mode=755", "size=64k", "nr_inodes=10", "acl", "newinstance"]);
    assert_eq!(m.data.join(","), "mode=755,size=64k,nr_inodes=10,acl,newinstance");
    assert_eq!(m.attr_set, attr::RDONLY | attr::NOEXEC);
    assert_eq!(parse(&["RO", "Bind"]).data, ["RO", "Bind"], "names are exact");
}

#[test]
fn commas_that_belong_to_a_value() {
    let m = parse(&["lowerdir=/a\\,b:/c,upperdir=/u", "context=\"u:r:t:s0:c1,c2\",x"]);
    assert_eq!(m.data, ["lowerdir=/a\\,b:/c", "upperdir=/u", "context=\"u:r:t:s0:c1,c2\"", "x"]);
    assert_eq!(key_value(&m.data[0]), ("lowerdir", Some("/a,b:/c".to_owned())));
    assert_eq!(key_value(&m.data[2]), ("context", Some("u:r:t:s0:c1,c2".to_owned())));
    assert_eq!(key_value("x"), ("x", None));
    assert_eq!(key_value("x="), ("x", Some(String::new())));
    assert_eq!(key_value("a=b=c"), ("a", Some("b=c".to_owned())));
}

#[test]
fn extensions() {
    let m = parse(&["tmpcopyup", "src-nofollow", "ridmap"]);
    assert!(m.tmpcopyup && m.src_nofollow);
    assert_eq!(m.idmap, Some(Idmap { recursive: true, uids: vec![], gids: vec![] }));
    assert!(!parse(&["idmap"]).idmap.unwrap().recursive);
}

#[test]
fn id_mappings_inside_of_the_option() {
    let m = parse(&["idmap=uids=0-1-10#@10-11-10;gids=0-100-10"]);
    let map = m.idmap.unwrap();
    assert!(!map.recursive && m.invalid.is_empty());
    let range =
        |c, h, size, relative| IdRange { mapping: IdMapping { container_id: c, host_id: h, size }, relative };
    assert_eq!(map.uids, [range(0, 1, 10, false), range(10, 11, 10, true)]);
    assert_eq!(map.gids, [range(0, 100, 10, false)]);
    for bad in [
        "idmap=",
        "idmap=uids=0-1-10",
        "idmap=uids=0-1;gids=0-1-1",
        "idmap=uids=0-1-2-3;gids=0-1-1",
        "ridmap=uids=-1-0-1;gids=0-1-1",
        "idmap=uids=0-1-4294967296;gids=0-1-1",
        "idmap=uids=+0-1-1;gids=0-1-1",
        "idmap=users=0-1-1",
    ] {
        let m = parse(&[bad]);
        assert_eq!(m.invalid.len(), 1, "{bad}");
        assert!(m.idmap.is_none() && m.data.is_empty(), "{bad}");
    }
}

#[test]
fn relative_ranges_are_ids_of_the_user_namespace() {
    let map = |c, h, size| IdMapping { container_id: c, host_id: h, size };
    let container = [map(0, 0, 1), map(1, 2, 1000)];
    let range = |h, size, relative| IdRange { mapping: map(1, h, size), relative }.absolute(&container);
    assert_eq!(range(3, 10, true), Some(map(1, 4, 10)));
    assert_eq!(range(1, 1000, true), Some(map(1, 2, 1000)));
    assert_eq!(range(3, 10, false), Some(map(1, 3, 10)));
    assert_eq!(range(1, 1001, true), None, "past the end");
    assert_eq!(range(0, 2, true), None, "over two ranges");
    assert_eq!(range(5000, 1, true), None);
    assert_eq!(range(u32::MAX, u32::MAX, true), None);
}

proptest::proptest! {
    /// Setting and clearing never overlap, whatever is given in whatever order.
    #[test]
    fn set_and_cleared_are_disjoint(options in proptest::collection::vec(proptest::sample::select(names()), 0..12)) {
        let m = parse(&options);
        proptest::prop_assert_eq!(m.flags_set & m.flags_cleared, 0);
        proptest::prop_assert_eq!(m.attr_set & m.attr_clear & !attr::ATIME, 0);
        proptest::prop_assert_eq!(m.rec_attr_set & m.rec_attr_clear & !attr::ATIME, 0);
        // mount_setattr(2): the access time field is set only when it is cleared as a whole.
        for (set, clear) in [(m.attr_set, m.attr_clear), (m.rec_attr_set, m.rec_attr_clear)] {
            proptest::prop_assert!(clear & attr::ATIME == attr::ATIME || (set | clear) & attr::ATIME == 0);
        }
    }

    #[test]
    fn any_text_parses(option in ".*") {
        let m = parse(&[&option]);
        proptest::prop_assert!(m.data.iter().all(|d| !d.is_empty()));
    }
}

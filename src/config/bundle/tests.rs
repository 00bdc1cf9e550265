use super::*;
use std::os::unix::fs::symlink;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("config.json")
    }

    fn fail(&self) -> String {
        let e = Bundle::load(self.0.path()).unwrap_err();
        assert_eq!(e.kind(), Kind::Config);
        e.to_string().replace(self.0.path().to_str().unwrap(), "B")
    }
}

#[test]
fn a_bundle_is_read_once_and_kept_byte_for_byte() {
    let d = Dir::new();
    let text = b" {\"ociVersion\": \"1.3.0\", \"x\": 1}\n";
    std::fs::write(d.config(), text).unwrap();
    let b = Bundle::load(d.0.path()).unwrap();
    assert_eq!(b.raw, text);
    assert_eq!(b.spec.oci_version, "1.3.0");
    assert_eq!(b.path, d.0.path());
}

#[test]
fn a_missing_config_and_a_missing_bundle() {
    let d = Dir::new();
    assert_eq!(
        d.fail(),
        "opening config.json at \"B/config.json\": no such file or directory; hint: a bundle is a directory with a \
         config.json; \"orun spec\" writes one"
    );
    let e = Bundle::load(&d.0.path().join("absent")).unwrap_err().to_string();
    assert!(e.contains("no such file or directory"), "{e}");
    std::fs::write(d.0.path().join("file"), "").unwrap();
    let e = Bundle::load(&d.0.path().join("file")).unwrap_err().to_string();
    assert!(e.contains("not a directory"), "{e}");
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let d = Dir::new();
    nix::unistd::mkfifo(&d.config(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(d.fail(), "config.json at \"B/config.json\" is not a regular file but a FIFO");

    let d = Dir::new();
    std::fs::create_dir(d.config()).unwrap();
    assert_eq!(d.fail(), "config.json at \"B/config.json\" is not a regular file but a directory");

    let d = Dir::new();
    symlink("/dev/zero", d.config()).unwrap();
    assert_eq!(d.fail(), "config.json at \"B/config.json\" is not a regular file but a device");

    let d = Dir::new();
    let _socket = std::os::unix::net::UnixListener::bind(d.config()).unwrap();
    assert!(d.fail().ends_with("no such device or address"), "{}", d.fail());

    let d = Dir::new();
    symlink("config.json", d.config()).unwrap();
    assert!(d.fail().contains("too many"), "{}", d.fail());
}

#[test]
fn a_config_over_the_limit_is_refused_before_it_is_read() {
    let d = Dir::new();
    std::fs::File::create(d.config()).unwrap().set_len(100 << 20).unwrap();
    assert_eq!(d.fail(), "config.json at \"B/config.json\" is over 32 MiB");
    std::fs::File::create(d.config()).unwrap().set_len(MAX_CONFIG + 1).unwrap();
    assert!(d.fail().ends_with("is over 32 MiB"));
    std::fs::File::create(d.config()).unwrap().set_len(0).unwrap();
    assert_eq!(d.fail(), "bundle \"B\": config.json is empty");
}

#[test]
fn a_file_without_a_length_is_read_to_its_end() {
    // Files of procfs say that they are empty.
    let raw = read_limited(Path::new("/proc/self/status"), "status").unwrap();
    assert!(raw.starts_with(b"Name:"));
}

#[test]
fn an_unreadable_config_says_so() {
    use nix::unistd::{Uid, geteuid, setfsuid};
    let d = Dir::new();
    std::fs::write(d.config(), "{}").unwrap();
    std::fs::set_permissions(d.config(), std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    // Another file system user takes root's privileges over files from this thread alone.
    setfsuid(Uid::from_raw(65534));
    let message = d.fail();
    setfsuid(geteuid());
    assert_eq!(message, "opening config.json at \"B/config.json\": permission denied");
}

#[test]
fn a_document_may_come_from_a_pipe_in_pieces() {
    let d = Dir::new();
    let path = d.config();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Both ends, so that neither open waits.
    let mut writer = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut writer, b"{\"a\":").unwrap();
    let late = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::io::Write::write_all(&mut writer, b"1}").unwrap();
    });
    assert_eq!(read_document(&path, "the process file").unwrap(), b"{\"a\":1}");
    late.join().unwrap();
}

#[test]
fn another_configuration_that_is_missing_is_no_matter_of_the_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let e = Bundle::load_from(dir.path(), Path::new("/none/such.json")).unwrap_err().to_string();
    assert!(
        e.contains("the configuration (--config) at \"/none/such.json\"") && !e.contains("orun spec"),
        "{e}"
    );
    let e = Bundle::load(dir.path()).unwrap_err().to_string();
    assert!(e.contains("orun spec"), "{e}");
}

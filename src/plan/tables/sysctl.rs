//! Kernel parameters (sysctl(8)): the one way from a key to a file, and the namespace that owns it.

use super::namespaces::NamespaceKind;

/// The parts of a key, outermost first: `net.ipv4.conf.eno2/100.rp_filter` is
/// `["net", "ipv4", "conf", "eno2.100", "rp_filter"]`.
///
/// As in sysctl.d(5), the first separator of a key decides: after a `.`, a `/` stands for a dot inside of a part;
/// after a `/`, parts are separated by `/` and dots are literal.
///
/// `None` for a key that is not a relative path of plain names: an empty part, `.`, `..`, a control character.
pub fn parts(key: &str) -> Option<Vec<String>> {
    if key.chars().any(char::is_control) {
        return None;
    }
    let separator = key.find(['.', '/']).map_or('.', |i| if key.as_bytes()[i] == b'/' { '/' } else { '.' });
    let parts: Vec<String> = key
        .split(separator)
        .map(|p| if separator == '.' { p.replace('/', ".") } else { p.to_owned() })
        .collect();
    let plain = parts.iter().all(|p| !p.is_empty() && p != "." && p != "..");
    plain.then_some(parts)
}

/// The file of a key, relative to /proc/sys, or `None` where [`parts`] has none.
pub fn path(key: &str) -> Option<String> {
    parts(key).map(|p| p.join("/"))
}

/// `kernel.*` parameters that each IPC namespace has for itself (ipc_namespaces(7)).
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shm_rmid_forced", "shmall", "shmmax", "shmmni"];

/// The namespace whose own value the parameter `parts` is; `None` for a parameter of the whole host.
pub fn namespace(parts: &[String]) -> Option<NamespaceKind> {
    let p: Vec<&str> = parts.iter().map(String::as_str).collect();
    match p.as_slice() {
        ["kernel", name] if IPC.binary_search(name).is_ok() => Some(NamespaceKind::Ipc),
        ["kernel", "hostname" | "domainname"] => Some(NamespaceKind::Uts),
        ["fs", "mqueue", _, ..] => Some(NamespaceKind::Ipc),
        ["net", _, ..] => Some(NamespaceKind::Network),
        ["user", _, ..] => Some(NamespaceKind::User),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace_of(key: &str) -> Option<NamespaceKind> {
        namespace(&parts(key)?)
    }

    #[test]
    fn the_first_separator_decides() {
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eno2.100/rp_filter").unwrap(), "net/ipv4/conf/eno2.100/rp_filter");
        assert_eq!(path("net.ipv4.conf.eno2/100.rp_filter").unwrap(), "net/ipv4/conf/eno2.100/rp_filter");
    }

    #[test]
    fn a_key_never_leaves_proc_sys() {
        for bad in [
            "",
            ".",
            "/",
            "..",
            "/etc/passwd",
            "net..ipv4",
            "net/../kernel/x",
            "net.//.x",
            "net././.x",
            "net.",
            "net/",
            "net/./x",
            "net.ipv4\n",
            "net.\0",
        ] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn each_parameter_has_its_namespace() {
        assert!(IPC.is_sorted());
        assert_eq!(namespace_of("kernel.shm_rmid_forced"), Some(NamespaceKind::Ipc));
        assert_eq!(namespace_of("kernel/msgmax"), Some(NamespaceKind::Ipc));
        assert_eq!(namespace_of("fs.mqueue.msg_max"), Some(NamespaceKind::Ipc));
        assert_eq!(namespace_of("kernel.domainname"), Some(NamespaceKind::Uts));
        assert_eq!(namespace_of("net.core.somaxconn"), Some(NamespaceKind::Network));
        assert_eq!(namespace_of("user.max_user_namespaces"), Some(NamespaceKind::User));
        for host in ["kernel.core_pattern", "kernel.sem.x", "vm.swappiness", "net", "fs.mqueue", "kernelXsem"]
        {
            assert_eq!(namespace_of(host), None, "{host}");
        }
    }
}

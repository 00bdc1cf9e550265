//! Which process has a port open.

use std::fs;
use std::path::Path;

/// `process 12 (nginx)`, which has `port` open; None if it cannot be found out.
pub fn find_holder(udp: bool, port: u16) -> Option<String> {
    let files = if udp { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    let inodes: Vec<u64> = files
        .iter()
        .filter_map(|file| fs::read_to_string(Path::new("/proc/self/net").join(file)).ok())
        .flat_map(|text| sockets(&text, udp, port))
        .collect();
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    for pid in processes {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut names = links.filter_map(|e| fs::read_link(e.path()).ok());
        if names.any(|link| wanted.iter().any(|w| link.as_os_str() == w.as_str())) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", name.trim()));
        }
    }
    None
}

/// The inodes of the sockets in `text`, a table of proc(5), that wait for connections or datagrams at `port`.
fn sockets(text: &str, udp: bool, port: u16) -> Vec<u64> {
    // TCP_LISTEN, and TCP_CLOSE for a socket of UDP that is not connected.
    let state = if udp { "07" } else { "0A" };
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = words.get(1)?.rsplit_once(':')?;
        let matches = u16::from_str_radix(local, 16) == Ok(port) && words.get(3) == Some(&state);
        words.get(9).filter(|_| matches)?.parse().ok()
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_port() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = find_holder(false, port).unwrap();
        assert!(found.starts_with(&format!("process {} (", std::process::id())), "{found}");
        assert_eq!(find_holder(true, port), None);
        drop(socket);
        assert_eq!(find_holder(false, port), None);
        assert!(sockets("x\n1 2 3\n", false, 80).is_empty());
    }
}

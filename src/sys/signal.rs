//! Names and numbers of signals (signal(7)).

/// The first real-time signal that a program may use; glibc keeps 32 and 33 for itself.
const RTMIN: i32 = 34;
/// The last signal of Linux.
const RTMAX: i32 = 64;

const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The number of the signal that `text` names: `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `SIGRTMAX-1`.
/// 0, which only tests for existence, is a number like the others.
pub fn parse(text: &str) -> Option<i32> {
    if text.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|n| (0..=RTMAX).contains(n));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, n)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*n);
    }
    let offset = |digits: &str| -> Option<i32> {
        let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if all_digits { digits.parse().ok() } else { None }
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        RTMIN + if rest.is_empty() { 0 } else { offset(rest.strip_prefix('+')?)? }
    } else {
        let rest = name.strip_prefix("RTMAX")?;
        RTMAX - if rest.is_empty() { 0 } else { offset(rest.strip_prefix('-')?)? }
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("Kill", 9),
            ("9", 9),
            ("15", 15),
            ("0", 0),
            ("10", 10),
            ("SIGCLD", 17),
            ("rtmin", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-14", 50),
            ("64", 64),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in [
            "",
            "SIG",
            "FOO",
            "65",
            "-1",
            "9x",
            "RTMIN+31",
            "RTMIN+-1",
            "RTMIN3",
            "RTMAX-31",
            "RTMIN+99999999999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

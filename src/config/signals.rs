//! Signals (signal(7)).

/// Names without their prefix. Numbers differ between architectures, hence the constants.
const BY_NAME: [(&str, i32); 35] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGPOLL),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("UNUSED", libc::SIGSYS),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
];

/// The first real-time signal that a program may use: the C library keeps 32 and 33.
const RTMIN: i32 = 34;
/// The last real-time signal (`_NSIG` of the kernel).
const RTMAX: i32 = 64;

/// The number of a signal given as `TERM`, `SIGTERM` (any case), `RTMIN+n`, `RTMAX-n` or a number.
///
/// 0 is taken: kill(2) with it only checks whether the process exists.
pub fn number(text: &str) -> Option<i32> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|n| (0..=RTMAX).contains(n));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<i32>().ok()).flatten();
    let rt = match name {
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(n), _) => RTMIN.checked_add(offset(n)?),
            (_, Some(n)) => RTMAX.checked_sub(offset(n)?),
            _ => None,
        },
    };
    match rt {
        Some(n) => Some(n).filter(|n| (RTMIN..=RTMAX).contains(n)),
        None => BY_NAME.binary_search_by(|(n, _)| (*n).cmp(name)).ok().map(|i| BY_NAME[i].1),
    }
}

/// The name of signal `number` without its prefix: `TERM`, `RTMIN+3`.
pub fn name(number: i32) -> Option<String> {
    if (RTMIN..=RTMAX).contains(&number) {
        return Some(match number {
            RTMIN => "RTMIN".to_owned(),
            RTMAX => "RTMAX".to_owned(),
            n => format!("RTMIN+{}", n - RTMIN),
        });
    }
    BY_NAME.iter().find(|(_, n)| *n == number).map(|(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_covers_1_to_31() {
        assert!(BY_NAME.is_sorted_by(|a, b| a.0 < b.0));
        for n in 1..=31 {
            assert_eq!(number(&name(n).unwrap()), Some(n));
        }
        assert_eq!(name(32), None);
        assert_eq!(name(0), None);
        for n in RTMIN..=RTMAX {
            assert_eq!(number(&name(n).unwrap()), Some(n));
        }
    }

    #[test]
    fn every_spelling_of_a_signal() {
        for s in ["TERM", "SIGTERM", "term", "sigterm", "SigTerm", "15", "015"] {
            assert_eq!(number(s), Some(15), "{s}");
        }
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("KILL"), Some(9));
        assert_eq!(number("64"), Some(64));
        assert_eq!(number("RTMIN"), Some(34));
        assert_eq!(number("SIGRTMIN+3"), Some(37));
        assert_eq!(number("rtmax-1"), Some(63));
    }

    #[test]
    fn what_is_no_signal() {
        for s in [
            "",
            "SIG",
            "SIGSIGTERM",
            "TERM ",
            "-9",
            "+9",
            "65",
            "99999999999",
            "9x",
            "RTMIN+",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+99999999999",
            "RTMIN++1",
            "FOO",
        ] {
            assert_eq!(number(s), None, "{s:?}");
        }
    }
}

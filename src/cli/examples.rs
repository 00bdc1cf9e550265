//! The end of the help of each verb: examples, and the other sections of a manual page.

/// For `orun --help`.
pub const OVERVIEW: &str = "\
Examples:
  orun spec && orun run .                 Run a container from the bundle in the current directory
  orun plan .                             Show what that would do, without doing it
  orun exec -t web sh                     Open a shell in the container web
  orun COMMAND --help                     Show the flags and examples of a command

Environment:
  XDG_RUNTIME_DIR                         Parent of the state directory of a user without privileges
  NOTIFY_SOCKET, LISTEN_FDS               Passed to the container as by systemd
  ORUN_TEST_FAULT                         For tests: the operation of the plan to fail

Exit status:
  run, exec: that of the program, or 128 + N if signal N killed it; exec: 255 if it could not be run.
  All other failures: 1.

Files:
  /run/orun/ID/state.json                 State of the container ID
  config.json, rootfs/                    Configuration and root file system of a bundle
";

/// The examples of the verb `name`.
pub fn examples_of(name: &str) -> &'static str {
    EXAMPLES.iter().find(|(verb, _)| *verb == name).map_or("", |(_, text)| text)
}

const EXAMPLES: [(&str, &str); 20] = [
    (
        "create",
        "Examples:\n  orun create --bundle ./web web\n  orun create --bundle ./web --console-socket tty.sock --pid-file web.pid web\n",
    ),
    ("start", "Examples:\n  orun create --bundle ./web web && orun start web\n"),
    (
        "run",
        "Examples:\n  orun run ./web                          Run the bundle ./web under a generated ID\n  \
         orun run -it ./web                      The same with a terminal\n  \
         orun run --detach --bundle ./web web    Run it in the background as web\n",
    ),
    (
        "exec",
        "Examples:\n  orun exec -t web sh\n  orun exec --user 1000:1000 --cwd /srv --env DEBUG=1 web ls -l\n  \
         orun exec --process process.json --detach web\n",
    ),
    (
        "kill",
        "Examples:\n  orun kill web                           Send SIGTERM\n  orun kill web HUP\n  orun kill web 9\n",
    ),
    (
        "delete",
        "Examples:\n  orun delete web\n  orun delete --force web                 Kill it first if it is running\n",
    ),
    ("state", "Examples:\n  orun state web\n  orun state web | jq -r .status\n"),
    (
        "list",
        "Examples:\n  orun list\n  orun list --format json\n  orun list --quiet | xargs -r -n 1 orun delete --force\n",
    ),
    ("ps", "Examples:\n  orun ps web\n  orun ps web -o pid,comm\n  orun ps --format json web\n"),
    (
        "events",
        "Examples:\n  orun events web                         Print statistics every 5 s, and OOM events\n  orun events --interval 500ms web\n  orun events --stats web | jq .data.memory\n",
    ),
    ("pause", "Examples:\n  orun pause web\n"),
    ("resume", "Examples:\n  orun resume web\n"),
    (
        "update",
        "Examples:\n  orun update --memory 512m --pids-limit 100 web\n  orun update --cpu-period 100000 --cpu-quota 50000 web\n  echo '{\"memory\": {\"limit\": 536870912}}' | orun update --resources - web\n",
    ),
    ("wait", "Examples:\n  status=$(orun wait web)\n"),
    (
        "checkpoint",
        "Examples:\n  orun checkpoint --image-path /var/tmp/web web\n  orun checkpoint --leave-running --image-path /var/tmp/web web\n",
    ),
    ("restore", "Examples:\n  orun restore --bundle ./web --image-path /var/tmp/web --detach web\n"),
    (
        "spec",
        "Examples:\n  orun spec                               Write ./config.json for the root file system ./rootfs\n  orun spec --rootless --bundle ./web\n",
    ),
    ("features", "Examples:\n  orun features | jq .linux.seccomp.enabled\n"),
    (
        "plan",
        "Examples:\n  orun plan ./web\n  orun plan --json ./web | jq -r '.phases[].steps[].what'\n  orun --systemd-cgroup plan ./web\n",
    ),
    ("doctor", "Examples:\n  orun doctor\n\nExit status:\n  0 if nothing is broken, 1 otherwise.\n"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::NAMES;
    use crate::cli::parse::{Parsed, parse};

    /// Every command line of ours in an example, up to a pipe or another command.
    fn command_lines(text: &str) -> Vec<String> {
        let lines = text.lines().filter_map(|l| l.strip_prefix("  "));
        let words = lines.filter_map(|l| l.split("   ").next()?.split_once("orun ").map(|(_, rest)| rest));
        words
            .map(|l| {
                l.split([';', '|', ')']).next().unwrap_or(l).split("&&").next().unwrap_or(l).trim().to_owned()
            })
            .collect()
    }

    #[test]
    fn every_verb_has_examples_that_parse() {
        for name in NAMES {
            let lines = command_lines(examples_of(name));
            assert!(!lines.is_empty(), "{name}");
            for line in lines {
                let words = line.split(' ').map(|w| w.trim_matches('\'').into()).collect();
                assert!(matches!(parse("orun", words), Ok(Parsed::Verb(_))), "{line}");
            }
        }
    }

    #[test]
    fn every_argument_is_described() {
        for name in NAMES {
            let command = crate::cli::parse::command_of("orun", name).unwrap();
            for arg in command.get_arguments().filter(|a| !a.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{name}: {}", arg.get_id());
            }
        }
    }
}
